//! What tests may ask of the announcement of slots.

use super::chain::BLOCK_AUTHORING_DELAY_SLOTS;

/// Slots that can be announced once more: older ones take no solutions.
pub const ANNOUNCED_AGAIN_MAX: u64 = BLOCK_AUTHORING_DELAY_SLOTS;

/// Nothing is announced for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// First slot that is announced again.
    pub until_slot: u64,
    /// Slots before that one that are announced with it.
    pub burst: u64,
}
