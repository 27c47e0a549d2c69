//! What is being asked for, so that nothing is asked for a second time meanwhile.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Questions under way; clones are the same ones.
#[derive(Clone)]
pub struct Asked<K: Eq + Hash>(Arc<Mutex<HashSet<K>>>);

impl<K: Eq + Hash> Default for Asked<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Copy> Asked<K> {
    /// One more question, until what this gives is dropped; none when it is under way already.
    pub fn begin(&self, question: K) -> Option<Asking<K>> {
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(question);
        is_new.then(|| Asking { all: self.clone(), question })
    }
}

/// A question under way.
pub struct Asking<K: Eq + Hash + Copy> {
    all: Asked<K>,
    question: K,
}

impl<K: Eq + Hash + Copy> Drop for Asking<K> {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.question);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_asked_once_at_a_time() {
        let asked = Asked::default();
        let first = asked.begin((1, 7));
        assert!(first.is_some() && asked.begin((1, 7)).is_none() && asked.begin((2, 7)).is_some());
        drop(first);
        assert!(asked.clone().begin((1, 7)).is_some());
    }
}
