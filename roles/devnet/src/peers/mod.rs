//! Other nodes of the chain: what nodes tell each other, and what a node does when it hears of it.
//!
//! ```text
//!             ┌──────────── link: sync, then ─────────────┐
//!   this node │ ── devnet_tell ─────────────────────────▶ │ peer (named by --peer)
//!             │ ◀─ devnet_gossip (subscription) ───────── │
//!             └───────────────────────────────────────────┘
//! ```
//! What is new is told on to everybody, so nodes need not all know each other; what is known goes no further. One side of a
//! link is enough: who was named by `--peer` hears and tells over the same connection.
//!
//! Owns: the form of messages and their bounds. Never: the rules of the chain ([`super::chain`]).

pub mod link;
pub mod rpc;

use std::sync::Arc;

use node::HexBytes;
use parity_scale_codec::{Decode, DecodeAll, Encode};

use super::chain::{Block, BlockError, Sighting, TimeChange, Vote};
use super::clock;
use super::importing::{ImportError, import_of_peer};
use super::shared::Shared;

/// Longest message (bytes).
const MESSAGE_SIZE_MAX: usize = 256 << 10;
/// Blocks in a message: those of a made-up segment, or 150 KB of authored ones.
pub const BLOCKS_MAX: usize = 256;
/// Sightings in a message, 100 KB.
const SIGHTINGS_MAX: usize = 1024;

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

/// Why a message is of no use.
#[derive(Debug, thiserror::Error)]
pub enum HearError {
    /// Too long.
    #[error("a message of {0} bytes; at most {MESSAGE_SIZE_MAX} are read")]
    TooLong(usize),
    /// Not a message, or of another version.
    #[error("a message that cannot be read: {0}")]
    Unreadable(parity_scale_codec::Error),
    /// Too many parts.
    #[error("a message with {0} parts")]
    TooMany(usize),
    /// Its blocks are wrong, or cannot be stored.
    #[error(transparent)]
    Import(#[from] ImportError),
}

impl HearError {
    /// Whether the sender has blocks that this node needs first, or the other way round.
    pub fn is_behind(&self) -> bool {
        matches!(self, Self::Import(ImportError::Block(BlockError::Parent { .. })))
    }
}

/// Takes a message; whether chains should be compared.
pub async fn hear(shared: &Arc<Shared>, message: &[u8]) -> Result<bool, HearError> {
    if message.len() > MESSAGE_SIZE_MAX {
        return Err(HearError::TooLong(message.len()));
    }
    let gossip = Gossip::decode_all(&mut &*message).map_err(HearError::Unreadable)?;
    if shared.is_separated() {
        return Ok(false);
    }
    match gossip {
        Gossip::Blocks(blocks) if blocks.len() > BLOCKS_MAX => return Err(HearError::TooMany(blocks.len())),
        Gossip::Blocks(blocks) => import_of_peer(shared, blocks).await?,
        Gossip::Vote(vote) => {
            if shared.chain().see_vote(&vote) {
                shared.tell(&Gossip::Vote(vote));
            }
        }
        Gossip::Sightings(all) if all.len() > SIGHTINGS_MAX => return Err(HearError::TooMany(all.len())),
        Gossip::Sightings(all) => hear_of_sightings(shared, all),
        Gossip::Time(change) => {
            if shared.chain().hear_of_time(change) {
                clock::announce_from(shared, change.from_slot);
                shared.tell(&gossip);
            }
        }
        Gossip::Sync => return Ok(true),
    }
    Ok(false)
}

fn hear_of_sightings(shared: &Shared, mut sightings: Vec<Sighting>) {
    {
        let mut chain = shared.chain();
        sightings.retain(|sighting| chain.see(sighting));
    }
    if !sightings.is_empty() {
        shared.tell(&Gossip::Sightings(sightings));
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::{Mark, SolutionId};
    use super::*;

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
