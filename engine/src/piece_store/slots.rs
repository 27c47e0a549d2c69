//! Which slot holds what: the store's index in memory, without I/O.
//!
//! ```text
//!             ┌────────────▶ Free ──claim──▶ Claimed ──take_claimed──▶ Busy (written) ──insert──▶ Held
//!   Unknown ──┤               ▲                                          │ error                   │ remove, replaced
//!             └▶ Held         └──────────── cleared ────── Busy ◀────────┼─────────────────────────┘
//!                                                            └─ error ─▶ Retired
//! ```

use super::index::{Note, SLOTS_A_BLOCK};
use super::{ItemId, ItemKind};
use consensus::piece::PieceIndex;
use consensus::piece_set::PieceSet;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;

/// Where an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub slot: u64,
    pub epoch: u64,
    /// Tells this entry from every other, also from a later one in the same slot.
    pub stamp: u64,
}

/// What is known of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// Nothing yet.
    #[default]
    Unknown,
    /// Its header is zero.
    Free,
    /// Free, and in doubt on disk: to be written next.
    Claimed,
    /// It is being written or cleared.
    Busy,
    /// An item, and the index names it.
    Held(ItemId),
    /// The disk refuses it. Not used until the store is opened again.
    Retired,
}

/// What the index on disk says of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum OnDisk {
    /// Perhaps something definite.
    #[default]
    Definite,
    /// Doubt, once what is being written is durable.
    Doubtful,
    /// Doubt, durably.
    Doubted,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    state: State,
    /// Its header was read or written since the store was opened; before, the state is what the index on disk said.
    is_seen: bool,
    /// Its item is whole, for all that can be known: it was put or read since the store was opened, or its header is as the index on disk said,
    /// which named it when it was durable.
    is_whole: bool,
    on_disk: OnDisk,
}

/// The index and the free slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    entries: HashMap<ItemId, Entry>,
    /// The pieces among them, by segment: none of the sets is empty.
    pieces: BTreeMap<u64, PieceSet>,
    /// All that the file has.
    slots: Vec<Slot>,
    free: BTreeSet<u64>,
    claimed: VecDeque<u64>,
    /// Slots that are claimed, those included of which the index on disk is not in doubt yet.
    claims: u64,
    /// Slots that are cleared, or retired, whose headers may name an item: that is gone or replaced only when they are zero.
    suspects: HashMap<ItemId, Vec<u64>>,
    /// Blocks of the index on disk that do not say what is known here.
    changed: BTreeSet<u64>,
    capacity: u64,
    stamps: u64,
}

impl Slots {
    /// Of a file of so many slots, none of them known yet.
    pub fn new(in_file: u64, capacity: u64) -> Self {
        let count = usize::try_from(in_file).expect("64-bit platforms only");
        let slots = vec![Slot::default(); count];
        Self { slots, capacity: capacity.max(in_file), ..Self::default() }
    }

    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub fn in_file(&self) -> u64 {
        self.slots.len() as u64
    }

    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Slots that are free, those by which the file may grow included.
    pub fn room(&self) -> u64 {
        self.free.len() as u64 + self.claims + self.capacity.saturating_sub(self.in_file())
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

    /// Those of them that are whole.
    pub fn whole_pieces(&self, segment_index: u64) -> PieceSet {
        let set = self.pieces(segment_index);
        let is_whole = |position: &u8| {
            let index = PieceIndex::new(segment_index, *position);
            index.is_some_and(|index| self.is_whole(ItemId { kind: ItemKind::Piece, index: index.0 }))
        };
        (0..=u8::MAX).filter(|position| set.contains(*position)).filter(is_whole).collect()
    }

    /// The segments of which there is a piece.
    pub fn segments(&self) -> Vec<u64> {
        self.pieces.keys().copied().collect()
    }

    /// The last segment of which there is a piece.
    pub fn last_segment(&self) -> Option<u64> {
        self.pieces.last_key_value().map(|(segment_index, _)| *segment_index)
    }

    pub fn state(&self, slot: u64) -> State {
        self.slots[slot as usize].state
    }

    pub fn is_seen(&self, slot: u64) -> bool {
        self.slots[slot as usize].is_seen
    }

    pub fn set_seen(&mut self, slot: u64) {
        self.slots[slot as usize].is_seen = true;
    }

    pub fn set_whole(&mut self, slot: u64) {
        self.slots[slot as usize].is_whole = true;
    }

    /// Whether an item is here and whole.
    pub fn is_whole(&self, id: ItemId) -> bool {
        self.get(id).is_some_and(|entry| self.slots[entry.slot as usize].is_whole)
    }

    /// Names the slot of an item whose bytes were not looked at, and gives the entry's stamp; the slot of an earlier entry is for the caller to clear.
    pub fn insert(&mut self, id: ItemId, slot: u64, epoch: u64) -> u64 {
        if let Some(earlier) = self.get(id) {
            self.set(earlier.slot, State::Busy);
        }
        self.set_seen(slot);
        self.set(slot, State::Held(id));
        self.enter(id, slot, epoch);
        self.stamps
    }

    fn enter(&mut self, id: ItemId, slot: u64, epoch: u64) {
        self.stamps += 1;
        if let Some(piece) = piece_of(id) {
            self.pieces.entry(piece.segment_index()).or_default().insert(piece.position());
        }
        self.entries.insert(id, Entry { slot, epoch, stamp: self.stamps });
    }

    /// Takes an item out of the index; its slot is for the caller to clear.
    pub fn remove(&mut self, id: ItemId) -> Option<Entry> {
        if let Some(piece) = piece_of(id)
            && let Some(pieces) = self.pieces.get_mut(&piece.segment_index())
        {
            pieces.remove(piece.position());
            if pieces.is_empty() {
                self.pieces.remove(&piece.segment_index());
            }
        }
        let entry = self.entries.remove(&id);
        if let Some(entry) = entry {
            self.set(entry.slot, State::Busy);
        }
        entry
    }

    /// Takes an item out of the index, its slot being a suspect from now on; false if it was not there.
    pub fn let_go(&mut self, id: ItemId) -> bool {
        let Some(entry) = self.remove(id) else { return false };
        self.suspects.entry(id).or_default().push(entry.slot);
        true
    }

    /// Slots that may name an item which the index has not in them, for the caller to clear.
    pub fn take_suspects(&mut self, id: ItemId) -> Vec<u64> {
        self.suspects.remove(&id).unwrap_or_default()
    }

    /// Whether a slot could not be cleared yet.
    #[cfg(test)]
    pub fn is_suspect(&self, slot: u64) -> bool {
        self.suspects.values().flatten().any(|suspect| *suspect == slot)
    }

    /// A slot that could not be cleared yet.
    pub fn suspect(&mut self, slot: u64, id: Option<ItemId>) {
        if let Some(id) = id {
            self.suspects.entry(id).or_default().push(slot);
        }
    }

    /// A slot that shall not be used again. Its header may name `suspect`.
    pub fn retire(&mut self, slot: u64, suspect: Option<ItemId>) {
        if self.state(slot) != State::Retired {
            tracing::warn!("slot {slot} of the cache is not used any more: the disk refuses it");
        }
        self.set(slot, State::Retired);
        self.suspect(slot, suspect);
    }

    /// A slot whose header is known to be zero.
    pub fn free(&mut self, slot: u64) {
        self.claims -= u64::from(self.state(slot) == State::Claimed);
        self.set_seen(slot);
        self.set(slot, State::Free);
        self.free.insert(slot);
    }

    /// Takes a slot out of the list: there is something in it.
    pub fn take(&mut self, slot: u64) {
        self.free.remove(&slot);
        self.set(slot, State::Busy);
    }

    /// The next free slots, in the order of the file.
    pub fn next_free(&self, count: usize) -> Vec<u64> {
        self.free.iter().copied().take(count).collect()
    }

    /// Claims those of these slots that are free, and were seen to be.
    pub fn claim(&mut self, slots: &[u64]) -> Vec<u64> {
        let free = |slot: &u64| self.free.contains(slot) && self.is_seen(*slot);
        let claimed: Vec<_> = slots.iter().copied().filter(free).collect();
        for &slot in &claimed {
            self.free.remove(&slot);
            self.set(slot, State::Claimed);
            self.claims += 1;
        }
        claimed
    }

    /// Slots to be written next: the index on disk does not call them free any more.
    pub fn add_claimed(&mut self, slots: impl IntoIterator<Item = u64>) {
        self.claimed.extend(slots);
    }

    pub fn has_claimed(&self) -> bool {
        !self.claimed.is_empty()
    }

    pub fn take_claimed(&mut self) -> Option<u64> {
        let slot = self.claimed.pop_front()?;
        self.claims -= 1;
        self.set(slot, State::Busy);
        Some(slot)
    }

    /// The file now has so many slots, the new ones are free.
    pub fn grow(&mut self, in_file: u64) {
        let from = self.in_file();
        self.slots.resize(usize::try_from(in_file).expect("64-bit platforms only"), Slot::default());
        (from..in_file).for_each(|slot| self.free(slot));
    }

    /// The file cannot have more slots than these.
    pub fn limit(&mut self, capacity: u64) {
        self.capacity = capacity;
    }

    /// Believes what the index on disk says of a slot, until its header is read. Where it names an item twice, nothing is believed of both.
    pub fn believe(&mut self, slot: u64, note: Note) {
        match note {
            Note::Doubt => self.slots[slot as usize].on_disk = OnDisk::Doubted,
            Note::Free => {
                self.slots[slot as usize].state = State::Free;
                self.free.insert(slot);
            }
            Note::Item(id, epoch) => {
                if let Some(other) = self.remove(id) {
                    self.set(other.slot, State::Unknown);
                } else {
                    self.slots[slot as usize].state = State::Held(id);
                    self.enter(id, slot, epoch);
                }
            }
        }
    }

    /// Believes nothing of what [`Self::believe`] was told.
    pub fn doubt_all(&mut self) {
        *self = Self::new(self.in_file(), self.capacity);
    }

    /// Slots of which nothing is known yet, in the order of the file.
    pub fn unknown(&self) -> Vec<u64> {
        (0..self.in_file()).filter(|&slot| self.state(slot) == State::Unknown).collect()
    }

    /// Slots that are as the index on disk said, for all that is known.
    pub fn believed(&self) -> u64 {
        self.slots.iter().filter(|slot| !slot.is_seen && slot.state != State::Unknown).count() as u64
    }

    /// What the index on disk should say of a block's slots. What is said definitely counts at once as said, doubt when [`Self::doubted`].
    pub fn notes(&mut self, block: u64) -> Vec<Note> {
        let range = self.range_of(block);
        let mut notes = Vec::with_capacity(range.len());
        for slot in &mut self.slots[range] {
            let note = match slot.state {
                State::Free => Note::Free,
                State::Held(id) => Note::Item(id, self.entries[&id].epoch),
                State::Unknown | State::Claimed | State::Busy | State::Retired => Note::Doubt,
            };
            slot.on_disk = match (note, slot.on_disk) {
                (Note::Doubt, OnDisk::Doubted) => OnDisk::Doubted,
                (Note::Doubt, _) => OnDisk::Doubtful,
                _ => OnDisk::Definite,
            };
            notes.push(note);
        }
        notes
    }

    /// What [`Self::notes`] gave of a block is durable; or not, and then nothing is known but that doubt that was durable still is.
    pub fn noted(&mut self, block: u64, is_durable: bool) {
        let range = self.range_of(block);
        for slot in &mut self.slots[range] {
            if slot.on_disk == OnDisk::Doubtful {
                slot.on_disk = if is_durable { OnDisk::Doubted } else { OnDisk::Definite };
            }
        }
        if !is_durable {
            self.changed.insert(block);
        }
    }

    /// Whether the index on disk durably says nothing of these slots.
    pub fn are_doubted(&self, slots: &[u64]) -> bool {
        slots.iter().all(|&slot| self.slots[slot as usize].on_disk == OnDisk::Doubted)
    }

    /// Blocks to be written, taken from the list.
    pub fn take_changed(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.changed)
    }

    fn set(&mut self, slot: u64, state: State) {
        let of = &mut self.slots[slot as usize];
        (of.state, of.is_whole) = (state, false);
        self.changed.insert(block_of(slot));
    }

    fn range_of(&self, block: u64) -> Range<usize> {
        let end = ((block + 1) * SLOTS_A_BLOCK).min(self.in_file());
        (block * SLOTS_A_BLOCK) as usize..end as usize
    }
}

/// The block of the index on disk that tells of a slot.
fn block_of(slot: u64) -> u64 {
    slot / SLOTS_A_BLOCK
}

/// The piece that an item is, if it is one.
fn piece_of(id: ItemId) -> Option<PieceIndex> {
    (id.kind == ItemKind::Piece).then_some(PieceIndex(id.index))
}
