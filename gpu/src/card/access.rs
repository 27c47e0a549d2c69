//! One record of a session at a time, read and written from the side.
//!
//! Owns: a stream and a slab for it. Never: records of a batch under way.
#![allow(unsafe_code)]

use super::lent::Lent;
use super::place::Place;
use crate::device::{Device, DeviceAddress, DeviceError, Stream};
use consensus::constants::RECORD_SIZE;
use consensus::sector::Bitfield;
use engine::pool::SlabMut;

/// Reads and writes records that lie in a session's area.
pub(super) struct Access {
    stream: Box<dyn Stream>,
    staging: Lent<SlabMut>,
}

impl Access {
    /// `staging` is a slab known to the device.
    pub fn new(device: &dyn Device, staging: SlabMut) -> Result<Self, DeviceError> {
        Ok(Self { stream: device.stream()?, staging: Lent::new(staging) })
    }

    /// The chunks of a record.
    pub fn read(&mut self, place: &Place) -> Result<Vec<[u8; 32]>, DeviceError> {
        let staging = &mut self.staging[..RECORD_SIZE];
        // SAFETY: the staging is our own and not looked at before the wait; the place is held by the caller for as long.
        unsafe { self.stream.copy_out(staging.as_mut_ptr(), place.chunks(), RECORD_SIZE)? };
        self.wait()?;
        Ok(self.staging[..RECORD_SIZE].as_chunks().0.to_vec())
    }

    /// Replaces a record, its words and ranks. Its columns go word by word, which takes milliseconds.
    pub fn write(
        &mut self,
        place: &Place,
        chunks: &[[u8; 32]],
        bitfield: &Bitfield,
    ) -> Result<(), DeviceError> {
        let (words, ranks) = columns(bitfield);
        let (record, columns) = self.staging.split_at_mut(RECORD_SIZE);
        record.copy_from_slice(chunks.as_flattened());
        let (words_part, ranks_part) = columns.split_at_mut(size_of_val(&words[..]));
        words_part.copy_from_slice(words.as_flattened());
        ranks_part[..2 * ranks.len()].copy_from_slice(ranks.as_flattened());
        let copied = self.copy_record(place).and_then(|()| {
            let at = RECORD_SIZE + 4 * words.len();
            self.copy_column::<4>(RECORD_SIZE, words.len(), place.words(), place.column_stride())?;
            self.copy_column::<2>(at, ranks.len(), place.ranks(), place.column_stride())
        });
        // Waited for also after an error: the staging is used again.
        self.wait()?;
        copied
    }

    fn wait(&mut self) -> Result<(), DeviceError> {
        self.stream.wait().inspect_err(|_| self.staging.leave())
    }

    fn copy_record(&self, place: &Place) -> Result<(), DeviceError> {
        // SAFETY: the staging stays as it is until the wait; the place is the caller's, and no batch works on it.
        unsafe { self.stream.copy_in(place.chunks(), self.staging.as_ptr(), RECORD_SIZE) }
    }

    /// Copies values of `BYTES` bytes from the staging at `at` to where they lie `stride` values apart.
    fn copy_column<const BYTES: usize>(
        &self,
        at: usize,
        count: usize,
        to: DeviceAddress,
        stride: u64,
    ) -> Result<(), DeviceError> {
        let values = self.staging[at..at + count * BYTES].as_chunks::<BYTES>().0;
        (0..).zip(values).try_for_each(|(row, value)| {
            let to = to + row * stride * BYTES as u64;
            // SAFETY: as in `copy_record`; the column has as many rows.
            unsafe { self.stream.copy_in(to, value.as_ptr(), BYTES) }
        })
    }
}

/// Words of a bitfield, and the ones before each and after the last, as bytes.
fn columns(bitfield: &Bitfield) -> (Vec<[u8; 4]>, Vec<[u8; 2]>) {
    let words = bitfield.as_bytes().as_chunks::<4>().0.to_vec();
    let mut rank = 0u16;
    let after = words.iter().map(|word| {
        rank += u32::from_le_bytes(*word).count_ones() as u16;
        rank.to_le_bytes()
    });
    let ranks = std::iter::once([0; 2]).chain(after).collect();
    (words, ranks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::{BITFIELD_WORDS, RANK_ROWS};

    #[test]
    fn columns_count_bits() {
        let mut bitfield = Bitfield::default();
        (0..32_768).for_each(|s_bucket| bitfield.set(2 * s_bucket));
        let (words, ranks) = columns(&bitfield);
        assert_eq!((words.len(), ranks.len()), (BITFIELD_WORDS, RANK_ROWS));
        assert_eq!((words[0], ranks[0], ranks[3]), ([0x55; 4], [0; 2], [48, 0]));
        assert_eq!(ranks[RANK_ROWS - 1], 32_768u16.to_le_bytes());
    }
}
