//! Eight scalars side by side, and arithmetic on them with the 52-bit multiplier of AVX-512 IFMA.
//!
//! A scalar is five limbs of 52 bits, least significant first; vector `i` of an [`Eight`] holds limb `i` of all eight. The multiplier
//! reads 52 bits of each operand and adds the low or the high 52 bits of the product to a 64-bit lane, so that twelve bits
//! are left for sums: carries are handed on only before a number is multiplied.
//!
//! What a function takes and gives is said by two words. **Carried**: every limb is in 0..2^52, so the number is below 2^260,
//! which is 35.3 r. **Loose**: limbs are signed and of magnitude below 2^62, the number they make is in 0..2^260.
//! "Below k" means below k times r.

#![allow(clippy::needless_range_loop, reason = "limb i of several numbers at a time")]

use std::arch::x86_64::*;

/// Limbs of a scalar.
pub(super) const LIMBS: usize = 5;
const LIMB_BITS: u32 = 52;
const LIMB_MASK: u64 = (1 << LIMB_BITS) - 1;

/// Carried limbs of one number.
pub(super) type Limbs = [u64; LIMBS];

/// r.
const MODULUS: Limbs = limbs(crate::bls::MODULUS);
/// 2 r.
const TWICE_MODULUS: Limbs =
    carried([2 * MODULUS[0], 2 * MODULUS[1], 2 * MODULUS[2], 2 * MODULUS[3], 2 * MODULUS[4]]);
/// 2^260 - r: adding it and dropping bit 260 subtracts r.
const MINUS_MODULUS: Limbs = carried([
    (LIMB_MASK ^ MODULUS[0]) + 1,
    LIMB_MASK ^ MODULUS[1],
    LIMB_MASK ^ MODULUS[2],
    LIMB_MASK ^ MODULUS[3],
    LIMB_MASK ^ MODULUS[4],
]);
/// 2^98 over the highest limb of r, made too small rather than too large: see [`shrink`].
const QUOTIENT: u64 = ((1u128 << 98) / (MODULUS[4] as u128 + 1)) as u64;

const _: () = assert!(MODULUS[0] & 0xffff_ffff == 1, "multiply and divide rely on r being 1 modulo 2^32");
const _: () = assert!(QUOTIENT >> LIMB_BITS == 0, "the multiplier reads 52 bits");

/// Limbs of a number of four 64-bit words, least significant first.
pub(super) const fn limbs(words: [u64; 4]) -> Limbs {
    [
        words[0] & LIMB_MASK,
        (words[0] >> 52 | words[1] << 12) & LIMB_MASK,
        (words[1] >> 40 | words[2] << 24) & LIMB_MASK,
        (words[2] >> 28 | words[3] << 36) & LIMB_MASK,
        words[3] >> 16,
    ]
}

/// Hands carries on, so that every limb but the highest is below 2^52.
const fn carried(mut limbs: Limbs) -> Limbs {
    let mut i = 0;
    while i + 1 < LIMBS {
        limbs[i + 1] += limbs[i] >> LIMB_BITS;
        limbs[i] &= LIMB_MASK;
        i += 1;
    }
    limbs
}

/// Eight scalars; vector `i` holds limb `i` of each.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Eight(pub(super) [__m512i; LIMBS]);

/// Eight times the same number.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn splat(limbs: &Limbs) -> Eight {
    let mut vectors = [_mm512_setzero_si512(); LIMBS];
    for (vector, limb) in vectors.iter_mut().zip(limbs) {
        *vector = _mm512_set1_epi64(*limb as i64);
    }
    Eight(vectors)
}

/// Sum, limb by limb.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn add(a: &Eight, b: &Eight) -> Eight {
    let mut out = *a;
    for (out, b) in out.0.iter_mut().zip(&b.0) {
        *out = _mm512_add_epi64(*out, *b);
    }
    out
}

/// Difference, limb by limb. The caller sees to it that the number does not become negative.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn subtract(a: &Eight, b: &Eight) -> Eight {
    let mut out = *a;
    for (out, b) in out.0.iter_mut().zip(&b.0) {
        *out = _mm512_sub_epi64(*out, *b);
    }
    out
}

/// a - b + 2 r, for b below 2.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn subtract_below_2(a: &Eight, b: &Eight) -> Eight {
    add(&subtract(a, b), &splat(&TWICE_MODULUS))
}

/// Loose to carried.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn carry(a: &Eight) -> Eight {
    let mask = _mm512_set1_epi64(LIMB_MASK as i64);
    let mut out = *a;
    for i in 0..LIMBS - 1 {
        out.0[i + 1] = _mm512_add_epi64(out.0[i + 1], _mm512_srai_epi64::<LIMB_BITS>(out.0[i]));
        out.0[i] = _mm512_and_si512(out.0[i], mask);
    }
    out
}

/// Montgomery product a b / 2^260 modulo r. Takes carried, gives loose with limbs in 0..2^57; the product is below 1 + k l / 35.3
/// for factors below k and l, so below 2 if one factor is below 1.
///
/// m is what makes the lowest limb zero, -t / r modulo 2^52; since 1 / r is 1 + 2^32 there, no multiplication is needed.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn multiply(a: &Eight, b: &Eight) -> Eight {
    let modulus = splat(&MODULUS).0;
    let zero = _mm512_setzero_si512();
    let mut t = [zero; 2 * LIMBS];
    for i in 0..LIMBS {
        for j in 0..LIMBS {
            t[i + j] = _mm512_madd52lo_epu64(t[i + j], a.0[j], b.0[i]);
        }
        for j in 0..LIMBS {
            t[i + j + 1] = _mm512_madd52hi_epu64(t[i + j + 1], a.0[j], b.0[i]);
        }
        let m = _mm512_sub_epi64(zero, _mm512_add_epi64(t[i], _mm512_slli_epi64::<32>(t[i])));
        for j in 0..LIMBS {
            t[i + j] = _mm512_madd52lo_epu64(t[i + j], m, modulus[j]);
        }
        for j in 0..LIMBS {
            t[i + j + 1] = _mm512_madd52hi_epu64(t[i + j + 1], m, modulus[j]);
        }
        t[i + 1] = _mm512_add_epi64(t[i + 1], _mm512_srli_epi64::<LIMB_BITS>(t[i]));
    }
    Eight([t[5], t[6], t[7], t[8], t[9]])
}

/// Takes carried, gives carried and below 1 + 2^-40.
///
/// The quotient by r is guessed from the highest limbs. The guess is never too large, and too small by less than 1 + 2^-40.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn shrink(a: &Eight) -> Eight {
    let zero = _mm512_setzero_si512();
    let quotient = _mm512_madd52hi_epu64(zero, a.0[LIMBS - 1], _mm512_set1_epi64(QUOTIENT as i64));
    let quotient = _mm512_srli_epi64::<46>(quotient);
    let minus_modulus = splat(&MINUS_MODULUS).0;
    let mut out = *a;
    for i in 0..LIMBS {
        out.0[i] = _mm512_madd52lo_epu64(out.0[i], quotient, minus_modulus[i]);
    }
    for i in 0..LIMBS - 1 {
        out.0[i + 1] = _mm512_madd52hi_epu64(out.0[i + 1], quotient, minus_modulus[i]);
    }
    out = carry(&out);
    out.0[LIMBS - 1] = _mm512_and_si512(out.0[LIMBS - 1], _mm512_set1_epi64(LIMB_MASK as i64));
    out
}

/// Takes loose, gives carried and below 1: the number itself.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn canonical(a: &Eight) -> Eight {
    let a = shrink(&carry(a));
    let less = carry(&subtract(&a, &splat(&MODULUS)));
    let is_below = _mm512_cmplt_epi64_mask(less.0[LIMBS - 1], _mm512_setzero_si512());
    let mut out = a;
    for i in 0..LIMBS {
        out.0[i] = _mm512_mask_blend_epi64(is_below, less.0[i], a.0[i]);
    }
    out
}

/// The first lane whose carried number is not below 1, which no scalar's bytes may be.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn first_not_canonical(a: &Eight) -> Option<usize> {
    let less = carry(&subtract(a, &splat(&MODULUS)));
    let is_below = _mm512_cmplt_epi64_mask(less.0[LIMBS - 1], _mm512_setzero_si512());
    (is_below != 0xff).then(|| is_below.trailing_ones() as usize)
}

/// a / 2^`bits` modulo r for `bits` up to 32. Takes loose below k, gives carried below 1 + k / 2^`bits`.
///
/// Adds the multiple of r that makes the low bits zero, and shifts; r being 1 modulo 2^32, that multiple is minus the low bits.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn divide(a: &Eight, bits: u32) -> Eight {
    let zero = _mm512_setzero_si512();
    let modulus = splat(&MODULUS).0;
    let low_bits = _mm512_set1_epi64((1 << bits) - 1);
    let multiple = _mm512_and_si512(_mm512_sub_epi64(zero, a.0[0]), low_bits);
    let mut t = [a.0[0], a.0[1], a.0[2], a.0[3], a.0[4], zero];
    for i in 0..LIMBS {
        t[i] = _mm512_madd52lo_epu64(t[i], multiple, modulus[i]);
        t[i + 1] = _mm512_madd52hi_epu64(t[i + 1], multiple, modulus[i]);
    }
    let mask = _mm512_set1_epi64(LIMB_MASK as i64);
    for i in 0..LIMBS {
        t[i + 1] = _mm512_add_epi64(t[i + 1], _mm512_srai_epi64::<LIMB_BITS>(t[i]));
        t[i] = _mm512_and_si512(t[i], mask);
    }
    let right = _mm512_set1_epi64(i64::from(bits));
    let left = _mm512_set1_epi64(i64::from(LIMB_BITS - bits));
    let mut out = *a;
    for i in 0..LIMBS {
        let low = _mm512_srlv_epi64(t[i], right);
        out.0[i] = _mm512_and_si512(_mm512_or_si512(low, _mm512_sllv_epi64(t[i + 1], left)), mask);
    }
    out
}

/// `(a, b)` becomes `(a + t b, a - t b)`. Takes and gives loose; with `b` and the twiddle's Montgomery form below 35.3 and 1, each bound
/// grows by 2.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn butterfly(a: &mut Eight, b: &mut Eight, twiddle: &Eight) {
    let product = multiply(&carry(b), twiddle);
    *b = subtract_below_2(a, &product);
    *a = add(a, &product);
}

/// [`butterfly`] with one as the twiddle, and the same bounds.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub(super) fn plain_butterfly(a: &mut Eight, b: &mut Eight) {
    let reduced = shrink(&carry(b));
    *b = subtract_below_2(a, &reduced);
    *a = add(a, &reduced);
}
