//! What all members agree on, as the network has it.

use super::{Control, MessageError};
use crate::ids::InstanceId;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};

/// More segments no history has: it would be two exbibytes.
pub const MAX_HISTORY_SEGMENTS: u64 = 1 << 24;

message! {
    /// The network's settings, as the node gives them (PROTOCOL 8).
    struct ProtocolInfo {
        /// Segments of history.
        pub history_size: u64,
        /// Pieces a sector may hold.
        pub max_pieces_in_sector: u16,
        /// How many of the newest segments count as recent.
        pub recent_segments: u64,
        /// Share of pieces taken from them: numerator, denominator.
        pub recent_history_fraction: (u64, u64),
        /// Segments a sector lives at least.
        pub min_sector_lifetime: u64,
    }
}

impl From<&ProtocolInfo> for consensus::sector::ProtocolInfo {
    fn from(info: &ProtocolInfo) -> Self {
        Self {
            history_size: info.history_size,
            max_pieces_in_sector: info.max_pieces_in_sector,
            recent_segments: info.recent_segments,
            recent_history_fraction: info.recent_history_fraction,
            min_sector_lifetime: info.min_sector_lifetime,
        }
    }
}

impl ProtocolInfo {
    pub(super) fn check(&self) -> Result<(), MessageError> {
        let (part, whole) = self.recent_history_fraction;
        let is_history = (1..=MAX_HISTORY_SEGMENTS).contains(&self.history_size);
        let fits = is_history && self.max_pieces_in_sector > 0 && whole > 0 && part <= whole;
        if fits { Ok(()) } else { Err(MessageError::Impossible("protocol info")) }
    }
}

message! {
    /// What all members of a cluster must agree on; one key of the cluster's bucket.
    struct ClusterInfo {
        /// SHA-256 of the KZG setup file.
        pub kzg_setup_sha256: [u8; 32],
        /// Genesis hash of the network.
        pub genesis_hash: [u8; 32],
        /// The network's settings, as last seen.
        pub protocol_info: ProtocolInfo,
        /// Whether this is a development chain, whose setup is `insecure-v1`.
        pub is_dev: bool,
        /// How long after its slot begins a solution is of use, milliseconds.
        pub farming_timeout_ms: u32,
    }
}
impl Control for ClusterInfo {
    const KIND: u8 = 7;

    fn check(&self) -> Result<(), MessageError> {
        self.protocol_info.check()
    }
}

message! {
    /// A controller finds no settings: whoever knows what they were tells it, on [`super::subjects::settings_known`].
    #[derive(Copy)]
    struct SettingsWanted {
        /// Who asks.
        pub controller: InstanceId,
    }
}
impl Control for SettingsWanted {
    const KIND: u8 = 23;
}

message! {
    /// What a segment commits to, key `segment.<index>` of the cluster's bucket: decides when sectors expire (PROTOCOL 5.1).
    #[derive(Copy)]
    struct SegmentCommitment {
        /// Compressed point.
        pub commitment: [u8; 48],
    }
}
impl Control for SegmentCommitment {
    const KIND: u8 = 14;
}

message! {
    /// The caches have all pieces of a segment, key `placed.<index>` of the cluster's bucket.
    #[derive(Copy)]
    struct SegmentPlaced {
        /// Epoch whose owners got them; zero where there were only full-piece caches.
        pub epoch: u64,
    }
}
impl Control for SegmentPlaced {
    const KIND: u8 = 15;
}
