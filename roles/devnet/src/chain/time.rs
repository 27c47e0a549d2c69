//! The challenges of slots, and how a reorganisation of the proof of time changes them.
//!
//! There is no proof of time: the output of a slot is drawn from genesis hash and slot, and from the newest [`TimeChange`] that
//! covers the slot.

use consensus::challenge::{PotOutput, global_challenge, global_randomness};
use parity_scale_codec::{Decode, Encode};

/// What the proof-of-time output of a slot is derived from, beside genesis hash and slot.
const POT_DOMAIN: &[u8] = b"dev pot";

/// Changes remembered: more than a test makes.
const CHANGES_MAX: usize = 16;

/// From a slot on, another proof of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct TimeChange {
    /// Slot in which it was made: where two cover a slot, the later one counts.
    pub made_slot: u64,
    /// Enters the output.
    pub salt: u64,
    /// First slot that it covers.
    pub from_slot: u64,
    /// First slot that it covers no more; none: it lasts. One that ends is known to one node alone.
    pub until_slot: Option<u64>,
}

impl TimeChange {
    fn covers(&self, slot: u64) -> bool {
        self.from_slot <= slot && self.until_slot.is_none_or(|until| slot < until)
    }
}

/// All changes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Time {
    changes: Vec<TimeChange>,
}

impl Time {
    /// Takes a change; whether it is new and covers anything that is remembered.
    pub(super) fn add(&mut self, change: TimeChange) -> bool {
        if self.changes.contains(&change) {
            return false;
        }
        self.changes.push(change);
        // In the same order on all nodes, whenever they hear of them.
        self.changes.sort_unstable();
        let too_many = self.changes.len().saturating_sub(CHANGES_MAX);
        self.changes.drain(..too_many);
        self.changes.contains(&change)
    }

    /// Changes that all nodes share.
    pub(super) fn shared(&self) -> impl Iterator<Item = &TimeChange> {
        self.changes.iter().filter(|change| change.until_slot.is_none())
    }

    /// The challenge of `slot`.
    pub(super) fn challenge(&self, genesis_hash: &[u8; 32], slot: u64) -> [u8; 32] {
        let newest = self.changes.iter().rev().find(|change| change.covers(slot));
        challenge(genesis_hash, slot, newest)
    }

    /// Every challenge that `slot` may have had, the newest first.
    pub(super) fn challenges(&self, genesis_hash: &[u8; 32], slot: u64) -> Vec<[u8; 32]> {
        let changes = self.changes.iter().rev().filter(|change| change.covers(slot)).map(Some);
        changes.chain([None]).map(|change| challenge(genesis_hash, slot, change)).collect()
    }

    /// Forgets changes that end with `slot` or did before, and gives the first slot that they covered.
    pub(super) fn end(&mut self, slot: u64) -> Option<u64> {
        let is_over = |change: &TimeChange| change.until_slot.is_some_and(|until| until <= slot);
        let first = self.changes.iter().filter(|change| is_over(change)).map(|change| change.from_slot).min();
        self.changes.retain(|change| !is_over(change));
        first
    }
}

fn challenge(genesis_hash: &[u8; 32], slot: u64, change: Option<&TimeChange>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(POT_DOMAIN).update(genesis_hash).update(&slot.to_le_bytes());
    if let Some(change) = change {
        hasher.update(&change.salt.to_le_bytes());
    }
    let output: PotOutput = *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes");
    global_challenge(&global_randomness(&output), slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENESIS: [u8; 32] = [9; 32];

    #[test]
    fn the_newest_change_that_covers_a_slot_counts() {
        let mut time = Time::default();
        let original = time.challenge(&GENESIS, 7);
        let lasting = TimeChange { made_slot: 8, salt: 3, from_slot: 7, until_slot: None };
        let alone = TimeChange { made_slot: 9, salt: 1, from_slot: 7, until_slot: Some(10) };
        assert!(time.add(lasting) && !time.add(lasting));
        let changed = time.challenge(&GENESIS, 7);
        assert_ne!(changed, original);
        assert_eq!(time.challenges(&GENESIS, 7), [changed, original]);
        assert_eq!(time.challenges(&GENESIS, 6).len(), 1);
        let common = time.challenge(&GENESIS, 10);
        assert!(time.add(alone));
        assert_ne!(time.challenge(&GENESIS, 9), changed);
        assert_eq!(time.challenge(&GENESIS, 10), common);
        assert_eq!((time.end(9), time.end(12), time.end(12)), (None, Some(7), None));
        assert_eq!(time.challenge(&GENESIS, 9), time.challenges(&GENESIS, 9)[0]);
        assert_eq!(time.challenges(&GENESIS, 9).len(), 2, "as all others have it");
        assert_eq!(time.shared().collect::<Vec<_>>(), [&lasting]);
    }

    #[test]
    fn nodes_agree_whatever_the_order_and_forget_the_oldest() {
        let change =
            |made_slot| TimeChange { made_slot, salt: made_slot % 5, from_slot: 1, until_slot: None };
        let (mut one, mut other) = (Time::default(), Time::default());
        (0..20).for_each(|made_slot| _ = one.add(change(made_slot)));
        (0..20).rev().for_each(|made_slot| _ = other.add(change(made_slot)));
        assert_eq!(one.changes, other.changes);
        assert_eq!(one.changes.len(), CHANGES_MAX);
        assert!(!one.add(change(0)), "too old");
    }
}
