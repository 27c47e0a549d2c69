//! Which slot holds what: the store's index, without I/O.

use super::{ItemId, ItemKind};
use consensus::piece::PieceIndex;
use consensus::piece_set::PieceSet;
use std::collections::{BTreeMap, HashMap};

/// Where an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub slot: u64,
    pub epoch: u64,
    /// Tells this entry from every other, also from a later one in the same slot.
    pub stamp: u64,
}

/// The index and the free slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    entries: HashMap<ItemId, Entry>,
    /// The pieces among them, by segment: none of the sets is empty.
    pieces: BTreeMap<u64, PieceSet>,
    free: Vec<u64>,
    /// Slots the file has.
    in_file: u64,
    capacity: u64,
    stamps: u64,
}

impl Slots {
    /// Of a file of so many slots, none of them known yet.
    pub fn new(in_file: u64, capacity: u64) -> Self {
        Self { in_file, capacity: capacity.max(in_file), ..Self::default() }
    }

    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub fn in_file(&self) -> u64 {
        self.in_file
    }

    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Slots that are free, those by which the file may grow included.
    pub fn room(&self) -> u64 {
        self.free.len() as u64 + self.capacity.saturating_sub(self.in_file)
    }

    pub fn get(&self, id: ItemId) -> Option<Entry> {
        self.entries.get(&id).copied()
    }

    pub fn items(&self) -> Vec<(ItemId, u64)> {
        self.entries.iter().map(|(id, entry)| (*id, entry.epoch)).collect()
    }

    /// Which pieces of a segment there are.
    pub fn pieces(&self, segment_index: u64) -> PieceSet {
        self.pieces.get(&segment_index).copied().unwrap_or_default()
    }

    /// The segments of which there is a piece.
    pub fn segments(&self) -> Vec<u64> {
        self.pieces.keys().copied().collect()
    }

    /// The last segment of which there is a piece.
    pub fn last_segment(&self) -> Option<u64> {
        self.pieces.last_key_value().map(|(segment_index, _)| *segment_index)
    }

    /// Names the slot of an item; the earlier entry, if any, is for the caller to clear. The new one's stamp beside it.
    pub fn insert(&mut self, id: ItemId, slot: u64, epoch: u64) -> (Option<Entry>, u64) {
        self.stamps += 1;
        if let Some(piece) = piece_of(id) {
            self.pieces.entry(piece.segment_index()).or_default().insert(piece.position());
        }
        let stamp = self.stamps;
        (self.entries.insert(id, Entry { slot, epoch, stamp }), stamp)
    }

    /// Takes an item out of the index; its slot is not free yet.
    pub fn remove(&mut self, id: ItemId) -> Option<Entry> {
        if let Some(piece) = piece_of(id)
            && let Some(pieces) = self.pieces.get_mut(&piece.segment_index())
        {
            pieces.remove(piece.position());
            if pieces.is_empty() {
                self.pieces.remove(&piece.segment_index());
            }
        }
        self.entries.remove(&id)
    }

    /// Takes an item out whose slot shall not be used again.
    pub fn retire(&mut self, id: ItemId) {
        if let Some(entry) = self.remove(id) {
            self.retire_slot(entry.slot);
        }
    }

    /// A slot that is in neither list is not used until the store is opened again.
    pub fn retire_slot(&mut self, slot: u64) {
        tracing::warn!("slot {slot} of the cache is not used any more: the disk refuses it");
    }

    pub fn free(&mut self, slot: u64) {
        self.free.push(slot);
    }

    pub fn take_free(&mut self) -> Option<u64> {
        self.free.pop()
    }

    /// The file now has so many slots, the new ones are free.
    pub fn grow(&mut self, in_file: u64) {
        // The lowest first: the last of the list is taken next.
        self.free.splice(0..0, (self.in_file..in_file).rev());
        self.in_file = in_file;
    }

    /// The file cannot have more slots than these.
    pub fn limit(&mut self, capacity: u64) {
        self.capacity = capacity;
    }
}

/// The piece that an item is, if it is one.
fn piece_of(id: ItemId) -> Option<PieceIndex> {
    (id.kind == ItemKind::Piece).then_some(PieceIndex(id.index))
}
