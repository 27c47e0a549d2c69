//! 256-bit vectors: AVX2.

use super::{MAX_LANES, Quad};
use std::arch::x86_64::*;

pub(crate) use super::portable::list_non_zero;

/// Lanes of [`Words`].
pub(crate) const LANES: usize = 8;
/// Lanes of [`Keys`].
pub(crate) const KEYS: usize = 16;
/// Lanes of [`Bytes`].
pub(crate) const BYTES: usize = 32;

pub(crate) type Words = __m256i;
pub(crate) type Keys = __m256i;
pub(crate) type Bytes = __m256i;

/// Defines vector functions: safe to call where the level is.
macro_rules! vector_functions {
    ($($(#[$meta:meta])* fn $name:ident $([$($generics:tt)*])? ($($arguments:tt)*) $(-> $value:ty)? $body:block)*) => {
        $($(#[$meta])*
        #[inline]
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
        pub(crate) fn $name $(<$($generics)*>)? ($($arguments)*) $(-> $value)? $body)*
    };
}

vector_functions! {
    fn splat(word: u32) -> Words {
        _mm256_set1_epi32(word as i32)
    }

    fn store(words: &mut [u32; MAX_LANES], vector: Words) {
        // SAFETY: unaligned store of 8 of the 16 words.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) }
    }

    /// 16-bit numbers as words.
    fn load_u16(numbers: &[u16; MAX_LANES]) -> Words {
        // SAFETY: unaligned load of 8 of the 16 numbers.
        _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(numbers.as_ptr().cast()) })
    }

    /// The low halves of the words, which are below 2^16.
    fn store_u16(numbers: &mut [u16; MAX_LANES], vector: Words) {
        let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(vector, vector));
        // SAFETY: unaligned store of 8 of the 16 numbers.
        unsafe { _mm_storeu_si128(numbers.as_mut_ptr().cast(), _mm256_castsi256_si128(packed)) }
    }

    fn add(a: Words, b: Words) -> Words {
        _mm256_add_epi32(a, b)
    }

    fn sub(a: Words, b: Words) -> Words {
        _mm256_sub_epi32(a, b)
    }

    fn and(a: Words, b: Words) -> Words {
        _mm256_and_si256(a, b)
    }

    fn or(a: Words, b: Words) -> Words {
        _mm256_or_si256(a, b)
    }

    fn xor(a: Words, b: Words) -> Words {
        _mm256_xor_si256(a, b)
    }

    fn shl[const BITS: u32](a: Words) -> Words {
        _mm256_sll_epi32(a, _mm_cvtsi32_si128(BITS as i32))
    }

    fn shr[const BITS: u32](a: Words) -> Words {
        _mm256_srl_epi32(a, _mm_cvtsi32_si128(BITS as i32))
    }

    fn rotate[const RIGHT: i32](a: Words) -> Words {
        let swap = |order: [i8; 4]| {
            let [a, b, c, d] = order;
            _mm256_setr_epi8(
                a, b, c, d, a + 4, b + 4, c + 4, d + 4, a + 8, b + 8, c + 8, d + 8, a + 12, b + 12, c + 12, d + 12,
                a, b, c, d, a + 4, b + 4, c + 4, d + 4, a + 8, b + 8, c + 8, d + 8, a + 12, b + 12, c + 12, d + 12,
            )
        };
        match RIGHT {
            8 => _mm256_shuffle_epi8(a, swap([1, 2, 3, 0])),
            16 => _mm256_shuffle_epi8(a, swap([2, 3, 0, 1])),
            _ => {
                let (right, left) = (_mm_cvtsi32_si128(RIGHT), _mm_cvtsi32_si128(32 - RIGHT));
                _mm256_or_si256(_mm256_srl_epi32(a, right), _mm256_sll_epi32(a, left))
            }
        }
    }

    /// The low words of the products.
    fn multiply(a: Words, b: Words) -> Words {
        _mm256_mullo_epi32(a, b)
    }

    /// The high words of the products.
    fn multiply_high(a: Words, b: Words) -> Words {
        let even = _mm256_mul_epu32(a, b);
        let odd = _mm256_mul_epu32(_mm256_srli_epi64::<32>(a), _mm256_srli_epi64::<32>(b));
        _mm256_blend_epi32::<0xAA>(_mm256_srli_epi64::<32>(even), odd)
    }

    /// The bytes of each word in reverse.
    fn swap_bytes(a: Words) -> Words {
        let order = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
        _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(order))
    }

    /// Four vectors of quads to four of words: quad i of the result's lane i.
    fn transpose(rows: [__m256i; 4]) -> [Words; 4] {
        let [r0, r1, r2, r3] = rows;
        let (a, b) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpackhi_epi32(r0, r1));
        let (c, d) = (_mm256_unpacklo_epi32(r2, r3), _mm256_unpackhi_epi32(r2, r3));
        [
            _mm256_unpacklo_epi64(a, c),
            _mm256_unpackhi_epi64(a, c),
            _mm256_unpacklo_epi64(b, d),
            _mm256_unpackhi_epi64(b, d),
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
        // Row k has quads k and k + 4, so that transposing brings all into order.
        macro_rules! row {
            ($k:expr) => {
                _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(quad!($k)), quad!($k + 4))
            };
        }
        transpose([row!(0), row!(1), row!(2), row!(3)])
    }

    /// The reverse of [`load_quads`] for quads in order.
    fn store_quads(quads: &mut [Quad; MAX_LANES], words: [Words; 4]) {
        let [r0, r1, r2, r3] = transpose(words);
        let rows = [
            _mm256_permute2x128_si256::<0x20>(r0, r1),
            _mm256_permute2x128_si256::<0x20>(r2, r3),
            _mm256_permute2x128_si256::<0x31>(r0, r1),
            _mm256_permute2x128_si256::<0x31>(r2, r3),
        ];
        for (quads, row) in quads.as_chunks_mut::<2>().0.iter_mut().zip(rows) {
            // SAFETY: unaligned store of 2 quads of 4 words.
            unsafe { _mm256_storeu_si256(quads.as_mut_ptr().cast(), row) }
        }
    }

    fn splat_key(key: u16) -> Keys {
        _mm256_set1_epi16(key as i16)
    }

    fn load_keys(keys: &[u16; KEYS]) -> Keys {
        // SAFETY: unaligned load of the 16 keys.
        unsafe { _mm256_loadu_si256(keys.as_ptr().cast()) }
    }

    fn store_keys(keys: &mut [u16; KEYS], vector: Keys) {
        // SAFETY: unaligned store of the 16 keys.
        unsafe { _mm256_storeu_si256(keys.as_mut_ptr().cast(), vector) }
    }

    /// One more in each lane where `a` < `b`; both below 2^15.
    fn count_less(counts: Keys, a: Keys, b: Keys) -> Keys {
        // True is -1.
        _mm256_sub_epi16(counts, _mm256_cmpgt_epi16(b, a))
    }

    fn splat_byte(byte: u8) -> Bytes {
        _mm256_set1_epi8(byte as i8)
    }

    fn load_bytes(bytes: &[u8; BYTES]) -> Bytes {
        // SAFETY: unaligned load of the 32 bytes.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    /// `(a - b) mod modulus`, for `a` and `b` below the modulus, which is below 128.
    fn sub_modulo(a: Bytes, b: Bytes, modulus: u8) -> Bytes {
        let difference = _mm256_sub_epi8(a, b);
        _mm256_min_epu8(difference, _mm256_add_epi8(difference, splat_byte(modulus)))
    }

    /// A table of 64 bytes, ready to look up in: its quarters.
    fn load_table(table: &[u8; 64]) -> [__m256i; 4] {
        // SAFETY: unaligned loads of 16 bytes each, 64 in all.
        let quarter = |i: usize| unsafe { _mm_loadu_si128(table.as_ptr().add(16 * i).cast()) };
        [
            _mm256_broadcastsi128_si256(quarter(0)),
            _mm256_broadcastsi128_si256(quarter(1)),
            _mm256_broadcastsi128_si256(quarter(2)),
            _mm256_broadcastsi128_si256(quarter(3)),
        ]
    }

    /// The table's bytes at places below 128; beyond the table it is zero.
    fn look_up(table: [__m256i; 4], places: Bytes) -> Bytes {
        // A place is brought to 0x70..0x80 where it lies in the quarter, and to 0x80 or more where it does not, which looks up zero.
        macro_rules! quarter {
            ($i:literal) => {{
                let place = _mm256_sub_epi8(places, splat_byte(16 * $i));
                _mm256_shuffle_epi8(table[$i], _mm256_adds_epu8(place, splat_byte(0x70)))
            }};
        }
        _mm256_or_si256(
            _mm256_or_si256(quarter!(0), quarter!(1)),
            _mm256_or_si256(quarter!(2), quarter!(3)),
        )
    }

    /// Bit i: whether `a` and `b` are equal in lane i.
    fn equal(a: Bytes, b: Bytes) -> u64 {
        u64::from(_mm256_movemask_epi8(_mm256_cmpeq_epi8(a, b)) as u32)
    }
}
