//! Which slot holds what: the store's index, without I/O.

use super::ItemId;
use std::collections::HashMap;

/// Where an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub slot: u64,
    pub epoch: u64,
    /// Tells this entry from every other, also from a later one in the same slot.
    stamp: u64,
}

/// The index and the free slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    entries: HashMap<ItemId, Entry>,
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

    pub fn get(&self, id: ItemId) -> Option<Entry> {
        self.entries.get(&id).copied()
    }

    pub fn items(&self) -> Vec<(ItemId, u64)> {
        self.entries.iter().map(|(id, entry)| (*id, entry.epoch)).collect()
    }

    /// Names the slot of an item; the earlier entry, if any, is for the caller to clear.
    pub fn insert(&mut self, id: ItemId, slot: u64, epoch: u64) -> Option<Entry> {
        self.stamps += 1;
        self.entries.insert(id, Entry { slot, epoch, stamp: self.stamps })
    }

    /// Takes an item out of the index; its slot is not free yet.
    pub fn remove(&mut self, id: ItemId) -> Option<Entry> {
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
