//! The plot-client: has the disks. It farms what is plotted, and has plotted what is not.
//!
//! ```text
//!   SlotInfo ─▶ slots ───▶ farming ─ audit ─▶ disks ─ records ─▶ proof-server or CPU ─▶ solutions ─▶ one controller
//!   RewardSigningRequest ▶ signing ─ one stored signature a hash ─▶ SigningAnswer
//!   FarmHeld ◀───────────▶ holder ─ whether a farm is this plot-client's alone, and may do any of this
//!   PlotProgress ────────▶ plotting ─ PlotJob; ranges of staged sectors ─▶ disks ─▶ Stored
//!   FarmsOrder ──────────▶ upkeep ─ damaged records, scrubbing: one sector of a farm at a time, at the lowest class
//!   damage found ────────▶ rebuilding ─ pieces of caches ─▶ what is wrong on disk, written anew
//!   SIGHUP, FarmsOrder ──▶ desk ─▶ fleet ─ farms come and go ─▶ all of these
//! ```
//! Owns: the farms, what is plotted when, reward signatures. Never: a connection to a node, or a second solution for the same
//! slot and chunk.

mod again;
mod asked;
mod audit;
mod audit_memory;
mod candidates;
mod counters;
mod desk;
mod disks;
mod doubts;
mod expected;
mod failing;
mod farming;
mod farms;
mod farms_file;
mod fleet;
mod ground;
mod holder;
mod mended;
mod mount;
mod opening;
mod plotting;
mod proving;
mod pull;
mod rebuilding;
mod scrubbing;
mod sent;
mod signatures;
mod signing;
mod slots;
mod solutions;
mod spec;
mod upkeep;
mod wishes;

pub use self::audit::{Audited, MAX_READS, audit_sectors, sectors_at_once};
pub use self::audit_memory::{MemoryChoice, UnknownMemory};
pub use self::farms::AuditBuffers;
pub use self::solutions::{Handovers, MayFarm};
pub use counters::{Counter, Counters, FarmCounts};
pub use disks::DiskCounts;
pub use farms_file::FarmsFileError;
pub use opening::Near;
pub use sent::SENT_FILE;
pub use signatures::{MAX_ENTRIES, SIGNATURES_FILE};
pub use spec::{FarmSpec, SpecError};
pub use wishes::Wishes;

use self::audit_memory::Settling;
use self::desk::Desk;
use self::farming::Farming;
use self::farms::FarmHandle;
use self::fleet::{FarmSet, Fleet, Services};
use self::holder::Holding;
use self::opening::Opener;
use self::plotting::Plotting;
use self::proving::Provers;
use self::rebuilding::Rebuilder;
use self::signing::Windows;
use self::slots::{FOUND_CAPACITY, Following};
use self::solutions::{Memory, Remember, Solutions};
use crate::host::{Host, HostConfig, ServesNothing, host_name};
use crate::recall;
use crate::role::{RoleError, await_cluster, cluster_kzg};
use crate::shutdown::{KeepRunning, Shutdown};
use bus::cluster::Cluster;
use bus::{BusError, SharedBus};
use consensus::CpuLevel;
use control::messages::{ClusterInfo, Role, SlotInfo, subjects};
use control::rebuild::Limits;
use engine::threads::ThreadWorkers;
use gpu::cpu::{CpuProver, CpuProverOptions};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Slabs for requests and proofs, beside those of the farms.
const SLABS: usize = 32;
/// Slabs a farm takes: scratch, audit, ranges on their way, records being read.
const SLABS_PER_FARM: usize = 24;
/// Slabs of farms that come later, 96 MiB; with the others' those are shared by more than they are meant for.
const SPARE_SLABS: usize = 48;
/// With so few a farm still does all its work: two for good, up to two more for audits where they are free, and one after another.
const LEAST_SLABS_PER_FARM: usize = 6;
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
    /// Its farms, when it starts and afterwards.
    pub farms: Wishes,
    /// Whether a farm that is not there is made.
    pub create: bool,
    /// Whether any farm that cannot be opened, or go on, ends the plot-client.
    pub exit_on_farm_error: bool,
    /// Which executors are near which disk.
    pub near: Near,
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
    /// What rebuilding a damaged sector of its pieces may take.
    pub rebuild: Limits,
    /// Where it counts.
    pub counters: Arc<Counters>,
}

impl Config {
    /// A plot-client with these farms, and what is mostly wanted.
    pub fn new(farms: Vec<FarmSpec>, reward_address: [u8; 32]) -> Self {
        Self {
            host: HostConfig::new(Role::PlotClient),
            farms: Wishes::new(farms),
            create: true,
            exit_on_farm_error: false,
            near: Near::default(),
            reward_address,
            kzg_parameters: None,
            proving: ThreadWorkers::unbound(1),
            audit_memory: MemoryChoice::default(),
            verify_writes: false,
            rebuild: Limits::default(),
            counters: Arc::default(),
        }
    }
}

/// Runs a plot-client until it is told to end. Waits for the first controller of the cluster.
pub async fn run(config: Config, bus: SharedBus, shutdown: Shutdown) -> Result<(), RoleError> {
    let info = tokio::select! {
        info = await_cluster(&*bus) => info?,
        () = shutdown.requested() => return Ok(()),
    };
    let kzg = cluster_kzg(&info, config.kzg_parameters.clone()).await?;
    let host_config = HostConfig { role: Role::PlotClient, slabs: slabs(&config), ..config.host.clone() };
    let host = Host::start(host_config, bus.clone(), |_| Rc::new(ServesNothing)).await?;
    let counters = config.counters.clone();
    let result = async {
        let options = CpuProverOptions {
            threads: config.proving.clone(),
            level: CpuLevel::current(),
            queue_limit: MAX_WAITING_PROOFS,
        };
        let prover = CpuProver::new(&options, kzg.clone()).map_err(RoleError::own)?;
        let provers = Provers::new(host.clone(), prover, kzg);
        let (keep_running, ending) = Shutdown::new();
        let (mut tasks, mut desk) = start(config, &host, provers, info, ending).await?;
        let ended = until_the_end(&mut tasks, &mut desk, &shutdown, keep_running).await;
        // A solution that is underway gets its outcome when its task is gone, and is counted before the last line is written.
        tasks.shutdown().await;
        ended
    }
    .await;
    tell_once(&counters);
    host.shutdown(SHUTDOWN_LIMIT).await;
    result
}

fn slabs(config: &Config) -> usize {
    SLABS + SPARE_SLABS + SLABS_PER_FARM * config.farms.count()
}

/// Ready when nobody wants anything of this plot-client any more, after it was told to end, or has its own reason to: then that is the
/// error. The farms of the desk live on until then.
async fn until_the_end(
    tasks: &mut JoinSet<()>,
    desk: &mut Desk,
    shutdown: &Shutdown,
    keep_running: KeepRunning,
) -> Result<(), RoleError> {
    let (mut keep_running, mut reason) = (Some(keep_running), None);
    let mut running = pin!(desk.run());
    loop {
        tokio::select! {
            // Told to end, the task that follows the slots is the first that does.
            Some(ended) = tasks.join_next() => {
                ended?;
                return reason.map_or(Ok(()), |reason: String| Err(RoleError::own(reason)));
            }
            () = shutdown.requested(), if keep_running.is_some() => drop(keep_running.take()),
            why = &mut running, if reason.is_none() => {
                reason = Some(why);
                drop(keep_running.take());
            }
        }
    }
}

/// Starts the tasks; they end with the set, or when the bus is closed. Farms come with the desk.
async fn start(
    config: Config,
    host: &Host,
    provers: Provers,
    info: ClusterInfo,
    shutdown: Shutdown,
) -> Result<(JoinSet<()>, Desk), RoleError> {
    let (bus, counters) = (host.bus().clone(), config.counters.clone());
    let mut tasks = JoinSet::new();
    // Subscribed before anything starts, so that nothing said from now on is missed.
    let slots = bus.subscribe(subjects::SLOT).await?;
    let farms_max = (slabs(&config) - SLABS) / LEAST_SLABS_PER_FARM;
    let executors = config.host.cores.len();
    let named: Vec<_> = config.farms.all().into_values().collect();
    let memory = Settling::new(config.audit_memory, named, info.protocol_info.max_pieces_in_sector);
    let opener = Opener::new(host.clone(), executors, config.near, &info, config.create, memory, farms_max);
    let info = watch_info(&bus, info, &mut tasks).await?;
    let settings = info.clone();

    let windows = Windows::new();
    let (holding, holds, held) = Holding::new(bus.clone(), host.id(), &host_name(), windows.clone());
    let group = config.host.group.clone();
    let (plotting, plots) =
        Plotting::new(bus.clone(), group, info.clone(), held.clone(), counters.clone()).await?;
    let (recalled, earlier) = mpsc::unbounded_channel();
    let rebuilder = Arc::new(Rebuilder::new(host.clone(), info.clone(), config.rebuild, counters.clone()));
    let services = Services {
        host: host.clone(),
        windows: windows.clone(),
        holds,
        held: held.clone(),
        plots,
        recalled,
        counters: counters.clone(),
        rebuilder: rebuilder.clone(),
        verify_writes: config.verify_writes,
    };
    let fleet = Fleet::new(opener, services, config.exit_on_farm_error);
    let set = fleet.set();
    let desk = Desk::new(fleet, config.farms, bus.clone(), host.id(), host_name()).await?;

    let (reward_address, level) = (config.reward_address, CpuLevel::current());
    let (found, to_send) = mpsc::channel(FOUND_CAPACITY);
    let started = Instant::now();
    let may_farm: MayFarm = {
        let held = held.clone();
        Arc::new(move |public_key| held.may_farm(public_key))
    };
    let memory = Memory { earlier, remember: remember(set.clone()) };
    let solutions =
        Solutions::new(host.id(), bus, Arc::new(windows), may_farm, memory, counters.clone(), started);
    let following = Following { solutions, info, counters: counters.clone(), started, shutdown };
    let (farms, provers) = (Vec::new().into(), Arc::new(provers));
    let farming =
        Farming { held, farms, provers, rebuilder, reward_address, found, counters: counters.clone(), level };
    tasks.spawn(following.run(slots, to_send, move |slot, deadline| work(&farming, &set, slot, deadline)));
    tasks.spawn(holding.run());
    tasks.spawn(plotting.run());
    tasks.spawn(tell_settings(host.bus().clone(), settings));
    tasks.spawn(tell(counters));
    Ok((tasks, desk))
}

/// Works on a slot with the farms that take part in it; those that leave or are paused do not.
fn work(
    farming: &Farming,
    set: &watch::Receiver<FarmSet>,
    slot: SlotInfo,
    deadline: Instant,
) -> impl Future<Output = Option<String>> + Send + use<> {
    let there = set.borrow().clone();
    let staying = there.iter().filter(|farm| !farm.is_leaving());
    let (paused, farms): (Vec<_>, Vec<_>) = staying.cloned().partition(FarmHandle::is_paused);
    farming.counters.paused_slots.add(paused.len() as u64);
    let at_work: Vec<_> = farms.iter().map(FarmHandle::at_work).collect();
    let farming = Arc::new(Farming { farms: farms.into(), ..farming.clone() });
    async move {
        let trouble = farming.work_on(slot, deadline).await;
        drop(at_work);
        trouble
    }
}

/// Writes what is about to leave into the memory of its farm.
fn remember(set: watch::Receiver<FarmSet>) -> Remember {
    Arc::new(move |handover| {
        let is_its = |farm: &&FarmHandle| farm.identity().public_key() == handover.solution.public_key;
        let sent = set.borrow().iter().find(is_its).map(|farm| farm.sent().clone());
        Box::pin(async move {
            match sent {
                Some(sent) => sent.remember(handover).await,
                None => false,
            }
        })
    })
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
    let FarmCounts { named, open, claimed, paused, failed, plotting_paused, disks, troubles } =
        counters.farms();
    if open < named {
        tracing::warn!(
            farms = open,
            of = named,
            claimed,
            paused,
            failed,
            "some farms take no part: {troubles}"
        );
    }
    tracing::info!(
        slots = counters.slots.get(),
        farms = open,
        claimed,
        paused,
        failed_farms = failed,
        refused_slots = counters.refused_slots.get(),
        skipped = counters.skipped.get(),
        paused_slots = counters.paused_slots.get(),
        plotting_paused,
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
        mended = counters.mended.get(),
        rebuilt = counters.rebuilt.get(),
        audit_errors = counters.audit_errors.get(),
        slow_disks = disks.slow,
        sick_disks = disks.sick,
        gone_disks = disks.gone,
        disk_changes = disks.changes,
        late_operations = disks.late,
        failed_operations = disks.failed,
        audit_p50 = ?counters.audit_time(50).unwrap_or_default(),
        audit_p99 = ?counters.audit_time(99).unwrap_or_default(),
        "farming"
    );
}
