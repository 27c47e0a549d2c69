//! Candidates of a slot, best first, while disks still answer.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A chunk that may win a slot, where it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Distance to the challenge.
    pub distance: u64,
    /// Which of the plot-client's farms.
    pub farm: usize,
    /// Sector in the farm.
    pub sector: u16,
    /// History size that the sector had when it was audited.
    pub history_size: u64,
    /// The audited s-bucket.
    pub s_bucket: u16,
    /// Place of the chunk in the s-bucket.
    pub chunk_offset: usize,
}

impl Candidate {
    /// Closest first; equal ones by place, so that the order is the same everywhere.
    fn rank(&self) -> (u64, usize, u16, usize) {
        (self.distance, self.farm, self.sector, self.chunk_offset)
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Candidates that wait to be proved.
#[derive(Debug, Default)]
pub struct Ranking(BinaryHeap<Reverse<Candidate>>);

impl Ranking {
    /// Adds what a farm has found.
    pub fn extend(&mut self, found: impl IntoIterator<Item = Candidate>) {
        self.0.extend(found.into_iter().map(Reverse));
    }

    /// Takes the best.
    pub fn next(&mut self) -> Option<Candidate> {
        self.0.pop().map(|Reverse(best)| best)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(distance: u64, farm: usize, sector: u16) -> Candidate {
        Candidate { distance, farm, sector, history_size: 1, s_bucket: 0, chunk_offset: 0 }
    }

    #[test]
    fn farms_that_answer_late_still_come_first_when_they_are_better() {
        let mut ranking = Ranking::default();
        ranking.extend([candidate(5, 0, 0), candidate(9, 0, 1)]);
        assert_eq!(ranking.next(), Some(candidate(5, 0, 0)));
        ranking.extend([candidate(7, 1, 3), candidate(9, 1, 0)]);
        let rest: Vec<_> = std::iter::from_fn(|| ranking.next()).collect();
        assert_eq!(rest, [candidate(7, 1, 3), candidate(9, 0, 1), candidate(9, 1, 0)]);
        assert_eq!(ranking.len(), 0);
    }

    proptest! {
        #[test]
        fn any_order_of_arrival_gives_the_same_order(
            mut found in prop::collection::vec((0u64..9, 0usize..3, 0u16..9), 0..40),
        ) {
            let ranked = |found: &[(u64, usize, u16)]| {
                let mut ranking = Ranking::default();
                ranking.extend(found.iter().map(|&(distance, farm, sector)| candidate(distance, farm, sector)));
                std::iter::from_fn(move || ranking.next()).collect::<Vec<_>>()
            };
            let first = ranked(&found);
            found.reverse();
            prop_assert!(first.is_sorted());
            prop_assert_eq!(first, ranked(&found));
        }
    }
}
