//! Device memory of one sector in the making.
//!
//! Owns: where its records, their columns and its windows lie. Never: what is in them.

use super::lent::Lent;
use super::windows::{WINDOW_BYTES, WINDOW_SPANS};
use crate::device::{Device, DeviceAddress, DeviceBuffer, DeviceError, Stream};
use crate::interface::{BITFIELD_WORDS, RANK_ROWS};
use consensus::constants::{HASH_SIZE, RECORD_SIZE, S_BUCKETS};
use engine::pool::SlabMut;
use std::sync::{Arc, Mutex};

/// Columns begin on such a multiple, so that neighbouring threads read neighbouring words.
const COLUMN_MULTIPLE: usize = 32;
/// Addresses of regions are multiples of this.
const ALIGNMENT: usize = 256;
/// Windows of a sector: one is filled while the other leaves.
pub(super) const WINDOWS: usize = 2;

/// Where the parts of an area lie, for sectors of at most so many pieces: `records`, then `words`, `ranks` and `starts`, then the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AreaLayout {
    pieces: usize,
}

impl AreaLayout {
    pub fn new(pieces_in_sector: u16) -> Self {
        Self { pieces: pieces_in_sector.into() }
    }

    /// Records, rounded up.
    fn column_stride(self) -> usize {
        self.pieces.next_multiple_of(COLUMN_MULTIPLE)
    }

    fn words_at(self) -> usize {
        self.pieces * RECORD_SIZE
    }

    fn ranks_at(self) -> usize {
        (self.words_at() + BITFIELD_WORDS * self.column_stride() * size_of::<u32>())
            .next_multiple_of(ALIGNMENT)
    }

    fn starts_at(self) -> usize {
        (self.ranks_at() + RANK_ROWS * self.column_stride() * size_of::<u16>()).next_multiple_of(ALIGNMENT)
    }

    fn window_at(self, window: usize) -> usize {
        (self.starts_at() + (S_BUCKETS + 1) * size_of::<u32>()).next_multiple_of(ALIGNMENT)
            + window * WINDOW_BYTES
    }

    fn values_at(self, window: usize) -> usize {
        self.window_at(WINDOWS) + window * WINDOW_SPANS * HASH_SIZE
    }

    /// All of it.
    pub fn bytes(self) -> usize {
        self.values_at(WINDOWS)
    }
}

/// The memory itself.
pub(super) struct Area {
    memory: Arc<dyn DeviceBuffer>,
    layout: AreaLayout,
    /// For the thread that puts the sector together.
    pub exit: Mutex<Exit>,
}

/// What a finished sector leaves through.
pub(super) struct Exit {
    /// One for each window.
    pub streams: [Box<dyn Stream>; WINDOWS],
    /// A slab known to the device.
    pub staging: Lent<SlabMut>,
}

impl Area {
    pub fn new(device: &dyn Device, pieces_in_sector: u16, staging: SlabMut) -> Result<Self, DeviceError> {
        let layout = AreaLayout::new(pieces_in_sector);
        let memory = device.allocate(layout.bytes())?;
        let exit =
            Mutex::new(Exit { streams: [device.stream()?, device.stream()?], staging: Lent::new(staging) });
        Ok(Self { memory, layout, exit })
    }

    pub fn column_stride(&self) -> usize {
        self.layout.column_stride()
    }

    /// Record r is 1 MiB at r MiB.
    pub fn records(&self) -> DeviceAddress {
        self.memory.address()
    }

    /// Word w of record r is the u32 number w * column stride + r.
    pub fn words(&self) -> DeviceAddress {
        self.at(self.layout.words_at())
    }

    /// Likewise, u16.
    pub fn ranks(&self) -> DeviceAddress {
        self.at(self.layout.ranks_at())
    }

    /// 65 537 u32.
    pub fn starts(&self) -> DeviceAddress {
        self.at(self.layout.starts_at())
    }

    /// [`WINDOW_BYTES`].
    pub fn window(&self, window: usize) -> DeviceAddress {
        self.at(self.layout.window_at(window))
    }

    /// 32 bytes for each span of a window.
    pub fn values(&self, window: usize) -> DeviceAddress {
        self.at(self.layout.values_at(window))
    }

    fn at(&self, at: usize) -> DeviceAddress {
        self.memory.address() + at as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_area_do_not_meet() {
        for pieces in [1, 31, 32, 33, 1000] {
            let layout = AreaLayout::new(pieces);
            let pieces = usize::from(pieces);
            assert!(layout.column_stride() >= pieces && layout.column_stride() < pieces + 32);
            let parts = [
                (0, pieces << 20),
                (layout.words_at(), 2048 * 4 * layout.column_stride()),
                (layout.ranks_at(), 2049 * 2 * layout.column_stride()),
                (layout.starts_at(), 65_537 * 4),
                (layout.window_at(0), WINDOW_BYTES),
                (layout.window_at(1), WINDOW_BYTES),
                (layout.values_at(0), 64 * 32),
                (layout.values_at(1), 64 * 32),
                (layout.bytes(), 0),
            ];
            for pair in parts.windows(2) {
                let [(at, bytes), (next, _)] = [pair[0], pair[1]];
                assert!(at + bytes <= next && at % ALIGNMENT == 0, "{pieces}: {at} {bytes} {next}");
            }
        }
    }
}
