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

pub mod gossip;
pub mod link;
pub mod rpc;

use std::sync::Arc;

use parity_scale_codec::DecodeAll;

use super::chain::{BlockError, Sighting};
use super::clock;
use super::importing::{ImportError, import_of_peer};
use super::shared::Shared;
use gossip::{BLOCKS_MAX, Gossip, MESSAGE_SIZE_MAX, SIGHTINGS_MAX};

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
