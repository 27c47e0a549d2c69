//! Slots as they come from several controllers: each is worked on once.

use std::collections::VecDeque;

/// Slots remembered. Controllers announce a slot within seconds of each other; at one a second this is over a minute.
const REMEMBERED: usize = 64;

/// The last slots seen.
#[derive(Debug, Default)]
pub struct SeenSlots(VecDeque<(u64, [u8; 32])>);

impl SeenSlots {
    /// Whether this slot with this challenge comes for the first time. The same slot may come again with another challenge, after
    /// the chain took another turn.
    pub fn is_new(&mut self, slot: u64, global_challenge: &[u8; 32]) -> bool {
        let seen = (slot, *global_challenge);
        if self.0.contains(&seen) {
            return false;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(seen);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_worked_on_once_for_each_challenge() {
        let mut slots = SeenSlots::default();
        assert!(slots.is_new(5, &[1; 32]));
        assert!(!slots.is_new(5, &[1; 32]), "from another controller");
        assert!(slots.is_new(5, &[2; 32]), "another challenge");
        assert!(slots.is_new(4, &[1; 32]), "another slot");
        assert!(!slots.is_new(5, &[2; 32]));
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_newest() {
        let mut slots = SeenSlots::default();
        let count = REMEMBERED as u64 + 10;
        assert!((0..count).all(|slot| slots.is_new(slot, &[0; 32])));
        assert_eq!(slots.0.len(), REMEMBERED);
        assert!((10..count).all(|slot| !slots.is_new(slot, &[0; 32])));
        assert!(slots.is_new(9, &[0; 32]), "long forgotten");
    }
}
