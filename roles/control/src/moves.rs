//! What an epoch gives to whom, and what it moves: told to an operator before it is written.

use std::collections::BTreeMap;

use crate::ids::InstanceId;
use crate::messages::{Epoch, EpochMember};
use crate::rendezvous::Owners;
use consensus::constants::SEGMENT_PIECES;

/// The epoch after `old` of the caches that are `present`, with their capacities: whoever is away is none of it. None where nobody
/// could own anything.
pub fn reinitialized(old: Option<&Epoch>, present: &BTreeMap<InstanceId, u64>) -> Option<Epoch> {
    let members: Vec<_> =
        present.iter().map(|(id, capacity)| EpochMember { id: *id, weight: *capacity }).collect();
    let number = old.map_or(0, |epoch| epoch.number).saturating_add(1);
    let copies = old.map_or(1, |epoch| epoch.copies);
    members.iter().any(|member| member.weight > 0).then_some(Epoch { number, members, copies })
}

/// What one cache owns after an epoch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Which.
    pub id: InstanceId,
    /// Pieces it has room for.
    pub capacity: u64,
    /// Pieces of which it is an owner.
    pub owns: u64,
    /// Those of them that were not its own before.
    pub gains: u64,
}

/// What an epoch of so many segments gives to whom, and what others owned in the one before. In order of ids.
pub fn shares(old: Option<&Epoch>, new: &Epoch, segments: u64) -> Vec<Share> {
    let (before, after) = (old.map(Owners::new), Owners::new(new));
    let none = |member: &EpochMember| Share { id: member.id, capacity: member.weight, owns: 0, gains: 0 };
    let mut shares: BTreeMap<_, _> = new.members.iter().map(|member| (member.id, none(member))).collect();
    for index in 0..segments.saturating_mul(SEGMENT_PIECES as u64) {
        let had = before.as_ref().map(|owners| owners.of_piece(index)).unwrap_or_default();
        for owner in after.of_piece(index) {
            if let Some(share) = shares.get_mut(&owner) {
                share.owns += 1;
                share.gains += u64::from(!had.contains(&owner));
            }
        }
    }
    shares.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> InstanceId {
        InstanceId([n; 16])
    }

    fn present(caches: &[(u8, u64)]) -> BTreeMap<InstanceId, u64> {
        caches.iter().map(|(n, capacity)| (id(*n), *capacity)).collect()
    }

    #[test]
    fn who_is_away_is_none_of_it_and_a_fifth_moves_to_a_fifth() {
        assert_eq!(reinitialized(None, &present(&[])), None);
        assert_eq!(reinitialized(None, &present(&[(1, 0)])), None, "it drains");
        let four = reinitialized(None, &present(&[(1, 9), (2, 9), (3, 9), (4, 9)])).unwrap();
        assert_eq!(four.number, 1);
        let all = shares(None, &four, 4);
        assert!(all.iter().all(|share| share.owns == share.gains && share.capacity == 9));
        assert_eq!(all.iter().map(|share| share.owns).sum::<u64>(), 1024);
        let five = reinitialized(Some(&four), &present(&[(1, 9), (2, 9), (3, 9), (4, 9), (5, 9)])).unwrap();
        let gains: Vec<_> = shares(Some(&four), &five, 4).iter().map(|share| share.gains).collect();
        assert!(gains[..4] == [0; 4] && (160..250).contains(&gains[4]), "{gains:?}");
        let three = reinitialized(Some(&five), &present(&[(1, 9), (2, 9), (3, 9)])).unwrap();
        assert_eq!((three.number, three.members.len()), (3, 3));
        let again = reinitialized(Some(&three), &present(&[(1, 9), (2, 9), (3, 9)])).unwrap();
        assert!(shares(Some(&three), &again, 4).iter().all(|share| share.gains == 0), "nothing moves");
    }
}
