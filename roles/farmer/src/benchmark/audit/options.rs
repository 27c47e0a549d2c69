//! How audits are measured, and by which challenges.

use consensus::CpuLevel;
use std::path::PathBuf;
use std::time::Duration;

/// How to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directories of farms.
    pub paths: Vec<PathBuf>,
    /// Reads at once, each 1 to [`super::MAX_DEPTH`].
    pub depths: Vec<usize>,
    /// How long each way is measured, at least one slot.
    pub limit: Duration,
    /// Slots of each way instead of a time.
    pub slots: Option<u32>,
    /// Time from slot to slot; none: one after the other.
    pub interval: Option<Duration>,
    /// As if each disk held so many sectors: those that there are, are audited several times in a slot.
    pub as_sectors: Option<u64>,
    /// Other seeds, other challenges.
    pub seed: u64,
    /// Only so many challenges, again and again.
    pub challenges: Option<u64>,
    /// Whether the page cache is tried, too.
    pub cached: bool,
    /// Measure once more while a file of so many bytes is written to each disk at full rate.
    pub written_bytes: Option<u64>,
    /// Instructions that chunks are hashed with.
    pub level: CpuLevel,
}

/// The global challenge of a slot that never was.
pub fn challenge(seed: u64, number: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"benchmark audit").update(&seed.to_le_bytes()).update(&number.to_le_bytes());
    hasher.finalize().into()
}
