//! Who still has to say that it has handled the newest segment.

use std::collections::BTreeSet;

use super::subscribers::SubscriberId;

/// Acknowledgements owed for one segment at a time.
#[derive(Debug, Default)]
pub struct Acknowledgements {
    segment_index: u64,
    owed_by: BTreeSet<SubscriberId>,
}

impl Acknowledgements {
    /// A segment was announced to these subscribers. What was owed before is void.
    pub fn begin(&mut self, segment_index: u64, subscribers: impl IntoIterator<Item = SubscriberId>) {
        *self = Self { segment_index, owed_by: subscribers.into_iter().collect() };
    }

    /// Pays one of the debts for this segment, whoever's: callers do not say who they are. Other segments owe nothing.
    pub fn acknowledge(&mut self, segment_index: u64) {
        if segment_index == self.segment_index {
            self.owed_by.pop_first();
        }
    }

    /// A subscription has ended and owes nothing any more.
    pub fn forget(&mut self, subscriber: SubscriberId) {
        self.owed_by.remove(&subscriber);
    }

    /// The time for acknowledgements is over.
    pub fn give_up(&mut self) {
        self.owed_by.clear();
    }

    /// The segment for which something is owed.
    pub fn pending(&self) -> Option<u64> {
        (!self.owed_by.is_empty()).then_some(self.segment_index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subscriber_owes_one() {
        let mut owed = Acknowledgements::default();
        assert_eq!(owed.pending(), None);
        owed.begin(5, [1, 2, 3]);
        owed.acknowledge(4);
        owed.acknowledge(5);
        owed.forget(3);
        assert_eq!(owed.pending(), Some(5));
        owed.acknowledge(5);
        assert_eq!(owed.pending(), None);
        owed.acknowledge(5);
        owed.begin(6, []);
        assert_eq!(owed.pending(), None);
        owed.begin(7, [1]);
        owed.give_up();
        assert_eq!(owed.pending(), None);
    }
}
