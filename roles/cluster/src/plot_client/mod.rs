//! The plot-client: has the disks. It farms what is plotted, and has plotted what is not.
//!
//! ```text
//!   SlotInfo ─▶ slots ───▶ farming ─ audit ─▶ disks ─ records ─▶ proof-server or CPU ─▶ solutions ─▶ one controller
//!   RewardSigningRequest ▶ signing ─ one stored signature a hash ─▶ SigningAnswer
//!   FarmHeld ◀───────────▶ holder ─ whether a farm is this plot-client's alone, and may do any of this
//!   PlotProgress ────────▶ plotting ─ PlotJob; ranges of staged sectors ─▶ disks ─▶ Stored
//! ```
//! Owns: the farms, what is plotted when, reward signatures. Never: a connection to a node, or a second solution for the same
//! slot and chunk.

mod again;
mod audit;
mod audit_memory;
mod candidates;
mod counters;
mod doubts;
mod farming;
mod farms;
mod ground;
mod holder;
mod plotting;
mod proving;
mod pull;
mod sent;
mod signatures;
mod signing;
mod slots;
mod solutions;
mod spec;

pub use self::audit::{Audited, MAX_READS, audit_sectors};
pub use self::audit_memory::{MemoryChoice, UnknownMemory};
pub use self::farms::AuditBuffers;
pub use self::solutions::{Handovers, MayFarm};
pub use counters::{Counter, Counters};
pub use sent::SENT_FILE;
pub use signatures::{MAX_ENTRIES, SIGNATURES_FILE};
pub use spec::{FarmSpec, SpecError};

use self::farming::Farming;
use self::farms::FarmHandle;
use self::ground::{Ground, OnDisk};
use self::holder::Holding;
use self::plotting::Plotting;
use self::proving::Provers;
use self::signing::{Signing, Store, Windows};
use self::slots::{FOUND_CAPACITY, Following};
use self::solutions::{Memory, Remember, Solutions};
use crate::host::{Host, HostConfig, ServesNothing, host_name};
use crate::recall;
use crate::role::{RoleError, await_cluster, cluster_kzg};
use crate::shutdown::Shutdown;
use bus::cluster::Cluster;
use bus::{BusError, SharedBus};
use consensus::CpuLevel;
use control::messages::{ClusterInfo, Role, subjects};
use control::solutions::Handover;
use engine::threads::ThreadWorkers;
use gpu::cpu::{CpuProver, CpuProverOptions};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Slabs for requests and proofs, beside those of the farms.
const SLABS: usize = 32;
/// Slabs a farm takes: scratch, audit, ranges on their way, records being read.
const SLABS_PER_FARM: usize = 24;
/// Proofs that may wait for a thread here.
const MAX_WAITING_PROOFS: usize = 16;
/// Time between two lines about what became of everything.
const TELL_INTERVAL: Duration = Duration::from_secs(60);
/// Time for what is under way to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// What a plot-client is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// How it presents itself; `role` and `slabs` are set by [`run`]. Farms are spread over `cores`, device by device.
    pub host: HostConfig,
    /// Its farms.
    pub farms: Vec<FarmSpec>,
    /// For each farm the executors near its disk; none, or no entry: all.
    pub near: Vec<Vec<usize>>,
    /// The account that is paid.
    pub reward_address: [u8; 32],
    /// File of the KZG ceremony, if not in the usual place.
    pub kzg_parameters: Option<PathBuf>,
    /// Threads that prove when no proof-server does; each takes about 128 MiB.
    pub proving: ThreadWorkers,
    /// What is kept in memory of each sector.
    pub audit_memory: MemoryChoice,
    /// Whether a sector is read back from disk before it counts.
    pub verify_writes: bool,
    /// Where it counts.
    pub counters: Arc<Counters>,
}

/// Runs a plot-client until it is told to end. Waits for the first controller of the cluster.
pub async fn run(config: Config, bus: SharedBus, shutdown: Shutdown) -> Result<(), RoleError> {
    let info = tokio::select! {
        info = await_cluster(&*bus) => info?,
        () = shutdown.requested() => return Ok(()),
    };
    let kzg = cluster_kzg(&info, config.kzg_parameters.clone()).await?;
    let executors = config.host.cores.len();
    let slabs = SLABS + SLABS_PER_FARM * config.farms.len();
    let host_config = HostConfig { role: Role::PlotClient, slabs, ..config.host.clone() };
    let host = Host::start(host_config, bus.clone(), |_| Rc::new(ServesNothing)).await?;
    let result = async {
        let farms = tokio::select! {
            farms = open_farms(&host, executors, &config, &info) => farms?,
            // What is being made or grown is given back when its executor ends.
            () = shutdown.requested() => return Ok(()),
        };
        let options = CpuProverOptions {
            threads: config.proving.clone(),
            level: CpuLevel::current(),
            queue_limit: MAX_WAITING_PROOFS,
        };
        let prover = CpuProver::new(&options, kzg.clone()).map_err(RoleError::own)?;
        let provers = Provers::new(host.clone(), prover, kzg);
        let (mut tasks, holding) = start(&config, &host, farms, provers, info, shutdown.clone()).await?;
        // Told to end, the task that follows the slots is the first that does: when nobody wants anything of it any more.
        let ended = tokio::select! {
            Some(ended) = tasks.join_next() => ended.map_err(RoleError::from),
            ended = holding.run() => ended.map_err(RoleError::own),
        };
        // A solution that is underway gets its outcome when its task is gone, and is counted before the last line is written.
        tasks.shutdown().await;
        ended
    }
    .await;
    tell_once(&config.counters);
    host.shutdown(SHUTDOWN_LIMIT).await;
    result
}

/// Opens the farms; those that fail are told and left out, unless none is left.
async fn open_farms(
    host: &Host,
    executors: usize,
    config: &Config,
    info: &ClusterInfo,
) -> Result<Vec<FarmHandle>, RoleError> {
    let mut farms: Vec<FarmHandle> = Vec::new();
    let memory = config.audit_memory.settle(&config.farms, info.protocol_info.max_pieces_in_sector);
    for opened in farms::open_all(host, executors, &config.farms, &config.near, info, memory).await {
        match opened {
            Ok(farm) if let Some(first) = farms.iter().find(|first| is_same(first, &farm)) => {
                let (dir, first) = (farm.dir().display(), first.dir().display());
                tracing::error!(
                    "the farm in {dir} is the same as the one in {first} and takes no part: remove one of the copies"
                );
            }
            Ok(farm) => {
                let sectors = farm.layout().sectors();
                let plotted = farm.plotted_when_opened();
                config.counters.found_plotted.add(plotted.into());
                tracing::info!(dir = %farm.dir().display(), id = %farm.id(), plotted, sectors, "farm open");
                farms.push(farm);
            }
            Err(error) => tracing::error!("this farm takes no part: {error}"),
        }
    }
    let none = "none of the farms could be opened: the lines above say what is wrong with each";
    if farms.is_empty() { Err(RoleError::own(none)) } else { Ok(farms) }
}

/// Whether one was copied from the other.
fn is_same(farm: &FarmHandle, other: &FarmHandle) -> bool {
    farm.identity().public_key() == other.identity().public_key()
}

/// Starts the tasks; they end with the set, or when the bus is closed. Nothing is farmed, signed or plotted before what is to
/// hold the farms runs.
async fn start(
    config: &Config,
    host: &Host,
    farms: Vec<FarmHandle>,
    provers: Provers,
    info: ClusterInfo,
    shutdown: Shutdown,
) -> Result<(JoinSet<()>, Holding), RoleError> {
    let (bus, counters) = (host.bus().clone(), config.counters.clone());
    let mut tasks = JoinSet::new();
    // Subscribed before anything starts, so that nothing said from now on is missed.
    let slots = bus.subscribe(subjects::SLOT).await?;
    let verify_writes = config.verify_writes;
    let ground = |farm: &FarmHandle| -> Arc<dyn Ground> {
        Arc::new(OnDisk { host: host.clone(), farm: farm.clone(), verify_writes })
    };
    let grounds: Vec<_> = farms.iter().map(ground).collect();
    let words = plotting::listen(&bus, &grounds).await?;
    let info = watch_info(&bus, info, &mut tasks).await?;
    let settings = info.clone();

    let windows = Windows::new();
    let (mut holding, held) = Holding::new(bus.clone(), host.id(), &host_name(), windows.clone());
    let group = config.host.group.clone();
    let plotting =
        Plotting::new(bus.clone(), group, grounds, info.clone(), held.clone(), counters.clone()).await?;
    recall(&farms, &windows);
    for farm in &farms {
        let (public_key, path) = (farm.identity().public_key(), farm.dir().display().to_string());
        let requests = bus.subscribe(&subjects::signature(&public_key)).await?;
        holding.open(public_key, path, Arc::new(farm.clone())).await?;
        let (bus, windows, counters, farm) = (bus.clone(), windows.clone(), counters.clone(), farm.clone());
        let store: Store = Box::new(move |hash, may_be_new| {
            let farm = farm.clone();
            Box::pin(async move { farm.sign(hash, may_be_new).await })
        });
        tasks.spawn(Signing { bus, public_key, store, windows, counters }.run(requests));
    }
    let (reward_address, level) = (config.reward_address, CpuLevel::current());
    let (found, to_send) = mpsc::channel(FOUND_CAPACITY);
    let started = Instant::now();
    let may_farm: MayFarm = {
        let held = held.clone();
        Arc::new(move |public_key| held.may_farm(public_key))
    };
    let (windows, memory) = (Arc::new(windows), memory(&farms));
    let solutions = Solutions::new(host.id(), bus, windows, may_farm, memory, counters.clone(), started);
    let following = Following { solutions, info, counters: counters.clone(), started, shutdown };
    let farming = Farming { held, farms, provers, reward_address, found, counters: counters.clone(), level };
    let farming = Arc::new(farming);
    let work = move |slot, deadline| farming.clone().work_on(slot, deadline);
    tasks.spawn(following.run(slots, to_send, work));
    tasks.spawn(plotting.run(words));
    tasks.spawn(tell_settings(host.bus().clone(), settings));
    tasks.spawn(tell(counters));
    Ok((tasks, holding))
}

/// What the farms remember of solutions, each of its own.
fn memory(farms: &[FarmHandle]) -> Memory {
    let now = SystemTime::now();
    let earlier = farms.iter().flat_map(|farm| farm.sent().earlier()).filter(|earlier| earlier.counts(now));
    let earlier = earlier.map(|earlier| earlier.handover.solution).collect();
    let by_key = |farm: &FarmHandle| (farm.identity().public_key(), farm.sent().clone());
    let by_key: BTreeMap<_, _> = farms.iter().map(by_key).collect();
    let remember: Remember = Arc::new(move |handover| {
        let sent = by_key.get(&handover.solution.public_key).cloned();
        Box::pin(async move {
            match sent {
                Some(sent) => sent.remember(handover).await,
                None => false,
            }
        })
    });
    Memory { earlier, remember }
}

/// Signs for what an earlier run of this plot-client handed over, while that may be wanted.
fn recall(farms: &[FarmHandle], windows: &Windows) {
    let now = SystemTime::now();
    for earlier in farms.iter().flat_map(|farm| farm.sent().earlier()) {
        let Handover { solution, controller } = earlier.handover;
        if let Some(age) = earlier.age(now) {
            windows.recall(solution.public_key, controller, age);
        }
    }
}

/// Follows the cluster's settings.
async fn watch_info(
    bus: &SharedBus,
    now: ClusterInfo,
    tasks: &mut JoinSet<()>,
) -> Result<watch::Receiver<ClusterInfo>, BusError> {
    let mut infos = Cluster::open(&**bus).await?.watch_info().await?;
    let (sender, receiver) = watch::channel(now);
    tasks.spawn(async move {
        loop {
            let info = infos.next().await;
            sender.send_if_modified(|now| {
                let is_new = *now != info;
                *now = info;
                is_new
            });
        }
    });
    Ok(receiver)
}

/// Tells controllers that find no settings what they were.
async fn tell_settings(bus: SharedBus, settings: watch::Receiver<ClusterInfo>) {
    if let Err(error) = recall::tell(&bus, || Some(settings.borrow().clone())).await {
        tracing::warn!("nobody is told what the cluster has agreed on: {error}");
        std::future::pending::<()>().await;
    }
}

/// Says now and then what became of everything.
async fn tell(counters: Arc<Counters>) {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + TELL_INTERVAL, TELL_INTERVAL);
    loop {
        interval.tick().await;
        tell_once(&counters);
    }
}

/// Says it once.
fn tell_once(counters: &Counters) {
    tracing::info!(
        slots = counters.slots.get(),
        refused_slots = counters.refused_slots.get(),
        skipped = counters.skipped.get(),
        found = counters.found.get(),
        proved = counters.proved.get(),
        queued = counters.queued.get(),
        refused = counters.refused.get(),
        not_sent = counters.not_sent.get(),
        unknown = counters.unknown.get(),
        unremembered = counters.unremembered.get(),
        expired = counters.expired.get() + counters.proved_late.get(),
        failed = counters.failed.get(),
        signed = counters.signed.get(),
        plotted = counters.plotted.get(),
        damaged = counters.damaged.get(),
        audit_errors = counters.audit_errors.get(),
        audit_p50 = ?counters.audit_time(50).unwrap_or_default(),
        audit_p99 = ?counters.audit_time(99).unwrap_or_default(),
        "farming"
    );
}
