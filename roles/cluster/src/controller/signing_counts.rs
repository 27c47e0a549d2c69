//! How the node's wishes for signatures ended.

use std::sync::atomic::{AtomicU64, Ordering};

use control::signing::Outcome;

/// Numbers since the start.
#[derive(Debug, Default)]
pub struct SigningCounts([AtomicU64; Outcome::ALL.len()]);

impl SigningCounts {
    /// Wishes that ended so.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}
