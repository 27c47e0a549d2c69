//! What nodes tell each other: its form and its bounds.

use node::HexBytes;
use parity_scale_codec::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::chain::{Block, Sighting, TimeChange, Vote};

/// Longest message (bytes).
pub const MESSAGE_SIZE_MAX: usize = 256 << 10;
/// Blocks in a message: those of a made-up segment, or 150 KB of authored ones.
pub const BLOCKS_MAX: usize = 256;
/// Sightings in a message, 100 KB.
pub const SIGHTINGS_MAX: usize = 1024;

/// What nodes tell each other, as SCALE in hex.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Gossip {
    /// New blocks, each behind its parent.
    Blocks(Vec<Block>),
    /// A vote.
    Vote(Box<Vote>),
    /// Where solutions were seen.
    Sightings(Vec<Sighting>),
    /// Another proof of time.
    Time(TimeChange),
    /// Whoever has a link should compare chains anew.
    Sync,
}

impl Gossip {
    /// As it is sent.
    pub fn to_hex(&self) -> HexBytes {
        HexBytes(self.encode())
    }

    /// Messages for all of `sightings`.
    pub fn of_sightings(sightings: &[Sighting]) -> impl Iterator<Item = Self> {
        sightings.chunks(SIGHTINGS_MAX).map(|some| Self::Sightings(some.to_vec()))
    }
}

/// Who a node is, and how far its chain is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// Hash of the first block.
    #[serde(with = "hex")]
    pub genesis_hash: [u8; 32],
    /// When slot 0 began, in milliseconds since 1970.
    pub genesis_time_ms: u64,
    /// Segments that the chain began with.
    pub segments_at_start: u64,
    /// Tells its process from others.
    pub node: u64,
    /// Blocks behind the first one that are final.
    pub final_blocks: u32,
    /// Hash of its newest block.
    #[serde(with = "hex")]
    pub tip_hash: [u8; 32],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Mark, SolutionId};
    use parity_scale_codec::DecodeAll;

    #[test]
    fn messages_survive_and_garbage_does_not() {
        let solution = SolutionId { slot: 3, hash: [4; 32] };
        let sighting = Sighting { solution, mark: Mark::Queued { node: 5 } };
        let messages: Vec<_> = Gossip::of_sightings(&vec![sighting; SIGHTINGS_MAX + 1]).collect();
        assert_eq!(messages.len(), 2);
        for message in messages {
            let bytes = message.to_hex().0;
            assert!(bytes.len() <= MESSAGE_SIZE_MAX);
            assert_eq!(Gossip::decode_all(&mut &bytes[..]).unwrap(), message);
            assert!(Gossip::decode_all(&mut &bytes[1..]).is_err());
            assert!(Gossip::decode_all(&mut &[&bytes[..], &[0]].concat()[..]).is_err());
        }
        // A length that its bytes do not have takes no memory.
        assert!(Gossip::decode_all(&mut &[0, 3, 255, 255, 255, 255][..]).is_err());
    }
}
