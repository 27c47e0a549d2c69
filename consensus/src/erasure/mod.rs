//! Erasure coding: n values become 2n, and any n of these give back all (PROTOCOL 2).
//!
//! The n source values are those of a polynomial of degree below n at the even powers of omega_2n, the parity values
//! those at the odd powers. "Extended order" is the order of the powers: source 0, parity 0, source 1, parity 1, ...

mod error;
mod recovery;
#[cfg(test)]
mod tests;

pub use error::ErasureError;
pub use recovery::{Recovery, recover, recover_polynomial};

use crate::bls::{G1, PointBytes, Scalar, scalars_from_bytes, scalars_to_bytes};
use crate::cpu::CpuLevel;
use crate::fft::{Kind, to_odd_points, transform_at};
use crate::field::{Ifma, RowExtender};
use error::check_length;

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
