//! Where solutions were seen: the same one at two nodes, or under two signatures, is an equivocation.
//!
//! All nodes of a chain tell each other what they see, so each counts the same.

use std::collections::BTreeMap;

use consensus::solution::Solution;
use parity_scale_codec::{Decode, Encode};

/// Slots for which sightings are remembered.
const SLOTS_MAX: u64 = 64;

/// Solutions remembered: ten a slot and farm for as many slots and some farms.
const SOLUTIONS_MAX: usize = 4096;

/// Different marks remembered of one solution. Two are enough to know; more are only ever an attack.
const MARKS_MAX: usize = 8;

/// What makes two solutions the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct SolutionId {
    /// The slot.
    pub slot: u64,
    /// BLAKE3 of public key, sector index, piece offset and chunk.
    pub hash: [u8; 32],
}

impl SolutionId {
    pub fn new(slot: u64, solution: &Solution) -> Self {
        let Solution { public_key, sector_index, piece_offset, chunk, .. } = solution;
        let hash = blake3::hash(&(public_key, sector_index, piece_offset, chunk).encode()).into();
        Self { slot, hash }
    }
}

/// How a solution was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Mark {
    /// A node answered that it was queued.
    Queued {
        /// The node, or rather its process.
        node: u64,
    },
    /// In a block or vote.
    Signed {
        /// Reward signature.
        signature: [u8; 64],
    },
}

/// A solution seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Sighting {
    pub solution: SolutionId,
    pub mark: Mark,
}

/// What a sighting says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// It was not known.
    pub(super) is_new: bool,
    /// It is the first that makes this solution an equivocation.
    pub(super) is_equivocation: bool,
}

/// What was seen of the newest slots.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    marks: BTreeMap<SolutionId, Vec<Mark>>,
}

impl Sightings {
    /// Takes a sighting in slot `now`.
    pub(super) fn see(&mut self, sighting: &Sighting, now: u64) -> Seen {
        let nothing = Seen { is_new: false, is_equivocation: false };
        self.forget_before(now.saturating_sub(SLOTS_MAX));
        if sighting.solution.slot.abs_diff(now) > SLOTS_MAX {
            return nothing;
        }
        let marks = self.marks.entry(sighting.solution).or_default();
        if marks.contains(&sighting.mark) || marks.len() >= MARKS_MAX {
            return nothing;
        }
        let was = is_equivocation(marks);
        marks.push(sighting.mark);
        let is_equivocation = !was && is_equivocation(marks);
        if self.marks.len() > SOLUTIONS_MAX {
            self.marks.pop_first();
        }
        Seen { is_new: true, is_equivocation }
    }

    /// Everything that is remembered.
    pub(super) fn all(&self) -> impl Iterator<Item = Sighting> {
        let sightings = |(solution, marks): (&SolutionId, &Vec<Mark>)| {
            let solution = *solution;
            marks.clone().into_iter().map(move |mark| Sighting { solution, mark })
        };
        self.marks.iter().flat_map(sightings)
    }

    fn forget_before(&mut self, slot: u64) {
        self.marks = self.marks.split_off(&SolutionId { slot, hash: [0; 32] });
    }
}

/// Whether marks are of two nodes, or hold two signatures.
fn is_equivocation(marks: &[Mark]) -> bool {
    let queued = marks.iter().filter(|mark| matches!(mark, Mark::Queued { .. })).count();
    queued > 1 || marks.len() - queued > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(slot: u64, number: u8, mark: Mark) -> Sighting {
        Sighting { solution: SolutionId { slot, hash: [number; 32] }, mark }
    }

    fn queued(node: u64) -> Mark {
        Mark::Queued { node }
    }

    #[test]
    fn two_nodes_or_two_signatures_count_once() {
        let mut sightings = Sightings::default();
        let mut see = |mark| {
            let seen = sightings.see(&sighting(5, 1, mark), 5);
            (seen.is_new, seen.is_equivocation)
        };
        let signed = |number| Mark::Signed { signature: [number; 64] };
        assert_eq!(see(queued(1)), (true, false));
        assert_eq!(see(queued(1)), (false, false));
        assert_eq!(see(signed(1)), (true, false), "queued and signed is how it should be");
        assert_eq!(see(signed(2)), (true, true));
        assert_eq!(see(queued(2)), (true, false), "counted already");
        (3..9).for_each(|node| _ = see(queued(node)));
        assert_eq!(see(queued(10)), (false, false), "remembered no more, told to nobody");
        assert_eq!(sightings.all().count(), MARKS_MAX);
    }

    #[test]
    fn old_and_future_ones_are_not_kept() {
        let mut sightings = Sightings::default();
        assert!(sightings.see(&sighting(5, 1, queued(1)), 5).is_new);
        assert!(!sightings.see(&sighting(500, 1, queued(1)), 5).is_new);
        assert!(!sightings.see(&sighting(5, 1, queued(2)), 100).is_new);
        assert_eq!(sightings.all().count(), 0);
        for number in 0..SOLUTIONS_MAX as u64 + 10 {
            let solution = SolutionId { slot: 100, hash: *blake3::hash(&number.to_le_bytes()).as_bytes() };
            sightings.see(&Sighting { solution, mark: queued(1) }, 100);
        }
        assert_eq!(sightings.all().count(), SOLUTIONS_MAX);
    }
}
