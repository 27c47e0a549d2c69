//! What a slot asks of every farm (PROTOCOL 5.1 and 6).

use crate::sector::SectorId;

/// Output of the proof of time.
pub type PotOutput = [u8; 16];

/// Randomness of a slot: the hash of its proof-of-time output.
pub fn global_randomness(pot_output: &PotOutput) -> [u8; 32] {
    blake3::hash(pot_output).into()
}

/// The challenge that a slot puts to all farms.
pub fn global_challenge(global_randomness: &[u8; 32], slot: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(global_randomness).update(&slot.to_le_bytes());
    hasher.finalize().into()
}

/// A slot's challenge to one sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectorSlotChallenge(pub [u8; 32]);

impl SectorSlotChallenge {
    /// Global challenge and sector id, XORed.
    pub fn new(sector_id: &SectorId, global_challenge: &[u8; 32]) -> Self {
        Self(std::array::from_fn(|i| sector_id.0[i] ^ global_challenge[i]))
    }

    /// The s-bucket that the slot audits.
    pub fn s_bucket(&self) -> u16 {
        u16::from_le_bytes([self.0[0], self.0[1]])
    }
}

/// How far the audit of a chunk is from the global challenge: of both ways around the circle of u64 the shorter.
/// `audit` is the first 8 bytes, little endian, of the chunk's hash keyed with the sector slot challenge.
pub fn audit_distance(global_challenge: &[u8; 32], audit: u64) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *global_challenge;
    bidirectional_distance(u64::from_le_bytes([a, b, c, d, e, f, g, h]), audit)
}

/// The shorter of both ways between two points on the circle of u64.
pub fn bidirectional_distance(a: u64, b: u64) -> u64 {
    a.wrapping_sub(b).min(b.wrapping_sub(a))
}

/// Distance of one stored (still encoded) chunk.
pub fn chunk_distance(
    global_challenge: &[u8; 32],
    sector_slot_challenge: &SectorSlotChallenge,
    chunk: &[u8; 32],
) -> u64 {
    let hash = blake3::keyed_hash(&sector_slot_challenge.0, chunk);
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    audit_distance(global_challenge, u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_go_both_ways() {
        for (a, b, distance) in [
            (0, 0, 0),
            (0, 1, 1),
            (0, u64::MAX, 1),
            (0, 1 << 63, 1 << 63),
            (5, 9_223_372_036_854_775_814, 9_223_372_036_854_775_807),
        ] {
            assert_eq!(bidirectional_distance(a, b), distance);
            assert_eq!(bidirectional_distance(b, a), distance);
        }
    }
}
