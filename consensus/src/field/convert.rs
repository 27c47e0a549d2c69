//! Between scalars as they lie in memory (32 bytes each) and [`Eight`]s.

use super::eight::{Eight, LIMBS};
use crate::bls::Scalar;
use std::arch::x86_64::*;

/// Reverses the bytes of every 64-bit word.
const SWAP_BYTES: [u64; 2] = [0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f];

/// Eight big-endian numbers of any value: carried, and below 2^256.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
pub(super) fn from_chunks(chunks: &[[u8; 32]; 8]) -> Eight {
    let [a, b, c, d] = words_of_each(load(chunks.as_flattened().as_chunks::<64>().0));
    limbs_of_words([swap_bytes(d), swap_bytes(c), swap_bytes(b), swap_bytes(a)])
}

/// Eight canonical numbers as big-endian bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
pub(super) fn to_chunks(canonical: &Eight) -> [[u8; 32]; 8] {
    let [a, b, c, d] = words_of_limbs(canonical);
    let vectors = each_of_words([swap_bytes(d), swap_bytes(c), swap_bytes(b), swap_bytes(a)]);
    let mut chunks = [[0; 32]; 8];
    for (place, vector) in chunks.as_flattened_mut().as_chunks_mut::<64>().0.iter_mut().zip(vectors) {
        // SAFETY: unaligned store of 64 bytes into an array of as many.
        unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), vector) };
    }
    chunks
}

/// The words of eight scalars as they are, 2^256 times the scalar: carried, below 1.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn from_scalars(scalars: &[Scalar; 8]) -> Eight {
    let words = scalars.map(Scalar::to_words);
    // SAFETY: an array of eight times four 64-bit words is 256 bytes, which may be read as bytes.
    let bytes: &[[u8; 64]; 4] = unsafe { &*words.as_ptr().cast() };
    limbs_of_words(words_of_each(load(bytes)))
}

/// The reverse of [`from_scalars`], for canonical numbers.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn to_scalars(canonical: &Eight) -> [Scalar; 8] {
    let vectors = each_of_words(words_of_limbs(canonical));
    let mut words = [[0_u64; 4]; 8];
    for (place, vector) in words.as_flattened_mut().as_chunks_mut::<8>().0.iter_mut().zip(vectors) {
        // SAFETY: unaligned store of eight words into an array of as many.
        unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), vector) };
    }
    words.map(Scalar::from_words)
}

/// 256 bytes.
#[target_feature(enable = "avx512f")]
#[inline]
fn load(bytes: &[[u8; 64]]) -> [__m512i; 4] {
    assert_eq!(bytes.len(), 4);
    let mut vectors = [_mm512_setzero_si512(); 4];
    for (vector, bytes) in vectors.iter_mut().zip(bytes) {
        // SAFETY: unaligned load of 64 bytes out of an array of as many.
        *vector = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
    }
    vectors
}

/// Vectors of two numbers of four words each to vectors of one word of all eight.
#[target_feature(enable = "avx512f")]
#[inline]
fn words_of_each(numbers: [__m512i; 4]) -> [__m512i; 4] {
    let (words01, words23) =
        (_mm512_setr_epi64(0, 4, 8, 12, 1, 5, 9, 13), _mm512_setr_epi64(2, 6, 10, 14, 3, 7, 11, 15));
    let [a, b, c, d] = numbers;
    let (low01, high01) =
        (_mm512_permutex2var_epi64(a, words01, b), _mm512_permutex2var_epi64(c, words01, d));
    let (low23, high23) =
        (_mm512_permutex2var_epi64(a, words23, b), _mm512_permutex2var_epi64(c, words23, d));
    [
        _mm512_shuffle_i64x2::<0b01_00_01_00>(low01, high01),
        _mm512_shuffle_i64x2::<0b11_10_11_10>(low01, high01),
        _mm512_shuffle_i64x2::<0b01_00_01_00>(low23, high23),
        _mm512_shuffle_i64x2::<0b11_10_11_10>(low23, high23),
    ]
}

/// The reverse of [`words_of_each`].
#[target_feature(enable = "avx512f")]
#[inline]
fn each_of_words(words: [__m512i; 4]) -> [__m512i; 4] {
    let (first, second) =
        (_mm512_setr_epi64(0, 4, 8, 12, 1, 5, 9, 13), _mm512_setr_epi64(2, 6, 10, 14, 3, 7, 11, 15));
    let [a, b, c, d] = words;
    let low01 = _mm512_shuffle_i64x2::<0b01_00_01_00>(a, b);
    let high01 = _mm512_shuffle_i64x2::<0b11_10_11_10>(a, b);
    let low23 = _mm512_shuffle_i64x2::<0b01_00_01_00>(c, d);
    let high23 = _mm512_shuffle_i64x2::<0b11_10_11_10>(c, d);
    [
        _mm512_permutex2var_epi64(low01, first, low23),
        _mm512_permutex2var_epi64(low01, second, low23),
        _mm512_permutex2var_epi64(high01, first, high23),
        _mm512_permutex2var_epi64(high01, second, high23),
    ]
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn swap_bytes(words: __m512i) -> __m512i {
    let [low, high] = SWAP_BYTES.map(|word| word as i64);
    _mm512_shuffle_epi8(words, _mm512_setr_epi64(low, high, low, high, low, high, low, high))
}

/// Four 64-bit words to five 52-bit limbs, both least significant first.
#[target_feature(enable = "avx512f")]
#[inline]
fn limbs_of_words(words: [__m512i; 4]) -> Eight {
    let mask = _mm512_set1_epi64((1 << 52) - 1);
    let [a, b, c, d] = words;
    Eight([
        _mm512_and_si512(a, mask),
        _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi64::<52>(a), _mm512_slli_epi64::<12>(b)), mask),
        _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi64::<40>(b), _mm512_slli_epi64::<24>(c)), mask),
        _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi64::<28>(c), _mm512_slli_epi64::<36>(d)), mask),
        _mm512_srli_epi64::<16>(d),
    ])
}

/// The reverse of [`limbs_of_words`], for carried numbers below 2^256.
#[target_feature(enable = "avx512f")]
#[inline]
fn words_of_limbs(numbers: &Eight) -> [__m512i; 4] {
    let [a, b, c, d, e] = numbers.0;
    [
        _mm512_or_si512(a, _mm512_slli_epi64::<52>(b)),
        _mm512_or_si512(_mm512_srli_epi64::<12>(b), _mm512_slli_epi64::<40>(c)),
        _mm512_or_si512(_mm512_srli_epi64::<24>(c), _mm512_slli_epi64::<28>(d)),
        _mm512_or_si512(_mm512_srli_epi64::<36>(d), _mm512_slli_epi64::<16>(e)),
    ]
}

/// Exchanges the place in the list and the place in the vector: scalar `j` of number `i` becomes scalar `i` of number `j`.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn transpose(numbers: [Eight; 8]) -> [Eight; 8] {
    let mut out = numbers;
    for limb in 0..LIMBS {
        let mut rows = [_mm512_setzero_si512(); 8];
        for (row, number) in rows.iter_mut().zip(&numbers) {
            *row = number.0[limb];
        }
        for (row, number) in transpose_words(rows).into_iter().zip(&mut out) {
            number.0[limb] = row;
        }
    }
    out
}

/// Transposes eight by eight words: pairs, then fours, then halves.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose_words(rows: [__m512i; 8]) -> [__m512i; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    let (ab0, ab1) = (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let (cd0, cd1) = (_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d));
    let (ef0, ef1) = (_mm512_unpacklo_epi64(e, f), _mm512_unpackhi_epi64(e, f));
    let (gh0, gh1) = (_mm512_unpacklo_epi64(g, h), _mm512_unpackhi_epi64(g, h));
    // Lanes of 128 bits 0, 2 and 1, 3 of each pair of pairs; `columns` picks the same again.
    let even = |x, y| _mm512_shuffle_i64x2::<0b10_00_10_00>(x, y);
    let odd = |x, y| _mm512_shuffle_i64x2::<0b11_01_11_01>(x, y);
    let (even0, odd0) = ((even(ab0, cd0), even(ef0, gh0)), (odd(ab0, cd0), odd(ef0, gh0)));
    let (even1, odd1) = ((even(ab1, cd1), even(ef1, gh1)), (odd(ab1, cd1), odd(ef1, gh1)));
    [
        even(even0.0, even0.1),
        even(even1.0, even1.1),
        even(odd0.0, odd0.1),
        even(odd1.0, odd1.1),
        odd(even0.0, even0.1),
        odd(even1.0, even1.1),
        odd(odd0.0, odd0.1),
        odd(odd1.0, odd1.1),
    ]
}

/// Two lists of eight scalars to one of sixteen, taking turns.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn interleave(even: &Eight, odd: &Eight) -> [Eight; 2] {
    let (first, second) =
        (_mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15));
    let (mut low, mut high) = (*even, *odd);
    for limb in 0..LIMBS {
        low.0[limb] = _mm512_permutex2var_epi64(even.0[limb], first, odd.0[limb]);
        high.0[limb] = _mm512_permutex2var_epi64(even.0[limb], second, odd.0[limb]);
    }
    [low, high]
}
