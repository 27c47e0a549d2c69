//! Whether a piece belongs to history (PROTOCOL 4.6): its witness opens the segment commitment to the hash of its
//! commitment, every chunk is a scalar, and the record has that commitment.
//!
//! The last costs a sum over 32 768 points a piece. [`verify_pieces`] pays it once for a whole batch: for random
//! 128-bit r_k it compares the commitment of sum r_k p_k (p_k: polynomial of record k) with sum r_k C_k.
//!
//! Why the r_k need no source of randomness: they are drawn from BLAKE3 over the hashes of all pieces of the batch, so
//! whoever makes the pieces has fixed every byte before seeing any r_k, and with one byte changed all are drawn anew.
//! If C_k is not the commitment of p_k for some k, sum r_k (C_k - commit(p_k)) is zero for at most one value of r_k,
//! the others given: a try succeeds with probability 2^-128, and a forger needs some 2^128 tries, as for a collision of
//! BLAKE3. The same r_k serve the parts, fewer than twice the pieces, that are checked to find a bad piece; one is
//! called bad only after its own commitment was computed.
//!
//! "At most one value" needs a group of prime order. Point decoding lets through points outside of it (a point of
//! order 3 would vanish for every third r_k), so the subgroup is asked for here; a commitment is always inside.

use crate::Workers;
use crate::archiver::commit_record;
use crate::bls::{G1Affine, Scalar, multi_scalar_mul_short};
use crate::columns::{GROUP_COLUMNS, combine_columns, group_of};
use crate::constants::{HASH_SIZE, RECORD_CHUNKS, SEGMENT_PIECES};
use crate::cpu::CpuLevel;
use crate::kzg::{Kzg, KzgError, KzgVerifier, Opening, PointBytes, Polynomial, hash_to_scalar};
use crate::parallel::{for_each_mut, map};
use crate::piece::PieceRef;

/// Why a piece is not part of history. For the reader to act on: fetch it elsewhere, and note who served it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPiece {
    /// The segment commitment it is checked against is no point: not the piece's fault.
    #[error("segment commitment is not a point of the curve: fetch the segment header again")]
    SegmentCommitment,
    /// The witness is no point.
    #[error("record witness is not a point of the curve")]
    WitnessEncoding,
    /// The witness does not open the segment commitment to this record commitment at this position.
    #[error("record witness does not place the record commitment at this position of the segment")]
    Witness,
    /// A chunk is r or more.
    #[error("chunk {chunk} of the record is not a scalar")]
    Chunk {
        /// The first such chunk.
        chunk: usize,
    },
    /// The record has another commitment.
    #[error("record commitment is not that of the record")]
    Commitment,
}

/// A piece and where it is said to belong.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Commitment in the header of the segment.
    pub segment_commitment: &'a PointBytes,
    /// Position in the segment.
    pub position: u8,
    /// The piece.
    pub piece: PieceRef<'a>,
}

impl<'a> Candidate<'a> {
    /// The claim that its witness proves.
    fn opening(&self) -> Opening<'a> {
        Opening {
            commitment: self.segment_commitment,
            num_values: SEGMENT_PIECES,
            index: usize::from(self.position),
            value: hash_to_scalar(self.piece.commitment),
            witness: self.piece.witness,
        }
    }
}

/// BLAKE3 of a piece that was found valid.
pub type PieceHash = [u8; HASH_SIZE];

/// Checks one piece in full and gives its hash: a commitment's time.
pub fn verify_piece(kzg: &Kzg, candidate: &Candidate<'_>) -> Result<PieceHash, InvalidPiece> {
    verify_opening(kzg.verifier(), candidate)?;
    check_chunks(&candidate.piece)?;
    if commit_record(kzg, candidate.piece.record) == *candidate.piece.commitment {
        Ok(candidate.piece.hash())
    } else {
        Err(InvalidPiece::Commitment)
    }
}

/// Checks pieces in full and gives the hash of each valid one, in order. A piece is judged as [`verify_piece`] would,
/// whatever else is in the batch. Best with a segment's 256 pieces at once; they may be of different segments.
///
/// A few bad records cost some dozen commitments more; with all of them bad the whole costs half as much again as
/// checking one by one.
pub fn verify_pieces(
    kzg: &Kzg,
    workers: &dyn Workers,
    candidates: &[Candidate<'_>],
) -> Vec<Result<PieceHash, InvalidPiece>> {
    let mut verdicts = verify_openings(kzg.verifier(), workers, candidates);
    let mut points = vec![G1Affine::default(); candidates.len()];
    let mut checks: Vec<_> = verdicts.iter_mut().zip(&mut points).collect();
    for_each_mut(workers, &mut checks, |index, (verdict, point)| {
        if verdict.is_ok() {
            **verdict = check_alone(&candidates[index].piece, point);
        }
    });

    let hashes = verdicts.iter().filter_map(|verdict| verdict.ok());
    let mut coefficients = Coefficients::over(hashes);
    let claims: Vec<_> = (0..candidates.len())
        .filter(|&index| verdicts[index].is_ok())
        .map(|index| Claim {
            index,
            piece: candidates[index].piece,
            commitment: points[index],
            coefficient: coefficients.next(),
        })
        .collect();
    for bad in find_bad(kzg, workers, &claims) {
        verdicts[bad] = Err(InvalidPiece::Commitment);
    }
    verdicts
}

fn verify_opening(verifier: &KzgVerifier, candidate: &Candidate<'_>) -> Result<(), InvalidPiece> {
    let Candidate { segment_commitment, position, piece } = candidate;
    let value = hash_to_scalar(piece.commitment);
    match verifier.verify(segment_commitment, SEGMENT_PIECES, usize::from(*position), &value, piece.witness) {
        Ok(true) => Ok(()),
        Ok(false) => Err(InvalidPiece::Witness),
        Err(KzgError::InvalidCommitment) => Err(InvalidPiece::SegmentCommitment),
        Err(_) => Err(InvalidPiece::WitnessEncoding),
    }
}

/// Checks all openings at once, and each by itself only if that fails. The hashes of good ones are still zeros.
fn verify_openings(
    verifier: &KzgVerifier,
    workers: &dyn Workers,
    candidates: &[Candidate<'_>],
) -> Vec<Result<PieceHash, InvalidPiece>> {
    let openings: Vec<_> = candidates.iter().map(Candidate::opening).collect();
    if verifier.verify_batch(&openings) == Ok(true) {
        return vec![Ok(PieceHash::default()); candidates.len()];
    }
    map(workers, candidates.len(), |index| {
        verify_opening(verifier, &candidates[index]).map(|()| PieceHash::default())
    })
}

fn check_chunks(piece: &PieceRef<'_>) -> Result<(), InvalidPiece> {
    match piece.record.iter().position(|chunk| !Scalar::is_canonical(chunk)) {
        Some(chunk) => Err(InvalidPiece::Chunk { chunk }),
        None => Ok(()),
    }
}

/// All that can be checked of a piece without its record's commitment; decodes its commitment.
fn check_alone(piece: &PieceRef<'_>, point: &mut G1Affine) -> Result<PieceHash, InvalidPiece> {
    check_chunks(piece)?;
    *point = G1Affine::from_bytes(piece.commitment).map_err(|_| InvalidPiece::Commitment)?;
    // One form only: a point has one encoding, and lies in the group where commitments are.
    if point.to_bytes() == *piece.commitment && point.is_in_subgroup() {
        Ok(piece.hash())
    } else {
        Err(InvalidPiece::Commitment)
    }
}

/// That a record has a commitment.
struct Claim<'a> {
    /// Which of the candidates.
    index: usize,
    piece: PieceRef<'a>,
    commitment: G1Affine,
    coefficient: u128,
}

/// The numbers r_k, see the module's documentation.
struct Coefficients(blake3::OutputReader);

impl Coefficients {
    fn over(piece_hashes: impl Iterator<Item = PieceHash>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for hash in piece_hashes {
            hasher.update(&hash);
        }
        Self(hasher.finalize_xof())
    }

    fn next(&mut self) -> u128 {
        let mut bytes = [0; 16];
        self.0.fill(&mut bytes);
        u128::from_le_bytes(bytes)
    }
}

/// Claims for each worker at which checking one by one, side by side, beats halving further.
const ONE_BY_ONE: usize = 2;

/// Candidates whose claim is false, found by halving.
fn find_bad(kzg: &Kzg, workers: &dyn Workers, claims: &[Claim<'_>]) -> Vec<usize> {
    if all_hold(kzg, workers, claims) { Vec::new() } else { bad_among(kzg, workers, claims) }
}

/// The same for claims of which at least one is known to be false.
fn bad_among(kzg: &Kzg, workers: &dyn Workers, claims: &[Claim<'_>]) -> Vec<usize> {
    if claims.len() <= ONE_BY_ONE * workers.count() {
        let is_bad = map(workers, claims.len(), |at| {
            let PieceRef { record, commitment, .. } = claims[at].piece;
            commit_record(kzg, record) != *commitment
        });
        let bad = claims.iter().zip(is_bad).filter(|(_, is_bad)| *is_bad);
        return bad.map(|(claim, _)| claim.index).collect();
    }
    let (left, right) = claims.split_at(claims.len() / 2);
    let mut bad = find_bad(kzg, workers, left);
    if bad.is_empty() {
        // What is false is on the right: no need to ask again.
        return bad_among(kzg, workers, right);
    }
    bad.extend(find_bad(kzg, workers, right));
    bad
}

fn all_hold(kzg: &Kzg, workers: &dyn Workers, claims: &[Claim<'_>]) -> bool {
    let values = combine_records(workers, claims);
    let polynomial = Polynomial::from_values(&values).expect("a record's width is one");
    let (points, coefficients): (Vec<_>, Vec<_>) =
        claims.iter().map(|claim| (claim.commitment, claim.coefficient)).unzip();
    let expected = multi_scalar_mul_short(&points, &coefficients);
    kzg.commit_point(&polynomial).expect("a record fits the parameters") == expected
}

/// The record sum r_k p_k, whose chunks all are scalars.
fn combine_records(workers: &dyn Workers, claims: &[Claim<'_>]) -> Vec<Scalar> {
    let factors: Vec<_> = claims.iter().map(|claim| claim.coefficient).collect();
    let mut sums = vec![Scalar::ZERO; RECORD_CHUNKS];
    let mut groups: Vec<_> = sums.chunks_exact_mut(GROUP_COLUMNS).collect();
    for_each_mut(workers, &mut groups, |group, sums| {
        let runs = group_of(claims.iter().map(|claim| claim.piece.record), group);
        combine_columns(CpuLevel::current(), &factors, &runs, sums);
    });
    sums
}
