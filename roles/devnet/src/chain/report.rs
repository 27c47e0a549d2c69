//! What became of everything that farms sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Why a solution was not accepted. The texts are keys of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Its slot was never announced.
    NotAnnounced,
    /// The solutions for its slot were looked at already.
    Late,
    /// Too many solutions came at once: the node has said so.
    QueueFull,
    /// Too many solutions for its slot: it was dropped after it counted as queued.
    Dropped,
    /// Its slot was announced again, with another challenge.
    ChallengeChanged,
    /// The node was too far behind to look at it.
    NodeBehind,
    /// The same solution came before, for the same slot.
    Duplicate,
    /// Its piece belongs to a segment that the chain does not have.
    UnknownSegment,
    /// It was within the range announced, but not within the one of the era that began since.
    RangeChanged,
    /// See [`consensus::verify::VerifyError`], also for those that follow.
    InvalidProofOfSpace,
    /// Too far from the challenge.
    OutsideSolutionRange,
    /// The chunk is no scalar.
    InvalidChunk,
    /// The chunk does not belong to the record.
    InvalidChunkWitness,
    /// Sizes overflow.
    InvalidHistorySize,
    /// Plotted with more history than there is.
    FutureHistorySize,
    /// No sector is that large.
    InvalidPieceOffset,
    /// The sector is too old.
    SectorExpired,
    /// The record does not belong to its segment.
    InvalidPiece,
    /// Nobody signed its block or vote in time.
    NotSigned,
    /// Its block or vote was signed with another key, or over another hash.
    BadSignature,
}

/// Counts since the process has the chain (segments: all of them).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Slots that began.
    pub slots: u64,
    /// Segments of history.
    pub segments: u64,
    /// Solutions, by what became of them.
    pub solutions: SolutionCounts,
    /// Signatures that were asked for, by what they are worth.
    pub reward_signatures: SignatureCounts,
    /// Solutions that reached two nodes of the chain, or were seen under two signatures. Each counts once, at every node that has
    /// peers; on the network each costs a reward.
    #[serde(default)]
    pub equivocations: u64,
    /// How often the chain went over to another branch.
    #[serde(default)]
    pub reorganisations: u64,
}

/// Solutions, by what became of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SolutionCounts {
    /// Verified in full, and the block or vote validly signed.
    pub accepted: u64,
    /// Verified in full, but there was nothing to win: the slot has its block, or a vote came on top of the first block.
    pub surplus: u64,
    /// Neither.
    pub rejected: BTreeMap<Reason, u64>,
}

/// Signatures that were asked for, by what they are worth.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SignatureCounts {
    /// By the right key over the right hash.
    pub valid: u64,
    /// Not by the key that was asked, or a second one that differs from the first: on the network that costs the reward.
    pub invalid: u64,
}

impl Report {
    /// Counts a solution that was not accepted.
    pub(super) fn reject(&mut self, reason: Reason) {
        *self.solutions.rejected.entry(reason).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_of_the_report() {
        let mut report = Report { slots: 3, segments: 1, ..Report::default() };
        report.reject(Reason::InvalidProofOfSpace);
        report.reject(Reason::InvalidProofOfSpace);
        report.reject(Reason::Late);
        let json = json!({
            "slots": 3,
            "segments": 1,
            "solutions": { "accepted": 0, "surplus": 0, "rejected": { "late": 1, "invalid_proof_of_space": 2 } },
            "reward_signatures": { "valid": 0, "invalid": 0 },
            "equivocations": 0,
            "reorganisations": 0,
        });
        assert_eq!(serde_json::to_value(&report).unwrap(), json);
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    }
}
