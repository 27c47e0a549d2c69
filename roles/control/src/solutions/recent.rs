//! What was noted last, so many; which is older is told by the order of noting, not by a slot's number: that may go back.

use std::collections::{BTreeMap, VecDeque};

/// The newest `LIMIT` keys and their values.
#[derive(Debug)]
pub(super) struct Recent<K, V, const LIMIT: usize> {
    values: BTreeMap<K, V>,
    /// All keys, the oldest first.
    order: VecDeque<K>,
}

impl<K, V, const LIMIT: usize> Default for Recent<K, V, LIMIT> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<K: Copy + Ord, V, const LIMIT: usize> Recent<K, V, LIMIT> {
    /// Notes a key; one that is known keeps its age.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.values.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > LIMIT {
            self.order.pop_front().and_then(|oldest| self.values.remove(&oldest));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.values.get_mut(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_whatever_its_number() {
        let mut recent = Recent::<u8, (), 3>::default();
        for key in [9, 8, 1, 8, 7] {
            recent.insert(key, ());
        }
        let known: Vec<_> = (0..10).filter(|key| recent.get(key).is_some()).collect();
        assert_eq!(known, [1, 7, 8], "9 came first");
        assert_eq!(recent.values.len(), recent.len());
    }
}
