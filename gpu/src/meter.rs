//! How busy a worker is.

use crate::WorkerStats;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Times of one worker. One thread writes it.
pub(crate) struct Meter {
    started: Instant,
    jobs: AtomicU64,
    busy_ns: AtomicU64,
    /// When the work it is on began, in nanoseconds since the start, plus one; zero between works.
    busy_since_ns: AtomicU64,
}

impl Default for Meter {
    fn default() -> Self {
        let [jobs, busy_ns, busy_since_ns] = [const { AtomicU64::new(0) }; 3];
        Self { started: Instant::now(), jobs, busy_ns, busy_since_ns }
    }
}

// Relaxed throughout: each is written by one thread and read for a metric.
impl Meter {
    /// Work begins; nothing happens if it has begun already.
    pub fn begin(&self) {
        if self.busy_since_ns.load(Ordering::Relaxed) == 0 {
            self.busy_since_ns.store(self.now_ns() + 1, Ordering::Relaxed);
        }
    }

    /// Work ends, of which `jobs` jobs were done.
    pub fn end(&self, jobs: u64) {
        let since = self.busy_since_ns.swap(0, Ordering::Relaxed);
        if since > 0 {
            self.busy_ns.fetch_add((self.now_ns() + 1).saturating_sub(since), Ordering::Relaxed);
        }
        self.count(jobs);
    }

    /// Jobs are done, and work goes on.
    pub fn count(&self, jobs: u64) {
        self.jobs.fetch_add(jobs, Ordering::Relaxed);
    }

    pub fn stats(&self) -> WorkerStats {
        let current = match self.busy_since_ns.load(Ordering::Relaxed) {
            0 => 0,
            since => (self.now_ns() + 1).saturating_sub(since),
        };
        let busy = Duration::from_nanos(self.busy_ns.load(Ordering::Relaxed) + current);
        let idle = self.started.elapsed().saturating_sub(busy);
        WorkerStats { jobs: self.jobs.load(Ordering::Relaxed), busy, idle }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).expect("a process runs for less than 500 years")
    }
}
