//! From a recorded segment to its pieces (PROTOCOL 4.4).

use super::RecordedSegment;
use crate::Workers;
use crate::bls::{Scalar, scalars_from_bytes};
use crate::columns::{extend_columns, group_of, split_columns};
use crate::constants::{
    RAW_RECORD_SIZE, RECORD_CHUNKS, SCALAR_BYTES, SCALAR_SAFE_BYTES, SEGMENT_PIECES, SEGMENT_RAW_RECORDS,
};
use crate::cpu::CpuLevel;
use crate::erasure::extend_commitments;
use crate::kzg::{Kzg, PointBytes, Polynomial, hash_to_scalar};
use crate::parallel::{for_each_mut, map};
use crate::piece::Piece;
use crate::segment::SegmentHeader;

/// A segment as the network stores it.
#[derive(Debug, Clone)]
pub struct NewArchivedSegment {
    /// What the chain keeps of it.
    pub header: SegmentHeader,
    /// Its 256 pieces by position: source pieces at even ones, parity pieces at odd ones. 268 MB.
    pub pieces: Vec<Piece>,
}

/// Makes the pieces of a segment. Nearly all of the time goes into 128 commitments, each a job of its own.
pub fn archive_segment(kzg: &Kzg, workers: &dyn Workers, recorded: RecordedSegment) -> NewArchivedSegment {
    let bytes = recorded.bytes();
    let sources = map(workers, SEGMENT_RAW_RECORDS, |record| {
        let mut piece = Piece::zeroed();
        write_record(&bytes[record * RAW_RECORD_SIZE..][..RAW_RECORD_SIZE], piece.record_mut());
        let commitment = commit_record(kzg, piece.view().record);
        (piece, commitment)
    });
    let (sources, source_commitments): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
    let parities = extend_records(workers, &sources);
    let commitments = extend_commitments(&source_commitments).expect("commitments made here are points");
    let opened = SegmentPolynomial::new(kzg, &commitments);
    let header = recorded.header(opened.commitment);
    drop(recorded);

    let mut pieces: Vec<_> =
        sources.into_iter().zip(parities).flat_map(|(source, parity)| [source, parity]).collect();
    for_each_mut(workers, &mut pieces, |position, piece| {
        piece.set_commitment(&commitments[position]);
        piece.set_witness(&opened.witness(kzg, position));
    });
    NewArchivedSegment { header, pieces }
}

/// The polynomial through the hashes of a segment's 256 record commitments.
pub(crate) struct SegmentPolynomial {
    polynomial: Polynomial,
    pub(crate) commitment: PointBytes,
}

impl SegmentPolynomial {
    pub(crate) fn new(kzg: &Kzg, record_commitments: &[PointBytes]) -> Self {
        assert_eq!(record_commitments.len(), SEGMENT_PIECES);
        let values: Vec<_> = record_commitments.iter().map(hash_to_scalar).collect();
        let polynomial = Polynomial::from_values(&values).expect("256 is a width");
        let commitment = kzg.commit(&polynomial).expect("256 coefficients fit the parameters");
        Self { polynomial, commitment }
    }

    pub(crate) fn witness(&self, kzg: &Kzg, position: usize) -> PointBytes {
        kzg.witness(&self.polynomial, SEGMENT_PIECES, position).expect("a position is below 256")
    }
}

/// Commitment to a record whose chunks are known to be scalars.
pub(crate) fn commit_record(kzg: &Kzg, record: &[[u8; SCALAR_BYTES]]) -> PointBytes {
    let mut values = vec![Scalar::ZERO; RECORD_CHUNKS];
    scalars_from_bytes(record, &mut values).expect("chunks of this record are scalars");
    let polynomial = Polynomial::from_values(&values).expect("a record's width is one");
    kzg.commit(&polynomial).expect("a record fits the parameters")
}

/// Spreads raw bytes, 31 to a chunk.
fn write_record(raw: &[u8], record: &mut [[u8; SCALAR_BYTES]]) {
    for (chunk, safe) in record.iter_mut().zip(raw.as_chunks::<SCALAR_SAFE_BYTES>().0) {
        chunk[SCALAR_BYTES - SCALAR_SAFE_BYTES..].copy_from_slice(safe);
    }
}

/// Pieces with the parity records; their points are still zeros.
fn extend_records(workers: &dyn Workers, sources: &[Piece]) -> Vec<Piece> {
    let mut parities: Vec<_> = sources.iter().map(|_| Piece::zeroed()).collect();
    let mut groups = split_columns(parities.iter_mut().map(Piece::record_mut));
    for_each_mut(workers, &mut groups, |group, runs| {
        let source = group_of(sources.iter().map(|piece| piece.view().record), group);
        extend_columns(CpuLevel::current(), &source, runs);
    });
    drop(groups);
    parities
}
