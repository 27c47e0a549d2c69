//! Why values cannot be extended or recovered, and which numbers of them can.

use crate::bls::InvalidScalarAt;
use crate::fft::{InvalidWidth, LOG2_WIDTH_MAX};
use thiserror::Error;

/// The most source values: the chunks of a record.
const SOURCE_LENGTH_MAX: usize = 1 << (LOG2_WIDTH_MAX - 1);

/// Why values could not be extended or recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ErasureError {
    /// No values given.
    #[error("there are no values to extend or recover")]
    Empty,
    /// The number of values is not a power of two.
    #[error("{length} values: their number must be a power of two")]
    NotPowerOfTwo {
        /// Number of values given.
        length: usize,
    },
    /// More values than a record has chunks.
    #[error("{length} source values: at most 32768 are possible")]
    TooLong {
        /// Number of source values given.
        length: usize,
    },
    /// Two lists that belong together differ in length.
    #[error("{found} values where {expected} are needed")]
    LengthMismatch {
        /// Length needed.
        expected: usize,
        /// Length given.
        found: usize,
    },
    /// Fewer than half of the values are there.
    #[error(
        "impossible to recover, too many shards are missing: {present} of the {needed} needed are present"
    )]
    TooManyMissing {
        /// Values present.
        present: usize,
        /// Values needed.
        needed: usize,
    },
    /// More than half of the values are there, but they are not of one polynomial.
    #[error("shards contradict each other at place {index} of the extended order; some of them are corrupt")]
    Inconsistent {
        /// A place whose value differs from what the others say. It need not be the corrupt one.
        index: usize,
    },
    /// A chunk is not a scalar.
    #[error(transparent)]
    InvalidScalar(#[from] InvalidScalarAt),
    /// A commitment is not a curve point.
    #[error("commitment {index} is not a point of the curve")]
    InvalidCommitment {
        /// Position in the list given.
        index: usize,
    },
}

impl From<InvalidWidth> for ErasureError {
    fn from(InvalidWidth { width }: InvalidWidth) -> Self {
        match width {
            0 => Self::Empty,
            length if !length.is_power_of_two() => Self::NotPowerOfTwo { length },
            length => Self::TooLong { length },
        }
    }
}

/// Whether so many source values can be extended into so many.
pub(super) fn check_length(source: usize, parity: usize) -> Result<(), ErasureError> {
    if source == 0 {
        Err(ErasureError::Empty)
    } else if !source.is_power_of_two() {
        Err(ErasureError::NotPowerOfTwo { length: source })
    } else if source > SOURCE_LENGTH_MAX {
        Err(ErasureError::TooLong { length: source })
    } else if source != parity {
        Err(ErasureError::LengthMismatch { expected: source, found: parity })
    } else {
        Ok(())
    }
}
