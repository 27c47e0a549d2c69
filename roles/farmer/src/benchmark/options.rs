//! How operations are measured.

use consensus::CpuLevel;

/// How to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that work at the same time, each on inputs of its own; [`super::Operation::Archive`] and
    /// [`super::Operation::Verify`] spread one segment over them. At least 1, as are the runs.
    pub threads: u16,
    /// Runs of each thread, after others that warm it up.
    pub runs: u16,
    /// Instructions to use.
    pub level: CpuLevel,
    /// Memory for multiples of the KZG setup's points, see [`consensus::kzg::Kzg::with_table`].
    pub kzg_memory_bytes: usize,
}
