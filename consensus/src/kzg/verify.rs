//! Checking that a value belongs to a committed polynomial. Needs three points of the setup only.

use super::{KzgError, PointBytes, domain_point, invalid_commitment, invalid_witness};
use crate::bls::{
    G1, G1Affine, G2, G2Affine, G2Bytes, Scalar, multi_scalar_mul, multi_scalar_mul_short, pairings_equal,
};

/// G2 generator times tau of the Ethereum ceremony's parameters (transcript 3).
const MAINNET_TAU_G2: G2Bytes = [
    0xa7, 0x8b, 0x94, 0x34, 0x2f, 0x7d, 0x47, 0xa9, 0x2f, 0x86, 0x18, 0xd0, 0xcf, 0x60, 0xcd, 0x3f, 0x8c,
    0x77, 0x27, 0x9f, 0xfa, 0xfb, 0x2f, 0x0d, 0x71, 0xe4, 0xbe, 0x07, 0x49, 0x79, 0xf1, 0xb2, 0xf5, 0x36,
    0x00, 0x7e, 0x9d, 0xcd, 0x23, 0x6a, 0xba, 0xab, 0xca, 0xc3, 0x76, 0x99, 0x30, 0x79, 0x12, 0x24, 0x55,
    0x68, 0x39, 0xc0, 0xc3, 0xb5, 0xbf, 0x3f, 0x3b, 0xad, 0x97, 0x27, 0xdf, 0xc5, 0xc3, 0x32, 0x65, 0x39,
    0x88, 0x3a, 0x6b, 0x79, 0x8b, 0xef, 0x53, 0x02, 0x77, 0x6e, 0xde, 0x7b, 0x93, 0x93, 0x74, 0xa2, 0x36,
    0xe9, 0x66, 0x58, 0xb2, 0x69, 0xc3, 0xf4, 0xa2, 0xea, 0x85, 0x9e,
];

/// The part of a setup that checks openings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KzgVerifier {
    g1: G1Affine,
    g2: G2Affine,
    tau_g2: G2Affine,
}

/// A claim that the committed polynomial has `value` at place `index` of `num_values`.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// Commitment to the polynomial.
    pub commitment: &'a PointBytes,
    /// Number of values, rounded up to a power of two; 65 536 at most.
    pub num_values: usize,
    /// Place of the value, below `num_values`.
    pub index: usize,
    /// The value claimed.
    pub value: Scalar,
    /// Witness of the claim.
    pub witness: &'a PointBytes,
}

impl KzgVerifier {
    pub(super) fn new(g1: G1Affine, g2: G2Affine, tau_g2: G2Affine) -> Self {
        Self { g1, g2, tau_g2 }
    }

    /// For the network's own setup.
    pub fn mainnet() -> Self {
        let tau_g2 = G2Affine::from_bytes(&MAINNET_TAU_G2).expect("the constant is a point of G2");
        Self::new(G1Affine::generator(), G2Affine::generator(), tau_g2)
    }

    /// Whether `value` is value `index` of `num_values` of the committed polynomial: e(C - y G1, G2) = e(W, tau G2 - x G2)
    /// (PROTOCOL 3). An error means that bytes do not decode or that there is no such index.
    ///
    /// No scalar multiplies an untrusted point here, so any curve point may come in.
    pub fn verify(
        &self,
        commitment: &PointBytes,
        num_values: usize,
        index: usize,
        value: &Scalar,
        witness: &PointBytes,
    ) -> Result<bool, KzgError> {
        let x = domain_point(num_values, index)?;
        let commitment = G1::from_bytes(commitment).map_err(invalid_commitment)?;
        let witness = G1Affine::from_bytes(witness).map_err(invalid_witness)?;
        let difference = commitment - G1::from(self.g1) * *value;
        let divisor = G2::from(self.tau_g2) - G2::from(self.g2) * x;
        Ok(pairings_equal(&difference.into(), &self.g2, &witness, &divisor.into()))
    }

    /// Whether all openings hold, at the price of two pairings and a tenth of a millisecond for each opening.
    ///
    /// Checks the random combination sum r_i (C_i - y_i G1 + x_i W_i) against sum r_i W_i. The 128-bit numbers r_i are
    /// drawn from BLAKE3 over all openings, so whoever makes the openings cannot know them before having fixed every
    /// byte, and the outcome is the same for everybody and needs no source of randomness. A batch with a false opening
    /// passes with probability 2^-128. After a failure, check parts to find the culprit.
    pub fn verify_batch(&self, openings: &[Opening<'_>]) -> Result<bool, KzgError> {
        let randomness = randomness(openings);
        let mut commitments = Vec::with_capacity(openings.len());
        let mut witnesses = Vec::with_capacity(openings.len() + 1);
        let mut witness_factors = Vec::with_capacity(openings.len() + 1);
        let mut value_sum = Scalar::ZERO;
        for (opening, random) in openings.iter().zip(&randomness) {
            let x = domain_point(opening.num_values, opening.index)?;
            let random = Scalar::from_u128(*random);
            commitments.push(G1Affine::from_bytes(opening.commitment).map_err(invalid_commitment)?);
            witnesses.push(G1Affine::from_bytes(opening.witness).map_err(invalid_witness)?);
            witness_factors.push(random * x);
            value_sum += random * opening.value;
        }
        let witness_sum = multi_scalar_mul_short(&witnesses, &randomness);
        witnesses.push(self.g1);
        witness_factors.push(-value_sum);
        let rest = multi_scalar_mul(&witnesses, &witness_factors);
        let difference = multi_scalar_mul_short(&commitments, &randomness) + rest;
        Ok(pairings_equal(&difference.into(), &self.g2, &witness_sum.into(), &self.tau_g2))
    }
}

/// One number for each opening, dependent on all of them.
fn randomness(openings: &[Opening<'_>]) -> Vec<u128> {
    let mut hasher = blake3::Hasher::new();
    for opening in openings {
        hasher.update(opening.commitment);
        hasher.update(&(opening.num_values as u64).to_le_bytes());
        hasher.update(&(opening.index as u64).to_le_bytes());
        hasher.update(&opening.value.to_bytes());
        hasher.update(opening.witness);
    }
    let mut stream = hasher.finalize_xof();
    let mut next = || {
        let mut bytes = [0; 16];
        stream.fill(&mut bytes);
        u128::from_le_bytes(bytes)
    };
    openings.iter().map(|_| next()).collect()
}
