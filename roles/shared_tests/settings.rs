//! Settings that a cluster of a test has agreed on.

use control::messages::{ClusterInfo, ProtocolInfo};

/// Of a development chain, with a history of so many segments.
pub fn settings(genesis_hash: [u8; 32], history_size: u64) -> ClusterInfo {
    let protocol_info = ProtocolInfo {
        history_size,
        max_pieces_in_sector: 10,
        recent_segments: 5,
        recent_history_fraction: (1, 10),
        min_sector_lifetime: 4,
    };
    let kzg_setup_sha256 = [1; 32];
    ClusterInfo { kzg_setup_sha256, genesis_hash, protocol_info, is_dev: true, farming_timeout_ms: 4000 }
}
