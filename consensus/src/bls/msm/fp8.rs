//! The base field of BLS12-381, eight elements side by side, by AVX-512 IFMA.
//!
//! IFMA multiplies the low 52 bits of 64-bit words and adds the low or the high half of the 104-bit product to a third
//! word. So a number is eight *limbs* of 52 bits, limb `i` weighing 2^(52 i), and vector `i` of an [`Fp8`] holds limb
//! `i` of eight numbers. A number x is kept as x R mod p with R = 2^416 (Montgomery's form).
//!
//! # Bounds
//! The modulus p has 381 bits of the 416, so most sums need no reduction, only a carry (IFMA ignores what lies above 52
//! bits):
//! - *carried*: every limb is below 2^52, and the value below 16 p. What multiplication takes.
//! - *near*: carried and below p + p/1000. What multiplication gives: a b / R + p, and a b / R < 256 p^2 / R < p/1000.
//!   [`reduce`] gives it too. Points are kept so. Zero and p are the same number; a near zero may be either.
//! - [`mul`] sums in its accumulators at most 8 x 4 numbers below 2^52 and a carry: below 2^58, no overflow of 64 bits.
//! - A difference a - b is taken as a - b + m p, with m p spelled in limbs that are at least 2^54 but for the highest
//!   ([`multiple_for_subtraction`]). So no limb goes below zero while b has limbs below 2^53, and carries are plain
//!   shifts of unsigned words.

#![allow(
    clippy::needless_range_loop,
    reason = "several arrays go by one index, and plain loops are unrolled for sure"
)]

use super::field::{self, INVERSE_MODULO_2_52, LIMB_BITS, LIMB_MASK, LIMBS, Limbs, MODULUS};
use blst::blst_fp;
use std::arch::x86_64::*;

/// Numbers side by side.
pub(super) const LANES: usize = 8;

/// Eight field elements: vector `i` holds limb `i` of each.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Fp8(pub [__m512i; LIMBS]);

const ZERO_VECTOR: __m512i = vector([0; LANES]);

/// The number 1 in Montgomery's form, R mod p.
const ONE: Limbs = field::power_of_two(416);

/// Brings a number from the form of `blst` (R = 2^384) to ours: times 2^448 and divided by 2^416 is times 2^32.
const FROM_BLST: Limbs = field::power_of_two(448);

/// Brings the inverse that `blst` makes of a number of our form to our form. `blst` takes x 2^416 for y 2^384, y = 2^32
/// x, and gives 2^384 / y = 2^352 / x; times 2^480 and divided by 2^416 this is 2^416 / x.
const FROM_BLST_INVERSE: Limbs = field::power_of_two(480);

/// Twice the modulus, to subtract from.
const TWO_P: Limbs = field::multiple_for_subtraction(2);

/// Three times the modulus, to subtract from.
const THREE_P: Limbs = field::multiple_for_subtraction(3);

/// Vector `i` holds limb `i` of 0, p, 2 p up to 7 p.
const MULTIPLES: [[u64; LANES]; LIMBS] = field::multiples();

/// floor(2^52 / (t + 1)) where t is the modulus' highest limb: 52-bit high products with it divide by t + 1.
const QUOTIENT_FACTOR: u64 = (1 << LIMB_BITS) / (MODULUS[LIMBS - 1] + 1);

/// A vector of these words.
pub(super) const fn vector(words: [u64; LANES]) -> __m512i {
    // SAFETY: both types are 512 bits of which every pattern is valid.
    unsafe { std::mem::transmute::<[u64; LANES], __m512i>(words) }
}

/// The words of a vector.
pub(super) const fn words(vector: __m512i) -> [u64; LANES] {
    // SAFETY: both types are 512 bits of which every pattern is valid.
    unsafe { std::mem::transmute::<__m512i, [u64; LANES]>(vector) }
}

impl Fp8 {
    /// Zero in every lane.
    pub const ZERO: Self = Self([ZERO_VECTOR; LIMBS]);

    /// One in every lane.
    pub const ONE: Self = Self::splat(ONE);

    const fn splat(limbs: Limbs) -> Self {
        let mut vectors = [ZERO_VECTOR; LIMBS];
        let mut i = 0;
        while i < LIMBS {
            vectors[i] = vector([limbs[i]; LANES]);
            i += 1;
        }
        Self(vectors)
    }

    /// The limbs of every lane.
    fn lanes(&self) -> [Limbs; LANES] {
        let vectors = self.0.map(words);
        std::array::from_fn(|lane| vectors.map(|vector| vector[lane]))
    }

    fn from_lanes(lanes: &[Limbs; LANES]) -> Self {
        Self(std::array::from_fn(|limb| vector(lanes.map(|limbs| limbs[limb]))))
    }
}

/// Carries from limb to limb, so that all but the highest are below 2^52. Unsigned limbs of any size whose sum fits.
#[target_feature(enable = "avx512f")]
#[inline]
fn carry(mut limbs: [__m512i; LIMBS]) -> Fp8 {
    let mask = _mm512_set1_epi64(LIMB_MASK as i64);
    for i in 0..LIMBS - 1 {
        limbs[i + 1] = _mm512_add_epi64(limbs[i + 1], _mm512_srli_epi64::<52>(limbs[i]));
        limbs[i] = _mm512_and_si512(limbs[i], mask);
    }
    Fp8(limbs)
}

/// `a b / R` modulo p, near. Takes carried numbers.
///
/// For each limb of `a`: add the limb times `b`, then the multiple q p that clears the lowest limb, then drop that limb.
/// High halves of products belong one limb higher, which is where the drop has moved the accumulators meanwhile.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn mul(a: &Fp8, b: &Fp8) -> Fp8 {
    let mut sum = [_mm512_setzero_si512(); LIMBS];
    for i in 0..LIMBS {
        let factor = a.0[i];
        for j in 0..LIMBS {
            sum[j] = _mm512_madd52lo_epu64(sum[j], factor, b.0[j]);
        }
        sum = reduce_limb(sum, factor, b);
    }
    carry(sum)
}

/// The second half of a step of [`mul`].
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn reduce_limb(mut sum: [__m512i; LIMBS], factor: __m512i, b: &Fp8) -> [__m512i; LIMBS] {
    let zero = _mm512_setzero_si512();
    let negative_inverse = _mm512_set1_epi64(((1 << LIMB_BITS) - INVERSE_MODULO_2_52) as i64);
    let q = _mm512_madd52lo_epu64(zero, sum[0], negative_inverse);
    for j in 0..LIMBS {
        sum[j] = _mm512_madd52lo_epu64(sum[j], q, _mm512_set1_epi64(MODULUS[j] as i64));
    }
    let carry = _mm512_srli_epi64::<52>(sum[0]);
    for j in 0..LIMBS {
        let next = if j + 1 < LIMBS { sum[j + 1] } else { zero };
        let high = _mm512_madd52hi_epu64(next, factor, b.0[j]);
        sum[j] = _mm512_madd52hi_epu64(high, q, _mm512_set1_epi64(MODULUS[j] as i64));
    }
    sum[0] = _mm512_add_epi64(sum[0], carry);
    sum
}

/// `a a / R` modulo p, near. Takes a carried number.
///
/// Products of different limbs come up twice, so they are made once and doubled: 72 multiplications in place of 128. For
/// that all columns of the product are made before the first is cleared.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn square(a: &Fp8) -> Fp8 {
    let mut columns = [_mm512_setzero_si512(); 2 * LIMBS];
    for i in 0..LIMBS {
        for j in i + 1..LIMBS {
            columns[i + j] = _mm512_madd52lo_epu64(columns[i + j], a.0[i], a.0[j]);
            columns[i + j + 1] = _mm512_madd52hi_epu64(columns[i + j + 1], a.0[i], a.0[j]);
        }
    }
    for i in 0..LIMBS {
        let (low, high) = (columns[2 * i], columns[2 * i + 1]);
        columns[2 * i] = _mm512_madd52lo_epu64(_mm512_add_epi64(low, low), a.0[i], a.0[i]);
        columns[2 * i + 1] = _mm512_madd52hi_epu64(_mm512_add_epi64(high, high), a.0[i], a.0[i]);
    }
    reduce_columns(columns)
}

/// A product by its columns, divided by R modulo p, near.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn reduce_columns(mut columns: [__m512i; 2 * LIMBS]) -> Fp8 {
    let negative_inverse = _mm512_set1_epi64(((1 << LIMB_BITS) - INVERSE_MODULO_2_52) as i64);
    for i in 0..LIMBS {
        let q = _mm512_madd52lo_epu64(_mm512_setzero_si512(), columns[i], negative_inverse);
        for j in 0..LIMBS {
            let limb = _mm512_set1_epi64(MODULUS[j] as i64);
            columns[i + j] = _mm512_madd52lo_epu64(columns[i + j], q, limb);
            columns[i + j + 1] = _mm512_madd52hi_epu64(columns[i + j + 1], q, limb);
        }
        columns[i + 1] = _mm512_add_epi64(columns[i + 1], _mm512_srli_epi64::<52>(columns[i]));
    }
    let mut limbs = [_mm512_setzero_si512(); LIMBS];
    limbs.copy_from_slice(&columns[LIMBS..]);
    carry(limbs)
}

/// `a - b`, carried, between 0.99 p and 3.01 p. Takes near numbers.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn sub(a: &Fp8, b: &Fp8) -> Fp8 {
    let mut limbs = a.0;
    for i in 0..LIMBS {
        let raised = _mm512_add_epi64(limbs[i], _mm512_set1_epi64(TWO_P[i] as i64));
        limbs[i] = _mm512_sub_epi64(raised, b.0[i]);
    }
    carry(limbs)
}

/// `a - b`, near. Takes near numbers.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn sub_near(a: &Fp8, b: &Fp8) -> Fp8 {
    let mut limbs = a.0;
    for i in 0..LIMBS {
        let raised = _mm512_add_epi64(limbs[i], _mm512_set1_epi64(TWO_P[i] as i64));
        limbs[i] = _mm512_sub_epi64(raised, b.0[i]);
    }
    reduce(limbs)
}

/// `a - b - c`, near. Takes near numbers.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn sub_two_near(a: &Fp8, b: &Fp8, c: &Fp8) -> Fp8 {
    let mut limbs = a.0;
    for i in 0..LIMBS {
        let raised = _mm512_add_epi64(limbs[i], _mm512_set1_epi64(THREE_P[i] as i64));
        limbs[i] = _mm512_sub_epi64(raised, _mm512_add_epi64(b.0[i], c.0[i]));
    }
    reduce(limbs)
}

/// A small multiple of a near number, carried.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn times<const FACTOR: usize>(a: &Fp8) -> Fp8 {
    let mut limbs = a.0;
    for _ in 1..FACTOR {
        for i in 0..LIMBS {
            limbs[i] = _mm512_add_epi64(limbs[i], a.0[i]);
        }
    }
    carry(limbs)
}

/// A near number from limbs, all unsigned, that are worth 0.99 p to 7 p and of which none but the highest is below 2^53.
///
/// The quotient by p is estimated from the highest limb t alone, as t / (floor(p / 2^364) + 1). The limbs below are not
/// negative and the divisor is too large, so the estimate is never too high; and it is too low by less than p/1000:
/// the divisor errs by 2^-16 of a quotient below 8, and limbs below carry less than 2^3 into t of 2^16.7.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn reduce(mut limbs: [__m512i; LIMBS]) -> Fp8 {
    let factor = _mm512_set1_epi64(QUOTIENT_FACTOR as i64);
    let quotient = _mm512_madd52hi_epu64(_mm512_setzero_si512(), limbs[LIMBS - 1], factor);
    for i in 0..LIMBS {
        let multiple = _mm512_permutexvar_epi64(quotient, vector(MULTIPLES[i]));
        limbs[i] = _mm512_sub_epi64(limbs[i], multiple);
    }
    carry(limbs)
}

/// Lanes that may be zero modulo p, of a number that [`sub`] gave. Never misses one, and is wrong about another with
/// probability 2^-50: the lowest limb alone, divided by the modulus', tells which multiple of p it could be.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn maybe_zero(a: &Fp8) -> __mmask8 {
    let inverse = _mm512_set1_epi64(INVERSE_MODULO_2_52 as i64);
    let multiple = _mm512_madd52lo_epu64(_mm512_setzero_si512(), a.0[0], inverse);
    _mm512_cmplt_epu64_mask(multiple, _mm512_set1_epi64(4))
}

/// Lanes that are zero modulo p, of a number that [`sub`] gave.
#[target_feature(enable = "avx512f")]
pub(super) fn is_multiple(a: &Fp8) -> __mmask8 {
    (0..4).fold(0, |mask, multiple| {
        let differing = (0..LIMBS).fold(0, |differing, i| {
            differing | _mm512_cmpneq_epu64_mask(a.0[i], _mm512_set1_epi64(MULTIPLES[i][multiple] as i64))
        });
        mask | !differing
    })
}

/// Lanes whose limbs are all zero: how a near number that is no multiple of p is told from a zero put there.
#[target_feature(enable = "avx512f")]
pub(super) fn is_blank(a: &Fp8) -> __mmask8 {
    let all = a.0.iter().fold(_mm512_setzero_si512(), |all, limb| _mm512_or_si512(all, *limb));
    _mm512_testn_epi64_mask(all, all)
}

/// `b` in the lanes of the mask, `a` in the others.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn select(mask: __mmask8, a: &Fp8, b: &Fp8) -> Fp8 {
    let mut limbs = a.0;
    for i in 0..LIMBS {
        limbs[i] = _mm512_mask_blend_epi64(mask, limbs[i], b.0[i]);
    }
    Fp8(limbs)
}

/// Eight numbers of `blst`, near.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn from_blst(numbers: &[blst_fp; LANES]) -> Fp8 {
    let lanes = numbers.map(|number| field::limbs_of_words(&number.l));
    mul(&Fp8::from_lanes(&lanes), &Fp8::splat(FROM_BLST))
}

/// Eight near numbers for `blst`: leaves Montgomery's form by multiplying with 1, `blst` makes its own.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn to_blst(a: &Fp8) -> [blst_fp; LANES] {
    let one = [1, 0, 0, 0, 0, 0, 0, 0];
    mul(a, &Fp8::splat(one)).lanes().map(|limbs| {
        let plain = field::words_of_limbs(&limbs);
        let mut number = blst_fp::default();
        // SAFETY: six words are what blst reads; the output is exclusive.
        unsafe { blst::blst_fp_from_uint64(&raw mut number, plain.as_ptr()) };
        number
    })
}

/// The inverse of each lane, near. Takes near numbers, none of them zero.
///
/// One inversion by `blst` for the product of all lanes. What `blst` multiplies is in its own form only by name; see
/// [`FROM_BLST_INVERSE`] for what this makes of the result.
#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn invert(a: &Fp8) -> Fp8 {
    let mut numbers = a.lanes().map(|limbs| blst_fp { l: field::words_of_limbs(&limbs) });
    field::batch_invert(&mut numbers);
    let inverses = numbers.map(|number| field::limbs_of_words(&number.l));
    mul(&Fp8::from_lanes(&inverses), &Fp8::splat(FROM_BLST_INVERSE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuLevel;

    /// Numbers at the edges of limbs, words and the modulus, and random ones.
    fn numbers() -> Vec<blst_fp> {
        let plain = |words: [u64; 6]| {
            let mut number = blst_fp::default();
            // SAFETY: six words are what blst reads; the output is exclusive.
            unsafe { blst::blst_fp_from_uint64(&raw mut number, words.as_ptr()) };
            number
        };
        let mut numbers = vec![blst_fp::default(), field::BLST_ONE];
        for shift in [0, 1, 51, 52, 53, 63] {
            numbers.extend((0..6).map(|word| {
                let mut words = [0; 6];
                words[word] = 1 << shift;
                plain(words)
            }));
        }
        for seed in 0..40_u8 {
            let mut words = [0; 6];
            let mut bytes = [0; 48];
            blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            words[5] >>= 4;
            numbers.push(plain(words));
        }
        let negative: Vec<_> = numbers.iter().map(|number| field::sub(&blst_fp::default(), number)).collect();
        numbers.extend(negative);
        numbers
    }

    /// Every operation on `a` and `b`, by lanes, against `blst`.
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn check(a: &[blst_fp; LANES], b: &[blst_fp; LANES]) {
        let each = |operation: &dyn Fn(&blst_fp, &blst_fp) -> blst_fp| -> [blst_fp; LANES] {
            std::array::from_fn(|lane| operation(&a[lane], &b[lane]))
        };
        let lanes =
            |is_set: &dyn Fn(usize) -> bool| (0..LANES).fold(0, |mask, i| mask | u8::from(is_set(i)) << i);
        let (x, y) = (from_blst(a), from_blst(b));
        assert_eq!(to_blst(&x), *a);
        assert_eq!(to_blst(&mul(&x, &y)), each(&field::mul));
        assert_eq!(to_blst(&square(&x)), each(&|a, _| field::square(a)));
        assert_eq!(to_blst(&sub(&x, &y)), each(&field::sub));
        assert_eq!(to_blst(&sub_near(&x, &y)), each(&field::sub));
        let two_fewer = sub_two_near(&x, &y, &y);
        assert_eq!(to_blst(&two_fewer), each(&|a, b| field::sub(&field::sub(a, b), b)));
        assert_eq!(to_blst(&times::<3>(&x)), each(&|a, _| field::add(&field::add(a, a), a)));
        assert_eq!(to_blst(&square(&sub(&x, &y))), each(&|a, b| field::square(&field::sub(a, b))));

        let equal = lanes(&|i| a[i] == b[i]);
        assert_eq!(is_multiple(&sub(&x, &y)), equal);
        assert_eq!(maybe_zero(&sub(&x, &y)), equal, "a wrong guess is too rare to be seen");
        // The same numbers by another way, one modulus more or less.
        let (x_again, y_again) =
            (sub_near(&sub_near(&x, &y), &sub_near(&Fp8::ZERO, &y)), sub_near(&y, &Fp8::ZERO));
        assert_eq!(is_multiple(&sub(&x_again, &y_again)), equal);
        for near in [x, x_again, two_fewer, mul(&x, &y), square(&y)] {
            for limbs in near.lanes() {
                assert!(limbs.iter().all(|limb| *limb <= LIMB_MASK));
                assert!(limbs[LIMBS - 1] <= MODULUS[LIMBS - 1] + MODULUS[LIMBS - 1] / 1000);
            }
        }

        let zeros = lanes(&|i| a[i] == blst_fp::default());
        let units = select(zeros, &x, &Fp8::ONE);
        let inverses = to_blst(&mul(&invert(&units), &units));
        assert_eq!(inverses, [field::BLST_ONE; LANES]);
    }

    #[test]
    fn every_operation_equals_blst() {
        if !CpuLevel::detect().has_ifma() {
            println!("skipped: no AVX-512 IFMA");
            return;
        }
        let numbers = numbers();
        for turn in 0..numbers.len() {
            for first in (0..numbers.len()).step_by(LANES) {
                let a = std::array::from_fn(|lane| numbers[(first + lane) % numbers.len()]);
                let b = std::array::from_fn(|lane| numbers[(first + lane * 7 + turn) % numbers.len()]);
                // SAFETY: the processor has the instructions.
                unsafe { check(&a, &b) };
            }
        }
    }

    #[test]
    fn blank_is_not_zero_modulo_p() {
        if CpuLevel::detect().has_ifma() {
            let mut limbs = [[0; LIMBS]; LANES];
            limbs[1] = MODULUS;
            limbs[2][7] = 1;
            // SAFETY: the processor has the instructions.
            assert_eq!(unsafe { is_blank(&Fp8::from_lanes(&limbs)) }, 0b1111_1001);
        }
    }
}
