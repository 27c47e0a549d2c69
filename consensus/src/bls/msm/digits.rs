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

/// How many digits of `bits` bits a scalar has.
pub(super) const fn count(bits: usize) -> usize {
    SIGNED_BITS.div_ceil(bits)
}

/// Calls `each(place, magnitude, negative)` for every digit other than zero, the lowest one first: the scalar is the sum
/// of +-magnitude 2^(bits place) modulo r, and magnitudes are 1 to 2^(bits - 1).
pub(super) fn for_each(scalar: &Scalar, bits: usize, mut each: impl FnMut(usize, u32, bool)) {
    let (words, flip) = nearer_to_zero(scalar);
    let mut carry = 0;
    for place in 0..count(bits) {
        let (word, shift) = (place * bits / 64, place * bits % 64);
        let mut digit = words[word] >> shift;
        if shift + bits > 64 && word + 1 < words.len() {
            digit |= words[word + 1] << (64 - shift);
        }
        let digit = (digit & ((1 << bits) - 1)) as u32 + carry;
        carry = u32::from(digit > 1 << (bits - 1));
        let magnitude = if carry == 1 { (1 << bits) - digit } else { digit };
        if magnitude != 0 {
            each(place, magnitude, (carry == 1) != flip);
        }
    }
}

/// The scalar s, or r - s where that is smaller and then true.
fn nearer_to_zero(scalar: &Scalar) -> ([u64; 4], bool) {
    let bytes = scalar.to_le_bytes();
    let words: [u64; 4] = std::array::from_fn(|i| {
        u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().expect("a word has eight bytes"))
    });
    let far = words.iter().rev().cmp(HALF.iter().rev()).is_ge();
    if far { (difference(&ORDER, &words), true) } else { (words, false) }
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

    #[test]
    fn digits_make_the_scalar() {
        let half = Scalar::from_u64(2).inverse().unwrap();
        let mut scalars = vec![Scalar::ZERO, Scalar::ONE, -Scalar::ONE, half, -half, half - Scalar::ONE];
        scalars.extend((0..200).map(|i| Scalar::from_u64(i + 2).pow(1 << 20)));
        scalars.extend((0..255).map(|i| Scalar::from_u64(2).pow(i)));
        for bits in 2..=16 {
            for scalar in &scalars {
                let mut sum = Scalar::ZERO;
                for_each(scalar, bits, |place, magnitude, negative| {
                    assert!((1..=1 << (bits - 1)).contains(&magnitude) && place < count(bits));
                    let value =
                        Scalar::from_u64(2).pow((bits * place) as u64) * Scalar::from_u64(magnitude.into());
                    sum += if negative { -value } else { value };
                });
                assert_eq!(sum, *scalar, "{bits} bits");
            }
        }
    }
}
