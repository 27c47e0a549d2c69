//! Scalars cut into signed digits.

use crate::bls::Scalar;

/// Bits of a scalar's smaller representative: of s and r - s one is below 2^254. One more for the carry of the last
/// digit.
const SIGNED_BITS: usize = 255;

/// (r + 1) / 2, the first scalar that is nearer to r than to zero.
const HALF: [u64; 4] =
    [0x7fff_ffff_8000_0001, 0xa9de_d201_7fff_2dff, 0x199c_ec04_04d0_ec02, 0x39f6_d3a9_94ce_bea4];

/// The group order r.
const ORDER: [u64; 4] =
    [0xffff_ffff_0000_0001, 0x53bd_a402_fffe_5bfe, 0x3339_d808_09a1_d805, 0x73ed_a753_299d_7d48];

/// Marks a negated scalar, in the highest word, which has a bit to spare.
const NEGATED: u64 = 1 << 63;

/// How many digits of `bits` bits a scalar has.
pub(super) const fn count(bits: usize) -> usize {
    SIGNED_BITS.div_ceil(bits)
}

/// A scalar prepared for cutting it into digits in any order.
///
/// A digit below the highest is to be from -2^(bits - 1) to 2^(bits - 1) - 1. So 2^(bits - 1) is added at the place of each
/// of them beforehand, and subtracted again from what is found there: no carry goes from digit to digit any more. The
/// highest digit is below 2^(bits - 1) + 1 by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prepared([u64; 4]);

/// The sum that [`prepare`] adds to scalars.
pub(super) fn offset(bits: usize) -> [u64; 4] {
    let mut offset = [0; 4];
    for place in 0..count(bits) - 1 {
        let bit = place * bits + bits - 1;
        offset[bit / 64] |= 1 << (bit % 64);
    }
    offset
}

/// Prepares a scalar, with the [`offset`] for as many bits as its digits shall have.
///
/// The result is below 2^255: the smaller representative is below 0.91 x 2^254, the offset below 1.01 x 2^253.
pub(super) fn prepare(scalar: &Scalar, offset: &[u64; 4]) -> Prepared {
    let (words, is_negated) = nearer_to_zero(scalar);
    let mut carry = false;
    let mut words: [u64; 4] = std::array::from_fn(|i| {
        let (word, over) = words[i].overflowing_add(offset[i]);
        let (word, over_again) = word.overflowing_add(u64::from(carry));
        carry = over || over_again;
        word
    });
    if is_negated {
        words[3] |= NEGATED;
    }
    Prepared(words)
}

/// A place of digits of so many bits: where its bits lie in the words of a scalar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    low: usize,
    high: usize,
    shift: usize,
    mask: u64,
    middle: i64,
}

impl Place {
    /// Place `number` of [`count`], the lowest one being 0.
    pub(super) fn new(number: usize, bits: usize) -> Self {
        let is_last = number + 1 == count(bits);
        // The sign is no digit's, so the last one takes no more than what is left below it.
        let own_bits = if is_last { SIGNED_BITS - number * bits } else { bits };
        let low = number * bits / 64;
        Self {
            low,
            high: (low + 1).min(3),
            shift: number * bits % 64,
            mask: (1 << own_bits) - 1,
            middle: if is_last { 0 } else { 1 << (bits - 1) },
        }
    }

    /// The digit at this place: its magnitude, 2^(bits - 1) at most, and whether it is negative.
    #[inline(always)]
    pub(super) fn digit(self, scalar: &Prepared) -> (usize, bool) {
        let words = u128::from(scalar.0[self.high & 3]) << 64 | u128::from(scalar.0[self.low & 3]);
        let digit = ((words >> self.shift) as u64 & self.mask) as i64 - self.middle;
        (digit.unsigned_abs() as usize, (digit < 0) != (scalar.0[3] & NEGATED != 0))
    }
}

/// The scalar s, or r - s where that is smaller and then true.
fn nearer_to_zero(scalar: &Scalar) -> ([u64; 4], bool) {
    let bytes = scalar.to_le_bytes();
    let words: [u64; 4] = std::array::from_fn(|i| {
        u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().expect("a word has eight bytes"))
    });
    let is_far = words.iter().rev().cmp(HALF.iter().rev()).is_ge();
    if is_far { (difference(&ORDER, &words), true) } else { (words, false) }
}

fn difference(a: &[u64; 4], b: &[u64; 4]) -> [u64; 4] {
    let mut borrow = false;
    std::array::from_fn(|i| {
        let (word, under) = a[i].overflowing_sub(b[i]);
        let (word, under_again) = word.overflowing_sub(u64::from(borrow));
        borrow = under || under_again;
        word
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bls::msm::plan::Plan;

    #[test]
    fn digits_make_the_scalar() {
        let half = Scalar::from_u64(2).inverse().unwrap();
        let mut scalars = vec![Scalar::ZERO, Scalar::ONE, -Scalar::ONE, half, -half, half - Scalar::ONE];
        scalars.extend((0..200).map(|i| Scalar::from_u64(i + 2).pow(1 << 20)));
        scalars.extend((0..255).map(|i| Scalar::from_u64(2).pow(i)));
        for bits in Plan::BITS {
            let offset = offset(bits);
            for scalar in &scalars {
                let prepared = prepare(scalar, &offset);
                let sum = (0..count(bits)).fold(Scalar::ZERO, |sum, place| {
                    let (magnitude, is_negative) = Place::new(place, bits).digit(&prepared);
                    assert!(magnitude <= 1 << (bits - 1));
                    let value = Scalar::from_u64(2).pow((bits * place) as u64);
                    let value = value * Scalar::from_u64(magnitude as u64);
                    if is_negative { sum - value } else { sum + value }
                });
                assert_eq!(sum, *scalar, "{bits} bits");
            }
        }
    }
}
