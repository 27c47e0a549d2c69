//! KZG commitments to polynomials over BLS12-381 (PROTOCOL 3).
//!
//! Owns: committing, opening, and checking of openings against the parameters of a trusted setup.
//! Never: file access (a setup is handed over as bytes) and any secret of a setup, except in [`insecure`].

pub mod insecure;
mod polynomial;
mod setup;
mod verify;

pub use crate::bls::PointBytes;
pub use polynomial::Polynomial;
pub use setup::{
    Kzg, MAINNET_PARAMETERS_SHA256, PARAMETERS_G1_POINTS, PARAMETERS_G2_POINTS, PARAMETERS_SIZE,
    TABLE_SIZE_MAX,
};
pub use verify::{KzgVerifier, Opening};

use crate::bls::{InvalidPoint, Scalar};
use crate::fft::{LOG2_WIDTH_MAX, root_of_unity};
use thiserror::Error;

/// What can go wrong with commitments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KzgError {
    /// The parameters do not have the one possible length.
    #[error(
        "KZG parameters are {found} bytes long, not {PARAMETERS_SIZE}; fetch the file eth-public-parameters.bin anew"
    )]
    ParametersLength {
        /// Bytes given.
        found: usize,
    },
    /// A point of the parameters does not decode.
    #[error("point {index} of group G{group} of the KZG parameters is invalid; fetch the file anew")]
    ParametersPoint {
        /// 1 or 2.
        group: u8,
        /// Position among the group's points.
        index: usize,
    },
    /// The parameters' first points are not generators and powers of one secret.
    #[error("KZG parameters are not the powers of one number; fetch the file anew")]
    ParametersInconsistent,
    /// The polynomial is longer than the parameters.
    #[error("polynomial of {found} coefficients: KZG parameters reach to {PARAMETERS_G1_POINTS}")]
    PolynomialTooLong {
        /// Coefficients of the polynomial.
        found: usize,
    },
    /// No value has this index.
    #[error("index {index} of {num_values} values: at most 65536 values, and the index below their number")]
    Index {
        /// Index asked for.
        index: usize,
        /// Number of values the polynomial was made from.
        num_values: usize,
    },
    /// Commitment bytes are not a curve point.
    #[error("commitment is not a point of the curve")]
    InvalidCommitment,
    /// Witness bytes are not a curve point.
    #[error("witness is not a point of the curve")]
    InvalidWitness,
}

/// The scalar that stands for a commitment in the polynomial of its segment: its BLAKE3 hash with the two top bits
/// cleared (PROTOCOL 3).
pub fn hash_to_scalar(commitment: &PointBytes) -> Scalar {
    let mut hash = *blake3::hash(commitment).as_bytes();
    hash[0] &= 0x3f;
    Scalar::from_bytes(&hash).expect("the modulus is above 2^254")
}

/// The point at which value `index` of `num_values` (rounded up to a power of two) sits.
fn domain_point(num_values: usize, index: usize) -> Result<Scalar, KzgError> {
    let width_max = 1 << LOG2_WIDTH_MAX;
    if num_values > width_max || index >= num_values {
        return Err(KzgError::Index { index, num_values });
    }
    let log2_width = num_values.next_power_of_two().ilog2();
    Ok(root_of_unity(log2_width).pow(index as u64))
}

fn invalid_commitment(_: InvalidPoint) -> KzgError {
    KzgError::InvalidCommitment
}

fn invalid_witness(_: InvalidPoint) -> KzgError {
    KzgError::InvalidWitness
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_of_a_commitment() {
        let input = "3aca476740cba324964ea6df0d6726d41aabbcebbf1abe07ad13ad8a7e7d0e957cf127de6de08cc69bcf8af7ba80eaf6";
        let input: PointBytes = hex::decode(input).unwrap().try_into().unwrap();
        let expected = "23b829231d17665df9e92e8b6483b52cb5aa025e60e3d449d3cfbf2555663bb5";
        assert_eq!(hex::encode(hash_to_scalar(&input).to_bytes()), expected);
    }

    #[test]
    fn domain_points() {
        assert_eq!(domain_point(1, 0), Ok(Scalar::ONE));
        assert_eq!(domain_point(3, 1), domain_point(4, 1));
        assert_eq!(domain_point(65_536, 2), domain_point(32_768, 1));
        for (num_values, index) in [(0, 0), (1, 1), (3, 3), (65_537, 0), (usize::MAX, 1)] {
            assert_eq!(domain_point(num_values, index), Err(KzgError::Index { index, num_values }));
        }
    }
}
