//! A whole sector, pulled by ranges, resumable after a crash or with another server.
//!
//! ```text
//!   plot.bin   ...│ block │ block │ block │ block │ block │ block │...    4096 each
//!   sector            ├──────────────────────────────────────┤
//!   ranges            ├─ 0 ─┼─────── 1 ───────┼────── 2 ─────┤            cut where blocks of the file end
//! ```
//! A sector begins anywhere in a block of the file (PROTOCOL 5.3), so ranges are cut in the file's terms: all but
//! the first begin on a block, all but the last end on one, none is longer than 2 MiB with its phase. The
//! writer merges the two edge blocks.
//!
//! The bytes of a range may be compared with their hash as they come ([`SectorTransfer::received`]), or only when the checksum of the
//! whole sector is found to be wrong ([`SectorTransfer::arrived`], then [`SectorTransfer::held_ranges`] and [`SectorTransfer::lost`]):
//! TLS has authenticated them, and a range that begins anywhere in a sector has no node of the sector's hash tree for its own hash, so that
//! comparing it is a second pass over every byte.
//!
//! ```text
//!   Missing ─ next ─▶ Asked ─ received ─▶ Writing ─ written ─▶ Held
//!      ▲                │ failed             │ failed
//!      ├────────────────┴────────────────────┘          │ lost
//!      └────────────────────────────────────────────────┘
//! ```
//! Owns: which ranges are held, and the saved form of that. Never: sockets, files, the choice of a server.

use crate::frame::MAX_PAYLOAD_BYTES;
use crate::message::{BLOCK_BYTES, Blake3Hash};
use crate::payload::PayloadBuf;

/// Bytes of the file a range covers at most.
pub const RANGE_BYTES: u64 = MAX_PAYLOAD_BYTES as u64;
/// Largest sector: PROTOCOL 5.3 with 1000 pieces, times two for what may come.
pub const MAX_SECTOR_BYTES: u64 = 2 << 30;
/// First bytes of a saved transfer.
const SAVED_MAGIC: [u8; 8] = *b"ASFPULL1";
/// Magic, content id, file offset, sector length.
const SAVED_FIXED_BYTES: usize = 8 + 32 + 8 + 8;
/// BLAKE3 at the end.
const SAVED_HASH_BYTES: usize = 32;

/// Where the sector lies in `plot.bin` and what its bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectorPlace {
    /// Offset of the sector's first byte in the file.
    pub file_offset: u64,
    /// Bytes of the sector.
    pub sector_bytes: u64,
    /// Names the content, so that ranges of two different sectors never mix: BLAKE3 of the sector's metadata.
    pub content: Blake3Hash,
}

/// One range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Which one, from zero.
    pub index: usize,
    /// Offset in the sector.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
    /// Offset in the file, modulo 4096.
    pub phase: u16,
}

/// Why a saved transfer cannot be continued: start over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Not what [`SectorTransfer::save`] writes, or damaged.
    #[error("saved transfer is damaged")]
    Damaged,
    /// Saved for another sector or another plotting of it.
    #[error("saved transfer belongs to another sector")]
    OtherSector,
}

/// What became of a range's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Good: write them, then call [`SectorTransfer::written`].
    Write,
    /// The hash is wrong: the range will be asked for again.
    Damaged,
    /// Held or being written already, or not what was asked for: drop them.
    Surplus,
}

/// Counters since the start or the last restore.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TransferStats {
    /// Bytes of all ranges that arrived whole.
    pub received_bytes: u64,
    /// Those among them that had arrived before.
    pub received_twice_bytes: u64,
    /// Ranges that failed their hash.
    pub damaged_ranges: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Missing,
    Asked,
    Writing,
    Held,
}

/// The pull of one sector. See the module's text.
#[derive(Debug)]
pub struct SectorTransfer {
    place: SectorPlace,
    states: Vec<State>,
    /// What arrived should hash to; unknown of what a restored transfer held.
    hashes: Vec<Option<Blake3Hash>>,
    /// Ranges whose bytes arrived at least once.
    seen: Vec<bool>,
    window: usize,
    asked: usize,
    held: usize,
    /// No range before this one is missing.
    search_from: usize,
    stats: TransferStats,
}

impl SectorPlace {
    /// First byte of the file that the ranges are cut from: the start of the sector's first block.
    fn base(&self) -> u64 {
        self.file_offset - self.file_offset % u64::from(BLOCK_BYTES)
    }

    fn ranges(&self) -> usize {
        let bytes = self.file_offset + self.sector_bytes - self.base();
        usize::try_from(bytes.div_ceil(RANGE_BYTES)).expect("sectors are bounded")
    }

    fn range(&self, index: usize) -> Range {
        let cut = self.base() + index as u64 * RANGE_BYTES;
        let start = cut.max(self.file_offset);
        let end = (cut + RANGE_BYTES).min(self.file_offset + self.sector_bytes);
        Range {
            index,
            offset: start - self.file_offset,
            length: (end - start) as u32,
            phase: (start % u64::from(BLOCK_BYTES)) as u16,
        }
    }
}

impl SectorTransfer {
    /// A pull with nothing held, of at most `window` ranges at once.
    ///
    /// # Panics
    /// When the sector is empty, over [`MAX_SECTOR_BYTES`] or past the end of the number line, or `window` is zero.
    pub fn new(place: SectorPlace, window: usize) -> Self {
        assert!((1..=MAX_SECTOR_BYTES).contains(&place.sector_bytes), "{} bytes", place.sector_bytes);
        assert!(place.file_offset <= u64::MAX / 2, "sector at {}", place.file_offset);
        assert!(window > 0, "a transfer needs a window");
        let ranges = place.ranges();
        Self {
            place,
            states: vec![State::Missing; ranges],
            hashes: vec![None; ranges],
            seen: vec![false; ranges],
            window,
            asked: 0,
            held: 0,
            search_from: 0,
            stats: TransferStats::default(),
        }
    }

    /// Continues what [`SectorTransfer::save`] wrote; `place` must be the same.
    ///
    /// # Panics
    /// As [`SectorTransfer::new`].
    pub fn restore(place: SectorPlace, window: usize, saved: &[u8]) -> Result<Self, RestoreError> {
        let mut transfer = Self::new(place, window);
        let split = saved.len().checked_sub(SAVED_HASH_BYTES).ok_or(RestoreError::Damaged)?;
        let (body, hash) = saved.split_at(split);
        if blake3::hash(body).as_bytes() != hash || !body.starts_with(&SAVED_MAGIC) {
            return Err(RestoreError::Damaged);
        }
        if body.get(..SAVED_FIXED_BYTES) != Some(&saved_fixed(&place)[..]) {
            return Err(RestoreError::OtherSector);
        }
        let bits = &body[SAVED_FIXED_BYTES..];
        if bits.len() != transfer.states.len().div_ceil(8) {
            return Err(RestoreError::Damaged);
        }
        for (index, state) in transfer.states.iter_mut().enumerate() {
            if bits[index / 8] >> (index % 8) & 1 == 1 {
                *state = State::Held;
                transfer.seen[index] = true;
                transfer.held += 1;
            }
        }
        Ok(transfer)
    }

    /// The held ranges as bytes. Save them only once those ranges survive a crash (`fdatasync`).
    ///
    /// Magic 8, content id 32, file offset u64 LE, sector length u64 LE, one bit a range (lowest bit first, set =
    /// held), BLAKE3 of all before.
    pub fn save(&self) -> Vec<u8> {
        let mut bytes = saved_fixed(&self.place).to_vec();
        let mut bits = vec![0; self.states.len().div_ceil(8)];
        for (index, _) in self.states.iter().enumerate().filter(|(_, state)| **state == State::Held) {
            bits[index / 8] |= 1 << (index % 8);
        }
        bytes.extend_from_slice(&bits);
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }

    /// The next range to ask for, while the window has room.
    pub fn next_range(&mut self) -> Option<Range> {
        if self.asked == self.window {
            return None;
        }
        let missing = self.states[self.search_from..].iter().position(|state| *state == State::Missing);
        let index = self.search_from + missing?;
        self.search_from = index + 1;
        self.states[index] = State::Asked;
        self.asked += 1;
        Some(self.place.range(index))
    }

    /// The bytes of a range arrived, with the hash their header names, which they are compared with.
    pub fn received<B: PayloadBuf>(&mut self, index: usize, payload: &B, hash: &Blake3Hash) -> Received {
        let is_wanted = self.is_wanted(index, payload.len());
        if is_wanted && payload.blake3() != *hash {
            self.count(index, payload.len());
            self.stats.damaged_ranges += 1;
            self.failed(index);
            return Received::Damaged;
        }
        self.arrived(index, payload.len(), hash)
    }

    /// So many bytes of a range arrived, with the hash their header names, which is kept for the day that the sector is found to be wrong.
    pub fn arrived(&mut self, index: usize, bytes: usize, hash: &Blake3Hash) -> Received {
        self.count(index, bytes);
        if !self.is_wanted(index, bytes) {
            return Received::Surplus;
        }
        self.asked -= 1;
        self.hashes[index] = Some(*hash);
        self.states[index] = State::Writing;
        Received::Write
    }

    fn is_wanted(&self, index: usize, bytes: usize) -> bool {
        self.states[index] == State::Asked && bytes == self.place.range(index).length as usize
    }

    fn count(&mut self, index: usize, bytes: usize) {
        self.stats.received_bytes += bytes as u64;
        if std::mem::replace(&mut self.seen[index], true) {
            self.stats.received_twice_bytes += bytes as u64;
        }
    }

    /// The bytes of a range are in the file.
    ///
    /// # Panics
    /// When they were not being written.
    pub fn written(&mut self, index: usize) {
        assert_eq!(self.states[index], State::Writing, "range {index} is written after it was received");
        self.states[index] = State::Held;
        self.held += 1;
    }

    /// The request for a range, or the writing of it, failed: it is missing again.
    ///
    /// # Panics
    /// When it is held.
    pub fn failed(&mut self, index: usize) {
        match self.states[index] {
            State::Held => panic!("range {index} is held and cannot fail"),
            State::Asked => self.asked -= 1,
            State::Writing | State::Missing => {}
        }
        self.states[index] = State::Missing;
        self.search_from = self.search_from.min(index);
    }

    /// Ranges that are held and what their bytes should hash to, as far as this run got them.
    pub fn held_ranges(&self) -> impl Iterator<Item = (Range, Option<Blake3Hash>)> {
        let held = |index: &usize| self.states[*index] == State::Held;
        (0..self.states.len()).filter(held).map(|index| (self.place.range(index), self.hashes[index]))
    }

    /// The bytes of a held range are not what they should be: it is missing again.
    ///
    /// # Panics
    /// When it is not held.
    pub fn lost(&mut self, index: usize) {
        assert_eq!(self.states[index], State::Held, "range {index} was held");
        self.stats.damaged_ranges += 1;
        self.held -= 1;
        self.states[index] = State::Missing;
        self.search_from = self.search_from.min(index);
    }

    /// The connection is gone: everything asked for is missing again. What is being written goes on.
    pub fn connection_lost(&mut self) {
        for index in 0..self.states.len() {
            if self.states[index] == State::Asked {
                self.failed(index);
            }
        }
    }

    /// Whether every range is held.
    pub fn is_complete(&self) -> bool {
        self.held == self.states.len()
    }

    /// Ranges held, and all ranges.
    pub fn progress(&self) -> (usize, usize) {
        (self.held, self.states.len())
    }

    /// Counters since the start or restore.
    pub fn stats(&self) -> TransferStats {
        self.stats
    }
}

fn saved_fixed(place: &SectorPlace) -> [u8; SAVED_FIXED_BYTES] {
    let mut bytes = [0; SAVED_FIXED_BYTES];
    bytes[..8].copy_from_slice(&SAVED_MAGIC);
    bytes[8..40].copy_from_slice(&place.content);
    bytes[40..48].copy_from_slice(&place.file_offset.to_le_bytes());
    bytes[48..56].copy_from_slice(&place.sector_bytes.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests;
