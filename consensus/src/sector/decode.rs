//! Getting a record back out of its stored chunks, and proving one of them (PROTOCOL 5.5 and 6).

use super::contents::Bitfield;
use super::encode::xor;
use super::metadata::RecordMetadata;
use crate::bls::{Scalar, scalars_to_bytes};
use crate::constants::{RECORD_CHUNKS, S_BUCKETS};
use crate::cpu::CpuLevel;
use crate::erasure::{ErasureError, Recovery};
use crate::kzg::{Kzg, KzgError, PointBytes, Polynomial};
use crate::piece::Piece;
use crate::pos::{Proof, Seed, Tables};

/// Why a record cannot be read or proved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not a record's worth of chunks.
    #[error("{0} chunks are not a record, which has {RECORD_CHUNKS}")]
    Length(usize),
    /// The bitfield marks an s-bucket for which the seed has no proof.
    #[error(
        "the contents map names s-bucket {0} as encoded, which has no proof of space: the sector must be plotted again"
    )]
    NoProof(u16),
    /// A stored chunk does not decode.
    #[error("the chunk in s-bucket {0} is damaged (invalid scalar): the sector must be plotted again")]
    InvalidScalar(u16),
    /// The record came back as something else.
    #[error("the piece is damaged (checksum mismatch): the sector must be plotted again")]
    Checksum,
    /// The record has no encoded chunk in the s-bucket to be proved.
    #[error("the record has no encoded chunk in s-bucket {0}")]
    NotEncoded(u16),
    /// Erasure decoding failed.
    #[error(transparent)]
    Erasure(#[from] ErasureError),
    /// Making the witness failed.
    #[error(transparent)]
    Kzg(#[from] KzgError),
}

/// What a proof adds to a candidate chunk to make a solution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedChunk {
    /// The decoded chunk: a big-endian scalar.
    pub chunk: [u8; 32],
    /// Witness that the chunk belongs to the record.
    pub chunk_witness: PointBytes,
    /// The proof of space that it was encoded with.
    pub proof_of_space: Proof,
}

/// Decodes one record after another; its memory (about 115 MiB at most) is allocated once.
pub struct RecordDecoder {
    level: CpuLevel,
    tables: Tables,
}

impl RecordDecoder {
    /// With the instructions of `level`.
    pub fn new(level: CpuLevel) -> Self {
        Self { level, tables: Tables::new(level) }
    }

    /// Reads a piece back: stored chunks (encoded ones in s-bucket order, then unencoded ones) and bitfield as
    /// [`super::RecordEncoder`] made them. The result is checked against the piece's hash.
    pub fn read_piece(
        &mut self,
        seed: &Seed,
        stored: &[[u8; 32]],
        bitfield: &Bitfield,
        metadata: &RecordMetadata,
    ) -> Result<Piece, DecodeError> {
        self.tables.build(seed);
        let (present, mut values) = self.decode(stored, bitfield)?;
        Recovery::at_level(self.level, &present)?.recover(&mut values)?;
        let source: Vec<Scalar> = values.into_iter().step_by(2).collect();
        let mut piece = Piece::zeroed();
        scalars_to_bytes(&source, piece.record_mut());
        piece.set_commitment(&metadata.commitment);
        piece.set_witness(&metadata.witness);
        if piece.view().hash() != metadata.piece_hash { Err(DecodeError::Checksum) } else { Ok(piece) }
    }

    /// Proves the chunk that the record has in `s_bucket`. Does not check the record against its commitment: a damaged record makes
    /// a solution that verification refuses.
    pub fn prove(
        &mut self,
        seed: &Seed,
        stored: &[[u8; 32]],
        bitfield: &Bitfield,
        s_bucket: u16,
        kzg: &Kzg,
    ) -> Result<ProvedChunk, DecodeError> {
        if !bitfield.get(s_bucket) {
            return Err(DecodeError::NotEncoded(s_bucket));
        }
        self.tables.build(seed);
        let proof_of_space = self.tables.proof(s_bucket).ok_or(DecodeError::NoProof(s_bucket))?;
        let (present, values) = self.decode(stored, bitfield)?;
        witness(self.level, &present, values, s_bucket, proof_of_space, kzg)
    }

    /// The stored half of the extended record as scalars in their places, and which places those are.
    fn decode(
        &self,
        stored: &[[u8; 32]],
        bitfield: &Bitfield,
    ) -> Result<(Vec<bool>, Vec<Scalar>), DecodeError> {
        if stored.len() != RECORD_CHUNKS {
            return Err(DecodeError::Length(stored.len()));
        }
        let (encoded, unencoded) = stored.split_at(bitfield.count());
        if let Some(s_bucket) = s_buckets(bitfield, true).find(|s_bucket| !self.tables.has_proof(*s_bucket)) {
            return Err(DecodeError::NoProof(s_bucket));
        }
        let decoded = self.tables.proof_hashes(s_buckets(bitfield, true)).zip(encoded);
        let decoded = decoded.map(|((s_bucket, hash), chunk)| (s_bucket, xor(chunk, &hash)));
        place(decoded.chain(s_buckets(bitfield, false).zip(unencoded.iter().copied())))
    }
}

/// Proves the chunk that a record has in `s_bucket`, as [`RecordDecoder::prove`] does, from what another has found: the proof of space, and the
/// record's stored chunks decoded, in the order in which they are stored. Neither is checked; wrong ones make a solution that verification
/// refuses.
pub fn prove_decoded(
    level: CpuLevel,
    decoded: &[[u8; 32]],
    bitfield: &Bitfield,
    s_bucket: u16,
    proof_of_space: Proof,
    kzg: &Kzg,
) -> Result<ProvedChunk, DecodeError> {
    if decoded.len() != RECORD_CHUNKS {
        return Err(DecodeError::Length(decoded.len()));
    }
    if !bitfield.get(s_bucket) {
        return Err(DecodeError::NotEncoded(s_bucket));
    }
    let order = s_buckets(bitfield, true).chain(s_buckets(bitfield, false));
    let (present, values) = place(order.zip(decoded.iter().copied()))?;
    witness(level, &present, values, s_bucket, proof_of_space, kzg)
}

/// The s-buckets that a record uses, those of its encoded or of its other chunks.
fn s_buckets(bitfield: &Bitfield, encoded: bool) -> impl Iterator<Item = u16> {
    bitfield.used().filter_map(move |(s_bucket, is_encoded)| (is_encoded == encoded).then_some(s_bucket))
}

/// Chunks as scalars in their places, and which places those are.
fn place(chunks: impl Iterator<Item = (u16, [u8; 32])>) -> Result<(Vec<bool>, Vec<Scalar>), DecodeError> {
    let (mut present, mut values) = (vec![false; S_BUCKETS], vec![Scalar::ZERO; S_BUCKETS]);
    for (s_bucket, chunk) in chunks {
        let place = usize::from(s_bucket);
        values[place] = Scalar::from_bytes(&chunk).map_err(|_| DecodeError::InvalidScalar(s_bucket))?;
        present[place] = true;
    }
    Ok((present, values))
}

/// The chunk in `s_bucket` and its witness, from half of the extended record.
fn witness(
    level: CpuLevel,
    present: &[bool],
    mut values: Vec<Scalar>,
    s_bucket: u16,
    proof_of_space: Proof,
    kzg: &Kzg,
) -> Result<ProvedChunk, DecodeError> {
    let chunk = values[usize::from(s_bucket)].to_bytes();
    let polynomial: Polynomial = Recovery::at_level(level, present)?.recover_polynomial(&mut values)?;
    let chunk_witness = kzg.witness(&polynomial, S_BUCKETS, usize::from(s_bucket))?;
    Ok(ProvedChunk { chunk, chunk_witness, proof_of_space })
}
