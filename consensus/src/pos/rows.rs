//! Matching a row of a left bucket against 64 rows of the right one: an AND of bitmaps.
//!
//! Target m of an entry lies m rows below and `SHIFTS[m]` columns to the right, around the edges. So the left row, rotated by that shift,
//! is ANDed with the row m below; what is not zero is a match. The left row twice in a row is 254 bits in four
//! words, of which a rotation is a window of 127 bits.

use super::{COLUMNS, SHIFTS, TARGETS};

/// Half (low or high 64 columns) of the 64 rows of a bitmap that a left row meets.
pub(crate) type RowWindow = [u64; TARGETS];

/// How to cut the window of each target m out of the doubled left row: it starts at bit 127 - shift, that is in word 0 (near)
/// or word 1 (far), `down` bits into it.
pub(crate) struct Windows {
    /// All ones where the window starts in word 0.
    near: [u64; TARGETS],
    /// All ones where the window starts in word 1.
    far: [u64; TARGETS],
    /// Bits from the start of the word.
    down: [u64; TARGETS],
    /// 64 - `down`.
    up: [u64; TARGETS],
}

/// By the parity of the left bucket.
pub(super) static WINDOWS: [Windows; 2] = [windows(0), windows(1)];

const fn windows(parity: usize) -> Windows {
    let mut windows = Windows { near: [0; TARGETS], far: [0; TARGETS], down: [0; TARGETS], up: [0; TARGETS] };
    let mut m = 0;
    while m < TARGETS {
        let start = COLUMNS as u64 - SHIFTS[parity][m] as u64;
        windows.near[m] = if start < 64 { u64::MAX } else { 0 };
        windows.far[m] = !windows.near[m];
        windows.down[m] = start % 64;
        windows.up[m] = 64 - start % 64;
        m += 1;
    }
    windows
}

#[inline(always)]
fn doubled(row: u128) -> [u64; 4] {
    [row as u64, (row >> 64 | row << 63) as u64, (row >> 1) as u64, (row >> 65) as u64]
}

/// Bit m of the result: some entry of the left row (127 bits) has an entry at its target m.
pub(crate) fn row_hits_portable(left: u128, low: &RowWindow, high: &RowWindow, windows: &Windows) -> u64 {
    let words = doubled(left);
    let mut hits = 0;
    for m in 0..TARGETS {
        let [a, b, c] =
            if windows.far[m] != 0 { [words[1], words[2], words[3]] } else { [words[0], words[1], words[2]] };
        let (down, up) = (windows.down[m] as u32, windows.up[m] as u32);
        let window_low = a >> down | b.unbounded_shl(up);
        let window_high = b >> down | c.unbounded_shl(up);
        let hit = window_low & low[m] | window_high & high[m];
        hits |= u64::from(hit != 0) << m;
    }
    hits
}

/// Defines the function for vectors of `$lanes` 64-bit words by its intrinsics, in which a shift by 64 gives 0.
#[cfg(target_arch = "x86_64")]
macro_rules! row_hits {
    ($name:ident, $features:literal, $lanes:literal, $splat:ident, $load:ident, $and:ident, $or:ident, $left:ident, $right:ident,
     |$vector:ident| $non_zero:expr) => {
        /// As `row_hits_portable`.
        #[target_feature(enable = $features)]
        #[inline]
        pub(crate) fn $name(left: u128, low: &RowWindow, high: &RowWindow, windows: &Windows) -> u64 {
            let words = doubled(left).map(|word| word as i64);
            let (w0, w1, w2, w3) = ($splat(words[0]), $splat(words[1]), $splat(words[2]), $splat(words[3]));
            let mut hits = 0;
            let mut m = 0;
            while m < TARGETS {
                macro_rules! load {
                    ($array:expr) => {
                        // SAFETY: unaligned load of words m..m + lanes; lanes divides 64.
                        unsafe { $load($array.as_ptr().add(m).cast()) }
                    };
                }
                let (near, far) = (load!(windows.near), load!(windows.far));
                let (down, up) = (load!(windows.down), load!(windows.up));
                let a = $or($and(w0, near), $and(w1, far));
                let b = $or($and(w1, near), $and(w2, far));
                let c = $or($and(w2, near), $and(w3, far));
                let window_low = $or($right(a, down), $left(b, up));
                let window_high = $or($right(b, down), $left(c, up));
                let $vector = $or($and(window_low, load!(low)), $and(window_high, load!(high)));
                hits |= $non_zero << m;
                m += $lanes;
            }
            hits
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{RowWindow, TARGETS, Windows, doubled};
    use std::arch::x86_64::*;

    row_hits!(
        row_hits_avx2,
        "avx2",
        4,
        _mm256_set1_epi64x,
        _mm256_loadu_si256,
        _mm256_and_si256,
        _mm256_or_si256,
        _mm256_sllv_epi64,
        _mm256_srlv_epi64,
        |v| {
            let zero = _mm256_cmpeq_epi64(v, _mm256_setzero_si256());
            u64::from(!_mm256_movemask_pd(_mm256_castsi256_pd(zero)) as u8 & 15)
        }
    );

    row_hits!(
        row_hits_avx512,
        "avx512f",
        8,
        _mm512_set1_epi64,
        _mm512_loadu_si512,
        _mm512_and_si512,
        _mm512_or_si512,
        _mm512_sllv_epi64,
        _mm512_srlv_epi64,
        |v| u64::from(_mm512_test_epi64_mask(v, v))
    );
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{row_hits_avx2, row_hits_avx512};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{CpuLevel, Level};
    use crate::simd::{self, Simd};

    /// The definition, bit by bit.
    fn expected(left: u128, low: &RowWindow, high: &RowWindow, parity: usize) -> u64 {
        let mut hits = 0;
        for m in 0..TARGETS {
            let row = u128::from(high[m]) << 64 | u128::from(low[m]);
            let hit = (0..COLUMNS).any(|column| {
                let target = (column + u32::from(SHIFTS[parity][m])) % COLUMNS;
                left >> column & 1 != 0 && row >> target & 1 != 0
            });
            hits |= u64::from(hit) << m;
        }
        hits
    }

    fn check<S: Simd>() {
        let mut random = blake3::Hasher::new().finalize_xof();
        let mut sparse_row = || {
            let mut bytes = [0; 48];
            random.fill(&mut bytes);
            let part = |i: usize| u128::from_le_bytes(bytes[16 * i..16 * (i + 1)].try_into().unwrap());
            (part(0) & part(1) & part(2)) & ((1 << COLUMNS) - 1)
        };
        for round in 0..200 {
            let rows: Vec<u128> = (0..TARGETS).map(|_| sparse_row()).collect();
            let low = std::array::from_fn(|m| rows[m] as u64);
            let high = std::array::from_fn(|m| (rows[m] >> 64) as u64);
            let left = if round < 127 { 1 << round } else { sparse_row() };
            for parity in [0, 1] {
                // SAFETY: the caller goes through the levels that the machine has.
                let hits = unsafe { S::row_hits(left, &low, &high, &WINDOWS[parity]) };
                assert_eq!(hits, expected(left, &low, &high, parity));
            }
        }
    }

    #[test]
    fn every_level_equals_the_definition() {
        for level in CpuLevel::available() {
            match level.level() {
                Level::Portable => check::<simd::Portable>(),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => check::<simd::Avx2>(),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => check::<simd::Avx512>(),
            }
        }
    }
}
