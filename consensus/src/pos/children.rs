//! Making the entries that matches stand for: f2 to f7 (PROTOCOL 1, "f_t"), a vector of matches at a time.
//!
//! [`super::function`] says the same for one entry, without vectors.

use super::bucket::{Bucket, Entry};
use super::function::input_bytes;
use super::matching::Matches;
use super::{BUCKET_SIZE, CAPACITY, EXTRA_BITS};
use crate::lanes::Parameters;
use crate::simd::{MAX_LANES, at_every_level};

/// The entries that come out of the matches of two buckets, in their order.
pub(super) struct Children {
    /// The bucket that an entry goes to.
    pub(super) buckets: [u16; CAPACITY + MAX_LANES],
    /// The entries; of table 7, which has no metadata, words 0 and 1 are y and zero.
    pub(super) entries: [Entry; CAPACITY + MAX_LANES],
}

impl Default for Children {
    fn default() -> Self {
        Self { buckets: [0; CAPACITY + MAX_LANES], entries: [[0; 4]; CAPACITY + MAX_LANES] }
    }
}

/// y / [`BUCKET_SIZE`] = y * `RECIPROCAL` / 2^45: the reciprocal is too large by less than one part in 2^31, y has 26 bits.
const RECIPROCAL: u32 = (1_u64 << 45).div_ceil(BUCKET_SIZE as u64) as u32;

at_every_level! { use crate::lanes;
    /// Makes the entries of table `T` that the matches of `left`, bucket number `bucket` of table `T - 1`, with `right` stand for.
    fn make[const T: u8](left: &Bucket, right: &Bucket, bucket: usize, matches: &Matches, children: &mut Children) {
        let parameters = Parameters::plain(input_bytes(T));
        let left_start = splat(bucket as u32 * BUCKET_SIZE);
        let left_bucket = splat((bucket as u32) << 18);
        for at in (0..matches.count).step_by(LANES) {
            let left_ranks = matches.left[at..].first_chunk().expect("matches have room behind the last");
            let right_ranks = matches.right[at..].first_chunk().expect("matches have room behind the last");
            let [l0, l1, l2, _] = load_quads(&left.entries, left_ranks);
            let [r0, r1, r2, _] = load_quads(&right.entries, right_ranks);
            let left_y = add(left_start, shr::<16>(l2));
            let low_half = splat(0xFFFF);
            let (l, r) = ([l0, l1, and(l2, low_half)], [r0, r1, and(r2, low_half)]);
            let hash = hash_parents::<T>(&parameters, left_y, l, r);
            let y = shr::<EXTRA_BITS>(hash[0]);
            let number = shr::<13>(multiply_high(y, splat(RECIPROCAL)));
            let residue = sub(y, multiply(number, splat(BUCKET_SIZE)));
            let metadata = if T == 7 { [y, splat(0), splat(0)] } else { metadata::<T>(hash, l, r) };
            let pointer = or(or(left_bucket, shl::<9>(load_u16(left_ranks))), load_u16(right_ranks));
            let entry = [metadata[0], metadata[1], or(metadata[2], shl::<16>(residue)), pointer];
            store_quads(children.entries[at..].first_chunk_mut().expect("children have room behind the last"), entry);
            store_u16(children.buckets[at..].first_chunk_mut().expect("children have room behind the last"), number);
        }
    }

    /// `high << BITS | low >> (32 - BITS)`, where `DOWN` = 32 - `BITS`.
    #[inline]
    fn funnel[const BITS: u32, const DOWN: u32](high: Words, low: Words) -> Words {
        const { assert!(BITS + DOWN == 32) };
        or(shl::<BITS>(high), shr::<DOWN>(low))
    }

    /// The first four words of the hash, big endian, over 26 bits of y and the metadata of both parents, left first.
    #[inline]
    fn hash_parents[const T: u8](parameters: &Parameters, y: Words, l: [Words; 3], r: [Words; 3]) -> [Words; 4] {
        let [l0, l1, l2] = l;
        let [r0, r1, r2] = r;
        match T {
            // 20 bits each.
            2 => hash_bits(parameters, [or(shl::<6>(y), shr::<14>(l0)), or(shl::<18>(l0), shr::<2>(r0)), shl::<30>(r0)]),
            // 40 bits each.
            3 | 7 => hash_bits(parameters, [
                or(shl::<6>(y), shr::<2>(l1)),
                funnel::<30, 2>(l1, l0),
                or(shl::<30>(l0), funnel::<22, 10>(r1, r0)),
                shl::<22>(r0),
            ]),
            // 80 bits each.
            4 | 5 => hash_bits(parameters, [
                or(shl::<6>(y), shr::<10>(l2)),
                funnel::<22, 10>(l2, l1),
                funnel::<22, 10>(l1, l0),
                or(shl::<22>(l0), funnel::<6, 26>(r2, r1)),
                funnel::<6, 26>(r1, r0),
                shl::<6>(r0),
            ]),
            // 60 bits each.
            _ => hash_bits(parameters, [
                or(shl::<6>(y), shr::<22>(l1)),
                funnel::<10, 22>(l1, l0),
                or(shl::<10>(l0), shr::<18>(r1)),
                funnel::<14, 18>(r1, r0),
                shl::<14>(r0),
            ]),
        }
    }

    /// The first four words of the hash of a bit string; words of both are big endian.
    #[inline]
    fn hash_bits[const N: usize](parameters: &Parameters, mut bits: [Words; N]) -> [Words; 4] {
        for word in &mut bits {
            *word = swap_bytes(*word);
        }
        let [a, b, c, d] = hash(parameters, &bits);
        [swap_bytes(a), swap_bytes(b), swap_bytes(c), swap_bytes(d)]
    }

    /// Metadata of an entry of table `T`, lowest word first: that of its parents, or bits of the hash behind y.
    #[inline]
    fn metadata[const T: u8](hash: [Words; 4], l: [Words; 3], r: [Words; 3]) -> [Words; 3] {
        let [h0, h1, h2, h3] = hash;
        match T {
            2 => [or(shl::<20>(l[0]), r[0]), shr::<12>(l[0]), splat(0)],
            3 => [r[0], or(shl::<8>(l[0]), r[1]), funnel::<8, 24>(l[1], l[0])],
            4 => [
                funnel::<10, 22>(h2, h3),
                funnel::<10, 22>(h1, h2),
                and(funnel::<10, 22>(h0, h1), splat((1 << 16) - 1)),
            ],
            5 => [funnel::<22, 10>(h1, h2), and(funnel::<22, 10>(h0, h1), splat((1 << 28) - 1)), splat(0)],
            _ => [funnel::<2, 30>(h1, h2), and(funnel::<2, 30>(h0, h1), splat((1 << 8) - 1)), splat(0)],
        }
    }
}
