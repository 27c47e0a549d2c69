//! The plot-server: makes sectors for plot-clients and holds them until they are fetched.
//!
//! ```text
//!   queue ─▶ server (one loop) ─▶ life (decides) ─▶ work: pieces ─▶ encoder ─▶ staging ─▶ serve ─▶ plot-client
//!                ▲                    │                                                               │
//!                └─ tick, progress ◀──┴───────────────── Staged ─▶ bus ◀─ Stored, Refused ────────────┘
//! ```
//! Owns: the base path, and a sector from its job to the plot-client's word that it has it. Never: which sectors are wanted, or
//! where in a plot they lie.

mod encoder;
mod encoding;
mod manifest;
mod memory;
mod serve;
mod server;
mod staging;
mod work;

pub use encoder::GpusLost;
pub use encoding::{Concurrency, Encoding, GpuOptions, NothingEncodes, PlanError};
pub use memory::TooLittleMemory;
pub use staging::StagingError;
pub use work::{FetchedPiece, Missing, PieceFailure, Pieces};

use self::encoder::Encoder;
use self::encoding::{Plan, WantedWork};
use self::memory::MemoryPlan;
use self::serve::{SERVING_SLABS, StagedSectors, StagingWriter};
use self::server::Server;
use self::staging::Staging;
use self::work::Workshop;
use crate::host::{Host, HostConfig};
use crate::pieces::PieceSource;
use crate::role::{RoleError, await_cluster};
use crate::shutdown::Shutdown;
use async_trait::async_trait;
use bus::SharedBus;
use control::ids::InstanceId;
use control::messages::Role;
use engine::pool::Slab;
use engine::threads::ThreadWorkers;
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
    /// Whether records come with their parity from the caches (`--pieces split-parity`), where these give it.
    pub with_parity: bool,
    /// What encodes.
    pub encoding: Encoding,
    /// Sectors made at once, on each GPU where these encode. None: two on the CPU, where the pieces of one come while the other is encoded,
    /// four on a GPU, where one is written, one is encoded, and the pieces of two come. Each takes its size in memory, of the GPU if there is one.
    pub concurrency: Option<usize>,
    /// Bytes of memory that the process may take; none = what the threads and sectors wanted take. Where these do not fit there are
    /// fewer sectors at once, then fewer threads.
    pub max_memory_bytes: Option<u64>,
    /// Threads that encode, or some of them check what GPUs encode. In the background, so that audits and proofs on the same machine are not
    /// late.
    pub threads: ThreadWorkers,
    /// How often the cluster is told of each sector.
    pub tell_every: Duration,
}

impl Config {
    /// On the CPU, on as many threads as the process may use cores.
    pub fn new(base_path: PathBuf) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            host: HostConfig::new(Role::PlotServer),
            base_path,
            staging_limit_bytes: DEFAULT_STAGING_BYTES,
            near_caches_first: false,
            with_parity: false,
            encoding: Encoding::Cpu,
            concurrency: None,
            max_memory_bytes: None,
            threads: ThreadWorkers::unbound(threads).in_background(),
            tell_every: TELL_EVERY,
        }
    }

    /// What there is memory for, where sectors have `pieces_in_sector`.
    fn plan(&self, pieces_in_sector: u16) -> Result<Plan, PlanError> {
        self.encoding.plan(&WantedWork {
            threads: &self.threads,
            sectors: self.concurrency,
            pieces_in_sector,
            piece_slabs: if self.with_parity { 2 } else { 1 },
            limit_bytes: self.max_memory_bytes,
        })
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
    async fn get(&self, index: u64, missing: &Missing) -> Result<FetchedPiece, PieceFailure> {
        Ok(PieceSource::get(self, index, &|reason| missing.note(index, reason)).await?)
    }

    async fn parity(&self, index: u64) -> Option<(Slab, InstanceId)> {
        PieceSource::parity(self, index).await.map(|(slab, _, giver)| (slab, giver))
    }

    async fn parity_was_wrong(&self, index: u64, giver: InstanceId) {
        PieceSource::parity_was_wrong(self, index, giver).await;
    }
}

/// A plot-server that is a member and serves what is staged, but takes no jobs yet.
pub struct PlotServer {
    host: Host,
    server: Server,
    encoder: Arc<Encoder>,
    with_parity: bool,
    staging: Staging,
    writer: StagingWriter,
}

impl PlotServer {
    /// Takes the base path, waits for the cluster and joins it. None when told to end meanwhile.
    pub async fn start(
        config: Config,
        bus: SharedBus,
        shutdown: &Shutdown,
    ) -> Result<Option<Self>, RoleError> {
        let staging = open_staging(&config).await?;
        let info = tokio::select! {
            info = await_cluster(&*bus) => info?,
            () = shutdown.requested() => return Ok(None),
        };
        let pieces_in_sector = info.protocol_info.max_pieces_in_sector;
        // It may measure GPUs.
        let planned = move || (config.plan(pieces_in_sector), config);
        let (plan, mut config) = tokio::task::spawn_blocking(planned).await?;
        let plan = plan.map_err(RoleError::own)?;
        tell(&plan.memory);
        let concurrency = plan.memory.at_once();
        config.host.slabs = plan.memory.slabs();
        config.host.serving_slabs = SERVING_SLABS;
        config.host.capacity = concurrency as u64;
        let (writer, writes) = serve::writer();
        let shelf = staging.clone();
        let make_handler = move |local: engine::Local| Rc::new(StagedSectors::new(shelf, writes, &local));
        let host = Host::start(config.host.clone(), bus.clone(), make_handler).await?;
        let (threads, pool) = (config.threads, host.pool().clone());
        let encoder = move || Encoder::new(plan, &threads, &pool);
        // GPUs take a moment for their memory.
        let encoder = tokio::task::spawn_blocking(encoder).await?.map_err(RoleError::own)?;
        let server = Server {
            id: host.id(),
            group: config.host.group,
            concurrency,
            tell_every: config.tell_every,
            bus,
            present: host.present(),
        };
        let (encoder, with_parity) = (Arc::new(encoder), config.with_parity);
        Ok(Some(Self { host, server, encoder, with_parity, staging, writer }))
    }

    /// The member it is.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Takes jobs, with the pieces that `pieces` gives, until `shutdown` or nothing is left that encodes.
    pub async fn serve(self, pieces: Arc<dyn Pieces>, shutdown: &Shutdown) -> Result<(), RoleError> {
        let Self { host, server, encoder, with_parity, staging, writer } = self;
        let pool = host.pool().clone();
        let workshop =
            Arc::new(Workshop { encoder: encoder.clone(), pieces, with_parity, staging, writer, pool });
        let end = async {
            tokio::select! {
                () = shutdown.requested() => {}
                () = encoder.watch() => {}
            }
        };
        let result = server.run(workshop.clone(), end).await;
        let is_lost = encoder.is_lost();
        // The encoder ends with the records it is at, which takes its time.
        tokio::task::spawn_blocking(move || drop((workshop, encoder))).await?;
        host.shutdown(LEAVE_WITHIN).await;
        result?;
        if is_lost { Err(RoleError::own(GpusLost)) } else { Ok(()) }
    }
}

/// Operators plan their machines by this line.
fn tell(plan: &MemoryPlan) {
    let MemoryPlan { threads, pieces_in_sector, cards, .. } = *plan;
    let (memory_mib, sectors) = (plan.mebibytes(), plan.at_once());
    let gpus = cards.count;
    tracing::info!(
        memory_mib,
        gpus,
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
