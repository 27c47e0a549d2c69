//! Which segments are placed, by what the caches say that they hold (DESIGN 3: what a cache holds is on its disk).
//!
//! As strict as placing of one copy is: each piece lies with its owner in the present epoch or with one of those who would be
//! ([`OWNERS_TRIED`]), or in a full-piece cache; that is where readers ask. A cache that does not answer has nothing. Further
//! copies do not count here: the caches make them of what is history, and it would have none while they wait for it.

use std::collections::BTreeMap;

use crate::ids::InstanceId;
use crate::messages::{Epoch, HoldingsAnswer, HoldingsRequest, ItemKind};
use crate::rendezvous::{OWNERS_TRIED, Owners};
use consensus::piece::PieceIndex;
use consensus::piece_set::PieceSet;

/// One question to all caches, and what has been answered.
#[derive(Debug)]
pub struct Survey {
    request: HoldingsRequest,
    owners: Owners,
    /// Sharded caches with a share in the epoch, and what they said.
    shards: BTreeMap<InstanceId, Vec<PieceSet>>,
    full: BTreeMap<InstanceId, Vec<PieceSet>>,
}

impl Survey {
    /// Asks for these segments, in this epoch, the present caches of both kinds.
    pub fn new(
        request: HoldingsRequest,
        epoch: &Epoch,
        sharded: impl IntoIterator<Item = InstanceId>,
        full: impl IntoIterator<Item = InstanceId>,
    ) -> Self {
        let has_share =
            |id: &InstanceId| epoch.members.iter().any(|member| member.id == *id && member.weight > 0);
        let nothing = |id| (id, Vec::new());
        let shards = sharded.into_iter().filter(has_share).map(nothing).collect();
        Self { request, owners: Owners::new(epoch), shards, full: full.into_iter().map(nothing).collect() }
    }

    /// What is asked.
    pub fn request(&self) -> &HoldingsRequest {
        &self.request
    }

    /// Who is asked.
    pub fn caches(&self) -> Vec<InstanceId> {
        self.shards.keys().chain(self.full.keys()).copied().collect()
    }

    /// What one of them answered. Whether it is an answer to this question: of more segments than were asked for nothing counts.
    pub fn answered(&mut self, cache: InstanceId, answer: &HoldingsAnswer) -> bool {
        let HoldingsAnswer::Held { pieces, .. } = answer else { return false };
        let said = self.shards.get_mut(&cache).or_else(|| self.full.get_mut(&cache));
        let Some(said) = said.filter(|_| pieces.len() <= usize::from(self.request.segments)) else {
            return false;
        };
        *said = pieces.iter().map(|bytes| PieceSet::from_bytes(*bytes)).collect();
        true
    }

    /// The segments that are placed, in order.
    pub fn placed(&self) -> Vec<u64> {
        let segments = (0..usize::from(self.request.segments)).zip(self.request.from_segment..);
        segments.filter(|(at, segment)| self.is_placed(*at, *segment)).map(|(_, segment)| segment).collect()
    }

    /// Whether the segment, which is the `at`th of those asked for, is.
    fn is_placed(&self, at: usize, segment_index: u64) -> bool {
        let of = |caches: &BTreeMap<InstanceId, Vec<PieceSet>>| {
            let sets = caches.values().filter_map(|said| said.get(at));
            sets.fold(PieceSet::EMPTY, |all, set| all.union(set))
        };
        let in_full = of(&self.full);
        // Owners are looked up only where all pieces are somewhere.
        in_full.union(&of(&self.shards)).is_full()
            && (0..=u8::MAX)
                .filter(|position| !in_full.contains(*position))
                .all(|position| self.has_owner(at, segment_index, position))
    }

    fn has_owner(&self, at: usize, segment_index: u64, position: u8) -> bool {
        let Some(index) = PieceIndex::new(segment_index, position) else { return false };
        let owners = self.owners.of(ItemKind::Piece, index.0, OWNERS_TRIED);
        let has_it = |set: &PieceSet| set.contains(position);
        owners.iter().any(|owner| self.shards.get(owner).and_then(|said| said.get(at)).is_some_and(has_it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::EpochMember;

    const FROM: u64 = 7;

    fn id(n: u8) -> InstanceId {
        InstanceId([n; 16])
    }

    fn epoch(weights: &[u64]) -> Epoch {
        let member = |(n, weight): (u8, &u64)| EpochMember { id: id(n), weight: *weight };
        Epoch { number: 3, members: (1..).zip(weights).map(member).collect(), copies: 1 }
    }

    fn survey(epoch: &Epoch, sharded: &[u8], full: &[u8]) -> Survey {
        let request =
            HoldingsRequest { genesis_hash: [1; 32], from_segment: FROM, segments: 3, lets_go_by: None };
        let ids = |of: &[u8]| of.iter().copied().map(id).collect::<Vec<_>>();
        Survey::new(request, epoch, ids(sharded), ids(full))
    }

    fn held(sets: &[PieceSet]) -> HoldingsAnswer {
        HoldingsAnswer::Held { highest: Some(9), pieces: sets.iter().map(|set| set.to_bytes()).collect() }
    }

    /// What each cache is the first to own in a segment.
    fn owned(epoch: &Epoch, segment: u64, n: u8) -> PieceSet {
        let owners = Owners::new(epoch);
        let first = |position| {
            let index = PieceIndex::new(segment, position).unwrap().0;
            owners.of(ItemKind::Piece, index, 1)[0]
        };
        (0..=u8::MAX).filter(|position| first(*position) == id(n)).collect()
    }

    #[test]
    fn a_segment_is_placed_when_each_piece_lies_where_it_is_asked_for() {
        let epoch = epoch(&[5; 8]);
        let everybody = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut all = survey(&epoch, &everybody, &[]);
        assert_eq!(all.caches().len(), 8);
        for n in 1..=8 {
            let sets = [owned(&epoch, FROM, n), PieceSet::EMPTY, owned(&epoch, FROM + 2, n)];
            assert!(all.answered(id(n), &held(&sets)));
        }
        assert_eq!(all.placed(), [FROM, FROM + 2]);

        let mut one_is_silent = survey(&epoch, &everybody, &[]);
        for n in 1..=7 {
            one_is_silent.answered(id(n), &held(&[owned(&epoch, FROM, n)]));
        }
        assert!(one_is_silent.placed().is_empty());

        let mut misplaced = survey(&epoch, &everybody, &[]);
        misplaced.answered(id(1), &held(&[PieceSet::FULL]));
        assert!(misplaced.placed().is_empty(), "it has all, and is asked for five eighths of them");
    }

    #[test]
    fn a_full_cache_has_what_owners_lack() {
        let epoch = epoch(&[5, 5]);
        let mut survey = survey(&epoch, &[1, 2], &[9, 8]);
        let half = (0..128).collect();
        survey.answered(id(9), &held(&[half, PieceSet::FULL, half]));
        assert_eq!(survey.placed(), [FROM + 1]);
        survey.answered(id(2), &held(&[PieceSet::EMPTY, PieceSet::EMPTY, (128..=255).collect()]));
        assert_eq!(survey.placed(), [FROM + 1, FROM + 2]);
        survey.answered(id(8), &held(&[(128..=255).collect()]));
        assert_eq!(survey.placed(), [FROM, FROM + 1, FROM + 2]);
    }

    #[test]
    fn who_has_no_share_is_not_asked_and_what_does_not_fit_does_not_count() {
        let epoch = epoch(&[5, 0]);
        let mut survey = survey(&epoch, &[1, 2, 3], &[]);
        assert_eq!(survey.caches(), [id(1)], "2 drains, 3 is not of the epoch");
        let full = [PieceSet::FULL; 4];
        assert!(!survey.answered(id(2), &held(&full[..1])));
        assert!(!survey.answered(id(1), &held(&full)), "more than was asked for");
        assert!(!survey.answered(id(1), &HoldingsAnswer::Refused { reason: "busy".to_owned() }));
        assert!(survey.placed().is_empty());
        assert!(survey.answered(id(1), &held(&full[..3])));
        assert_eq!(survey.placed(), [FROM, FROM + 1, FROM + 2]);
    }
}
