//! Proofs made by devices and threads together.
//!
//! ```text
//!   prove ─▶ queue ─▶ feeder of a device: table, decoded chunks, proof ─▶ threads: polynomial, witness ─▶ caller
//!                          └ what no device can do ─────────────────────▶ threads: all of it
//! ```

use super::budget::proving_records;
use super::pipeline::Module;
use super::prove_lane::{ProveLane, Proved, Proving};
use super::{Registered, StartError, check_kernels};
use crate::device::{Device, DeviceError};
use crate::meter::Meter;
use crate::proving::{ProveCounters, ProveJob, ProveQueue, prove};
use crate::queue::Queue;
use crate::workers::WorkerSet;
use crate::{ProofRequest, ProveError, Prover, ProverStats};
use async_trait::async_trait;
use consensus::constants::RECORD_SIZE;
use consensus::kzg::Kzg;
use consensus::pos::{self, Proof};
use consensus::sector::{DecodeError, ProvedChunk, RecordDecoder, prove_decoded};
use consensus::{CpuLevel, Workers};
use engine::pool::{Pool, SlabMut};
use engine::threads::{CoreSet, ThreadWorkers};
use futures::executor::block_on;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Requests that a device proves together unless told otherwise: more take longer than a slot leaves, or the CPU can follow.
pub const DEFAULT_PROVING_BATCH: usize = 4;

/// What a prover is made of.
#[derive(Clone)]
pub struct CardProverOptions {
    /// Devices, each with where its feeder runs (none: where the system puts it); they share one queue.
    pub devices: Vec<(Arc<dyn Device>, Option<CoreSet>)>,
    /// Requests that a device proves together at most; fewer where its memory is short.
    pub batch: usize,
    /// Threads for polynomials and witnesses. One that must do a whole request takes [`crate::cpu::WORKER_BYTES`] from then on.
    pub threads: ThreadWorkers,
    /// Instructions to use.
    pub level: CpuLevel,
    /// Requests that may wait; each holds its record's slab.
    pub queue_limit: usize,
    /// Where records come from; all of it is made known to the devices.
    pub pool: Pool,
}

/// Proves with GPUs and the CPU. What a device cannot do, or does wrongly, the CPU does; once no device is left it does all. Dropping it
/// waits for the requests being proved; what waits is dropped.
pub struct CardProver {
    queue: Arc<ProveQueue>,
    meters: Vec<Arc<Meter>>,
    feeders: Vec<JoinHandle<()>>,
    workers: WorkerSet<Instant, Witnessing>,
    counters: Arc<ProveCounters>,
    _registered: Vec<Registered>,
}

/// A request that a device is done with.
struct Witnessing {
    job: ProveJob,
    /// Decoded chunks if there is a proof. Held also where there is none: that there are so many slabs bounds how many requests wait
    /// here. Only those of the batch that was on a device when it was lost have none.
    decoded: Option<SlabMut>,
    proof: Option<Proof>,
    card: Arc<ProvingCard>,
}

/// A device that proves.
struct ProvingCard {
    device: Arc<dyn Device>,
    in_service: AtomicBool,
}

impl ProvingCard {
    fn retire(&self, why: impl std::fmt::Display) {
        if self.in_service.swap(false, Ordering::AcqRel) {
            tracing::error!(
                "{} is out of service, its requests are proved elsewhere: {why}",
                self.device.name()
            );
        }
    }
}

impl CardProver {
    /// Takes all memory that it will ever take on the devices, and starts the threads.
    pub fn new(options: CardProverOptions, kzg: Arc<Kzg>) -> Result<Self, StartError> {
        let CardProverOptions { devices, batch, threads, level, queue_limit, pool } = options;
        let counters = Arc::<ProveCounters>::default();
        // For each device: a slab for its lane, those of a batch there, of one that waits, and of those the threads are at.
        let slabs = |batch: usize| 1 + 2 * batch + threads.count();
        let lanes = devices.into_iter().map(|(device, cores)| Parts::new(device, cores, batch, slabs, &pool));
        let lanes = lanes.collect::<Result<Vec<_>, _>>()?;
        let limit = lanes.iter().map(|parts| slabs(parts.lane.capacity()) + parts.lane.capacity()).sum();
        let run = {
            let counters = counters.clone();
            move |decoder: &mut Option<RecordDecoder>, work: Witnessing| {
                work.run(decoder, level, &kzg, &counters);
            }
        };
        let workers = WorkerSet::start(&threads, limit, || None, run)?;
        let queue = Arc::new(Queue::new(queue_limit));
        let meters = lanes.iter().map(|_| Arc::default()).collect();
        let mut prover =
            Self { queue, meters, feeders: Vec::new(), workers, counters, _registered: Vec::new() };
        prover.start(lanes)?;
        Ok(prover)
    }

    fn start(&mut self, lanes: Vec<Parts>) -> Result<(), StartError> {
        let in_service = Arc::new(AtomicUsize::new(lanes.len()));
        for (Parts { card, lane, slabs, registered, cores }, meter) in lanes.into_iter().zip(&self.meters) {
            tracing::info!("{}: proves {} requests at once", card.device.name(), lane.capacity());
            let feeder = Feeder {
                card,
                slabs,
                queue: self.queue.clone(),
                witnessing: self.workers.queue.clone(),
                counters: self.counters.clone(),
                meter: meter.clone(),
                in_service: in_service.clone(),
            };
            self._registered.extend(registered);
            let thread = std::thread::Builder::new().name("feeder".into());
            self.feeders.push(thread.spawn(move || {
                cores.iter().for_each(CoreSet::enter);
                feeder.run(lane);
            })?);
        }
        Ok(())
    }
}

/// One device, before its thread is started.
struct Parts {
    card: Arc<ProvingCard>,
    lane: ProveLane,
    slabs: Pool,
    registered: Vec<Registered>,
    cores: Option<CoreSet>,
}

impl Parts {
    fn new(
        device: Arc<dyn Device>,
        cores: Option<CoreSet>,
        batch: usize,
        slabs: impl Fn(usize) -> usize,
        pool: &Pool,
    ) -> Result<Self, StartError> {
        check_kernels(&*device)?;
        let budget = proving_records(device.layout(), device.memory()?, batch);
        let batch = budget.map_err(|source| StartError::Budget { device: device.name().into(), source })?;
        let slabs = Pool::new(slabs(batch), 1)?;
        let registered = [pool, &slabs].map(|pool| Registered::new(&*device, pool)).into_iter().flatten();
        let registered = registered.collect();
        let staging = slabs.try_acquire().expect("the pool has a slab for the lane");
        let lane = ProveLane::new(Module::new(device.clone())?, staging, batch)?;
        let card = Arc::new(ProvingCard { device, in_service: AtomicBool::new(true) });
        Ok(Self { card, lane, slabs, registered, cores })
    }
}

/// The thread that keeps one device busy.
struct Feeder {
    card: Arc<ProvingCard>,
    slabs: Pool,
    queue: Arc<ProveQueue>,
    witnessing: Arc<Queue<Instant, Witnessing>>,
    counters: Arc<ProveCounters>,
    meter: Arc<Meter>,
    /// Devices that work, this one included.
    in_service: Arc<AtomicUsize>,
}

impl Feeder {
    fn run(self, mut lane: ProveLane) {
        let fed = catch_unwind(AssertUnwindSafe(|| self.feed(&mut lane)));
        if fed.is_err() {
            self.card.retire("its thread panicked, please report this with the lines above");
        }
        self.meter.end(0);
        drop(lane);
        // The last one goes on without its device, so that requests still get to the CPU; until the queue is closed.
        if self.in_service.fetch_sub(1, Ordering::AcqRel) == 1 {
            while let Some((job, slab)) = self.take() {
                self.give_on(job, Some(slab), None);
            }
        }
    }

    /// Works until the queue is closed, or the device is out of service.
    fn feed(&self, lane: &mut ProveLane) {
        while self.card.in_service.load(Ordering::Acquire) {
            self.meter.end(0);
            let Some(first) = self.take() else { return };
            self.meter.begin();
            let mut batch = vec![first];
            while batch.len() < lane.capacity()
                && let Some(slab) = self.slabs.try_acquire()
                && let Ok(Some(job)) = self.queue.pop_within(Duration::ZERO)
            {
                batch.push((job, slab));
            }
            self.prove(lane, batch);
        }
    }

    /// The next request, and a slab for its chunks.
    fn take(&self) -> Option<(ProveJob, SlabMut)> {
        // First the slab: whatever is most urgent by then is next.
        let slab = self.slab();
        Some((self.queue.pop()?, slab))
    }

    fn slab(&self) -> SlabMut {
        block_on(self.slabs.acquire()).expect("this thread alone waits, and one may")
    }

    fn prove(&self, lane: &mut ProveLane, batch: Vec<(ProveJob, SlabMut)>) {
        let (mut jobs, mut provings) = (Vec::new(), Vec::new());
        for (job, decoded) in batch {
            let Some(job) = job.still_wanted(&self.counters) else { continue };
            let ProofRequest { seed, record, bitfield, s_bucket, .. } = &job.request;
            if record.len() != RECORD_SIZE || !bitfield.get(*s_bucket) {
                // The CPU finds the words for it.
                self.give_on(job, Some(decoded), None);
                continue;
            }
            let (record, bitfield) = (record.clone(), bitfield.clone());
            provings.push(Proving { seed: *seed, record, bitfield, s_bucket: *s_bucket, decoded });
            jobs.push(job);
        }
        if jobs.is_empty() {
            return;
        }
        match lane.run(provings) {
            Ok(proved) => {
                self.meter.count(jobs.len() as u64);
                for (job, Proved { result, decoded, proof }) in jobs.into_iter().zip(proved) {
                    self.give_on(job, Some(decoded), proof.filter(|_| result.flags == 0));
                }
            }
            Err(error) => self.lose(jobs, &error),
        }
    }

    /// The device is lost; the CPU takes what it was at.
    fn lose(&self, jobs: Vec<ProveJob>, error: &DeviceError) {
        self.card.retire(error);
        jobs.into_iter().for_each(|job| self.give_on(job, None, None));
    }

    fn give_on(&self, job: ProveJob, decoded: Option<SlabMut>, proof: Option<Proof>) {
        let (deadline, card) = (job.request.deadline, self.card.clone());
        // Refused only when the prover shuts down; the request is dropped then.
        let _ = self.witnessing.push(deadline, Witnessing { job, decoded, proof, card });
    }
}

impl Witnessing {
    fn run(self, decoder: &mut Option<RecordDecoder>, level: CpuLevel, kzg: &Kzg, counters: &ProveCounters) {
        let Self { job, decoded, proof, card } = self;
        let Some(job) = job.still_wanted(counters) else { return };
        let made = decoded.as_deref().zip(proof);
        let proved = made.and_then(|(chunks, proof)| witness(&job.request, chunks, proof, level, kzg, &card));
        drop(decoded);
        match proved {
            Some(proved) => job.settle(Ok(proved), counters),
            None => job.prove(decoder.get_or_insert_with(|| RecordDecoder::new(level)), kzg, counters),
        }
    }
}

/// The proof from what a device made; none where the CPU should look for itself.
fn witness(
    request: &ProofRequest,
    decoded: &[u8],
    proof: Proof,
    level: CpuLevel,
    kzg: &Kzg,
    card: &ProvingCard,
) -> Option<ProvedChunk> {
    if !pos::is_valid(&request.seed, request.s_bucket.into(), &proof) {
        card.retire("self-check: it made a proof of space that is none");
        return None;
    }
    let decoded = decoded[..RECORD_SIZE].as_chunks().0;
    match prove_decoded(level, decoded, &request.bitfield, request.s_bucket, proof, kzg) {
        Ok(proved) => Some(proved),
        // Either the record is damaged, or the device is; the CPU will tell.
        Err(DecodeError::InvalidScalar(_)) => None,
        Err(error) => {
            tracing::error!("{}: its chunks cannot be proved: {error}", card.device.name());
            None
        }
    }
}

#[async_trait]
impl Prover for CardProver {
    async fn prove(&self, request: ProofRequest) -> Result<ProvedChunk, ProveError> {
        prove(&self.queue, &self.counters, request).await
    }

    /// Workers are the devices, and after them the threads.
    fn stats(&self) -> ProverStats {
        let devices = self.meters.iter().map(|meter| meter.stats());
        let queued = self.queue.len() + self.workers.queue.len();
        self.counters.stats(queued, devices.chain(self.workers.stats()).collect())
    }
}

impl Drop for CardProver {
    fn drop(&mut self) {
        self.queue.close();
        for feeder in self.feeders.drain(..) {
            if feeder.join().is_err() {
                tracing::error!("the thread that fed a GPU panicked");
            }
        }
    }
}
