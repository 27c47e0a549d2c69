//! From any 128 pieces of a segment to the recorded segment, or to any of its pieces.

use crate::Workers;
use crate::archiver::{SegmentPolynomial, commit_record};
use crate::bls::Scalar;
use crate::columns::{GROUP_COLUMNS, recover_columns, split_columns};
use crate::constants::{RAW_RECORD_SIZE, SCALAR_BYTES, SCALAR_SAFE_BYTES, SEGMENT_PIECES, SEGMENT_SIZE};
use crate::erasure::{ErasureError, Recovery, extend_commitments};
use crate::kzg::{Kzg, PointBytes};
use crate::parallel::{for_each_mut, map};
use crate::piece::{Piece, PieceRef};

/// Why pieces do not give back their segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReconstructError {
    /// Not one entry for each position.
    #[error("{0} entries where a segment has {SEGMENT_PIECES} positions")]
    WrongNumber(usize),
    /// A chunk that is no scalar: the piece is not valid.
    #[error("piece {position} is not valid: chunk {chunk} of its record is not a scalar; fetch it again")]
    InvalidChunk {
        /// Position of the piece.
        position: u8,
        /// Place of the chunk in the record.
        chunk: usize,
    },
    /// A source record with more than 31 bytes in a chunk: not history.
    #[error("source record at position {position} is not history: the pieces are not of one segment")]
    NotHistory {
        /// Position of the source piece.
        position: u8,
    },
    /// A piece whose commitment is not what the others say it is.
    #[error("piece {position} does not belong with the others: its commitment differs; verify each piece")]
    ForeignCommitment {
        /// Position of the piece.
        position: u8,
    },
    /// Too few pieces, or pieces that contradict each other.
    #[error(transparent)]
    Erasure(#[from] ErasureError),
}

/// Pieces put together from others of their segment.
#[derive(Debug, Clone)]
pub struct ReconstructedPieces {
    /// Commitment of the segment they are of: equal to the header's when all went well.
    pub segment_commitment: PointBytes,
    /// The pieces, in the order asked for.
    pub pieces: Vec<Piece>,
}

/// The recorded segment out of any 128 of its pieces. `pieces` has 256 entries, by position. When all source pieces
/// are there, their bytes are simply taken.
pub fn reconstruct_segment(
    workers: &dyn Workers,
    pieces: &[Option<PieceRef<'_>>],
) -> Result<Vec<u8>, ReconstructError> {
    check_number(pieces)?;
    let recovered = recover_records(workers, pieces, is_source)?;
    let mut segment = vec![0; SEGMENT_SIZE];
    let mut raw_records: Vec<_> = segment.chunks_exact_mut(RAW_RECORD_SIZE).map(|raw| (raw, true)).collect();
    for_each_mut(workers, &mut raw_records, |record, (raw, is_history)| {
        let position = 2 * record;
        *is_history = read_record(record_at(pieces, &recovered, position), raw);
    });
    match raw_records.iter().position(|(_, is_history)| !is_history) {
        Some(record) => Err(ReconstructError::NotHistory { position: 2 * record as u8 }),
        None => Ok(segment),
    }
}

/// The pieces at `positions` out of any 128 pieces of their segment, commitment and witness included. `pieces` has
/// 256 entries, by position. Commitments of source pieces given are relied upon, the others computed: at most 128,
/// each a job of its own.
pub fn reconstruct_pieces(
    kzg: &Kzg,
    workers: &dyn Workers,
    pieces: &[Option<PieceRef<'_>>],
    positions: &[u8],
) -> Result<ReconstructedPieces, ReconstructError> {
    check_number(pieces)?;
    let wanted = |position| is_source(position) || positions.contains(&(position as u8));
    let recovered = recover_records(workers, pieces, wanted)?;
    let source_commitments = map(workers, SEGMENT_PIECES / 2, |record| match &pieces[2 * record] {
        Some(piece) => *piece.commitment,
        None => commit_record(kzg, record_at(pieces, &recovered, 2 * record)),
    });
    let commitments = extend_commitments(&source_commitments)?;
    for (position, (piece, commitment)) in pieces.iter().zip(&commitments).enumerate() {
        if piece.is_some_and(|piece| piece.commitment != commitment) {
            return Err(ReconstructError::ForeignCommitment { position: position as u8 });
        }
    }
    let opened = SegmentPolynomial::new(kzg, &commitments);
    let pieces = map(workers, positions.len(), |index| {
        let position = usize::from(positions[index]);
        let mut piece = Piece::zeroed();
        piece.record_mut().copy_from_slice(record_at(pieces, &recovered, position));
        piece.set_commitment(&commitments[position]);
        piece.set_witness(&opened.witness(kzg, position));
        piece
    });
    Ok(ReconstructedPieces { segment_commitment: opened.commitment, pieces })
}

fn is_source(position: usize) -> bool {
    position.is_multiple_of(2)
}

fn check_number(pieces: &[Option<PieceRef<'_>>]) -> Result<(), ReconstructError> {
    if pieces.len() == SEGMENT_PIECES { Ok(()) } else { Err(ReconstructError::WrongNumber(pieces.len())) }
}

/// The record at `position`, given or recovered.
fn record_at<'a>(
    pieces: &[Option<PieceRef<'a>>],
    recovered: &'a [Option<Piece>],
    position: usize,
) -> &'a [[u8; SCALAR_BYTES]] {
    pieces[position]
        .or_else(|| recovered[position].as_ref().map(Piece::view))
        .expect("every record asked for is given or recovered")
        .record
}

/// Takes 31 bytes of every chunk; false when a chunk holds more.
fn read_record(record: &[[u8; SCALAR_BYTES]], raw: &mut [u8]) -> bool {
    let mut more = 0;
    for (safe, chunk) in raw.as_chunks_mut::<SCALAR_SAFE_BYTES>().0.iter_mut().zip(record) {
        more |= chunk[0];
        safe.copy_from_slice(&chunk[SCALAR_BYTES - SCALAR_SAFE_BYTES..]);
    }
    more == 0
}

/// Pieces with the records that are wanted and missing, by position; their points are still zeros.
fn recover_records(
    workers: &dyn Workers,
    pieces: &[Option<PieceRef<'_>>],
    wanted: impl Fn(usize) -> bool,
) -> Result<Vec<Option<Piece>>, ReconstructError> {
    let is_needed = |position: usize| pieces[position].is_none() && wanted(position);
    let needed: Vec<_> = (0..SEGMENT_PIECES).filter(|&position| is_needed(position)).collect();
    let mut recovered: Vec<_> = (0..SEGMENT_PIECES).map(|at| is_needed(at).then(Piece::zeroed)).collect();
    if needed.is_empty() {
        return Ok(recovered);
    }
    let present: Vec<_> = pieces.iter().map(Option::is_some).collect();
    let recovery = Recovery::new(&present)?;
    let runs = split_columns(recovered.iter_mut().flatten().map(Piece::record_mut));
    let mut groups: Vec<_> = runs.into_iter().map(|runs| (runs, None)).collect();
    for_each_mut(workers, &mut groups, |group, (runs, failure)| {
        let run = group * GROUP_COLUMNS..(group + 1) * GROUP_COLUMNS;
        let given: Vec<_> =
            pieces.iter().map(|piece| piece.map(|piece| &piece.record[run.clone()])).collect();
        let outcome = check_chunks(&given, group * GROUP_COLUMNS)
            .and_then(|()| Ok(recover_columns(&recovery, &given, &needed, runs)?));
        *failure = outcome.err();
    });
    if let Some(failure) = groups.into_iter().find_map(|(_, failure)| failure) {
        return Err(failure);
    }
    Ok(recovered)
}

/// Finds the first chunk that is no scalar; `runs` begin at chunk `first` of their records.
fn check_chunks(runs: &[Option<&[[u8; SCALAR_BYTES]]>], first: usize) -> Result<(), ReconstructError> {
    for (position, run) in runs.iter().enumerate() {
        let bad = run.and_then(|run| run.iter().position(|chunk| !Scalar::is_canonical(chunk)));
        if let Some(chunk) = bad {
            return Err(ReconstructError::InvalidChunk { position: position as u8, chunk: first + chunk });
        }
    }
    Ok(())
}
