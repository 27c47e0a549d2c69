//! Shapes of the JSON.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use consensus::constants::{POINT_SIZE, POS_PROOF_SIZE};
use consensus::sector::ProtocolInfo;
use consensus::segment::{ArchivedProgress, LastArchivedBlock, SegmentHeader};
use consensus::solution::Solution;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes as a hex string. A piece is two million digits of it, so it goes through wide instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HexBytes(
    /// The bytes.
    pub Vec<u8>,
);

impl Serialize for HexBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = HexBytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string of hex digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HexBytes, E> {
                HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map(HexBytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Digits)
    }
}

/// Answer of `subspace_getFarmerAppInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FarmerAppInfo {
    /// Hash of the chain's first block.
    #[serde(with = "hex")]
    pub genesis_hash: [u8; 32],
    /// Multiaddresses of the network that stores pieces.
    pub dsn_bootstrap_nodes: Vec<String>,
    /// Whether the node still catches up with the chain.
    pub syncing: bool,
    /// How long after its beginning a solution for a slot is of use.
    pub farming_timeout: Duration,
    /// Rules of the chain.
    pub protocol_info: ProtocolInfoJson,
    /// Name of the KZG setup of a development network. Without it the setup is the ceremony's, and no other will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev_kzg: Option<String>,
}

/// Rules of the chain, as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProtocolInfoJson {
    /// Segments of history so far.
    pub history_size: NonZeroU64,
    /// Most pieces that a sector may have.
    pub max_pieces_in_sector: u16,
    /// How many of the newest segments count as recent.
    pub recent_segments: u64,
    /// Part of a sector that recent segments get.
    pub recent_history_fraction: (u64, u64),
    /// Segments for which a sector lives at least.
    pub min_sector_lifetime: u64,
}

impl From<ProtocolInfoJson> for ProtocolInfo {
    fn from(json: ProtocolInfoJson) -> Self {
        Self {
            history_size: json.history_size.get(),
            max_pieces_in_sector: json.max_pieces_in_sector,
            recent_segments: json.recent_segments,
            recent_history_fraction: json.recent_history_fraction,
            min_sector_lifetime: json.min_sector_lifetime,
        }
    }
}

/// Notification `subspace_slot_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotInfo {
    /// The slot that begins.
    pub slot_number: u64,
    /// What it asks of all farms.
    #[serde(with = "hex")]
    pub global_challenge: [u8; 32],
    /// Solutions within half of it make blocks.
    pub solution_range: u64,
    /// Solutions within half of it are worth sending.
    pub voting_solution_range: u64,
}

/// Parameter of `subspace_submitSolutionResponse`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SolutionResponse {
    /// The slot it is for.
    pub slot_number: u64,
    /// The solution.
    pub solution: SolutionJson,
}

/// A solution, as JSON. Hex throughout but for the chunk, which is an array of 32 numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SolutionJson {
    #[serde(with = "hex")]
    public_key: [u8; 32],
    #[serde(with = "hex")]
    reward_address: [u8; 32],
    sector_index: u16,
    history_size: NonZeroU64,
    piece_offset: u16,
    #[serde(with = "hex")]
    record_commitment: [u8; POINT_SIZE],
    #[serde(with = "hex")]
    record_witness: [u8; POINT_SIZE],
    chunk: [u8; 32],
    #[serde(with = "hex")]
    chunk_witness: [u8; POINT_SIZE],
    #[serde(with = "hex")]
    proof_of_space: [u8; POS_PROOF_SIZE],
}

/// A solution that no sector can have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("solution has history size 0, the least is 1")]
pub struct InvalidSolution;

impl TryFrom<Solution> for SolutionJson {
    type Error = InvalidSolution;

    fn try_from(solution: Solution) -> Result<Self, InvalidSolution> {
        Ok(Self {
            public_key: solution.public_key,
            reward_address: solution.reward_address,
            sector_index: solution.sector_index,
            history_size: NonZeroU64::new(solution.history_size).ok_or(InvalidSolution)?,
            piece_offset: solution.piece_offset,
            record_commitment: solution.record_commitment,
            record_witness: solution.record_witness,
            chunk: solution.chunk,
            chunk_witness: solution.chunk_witness,
            proof_of_space: solution.proof_of_space,
        })
    }
}

impl From<SolutionJson> for Solution {
    fn from(json: SolutionJson) -> Self {
        Self {
            public_key: json.public_key,
            reward_address: json.reward_address,
            sector_index: json.sector_index,
            history_size: json.history_size.get(),
            piece_offset: json.piece_offset,
            record_commitment: json.record_commitment,
            record_witness: json.record_witness,
            chunk: json.chunk,
            chunk_witness: json.chunk_witness,
            proof_of_space: json.proof_of_space,
        }
    }
}

/// Notification `subspace_reward_signing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RewardSigning {
    /// What to sign.
    #[serde(with = "hex")]
    pub hash: [u8; 32],
    /// Whose signature is wanted. Everybody else stays silent.
    #[serde(with = "hex")]
    pub public_key: [u8; 32],
}

/// Parameter of `subspace_submitRewardSignature`, as a node takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RewardSignatureAnswer {
    /// What was to be signed.
    #[serde(with = "hex")]
    pub hash: [u8; 32],
    /// The signature; null from a farmer that has none.
    #[serde(with = "optional_hex")]
    pub signature: Option<[u8; 64]>,
}

impl From<RewardSignature> for RewardSignatureAnswer {
    fn from(signature: RewardSignature) -> Self {
        Self { hash: signature.hash, signature: Some(signature.signature) }
    }
}

/// A signature in hex, or null.
mod optional_hex {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Signature(#[serde(with = "hex")] [u8; 64]);

    pub(super) fn serialize<S: Serializer>(
        signature: &Option<[u8; 64]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        signature.map(Signature).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<[u8; 64]>, D::Error> {
        Ok(Option::<Signature>::deserialize(deserializer)?.map(|Signature(bytes)| bytes))
    }
}

/// A signature for `subspace_submitRewardSignature`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RewardSignature {
    /// What was signed.
    #[serde(with = "hex")]
    pub hash: [u8; 32],
    /// The signature.
    #[serde(with = "hex")]
    pub signature: [u8; 64],
}

/// A segment header, as JSON: an object with one member, the header's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SegmentHeaderJson {
    /// The only version there is.
    #[serde(rename_all = "camelCase")]
    V0 {
        /// Index of the segment.
        segment_index: u64,
        /// Commitment to the commitments of its records.
        #[serde(with = "hex")]
        segment_commitment: [u8; POINT_SIZE],
        /// Hash of the header before.
        #[serde(with = "hex")]
        prev_segment_header_hash: [u8; 32],
        /// Where the segment ends.
        last_archived_block: LastArchivedBlockJson,
    },
}

/// Where a segment ends, as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastArchivedBlockJson {
    number: u32,
    archived_progress: ArchivedProgressJson,
}

/// `"complete"`, or `{"partial": bytes}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum ArchivedProgressJson {
    Complete,
    Partial(u32),
}

impl From<&SegmentHeader> for SegmentHeaderJson {
    fn from(header: &SegmentHeader) -> Self {
        let LastArchivedBlock { number, archived_progress } = header.last_archived_block;
        let archived_progress = match archived_progress {
            ArchivedProgress::Complete => ArchivedProgressJson::Complete,
            ArchivedProgress::Partial(bytes) => ArchivedProgressJson::Partial(bytes),
        };
        Self::V0 {
            segment_index: header.segment_index,
            segment_commitment: header.segment_commitment,
            prev_segment_header_hash: header.prev_segment_header_hash,
            last_archived_block: LastArchivedBlockJson { number, archived_progress },
        }
    }
}

impl From<SegmentHeaderJson> for SegmentHeader {
    fn from(json: SegmentHeaderJson) -> Self {
        let SegmentHeaderJson::V0 {
            segment_index,
            segment_commitment,
            prev_segment_header_hash,
            last_archived_block: LastArchivedBlockJson { number, archived_progress },
        } = json;
        let archived_progress = match archived_progress {
            ArchivedProgressJson::Complete => ArchivedProgress::Complete,
            ArchivedProgressJson::Partial(bytes) => ArchivedProgress::Partial(bytes),
        };
        let last_archived_block = LastArchivedBlock { number, archived_progress };
        Self { segment_index, segment_commitment, prev_segment_header_hash, last_archived_block }
    }
}

#[cfg(test)]
mod tests;
