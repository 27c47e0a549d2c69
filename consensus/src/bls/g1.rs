//! The group G1: commitments and witnesses.

use super::scalar::Scalar;
use blst::{BLST_ERROR, blst_p1, blst_p1_affine};
use std::ops::{Add, AddAssign, Mul, Neg, Sub};
use std::ptr;
use thiserror::Error;

/// A compressed point of G1 (48 bytes, big endian, three flag bits on top): commitments and witnesses on the wire.
pub type PointBytes = [u8; 48];

/// Below this many points `blst` takes a shortcut through affine tables of small multiples, which divides by zero for
/// points of small order. Such points pass our decoding (see [`G1Affine::from_bytes`]), so shorter sums are padded.
const POINTS_MIN: usize = 32;

/// Bytes that are not a compressed curve point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("invalid point: the bytes are not a compressed point of the curve")]
pub struct InvalidPoint;

/// A point in Jacobian coordinates: the form to compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct G1(blst_p1);

/// A point in affine coordinates: the form to keep. All zeros is the point at infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct G1Affine(pub(super) blst_p1_affine);

impl G1 {
    /// The point at infinity, the neutral element.
    pub fn infinity() -> Self {
        Self::default()
    }

    /// The standard generator.
    pub fn generator() -> Self {
        // SAFETY: blst returns a pointer to a constant that lives as long as the program.
        Self(unsafe { *blst::blst_p1_generator() })
    }

    /// Decodes a compressed point; see [`G1Affine::from_bytes`].
    pub fn from_bytes(bytes: &PointBytes) -> Result<Self, InvalidPoint> {
        G1Affine::from_bytes(bytes).map(Self::from)
    }

    /// The compressed form.
    pub fn to_bytes(self) -> PointBytes {
        let mut bytes = [0; 48];
        // SAFETY: the output has the 48 bytes that blst writes.
        unsafe { blst::blst_p1_compress(bytes.as_mut_ptr(), &raw const self.0) };
        bytes
    }

    /// The point added to itself.
    pub fn double(self) -> Self {
        let mut out = Self::default();
        // SAFETY: two live points; the output is exclusive.
        unsafe { blst::blst_p1_double(&raw mut out.0, &raw const self.0) };
        out
    }

    /// Adds an affine point, cheaper than a Jacobian one.
    pub fn add_affine(self, other: &G1Affine) -> Self {
        let mut out = Self::default();
        // SAFETY: three live points; the output is exclusive.
        unsafe { blst::blst_p1_add_or_double_affine(&raw mut out.0, &raw const self.0, &raw const other.0) };
        out
    }

    /// Whether this is the point at infinity.
    pub fn is_infinity(&self) -> bool {
        // SAFETY: a live point.
        unsafe { blst::blst_p1_is_inf(&raw const self.0) }
    }

    /// Many points to affine form with one field inversion for up to 1536 of them.
    pub fn batch_to_affine(points: &[Self]) -> Vec<G1Affine> {
        let mut out = vec![G1Affine::default(); points.len()];
        if points.is_empty() {
            return out;
        }
        // A null second pointer tells blst that the points lie one behind the other.
        let pointers = [points.as_ptr().cast::<blst_p1>(), ptr::null()];
        // SAFETY: G1 and G1Affine are transparent, both arrays hold `points.len()` elements and do not overlap.
        unsafe {
            blst::blst_p1s_to_affine(
                out.as_mut_ptr().cast::<blst_p1_affine>(),
                pointers.as_ptr(),
                points.len(),
            );
        }
        out
    }
}

impl From<G1Affine> for G1 {
    fn from(point: G1Affine) -> Self {
        let mut out = Self::default();
        // SAFETY: two live points; the output is exclusive.
        unsafe { blst::blst_p1_from_affine(&raw mut out.0, &raw const point.0) };
        out
    }
}

impl AddAssign for G1 {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Add for G1 {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let mut out = Self::default();
        // SAFETY: three live points; the output is exclusive.
        unsafe { blst::blst_p1_add_or_double(&raw mut out.0, &raw const self.0, &raw const other.0) };
        out
    }
}

impl Neg for G1 {
    type Output = Self;

    fn neg(mut self) -> Self {
        // SAFETY: a live point, exclusively borrowed.
        unsafe { blst::blst_p1_cneg(&raw mut self.0, true) };
        self
    }
}

impl Sub for G1 {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul<Scalar> for G1 {
    type Output = Self;

    /// The multiple of a point of the subgroup. (For another curve point the result may be off by a point outside
    /// the subgroup, because blst splits the scalar along an endomorphism.)
    fn mul(self, scalar: Scalar) -> Self {
        let bytes = scalar.to_le_bytes();
        let mut out = Self::default();
        // SAFETY: two live points, and 32 bytes hold the 255 bits named.
        unsafe { blst::blst_p1_mult(&raw mut out.0, &raw const self.0, bytes.as_ptr(), 255) };
        out
    }
}

impl G1Affine {
    /// The standard generator.
    pub fn generator() -> Self {
        // SAFETY: blst returns a pointer to a constant that lives as long as the program.
        Self(unsafe { *blst::blst_p1_affine_generator() })
    }

    /// Decodes a compressed point. Infinity is accepted; the point must be on the curve.
    ///
    /// Whether it lies in the subgroup of order r is deliberately not asked: the network does not ask either
    /// (PROTOCOL 3), and refusing what it accepts would split us from it. A pairing does not see the part of a point
    /// outside the subgroup, so KZG checks stay sound. Code that compares such points itself must ask
    /// [`Self::is_in_subgroup`].
    pub fn from_bytes(bytes: &PointBytes) -> Result<Self, InvalidPoint> {
        let mut out = Self::default();
        // SAFETY: the input has the 48 bytes that blst reads; the output is exclusive.
        match unsafe { blst::blst_p1_uncompress(&raw mut out.0, bytes.as_ptr()) } {
            BLST_ERROR::BLST_SUCCESS => Ok(out),
            _ => Err(InvalidPoint),
        }
    }

    /// The compressed form.
    pub fn to_bytes(self) -> PointBytes {
        let mut bytes = [0; 48];
        // SAFETY: the output has the 48 bytes that blst writes.
        unsafe { blst::blst_p1_affine_compress(bytes.as_mut_ptr(), &raw const self.0) };
        bytes
    }

    /// Whether the point lies in the subgroup of order r.
    pub fn is_in_subgroup(&self) -> bool {
        // SAFETY: a live point.
        unsafe { blst::blst_p1_affine_in_g1(&raw const self.0) }
    }
}

impl From<G1> for G1Affine {
    fn from(point: G1) -> Self {
        let mut out = Self::default();
        // SAFETY: two live points; the output is exclusive.
        unsafe { blst::blst_p1_to_affine(&raw mut out.0, &raw const point.0) };
        out
    }
}

/// The sum of `scalars[i] * points[i]`. Right for every curve point, in the subgroup or not.
pub fn multi_scalar_mul(points: &[G1Affine], scalars: &[Scalar]) -> G1 {
    let bytes: Vec<_> = scalars.iter().map(|scalar| scalar.to_le_bytes()).collect();
    multi_scalar_mul_bytes(points, &bytes, 255)
}

/// The same for 128-bit integers as scalars, at about half the price.
pub fn multi_scalar_mul_short(points: &[G1Affine], scalars: &[u128]) -> G1 {
    let bytes: Vec<_> = scalars.iter().map(|scalar| scalar.to_le_bytes()).collect();
    multi_scalar_mul_bytes(points, &bytes, 128)
}

/// Pippenger's method on the calling thread; scalars are little endian and below `2^bits`.
fn multi_scalar_mul_bytes<const SIZE: usize>(points: &[G1Affine], scalars: &[[u8; SIZE]], bits: usize) -> G1 {
    assert_eq!(points.len(), scalars.len(), "as many points as scalars");
    assert_eq!(bits.div_ceil(8), SIZE, "blst takes one scalar every bits / 8 bytes, rounded up");
    if points.len() < POINTS_MIN {
        let mut padded_points = [G1Affine::default(); POINTS_MIN];
        let mut padded_scalars = [[0; SIZE]; POINTS_MIN];
        padded_points[..points.len()].copy_from_slice(points);
        padded_scalars[..scalars.len()].copy_from_slice(scalars);
        return multi_scalar_mul_bytes(&padded_points, &padded_scalars, bits);
    }
    let mut out = G1::default();
    let point_pointers = [points.as_ptr().cast::<blst_p1_affine>(), ptr::null()];
    let scalar_pointers = [scalars.as_ptr().cast::<u8>(), ptr::null()];
    // SAFETY: the size query reads nothing but its argument. `scratch` is as long as blst asks, rounded up. Both lists
    // are contiguous, which the null pointers say, and as long as `points.len()`, which is not zero.
    unsafe {
        let scratch_size_bytes = blst::blst_p1s_mult_pippenger_scratch_sizeof(points.len());
        let mut scratch = vec![0_u64; scratch_size_bytes.div_ceil(size_of::<u64>())];
        blst::blst_p1s_mult_pippenger(
            &raw mut out.0,
            point_pointers.as_ptr(),
            points.len(),
            scalar_pointers.as_ptr(),
            bits,
            scratch.as_mut_ptr(),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multiple(n: u64) -> G1 {
        G1::generator() * Scalar::from_u64(n)
    }

    /// Curve points outside the subgroup, by ascending x.
    fn outside_subgroup() -> impl Iterator<Item = G1Affine> {
        let with_x = |x| {
            let mut bytes = [0; 48];
            (bytes[0], bytes[47]) = (0x80, x);
            G1Affine::from_bytes(&bytes).ok()
        };
        (1..=255).filter_map(with_x).filter(|point| !point.is_in_subgroup())
    }

    #[test]
    fn group_laws() {
        let g = G1::generator();
        assert_eq!(g.double() + g, multiple(3));
        assert_eq!(g.double() - g, g);
        assert_eq!(g - g, G1::infinity());
        assert!((g - g).is_infinity());
        assert_eq!(g + G1::infinity(), g);
        assert_eq!(g + g, g.double());
        assert_eq!(g.add_affine(&G1Affine::generator()), g.double());
        assert_eq!(g * Scalar::ZERO, G1::infinity());
        assert_eq!(g * -Scalar::ONE, -g);
        assert_eq!(G1::infinity() * Scalar::from_u64(9), G1::infinity());
    }

    #[test]
    fn bytes_make_the_way_there_and_back() {
        for point in [G1::infinity(), multiple(1), multiple(77), -multiple(77)] {
            let bytes = point.to_bytes();
            assert_eq!(G1::from_bytes(&bytes), Ok(point));
            assert_eq!(G1Affine::from(point).to_bytes(), bytes);
        }
        assert_eq!(G1::infinity().to_bytes()[0], 0xc0);
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let good = multiple(5).to_bytes();
        let mut uncompressed_flag = good;
        uncompressed_flag[0] &= 0x7f;
        let mut infinity_with_rest = good;
        infinity_with_rest[0] |= 0x40;
        let mut x_too_large = [0xff; 48];
        x_too_large[0] = 0x9f;
        for bytes in [[0; 48], [0xff; 48], uncompressed_flag, infinity_with_rest, x_too_large] {
            assert_eq!(G1Affine::from_bytes(&bytes), Err(InvalidPoint), "{bytes:02x?}");
        }
        let on_curve = (0..=255).filter(|x| {
            let mut bytes = good;
            bytes[47] = *x;
            G1Affine::from_bytes(&bytes).is_ok()
        });
        assert!((64..192).contains(&on_curve.count()), "about half of all x are on the curve");
    }

    #[test]
    fn points_outside_the_subgroup_decode() {
        assert!(G1Affine::generator().is_in_subgroup());
        let outside = outside_subgroup().next().expect("most curve points are outside");
        assert_eq!(G1Affine::from_bytes(&outside.to_bytes()), Ok(outside));
    }

    #[test]
    fn batch_to_affine_equals_one_by_one() {
        let mut points: Vec<_> = (0..40).map(multiple).collect();
        points.push(G1::infinity());
        let expected: Vec<_> = points.iter().map(|point| G1Affine::from(*point)).collect();
        assert_eq!(G1::batch_to_affine(&points), expected);
        assert_eq!(G1::batch_to_affine(&[]), []);
    }

    #[test]
    fn multi_scalar_mul_equals_the_sum() {
        for count in [0, 1, 2, 31, 32, 33, 300] {
            let points: Vec<_> = (0..count).map(|i| multiple(i % 50)).collect();
            let affine = G1::batch_to_affine(&points);
            let scalars: Vec<_> = (0..count).map(|i| -Scalar::from_u64(i * i)).collect();
            let expected = points
                .iter()
                .zip(&scalars)
                .fold(G1::infinity(), |sum, (point, scalar)| sum + *point * *scalar);
            assert_eq!(multi_scalar_mul(&affine, &scalars), expected, "{count} points");

            let short: Vec<_> = (0..count).map(|i| u128::MAX - u128::from(i)).collect();
            let long: Vec<_> = short.iter().map(|value| Scalar::from_u128(*value)).collect();
            assert_eq!(multi_scalar_mul_short(&affine, &short), multi_scalar_mul(&affine, &long));
        }
    }

    /// The plain double-and-add method, which works for every curve point.
    fn multiple_of(point: G1, factor_be: &[u8]) -> G1 {
        let bits = factor_be.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
        bits.fold(G1::infinity(), |sum, bit| if bit == 1 { sum.double() + point } else { sum.double() })
    }

    #[test]
    fn multi_scalar_mul_bears_points_of_small_order() {
        let r = hex::decode("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001").unwrap();
        let cofactor: u128 = 0x396c_8c00_5555_e156_8c00_aaab_0000_aaab;
        let point = outside_subgroup()
            .map(|outside| multiple_of(multiple_of(outside.into(), &r), &(cofactor / 3).to_be_bytes()))
            .find(|point| !point.is_infinity())
            .expect("two of three points have a part of order three");
        assert!((point.double() + point).is_infinity(), "order three");

        let points = [G1Affine::from(point), G1Affine::generator()];
        let sum = multi_scalar_mul(&points, &[Scalar::from_u64(3), Scalar::from_u64(5)]);
        assert_eq!(sum, multiple(5));
        let sum = multi_scalar_mul(&points, &[Scalar::from_u64(4), Scalar::from_u64(5)]);
        assert_eq!(sum, multiple(5) + point);
    }
}
