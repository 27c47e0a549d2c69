//! A solution: the proof that a farm stores a chunk that a slot asked for (PROTOCOL 6).

use crate::constants::POS_PROOF_SIZE;
use crate::kzg::PointBytes;
use parity_scale_codec::{Decode, Encode};

/// Bytes of an encoded [`Solution`].
pub const SOLUTION_SIZE: usize = 412;

/// A solution, in the order of its SCALE encoding; numbers are little endian and of fixed width.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Solution {
    /// sr25519 public key of the farmer.
    pub public_key: [u8; 32],
    /// Account that is paid; not covered by verification.
    pub reward_address: [u8; 32],
    /// Sector within the farm.
    pub sector_index: u16,
    /// Segments of history when the sector was plotted, at least 1.
    pub history_size: u64,
    /// Piece within the sector.
    pub piece_offset: u16,
    /// Commitment to the record.
    pub record_commitment: PointBytes,
    /// Witness that the commitment belongs to its segment.
    pub record_witness: PointBytes,
    /// The decoded chunk: a big-endian scalar.
    pub chunk: [u8; 32],
    /// Witness that the chunk belongs to the record.
    pub chunk_witness: PointBytes,
    /// The proof of space that the chunk was encoded with.
    pub proof_of_space: [u8; POS_PROOF_SIZE],
}

/// Bytes that are no solution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes are not a solution, which has {SOLUTION_SIZE} and a history size above zero")]
pub struct SolutionError(usize);

impl Solution {
    /// SCALE: [`SOLUTION_SIZE`] bytes.
    pub fn to_bytes(&self) -> [u8; SOLUTION_SIZE] {
        self.encode().try_into().expect("all fields have fixed sizes, 412 bytes together")
    }

    /// Reads exactly [`SOLUTION_SIZE`] bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SolutionError> {
        if bytes.len() != SOLUTION_SIZE {
            return Err(SolutionError(bytes.len()));
        }
        let solution = Self::decode(&mut &bytes[..]).map_err(|_| SolutionError(bytes.len()))?;
        if solution.history_size == 0 { Err(SolutionError(bytes.len())) } else { Ok(solution) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip() {
        let bytes: [u8; SOLUTION_SIZE] = std::array::from_fn(|i| i as u8);
        let solution = Solution::from_bytes(&bytes).unwrap();
        assert_eq!(solution.sector_index, u16::from_le_bytes([64, 65]));
        assert_eq!(solution.piece_offset, u16::from_le_bytes([74, 75]));
        assert_eq!(solution.to_bytes(), bytes);
    }

    #[test]
    fn other_lengths_and_empty_history_are_errors() {
        assert!(Solution::from_bytes(&[1; SOLUTION_SIZE - 1]).is_err());
        assert!(Solution::from_bytes(&[1; SOLUTION_SIZE + 1]).is_err());
        assert!(Solution::from_bytes(&[0; SOLUTION_SIZE]).is_err());
    }
}
