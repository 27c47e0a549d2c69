//! How a caller lends threads to consensus work, which starts none of its own.

/// A set of threads for work that can be cut into independent jobs.
///
/// Results must not depend on how many threads there are: a job writes only what belongs to its index.
pub trait Workers: Sync {
    /// How many jobs can run at once, at least 1.
    fn count(&self) -> usize;

    /// Calls `job(index)` exactly once for every index below `jobs`, in any order, and returns when all are done.
    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync));
}

/// The calling thread alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Serial;

impl Workers for Serial {
    fn count(&self) -> usize {
        1
    }

    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        (0..jobs).for_each(job);
    }
}
