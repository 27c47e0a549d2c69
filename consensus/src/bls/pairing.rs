//! The group G2 and the pairing: what verification needs.

use super::g1::{G1Affine, InvalidPoint};
use super::scalar::Scalar;
use blst::{BLST_ERROR, blst_fp12, blst_p2, blst_p2_affine};
use std::ops::{Mul, Neg, Sub};

/// A compressed point of G2 (96 bytes).
pub type G2Bytes = [u8; 96];

/// A point of G2 in Jacobian coordinates. Only trusted points (from a KZG setup) ever come here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct G2(blst_p2);

/// A point of G2 in affine coordinates. All zeros is the point at infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct G2Affine(blst_p2_affine);

impl G2 {
    /// The standard generator.
    pub fn generator() -> Self {
        // SAFETY: blst returns a pointer to a constant that lives as long as the program.
        Self(unsafe { *blst::blst_p2_generator() })
    }
}

impl Mul<Scalar> for G2 {
    type Output = Self;

    fn mul(self, scalar: Scalar) -> Self {
        let bytes = scalar.to_le_bytes();
        let mut out = Self::default();
        // SAFETY: two live points, and 32 bytes hold the 255 bits named.
        unsafe { blst::blst_p2_mult(&raw mut out.0, &raw const self.0, bytes.as_ptr(), 255) };
        out
    }
}

impl Neg for G2 {
    type Output = Self;

    fn neg(mut self) -> Self {
        // SAFETY: a live point, exclusively borrowed.
        unsafe { blst::blst_p2_cneg(&raw mut self.0, true) };
        self
    }
}

impl Sub for G2 {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let negative = -other;
        let mut out = Self::default();
        // SAFETY: three live points; the output is exclusive.
        unsafe { blst::blst_p2_add_or_double(&raw mut out.0, &raw const self.0, &raw const negative.0) };
        out
    }
}

impl From<G2Affine> for G2 {
    fn from(point: G2Affine) -> Self {
        let mut out = Self::default();
        // SAFETY: two live points; the output is exclusive.
        unsafe { blst::blst_p2_from_affine(&raw mut out.0, &raw const point.0) };
        out
    }
}

impl From<G2> for G2Affine {
    fn from(point: G2) -> Self {
        let mut out = Self::default();
        // SAFETY: two live points; the output is exclusive.
        unsafe { blst::blst_p2_to_affine(&raw mut out.0, &raw const point.0) };
        out
    }
}

impl G2Affine {
    /// The standard generator.
    pub fn generator() -> Self {
        // SAFETY: blst returns a pointer to a constant that lives as long as the program.
        Self(unsafe { *blst::blst_p2_affine_generator() })
    }

    /// Decodes a compressed point, which must be on the curve. Points come from KZG parameters alone, which are
    /// trusted by their hash, so the subgroup is not checked.
    pub fn from_bytes(bytes: &G2Bytes) -> Result<Self, InvalidPoint> {
        let mut out = Self::default();
        // SAFETY: the input has the 96 bytes that blst reads; the output is exclusive.
        match unsafe { blst::blst_p2_uncompress(&raw mut out.0, bytes.as_ptr()) } {
            BLST_ERROR::BLST_SUCCESS => Ok(out),
            _ => Err(InvalidPoint),
        }
    }

    /// The compressed form.
    pub fn to_bytes(self) -> G2Bytes {
        let mut bytes = [0; 96];
        // SAFETY: the output has the 96 bytes that blst writes.
        unsafe { blst::blst_p2_affine_compress(bytes.as_mut_ptr(), &raw const self.0) };
        bytes
    }
}

/// Whether e(a1, a2) = e(b1, b2).
///
/// For a first argument outside the subgroup of order r this compares its part inside: the order of the other part has
/// no factor r, so the pairing maps it to one.
pub fn pairings_equal(a1: &G1Affine, a2: &G2Affine, b1: &G1Affine, b2: &G2Affine) -> bool {
    let (a, b) = (miller_loop(a1, a2), miller_loop(b1, b2));
    // SAFETY: two live field elements.
    unsafe { blst::blst_fp12_finalverify(&raw const a, &raw const b) }
}

fn miller_loop(first: &G1Affine, second: &G2Affine) -> blst_fp12 {
    let mut out = blst_fp12::default();
    // SAFETY: three live values; the output is exclusive. blst itself treats infinity (all zeros) on either side.
    unsafe { blst::blst_miller_loop(&raw mut out, &raw const second.0, &raw const first.0) };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bls::G1;

    fn g1(n: u64) -> G1Affine {
        (G1::generator() * Scalar::from_u64(n)).into()
    }

    fn g2(n: u64) -> G2Affine {
        (G2::generator() * Scalar::from_u64(n)).into()
    }

    #[test]
    fn pairing_multiplies() {
        assert!(pairings_equal(&g1(3), &g2(4), &g1(12), &g2(1)));
        assert!(!pairings_equal(&g1(3), &g2(4), &g1(13), &g2(1)));
        assert!(pairings_equal(&g1(0), &g2(4), &g1(7), &g2(0)));
        assert!(!pairings_equal(&g1(0), &g2(4), &g1(7), &g2(1)));
    }

    #[test]
    fn bytes_and_arithmetic() {
        assert_eq!(G2Affine::from_bytes(&g2(9).to_bytes()), Ok(g2(9)));
        assert_eq!(G2Affine::from_bytes(&[0; 96]), Err(InvalidPoint));
        assert_eq!(G2Affine::from_bytes(&[0xff; 96]), Err(InvalidPoint));
        assert_eq!(G2Affine::from(G2::from(g2(9)) - G2::from(g2(4))), g2(5));
        assert_eq!(G2Affine::generator(), g2(1));
    }
}
