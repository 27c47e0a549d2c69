//! Erasure coding: n values become 2n, and any n of these give back all (PROTOCOL 2).
//!
//! The n source values are those of a polynomial of degree below n at the even powers of omega_2n, the parity values
//! those at the odd powers. "Extended order" is the order of the powers: source 0, parity 0, source 1, parity 1, ...

mod recovery;
#[cfg(test)]
mod tests;

pub use recovery::{Recovery, recover, recover_polynomial};

use crate::bls::{G1, InvalidScalarAt, PointBytes, Scalar, scalars_from_bytes, scalars_to_bytes};
use crate::cpu::CpuLevel;
use crate::fft::{InvalidWidth, Kind, LOG2_WIDTH_MAX, to_odd_points, transform_at};
use crate::field::{Ifma, RowExtender};
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

/// Writes the parity values of `source`. Both slices have the same length: a power of two, 32 768 at most.
pub fn extend(source: &[Scalar], parity: &mut [Scalar]) -> Result<(), ErasureError> {
    check_length(source.len(), parity.len())?;
    parity.copy_from_slice(source);
    Ok(to_odd_points(parity)?)
}

/// [`extend`] for the chunks of a record, 32 big-endian bytes each; any chunk of r or more is refused. Who extends many
/// records makes an [`Extender`].
pub fn extend_record(record: &[[u8; 32]], parity: &mut [[u8; 32]]) -> Result<(), ErasureError> {
    Extender::new(CpuLevel::current(), record.len())?.extend_record(record, parity)
}

/// Extends records of one width, one after another; its memory (up to 2.6 MB) is allocated once.
#[derive(Debug)]
pub struct Extender {
    /// Chunks of a record.
    length: usize,
    memory: Memory,
}

/// What a level works in.
#[derive(Debug)]
enum Memory {
    Row(RowExtender),
    Scalars(CpuLevel, Vec<Scalar>),
}

impl Extender {
    /// For records of `length` chunks, a power of two, 32 768 at most, with the instructions of `level`.
    pub fn new(level: CpuLevel, length: usize) -> Result<Self, ErasureError> {
        check_length(length, length)?;
        let row = Ifma::of(level).and_then(|ifma| ifma.row_extender(length));
        let memory = row.map_or_else(|| Memory::Scalars(level, vec![Scalar::ZERO; length]), Memory::Row);
        Ok(Self { length, memory })
    }

    /// Writes the parity chunks of `record`, 32 big-endian bytes each; any chunk of r or more is refused.
    pub fn extend_record(
        &mut self,
        record: &[[u8; 32]],
        parity: &mut [[u8; 32]],
    ) -> Result<(), ErasureError> {
        for found in [record.len(), parity.len()] {
            if found != self.length {
                return Err(ErasureError::LengthMismatch { expected: self.length, found });
            }
        }
        match &mut self.memory {
            Memory::Row(row) => row.extend(record, parity).map_err(ErasureError::from),
            Memory::Scalars(level, scalars) => {
                scalars_from_bytes(record, scalars)?;
                transform_at(*level, Kind::OddPoints, scalars)?;
                scalars_to_bytes(scalars, parity);
                Ok(())
            }
        }
    }
}

/// Commitments of source records to those of all records, in extended order. The group's own transform gives exactly
/// what committing to each parity record would.
pub fn extend_commitments(source: &[PointBytes]) -> Result<Vec<PointBytes>, ErasureError> {
    check_length(source.len(), source.len())?;
    let decode =
        |(index, bytes)| G1::from_bytes(bytes).map_err(|_| ErasureError::InvalidCommitment { index });
    let mut points = source.iter().enumerate().map(decode).collect::<Result<Vec<_>, _>>()?;
    to_odd_points(&mut points)?;
    Ok(source.iter().zip(points).flat_map(|(source, parity)| [*source, parity.to_bytes()]).collect())
}

fn check_length(source: usize, parity: usize) -> Result<(), ErasureError> {
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
