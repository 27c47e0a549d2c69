//! The plot-server: makes sectors for plot-clients and holds them until they are fetched.
//!
//! ```text
//!   queue ─▶ server (one loop) ─▶ life (decides) ─▶ work: pieces ─▶ encoder ─▶ staging ─▶ serve ─▶ plot-client
//!                ▲                    │                                                               │
//!                └─ tick, progress ◀──┴───────────────── Staged ─▶ bus ◀─ Stored, Refused ────────────┘
//! ```
//! Owns: the base path, and a sector from its job to the plot-client's word that it has it. Never: which sectors are wanted, or
//! where in a plot they lie.

mod life;
mod manifest;
mod memory;
mod serve;
mod server;
mod staging;
mod work;

pub use memory::TooLittleMemory;
pub use staging::StagingError;
pub use work::{FetchedPiece, PieceFailure, Pieces};

use self::memory::MemoryPlan;
use self::serve::{StagedSectors, StagingWriter};
use self::server::Server;
use self::staging::Staging;
use self::work::Workshop;
use crate::bus::SharedBus;
use crate::bus::messages::Role;
use crate::host::{Host, HostConfig};
use crate::pieces::PieceSource;
use crate::role::{RoleError, await_cluster};
use crate::shutdown::Shutdown;
use async_trait::async_trait;
use consensus::{CpuLevel, Workers};
use engine::pool::Pool;
use engine::threads::ThreadWorkers;
use gpu::SectorEncoder;
use gpu::cpu::{CpuEncoder, CpuEncoderOptions};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Bytes that may be staged unless told otherwise: 16 sectors of 1000 pieces.
pub const DEFAULT_STAGING_BYTES: u64 = 16 << 30;
/// How often the cluster is told of each sector, well within the queue's ack wait.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long peers have to get their last answers.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// What a plot-server is told when it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// The member it is; its slabs and capacity follow from the rest.
    pub host: HostConfig,
    /// Where sectors are staged; made if it is not there, used by no other server.
    pub base_path: PathBuf,
    /// Bytes that may be staged there, those of sectors in the making included.
    pub staging_limit_bytes: u64,
    /// Whether near caches are asked for pieces before far ones (`--priority-cache`).
    pub near_caches_first: bool,
    /// Sectors made at once. With two, the pieces of one come while the other is encoded; each takes its size in memory.
    pub concurrency: usize,
    /// Bytes of memory that the process may take; none = what the threads and sectors wanted take. Where these do not fit there are
    /// fewer sectors at once, then fewer threads.
    pub max_memory_bytes: Option<u64>,
    /// Threads that encode. In the background, so that audits and proofs on the same machine are not late.
    pub threads: ThreadWorkers,
    /// How often the cluster is told of each sector.
    pub tell_every: Duration,
}

impl Config {
    /// Two sectors at once, on as many threads as the process may use cores.
    pub fn new(base_path: PathBuf) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            host: HostConfig::new(Role::PlotServer),
            base_path,
            staging_limit_bytes: DEFAULT_STAGING_BYTES,
            near_caches_first: false,
            concurrency: 2,
            max_memory_bytes: None,
            threads: ThreadWorkers::unbound(threads).in_background(),
            tell_every: TELL_EVERY,
        }
    }

    /// The threads and sectors for which there is memory, where sectors have `pieces_in_sector`.
    fn plan(&self, pieces_in_sector: u16) -> Result<MemoryPlan, TooLittleMemory> {
        let wanted =
            MemoryPlan { threads: self.threads.count(), sectors: self.concurrency, pieces_in_sector };
        self.max_memory_bytes.map_or(Ok(wanted), |limit_bytes| wanted.within(limit_bytes))
    }
}

/// Runs a plot-server until `shutdown`. Sectors in the making then go back to the queue; those that are staged wait for the next
/// start.
pub async fn run(config: Config, bus: SharedBus, shutdown: Shutdown) -> Result<(), RoleError> {
    let near_first = config.near_caches_first;
    let Some(server) = PlotServer::start(config, bus, &shutdown).await? else { return Ok(()) };
    let pieces = PieceSource::start(server.host().clone(), near_first).await?;
    server.serve(Arc::new(pieces), &shutdown).await
}

#[async_trait]
impl Pieces for PieceSource {
    async fn get(&self, index: u64) -> Result<FetchedPiece, PieceFailure> {
        Ok(PieceSource::get(self, index).await?)
    }
}

/// A plot-server that is a member and serves what is staged, but takes no jobs yet.
pub struct PlotServer {
    host: Host,
    server: Server,
    encoder: Arc<dyn SectorEncoder>,
    staging: Staging,
    writer: StagingWriter,
}

impl PlotServer {
    /// Takes the base path, waits for the cluster and joins it. None when told to end meanwhile.
    pub async fn start(
        mut config: Config,
        bus: SharedBus,
        shutdown: &Shutdown,
    ) -> Result<Option<Self>, RoleError> {
        let staging = open_staging(&config).await?;
        let info = tokio::select! {
            info = await_cluster(&*bus) => info?,
            () = shutdown.requested() => return Ok(None),
        };
        let pieces_in_sector = info.protocol_info.max_pieces_in_sector;
        let plan = config.plan(pieces_in_sector).map_err(RoleError::own)?;
        tell(&plan);
        config.concurrency = plan.sectors;
        config.threads = config.threads.at_most(plan.threads);
        config.host.slabs = plan.slabs();
        config.host.capacity = plan.sectors as u64;
        let (writer, writes) = serve::writer();
        let shelf = staging.clone();
        let make_handler = move |local: engine::Local| Rc::new(StagedSectors::new(shelf, writes, &local));
        let host = Host::start(config.host.clone(), bus.clone(), make_handler).await?;
        let encoder = encoder(&config, host.pool(), &plan)?;
        let server = Server {
            id: host.id(),
            group: config.host.group,
            concurrency: config.concurrency,
            tell_every: config.tell_every,
            bus,
            present: host.present(),
        };
        Ok(Some(Self { host, server, encoder, staging, writer }))
    }

    /// The member it is.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Takes jobs, with the pieces that `pieces` gives, until `shutdown`.
    pub async fn serve(self, pieces: Arc<dyn Pieces>, shutdown: &Shutdown) -> Result<(), RoleError> {
        let Self { host, server, encoder, staging, writer } = self;
        let workshop = Arc::new(Workshop { encoder, pieces, staging, writer, pool: host.pool().clone() });
        let result = server.run(workshop.clone(), shutdown.requested()).await;
        // The encoder ends with the records it is at, which takes its time.
        tokio::task::spawn_blocking(move || drop(workshop)).await?;
        host.shutdown(LEAVE_WITHIN).await;
        Ok(result?)
    }
}

/// Operators plan their machines by this line.
fn tell(plan: &MemoryPlan) {
    let MemoryPlan { threads, sectors, pieces_in_sector } = *plan;
    let memory_mib = plan.mebibytes();
    tracing::info!(
        memory_mib,
        threads,
        sectors,
        pieces_in_sector,
        "takes at most this memory, for so many sectors at once"
    );
}

async fn open_staging(config: &Config) -> Result<Staging, RoleError> {
    let (base_path, limit_bytes) = (config.base_path.clone(), config.staging_limit_bytes);
    let opened = tokio::task::spawn_blocking(move || Staging::open(&base_path, limit_bytes)).await?;
    opened.map_err(RoleError::own)
}

fn encoder(config: &Config, pool: &Pool, plan: &MemoryPlan) -> Result<Arc<dyn SectorEncoder>, RoleError> {
    let options = CpuEncoderOptions {
        threads: config.threads.clone(),
        level: CpuLevel::current(),
        pool: pool.clone(),
        memory_slabs: plan.encoder_slabs(),
    };
    Ok(Arc::new(CpuEncoder::new(options).map_err(RoleError::own)?))
}
