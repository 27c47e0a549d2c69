//! What the store keeps, as the machines read it.

use bytes::Bytes;
use control::messages::{ClusterInfo, Control, ProtocolInfo, SegmentHeld};
use control::segments::Word;
use control::store::Found;

pub const CLUSTER: &str = "cluster";
pub const INFO: &str = "info";

pub fn held(index: u64) -> String {
    format!("held.{index}")
}

pub fn word(key: &str, value: Option<&Bytes>) -> Option<Word> {
    let (what, index) = key.split_once('.')?;
    let index = index.parse().ok()?;
    match (what, value) {
        ("placed", Some(_)) => Some(Word::Placed(index)),
        ("held", Some(value)) => {
            let held = SegmentHeld::from_bytes(value).ok()?;
            Some(Word::Held { index, by: held.controller })
        }
        ("held", None) => Some(Word::NotHeld(index)),
        _ => None,
    }
}

pub fn decode<T: Control>(found: &Option<(Bytes, u64)>) -> Found<T> {
    match found {
        None => Found::Nothing,
        Some((value, revision)) => {
            T::from_bytes(value).map_or(Found::Unreadable(*revision), |value| Found::Value(value, *revision))
        }
    }
}

/// What the own node says, as settings.
pub fn own(history_size: u64) -> ClusterInfo {
    ClusterInfo {
        kzg_setup_sha256: [1; 32],
        genesis_hash: [2; 32],
        protocol_info: ProtocolInfo {
            history_size,
            max_pieces_in_sector: 10,
            recent_segments: 5,
            recent_history_fraction: (1, 10),
            min_sector_lifetime: 1000,
        },
        is_dev: true,
        farming_timeout_ms: 4000,
    }
}
