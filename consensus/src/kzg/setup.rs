//! Parameters of a trusted setup, and what needs all of them: committing and opening.
//!
//! Layout of the parameters, 1 579 104 bytes without header: 32 768 compressed points of G1 (48 bytes each), generator
//! times tau^0, tau^1 and so on; then 65 compressed points of G2 (96 bytes each), likewise. Nobody knows tau.

use super::verify::KzgVerifier;
use super::{KzgError, PointBytes, Polynomial, domain_point};
use crate::bls::{Bases, G1, G1Affine, G2Affine, InvalidPoint, pairings_equal};
use crate::{CpuLevel, Workers};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Points of G1 in the parameters, and so the most coefficients a polynomial may have: the chunks of a record.
pub const PARAMETERS_G1_POINTS: usize = 1 << 15;

/// Points of G2 in the parameters.
pub const PARAMETERS_G2_POINTS: usize = 65;

/// Bytes of the parameters.
pub const PARAMETERS_SIZE: usize = PARAMETERS_G1_POINTS * 48 + PARAMETERS_G2_POINTS * 96;

/// The largest table that [`Kzg::with_table`] makes use of.
pub const TABLE_SIZE_MAX: usize = 64 << 20;

/// SHA-256 of the Ethereum ceremony's parameters (transcript 3), which the network uses: the file
/// `eth-public-parameters.bin`.
pub const MAINNET_PARAMETERS_SHA256: [u8; 32] = [
    0xf3, 0xea, 0xd1, 0xa6, 0x24, 0x95, 0x27, 0xaa, 0x50, 0x3d, 0x6c, 0x56, 0x57, 0x83, 0x25, 0xc0, 0x1d,
    0x19, 0xb3, 0x36, 0x5c, 0xc5, 0x99, 0x05, 0xbe, 0x2b, 0xba, 0x64, 0xae, 0x32, 0x29, 0x25,
];

/// A setup's powers, ready to commit with. Cloning shares them.
///
/// They take 3 MiB, or 4 MiB where the processor has AVX-512 IFMA. A table of their multiples ([`Self::with_table`]) makes
/// committing faster by a fifth; verification needs none.
#[derive(Debug, Clone)]
pub struct Kzg {
    /// Generator times tau^i.
    powers: Arc<Bases>,
    verifier: KzgVerifier,
    id: [u8; 32],
}

impl Kzg {
    /// Decodes a setup's parameters, which takes about half a second.
    ///
    /// Whether they are the network's is for the caller to say: compare [`Self::id`] with
    /// [`MAINNET_PARAMETERS_SHA256`]. Here every point must be on its curve and the first ones must fit together.
    pub fn from_parameters(bytes: &[u8]) -> Result<Self, KzgError> {
        Self::from_parameters_at(CpuLevel::current(), bytes)
    }

    /// The same for work at this level, which may be below that of the process: for tests and benchmarks of levels.
    pub fn from_parameters_at(level: CpuLevel, bytes: &[u8]) -> Result<Self, KzgError> {
        if bytes.len() != PARAMETERS_SIZE {
            return Err(KzgError::ParametersLength { found: bytes.len() });
        }
        let (g1_bytes, g2_bytes) = bytes.split_at(PARAMETERS_G1_POINTS * 48);
        let powers = decode_points(1, g1_bytes, G1Affine::from_bytes)?;
        let g2_powers = decode_points(2, g2_bytes, G2Affine::from_bytes)?;
        let generators = powers[0] == G1Affine::generator() && g2_powers[0] == G2Affine::generator();
        if !generators || !pairings_equal(&powers[1], &g2_powers[0], &powers[0], &g2_powers[1]) {
            return Err(KzgError::ParametersInconsistent);
        }
        let verifier = KzgVerifier::new(powers[0], g2_powers[0], g2_powers[1]);
        let id = Sha256::digest(bytes).into();
        Ok(Self { powers: Arc::new(Bases::new(level, &powers)), verifier, id })
    }

    /// The same setup with a table of multiples of its powers: the best one that takes no more memory than this, the
    /// powers themselves included. Commitments are the same bytes.
    ///
    /// For processes that commit or open often. Up to [`TABLE_SIZE_MAX`] memory buys speed, see `benches/RESULTS.md`;
    /// making such a table takes the time of fifteen commitments, spread over the workers.
    #[must_use]
    pub fn with_table(&self, budget_bytes: usize, workers: &dyn Workers) -> Self {
        let powers = self.powers.with_table(budget_bytes, workers);
        Self { powers: Arc::new(powers), ..self.clone() }
    }

    /// Memory that the powers and their table take.
    pub fn size_bytes(&self) -> usize {
        self.powers.size_bytes()
    }

    /// SHA-256 of the parameters.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// Checks openings under this setup.
    pub fn verifier(&self) -> &KzgVerifier {
        &self.verifier
    }

    /// The commitment to a polynomial of 32 768 coefficients at most.
    pub fn commit(&self, polynomial: &Polynomial) -> Result<PointBytes, KzgError> {
        self.commit_point(polynomial).map(G1::to_bytes)
    }

    /// The witness that value `index` of the `num_values` values belongs to the polynomial. Values sit at the powers
    /// of omega of order `num_values`, rounded up to a power of two and 65 536 at most.
    pub fn witness(
        &self,
        polynomial: &Polynomial,
        num_values: usize,
        index: usize,
    ) -> Result<PointBytes, KzgError> {
        let x = domain_point(num_values, index)?;
        self.commit(&polynomial.quotient(x))
    }

    /// A commitment as a point to compute with.
    pub fn commit_point(&self, polynomial: &Polynomial) -> Result<G1, KzgError> {
        let coefficients = polynomial.coefficients();
        let found = coefficients.len();
        if found > self.powers.len() {
            return Err(KzgError::PolynomialTooLong { found });
        }
        Ok(self.powers.sum(coefficients))
    }
}

fn decode_points<const SIZE: usize, P>(
    group: u8,
    bytes: &[u8],
    decode: impl Fn(&[u8; SIZE]) -> Result<P, InvalidPoint>,
) -> Result<Vec<P>, KzgError> {
    let (points, _) = bytes.as_chunks::<SIZE>();
    let numbered = points.iter().enumerate();
    numbered
        .map(|(index, point)| decode(point).map_err(|_| KzgError::ParametersPoint { group, index }))
        .collect()
}
