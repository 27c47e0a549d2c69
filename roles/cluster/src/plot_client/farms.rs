//! Farms on the executors of their disks, and the way to them from the control runtime.
//!
//! ```text
//!   FarmHandle::run ──▶ channel ──▶ executor of the disk: task in the queue of its class ──▶ Farm
//! ```
//! Farms on one device share its executor and its scheduler, so that urgent reads of one go before slow writes of the other.
//! Owns: which farm lives where, its audit memory, its sectors being written. Never: what to do with a farm.

use super::again::{Pauses, Reads, keep_looking};
use super::doubts::Doubts;
use super::sent::SentSolutions;
use super::signatures::{SCRATCH_BYTES, SignatureStore};
use super::spec::FarmSpec;
use crate::host::Host;
use crate::placement::device_of;
use consensus::identity::Identity;
use control::ids::FarmId;
use control::messages::ClusterInfo;
use control::signing::Stored;
use engine::executor::RemoteError;
use engine::farm::{
    AuditMemory, FARM_SCRATCH_BYTES, Farm, FarmConfig, FarmError, Layout, LookedAgain, OpenReport,
    SectorError, SectorFault, SectorStatus, SectorWriter, s_bucket_buf_bytes,
};
use engine::pool::{AcquireError, Pool, SLAB_BYTES, SlabMut};
use engine::{Class, Disk, HealthCell, Limits, Local};
use futures::future::{Either, select};
use futures::lock::Mutex;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak as WeakArc};
use tokio::sync::{Notify, mpsc, oneshot};

/// Jobs that may wait to be started for one farm.
const MAX_WAITING_JOBS: usize = 1024;

type Job = Box<dyn FnOnce(&Local, Rc<OpenFarm>) + Send>;

/// A farm on its executor.
pub struct OpenFarm {
    /// The farm.
    pub farm: Farm,
    /// Memory for the reads of an audit; held by the one audit that runs.
    pub audit_buffers: Mutex<AuditBuffers>,
    /// Sectors being fetched.
    pub writers: RefCell<HashMap<u16, Rc<SectorWriter>>>,
    /// Sectors that farming found something wrong with.
    pub doubts: Doubts,
    /// How its audits read.
    pub reads: Rc<Reads>,
    /// Its reward signatures; none where they could not be opened, and then it signs nothing.
    signatures: Option<Mutex<SignatureStore>>,
}

/// Equal parts of a slab, each for one s-bucket of the farm. Only a failed read loses one.
pub struct AuditBuffers {
    pool: Pool,
    part_bytes: usize,
    free: RefCell<Vec<SlabMut>>,
}

impl AuditBuffers {
    /// For sectors of so many pieces.
    pub async fn new(pool: &Pool, pieces_in_sector: u16) -> Result<Self, AcquireError> {
        let part_bytes = s_bucket_buf_bytes(pieces_in_sector);
        let free = RefCell::new(pool.acquire().await?.split_into(part_bytes));
        Ok(Self { pool: pool.clone(), part_bytes, free })
    }

    /// How many may be in use at a time.
    pub fn count(&self) -> usize {
        SLAB_BYTES / self.part_bytes
    }

    /// Takes one, of another slab if all are in use or lost.
    pub async fn take(&self) -> Result<SlabMut, AcquireError> {
        let free = self.free.borrow_mut().pop();
        if let Some(buffer) = free {
            return Ok(buffer);
        }
        let mut parts = self.pool.acquire().await?.split_into(self.part_bytes);
        let buffer = parts.pop().expect("an s-bucket is smaller than a slab");
        self.free.borrow_mut().append(&mut parts);
        Ok(buffer)
    }

    /// Gives one back.
    pub fn give(&self, buffer: SlabMut) {
        self.free.borrow_mut().push(buffer);
    }
}

/// Why a farm takes no part.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The farm itself.
    #[error(transparent)]
    Farm(#[from] FarmError),
    /// No memory for its work.
    #[error("{0}: give this plot-client more buffers")]
    Memory(#[from] AcquireError),
    /// Its disk cannot be given a ring.
    #[error("{0}")]
    Ring(String),
}

/// A farm that was stopped, or whose executor has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the farm was stopped, its executor has ended or is overloaded, or what it did panicked")]
pub struct FarmGone;

/// A farm, from anywhere; clones lead to the same one.
#[derive(Clone)]
pub struct FarmHandle(Arc<Shared>);

struct Shared {
    id: FarmId,
    dir: PathBuf,
    identity: Identity,
    layout: Layout,
    plotted_when_opened: u16,
    sent: SentSolutions,
    disk_health: Arc<HealthCell>,
    jobs: mpsc::Sender<Job>,
    changed: Arc<Notify>,
    is_stopped: AtomicBool,
}

impl FarmHandle {
    /// Its name in the cluster.
    pub fn id(&self) -> FarmId {
        self.0.id
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Its key.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Where its sectors lie.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// Sectors it could farm at once.
    pub fn plotted_when_opened(&self) -> u16 {
        self.0.plotted_when_opened
    }

    /// Its solutions that left, and what earlier runs wrote of them.
    pub fn sent(&self) -> &SentSolutions {
        &self.0.sent
    }

    /// How its disk is doing.
    #[allow(dead_code, reason = "for counters and status")]
    pub fn disk_health(&self) -> &Arc<HealthCell> {
        &self.0.disk_health
    }

    /// Told when sectors are not what they were, by something else than plotting.
    pub fn changed(&self) -> &Arc<Notify> {
        &self.0.changed
    }

    /// Runs a future on the farm's executor, in the queue of `class`, to its end even when nobody waits.
    pub async fn run<F, T>(
        &self,
        class: Class,
        make: impl FnOnce(Rc<OpenFarm>) -> F + Send + 'static,
    ) -> Result<T, FarmGone>
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |local, farm| {
            let task = async move {
                // Whoever asked may be gone; the task was for its effect then.
                let _ = done.send(make(farm).await);
            };
            local.spawn_in(class, task).detach();
        });
        if self.is_stopped() {
            return Err(FarmGone);
        }
        self.0.jobs.try_send(job).map_err(|_| FarmGone)?;
        result.await.map_err(|_| FarmGone)
    }

    /// Nothing is begun on the farm any more, from whatever handle: [`FarmGone`].
    pub fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::Release);
    }

    /// Whether [`FarmHandle::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped.load(Ordering::Acquire)
    }

    /// The one signature of the farm's key for a hash, durable; made if there is none and `may_be_new`.
    pub async fn sign(&self, hash: [u8; 32], may_be_new: bool) -> Stored {
        let sign = move |open: Rc<OpenFarm>| async move {
            let Some(store) = &open.signatures else {
                return Stored::Failed("the farm's reward signatures could not be opened".to_owned());
            };
            let signed = store.lock().await.sign(&hash, may_be_new).await;
            signed.unwrap_or_else(|error| Stored::Failed(error.to_string()))
        };
        match self.run(Class::RewardSignature, sign).await {
            Ok(stored) => stored,
            Err(gone) => Stored::Failed(gone.to_string()),
        }
    }
}

/// Opens every farm; one that fails leaves the others alone. In the order of `specs`; `near` has for each of them the executors near its
/// disk, none where that is not known; `memory` is what is kept of each sector.
pub async fn open_all(
    host: &Host,
    executors: usize,
    specs: &[FarmSpec],
    near: &[Vec<usize>],
    info: &ClusterInfo,
    memory: AuditMemory,
) -> Vec<Result<FarmHandle, OpenError>> {
    let mut devices: BTreeMap<Option<u64>, Vec<(usize, FarmSpec)>> = BTreeMap::new();
    for (index, spec) in specs.iter().enumerate() {
        devices.entry(device_of(&spec.path)).or_default().push((index, spec.clone()));
    }
    let near = devices.values().map(|specs| near.get(specs[0].0).map_or(&[][..], Vec::as_slice));
    let spread = spread(&near.collect::<Vec<_>>(), executors);
    let (genesis_hash, max_pieces) = (info.genesis_hash, info.protocol_info.max_pieces_in_sector);
    let opening = devices.into_values().zip(spread).map(|(specs, executor)| {
        let indexes: Vec<_> = specs.iter().map(|(index, _)| *index).collect();
        let spawner = host.spawner(executor);
        let opened = spawner.spawn(move |local| async move {
            let mut opened = Vec::new();
            // All are on one device, so one disk serves them all.
            let disk = local.disk(&specs[0].1.path, Limits::default());
            for (_, spec) in &specs {
                opened.push(match &disk {
                    Ok(disk) => open(&local, disk, spec, genesis_hash, max_pieces, memory).await,
                    Err(error) => Err(OpenError::Ring(error.to_string())),
                });
            }
            opened
        });
        async move { (indexes, opened.await) }
    });
    let mut all: BTreeMap<usize, Result<FarmHandle, OpenError>> = BTreeMap::new();
    for (indexes, opened) in futures::future::join_all(opening).await {
        match opened {
            Ok(opened) => all.extend(indexes.into_iter().zip(opened)),
            Err(RemoteError::Gone | RemoteError::Full) => {
                tracing::error!(farms = indexes.len(), "an executor ended while it opened farms");
            }
        }
    }
    all.into_values().collect()
}

/// An executor for each device: of those near it, else of all, the first that has the fewest.
fn spread(near: &[&[usize]], executors: usize) -> Vec<usize> {
    let all: Vec<usize> = (0..executors).collect();
    let mut counts = vec![0; executors];
    let choose = |near: &&[usize]| {
        let candidates = if near.is_empty() { &all } else { *near };
        let executor =
            *candidates.iter().min_by_key(|&&executor| counts[executor]).expect("there is an executor");
        counts[executor] += 1;
        executor
    };
    near.iter().map(choose).collect()
}

async fn open(
    local: &Local,
    disk: &Disk,
    spec: &FarmSpec,
    genesis_hash: [u8; 32],
    max_pieces_in_sector: u16,
    memory: AuditMemory,
) -> Result<FarmHandle, OpenError> {
    let config = FarmConfig {
        genesis_hash,
        max_pieces_in_sector,
        pieces_in_sector: max_pieces_in_sector,
        size: spec.size,
    };
    let mut scratch = local.pool().acquire().await?;
    let signing = scratch.split_off(FARM_SCRATCH_BYTES).narrow(..SCRATCH_BYTES);
    let (farm, report) = Farm::open_with(disk.clone(), scratch, &spec.path, &config, memory).await?;
    tell(&spec.path, &report);
    let (layout, identity) = (*farm.layout(), farm.identity().clone());
    let id = FarmId(farm.info().id.to_bytes());
    let is_plotted = |status: &&SectorStatus| matches!(status, SectorStatus::Plotted { .. });
    let plotted_when_opened = farm.statuses().iter().filter(is_plotted).count() as u16;
    let audit_buffers = Mutex::new(AuditBuffers::new(local.pool(), layout.pieces_in_sector()).await?);
    let signatures = SignatureStore::open(disk.clone(), signing, &spec.path, identity.clone());
    let signatures = signatures.map_err(|error| tracing::error!("{error}")).ok().map(Mutex::new);
    let sent = SentSolutions::open(&spec.path, identity.public_key(), genesis_hash);
    let (writers, doubts, reads) = Default::default();
    let open = Rc::new(OpenFarm { farm, audit_buffers, writers, doubts, reads, signatures });
    let (jobs, to_do) = mpsc::channel(MAX_WAITING_JOBS);
    let shared = Arc::new(Shared {
        id,
        dir: spec.path.clone(),
        identity,
        layout,
        plotted_when_opened,
        sent,
        disk_health: disk.health_cell(),
        jobs,
        changed: Arc::default(),
        is_stopped: AtomicBool::new(false),
    });
    if !report.unreadable.is_empty() {
        // Held by nothing that looks, so that the farm is closed when its handles are gone.
        let (farm, handle) = (Rc::downgrade(&open), Arc::downgrade(&shared));
        let look = async move || look_again(&farm, &handle).await;
        local.spawn_in(Class::Scrub, keep_looking(open.reads.clone(), Pauses::default(), look)).detach();
    }
    engine::task::spawn_local(serve(local.clone(), open, to_do)).detach();
    Ok(FarmHandle(shared))
}

/// Looks once more at sectors that the disk did not give; whether some are left.
async fn look_again(open: &Weak<OpenFarm>, shared: &WeakArc<Shared>) -> bool {
    let (Some(open), Some(shared)) = (open.upgrade(), shared.upgrade()) else { return false };
    if shared.is_stopped.load(Ordering::Acquire) {
        return false;
    }
    let dir = shared.dir.display();
    match open.farm.look_again(Class::Scrub).await {
        Ok(LookedAgain { readable, faults, unreadable }) => {
            if !readable.is_empty() {
                tracing::info!(%dir, sectors = readable.len(), left = unreadable.sectors.len(), "the disk gives these sectors again");
            }
            tell_faults(&shared.dir, &faults);
            if !readable.is_empty() || !faults.is_empty() {
                shared.changed.notify_one();
            }
            !unreadable.is_empty()
        }
        Err(error) => {
            tracing::warn!(%dir, "looking again at sectors that the disk did not give: {error}");
            true
        }
    }
}

/// Starts what comes in until all handles are gone or the executor is to stop.
async fn serve(local: Local, farm: Rc<OpenFarm>, mut jobs: mpsc::Receiver<Job>) {
    let mut stopping = pin!(local.stopping());
    while let Either::Left((Some(job), _)) = select(pin!(jobs.recv()), stopping.as_mut()).await {
        job(&local, farm.clone());
    }
}

fn tell(dir: &Path, report: &OpenReport) {
    tell_faults(dir, &report.faults);
    let dir = dir.display();
    if let Some(error) = &report.unreadable.error {
        let sectors = report.unreadable.sectors.len();
        tracing::error!(
            %dir, sectors,
            "the disk does not give the metadata of these sectors: they are left as they are and looked at again; first: {error}"
        );
    }
    if !report.adopted.is_empty() {
        tracing::info!(%dir, sectors = ?report.adopted, "whole sectors that were not counted yet are used again");
    }
    if report.dropped > 0 {
        tracing::warn!(%dir, sectors = report.dropped, "the farm was made smaller: sectors beyond its size are gone");
    }
}

fn tell_faults(dir: &Path, faults: &[(u16, SectorFault)]) {
    let dir = dir.display();
    for (sector, fault) in faults {
        tracing::warn!(%dir, sector, "{fault}; the sector will be plotted again");
    }
}

/// A sector error that says the sector was changed meanwhile, which is no fault of the disk.
pub fn is_replaced(error: &SectorError) -> bool {
    matches!(error, SectorError::BeingWritten { .. } | SectorError::NotPlotted { .. })
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn devices_are_spread_over_the_executors_near_them() {
        assert_eq!(spread(&[&[], &[], &[], &[]], 3), [0, 1, 2, 0]);
        assert_eq!(spread(&[&[2, 3], &[2, 3], &[0], &[2, 3], &[]], 4), [2, 3, 0, 2, 1]);
        assert!(spread(&[], 1).is_empty());
    }
}
