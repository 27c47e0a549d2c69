//! The setup `insecure-v1` of development networks, which do without the ceremony's file.
//!
//! Its secret is public, so anybody can open any commitment to any value. A network with it proves nothing. The secret
//! lives inside [`parameters`] only and no other code may use it, so that all else runs the same way as on mainnet.

use super::setup::{PARAMETERS_G1_POINTS, PARAMETERS_G2_POINTS, PARAMETERS_SIZE};
use crate::bls::{G1, G1Affine, G2, G2Affine, Scalar};

/// Name of the setup, as a development node reports it.
pub const NAME: &str = "insecure-v1";

/// SHA-256 of the parameters, for telling a whole file of them from a damaged one.
pub const PARAMETERS_SHA256: [u8; 32] = [
    0x05, 0x12, 0x5c, 0x25, 0x11, 0x42, 0xbd, 0xfe, 0xf8, 0x65, 0x30, 0xeb, 0xe3, 0xa5, 0x61, 0x84, 0x6d,
    0x85, 0x28, 0xbd, 0x81, 0x45, 0x67, 0xef, 0xc7, 0x4f, 0xe9, 0xb9, 0x73, 0xbf, 0x61, 0x88,
];

/// The secret is the BLAKE3 hash of this, taken as a big-endian number modulo r.
const SEED: &[u8] = b"autonomys-farmer insecure kzg v1";

/// Windows of eight bits in a scalar.
const WINDOWS: usize = 32;
/// Digits of a window other than zero.
const DIGITS: usize = 255;

/// Makes the parameters, in the layout of [`Kzg::from_parameters`](super::Kzg::from_parameters). Takes about a second;
/// meant to be done once and kept in a file.
pub fn parameters() -> Vec<u8> {
    let tau = Scalar::from_bytes_reduced(blake3::hash(SEED).as_bytes());
    let powers: Vec<_> = std::iter::successors(Some(Scalar::ONE), |power| Some(*power * tau))
        .take(PARAMETERS_G1_POINTS)
        .collect();

    let table = generator_table();
    let g1: Vec<_> = powers.iter().map(|power| generator_times(&table, *power)).collect();
    let mut bytes = Vec::with_capacity(PARAMETERS_SIZE);
    for point in G1::batch_to_affine(&g1) {
        bytes.extend_from_slice(&point.to_bytes());
    }
    for power in &powers[..PARAMETERS_G2_POINTS] {
        bytes.extend_from_slice(&G2Affine::from(G2::generator() * *power).to_bytes());
    }
    bytes
}

/// Entry `255 w + d - 1` is the generator times d 256^w.
fn generator_table() -> Vec<G1Affine> {
    let mut points = Vec::with_capacity(WINDOWS * DIGITS);
    let mut unit = G1::generator();
    for _ in 0..WINDOWS {
        let mut multiple = unit;
        for _ in 0..DIGITS {
            points.push(multiple);
            multiple += unit;
        }
        unit = multiple;
    }
    G1::batch_to_affine(&points)
}

fn generator_times(table: &[G1Affine], scalar: Scalar) -> G1 {
    let bytes = scalar.to_bytes();
    let windows = table.chunks_exact(DIGITS).zip(bytes.iter().rev());
    windows
        .filter(|(_, digit)| **digit != 0)
        .fold(G1::infinity(), |sum, (window, digit)| sum.add_affine(&window[usize::from(*digit) - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_multiplies() {
        let table = generator_table();
        for scalar in
            [Scalar::ZERO, Scalar::ONE, Scalar::from_u64(256), -Scalar::ONE, Scalar::from_u64(7).pow(91)]
        {
            assert_eq!(generator_times(&table, scalar), G1::generator() * scalar);
        }
    }
}
