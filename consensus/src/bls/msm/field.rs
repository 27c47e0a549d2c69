//! Constants of the base field in limbs of 52 bits, and what a field element needs outside vectors.

use blst::blst_fp;

/// Bits of a limb.
pub(super) const LIMB_BITS: usize = 52;
/// Limbs of a number.
pub(super) const LIMBS: usize = 8;
/// The bits of a limb.
pub(super) const LIMB_MASK: u64 = (1 << LIMB_BITS) - 1;

/// A number in limbs of 52 bits, lowest first.
pub(super) type Limbs = [u64; LIMBS];
/// A number in words of 64 bits, lowest first.
type Words = [u64; 6];

/// The modulus p.
const MODULUS_WORDS: Words = [
    0xb9fe_ffff_ffff_aaab,
    0x1eab_fffe_b153_ffff,
    0x6730_d2a0_f6b0_f624,
    0x6477_4b84_f385_12bf,
    0x4b1b_a7b6_434b_acd7,
    0x1a01_11ea_397f_e69a,
];

/// The modulus p.
pub(super) const MODULUS: Limbs = limbs_of_words(&MODULUS_WORDS);

/// The number 1 in the form of `blst`, 2^384 mod p.
pub(super) const BLST_ONE: blst_fp = blst_fp { l: words_of_limbs(&power_of_two(384)) };

/// 1 / p modulo 2^52.
pub(super) const INVERSE_MODULO_2_52: u64 = {
    // Newton's method doubles the right bits each time; an odd number is its own inverse modulo 8.
    let mut inverse = MODULUS[0];
    let mut bits = 3;
    while bits < LIMB_BITS {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(MODULUS[0].wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse & LIMB_MASK
};

/// Limbs of a number below 2^384.
pub(super) const fn limbs_of_words(words: &Words) -> Limbs {
    let mut limbs = [0; LIMBS];
    let mut i = 0;
    while i < LIMBS {
        let (word, shift) = (i * LIMB_BITS / 64, i * LIMB_BITS % 64);
        let mut limb = words[word] >> shift;
        if shift > 64 - LIMB_BITS && word + 1 < words.len() {
            limb |= words[word + 1] << (64 - shift);
        }
        limbs[i] = limb & LIMB_MASK;
        i += 1;
    }
    limbs
}

/// Words of a number below 2 p with limbs below 2^52, reduced modulo p.
pub(super) const fn words_of_limbs(limbs: &Limbs) -> Words {
    let mut words = [0; 6];
    let mut i = 0;
    while i < LIMBS {
        let (word, shift) = (i * LIMB_BITS / 64, i * LIMB_BITS % 64);
        words[word] |= limbs[i] << shift;
        if shift > 64 - LIMB_BITS && word + 1 < words.len() {
            words[word + 1] |= limbs[i] >> (64 - shift);
        }
        i += 1;
    }
    reduce_once(words)
}

/// A number below 2 p, modulo p.
const fn reduce_once(words: Words) -> Words {
    let mut difference = [0; 6];
    let mut borrow = false;
    let mut i = 0;
    while i < 6 {
        let (first, under) = words[i].overflowing_sub(MODULUS_WORDS[i]);
        let (second, under_again) = first.overflowing_sub(borrow as u64);
        difference[i] = second;
        borrow = under || under_again;
        i += 1;
    }
    if borrow { words } else { difference }
}

/// 2^exponent mod p.
pub(super) const fn power_of_two(exponent: usize) -> Limbs {
    let mut power = [1, 0, 0, 0, 0, 0];
    let mut step = 0;
    while step < exponent {
        let mut doubled = [0; 6];
        let mut i = 0;
        while i < 6 {
            doubled[i] = power[i] << 1 | if i == 0 { 0 } else { power[i - 1] >> 63 };
            i += 1;
        }
        power = reduce_once(doubled);
        step += 1;
    }
    limbs_of_words(&power)
}

/// Entry `[i][k]` is limb `i` of `k p`.
pub(super) const fn multiples() -> [[u64; 8]; LIMBS] {
    let mut table = [[0; 8]; LIMBS];
    let mut k = 0;
    while k < 8 {
        let mut carry = 0;
        let mut i = 0;
        while i < LIMBS {
            let limb = MODULUS[i] * k as u64 + carry;
            table[i][k] = limb & LIMB_MASK;
            carry = limb >> LIMB_BITS;
            i += 1;
        }
        k += 1;
    }
    table
}

/// `k p` in limbs that are at least 2^54 but for the highest: each of the lower ones lends 4 from the next.
pub(super) const fn multiple_for_subtraction(k: usize) -> Limbs {
    let multiples = multiples();
    let mut limbs = [0; LIMBS];
    let mut i = 0;
    while i < LIMBS {
        let lent = if i > 0 { 4 } else { 0 };
        let borrowed = if i + 1 < LIMBS { 4 << LIMB_BITS } else { 0 };
        limbs[i] = multiples[i][k] + borrowed - lent;
        i += 1;
    }
    limbs
}

/// Replaces numbers, none of them zero, by their inverses, at the price of one inversion and three products each.
pub(super) fn batch_invert(numbers: &mut [blst_fp; 8]) {
    let mut before = [numbers[0]; 8];
    for i in 1..8 {
        before[i] = mul(&before[i - 1], &numbers[i]);
    }
    let mut inverse = invert(&before[7]);
    for i in (1..8).rev() {
        let number = numbers[i];
        numbers[i] = mul(&inverse, &before[i - 1]);
        inverse = mul(&inverse, &number);
    }
    numbers[0] = inverse;
}

/// `a b` modulo p.
pub(super) fn mul(a: &blst_fp, b: &blst_fp) -> blst_fp {
    let mut out = blst_fp::default();
    // SAFETY: three live values; the output is exclusive.
    unsafe { blst::blst_fp_mul(&raw mut out, a, b) };
    out
}

/// `a a` modulo p.
pub(super) fn square(a: &blst_fp) -> blst_fp {
    let mut out = blst_fp::default();
    // SAFETY: two live values; the output is exclusive.
    unsafe { blst::blst_fp_sqr(&raw mut out, a) };
    out
}

/// `a + b` modulo p.
pub(super) fn add(a: &blst_fp, b: &blst_fp) -> blst_fp {
    let mut out = blst_fp::default();
    // SAFETY: three live values; the output is exclusive.
    unsafe { blst::blst_fp_add(&raw mut out, a, b) };
    out
}

/// `a - b` modulo p.
pub(super) fn sub(a: &blst_fp, b: &blst_fp) -> blst_fp {
    let mut out = blst_fp::default();
    // SAFETY: three live values; the output is exclusive.
    unsafe { blst::blst_fp_sub(&raw mut out, a, b) };
    out
}

/// `1 / a` modulo p, and zero for zero.
pub(super) fn invert(a: &blst_fp) -> blst_fp {
    let mut out = blst_fp::default();
    // SAFETY: two live values; the output is exclusive.
    unsafe { blst::blst_fp_eucl_inverse(&raw mut out, a) };
    out
}
