//! What follows from a block and all before it, and which block may come next.

use consensus::solution_range::next_solution_range;

use super::block::{BODY_SIZE_MAX, Block, BlockHeader, Body, MadeBlock};
use super::parameters::ChainParameters;

/// A block that does not continue the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Its parent is unknown, or too far back.
    #[error("a block for slot {slot} continues no block that is known and not final")]
    Parent {
        /// Its slot.
        slot: u64,
    },
    /// It is not one higher than the authored block before.
    #[error("block at height {height} follows the block at height {tip_height}")]
    Height {
        /// Its height.
        height: u32,
        /// Height of its parent.
        tip_height: u32,
    },
    /// Its slot is not after that of its parent.
    #[error("block for slot {slot} follows a block for slot {tip_slot}")]
    Slot {
        /// Its slot.
        slot: u64,
        /// Slot of its parent.
        tip_slot: u64,
    },
    /// Its body is not the next part of the imported bytes.
    #[error("a block for slot {slot} does not carry the next part of the imported bytes")]
    Body {
        /// Its slot.
        slot: u64,
    },
    /// Its slot has not begun.
    #[error("a block for slot {slot} comes before its slot")]
    Future {
        /// Its slot.
        slot: u64,
    },
    /// Its signature or its solution is wrong.
    #[error("a block for slot {slot} was not won by who signed it")]
    Forged {
        /// Its slot.
        slot: u64,
    },
    /// More blocks than can be told apart before some of them are final.
    #[error("too many blocks are not final yet")]
    TooMany,
}

/// What all blocks of a chain obey.
#[derive(Debug, Clone)]
pub struct Rules {
    pub parameters: ChainParameters,
    /// How many bytes were imported.
    pub imported_end: u64,
}

/// The chain up to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Hash of the block.
    pub hash: [u8; 32],
    /// Its place in the archive, 0 for the first block.
    pub position: u32,
    /// Authored blocks.
    pub height: u32,
    /// Slot of the newest authored block.
    pub slot: u64,
    /// Slot of the newest block without an author.
    pub made_slot: u64,
    /// Solution range in force for the next block.
    pub solution_range: u64,
    /// Slot in which the current era began, none before block 1.
    pub era_start_slot: Option<u64>,
    /// Imported bytes that are in no block yet.
    pub imported_next: u64,
}

impl Tip {
    /// The first block, which holds the imported bytes before `imported_next`.
    pub fn first(genesis_hash: [u8; 32], rules: &Rules, imported_next: u64) -> Self {
        Self {
            hash: genesis_hash,
            position: 0,
            height: 0,
            slot: 0,
            made_slot: 0,
            solution_range: rules.parameters.initial_solution_range(),
            era_start_slot: None,
            imported_next,
        }
    }

    /// The chain with one block more.
    pub fn after(&self, block: &Block, rules: &Rules) -> Result<Self, BlockError> {
        let slot = block.slot();
        if *block.parent_hash() != self.hash {
            return Err(BlockError::Parent { slot });
        }
        if block.body() != self.body_after(block, rules) {
            return Err(BlockError::Body { slot });
        }
        let mut next = Self {
            hash: block.hash(),
            position: self.position.checked_add(1).ok_or(BlockError::TooMany)?,
            imported_next: self.imported_next + block.body().map_or(0, |body| u64::from(body.size)),
            ..*self
        };
        match block {
            Block::Made(_) if slot < self.made_slot => {
                return Err(BlockError::Slot { slot, tip_slot: self.made_slot });
            }
            Block::Made(_) => next.made_slot = slot,
            Block::Authored(authored) => next.author(&authored.header, rules)?,
        }
        Ok(next)
    }

    /// Whether nodes follow this one rather than the other: the longer chain of authored blocks, then of all blocks, then the
    /// lower hash.
    pub fn is_better_than(&self, other: &Self) -> bool {
        let length = |tip: &Self| (tip.height, tip.position);
        length(self) > length(other) || (length(self) == length(other) && self.hash < other.hash)
    }

    /// The next part of the imported bytes, empty behind their end.
    pub fn next_body(&self, rules: &Rules) -> Body {
        let left = rules.imported_end.saturating_sub(self.imported_next);
        Body { offset: self.imported_next, size: left.min(u64::from(BODY_SIZE_MAX)) as u32 }
    }

    /// The next block without an author: imported bytes as far as they go, then bytes made up.
    pub fn next_made(&self, slot: u64, rules: &Rules) -> Block {
        let body = Some(self.next_body(rules)).filter(|body| body.size > 0);
        Block::Made(MadeBlock { parent_hash: self.hash, slot, body })
    }

    fn body_after(&self, block: &Block, rules: &Rules) -> Option<Body> {
        let body = self.next_body(rules);
        match block {
            Block::Made(_) => Some(body).filter(|body| body.size > 0),
            Block::Authored(_) => Some(body),
        }
    }

    fn author(&mut self, header: &BlockHeader, rules: &Rules) -> Result<(), BlockError> {
        let (height, slot) = (header.height, header.slot);
        if self.height.checked_add(1) != Some(height) {
            return Err(BlockError::Height { height, tip_height: self.height });
        }
        if slot <= self.slot {
            return Err(BlockError::Slot { slot, tip_slot: self.slot });
        }
        (self.height, self.slot) = (height, slot);
        let start_slot = *self.era_start_slot.get_or_insert(slot);
        let ChainParameters { slot_probability, era_blocks, .. } = rules.parameters;
        if height.is_multiple_of(era_blocks) {
            let next =
                next_solution_range(start_slot, slot, slot_probability, self.solution_range, era_blocks);
            self.solution_range = next.expect("parameters without zeros were checked");
            self.era_start_slot = Some(slot);
        }
        Ok(())
    }
}
