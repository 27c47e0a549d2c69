//! Who owns an item: weighted rendezvous hashing over an epoch's members (DESIGN 3).
//!
//! Each member draws a number in (0, 1) from (item, member) and scores `weight / -ln(number)`; the highest scores
//! own the item. A member's share is its weight's share, and a change of one member moves only its own items.
//!
//! Every party computes this alone and must come to the same answer, so only IEEE additions, multiplications and
//! divisions are used (`ln` below is our own: a C library's may differ in its last bit). Changing anything here moves
//! items in every cluster.

use super::messages::{Epoch, ItemKind, MAX_COPIES};
use crate::ids::InstanceId;

/// Owners that are given an item, or asked for it: the owners, and those who would be where one is away or full.
pub const OWNERS_TRIED: usize = MAX_COPIES as usize + 2;

/// An epoch made ready for look-ups.
#[derive(Debug, Clone)]
pub struct Owners {
    members: Vec<Candidate>,
    copies: usize,
}

#[derive(Debug, Clone)]
struct Candidate {
    id: InstanceId,
    hash: u64,
    weight: f64,
}

impl Owners {
    /// Ready for look-ups in `epoch`. Members without weight own nothing.
    pub fn new(epoch: &Epoch) -> Self {
        let with_weight = epoch.members.iter().filter(|member| member.weight > 0);
        // Weights are bytes or slots; beyond 2^53 the rounding is the same for everybody.
        let candidate = |member: &super::messages::EpochMember| Candidate {
            id: member.id,
            hash: hash_id(member.id),
            weight: member.weight as f64,
        };
        Self { members: with_weight.map(candidate).collect(), copies: epoch.copies.max(1).into() }
    }

    /// Who is to hold a piece: as many as the epoch says, or as there are.
    pub fn of_piece(&self, piece_index: u64) -> Vec<InstanceId> {
        self.of(ItemKind::Piece, piece_index, self.copies)
    }

    /// Whether nobody owns anything.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The `count` owners of an item, first the one to ask first; fewer if there are not so many members. A piece
    /// and its parity hash alike; the parity starts at the second owner, so the two come from different shards.
    pub fn of(&self, kind: ItemKind, piece_index: u64, count: usize) -> Vec<InstanceId> {
        let mut owners = self.best(piece_index, count.saturating_add(1));
        if kind == ItemKind::ParityPiece && !owners.is_empty() {
            owners.rotate_left(1);
        }
        owners.truncate(count);
        owners
    }

    fn best(&self, piece_index: u64, count: usize) -> Vec<InstanceId> {
        let item = mix(piece_index);
        let mut best: Vec<(f64, &Candidate)> = Vec::new();
        for member in &self.members {
            let score = member.weight / -ln(unit(mix(item ^ member.hash)));
            // Equal scores go to the lower id, which comes first.
            let at = best.partition_point(|(other, _)| *other >= score);
            if at < count {
                best.insert(at, (score, member));
                best.truncate(count);
            }
        }
        best.into_iter().map(|(_, member)| member.id).collect()
    }
}

/// Tells an epoch from every other, also of the same number: a store that was emptied may begin to count anew.
pub fn fingerprint(epoch: &Epoch) -> u64 {
    let member = |hash: u64, member: &super::messages::EpochMember| {
        mix(hash ^ hash_id(member.id) ^ mix(member.weight.wrapping_mul(3)))
    };
    epoch.members.iter().fold(mix(epoch.number ^ u64::from(epoch.copies) << 56), member)
}

fn hash_id(id: InstanceId) -> u64 {
    let (high, low) = id.0.split_at(8);
    let word = |half: &[u8]| u64::from_le_bytes(half.try_into().expect("half of 16 bytes"));
    mix(word(high) ^ mix(word(low)))
}

/// A bijection of 64 bits that leaves no visible order (the finalizer of SplitMix64).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// 52 bits as a number strictly between 0 and 1, without rounding.
fn unit(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// Natural logarithm of a number in (0, 1), to about 1e-15: the exponent apart, then 2 atanh((m-1)/(m+1)).
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i32 - 1022;
    // Mantissa in [0.5, 1).
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1022 << 52));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for term in (0..16).rev() {
        sum = sum * square + 1.0 / f64::from(2 * term + 1);
    }
    f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * s * sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::EpochMember;
    use std::collections::HashMap;

    const ITEMS: u64 = 40_000;

    fn owners(weights: &[u64]) -> Owners {
        let id = |n: usize| InstanceId((n as u128 + 1).to_be_bytes());
        let member = |(n, &weight): (usize, &u64)| EpochMember { id: id(n), weight };
        let members = weights.iter().enumerate().map(member).collect();
        Owners::new(&Epoch { number: 1, members, copies: 1 })
    }

    fn shares(owners: &Owners) -> HashMap<InstanceId, f64> {
        let mut shares = HashMap::new();
        for item in 0..ITEMS {
            *shares.entry(owners.of(ItemKind::Piece, item, 1)[0]).or_insert(0.0) += 1.0 / ITEMS as f64;
        }
        shares
    }

    #[test]
    fn shares_follow_weights() {
        let weights = [1u64, 2, 4, 8, 1 << 43];
        let shares_of_last = shares(&owners(&weights));
        assert!(shares_of_last[&InstanceId(5u128.to_be_bytes())] > 0.999);
        let shares = shares(&owners(&weights[..4]));
        for (n, weight) in [1.0, 2.0, 4.0, 8.0].into_iter().enumerate() {
            let found = shares[&InstanceId((n as u128 + 1).to_be_bytes())];
            assert!((found - weight / 15.0).abs() < 0.012, "member {n}: {found}");
        }
    }

    #[test]
    fn only_items_of_the_changed_member_move() {
        let before = owners(&[5, 5, 5, 5]);
        let drained = owners(&[5, 5, 0, 5]);
        let gone = InstanceId(3u128.to_be_bytes());
        let mut moved = 0;
        for item in 0..ITEMS {
            let old = before.of(ItemKind::Piece, item, 2);
            let new = drained.of(ItemKind::Piece, item, 1);
            if old[0] == gone {
                moved += 1;
                assert_eq!(new[0], old[1], "the next owner becomes the owner");
            } else {
                assert_eq!(new[0], old[0]);
            }
        }
        assert!((ITEMS / 5..ITEMS * 3 / 10).contains(&moved), "{moved}");
    }

    #[test]
    fn a_newcomer_takes_its_share_and_nothing_else_moves() {
        let (before, after) = (owners(&[5, 5, 5]), owners(&[5, 5, 5, 5]));
        let newcomer = InstanceId(4u128.to_be_bytes());
        for item in 0..ITEMS {
            let new = after.of(ItemKind::Piece, item, 1)[0];
            assert!(new == newcomer || new == before.of(ItemKind::Piece, item, 1)[0]);
        }
    }

    #[test]
    fn owners_are_distinct_and_as_many_as_there_are() {
        let owners = owners(&[3, 1, 0, 2]);
        for item in 0..100 {
            let (piece, parity) =
                (owners.of(ItemKind::Piece, item, 2), owners.of(ItemKind::ParityPiece, item, 1));
            assert_eq!(piece[1], parity[0], "parity lies on another shard");
            let mut found = owners.of(ItemKind::Piece, item, 9);
            assert_eq!(found[..2], piece, "a longer list starts the same");
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), 3);
        }
        assert!(owners.of(ItemKind::Piece, 1, 0).is_empty());
        assert!(self::owners(&[]).of(ItemKind::Piece, 1, 3).is_empty());
    }

    #[test]
    fn our_logarithm_is_the_logarithm() {
        for bits in [0, 1, 12345, u64::MAX / 3, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            let x = unit(bits);
            assert!(x > 0.0 && x < 1.0);
            assert!((ln(x) - x.ln()).abs() <= 4e-15 * x.ln().abs().max(0.1), "{x}");
            assert!(ln(x) < 0.0, "a score is positive and finite");
        }
    }

    /// Pins the function: another answer here moves items in every cluster.
    #[test]
    fn known_owners() {
        let owners = owners(&[1, 2, 3, 4, 5]);
        let first = |item| owners.of(ItemKind::Piece, item, 1)[0].0[15];
        let found: Vec<u8> = (0..12).map(first).collect();
        assert_eq!(found, KNOWN);
    }
    const KNOWN: [u8; 12] = [5, 4, 4, 3, 5, 4, 5, 1, 4, 4, 5, 5];
}
