//! Blocks, and what is signed of them.

use consensus::solution::Solution;
use parity_scale_codec::{Decode, Encode};

/// Longest block behind block 0 (bytes), as it is archived.
const BLOCK_SIZE_MAX: u32 = 1 << 20;

/// Most imported bytes in a block: what its encoding leaves of [`BLOCK_SIZE_MAX`].
pub const BODY_SIZE_MAX: u32 = BLOCK_SIZE_MAX - 1024;

/// A block behind block 0. Archived as its SCALE encoding followed by the bytes of its body.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Block {
    /// A block without an author. Has a place in the archive but no height.
    Made(MadeBlock),
    /// A block that a farm has won.
    Authored(Box<AuthoredBlock>),
}

impl Block {
    /// What the next block names as its parent.
    pub fn hash(&self) -> [u8; 32] {
        match self {
            Self::Made(made) => blake3::hash(&made.encode()).into(),
            Self::Authored(authored) => authored.header.hash(),
        }
    }

    /// Hash of the block before.
    pub fn parent_hash(&self) -> &[u8; 32] {
        match self {
            Self::Made(made) => &made.parent_hash,
            Self::Authored(authored) => &authored.header.parent_hash,
        }
    }

    /// Slot in which it was made, or for which it was won.
    pub fn slot(&self) -> u64 {
        match self {
            Self::Made(made) => made.slot,
            Self::Authored(authored) => authored.header.slot,
        }
    }

    /// The imported bytes it carries, none when its body is made up.
    pub fn body(&self) -> Option<Body> {
        match self {
            Self::Made(made) => made.body,
            Self::Authored(authored) => Some(authored.header.body),
        }
    }
}

/// A block that nobody has won: nodes with the same parent make the same one in the same slot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MadeBlock {
    /// Hash of the block before.
    pub parent_hash: [u8; 32],
    /// Slot in which it was due, 0 at the start of the chain.
    pub slot: u64,
    /// The imported bytes it carries; none: [`BODY_SIZE_MAX`] bytes made up.
    pub body: Option<Body>,
}

/// A part of the imported bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Body {
    /// Its first byte.
    pub offset: u64,
    /// Bytes, maybe none, at most [`BODY_SIZE_MAX`].
    pub size: u32,
}

/// A block with the signature of the farm that has won it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuthoredBlock {
    /// What is signed.
    pub header: BlockHeader,
    /// Reward signature of its hash.
    pub signature: [u8; 64],
}

/// Everything in an authored block but its signature.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct BlockHeader {
    /// Number among authored blocks, from 1.
    pub height: u32,
    /// Hash of the block before, whether authored or not.
    pub parent_hash: [u8; 32],
    /// Slot whose challenge the solution answers.
    pub slot: u64,
    /// The solution.
    pub solution: Solution,
    /// The imported bytes it carries on.
    pub body: Body,
}

impl BlockHeader {
    /// BLAKE3 of the SCALE encoding.
    pub fn hash(&self) -> [u8; 32] {
        blake3::hash(&self.encode()).into()
    }
}

/// A vote with the signature of the farm that has won it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Vote {
    /// Number that an authored block would have had.
    pub height: u32,
    /// Hash of the block before.
    pub parent_hash: [u8; 32],
    /// Slot whose challenge the solution answers.
    pub slot: u64,
    /// The solution.
    pub solution: Solution,
    /// Reward signature of its hash.
    pub signature: [u8; 64],
}

impl Vote {
    /// What the farm signs.
    pub fn hash(&self) -> [u8; 32] {
        vote_hash(self.height, &self.parent_hash, self.slot, &self.solution)
    }
}

/// What the farm signs of a vote: a hash of the block number it votes at, the parent, the slot and the solution. Nodes with
/// the same parent get the same hash from one solution. Cannot be mistaken for a block: that has a body too.
pub fn vote_hash(height: u32, parent_hash: &[u8; 32], slot: u64, solution: &Solution) -> [u8; 32] {
    blake3::hash(&(height, parent_hash, slot, solution).encode()).into()
}
