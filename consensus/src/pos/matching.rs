//! Matching a left bucket with the right one beside it.
//!
//! Target m (0..64) of a left entry lies m rows below and `SHIFTS[m]` columns to the right, around the edges. So there is one
//! column that a right entry must have to be a match, given by its row: `m` = rows between, column = a table of the left
//! column at `m`. A left entry is compared with all right entries, as many at a time as a vector has bytes, in five
//! instructions. What comes out, a bit for each right entry in its order, is the consensus order of matches.

use super::bucket::Bucket;
use super::{CAPACITY, COLUMNS, ROWS, SHIFTS, TARGETS, zeros};
use crate::simd::{MAX_LANES, at_every_level};

/// By parity of the left bucket and 1 + left column: 1 + the columns of the targets. Column 0 is none.
static TARGET_COLUMNS: [[[u8; TARGETS]; COLUMNS as usize + 1]; 2] = [target_columns(0), target_columns(1)];

const fn target_columns(parity: usize) -> [[u8; TARGETS]; COLUMNS as usize + 1] {
    let mut columns = [[0; TARGETS]; COLUMNS as usize + 1];
    let mut column = 0;
    while column < COLUMNS as usize {
        let mut m = 0;
        while m < TARGETS {
            columns[column + 1][m] = ((column + SHIFTS[parity][m] as usize) % COLUMNS as usize) as u8 + 1;
            m += 1;
        }
        column += 1;
    }
    columns
}

/// Right entries of a word of bits.
const WORD: usize = u64::BITS as usize;
/// Words that hold a bit for every right entry.
const WORDS_MAX: usize = CAPACITY / WORD;

/// Room for the matches listed: a word may bring some more than are kept. A power of two, so that places need no checks.
const LISTED: usize = 2 * CAPACITY;

/// Ranks of the matches of two buckets, in consensus order.
pub(super) struct Matches {
    /// At most [`CAPACITY`].
    pub(super) count: usize,
    /// Left ranks; below [`CAPACITY`], also behind the last match, so that a vector can be read anywhere.
    pub(super) left: [u16; LISTED],
    /// Right ranks, likewise.
    pub(super) right: [u16; LISTED],
    /// For each left entry, a bit for each right entry.
    words: Box<[u64; CAPACITY * WORDS_MAX]>,
    /// Which words are not zero.
    hits: [u16; CAPACITY * WORDS_MAX + 8],
}

const _: () = assert!(LISTED >= CAPACITY + WORD + MAX_LANES && CAPACITY * WORDS_MAX <= u16::MAX as usize);

impl Default for Matches {
    fn default() -> Self {
        Self {
            count: 0,
            left: [0; LISTED],
            right: [0; LISTED],
            words: zeros(),
            hits: [0; CAPACITY * WORDS_MAX + 8],
        }
    }
}

at_every_level! { use;
    /// Lists every match of `left`, a bucket of this parity, with `right`, up to [`CAPACITY`] of them.
    fn find(left: &Bucket, right: &Bucket, parity: usize, matches: &mut Matches) {
        match right.count.div_ceil(WORD) {
            0..=4 => find_in::<4>(left, right, parity, matches),
            5 => find_in::<5>(left, right, parity, matches),
            _ => find_in::<WORDS_MAX>(left, right, parity, matches),
        }
    }

    /// As [`find`], with the right entries in the first `WORDS` words of bits.
    fn find_in[const WORDS: usize](left: &Bucket, right: &Bucket, parity: usize, matches: &mut Matches) {
        mark::<WORDS>(left, right, parity, matches);
        let Matches { words, hits, .. } = matches;
        let mut hit_count = 0;
        let used = left.count * WORDS;
        for (i, words) in words.as_chunks().0[..used.div_ceil(8)].iter().enumerate() {
            let list = hits[hit_count..].first_chunk_mut().expect("there is room behind the last hit");
            hit_count += list_non_zero(words, 8 * i as u16, list);
        }
        let mut count = 0;
        for hit in &hits[..hit_count] {
            if count >= CAPACITY {
                break;
            }
            let hit = usize::from(*hit);
            let (left, right) = ((hit / WORDS) as u16, (hit % WORDS * WORD) as u16);
            let mut word = words[hit % words.len()];
            loop {
                matches.left[count % LISTED] = left;
                matches.right[count % LISTED] = right + word.trailing_zeros() as u16;
                count += 1;
                word &= word - 1;
                if word == 0 {
                    break;
                }
            }
        }
        matches.count = count.min(CAPACITY);
    }

    /// Fills in the words of bits of all left entries, and zeros up to the next multiple of 8 words.
    #[inline]
    fn mark[const WORDS: usize](left: &Bucket, right: &Bucket, parity: usize, matches: &mut Matches) {
        let columns = &TARGET_COLUMNS[parity];
        let right_rows = right.rows.as_chunks::<BYTES>().0;
        let right_columns = right.columns.as_chunks::<BYTES>().0;
        let words = matches.words.as_chunks_mut::<WORDS>().0;
        let lefts = left.rows.iter().zip(&left.columns).take(left.count);
        for ((row, column), words) in lefts.zip(words.iter_mut()) {
            let targets = load_table(&columns[usize::from(column & 127)]);
            let row = splat_byte(*row);
            for (j, place) in words.iter_mut().enumerate() {
                let mut word = 0;
                for part in 0..WORD / BYTES {
                    let at = j * (WORD / BYTES) + part;
                    let wanted = look_up(targets, sub_modulo(load_bytes(&right_rows[at]), row, ROWS as u8));
                    word |= equal(wanted, load_bytes(&right_columns[at])) << (part * BYTES);
                }
                *place = word;
            }
        }
        let used = left.count * WORDS;
        matches.words[used..used.next_multiple_of(8)].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuLevel;
    use crate::pos::BUCKET_SIZE;
    use crate::pos::bucket::{self, Entry};
    use crate::simd::at_level;

    /// A bucket of residues, and the residues in order.
    fn bucket(level: CpuLevel, seed: &[u8], count: u32, modulus: u32) -> (Box<Bucket>, Vec<u32>) {
        let mut random = blake3::Hasher::new().update(seed).finalize_xof();
        let mut residues: Vec<u32> = (0..count)
            .map(|_| {
                let mut bytes = [0; 4];
                random.fill(&mut bytes);
                u32::from_le_bytes(bytes) % modulus
            })
            .collect();
        let entries: Vec<Entry> = residues.iter().map(|residue| [0, 0, residue << 16, 0]).collect();
        let mut bucket = Box::<Bucket>::default();
        {
            use bucket::*;
            at_level!(level, sort(&mut bucket, &entries));
        }
        residues.sort_unstable();
        (bucket, residues)
    }

    /// PROTOCOL 1, "Matching" and "Order inside tables", word by word.
    fn expected(left: &[u32], right: &[u32], parity: u32) -> Vec<(u16, u16)> {
        let mut matches = Vec::new();
        for (i, r) in left.iter().enumerate() {
            let mut targets: Vec<u32> = (0..64)
                .map(|m| (r / 127 + m) % 119 * 127 + ((2 * m + parity) * (2 * m + parity) + r) % 127)
                .collect();
            targets.sort_unstable();
            for target in targets {
                let start = right.partition_point(|residue| *residue < target);
                let equal = right[start..].iter().take_while(|residue| **residue == target).count();
                matches.extend((start..start + equal).map(|j| (i as u16, j as u16)));
            }
        }
        matches.truncate(CAPACITY);
        matches
    }

    #[test]
    fn every_level_equals_the_definition() {
        let counts = [(0, 5), (5, 0), (1, 512), (236, 236), (250, 260), (240, 300), (512, 512), (236, 321)];
        for (left_count, right_count) in counts {
            for modulus in [BUCKET_SIZE, 2000] {
                for parity in [0, 1] {
                    for level in CpuLevel::available() {
                        let (left, left_residues) = bucket(level, b"left", left_count, modulus);
                        let (right, right_residues) = bucket(level, b"right", right_count, modulus);
                        let mut matches = Box::<Matches>::default();
                        at_level!(level, find(&left, &right, parity, &mut matches));
                        let found: Vec<_> =
                            matches.left.into_iter().zip(matches.right).take(matches.count).collect();
                        let expected = expected(&left_residues, &right_residues, parity as u32);
                        assert!(
                            found == expected,
                            "{level}: {left_count} and {right_count} modulo {modulus}"
                        );
                    }
                }
            }
        }
    }
}
