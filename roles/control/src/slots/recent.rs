//! The slots that a node remembers to have announced.

use crate::messages::SlotInfo;

/// A node takes solutions for so many slots that it announced last, and ignores those for others.
pub const REMEMBERED_BY_NODE: usize = 4;

/// A slot as one chain has it. After a reorganisation the same number comes again with another challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotKey {
    /// Slot number.
    pub slot: u64,
    /// Global challenge.
    pub global_challenge: [u8; 32],
}

impl From<&SlotInfo> for SlotKey {
    fn from(info: &SlotInfo) -> Self {
        Self { slot: info.slot, global_challenge: info.global_challenge }
    }
}

/// The last [`REMEMBERED_BY_NODE`] slots of one node, in the order in which it announced them, each number once with its latest
/// challenge, and something kept about each.
#[derive(Debug, Clone)]
pub struct RecentSlots<T>(Vec<Recent<T>>);

#[derive(Debug, Clone)]
struct Recent<T> {
    order: u64,
    key: SlotKey,
    value: T,
}

impl<T> Default for RecentSlots<T> {
    fn default() -> Self {
        Self(Vec::with_capacity(REMEMBERED_BY_NODE + 1))
    }
}

impl<T> RecentSlots<T> {
    /// The node announced `key`, as the one of number `order` in its order: messages may come in another. Gives what is not
    /// remembered any more: one that is older, or has got another challenge, and perhaps that is this one. Of a slot
    /// announced again as it was the first `value` stays.
    pub fn announce(&mut self, key: SlotKey, order: u64, value: T) -> Vec<(SlotKey, T)> {
        let mut gone = Vec::new();
        let known = self.0.iter().position(|recent| recent.key == key);
        let same_number = self.0.iter().position(|recent| recent.key.slot == key.slot);
        match (known, same_number) {
            (Some(at), _) if self.0[at].order > order => {}
            // Moved behind those of the same order: a node tells of several slots within a millisecond.
            (Some(at), _) => {
                let known = self.0.remove(at);
                self.0.push(Recent { order, ..known });
            }
            (None, Some(at)) if self.0[at].order > order => gone.push(Recent { order, key, value }),
            (None, Some(at)) => {
                gone.push(self.0.remove(at));
                self.0.push(Recent { order, key, value });
            }
            (None, None) => self.0.push(Recent { order, key, value }),
        }
        self.0.sort_by_key(|recent| recent.order);
        if self.0.len() > REMEMBERED_BY_NODE {
            gone.push(self.0.remove(0));
        }
        gone.into_iter().map(|recent| (recent.key, recent.value)).collect()
    }

    /// Whether the node takes solutions for exactly this.
    pub fn has(&self, key: &SlotKey) -> bool {
        self.0.iter().any(|recent| recent.key == *key)
    }

    /// All of them, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = (&SlotKey, &T)> {
        self.0.iter().rev().map(|recent| (&recent.key, &recent.value))
    }

    /// The greatest number among them.
    pub fn greatest(&self) -> Option<u64> {
        self.0.iter().map(|recent| recent.key.slot).max()
    }

    /// The node has, perhaps, restarted and knows of none.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u64, challenge: u8) -> SlotKey {
        SlotKey { slot, global_challenge: [challenge; 32] }
    }

    #[test]
    fn the_last_four_numbers_stay_each_with_its_latest_challenge() {
        let mut recent = RecentSlots::default();
        for slot in 1..=4 {
            assert!(recent.announce(key(slot, 0), slot, ()).is_empty());
        }
        assert_eq!(recent.announce(key(5, 0), 5, ()), [(key(1, 0), ())]);
        assert_eq!(recent.announce(key(4, 7), 6, ()), [(key(4, 0), ())], "the chain took another turn");
        assert!(recent.has(&key(4, 7)) && !recent.has(&key(4, 0)));
        assert_eq!(recent.announce(key(4, 0), 3, ()), [(key(4, 0), ())], "a message that was overtaken");
        let order: Vec<_> = recent.newest_first().map(|(key, ())| key.slot).collect();
        assert_eq!((order, recent.greatest()), (vec![4, 5, 3, 2], Some(5)));
        assert_eq!(recent.announce(key(1, 0), 1, ()), [(key(1, 0), ())], "older than all");
        recent.clear();
        assert!(!recent.has(&key(5, 0)));
    }

    #[test]
    fn slots_told_within_a_millisecond_keep_their_order() {
        let mut recent = RecentSlots::default();
        for (slot, order) in [(15, 1), (16, 2), (17, 3), (21, 4)] {
            recent.announce(key(slot, 0), order, ());
        }
        // A node that was silent tells of what it has not told, and of one again.
        for slot in [18, 19, 20, 21, 22] {
            recent.announce(key(slot, 0), 5, ());
        }
        let order: Vec<_> = recent.newest_first().map(|(key, ())| key.slot).collect();
        assert_eq!(order, [22, 21, 20, 19]);
        recent.announce(key(19, 7), 5, ());
        assert_eq!(recent.newest_first().next(), Some((&key(19, 7), &())), "another challenge is a new word");
    }

    #[test]
    fn a_slot_announced_again_as_it_was_keeps_what_was_known() {
        let mut recent = RecentSlots::default();
        recent.announce(key(1, 0), 1, "first");
        recent.announce(key(2, 0), 2, "other");
        assert!(recent.announce(key(1, 0), 3, "again").is_empty());
        let newest: Vec<_> = recent.newest_first().map(|(_, value)| *value).collect();
        assert_eq!(newest, ["first", "other"]);
    }
}
