//! One request to prove, whatever backend proves it: its way into a queue, its end, and what is counted.

use crate::queue::{PushError, Queue, Ticket};
use crate::{ProofRequest, ProveError, ProverStats, WorkerStats};
use consensus::constants::RECORD_SIZE;
use consensus::kzg::Kzg;
use consensus::sector::{DecodeError, ProvedChunk, RecordDecoder};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::oneshot;

/// Requests that wait, the earliest deadline first.
pub(crate) type ProveQueue = Queue<Instant, ProveJob>;

/// What a prover counts.
#[derive(Default)]
pub(crate) struct ProveCounters {
    proved: AtomicU64,
    late: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// A request under way. Dropped, its caller is told.
pub(crate) struct ProveJob {
    pub request: ProofRequest,
    done: oneshot::Sender<Result<ProvedChunk, ProveError>>,
}

/// Puts a request into the queue and waits for its end. Dropping the future takes it out of the queue.
pub(crate) async fn prove(
    queue: &ProveQueue,
    counters: &ProveCounters,
    request: ProofRequest,
) -> Result<ProvedChunk, ProveError> {
    if counters.is_late(&request) {
        return Err(ProveError::Late);
    }
    let (done, result) = oneshot::channel();
    let ticket = queue.push(request.deadline, ProveJob { request, done }).map_err(|error| match error {
        PushError::Full => {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            ProveError::Busy { limit: queue.limit() }
        }
        PushError::Closed => ProveError::Dropped,
    })?;
    let _waiting = Waiting { queue, ticket };
    result.await.unwrap_or(Err(ProveError::Dropped))
}

/// A caller that waits; when it leaves, its request leaves the queue.
struct Waiting<'a> {
    queue: &'a ProveQueue,
    ticket: Ticket<Instant>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        drop(self.queue.remove(&self.ticket));
    }
}

impl ProveCounters {
    /// Whether its deadline is over; counts it then.
    fn is_late(&self, request: &ProofRequest) -> bool {
        let late = Instant::now() >= request.deadline;
        self.late.fetch_add(u64::from(late), Ordering::Relaxed);
        late
    }

    pub fn stats(&self, queued: usize, workers: Vec<WorkerStats>) -> ProverStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProverStats {
            proved: count(&self.proved),
            late: count(&self.late),
            refused: count(&self.refused),
            failed: count(&self.failed),
            queued,
            workers,
        }
    }
}

impl ProveJob {
    /// The job, unless nobody waits for it any more or its deadline is over, which its caller is told.
    pub fn still_wanted(self, counters: &ProveCounters) -> Option<Self> {
        if self.done.is_closed() {
            return None;
        }
        if counters.is_late(&self.request) {
            let Self { request, done } = self;
            drop(request);
            let _ = done.send(Err(ProveError::Late));
            return None;
        }
        Some(self)
    }

    /// Tells the caller what came out.
    pub fn settle(self, result: Result<ProvedChunk, DecodeError>, counters: &ProveCounters) {
        let counter = if result.is_ok() { &counters.proved } else { &counters.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        // The slab goes back before the caller, who may have left, hears of it.
        let Self { request, done } = self;
        drop(request);
        let _ = done.send(result.map_err(ProveError::from));
    }

    /// Proves it with the CPU.
    pub fn prove(self, decoder: &mut RecordDecoder, kzg: &Kzg, counters: &ProveCounters) {
        let ProofRequest { seed, record, bitfield, s_bucket, .. } = &self.request;
        let chunks = record.as_chunks().0;
        let result = if record.len() == RECORD_SIZE {
            decoder.prove(seed, chunks, bitfield, *s_bucket, kzg)
        } else {
            Err(DecodeError::Length(chunks.len()))
        };
        self.settle(result, counters);
    }
}
