//! Farms on the executors of their disks, and the way to them from the control runtime.
//!
//! ```text
//!   FarmHandle::run ──▶ channel ──▶ executor of the disk: task in the queue of its class ──▶ Farm
//! ```
//! Owns: a farm's way to its executor, its audit memory, its sectors being written, and its end: closed, it takes nothing new, and when what
//! is under way has ended its files are let go of. Never: what to do with a farm.

use super::again::{Pauses, Reads, keep_looking};
use super::doubts::Doubts;
use super::failing::Failing;
use super::scrubbing::Scrub;
use super::sent::SentSolutions;
use super::signatures::SignatureStore;
use consensus::identity::Identity;
use control::ids::FarmId;
use control::signing::Stored;
use engine::disk::{Health, HealthCell};
use engine::farm::{
    Farm, Layout, LookedAgain, SectorError, SectorFault, SectorStatus, SectorWriter, s_bucket_buf_bytes,
};
use engine::pool::{AcquireError, Pool, SLAB_BYTES, SlabMut};
use engine::{Class, Disk, Local};
use futures::future::{Either, select};
use futures::lock::Mutex;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError, Weak as WeakArc};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch};

/// Jobs that may wait to be started for one farm.
const MAX_WAITING_JOBS: usize = 1024;

/// Seconds after vain tries to read the file of reward signatures anew.
const MENDING_PAUSES_S: [u64; 4] = [1, 4, 16, 64];

type Job = Box<dyn FnOnce(&Local, Rc<OpenFarm>) + Send>;

/// A farm on its executor.
pub struct OpenFarm {
    /// Where it lives.
    pub local: Local,
    /// What schedules its operations, with those of the other farms on that device.
    pub disk: Disk,
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
    /// Its reward signatures.
    pub signatures: Mutex<SignatureStore>,
    /// Its place among the farms that there are buffers for.
    #[expect(dead_code, reason = "its drop is the message")]
    pub place: Arc<OwnedSemaphorePermit>,
    /// Dropped after the farm and its lock: fields are dropped in their order.
    pub is_open: watch::Sender<()>,
}

/// Equal parts of slabs, each for one s-bucket of the farm. Only a failed read loses one.
pub struct AuditBuffers {
    pool: Pool,
    part_bytes: usize,
    /// Slabs that all reads at once take.
    wanted_slabs: usize,
    slabs: Cell<usize>,
    free: RefCell<Vec<SlabMut>>,
}

impl AuditBuffers {
    /// For sectors of so many pieces, and so many `reads` at once.
    pub async fn new(pool: &Pool, pieces_in_sector: u16, reads: usize) -> Result<Self, AcquireError> {
        let part_bytes = s_bucket_buf_bytes(pieces_in_sector);
        let wanted_slabs = reads.div_ceil(SLAB_BYTES / part_bytes).max(1);
        let free = RefCell::new(pool.acquire().await?.split_into(part_bytes));
        let buffers = Self { pool: pool.clone(), part_bytes, wanted_slabs, slabs: Cell::new(1), free };
        buffers.fill_up();
        Ok(buffers)
    }

    /// Takes what is missing of its memory, as far as nobody else has it: an audit does with one slab, only slower.
    pub fn fill_up(&self) {
        while self.slabs.get() < self.wanted_slabs {
            let Some(slab) = self.pool.try_acquire() else { return };
            self.free.borrow_mut().append(&mut slab.split_into(self.part_bytes));
            self.slabs.set(self.slabs.get() + 1);
        }
    }

    /// How many may be in use at a time.
    pub fn count(&self) -> usize {
        self.slabs.get() * (SLAB_BYTES / self.part_bytes)
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

/// A farm that was stopped, or whose executor has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the farm was stopped, its executor has ended or is overloaded, or what it did panicked")]
pub struct FarmGone;

/// A farm, from anywhere; clones lead to the same one.
#[derive(Clone)]
pub struct FarmHandle(Arc<Shared>);

/// The way to a farm, which keeps nothing of it: neither its files nor what was written of its solutions.
pub struct WeakFarmHandle(WeakArc<Shared>);

impl WeakFarmHandle {
    /// The farm, if anybody has it still.
    pub fn upgrade(&self) -> Option<FarmHandle> {
        self.0.upgrade().map(FarmHandle)
    }
}

struct Shared {
    id: FarmId,
    dir: PathBuf,
    identity: Identity,
    layout: Layout,
    plotted_when_opened: u16,
    sent: SentSolutions,
    /// None once it is closed.
    jobs: SyncMutex<Option<mpsc::Sender<Job>>>,
    changed: Arc<Notify>,
    is_stopped: AtomicBool,
    is_leaving: AtomicBool,
    is_plotting_paused: AtomicBool,
    failing: SyncMutex<Failing>,
    health: Arc<HealthCell>,
    scrub: Scrub,
    /// Held by the work on each slot that the farm takes part in.
    at_work: Arc<()>,
    open: watch::Receiver<()>,
}

impl FarmHandle {
    /// Takes the farm, which was opened in `dir`, into service on this executor. Of some sectors the disk may not have given the record:
    /// then it looks at them again.
    pub fn serve(dir: &Path, open: OpenFarm, sent: SentSolutions, some_are_unreadable: bool) -> Self {
        let (farm, local) = (&open.farm, open.local.clone());
        let is_plotted = |status: &&SectorStatus| matches!(status, SectorStatus::Plotted { .. });
        let (jobs, to_do) = mpsc::channel(MAX_WAITING_JOBS);
        let shared = Shared {
            id: FarmId(farm.info().id.to_bytes()),
            dir: dir.to_owned(),
            identity: farm.identity().clone(),
            layout: *farm.layout(),
            plotted_when_opened: farm.statuses().iter().filter(is_plotted).count() as u16,
            sent,
            jobs: SyncMutex::new(Some(jobs)),
            changed: Arc::default(),
            is_stopped: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            is_plotting_paused: AtomicBool::new(false),
            failing: SyncMutex::default(),
            health: open.disk.health_cell(),
            scrub: Scrub::default(),
            at_work: Arc::new(()),
            open: open.is_open.subscribe(),
        };
        let (open, shared) = (Rc::new(open), Arc::new(shared));
        if some_are_unreadable {
            // Held by nothing that looks, so that the farm is closed when its handles are gone.
            let (farm, handle) = (Rc::downgrade(&open), Arc::downgrade(&shared));
            let look = async move || look_again(&farm, &handle).await;
            let looking = keep_looking(open.reads.clone(), Pauses::default(), look);
            local.spawn_in(Class::Scrub, looking).detach();
        }
        engine::task::spawn_local(serve(local, open, to_do)).detach();
        Self(shared)
    }

    /// One that keeps nothing of the farm.
    pub fn downgrade(&self) -> WeakFarmHandle {
        WeakFarmHandle(Arc::downgrade(&self.0))
    }

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
        self.jobs().ok_or(FarmGone)?.try_send(job).map_err(|_| FarmGone)?;
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

    fn jobs(&self) -> Option<mpsc::Sender<Job>> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It takes part in no slot any more, but what has begun goes on, and it signs.
    pub fn leave(&self) {
        self.0.is_leaving.store(true, Ordering::Release);
    }

    /// Whether it was asked to [`FarmHandle::leave`].
    pub fn is_leaving(&self) -> bool {
        self.0.is_leaving.load(Ordering::Acquire)
    }

    /// Why it takes no part at present because of its disk, if that is so.
    pub fn disk_trouble(&self) -> Option<&'static str> {
        match self.0.health.get() {
            Health::Healthy | Health::Slow => None,
            Health::Sick => Some("its disk is sick"),
            Health::Gone => Some("its disk is gone"),
        }
    }

    /// Whether it takes no part in slots, and nothing is written to it: its disk is sick. It signs all the same, as well as it can.
    pub fn is_paused(&self) -> bool {
        self.disk_trouble().is_some()
    }

    /// From now on no sector is ordered or fetched for it, or again.
    pub fn pause_plotting(&self, is_paused: bool) {
        self.0.is_plotting_paused.store(is_paused, Ordering::Release);
    }

    /// Whether the operator has paused its plotting.
    pub fn is_plotting_paused(&self) -> bool {
        self.0.is_plotting_paused.load(Ordering::Acquire)
    }

    /// How its disk is doing, with what is counted of it; farms on one disk have the same.
    pub fn health(&self) -> &Arc<HealthCell> {
        &self.0.health
    }

    /// What fails when its sectors are plotted; held for a moment only.
    pub fn failing(&self) -> MutexGuard<'_, Failing> {
        self.0.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked for of its scrubbing, and how far it is.
    pub fn scrub(&self) -> &Scrub {
        &self.0.scrub
    }

    /// To be held by whatever works with the farm on a slot.
    pub fn at_work(&self) -> Arc<()> {
        self.0.at_work.clone()
    }

    /// Whether a slot is worked on with it.
    pub fn is_at_work(&self) -> bool {
        Arc::strong_count(&self.0.at_work) > 1
    }

    /// Whether it was closed, or its executor has ended.
    pub fn is_closed(&self) -> bool {
        self.jobs().is_none_or(|jobs| jobs.is_closed())
    }

    /// Ready when the farm is let go of, whoever caused it: its files are closed and its lock is free.
    pub async fn ended(&self) {
        // Nothing is ever sent: the sender's end is the message.
        while self.0.open.clone().changed().await.is_ok() {}
    }

    /// Lets go of the farm: nothing is begun any more, and what is under way ends before its files are closed and its lock is free.
    pub async fn close(&self) {
        drop(self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.ended().await;
    }

    /// The one signature of the farm's key for a hash, durable; made if there is none and `may_be_new`.
    pub async fn sign(&self, hash: [u8; 32], may_be_new: bool) -> Stored {
        let sign = move |open: Rc<OpenFarm>| async move {
            let mut store = open.signatures.lock().await;
            let signed = store.sign(&hash, may_be_new).await;
            if store.wants_mending() {
                // Not by the next signature, which has half a second.
                let mending = mend_signatures(Rc::downgrade(&open));
                open.local.spawn_in(Class::RewardSignature, mending).detach();
            }
            signed.unwrap_or_else(|error| Stored::Failed(error.to_string()))
        };
        match self.run(Class::RewardSignature, sign).await {
            Ok(stored) => stored,
            Err(gone) => Stored::Failed(gone.to_string()),
        }
    }
}

/// Reads the file of reward signatures anew after a write that failed, a few times: each that is too late keeps memory until the disk
/// answers. After that the next signature does it.
async fn mend_signatures(open: Weak<OpenFarm>) {
    let Some(mut farm) = open.upgrade() else { return };
    for pause in MENDING_PAUSES_S.map(Duration::from_secs) {
        match farm.signatures.lock().await.mend().await {
            Ok(()) => break,
            Err(error) => tracing::debug!("{error}"),
        }
        // The farm may be closed meanwhile.
        drop(farm);
        engine::task::sleep(pause).await;
        let Some(again) = open.upgrade() else { return };
        farm = again;
    }
    farm.signatures.lock().await.mending_ended();
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

/// Names each bad sector. Those with a wrong record are looked into first.
pub fn tell_faults(dir: &Path, faults: &[(u16, SectorFault)]) {
    let dir = dir.display();
    let is_of_record = |fault: &SectorFault| matches!(fault, SectorFault::Record(_));
    for (sector, fault) in faults.iter().filter(|(_, fault)| !is_of_record(fault)) {
        tracing::warn!(%dir, sector, "{fault}; the sector will be plotted again");
    }
    let mut doubtful = faults.iter().filter(|(_, fault)| is_of_record(fault));
    if let Some((sector, fault)) = doubtful.next() {
        let sectors = 1 + doubtful.count();
        tracing::warn!(
            %dir, sectors,
            "damaged metadata records: each is made anew of its sector if that is whole, in the background; first: sector {sector}: {fault}"
        );
    }
}

/// A sector error that says the sector was changed meanwhile, which is no fault of the disk.
pub fn is_replaced(error: &SectorError) -> bool {
    matches!(error, SectorError::BeingWritten { .. } | SectorError::NotPlotted { .. })
}
