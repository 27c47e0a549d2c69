//! Verification of one slot's solutions (PROTOCOL 6 in full, and the order of PROTOCOL 11).

use std::collections::HashSet;
use std::sync::Arc;

use consensus::constants::SEGMENT_PIECES;
use consensus::kzg::{KzgVerifier, PointBytes};
use consensus::sector::{ProtocolInfo, expiration_check_history_size};
use consensus::segment::SegmentHeader;
use consensus::solution::Solution;
use consensus::verify::{PieceCheck, VerifyError, VerifyParameters, piece_index_of, verify_solution};

use super::report::Reason;

/// The solutions of a slot and everything they are held against: what is in force when the slot is due.
#[derive(Debug)]
pub struct Due {
    pub(super) slot: u64,
    /// In order of arrival.
    pub(super) solutions: Vec<Solution>,
    pub(super) announced_voting_range: u64,
    pub(super) global_challenge: [u8; 32],
    pub(super) solution_range: u64,
    pub(super) voting_range: u64,
    pub(super) info: ProtocolInfo,
    pub(super) headers: Arc<Vec<SegmentHeader>>,
}

/// What a solution is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Close enough for a block.
    Block,
    /// Close enough for a vote.
    Vote,
    /// Nothing.
    Rejected(Reason),
}

/// The solutions of a slot with what they are worth, in order of arrival.
#[derive(Debug)]
pub struct Judged {
    /// The slot.
    pub slot: u64,
    /// Solution range that they were held against.
    pub solution_range: u64,
    /// Its solutions.
    pub solutions: Vec<(Solution, Verdict)>,
}

impl Due {
    /// Verifies every solution, some milliseconds each.
    pub fn judge(self, kzg: &KzgVerifier) -> Judged {
        let mut seen = HashSet::new();
        let verdicts: Vec<_> =
            self.solutions.iter().map(|solution| self.verdict(solution, kzg, &mut seen)).collect();
        let (slot, solution_range) = (self.slot, self.solution_range);
        Judged { slot, solution_range, solutions: self.solutions.into_iter().zip(verdicts).collect() }
    }

    fn verdict(
        &self,
        solution: &Solution,
        kzg: &KzgVerifier,
        seen: &mut HashSet<([u8; 32], u16, u16, [u8; 32])>,
    ) -> Verdict {
        let distance = match self.verify(solution, kzg) {
            Ok(distance) => distance,
            Err(reason) => {
                tracing::debug!(slot = self.slot, ?reason, "solution rejected");
                return Verdict::Rejected(reason);
            }
        };
        // Only valid ones are remembered: nobody's solution can be blocked by a worthless copy of it.
        if !seen.insert((solution.public_key, solution.sector_index, solution.piece_offset, solution.chunk)) {
            return Verdict::Rejected(Reason::Duplicate);
        }
        if distance <= self.solution_range / 2 { Verdict::Block } else { Verdict::Vote }
    }

    fn verify(&self, solution: &Solution, kzg: &KzgVerifier) -> Result<u64, Reason> {
        let segment_index = piece_index_of(solution, &self.info) / SEGMENT_PIECES as u64;
        let segment_commitment = self.commitment(segment_index).ok_or(Reason::UnknownSegment)?;
        let check_size = expiration_check_history_size(solution.history_size, self.info.min_sector_lifetime);
        let expiration_check_commitment = check_size.and_then(|size| self.commitment(size.checked_sub(1)?));
        let parameters = VerifyParameters {
            global_challenge: self.global_challenge,
            solution_range: self.voting_range,
            piece_check: Some(PieceCheck {
                info: self.info,
                segment_commitment,
                expiration_check_commitment,
            }),
        };
        verify_solution(solution, &parameters, kzg).map_err(|error| self.reason(&error))
    }

    /// Whether the block of a peer, with one of the challenges that its slot has had, was won by its only solution. History may
    /// have grown here since, or not yet: a piece of an unknown segment is taken on trust, and nothing is too old or too new.
    pub fn is_won(&self, challenges: &[[u8; 32]], kzg: &KzgVerifier) -> bool {
        let [solution] = &self.solutions[..] else { return false };
        let segment_index = piece_index_of(solution, &self.info) / SEGMENT_PIECES as u64;
        let history_size = self.info.history_size.max(solution.history_size);
        let piece_check = self.commitment(segment_index).map(|segment_commitment| PieceCheck {
            info: ProtocolInfo { history_size, ..self.info },
            segment_commitment,
            expiration_check_commitment: None,
        });
        challenges.iter().any(|challenge| {
            let parameters = VerifyParameters {
                global_challenge: *challenge,
                solution_range: self.solution_range,
                piece_check: piece_check.clone(),
            };
            verify_solution(solution, &parameters, kzg).is_ok()
        })
    }

    fn commitment(&self, segment_index: u64) -> Option<PointBytes> {
        let header = self.headers.get(usize::try_from(segment_index).ok()?)?;
        Some(header.segment_commitment)
    }

    fn reason(&self, error: &VerifyError) -> Reason {
        match *error {
            VerifyError::InvalidProofOfSpace => Reason::InvalidProofOfSpace,
            VerifyError::OutsideSolutionRange { solution_distance, .. } => {
                let was_inside = solution_distance <= self.announced_voting_range / 2;
                if was_inside { Reason::RangeChanged } else { Reason::OutsideSolutionRange }
            }
            VerifyError::InvalidChunk => Reason::InvalidChunk,
            VerifyError::InvalidChunkWitness => Reason::InvalidChunkWitness,
            VerifyError::InvalidHistorySize => Reason::InvalidHistorySize,
            VerifyError::FutureHistorySize { .. } => Reason::FutureHistorySize,
            VerifyError::InvalidPieceOffset { .. } => Reason::InvalidPieceOffset,
            VerifyError::SectorExpired { .. } => Reason::SectorExpired,
            VerifyError::InvalidPiece => Reason::InvalidPiece,
        }
    }
}
