//! Proofs made by threads.

use super::StartError;
use crate::queue::{PushError, Queue, Ticket};
use crate::workers::WorkerSet;
use crate::{ProofRequest, ProveError, Prover, ProverStats};
use async_trait::async_trait;
use consensus::CpuLevel;
use consensus::kzg::Kzg;
use consensus::sector::{ProvedChunk, RecordDecoder};
use engine::threads::ThreadWorkers;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::oneshot;

/// What a prover is made of.
#[derive(Debug, Clone)]
pub struct CpuProverOptions {
    /// Threads, and the cores they run on. Each takes about [`super::WORKER_BYTES`].
    pub threads: ThreadWorkers,
    /// Instructions to use.
    pub level: CpuLevel,
    /// Requests that may wait; each holds its record's slab.
    pub queue_limit: usize,
}

/// Proves with the CPU, one request a thread. Dropping it waits for the requests being proved; what waits is dropped.
pub struct CpuProver {
    workers: WorkerSet<Instant, ProveJob>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    proved: AtomicU64,
    late: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

struct ProveJob {
    request: ProofRequest,
    done: oneshot::Sender<Result<ProvedChunk, ProveError>>,
}

impl CpuProver {
    /// Starts the threads.
    pub fn new(options: &CpuProverOptions, kzg: Arc<Kzg>) -> Result<Self, StartError> {
        let counters = Arc::<Counters>::default();
        let run = {
            let counters = counters.clone();
            move |decoder: &mut RecordDecoder, job: ProveJob| job.run(decoder, &kzg, &counters)
        };
        let level = options.level;
        let memory = move || RecordDecoder::new(level);
        let workers = WorkerSet::start(&options.threads, options.queue_limit, memory, run)?;
        Ok(Self { workers, counters })
    }
}

#[async_trait]
impl Prover for CpuProver {
    async fn prove(&self, request: ProofRequest) -> Result<ProvedChunk, ProveError> {
        if self.counters.is_late(&request) {
            return Err(ProveError::Late);
        }
        let (done, result) = oneshot::channel();
        let queue = &self.workers.queue;
        let ticket =
            queue.push(request.deadline, ProveJob { request, done }).map_err(|error| match error {
                PushError::Full => {
                    self.counters.refused.fetch_add(1, Ordering::Relaxed);
                    ProveError::Busy { limit: queue.limit() }
                }
                PushError::Closed => ProveError::Dropped,
            })?;
        let _waiting = Waiting { queue, ticket };
        result.await.unwrap_or(Err(ProveError::Dropped))
    }

    fn stats(&self) -> ProverStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProverStats {
            proved: count(&self.counters.proved),
            late: count(&self.counters.late),
            refused: count(&self.counters.refused),
            failed: count(&self.counters.failed),
            queued: self.workers.queue.len(),
            workers: self.workers.stats(),
        }
    }
}

/// A caller that waits; when it leaves, its request leaves the queue.
struct Waiting<'a> {
    queue: &'a Queue<Instant, ProveJob>,
    ticket: Ticket<Instant>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        drop(self.queue.remove(&self.ticket));
    }
}

impl Counters {
    /// Whether its deadline is over; counts it then.
    fn is_late(&self, request: &ProofRequest) -> bool {
        let late = Instant::now() >= request.deadline;
        self.late.fetch_add(u64::from(late), Ordering::Relaxed);
        late
    }
}

impl ProveJob {
    fn run(self, decoder: &mut RecordDecoder, kzg: &Kzg, counters: &Counters) {
        let Self { request, done } = self;
        if counters.is_late(&request) {
            drop(request);
            let _ = done.send(Err(ProveError::Late));
            return;
        }
        let (chunks, rest) = request.record.as_chunks();
        let result = if rest.is_empty() {
            decoder.prove(&request.seed, chunks, &request.bitfield, request.s_bucket, kzg)
        } else {
            Err(consensus::sector::DecodeError::Length(chunks.len()))
        };
        let counter = if result.is_ok() { &counters.proved } else { &counters.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        // The slab goes back before the caller, who may have left, hears of it.
        drop(request);
        let _ = done.send(result.map_err(ProveError::from));
    }
}
