//! A set of segment indexes, which are nearly always without gaps.

use std::collections::BTreeMap;

/// Runs kept; a history of segments has one, and a few while it is being filled.
const RUNS_MAX: usize = 4096;

/// Indexes as runs: first of each → one past its last. No two runs touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds an index; not where it would be one run too many, or the last number.
    pub fn insert(&mut self, index: u64) {
        let Some(mut end) = index.checked_add(1) else { return };
        if self.contains(index) {
            return;
        }
        let mut start = index;
        if let Some((&before, _)) = self.0.range(..index).next_back().filter(|(_, end)| **end == index) {
            start = before;
        }
        if let Some(after) = self.0.remove(&end) {
            end = after;
        }
        if start != index || self.0.len() < RUNS_MAX {
            self.0.insert(start, end);
        }
    }

    /// Whether an index is in it.
    pub fn contains(&self, index: u64) -> bool {
        self.0.range(..=index).next_back().is_some_and(|(_, end)| *end > index)
    }

    /// The first index from `index` on that is not in it.
    pub fn gap_from(&self, index: u64) -> u64 {
        self.0.range(..=index).next_back().map_or(index, |(_, end)| (*end).max(index))
    }

    /// The last index below `end` that is not in it.
    pub fn gap_below(&self, end: u64) -> Option<u64> {
        let last = end.checked_sub(1)?;
        match self.0.range(..=last).next_back() {
            Some((start, end)) if *end > last => start.checked_sub(1),
            _ => Some(last),
        }
    }

    /// The lowest indexes that are in it and not in `other`, at most `count`.
    pub fn missing_in(&self, other: &Self, count: usize) -> Vec<u64> {
        let mut missing = Vec::new();
        for (start, end) in &self.0 {
            let mut index = other.gap_from(*start);
            while index < *end && missing.len() < count {
                missing.push(index);
                index = other.gap_from(index + 1);
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(indexes in prop::collection::vec(0u64..40, 0..60), others in prop::collection::vec(0u64..40, 0..60)) {
            let (mut ranges, mut other) = (Ranges::default(), Ranges::default());
            indexes.iter().for_each(|index| ranges.insert(*index));
            others.iter().for_each(|index| other.insert(*index));
            let (set, others): (BTreeSet<_>, BTreeSet<_>) = (indexes.into_iter().collect(), others.into_iter().collect());
            for index in 0..42 {
                prop_assert_eq!(ranges.contains(index), set.contains(&index));
                prop_assert_eq!(Some(ranges.gap_from(index)), (index..).find(|index| !set.contains(index)));
                prop_assert_eq!(ranges.gap_below(index), (0..index).rev().find(|index| !set.contains(index)));
            }
            let missing: Vec<_> = set.difference(&others).copied().take(7).collect();
            prop_assert_eq!(ranges.missing_in(&other, 7), missing);
        }
    }

    #[test]
    fn it_is_bounded() {
        let mut ranges = Ranges::default();
        (0..2 * RUNS_MAX as u64).for_each(|n| ranges.insert(2 * n));
        ranges.insert(u64::MAX);
        assert_eq!(ranges.0.len(), RUNS_MAX);
        ranges.insert(1);
        assert!(ranges.contains(1), "what joins runs is taken always");
    }
}
