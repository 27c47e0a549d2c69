//! Elements of the scalar field of BLS12-381 (integers modulo r, a 255-bit prime).

use blst::blst_fr;
use std::fmt;
use std::ops::{Add, AddAssign, Mul, MulAssign, Neg, Sub, SubAssign};
use thiserror::Error;

/// Words of r, least significant first.
pub(crate) const MODULUS: [u64; 4] =
    [0xffff_ffff_0000_0001, 0x53bd_a402_fffe_5bfe, 0x3339_d808_09a1_d805, 0x73ed_a753_299d_7d48];

/// Limbs of 2^256 mod r: the number one in Montgomery form.
const MONTGOMERY_ONE: [u64; 4] =
    [0x0000_0001_ffff_fffe, 0x5884_b7fa_0003_4802, 0x998c_4fef_ecbc_4ff5, 0x1824_b159_acc5_056f];

/// Thirty-two bytes that are not the canonical form of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("invalid scalar: the 32 bytes are not below the field's modulus")]
pub struct InvalidScalar;

/// The first chunk of a batch that is not the canonical form of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("invalid scalar at position {index}: the 32 bytes are not below the field's modulus")]
pub struct InvalidScalarAt {
    /// Position of the chunk in the batch.
    pub index: usize,
}

/// A number modulo r, kept in Montgomery form and always below r.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Scalar(pub(super) blst_fr);

impl Scalar {
    /// The neutral element of addition.
    pub const ZERO: Self = Self(blst_fr { l: [0; 4] });
    /// The neutral element of multiplication.
    pub const ONE: Self = Self(blst_fr { l: MONTGOMERY_ONE });

    /// Reads 32 big-endian bytes; a value of r or more is refused (PROTOCOL 2).
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidScalar> {
        let limbs = limbs_from_bytes(bytes);
        if is_reduced(&limbs) { Ok(Self::from_reduced_limbs(limbs)) } else { Err(InvalidScalar) }
    }

    /// Whether [`Self::from_bytes`] takes these bytes; cheaper than taking them.
    pub fn is_canonical(bytes: &[u8; 32]) -> bool {
        is_reduced(&limbs_from_bytes(bytes))
    }

    /// Reads 31 big-endian bytes, which are always below r: a chunk of a raw record.
    pub fn from_safe_bytes(bytes: &[u8; 31]) -> Self {
        let mut full = [0; 32];
        full[1..].copy_from_slice(bytes);
        Self::from_reduced_limbs(limbs_from_bytes(&full))
    }

    /// Reads 32 big-endian bytes of any value and reduces them modulo r.
    pub fn from_bytes_reduced(bytes: &[u8; 32]) -> Self {
        let word = Self::from_u64(1 << 32) * Self::from_u64(1 << 32);
        limbs_from_bytes(bytes).iter().rev().fold(Self::ZERO, |sum, limb| sum * word + Self::from_u64(*limb))
    }

    /// A small integer.
    pub fn from_u64(value: u64) -> Self {
        Self::from_reduced_limbs([value, 0, 0, 0])
    }

    /// A larger integer, below r in any case.
    pub fn from_u128(value: u128) -> Self {
        Self::from_reduced_limbs([value as u64, (value >> 64) as u64, 0, 0])
    }

    /// The canonical 32 big-endian bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.to_limbs().iter().rev()) {
            chunk.copy_from_slice(&limb.to_be_bytes());
        }
        bytes
    }

    /// The canonical 32 bytes, least significant first: what `blst` multiplies points by.
    pub(super) fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = self.to_bytes();
        bytes.reverse();
        bytes
    }

    /// Whether this is zero.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// The multiplicative inverse, none for zero.
    pub fn inverse(self) -> Option<Self> {
        if self.is_zero() {
            return None;
        }
        let mut out = Self::ZERO;
        // SAFETY: both pointers are to live blst_fr values; the output is exclusive.
        unsafe { blst::blst_fr_inverse(&raw mut out.0, &raw const self.0) };
        Some(out)
    }

    /// This number to the power of `exponent`; the zeroth power of everything is one.
    pub fn pow(self, mut exponent: u64) -> Self {
        let mut base = self;
        let mut out = Self::ONE;
        while exponent > 0 {
            if exponent & 1 == 1 {
                out *= base;
            }
            base *= base;
            exponent >>= 1;
        }
        out
    }

    /// Its Montgomery form: words of 2^256 times the number, least significant first.
    #[inline]
    pub(crate) fn to_words(self) -> [u64; 4] {
        self.0.l
    }

    /// The reverse of [`Self::to_words`]; the words must be below r.
    #[inline]
    pub(crate) fn from_words(words: [u64; 4]) -> Self {
        debug_assert!(is_reduced(&words), "scalars are below r");
        Self(blst_fr { l: words })
    }

    /// Divides by 2^`bits` for `bits` up to 32: adds the multiple of r that makes the low bits zero, and shifts. As r is 1 modulo
    /// 2^32, that multiple is minus the low bits; and as it is below 2^`bits`, the outcome is below r.
    #[inline]
    pub(crate) fn halve(&mut self, bits: u32) {
        let mask = (1 << bits) - 1;
        let multiple = self.0.l[0].wrapping_neg() & mask;
        let mut sum = [0; 5];
        let mut carry = 0;
        for ((sum, word), modulus) in sum.iter_mut().zip(&self.0.l).zip(&MODULUS) {
            let wide = u128::from(*word) + u128::from(multiple) * u128::from(*modulus) + carry;
            *sum = wide as u64;
            carry = wide >> 64;
        }
        sum[4] = carry as u64;
        for (i, word) in self.0.l.iter_mut().enumerate() {
            *word = ((u128::from(sum[i + 1]) << 64 | u128::from(sum[i])) >> bits) as u64;
        }
    }

    /// `(a, b)` becomes `(a + t b, a - t b)`: one step of a decimation-in-time transform.
    #[inline]
    pub(crate) fn butterfly_time(a: &mut Self, b: &mut Self, twiddle: &Self) {
        // SAFETY: three live blst_fr values, the two written ones exclusively borrowed and so distinct.
        unsafe { blst::blst_fr_ct_bfly(&raw mut a.0, &raw mut b.0, &raw const twiddle.0) };
    }

    /// `(a, b)` becomes `(a + b, t (a - b))`: one step of a decimation-in-frequency transform.
    #[inline]
    pub(crate) fn butterfly_frequency(a: &mut Self, b: &mut Self, twiddle: &Self) {
        // SAFETY: three live blst_fr values, the two written ones exclusively borrowed and so distinct.
        unsafe { blst::blst_fr_gs_bfly(&raw mut a.0, &raw mut b.0, &raw const twiddle.0) };
    }

    /// Into Montgomery form; `limbs` must be below r.
    fn from_reduced_limbs(limbs: [u64; 4]) -> Self {
        let plain = blst_fr { l: limbs };
        let mut out = Self::ZERO;
        // SAFETY: both pointers are to live blst_fr values; the output is exclusive.
        unsafe { blst::blst_fr_to(&raw mut out.0, &raw const plain) };
        out
    }

    /// Out of Montgomery form, least significant limb first.
    fn to_limbs(self) -> [u64; 4] {
        let mut plain = blst_fr::default();
        // SAFETY: both pointers are to live blst_fr values; the output is exclusive.
        unsafe { blst::blst_fr_from(&raw mut plain, &raw const self.0) };
        plain.l
    }
}

/// Whether limbs, least significant first, are below r.
fn is_reduced(limbs: &[u64; 4]) -> bool {
    limbs.iter().rev().lt(MODULUS.iter().rev())
}

fn limbs_from_bytes(bytes: &[u8; 32]) -> [u64; 4] {
    let mut limbs = [0; 4];
    for (limb, chunk) in limbs.iter_mut().rev().zip(bytes.as_chunks::<8>().0) {
        *limb = u64::from_be_bytes(*chunk);
    }
    limbs
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl AddAssign for Scalar {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        let this: *mut blst_fr = &raw mut self.0;
        // SAFETY: blst reads its operands before it writes, so the output may be the first operand; `other` is ours.
        unsafe { blst::blst_fr_add(this, this, &raw const other.0) };
    }
}

impl SubAssign for Scalar {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        let this: *mut blst_fr = &raw mut self.0;
        // SAFETY: as in `add_assign`.
        unsafe { blst::blst_fr_sub(this, this, &raw const other.0) };
    }
}

impl MulAssign for Scalar {
    #[inline]
    fn mul_assign(&mut self, other: Self) {
        let this: *mut blst_fr = &raw mut self.0;
        // SAFETY: as in `add_assign`.
        unsafe { blst::blst_fr_mul(this, this, &raw const other.0) };
    }
}

impl Add for Scalar {
    type Output = Self;

    #[inline]
    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl Sub for Scalar {
    type Output = Self;

    #[inline]
    fn sub(mut self, other: Self) -> Self {
        self -= other;
        self
    }
}

impl Mul for Scalar {
    type Output = Self;

    #[inline]
    fn mul(mut self, other: Self) -> Self {
        self *= other;
        self
    }
}

impl Neg for Scalar {
    type Output = Self;

    fn neg(self) -> Self {
        Self::ZERO - self
    }
}

/// Replaces every number by its inverse at the price of one inversion and three multiplications each. Zeros stay zero.
pub fn batch_invert(values: &mut [Scalar]) {
    let mut product = Scalar::ONE;
    let mut products_before = Vec::with_capacity(values.len());
    for value in values.iter() {
        products_before.push(product);
        if !value.is_zero() {
            product *= *value;
        }
    }
    let mut inverse = product.inverse().expect("a product of numbers other than zero is not zero");
    for (value, before) in values.iter_mut().zip(products_before).rev() {
        if !value.is_zero() {
            let this = inverse * before;
            inverse *= *value;
            *value = this;
        }
    }
}

/// Whether all of these chunks, 32 big-endian bytes each, are scalars.
pub fn are_scalars(chunks: &[[u8; 32]]) -> bool {
    chunks.iter().all(|chunk| is_reduced(&limbs_from_bytes(chunk)))
}

/// Reads a record's chunks, 32 big-endian bytes each. The slices must be of equal length.
pub fn scalars_from_bytes(chunks: &[[u8; 32]], scalars: &mut [Scalar]) -> Result<(), InvalidScalarAt> {
    assert_eq!(chunks.len(), scalars.len(), "as many chunks as scalars");
    for (index, (chunk, scalar)) in chunks.iter().zip(scalars).enumerate() {
        *scalar = Scalar::from_bytes(chunk).map_err(|InvalidScalar| InvalidScalarAt { index })?;
    }
    Ok(())
}

/// Writes scalars as 32 big-endian bytes each. The slices must be of equal length.
pub fn scalars_to_bytes(scalars: &[Scalar], chunks: &mut [[u8; 32]]) {
    assert_eq!(chunks.len(), scalars.len(), "as many chunks as scalars");
    for (chunk, scalar) in chunks.iter_mut().zip(scalars) {
        *chunk = scalar.to_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modulus_bytes() -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(MODULUS.iter().rev()) {
            chunk.copy_from_slice(&limb.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn what_is_below_the_modulus_is_a_scalar() {
        let (modulus, mut below) = (modulus_bytes(), modulus_bytes());
        below[31] -= 1;
        assert!(are_scalars(&[[0; 32], below]) && are_scalars(&[]));
        assert!(!are_scalars(&[below, modulus]) && !are_scalars(&[[255; 32]]));
    }

    #[test]
    fn one_is_one() {
        assert_eq!(Scalar::from_u64(1), Scalar::ONE);
        assert_eq!(Scalar::from_u64(0), Scalar::ZERO);
        assert_eq!(Scalar::from_u64(6) * Scalar::from_u64(7), Scalar::from_u64(42));
        assert_eq!(Scalar::from_u64(6) - Scalar::from_u64(7), -Scalar::ONE);
        assert_eq!(Scalar::from_u64(3).pow(5), Scalar::from_u64(243));
        assert_eq!(Scalar::from_u64(3).pow(0), Scalar::ONE);
    }

    #[test]
    fn modulus_is_the_first_refused_value() {
        let mut bytes = modulus_bytes();
        assert_eq!(Scalar::from_bytes(&bytes), Err(InvalidScalar));
        assert_eq!(Scalar::from_bytes(&[0xff; 32]), Err(InvalidScalar));
        assert_eq!(Scalar::from_bytes_reduced(&bytes), Scalar::ZERO);
        bytes[31] -= 1;
        let largest = Scalar::from_bytes(&bytes).unwrap();
        assert_eq!(largest, -Scalar::ONE);
        assert_eq!(largest.to_bytes(), bytes);
        assert_eq!(Scalar::from_bytes_reduced(&bytes), largest);
    }

    #[test]
    fn reduction_weighs_every_limb() {
        let mut bytes = [0xff; 32];
        let by_bytes =
            bytes.iter().fold(Scalar::ZERO, |sum, _| sum * Scalar::from_u64(256) + Scalar::from_u64(255));
        assert_eq!(Scalar::from_bytes_reduced(&bytes), by_bytes);
        bytes[0] = 0;
        let safe = <&[u8; 31]>::try_from(&bytes[1..]).unwrap();
        assert_eq!(Scalar::from_bytes_reduced(&bytes), Scalar::from_safe_bytes(safe));
    }

    #[test]
    fn bytes_make_the_way_there_and_back() {
        let mut bytes = [0; 32];
        bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = i as u8 + 1);
        let scalar = Scalar::from_bytes(&bytes).unwrap();
        assert_eq!(scalar.to_bytes(), bytes);
        assert_eq!(
            format!("{scalar:?}"),
            "0x0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
        );
        bytes[0] = 0;
        let safe = <&[u8; 31]>::try_from(&bytes[1..]).unwrap();
        assert_eq!(Scalar::from_safe_bytes(safe).to_bytes(), bytes);
    }

    #[test]
    fn halving_is_division() {
        for value in [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::from_u64(3).pow(200)] {
            for bits in [0, 1, 2, 15, 16, 31, 32] {
                let mut half = value;
                half.halve(bits);
                assert!(is_reduced(&half.to_words()));
                assert_eq!(half * Scalar::from_u64(1 << bits), value);
            }
        }
    }

    #[test]
    fn a_bad_chunk_is_named() {
        let mut scalars = [Scalar::ZERO; 3];
        let chunks = [[1; 32], [2; 32], [0xff; 32]];
        assert_eq!(scalars_from_bytes(&chunks, &mut scalars), Err(InvalidScalarAt { index: 2 }));
        scalars_from_bytes(&chunks[..2], &mut scalars[..2]).unwrap();
        let mut back = [[0; 32]; 2];
        scalars_to_bytes(&scalars[..2], &mut back);
        assert_eq!(back, chunks[..2]);
    }

    #[test]
    fn inverses() {
        assert_eq!(Scalar::ZERO.inverse(), None);
        let mut values: Vec<_> = (0..20).map(|i| Scalar::from_u64(i % 7)).collect();
        let before = values.clone();
        batch_invert(&mut values);
        for (value, inverse) in before.into_iter().zip(values) {
            assert_eq!(value.inverse().unwrap_or(Scalar::ZERO), inverse);
            assert_eq!(value * inverse, if value.is_zero() { Scalar::ZERO } else { Scalar::ONE });
        }
        batch_invert(&mut []);
    }

    #[test]
    fn butterflies() {
        let (x, y, t) = (Scalar::from_u64(10), Scalar::from_u64(3), Scalar::from_u64(5));
        let (mut a, mut b) = (x, y);
        Scalar::butterfly_time(&mut a, &mut b, &t);
        assert_eq!((a, b), (x + t * y, x - t * y));
        let (mut a, mut b) = (x, y);
        Scalar::butterfly_frequency(&mut a, &mut b, &t);
        assert_eq!((a, b), (x + y, t * (x - y)));
    }
}
