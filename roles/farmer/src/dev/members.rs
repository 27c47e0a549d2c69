//! The six roles of a run, each with its part of the base path.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use consensus::constants::SEGMENT_PIECES;
use engine::farm::FarmSize;
use engine::piece_store::SLOT_BYTES;
use engine::threads::ThreadWorkers;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::JoinSet;

use super::config::Config;
use super::error::DevError;
use bus::SharedBus;
use cluster::cache::CacheSpec;
use cluster::cards::OpenCard;
use cluster::host::HostConfig;
use cluster::plot_client::{Counters, FarmSpec};
use cluster::plot_server::{Encoding, GpuOptions};
use cluster::role::RoleError;
use cluster::shutdown::Shutdown;
use cluster::{cache, controller, plot_client, plot_server, proof_server};
use control::messages::Role;

/// The account that is paid, which nobody has.
pub const DEFAULT_REWARD_ADDRESS: [u8; 32] = *b"autonomys-farmer dev reward addr";

/// As in a cluster; nobody stays away that long in one process.
const REBALANCE_AFTER: Duration = Duration::from_secs(15 * 60);
/// Segments that the caches have room for, at least.
const CACHED_SEGMENTS_MIN: u64 = 16;

/// Parts of a run, each with its name; they end when they are told to.
pub type Parts = JoinSet<(&'static str, Result<(), DevError>)>;

/// Starts all roles against a node with `segments` segments.
pub fn start(
    parts: &mut Parts,
    config: &Config,
    node: SocketAddr,
    segments: u64,
    shutdown: &Shutdown,
    counters: &Arc<Counters>,
    bus: &SharedBus,
) {
    let base = &config.base_path;
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    let ends = || (bus.clone(), shutdown.clone());
    let mut start = |role: Role, running: BoxFuture<'static, Result<(), RoleError>>| {
        parts.spawn(async move {
            (role.token(), running.await.map_err(|source| DevError::Role { role, source }))
        });
    };
    let (bus, shutdown) = ends();
    start(
        Role::Controller,
        controller::run(controller_config(node, cores, base.join("spool")), bus, shutdown).boxed(),
    );
    for role in [Role::ShardedCache, Role::FullPieceCache] {
        let (bus, shutdown) = ends();
        start(role, cache::run(cache_config(role, config, segments), bus, shutdown).boxed());
    }
    let (bus, shutdown) = ends();
    let plot_server = plot_server_config(base.join("staging"), &config.cards);
    start(Role::PlotServer, plot_server::run(plot_server, bus, shutdown).boxed());
    let (bus, shutdown) = ends();
    let proof_server = proof_server::Config { cards: config.cards.clone(), ..proof_server::Config::new() };
    start(Role::ProofServer, proof_server::run(proof_server, bus, shutdown).boxed());
    let (bus, shutdown) = ends();
    let plot_client = plot_client_config(&base.join("farm"), config.sectors, cores, counters.clone());
    start(Role::PlotClient, plot_client::run(plot_client, bus, shutdown).boxed());
}

fn controller_config(node: SocketAddr, cores: usize, spool: PathBuf) -> controller::Config {
    controller::Config {
        host: HostConfig::new(Role::Controller),
        node_rpc_url: format!("ws://{node}"),
        kzg_parameters: None,
        rebalance_after: REBALANCE_AFTER,
        copies: None,
        workers: ThreadWorkers::unbound(cores),
        counts: Arc::default(),
        spool,
    }
}

fn cache_config(role: Role, config: &Config, segments: u64) -> cache::Config {
    // Room for what a long run adds.
    let pieces = (2 * segments).max(CACHED_SEGMENTS_MIN) * SEGMENT_PIECES as u64;
    let folder = if role == Role::FullPieceCache { "full-piece-cache" } else { "cache" };
    let path = config.base_path.join(folder);
    let spec = CacheSpec { path, size_bytes: Some(pieces * SLOT_BYTES as u64) };
    cache::Config { tmp: config.is_temporary, grows: true, ..cache::Config::new(HostConfig::new(role), spec) }
}

/// On GPUs as long as one works, then on the CPU: a run ends well either way.
fn plot_server_config(base_path: PathBuf, cards: &[OpenCard]) -> plot_server::Config {
    let encoding = match cards {
        [] => Encoding::Cpu,
        cards => Encoding::Gpu {
            cards: cards.into(),
            options: GpuOptions { or_cpu: true, ..GpuOptions::default() },
        },
    };
    plot_server::Config { encoding, ..plot_server::Config::new(base_path) }
}

fn plot_client_config(
    farm: &Path,
    sectors: u16,
    cores: usize,
    counters: Arc<Counters>,
) -> plot_client::Config {
    let farms = vec![FarmSpec { path: farm.to_owned(), size: FarmSize::Sectors(sectors), may_shrink: false }];
    plot_client::Config {
        host: HostConfig { capacity: 1, ..HostConfig::new(Role::PlotClient) },
        proving: ThreadWorkers::unbound(cores.div_ceil(4)),
        audit_memory: plot_client::MemoryChoice::default(),
        verify_writes: false,
        counters,
        ..plot_client::Config::new(farms, DEFAULT_REWARD_ADDRESS)
    }
}
