//! Verification of a solution as the chain does it, check by check in its order (PROTOCOL 6, "Verification order").

use crate::bls::{G1Affine, Scalar};
use crate::challenge::{SectorSlotChallenge, chunk_distance};
use crate::constants::{S_BUCKETS, SEGMENT_PIECES};
use crate::kzg::{KzgVerifier, PointBytes, hash_to_scalar};
use crate::pos;
use crate::sector::{ProtocolInfo, SectorId, public_key_hash};
use crate::solution::Solution;

/// What a solution is held against.
#[derive(Debug, Clone)]
pub struct VerifyParameters {
    /// Challenge of the slot.
    pub global_challenge: [u8; 32],
    /// Range: a distance up to half of it wins.
    pub solution_range: u64,
    /// With it the piece is checked against history too.
    pub piece_check: Option<PieceCheck>,
}

/// What ties a solution to history.
#[derive(Debug, Clone)]
pub struct PieceCheck {
    /// Current history size and the chain's rules.
    pub info: ProtocolInfo,
    /// Commitment of the segment that the solution's piece belongs to.
    pub segment_commitment: PointBytes,
    /// Commitment of the segment that decides the sector's expiry, once that segment exists.
    pub expiration_check_commitment: Option<PointBytes>,
}

/// Why a solution is refused; the texts are the network's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The proof does not fit seed and s-bucket.
    #[error("Invalid proof of space")]
    InvalidProofOfSpace,
    /// The chunk is too far from the challenge.
    #[error(
        "Solution distance {solution_distance} is outside of solution range {half_solution_range} (half of actual solution range)"
    )]
    OutsideSolutionRange {
        /// Largest distance that wins.
        half_solution_range: u64,
        /// Distance of the solution.
        solution_distance: u64,
    },
    /// The chunk is no scalar.
    #[error("Invalid chunk: Invalid scalar")]
    InvalidChunk,
    /// The chunk does not belong to the record, or a point does not decode.
    #[error("Invalid chunk witness")]
    InvalidChunkWitness,
    /// Sizes overflow.
    #[error("Invalid history size")]
    InvalidHistorySize,
    /// Plotted with more history than there is.
    #[error("History size {solution} is in the future, current is {current}")]
    FutureHistorySize {
        /// History size of the chain.
        current: u64,
        /// History size of the solution.
        solution: u64,
    },
    /// No sector is that large.
    #[error("Piece verification failed")]
    InvalidPieceOffset {
        /// Offset of the solution.
        piece_offset: u16,
        /// First offset that no sector has.
        max_pieces_in_sector: u16,
    },
    /// The sector is too old.
    #[error("Sector expired")]
    SectorExpired {
        /// History size at which it expired.
        expiration_history_size: u64,
        /// History size of the chain.
        current_history_size: u64,
    },
    /// The record does not belong to its segment.
    #[error("Piece verification failed")]
    InvalidPiece,
}

/// Index of the piece that a solution claims to have; its segment's commitment goes into [`PieceCheck`].
pub fn piece_index_of(solution: &Solution, info: &ProtocolInfo) -> u64 {
    sector_id_of(solution).piece_index(solution.piece_offset, solution.history_size, info)
}

/// The sector that a solution claims to come from.
pub fn sector_id_of(solution: &Solution) -> SectorId {
    SectorId::new(&public_key_hash(&solution.public_key), solution.sector_index, solution.history_size)
}

/// Checks everything and returns the solution's distance.
pub fn verify_solution(
    solution: &Solution,
    parameters: &VerifyParameters,
    kzg: &KzgVerifier,
) -> Result<u64, VerifyError> {
    let sector_id = sector_id_of(solution);
    let challenge = SectorSlotChallenge::new(&sector_id, &parameters.global_challenge);
    let s_bucket = challenge.s_bucket();
    let seed = sector_id.evaluation_seed(solution.piece_offset);
    if !pos::is_valid(&seed, u32::from(s_bucket), &solution.proof_of_space) {
        return Err(VerifyError::InvalidProofOfSpace);
    }
    let proof_hash = blake3::hash(&solution.proof_of_space);
    let stored_chunk = std::array::from_fn(|i| solution.chunk[i] ^ proof_hash.as_bytes()[i]);
    let solution_distance = chunk_distance(&parameters.global_challenge, &challenge, &stored_chunk);
    let half_solution_range = parameters.solution_range / 2;
    if solution_distance > half_solution_range {
        return Err(VerifyError::OutsideSolutionRange { half_solution_range, solution_distance });
    }
    check_chunk(solution, s_bucket, kzg)?;
    if let Some(check) = &parameters.piece_check {
        check_piece(solution, &sector_id, check, kzg)?;
    }
    Ok(solution_distance)
}

/// Does the chunk belong to the record? A commitment that does not decode is named before a chunk that is no scalar.
fn check_chunk(solution: &Solution, s_bucket: u16, kzg: &KzgVerifier) -> Result<(), VerifyError> {
    G1Affine::from_bytes(&solution.record_commitment).map_err(|_| VerifyError::InvalidChunkWitness)?;
    let chunk = Scalar::from_bytes(&solution.chunk).map_err(|_| VerifyError::InvalidChunk)?;
    let (commitment, witness) = (&solution.record_commitment, &solution.chunk_witness);
    match kzg.verify(commitment, S_BUCKETS, usize::from(s_bucket), &chunk, witness) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(VerifyError::InvalidChunkWitness),
    }
}

/// Does the record belong to history, and is the sector neither of the future nor expired?
fn check_piece(
    solution: &Solution,
    sector_id: &SectorId,
    check: &PieceCheck,
    kzg: &KzgVerifier,
) -> Result<(), VerifyError> {
    let info = &check.info;
    // A farmer may see a new segment one block before the chain counts it.
    if solution.history_size > info.history_size.saturating_add(1) {
        let (current, solution) = (info.history_size, solution.history_size);
        return Err(VerifyError::FutureHistorySize { current, solution });
    }
    if solution.piece_offset >= info.max_pieces_in_sector {
        let (piece_offset, max_pieces_in_sector) = (solution.piece_offset, info.max_pieces_in_sector);
        return Err(VerifyError::InvalidPieceOffset { piece_offset, max_pieces_in_sector });
    }
    if let Some(commitment) = &check.expiration_check_commitment {
        let expiration_history_size = sector_id
            .expiration_history_size(solution.history_size, info.min_sector_lifetime, commitment)
            .ok_or(VerifyError::InvalidHistorySize)?;
        if expiration_history_size <= info.history_size {
            let current_history_size = info.history_size;
            return Err(VerifyError::SectorExpired { expiration_history_size, current_history_size });
        }
    }
    let position =
        sector_id.piece_index(solution.piece_offset, solution.history_size, info) as usize % SEGMENT_PIECES;
    let value = hash_to_scalar(&solution.record_commitment);
    match kzg.verify(&check.segment_commitment, SEGMENT_PIECES, position, &value, &solution.record_witness) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(VerifyError::InvalidPiece),
    }
}
