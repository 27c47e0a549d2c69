//! 512-bit vectors: AVX-512 with VBMI, as processors have it from Ice Lake and Zen 4 on.

use super::{MAX_LANES, Quad};
use std::arch::x86_64::*;

// Keys take half a vector: comparisons of whole ones make masks, from which counting is slower.
pub(crate) use super::avx2::{KEYS, count_less, load_keys, splat_key, store_keys};

/// Lanes of [`Words`].
pub(crate) const LANES: usize = 16;
/// Lanes of [`Bytes`].
pub(crate) const BYTES: usize = 64;

pub(crate) type Words = __m512i;
pub(crate) type Bytes = __m512i;

/// Defines vector functions: safe to call where the level is.
macro_rules! vector_functions {
    ($($(#[$meta:meta])* fn $name:ident $([$($generics:tt)*])? ($($arguments:tt)*) $(-> $value:ty)? $body:block)*) => {
        $($(#[$meta])*
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,bmi1,bmi2,lzcnt,popcnt")]
        pub(crate) fn $name $(<$($generics)*>)? ($($arguments)*) $(-> $value)? $body)*
    };
}

vector_functions! {
    fn splat(word: u32) -> Words {
        _mm512_set1_epi32(word as i32)
    }

    fn store(words: &mut [u32; MAX_LANES], vector: Words) {
        // SAFETY: unaligned store of the 16 words.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) }
    }

    /// 16-bit numbers as words.
    fn load_u16(numbers: &[u16; MAX_LANES]) -> Words {
        // SAFETY: unaligned load of the 16 numbers.
        _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) })
    }

    /// The low halves of the words.
    fn store_u16(numbers: &mut [u16; MAX_LANES], vector: Words) {
        // SAFETY: unaligned store of the 16 numbers.
        unsafe { _mm256_storeu_si256(numbers.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(vector)) }
    }

    fn add(a: Words, b: Words) -> Words {
        _mm512_add_epi32(a, b)
    }

    fn sub(a: Words, b: Words) -> Words {
        _mm512_sub_epi32(a, b)
    }

    fn and(a: Words, b: Words) -> Words {
        _mm512_and_si512(a, b)
    }

    fn or(a: Words, b: Words) -> Words {
        _mm512_or_si512(a, b)
    }

    fn xor(a: Words, b: Words) -> Words {
        _mm512_xor_si512(a, b)
    }

    fn shl[const BITS: u32](a: Words) -> Words {
        _mm512_slli_epi32::<BITS>(a)
    }

    fn shr[const BITS: u32](a: Words) -> Words {
        _mm512_srli_epi32::<BITS>(a)
    }

    fn rotate[const RIGHT: i32](a: Words) -> Words {
        _mm512_ror_epi32::<RIGHT>(a)
    }

    /// The low words of the products.
    fn multiply(a: Words, b: Words) -> Words {
        _mm512_mullo_epi32(a, b)
    }

    /// The high words of the products.
    fn multiply_high(a: Words, b: Words) -> Words {
        let even = _mm512_mul_epu32(a, b);
        let odd = _mm512_mul_epu32(_mm512_srli_epi64::<32>(a), _mm512_srli_epi64::<32>(b));
        _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64::<32>(even), odd)
    }

    /// The bytes of each word in reverse.
    fn swap_bytes(a: Words) -> Words {
        let order = _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
        _mm512_shuffle_epi8(a, order)
    }

    /// Four vectors of quads to four of words: quad i of the result's lane i.
    fn transpose(rows: [__m512i; 4]) -> [Words; 4] {
        let [r0, r1, r2, r3] = rows;
        let (a, b) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
        let (c, d) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
        [
            _mm512_unpacklo_epi64(a, c),
            _mm512_unpackhi_epi64(a, c),
            _mm512_unpacklo_epi64(b, d),
            _mm512_unpackhi_epi64(b, d),
        ]
    }

    /// Words 0 to 3 of the quads with these numbers, counted modulo `N`, a power of two.
    fn load_quads[const N: usize](quads: &[Quad; N], at: &[u16; MAX_LANES]) -> [Words; 4] {
        const { assert!(N.is_power_of_two()) };
        macro_rules! quad {
            ($i:expr) => {{
                let quad = &quads[usize::from(at[$i]) & (N - 1)];
                // SAFETY: unaligned load of the 4 words of a live array.
                unsafe { _mm_loadu_si128(quad.as_ptr().cast()) }
            }};
        }
        // Row k has quads k, k + 4, k + 8, k + 12, so that transposing brings all into order.
        macro_rules! row {
            ($k:expr) => {{
                let row = _mm512_broadcast_i32x4(quad!($k));
                let row = _mm512_mask_broadcast_i32x4(row, 0x00F0, quad!($k + 4));
                let row = _mm512_mask_broadcast_i32x4(row, 0x0F00, quad!($k + 8));
                _mm512_mask_broadcast_i32x4(row, 0xF000, quad!($k + 12))
            }};
        }
        transpose([row!(0), row!(1), row!(2), row!(3)])
    }

    /// The reverse of [`load_quads`] for quads in order.
    fn store_quads(quads: &mut [Quad; MAX_LANES], words: [Words; 4]) {
        let [r0, r1, r2, r3] = transpose(words);
        let (a, b) = (_mm512_shuffle_i32x4::<0x44>(r0, r1), _mm512_shuffle_i32x4::<0xEE>(r0, r1));
        let (c, d) = (_mm512_shuffle_i32x4::<0x44>(r2, r3), _mm512_shuffle_i32x4::<0xEE>(r2, r3));
        let rows = [
            _mm512_shuffle_i32x4::<0x88>(a, c),
            _mm512_shuffle_i32x4::<0xDD>(a, c),
            _mm512_shuffle_i32x4::<0x88>(b, d),
            _mm512_shuffle_i32x4::<0xDD>(b, d),
        ];
        for (quads, row) in quads.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
            // SAFETY: unaligned store of 4 quads of 4 words.
            unsafe { _mm512_storeu_si512(quads.as_mut_ptr().cast(), row) }
        }
    }

    fn splat_byte(byte: u8) -> Bytes {
        _mm512_set1_epi8(byte as i8)
    }

    fn load_bytes(bytes: &[u8; BYTES]) -> Bytes {
        // SAFETY: unaligned load of the 64 bytes.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    /// `(a - b) mod modulus`, for `a` and `b` below the modulus, which is below 128.
    fn sub_modulo(a: Bytes, b: Bytes, modulus: u8) -> Bytes {
        let difference = _mm512_sub_epi8(a, b);
        _mm512_min_epu8(difference, _mm512_add_epi8(difference, splat_byte(modulus)))
    }

    /// A table of 64 bytes, ready to look up in.
    fn load_table(table: &[u8; 64]) -> [__m512i; 1] {
        [load_bytes(table)]
    }

    /// The table's bytes at places below 128; beyond the table it is zero.
    fn look_up(table: [__m512i; 1], places: Bytes) -> Bytes {
        _mm512_permutex2var_epi8(table[0], places, _mm512_setzero_si512())
    }

    /// Bit i: whether `a` and `b` are equal in lane i.
    fn equal(a: Bytes, b: Bytes) -> u64 {
        _mm512_cmpeq_epi8_mask(a, b)
    }

    /// Writes `first + i` for every word i that is not zero, in order, and returns how many these are; what lies behind
    /// them is overwritten.
    fn list_non_zero(words: &[u64; 8], first: u16, list: &mut [u16; 8]) -> usize {
        // SAFETY: unaligned load of the 8 words.
        let words = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
        let mask = _mm512_test_epi64_mask(words, words);
        let numbers = _mm256_add_epi32(_mm256_set1_epi32(first.into()), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        let listed = _mm256_cvtepi32_epi16(_mm256_maskz_compress_epi32(mask, numbers));
        // SAFETY: unaligned store of the 8 numbers.
        unsafe { _mm_storeu_si128(list.as_mut_ptr().cast(), listed) };
        mask.count_ones() as usize
    }
}
