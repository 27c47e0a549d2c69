//! What backends count; numbers only grow, so that a metric may take differences.

use std::time::Duration;

/// One worker: a thread, or a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerStats {
    /// Jobs begun and done, well or not.
    pub jobs: u64,
    /// Time spent on jobs, the one it is on included.
    pub busy: Duration,
    /// Time spent waiting for jobs.
    pub idle: Duration,
}

/// One device that encodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardStats {
    /// Model and PCI bus id.
    pub name: String,
    /// Whether it still works; once it does not, it never does again.
    pub in_service: bool,
    /// Finished sectors that it put out.
    pub sectors: u64,
    /// Its records and its time.
    pub worker: WorkerStats,
}

/// What an encoder did since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderStats {
    /// Records encoded.
    pub records_encoded: u64,
    /// Pieces that were not what they should be.
    pub pieces_refused: u64,
    /// Records waiting for a worker.
    pub queued: usize,
    /// Slabs of the pool promised to open sessions.
    pub slabs_promised: usize,
    /// Each worker.
    pub workers: Vec<WorkerStats>,
}

/// What a prover did since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProverStats {
    /// Requests proved.
    pub proved: u64,
    /// Requests dropped since their deadline was over.
    pub late: u64,
    /// Requests refused since the queue was full.
    pub refused: u64,
    /// Requests whose record could not be proved.
    pub failed: u64,
    /// Requests waiting for a worker.
    pub queued: usize,
    /// Each worker.
    pub workers: Vec<WorkerStats>,
}
