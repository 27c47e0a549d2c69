//! A sector's checksum, made of its bytes as they come: ranges in any order, each hashed once.
//!
//! ```text
//!   range         ───┤        k        ├───────┤        k + 1        ├───
//!   bytes         ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
//!   chunks        │ … │   │   │   │   ╎   │   │   │   │   │   │   ╎   │ …     1024 bytes each
//!   subtrees          └───────┴───┘  edge └───┴───────────────┘  edge
//!                     hashed at once  └─ its bytes wait for those of the neighbour
//! ```
//! BLAKE3 is a binary tree over chunks of 1024 bytes. A whole run of chunks as long as a power of two, that begins at a multiple of its
//! length, is a node of it, wherever the bytes before and after are; neighbours of one size become their parent. What is left when all is
//! there are the nodes of the right edge, one of each bit of the number of chunks, and they make the root.
//!
//! Owns: which bytes have come, the nodes of those, and the bytes of chunks of which a part has come. Never: the bytes of whole chunks, the
//! disk.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use blake3::{CHUNK_LEN, Hasher};
use consensus::constants::HASH_SIZE;
use std::collections::BTreeMap;
use std::ops::Range;

const CHUNK: u64 = CHUNK_LEN as u64;

/// Some of these bytes have come before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes of the sector came twice")]
pub(super) struct CameTwice;

/// The checksum that a sector's bytes have, and the one that stands at their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checksums {
    pub computed: [u8; HASH_SIZE],
    pub stored: [u8; HASH_SIZE],
}

/// See the module's text.
pub(super) struct SectorHash {
    /// Bytes before the checksum.
    body_bytes: u64,
    /// Where bytes have come: start and end of runs that do not touch.
    come: BTreeMap<u64, u64>,
    /// Subtrees by their first chunk: so many chunks, and what they hash to.
    nodes: BTreeMap<u64, (u64, ChainingValue)>,
    /// Chunks of which a part has come.
    edges: BTreeMap<u64, Edge>,
    stored: [u8; HASH_SIZE],
}

struct Edge {
    bytes: Box<[u8; CHUNK_LEN]>,
    come: usize,
}

impl SectorHash {
    /// Of a sector of so many bytes, its checksum among them; of which nothing has come.
    ///
    /// # Panics
    /// When the bytes before the checksum are less than two chunks: no sector is so small.
    pub fn new(sector_bytes: u64) -> Self {
        let body_bytes = sector_bytes.saturating_sub(HASH_SIZE as u64);
        assert!(body_bytes > CHUNK, "a sector of {sector_bytes} bytes");
        let (come, nodes, edges) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { body_bytes, come, nodes, edges, stored: [0; HASH_SIZE] }
    }

    /// The bytes at `offset` have come. Errs, and takes none, when some of them have come before.
    ///
    /// # Panics
    /// When they do not lie in the sector.
    pub fn add(&mut self, offset: u64, bytes: &[u8]) -> Result<(), CameTwice> {
        let end = offset + bytes.len() as u64;
        assert!(end <= self.sector_bytes(), "bytes up to {end} of a sector of {}", self.sector_bytes());
        self.note(offset..end)?;
        let in_body = self.body_bytes.saturating_sub(offset).min(bytes.len() as u64);
        let (body, rest) = bytes.split_at(in_body as usize);
        if !rest.is_empty() {
            let at = (offset + in_body - self.body_bytes) as usize;
            self.stored[at..at + rest.len()].copy_from_slice(rest);
        }
        self.add_body(offset, body);
        Ok(())
    }

    /// Where nothing has come, in order.
    pub fn gaps(&self) -> Vec<Range<u64>> {
        let ends = std::iter::once(0).chain(self.come.values().copied());
        let starts = self.come.keys().copied().chain([self.sector_bytes()]);
        ends.zip(starts).map(|(end, start)| end..start).filter(|gap| !gap.is_empty()).collect()
    }

    /// What the bytes hash to, when all have come.
    pub fn finish(&self) -> Option<Checksums> {
        if !self.gaps().is_empty() {
            return None;
        }
        let mut nodes = self.nodes.values().map(|(_, value)| *value).rev();
        let (mut right, mut left) = (nodes.next()?, nodes.next()?);
        for next in nodes {
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
            left = next;
        }
        let computed = merge_subtrees_root(&left, &right, Mode::Hash).into();
        Some(Checksums { computed, stored: self.stored })
    }

    fn sector_bytes(&self) -> u64 {
        self.body_bytes + HASH_SIZE as u64
    }

    fn chunks(&self) -> u64 {
        self.body_bytes.div_ceil(CHUNK)
    }

    /// Adds the run to those that have come.
    fn note(&mut self, run: Range<u64>) -> Result<(), CameTwice> {
        if run.is_empty() {
            return Ok(());
        }
        let before = self.come.range(..=run.start).next_back().map(|(start, end)| (*start, *end));
        let after = self.come.range(run.start..).next().map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, end)| end > run.start) || after.is_some_and(|(start, _)| start < run.end) {
            return Err(CameTwice);
        }
        let (mut start, mut end) = (run.start, run.end);
        if let Some((joined, _)) = before.filter(|(_, end)| *end == run.start) {
            start = joined;
        }
        if let Some((joined, to)) = after.filter(|(start, _)| *start == run.end) {
            self.come.remove(&joined);
            end = to;
        }
        self.come.insert(start, end);
        Ok(())
    }

    fn add_body(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (chunk, within) = (offset / CHUNK, (offset % CHUNK) as usize);
            let whole = bytes.len() as u64 / CHUNK;
            let taken = if within == 0 && whole > 0 {
                let chunks = self.largest_subtree(chunk, whole);
                let taken = (chunks * CHUNK) as usize;
                self.add_node(chunk, chunks, subtree(chunk, &bytes[..taken]));
                taken
            } else {
                let taken = bytes.len().min(CHUNK_LEN - within);
                self.add_to_edge(chunk, within, &bytes[..taken]);
                taken
            };
            bytes = &bytes[taken..];
            offset += taken as u64;
        }
    }

    /// Chunks of the largest subtree that begins at `chunk` and has at most `most`; not the whole tree, whose root is made another way.
    fn largest_subtree(&self, chunk: u64, most: u64) -> u64 {
        let most = 1 << most.min(self.chunks() - 1).ilog2();
        if chunk == 0 { most } else { most.min(1 << chunk.trailing_zeros()) }
    }

    fn add_to_edge(&mut self, chunk: u64, at: usize, bytes: &[u8]) {
        let wanted = (self.body_bytes - chunk * CHUNK).min(CHUNK) as usize;
        let edge =
            self.edges.entry(chunk).or_insert_with(|| Edge { bytes: Box::new([0; CHUNK_LEN]), come: 0 });
        edge.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        edge.come += bytes.len();
        if edge.come == wanted {
            let value = subtree(chunk, &edge.bytes[..wanted]);
            self.edges.remove(&chunk);
            self.add_node(chunk, 1, value);
        }
    }

    /// Adds a subtree, and makes parents as far as both children are there.
    fn add_node(&mut self, mut first: u64, mut chunks: u64, mut value: ChainingValue) {
        while 2 * chunks < self.chunks() {
            let is_right = first / chunks % 2 == 1;
            let sibling = if is_right { first - chunks } else { first + chunks };
            let Some((_, other)) = self.nodes.get(&sibling).copied().filter(|(count, _)| *count == chunks)
            else {
                break;
            };
            self.nodes.remove(&sibling);
            let (left, right) = if is_right { (other, value) } else { (value, other) };
            value = merge_subtrees_non_root(&left, &right, Mode::Hash);
            (first, chunks) = (first.min(sibling), 2 * chunks);
        }
        self.nodes.insert(first, (chunks, value));
    }
}

/// What whole chunks from `chunk` on hash to; of the sector's last one the bytes that it has.
fn subtree(chunk: u64, bytes: &[u8]) -> ChainingValue {
    Hasher::new().set_input_offset(chunk * CHUNK).update(bytes).finalize_non_root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A sector of so many bytes with a right checksum, and bytes of a seed before it.
    fn sector(bytes: usize, seed: u64) -> Vec<u8> {
        let mut sector = vec![0; bytes - HASH_SIZE];
        Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut sector);
        let checksum = blake3::hash(&sector);
        sector.extend_from_slice(checksum.as_bytes());
        sector
    }

    /// Cuts at these places, in the order of the keys.
    fn ranges(bytes: usize, cuts: &[(u32, u32)]) -> Vec<Range<usize>> {
        let mut at: Vec<_> = cuts.iter().map(|(cut, _)| *cut as usize % bytes).chain([0, bytes]).collect();
        at.sort_unstable();
        let runs = at.windows(2).map(|pair| pair[0]..pair[1]);
        let mut keyed: Vec<_> = runs.zip(cuts.iter().map(|(_, key)| *key).chain([1 << 31])).collect();
        keyed.sort_by_key(|(_, key)| *key);
        keyed.into_iter().map(|(range, _)| range).collect()
    }

    fn check(bytes: usize, seed: u64, cuts: &[(u32, u32)], held: usize) {
        let sector = sector(bytes, seed);
        let ranges = ranges(bytes, cuts);
        let mut hash = SectorHash::new(bytes as u64);
        // The first ones came before a restart: they are read back last, as gaps.
        for range in &ranges[held.min(ranges.len())..] {
            hash.add(range.start as u64, &sector[range.clone()]).unwrap();
        }
        for gap in hash.gaps() {
            assert_eq!(hash.finish(), None);
            for start in (gap.start..gap.end).step_by(70_000) {
                let end = gap.end.min(start + 70_000);
                hash.add(start, &sector[start as usize..end as usize]).unwrap();
            }
        }
        let Checksums { computed, stored } = hash.finish().unwrap();
        assert_eq!(computed, *blake3::hash(&sector[..bytes - HASH_SIZE]).as_bytes());
        assert_eq!(stored, computed);
        assert!(hash.edges.is_empty());
        assert_eq!(hash.nodes.len() as u32, hash.chunks().count_ones().max(2));
    }

    proptest! {
        #[test]
        fn any_ranges_in_any_order_hash_as_the_whole(
            bytes in 1057usize..300_000,
            seed: u64,
            cuts in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..40),
            held in 0usize..10,
        ) {
            check(bytes, seed, &cuts, held);
        }

        #[test]
        fn wrong_bytes_in_any_range_are_found(
            bytes in 1057usize..100_000,
            cuts in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..10),
            wrong: u32,
            bit in 0u8..8,
        ) {
            let mut sector = sector(bytes, 1);
            sector[wrong as usize % bytes] ^= 1 << bit;
            let mut hash = SectorHash::new(bytes as u64);
            for range in ranges(bytes, &cuts) {
                hash.add(range.start as u64, &sector[range]).unwrap();
            }
            let Checksums { computed, stored } = hash.finish().unwrap();
            prop_assert_ne!(computed, stored);
        }

        #[test]
        fn bytes_that_come_twice_are_refused(
            bytes in 2000usize..20_000,
            cuts in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..10),
            twice: u32,
            more in 1usize..3000,
        ) {
            let sector = sector(bytes, 2);
            let mut hash = SectorHash::new(bytes as u64);
            let ranges = ranges(bytes, &cuts);
            for range in &ranges {
                hash.add(range.start as u64, &sector[range.clone()]).unwrap();
                let start = range.start.saturating_sub(twice as usize % 2000);
                let end = (range.start + more).min(bytes);
                if !range.is_empty() {
                    prop_assert_eq!(hash.add(start as u64, &sector[start..end]), Err(CameTwice));
                }
            }
            let Checksums { computed, stored } = hash.finish().unwrap();
            prop_assert_eq!(computed, stored);
        }
    }

    /// Around whole chunks and powers of two, where the root is made.
    #[test]
    fn every_shape_of_the_tree() {
        for chunks in [2usize, 3, 4, 5, 7, 8, 9, 16, 31, 32, 33, 64] {
            for more in [-1isize, 0, 1, 512] {
                let bytes = (chunks * CHUNK_LEN + HASH_SIZE).saturating_add_signed(more);
                check(bytes, 3, &[], 0);
                let cuts: Vec<_> =
                    (0..20).map(|n: u32| (n * 1500 + 7, n.wrapping_mul(0x9E37_79B9))).collect();
                check(bytes, 4, &cuts, 3);
            }
        }
    }

    /// A real sector as a plot-client gets it: 2 MiB at a time, at a phase, not in order.
    #[test]
    fn a_sectors_ranges_leave_little_in_memory() {
        let bytes = consensus::constants::sector_size(8);
        let sector = sector(bytes, 5);
        let starts: Vec<_> = std::iter::once(0).chain((2_095_000..bytes).step_by(2 << 20)).collect();
        let mut hash = SectorHash::new(bytes as u64);
        for (n, _) in starts.iter().enumerate() {
            // Pairs the other way round.
            let n = (n ^ 1).min(starts.len() - 1);
            let end = starts.get(n + 1).copied().unwrap_or(bytes);
            let _ = hash.add(starts[n] as u64, &sector[starts[n]..end]);
            assert!(hash.nodes.len() < 64 && hash.edges.len() < 4);
        }
        let Checksums { computed, stored } = hash.finish().unwrap();
        assert_eq!(computed, stored);
    }
}
