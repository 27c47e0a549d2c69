//! A bucket of a table as bitmap and sorted entries, and the matching of two of them.

use super::rows::{RowWindow, WINDOWS};
use super::{BUCKET_SIZE, CAPACITY, COLUMNS, Pointer, ROWS, SHIFTS, TARGETS};
use crate::simd::Simd;

/// Rows of the bitmap, with the first ones repeated so that 64 rows from any row on lie side by side.
const ROWS_REPEATED: usize = ROWS as usize + TARGETS - 1;

/// An entry as it waits for its bucket to be built: 16 bytes, so that growing a table is one store an entry.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(16))]
pub(super) struct Entry {
    metadata_low: u64,
    pub(super) pointer: Pointer,
    metadata_high: u16,
    /// y within the bucket.
    residue: u16,
}

impl Entry {
    /// `metadata` has at most 80 bits.
    #[inline(always)]
    pub(super) fn new(residue: u32, metadata: u128, pointer: Pointer) -> Self {
        Self {
            metadata_low: metadata as u64,
            pointer,
            metadata_high: (metadata >> 64) as u16,
            residue: residue as u16,
        }
    }

    #[inline(always)]
    pub(super) fn metadata(&self) -> u128 {
        u128::from(self.metadata_high) << 64 | u128::from(self.metadata_low)
    }

    #[inline(always)]
    pub(super) fn residue(&self) -> u32 {
        u32::from(self.residue)
    }
}

/// A bucket in consensus order: by y, then by position.
pub(super) struct Bucket {
    count: usize,
    entries: [Entry; CAPACITY],
    /// Row of the bitmap, columns 0..64.
    low: [u64; ROWS_REPEATED],
    /// Row of the bitmap, columns 64..127.
    high: [u64; ROWS_REPEATED],
    /// Rank of the first entry of each row.
    row_start: [u16; ROWS as usize + 1],
    duplicates: Duplicates,
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            count: 0,
            entries: [Entry::default(); CAPACITY],
            low: [0; ROWS_REPEATED],
            high: [0; ROWS_REPEATED],
            row_start: [0; ROWS as usize + 1],
            duplicates: Duplicates { count: 0, entries: [(0, 0); CAPACITY] },
        }
    }
}

/// Entries that found another one with their y in the bucket before them: about two a bucket.
struct Duplicates {
    count: usize,
    /// Residue and number in position order.
    entries: [(u16, u16); CAPACITY],
}

impl Duplicates {
    #[inline(always)]
    fn entries(&self) -> &[(u16, u16)] {
        &self.entries[..self.count]
    }

    /// How many duplicates of this row come before entry number `number`, itself included.
    #[inline(always)]
    fn before(&self, row: u32, residue: u16, number: u16) -> usize {
        let is_before = |&&(r, n): &&(u16, u16)| {
            u32::from(r) / COLUMNS == row && (r < residue || r == residue && n <= number)
        };
        self.entries().iter().filter(is_before).count()
    }
}

/// Ranks of left and right entry of the matches of two buckets, in consensus order.
pub(super) struct MatchList {
    count: usize,
    ranks: [(u16, u16); CAPACITY],
}

impl Default for MatchList {
    fn default() -> Self {
        Self { count: 0, ranks: [(0, 0); CAPACITY] }
    }
}

impl MatchList {
    #[inline(always)]
    pub(super) fn ranks(&self) -> &[(u16, u16)] {
        &self.ranks[..self.count]
    }
}

#[inline(always)]
fn row_and_column(residue: u32) -> (u32, u32) {
    (residue / COLUMNS, residue % COLUMNS)
}

impl Bucket {
    /// The entries in order.
    #[inline(always)]
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries[..self.count]
    }

    /// Takes in the entries of a bucket given in position order; at most [`CAPACITY`].
    #[inline(always)]
    pub(super) fn build(&mut self, unordered: &[Entry]) {
        assert!(unordered.len() <= CAPACITY, "a table keeps at most {CAPACITY} entries of a bucket");
        self.count = unordered.len();
        self.mark(unordered);
        self.count_rows();
        for (i, entry) in unordered.iter().enumerate() {
            let (row, column) = row_and_column(u32::from(entry.residue));
            let bits = u128::from(self.high[row as usize]) << 64 | u128::from(self.low[row as usize]);
            let before = (bits & ((1 << column) - 1)).count_ones() as usize;
            let mut rank = usize::from(self.row_start[row as usize]) + before;
            if self.duplicates.count != 0 {
                rank += self.duplicates.before(row, entry.residue, i as u16);
            }
            self.entries[rank] = *entry;
        }
    }

    /// Sets the bitmap and notes those entries that found their bit set.
    #[inline(always)]
    fn mark(&mut self, unordered: &[Entry]) {
        self.duplicates.count = 0;
        self.low.fill(0);
        self.high.fill(0);
        for (i, entry) in unordered.iter().enumerate() {
            let (row, column) = row_and_column(u32::from(entry.residue));
            let word = if column < 64 { &mut self.low[row as usize] } else { &mut self.high[row as usize] };
            let bit = 1 << (column % 64);
            if *word & bit != 0 {
                self.duplicates.entries[self.duplicates.count] = (entry.residue, i as u16);
                self.duplicates.count += 1;
            }
            *word |= bit;
        }
        let rows = ROWS as usize;
        self.low.copy_within(..ROWS_REPEATED - rows, rows);
        self.high.copy_within(..ROWS_REPEATED - rows, rows);
    }

    #[inline(always)]
    fn count_rows(&mut self) {
        let mut sum = 0;
        for row in 0..ROWS as usize {
            self.row_start[row] = sum;
            sum += (self.low[row].count_ones() + self.high[row].count_ones()) as u16;
        }
        self.row_start[ROWS as usize] = sum;
        for (residue, _) in self.duplicates.entries() {
            for start in &mut self.row_start[usize::from(*residue) / COLUMNS as usize + 1..] {
                *start += 1;
            }
        }
        debug_assert_eq!(usize::from(self.row_start[ROWS as usize]), self.count);
    }

    /// Lists every match of `self` (the left bucket, of this parity) with `right` in consensus order, up to [`CAPACITY`] of them.
    #[inline(always)]
    pub(super) fn matches<S: Simd>(&self, right: &Self, parity: usize, list: &mut MatchList) {
        list.count = 0;
        for row in 0..ROWS as usize {
            let ranks = usize::from(self.row_start[row])..usize::from(self.row_start[row + 1]);
            if ranks.is_empty() {
                continue;
            }
            let hits = self.row_hits::<S>(right, row, parity);
            // Targets ascend by row: those that wrapped around to the first rows come first.
            let wrapped = ROWS as usize - row;
            let (first, second) = if wrapped < TARGETS {
                let low = (1 << wrapped) - 1;
                (hits & !low, hits & low)
            } else {
                (hits, 0)
            };
            for left in ranks {
                let column = self.entries[left].residue() - row as u32 * COLUMNS;
                for mut targets in [first, second] {
                    while targets != 0 {
                        let m = targets.trailing_zeros() as usize;
                        targets &= targets - 1;
                        let right_row = if m < wrapped { row + m } else { m - wrapped };
                        right.list_target(right_row, column, SHIFTS[parity][m], left, list);
                    }
                }
            }
        }
    }

    /// Lists the entries in this row that lie `shift` columns to the right of `column`, around the edge, as matches of `left`.
    #[inline(always)]
    fn list_target(&self, row: usize, column: u32, shift: u8, left: usize, list: &mut MatchList) {
        let mut target = column + u32::from(shift);
        if target >= COLUMNS {
            target -= COLUMNS;
        }
        let target = (row as u32 * COLUMNS + target) as u16;
        for right in usize::from(self.row_start[row])..usize::from(self.row_start[row + 1]) {
            if self.entries[right].residue == target && list.count < CAPACITY {
                list.ranks[list.count] = (left as u16, right as u16);
                list.count += 1;
            }
        }
    }

    /// Which targets of a row's entries have an entry in `right`.
    #[inline(always)]
    fn row_hits<S: Simd>(&self, right: &Self, row: usize, parity: usize) -> u64 {
        let left = u128::from(self.high[row]) << 64 | u128::from(self.low[row]);
        let low: &RowWindow = right.low[row..row + TARGETS].try_into().expect("rows are repeated");
        let high: &RowWindow = right.high[row..row + TARGETS].try_into().expect("rows are repeated");
        // SAFETY: our caller is compiled for the level of `S` and runs only where the processor has it.
        unsafe { S::row_hits(left, low, high, &WINDOWS[parity]) }
    }
}

const _: () = assert!(BUCKET_SIZE <= 1 << 14, "a residue fits into 14 bits");
