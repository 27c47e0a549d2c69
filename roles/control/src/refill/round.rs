//! A round and where it is.

use super::sources::Peers;
use super::words::{ASK_SEGMENTS_MAX, Action, Pieces};
use crate::ids::InstanceId;
use crate::rendezvous::Owners;
use consensus::piece::PieceIndex;
use consensus::piece_set::PieceSet;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
pub enum Round {
    Idle,
    /// The own store is asked what it holds.
    Looking,
    Comparing {
        held: Pieces,
        /// Segments from here on are compared.
        next: u64,
        lacking: Lacking,
        surplus: Lacking,
    },
    Pulling {
        lacking: Lacking,
        surplus: Lacking,
        underway: BTreeSet<u64>,
    },
    Asking {
        surplus: Lacking,
        stretch: Option<Stretch>,
    },
}

impl Round {
    /// Of the history, and of what is held beyond it.
    pub fn comparing(held: Pieces, history: u64) -> Self {
        let beyond = held.last_key_value().map_or(0, |(segment, _)| segment.saturating_add(1));
        let (next, lacking, surplus) = (history.max(beyond), Lacking::default(), Lacking::default());
        Self::Comparing { held, next, lacking, surplus }
    }
}

/// How many pieces these are.
pub fn count(pieces: &Pieces) -> u64 {
    pieces.values().map(|set| positions(set).count() as u64).sum()
}

/// Pieces that are in one set and lacking in another.
#[derive(Debug, Clone, Default)]
pub struct Lacking(Pieces);

impl Lacking {
    /// Those of a segment that are in `these` and not in `those`.
    pub fn add(&mut self, segment: u64, these: PieceSet, those: PieceSet) {
        let mut set = PieceSet::EMPTY;
        let lacking = |position: &u8| these.contains(*position) && !those.contains(*position);
        (0..=u8::MAX).filter(lacking).for_each(|position| set.insert(position));
        if !set.is_empty() {
            self.0.insert(segment, set);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn count(&self) -> u64 {
        count(&self.0)
    }

    pub fn segments(&self) -> usize {
        self.0.len()
    }

    /// Takes out a piece of the newest segment.
    pub fn take_newest(&mut self) -> Option<u64> {
        let (segment, mut set) = self.0.pop_last()?;
        let position = positions(&set).next()?;
        set.remove(position);
        if !set.is_empty() {
            self.0.insert(segment, set);
        }
        PieceIndex::new(segment, position).map(|index| index.0)
    }

    /// Takes out the newest segments that fit one question, with whom to ask about which pieces. None when none are left; those of whose
    /// owners one is not present are passed over.
    pub fn next_stretch(&mut self, owners: &Owners, peers: &Peers) -> Option<Stretch> {
        while let Some((&last, _)) = self.0.last_key_value() {
            let from_segment = (last + 1).saturating_sub(ASK_SEGMENTS_MAX.into());
            let segments = u16::try_from(last + 1 - from_segment).unwrap_or(ASK_SEGMENTS_MAX);
            let (mut by_owner, mut unconfirmed) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::new());
            for (segment, set) in self.0.split_off(&from_segment) {
                let indexes = positions(&set).filter_map(|position| PieceIndex::new(segment, position));
                for index in indexes {
                    let owners = owners.of_piece(index.0);
                    if owners.is_empty() || !owners.iter().all(|owner| peers.sharded.contains(owner)) {
                        continue;
                    }
                    unconfirmed.insert(index.0, owners.len());
                    owners.into_iter().for_each(|owner| by_owner.entry(owner).or_default().push(index.0));
                }
            }
            if !by_owner.is_empty() {
                return Some(Stretch { from_segment, segments, owners: by_owner, unconfirmed });
            }
        }
        None
    }
}

pub fn positions(set: &PieceSet) -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(|position| set.contains(*position))
}

/// Segments about which owners are asked.
#[derive(Debug, Clone)]
pub struct Stretch {
    pub from_segment: u64,
    segments: u16,
    /// Who has not answered yet, and the pieces that he should have.
    pub owners: BTreeMap<InstanceId, Vec<u64>>,
    /// Owners of each piece that have not said yet that they have it.
    unconfirmed: BTreeMap<u64, usize>,
}

impl Stretch {
    /// An owner has a piece. Whether now all of its owners have said so.
    pub fn confirmed(&mut self, index: u64) -> bool {
        let Some(left) = self.unconfirmed.get_mut(&index) else { return false };
        *left = left.saturating_sub(1);
        *left == 0
    }

    pub fn questions(&self) -> impl Iterator<Item = Action> {
        let (from_segment, segments) = (self.from_segment, self.segments);
        self.owners.keys().map(move |&owner| Action::Ask { owner, from_segment, segments })
    }
}
