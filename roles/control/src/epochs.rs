//! When the owners of the pieces change (DESIGN 3): a cache joins for the first time, drains, changes its capacity, or is absent
//! for longer than it may. Until then its items stay its own, whether it is there or not.
//!
//! ```text
//!   look ─▶ read the epoch ─┬─ as it should be ─▶ nothing
//!                           ├─ caches have changed ─▶ write the next number on that revision ─ conflict ─▶ look again
//!                           └─ gone, or older than one seen ─▶ the last one seen, changed as it should be, above its number
//! ```
//! Owns: what the next epoch is. Never: who owns an item ([`crate::rendezvous`]). An epoch's number is above all that this member
//! has seen, also after the store was emptied: whoever reads epochs takes the highest.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::InstanceId;
use crate::messages::{Epoch, EpochMember, MAX_EPOCH_MEMBERS};
use crate::store::{Expect, Found};

/// How often the members are looked at: caches that join together make one epoch.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Writes of an epoch with the copies that are wanted, where it is not heard whether one was done.
const COPIES_TRIES: u32 = 4;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write the epoch if that holds. Whatever comes of it, the next look shows it.
    Write {
        /// The epoch.
        epoch: Epoch,
        /// What must hold.
        expect: Expect,
    },
}

/// One controller's part in the epochs. Times are since its start.
#[derive(Debug)]
pub struct Epochs {
    rebalance_after: Duration,
    /// Copies of each piece that the operator wants, until an epoch has had them, or was to have them so often.
    copies: Option<(u8, u32)>,
    /// Since when members of the epoch are away.
    since: BTreeMap<InstanceId, Duration>,
    /// The newest epoch seen.
    last: Option<Epoch>,
    /// The last one to be written: it may have been, and somebody may have read it.
    proposed: Option<Epoch>,
}

impl Epochs {
    /// Members are given up after `rebalance_after`. The epochs keep the copies that they have, unless others are wanted at this start: of
    /// controllers that were told different numbers, the one that starts last has it.
    pub fn new(rebalance_after: Duration, copies: Option<u8>) -> Self {
        let copies = copies.map(|copies| (copies, COPIES_TRIES));
        Self { rebalance_after, copies, since: BTreeMap::new(), last: None, proposed: None }
    }

    /// What follows from the epoch as it was read now and the capacities of the caches that are `present`. An epoch that cannot be
    /// read is of another release, which keeps it.
    pub fn looked(
        &mut self,
        found: &Found<Epoch>,
        present: &BTreeMap<InstanceId, u64>,
        now: Duration,
    ) -> Option<Action> {
        let expect = match found {
            Found::Nothing => Expect::Absent,
            Found::Value(_, revision) => Expect::Revision(*revision),
            Found::Unreadable(_) => return None,
        };
        let read = if let Found::Value(epoch, _) = found { Some(epoch) } else { None };
        let seen = self.last.as_ref().map_or(0, |last| last.number);
        if let Some(newer) = read.filter(|epoch| epoch.number >= seen) {
            self.last = Some(newer.clone());
        }
        let old = self.last.clone().unwrap_or_else(Epoch::nobody);
        let copies = self.copies.map_or(old.copies, |(copies, _)| copies);
        if read.is_some_and(|epoch| epoch.copies == copies) {
            self.copies = None;
        }
        let members = self.next_members(&old.members, present, now);
        // Never an epoch without members where there was none: it would say nothing.
        let is_lost = read.is_none_or(|epoch| epoch.number < old.number) && !members.is_empty();
        let is_same = members == old.members && (copies == old.copies || members.is_empty());
        if is_same && !is_lost {
            return None;
        }
        let epoch = self.number(old.number, members, copies);
        // Somebody who was told another number may write as often: one must leave it.
        self.copies = self.copies.and_then(|(copies, tries)| Some((copies, tries.checked_sub(1)?)));
        self.proposed = Some(epoch.clone());
        Some(Action::Write { epoch, expect })
    }

    /// The last one proposed was written: from now on it is as whoever starts later wants it.
    pub fn wrote(&mut self) {
        self.copies = None;
    }

    /// The members under a number above `seen` that stands for no others.
    fn number(&self, seen: u64, members: Vec<EpochMember>, copies: u8) -> Epoch {
        let is_it =
            |epoch: &Epoch| epoch.number > seen && (epoch.copies, &epoch.members) == (copies, &members);
        match &self.proposed {
            Some(proposed) if is_it(proposed) => proposed.clone(),
            proposed => {
                let highest = proposed.as_ref().map_or(seen, |proposed| proposed.number.max(seen));
                Epoch { number: highest.saturating_add(1), members, copies }
            }
        }
    }

    fn next_members(
        &mut self,
        old: &[EpochMember],
        present: &BTreeMap<InstanceId, u64>,
        now: Duration,
    ) -> Vec<EpochMember> {
        self.since.retain(|id, _| !present.contains_key(id) && old.iter().any(|member| member.id == *id));
        let mut weights = BTreeMap::new();
        for member in old {
            let weight = present.get(&member.id).copied().unwrap_or(member.weight);
            if present.contains_key(&member.id) || !self.is_given_up(member.id, now) {
                weights.insert(member.id, weight);
            }
        }
        for (id, capacity) in present {
            if *capacity > 0 && (weights.len() < MAX_EPOCH_MEMBERS || weights.contains_key(id)) {
                weights.insert(*id, *capacity);
            }
        }
        weights.into_iter().map(|(id, weight)| EpochMember { id, weight }).collect()
    }

    /// Whether a member that is not there has been away for too long.
    fn is_given_up(&mut self, id: InstanceId, now: Duration) -> bool {
        let since = *self.since.entry(id).or_insert(now);
        now.saturating_sub(since) >= self.rebalance_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Duration = Duration::from_secs(900);
    const NOW: Duration = Duration::from_secs(7);

    fn id(n: u8) -> InstanceId {
        InstanceId([n; 16])
    }

    fn present(caches: &[(u8, u64)]) -> BTreeMap<InstanceId, u64> {
        caches.iter().map(|(n, capacity)| (id(*n), *capacity)).collect()
    }

    fn epoch(number: u64, members: &[(u8, u64)]) -> Epoch {
        let members = members.iter().map(|(n, weight)| EpochMember { id: id(*n), weight: *weight }).collect();
        Epoch { number, members, copies: 1 }
    }

    fn next(
        epochs: &mut Epochs,
        current: Option<&Epoch>,
        caches: &[(u8, u64)],
        now: Duration,
    ) -> Option<Epoch> {
        let found = current.map_or(Found::Nothing, |epoch| Found::Value(epoch.clone(), 5));
        let Action::Write { epoch, expect } = epochs.looked(&found, &present(caches), now)?;
        assert_eq!(expect, current.map_or(Expect::Absent, |_| Expect::Revision(5)));
        Some(epoch)
    }

    #[test]
    fn first_joins_capacities_and_drains_change_the_epoch_at_once() {
        let mut epochs = Epochs::new(LIMIT, None);
        assert_eq!(next(&mut epochs, None, &[], NOW), None, "nobody there, nothing to own");
        assert_eq!(next(&mut epochs, None, &[(2, 0)], NOW), None, "no room is no share");
        let first = next(&mut epochs, None, &[(2, 5), (1, 7)], NOW).unwrap();
        assert_eq!(first, epoch(1, &[(1, 7), (2, 5)]), "in order of ids");
        assert_eq!(next(&mut epochs, Some(&first), &[(2, 5), (1, 7)], NOW), None);
        let grown = next(&mut epochs, Some(&first), &[(1, 7), (2, 6), (3, 1)], NOW);
        assert_eq!(grown, Some(epoch(2, &[(1, 7), (2, 6), (3, 1)])));
        let drained = next(&mut epochs, Some(&first), &[(1, 0), (2, 5)], NOW);
        assert_eq!(
            drained,
            Some(epoch(3, &[(1, 0), (2, 5)])),
            "it owns nothing, but is known; 2 may have been read"
        );
    }

    #[test]
    fn an_absence_counts_from_its_beginning_and_only_in_one_piece() {
        let (mut epochs, start) = (Epochs::new(LIMIT, None), NOW);
        let old = epoch(4, &[(1, 7), (2, 5)]);
        let alone = &[(1, 7)];
        assert_eq!(next(&mut epochs, Some(&old), alone, start), None);
        assert_eq!(next(&mut epochs, Some(&old), alone, start + LIMIT - Duration::from_millis(1)), None);
        let back = next(&mut epochs, Some(&old), &[(1, 7), (2, 5)], start + LIMIT);
        assert_eq!(back, None, "it came back in time");
        let away_again = start + LIMIT * 2;
        assert_eq!(next(&mut epochs, Some(&old), alone, away_again), None);
        let given_up = next(&mut epochs, Some(&old), alone, away_again + LIMIT);
        assert_eq!(given_up, Some(epoch(5, &[(1, 7)])));
        let nobody = next(&mut epochs, Some(&old), &[], away_again + LIMIT);
        assert_eq!(nobody, Some(epoch(5, &[(1, 7)])), "the other has only just gone");
    }

    #[test]
    fn an_emptied_store_gets_the_owners_back_above_the_number_seen() {
        let mut epochs = Epochs::new(LIMIT, None);
        let old = epoch(4, &[(1, 7), (2, 5)]);
        let all = &[(1, 7), (2, 5)];
        assert_eq!(next(&mut epochs, Some(&old), all, NOW), None);
        let again = next(&mut epochs, None, &[(1, 7)], NOW);
        assert_eq!(again, Some(epoch(5, &[(1, 7), (2, 5)])), "who is away for a moment stays an owner");
        let others = epoch(1, &[(1, 7)]);
        let above = next(&mut epochs, Some(&others), all, NOW);
        assert_eq!(above, Some(epoch(5, &[(1, 7), (2, 5)])), "one who knew nothing was faster");
        assert_eq!(next(&mut epochs, above.as_ref(), all, NOW), None);
        assert_eq!(epochs.looked(&Found::Unreadable(9), &present(all), NOW), None);
    }

    #[test]
    fn wanted_copies_make_an_epoch_once() {
        let mut epochs = Epochs::new(LIMIT, Some(2));
        assert_eq!(next(&mut epochs, None, &[], NOW), None, "nobody there to hold any");
        let old = epoch(4, &[(1, 7), (2, 5)]);
        let two = next(&mut epochs, Some(&old), &[(1, 7), (2, 5)], NOW).unwrap();
        assert_eq!(two, Epoch { copies: 2, ..epoch(5, &[(1, 7), (2, 5)]) });
        let again = next(&mut epochs, Some(&old), &[(1, 7), (2, 5)], NOW);
        assert_eq!(again, Some(two.clone()), "not written yet");
        assert_eq!(next(&mut epochs, Some(&two), &[(1, 7), (2, 5)], NOW), None);
        let three = Epoch { copies: 3, number: 6, ..two };
        assert_eq!(
            next(&mut epochs, Some(&three), &[(1, 7), (2, 5)], NOW),
            None,
            "another was told so later"
        );
        let lost = next(&mut epochs, None, &[(1, 7)], NOW).unwrap();
        assert_eq!((lost.number, lost.copies), (7, 3), "a store that was emptied gets them back");
        let mut silent = Epochs::new(LIMIT, None);
        let grown = next(&mut silent, Some(&three), &[(1, 9), (2, 5)], NOW).unwrap();
        assert_eq!((grown.number, grown.copies), (7, 3));
    }

    /// Whether it is heard that a write was done or not.
    #[test]
    fn two_that_were_told_different_numbers_do_not_write_against_each_other() {
        for is_heard in [true, false] {
            let mut both = [2, 3].map(|copies| Epochs::new(LIMIT, Some(copies)));
            let (mut store, mut written) = (None::<Epoch>, 0);
            for look in 0..40 {
                let machine = &mut both[look % 2];
                if let Some(epoch) = next(machine, store.as_ref(), &[(1, 7), (2, 5)], NOW) {
                    store = Some(epoch);
                    written += 1;
                    if is_heard {
                        machine.wrote();
                    }
                }
            }
            assert!((1..=10).contains(&written), "{written} epochs");
            assert!([2, 3].contains(&store.unwrap().copies));
        }
    }

    #[test]
    fn an_epoch_never_outgrows_its_message() {
        let mut epochs = Epochs::new(LIMIT, None);
        let crowd: BTreeMap<_, _> =
            (0..MAX_EPOCH_MEMBERS as u128 + 9).map(|n| (InstanceId(n.to_be_bytes()), 1)).collect();
        let Some(Action::Write { epoch, .. }) = epochs.looked(&Found::Nothing, &crowd, NOW) else { panic!() };
        assert_eq!(epoch.members.len(), MAX_EPOCH_MEMBERS);
        assert_eq!(epochs.looked(&Found::Value(epoch, 1), &crowd, NOW), None);
    }

    proptest! {
        #[test]
        fn numbers_only_grow_and_present_caches_are_owners(
            looks in prop::collection::vec((prop::collection::btree_map(0u8..5, 0u64..3, 0..5), 0u8..6, 0u64..1200), 0..60),
        ) {
            let mut epochs = Epochs::new(LIMIT, None);
            let (mut store, mut highest, mut now) = (None::<Epoch>, epoch(0, &[]), NOW);
            for (caches, fate, seconds) in looks {
                now += Duration::from_secs(seconds);
                if fate == 0 {
                    store = None;
                }
                let caches: Vec<_> = caches.into_iter().collect();
                if let Some(epoch) = next(&mut epochs, store.as_ref(), &caches, now) {
                    prop_assert!(epoch.number > highest.number || epoch == highest);
                    prop_assert!(epoch.members.is_sorted_by(|a, b| a.id < b.id));
                    if fate > 1 {
                        highest = epoch.clone();
                        store = Some(epoch);
                    }
                }
                let read = store.as_ref().filter(|_| fate > 1);
                for (n, capacity) in caches.iter().filter(|(_, capacity)| *capacity > 0) {
                    let member = EpochMember { id: id(*n), weight: *capacity };
                    prop_assert!(read.is_none_or(|epoch| epoch.members.contains(&member)));
                }
            }
        }
    }
}
