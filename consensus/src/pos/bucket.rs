//! A bucket of a table in consensus order.

use super::{CAPACITY, COLUMNS};
use crate::simd::{Quad, at_every_level};

/// An entry of a table, 16 bytes, so that putting it into its bucket is one store.
///
/// | word | holds |
/// |---|---|
/// | 0, 1 | metadata, bits 0 to 63 |
/// | 2 | metadata, bits 64 to 79; y within the bucket (residue) from bit 16 on |
/// | 3 | pointer |
pub(super) type Entry = Quad;

/// y within the bucket.
#[inline(always)]
pub(super) fn residue(entry: &Entry) -> u16 {
    (entry[2] >> 16) as u16
}

/// Metadata, up to 80 bits.
#[inline(always)]
pub(super) fn metadata(entry: &Entry) -> u128 {
    u128::from(entry[2] as u16) << 64 | u128::from(entry[1]) << 32 | u128::from(entry[0])
}

/// Greater than every residue, for the places behind the last entry.
const NO_RESIDUE: u16 = i16::MAX as u16;
/// No column, for the places behind the last entry.
const NO_COLUMN: u8 = 255;

/// The entries of a bucket by y, then by position; those behind the last one are of earlier buckets.
pub(super) struct Bucket {
    pub(super) count: usize,
    pub(super) entries: [Entry; CAPACITY],
    /// Residue / 127.
    pub(super) rows: [u8; CAPACITY],
    /// 1 + residue mod 127, so that zero is no column.
    pub(super) columns: [u8; CAPACITY],
    residues: [u16; CAPACITY],
    ranks: [u16; CAPACITY],
    /// Entries so far of each rank.
    taken: [u8; CAPACITY],
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            count: 0,
            entries: [[0; 4]; CAPACITY],
            rows: [0; CAPACITY],
            columns: [0; CAPACITY],
            residues: [0; CAPACITY],
            ranks: [0; CAPACITY],
            taken: [0; CAPACITY],
        }
    }
}

/// Vectors of keys that are ranked side by side.
const SIDE_BY_SIDE: usize = 4;

at_every_level! { use;
    /// Takes in entries given in position order; at most [`CAPACITY`].
    fn sort(bucket: &mut Bucket, unordered: &[Entry]) {
        assert!(unordered.len() <= CAPACITY, "a table keeps at most {CAPACITY} entries of a bucket");
        bucket.count = unordered.len();
        for (slot, entry) in bucket.residues.iter_mut().zip(unordered) {
            *slot = residue(entry);
        }
        bucket.residues[unordered.len()..].fill(NO_RESIDUE);
        rank(&bucket.residues, unordered.len(), &mut bucket.ranks);
        bucket.taken.fill(0);
        for (entry, rank) in unordered.iter().zip(&bucket.ranks) {
            // Entries of equal y are given in the order that they shall have.
            let taken = &mut bucket.taken[usize::from(*rank) % CAPACITY];
            let place = usize::from(*rank) + usize::from(*taken);
            *taken += 1;
            bucket.entries[place % CAPACITY] = *entry;
        }
        for ((entry, row), column) in bucket.entries.iter().zip(&mut bucket.rows).zip(&mut bucket.columns) {
            let residue = residue(entry);
            (*row, *column) = ((residue / COLUMNS as u16) as u8, (residue % COLUMNS as u16) as u8 + 1);
        }
        bucket.columns[unordered.len()..].fill(NO_COLUMN);
    }

    /// For each residue the number of smaller ones among the first `count`: every one is compared with all others, which for the 236
    /// of a bucket is less work than any sort.
    fn rank(residues: &[u16; CAPACITY], count: usize, ranks: &mut [u16; CAPACITY]) {
        let (chunks, _) = residues.as_chunks::<KEYS>();
        let (ranks, _) = ranks.as_chunks_mut::<KEYS>();
        let groups = count.div_ceil(SIDE_BY_SIDE * KEYS);
        let (chunks, _) = chunks.as_chunks::<SIDE_BY_SIDE>();
        let (ranks, _) = ranks.as_chunks_mut::<SIDE_BY_SIDE>();
        for (keys, ranks) in chunks.iter().zip(ranks).take(groups) {
            let [k0, k1, k2, k3] = [load_keys(&keys[0]), load_keys(&keys[1]), load_keys(&keys[2]), load_keys(&keys[3])];
            let [mut r0, mut r1, mut r2, mut r3] = [splat_key(0); SIDE_BY_SIDE];
            for residue in &residues[..count] {
                let other = splat_key(*residue);
                r0 = count_less(r0, other, k0);
                r1 = count_less(r1, other, k1);
                r2 = count_less(r2, other, k2);
                r3 = count_less(r3, other, k3);
            }
            store_keys(&mut ranks[0], r0);
            store_keys(&mut ranks[1], r1);
            store_keys(&mut ranks[2], r2);
            store_keys(&mut ranks[3], r3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuLevel;
    use crate::pos::BUCKET_SIZE;
    use crate::simd::at_level;

    #[test]
    fn every_level_sorts_by_residue_and_then_as_given() {
        let mut random = blake3::Hasher::new().finalize_xof();
        for count in [0, 1, 2, 31, 32, 33, 128, 236, 255, 256, 257, 511, 512] {
            for modulus in [BUCKET_SIZE, 7] {
                let unordered: Vec<Entry> = (0..count)
                    .map(|position| {
                        let mut bytes = [0; 4];
                        random.fill(&mut bytes);
                        let residue = u32::from_le_bytes(bytes) % modulus;
                        [position, !position, residue << 16 | position & 255, position + 5]
                    })
                    .collect();
                let mut expected = unordered.clone();
                expected.sort_by_key(residue);
                for level in CpuLevel::available() {
                    let mut bucket = Bucket::default();
                    at_level!(level, sort(&mut bucket, &unordered));
                    assert_eq!(bucket.count, unordered.len());
                    assert_eq!(bucket.entries[..bucket.count], expected, "{level}, {count} modulo {modulus}");
                    for (i, entry) in expected.iter().enumerate() {
                        let of_bucket = u16::from(bucket.rows[i]) * 127 + u16::from(bucket.columns[i]) - 1;
                        assert_eq!(of_bucket, residue(entry));
                    }
                    assert!(bucket.columns[bucket.count..].iter().all(|column| *column == NO_COLUMN));
                }
            }
        }
    }
}
