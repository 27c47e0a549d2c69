//! Who should have a piece, and who may.

use crate::ids::InstanceId;
use crate::messages::ItemKind;
use crate::rendezvous::{OWNERS_TRIED, Owners};
use consensus::piece::PieceIndex;
use consensus::piece_set::PieceSet;
use std::collections::BTreeSet;

/// Members that are present and give pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// Sharded caches.
    pub sharded: BTreeSet<InstanceId>,
    /// Full-piece caches.
    pub full: BTreeSet<InstanceId>,
    /// Controllers.
    pub controllers: BTreeSet<InstanceId>,
}

impl Peers {
    /// Whether there is one among them that is not among `others`.
    pub fn has_others_than(&self, others: &Self) -> bool {
        !self.sharded.is_subset(&others.sharded)
            || !self.full.is_subset(&others.full)
            || !self.controllers.is_subset(&others.controllers)
    }
}

/// Whom to ask for a piece, in order: those who own it or would, a full-piece cache, the other sharded caches (they may own it no more and
/// hold it still), and the controllers, which may have its segment in their spool, have it of their node, or rebuild it. The same controller
/// first for all pieces of a segment, so that one rebuilds it.
pub fn sources(owners: Option<&Owners>, peers: &Peers, me: InstanceId, index: u64) -> Vec<InstanceId> {
    let first = owners.map(|owners| owners.of(ItemKind::Piece, index, OWNERS_TRIED)).unwrap_or_default();
    let mut from: Vec<_> = first.into_iter().filter(|id| peers.sharded.contains(id)).collect();
    from.extend(rotated(&peers.full, index));
    let others: Vec<_> = rotated(&peers.sharded, index).filter(|id| !from.contains(id)).collect();
    from.extend(others);
    from.extend(rotated(&peers.controllers, PieceIndex(index).segment_index()));
    from.retain(|id| *id != me);
    from
}

/// All of them, begun at another for each number: equals share the work.
fn rotated(ids: &BTreeSet<InstanceId>, number: u64) -> impl Iterator<Item = InstanceId> {
    let first = if ids.is_empty() { 0 } else { (number % ids.len() as u64) as usize };
    ids.iter().skip(first).chain(ids.iter().take(first)).copied()
}

/// The pieces of a segment of which `me` is an owner.
pub fn owned(owners: &Owners, me: InstanceId, segment: u64) -> PieceSet {
    let mut set = PieceSet::EMPTY;
    for position in 0..=u8::MAX {
        let index = PieceIndex::new(segment, position);
        if index.is_some_and(|index| owners.of_piece(index.0).contains(&me)) {
            set.insert(position);
        }
    }
    set
}

/// Whether a piece is in the sets of segments that begin with this one.
pub fn has(sets: &[PieceSet], from_segment: u64, index: u64) -> bool {
    let index = PieceIndex(index);
    let at = index.segment_index().checked_sub(from_segment).and_then(|at| usize::try_from(at).ok());
    at.and_then(|at| sets.get(at)).is_some_and(|set| set.contains(index.position()))
}
