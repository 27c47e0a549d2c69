//! What a development chain is made with and keeps for good.

use consensus::sector::ProtocolInfo;
use consensus::solution_range::{Ratio, pieces_to_solution_range};
use parity_scale_codec::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Segments that count as recent, as on the network.
const RECENT_SEGMENTS: u64 = 5;
/// Part of a sector that recent segments get, as on the network.
const RECENT_HISTORY_FRACTION: (u64, u64) = (1, 10);
/// Segments for which a sector lives at least, as on the network.
const MIN_SECTOR_LIFETIME: u64 = 4;

/// The chain's constants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChainParameters {
    /// Probability of a block in a slot that the solution range is steered to.
    pub slot_probability: Ratio,
    /// Authored blocks between two adjustments of the solution range.
    pub era_blocks: u32,
    /// Votes expected for each block.
    pub votes_per_block: u16,
    /// Most pieces in a sector.
    pub max_pieces_in_sector: u16,
    /// Pieces that the initial solution range is made for, half as many as it would need.
    pub expected_pieces: u64,
}

/// Constants that make no chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidParameters {
    /// A constant that must be positive is zero.
    #[error("{0} must be above zero")]
    Zero(&'static str),
    /// More likely than certain.
    #[error("a slot probability of {0}/{1} is above one")]
    Probability(u64, u64),
    /// So many pieces that the range would be zero.
    #[error("{0} expected pieces leave no solution range")]
    TooManyPieces(u64),
}

impl ChainParameters {
    /// Checks that every rule can be applied.
    pub fn check(&self) -> Result<(), InvalidParameters> {
        let (numerator, denominator) = self.slot_probability;
        for (name, value) in [
            ("the slot probability's numerator", numerator),
            ("the slot probability's denominator", denominator),
            ("the number of blocks in an era", u64::from(self.era_blocks)),
            ("the number of pieces in a sector", u64::from(self.max_pieces_in_sector)),
            ("the number of expected pieces", self.expected_pieces),
        ] {
            if value == 0 {
                return Err(InvalidParameters::Zero(name));
            }
        }
        if numerator > denominator {
            return Err(InvalidParameters::Probability(numerator, denominator));
        }
        match self.range() {
            None | Some(0) => Err(InvalidParameters::TooManyPieces(self.expected_pieces)),
            Some(_) => Ok(()),
        }
    }

    /// Range before the first adjustment.
    pub fn initial_solution_range(&self) -> u64 {
        self.range().expect("parameters were checked")
    }

    fn range(&self) -> Option<u64> {
        pieces_to_solution_range(self.expected_pieces.checked_mul(2)?, self.slot_probability)
    }

    /// The rules for plotting at a history size.
    pub fn protocol_info(&self, history_size: u64) -> ProtocolInfo {
        ProtocolInfo {
            history_size,
            max_pieces_in_sector: self.max_pieces_in_sector,
            recent_segments: RECENT_SEGMENTS,
            recent_history_fraction: RECENT_HISTORY_FRACTION,
            min_sector_lifetime: MIN_SECTOR_LIFETIME,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_make_no_chain() {
        let good = ChainParameters {
            slot_probability: (1, 6),
            era_blocks: 30,
            votes_per_block: 1,
            max_pieces_in_sector: 32,
            expected_pieces: 128,
        };
        assert_eq!(good.check(), Ok(()));
        assert_eq!(good.initial_solution_range(), pieces_to_solution_range(256, (1, 6)).unwrap());
        for bad in [
            ChainParameters { slot_probability: (0, 6), ..good },
            ChainParameters { slot_probability: (1, 0), ..good },
            ChainParameters { slot_probability: (7, 6), ..good },
            ChainParameters { era_blocks: 0, ..good },
            ChainParameters { max_pieces_in_sector: 0, ..good },
            ChainParameters { expected_pieces: 0, ..good },
            ChainParameters { expected_pieces: u64::MAX / 2, ..good },
            ChainParameters { expected_pieces: u64::MAX, ..good },
            // Divided left to right, one in one is more than a range can say.
            ChainParameters { slot_probability: (1, 1), expected_pieces: 1, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
