//! Which bytes of a finished sector (PROTOCOL 5.3) come from where, window by window.
//!
//! Owns: arithmetic. Never: bytes.

use crate::interface::{ASSEMBLE_S_BUCKETS, SPAN_BYTES};
use consensus::constants::{HASH_SIZE, RECORD_SIZE, SCALAR_BYTES, contents_map_size, sector_size};
use engine::pool::SLAB_BYTES;
use std::ops::Range;

/// Bytes of a sector that a device puts together at a time.
pub(super) const WINDOW_BYTES: usize = 16 << 20;
/// Spans of a whole window.
pub(super) const WINDOW_SPANS: usize = WINDOW_BYTES / SPAN_BYTES;
const _: () = assert!(WINDOW_BYTES.is_multiple_of(SLAB_BYTES) && SLAB_BYTES.is_multiple_of(SPAN_BYTES));

/// A sector of so many pieces, as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SectorBytes {
    pieces: u16,
}

/// Bytes of a sector that lie together, on their way into a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Where in the window they begin.
    pub at: usize,
    /// Where they are within their region: the contents map, the chunks, the record metadata.
    pub range: Range<usize>,
}

/// A launch of `assemble`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gather {
    pub first_chunk: u32,
    pub chunks: u32,
    pub first_s_bucket: u32,
    pub blocks: u32,
}

impl SectorBytes {
    pub fn new(pieces: u16) -> Self {
        Self { pieces }
    }

    /// All bytes.
    pub fn size(self) -> usize {
        sector_size(self.pieces)
    }

    /// Bytes that the checksum covers, which are those that a device puts together.
    pub fn hashed(self) -> usize {
        self.size() - HASH_SIZE
    }

    /// The part of each window.
    pub fn windows(self) -> impl Iterator<Item = Range<usize>> {
        let hashed = self.hashed();
        (0..hashed).step_by(WINDOW_BYTES).map(move |start| start..hashed.min(start + WINDOW_BYTES))
    }

    /// What a window has of the contents map with its hash.
    pub fn contents_map(self, window: &Range<usize>) -> Option<Part> {
        part(window, 0..self.chunks_at())
    }

    /// What a window has of the chunks.
    pub fn chunks(self, window: &Range<usize>) -> Option<Part> {
        part(window, self.chunks_at()..self.metadata_at())
    }

    /// What a window has of the record metadata.
    pub fn metadata(self, window: &Range<usize>) -> Option<Part> {
        part(window, self.metadata_at()..self.hashed())
    }

    fn chunks_at(self) -> usize {
        contents_map_size(self.pieces)
    }

    fn metadata_at(self) -> usize {
        self.chunks_at() + usize::from(self.pieces) * RECORD_SIZE
    }
}

impl Gather {
    /// For bytes `range` of the chunks, where `starts` chunks lie before each s-bucket and `starts.last()` in all.
    pub fn new(range: &Range<usize>, starts: &[u32]) -> Self {
        let number = |at: usize| u32::try_from(at / SCALAR_BYTES).expect("a sector has 2^25 chunks at most");
        let (first_chunk, end) = (number(range.start), number(range.end));
        // The last s-bucket that begins at or before a chunk is the one that has it: empty ones begin where the next does.
        let s_bucket = |chunk| starts.partition_point(|start| *start <= chunk) as u32 - 1;
        let first_s_bucket = s_bucket(first_chunk) / ASSEMBLE_S_BUCKETS * ASSEMBLE_S_BUCKETS;
        let blocks = (s_bucket(end - 1) + 1 - first_s_bucket).div_ceil(ASSEMBLE_S_BUCKETS);
        Self { first_chunk, chunks: end - first_chunk, first_s_bucket, blocks }
    }
}

fn part(window: &Range<usize>, region: Range<usize>) -> Option<Part> {
    let (start, end) = (window.start.max(region.start), window.end.min(region.end));
    let range = || start - region.start..end - region.start;
    (start < end).then(|| Part { at: start - window.start, range: range() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::constants::{RECORD_METADATA_SIZE, S_BUCKETS};
    use proptest::prelude::*;

    #[test]
    fn chunks_never_lie_across_windows() {
        for pieces in 1..=1000 {
            let sector = SectorBytes::new(pieces);
            assert!(sector.chunks_at().is_multiple_of(SCALAR_BYTES));
            assert!(sector.hashed().is_multiple_of(HASH_SIZE), "the checksum lies in one slab");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn windows_cover_the_sector_once_and_in_order(pieces in 1u16..=1000) {
            let sector = SectorBytes::new(pieces);
            let (mut covered, mut regions) = (0, [0; 3]);
            for window in sector.windows() {
                prop_assert_eq!(window.start, covered);
                let parts = [sector.contents_map(&window), sector.chunks(&window), sector.metadata(&window)];
                for (region, part) in regions.iter_mut().zip(parts) {
                    let Some(Part { at, range }) = part else { continue };
                    prop_assert_eq!((window.start + at, range.start), (covered, *region));
                    (covered, *region) = (covered + range.len(), range.end);
                }
                prop_assert_eq!(window.end, covered);
            }
            let n = usize::from(pieces);
            prop_assert_eq!(regions, [n * 8192 + 32, n * RECORD_SIZE, n * RECORD_METADATA_SIZE]);
            prop_assert_eq!(covered + HASH_SIZE, sector.size());
        }

        #[test]
        fn gathers_take_the_s_buckets_of_their_chunks(
            sizes in prop::collection::vec(0u32..9, S_BUCKETS), from in 0.0..1.0f64, to in 0.0..1.0f64
        ) {
            let mut starts = vec![0];
            for size in sizes {
                starts.push(starts.last().unwrap() + size);
            }
            let total = starts[S_BUCKETS];
            let (from, to) = ((from.min(to) * f64::from(total)) as u32, (from.max(to) * f64::from(total)) as u32);
            prop_assume!(from < to);
            let gather = Gather::new(&(from as usize * 32..to as usize * 32), &starts);
            prop_assert_eq!((gather.first_chunk, gather.chunks), (from, to - from));
            let end = gather.first_s_bucket + gather.blocks * ASSEMBLE_S_BUCKETS;
            prop_assert!(end as usize <= S_BUCKETS);
            prop_assert!(starts[gather.first_s_bucket as usize] <= from && to <= starts[end as usize]);
            // No block has nothing to do.
            let last_block = (end - ASSEMBLE_S_BUCKETS) as usize;
            prop_assert!(starts[last_block] < to);
            prop_assert!(starts[(gather.first_s_bucket + ASSEMBLE_S_BUCKETS) as usize] > from);
        }
    }
}
