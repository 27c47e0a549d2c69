//! Proofs made by threads.

use super::StartError;
use crate::proving::{ProveCounters, ProveJob, prove};
use crate::workers::WorkerSet;
use crate::{ProofRequest, ProveError, Prover, ProverStats};
use async_trait::async_trait;
use consensus::CpuLevel;
use consensus::kzg::Kzg;
use consensus::sector::{ProvedChunk, RecordDecoder};
use engine::threads::ThreadWorkers;
use std::sync::Arc;
use std::time::Instant;

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
    counters: Arc<ProveCounters>,
}

impl CpuProver {
    /// Starts the threads.
    pub fn new(options: &CpuProverOptions, kzg: Arc<Kzg>) -> Result<Self, StartError> {
        let counters = Arc::<ProveCounters>::default();
        let run = {
            let counters = counters.clone();
            move |decoder: &mut RecordDecoder, job: ProveJob| {
                if let Some(job) = job.still_wanted(&counters) {
                    job.prove(decoder, &kzg, &counters);
                }
            }
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
        prove(&self.workers.queue, &self.counters, request).await
    }

    fn stats(&self) -> ProverStats {
        self.counters.stats(self.workers.queue.len(), self.workers.stats())
    }
}
