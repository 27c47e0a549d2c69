//! Whether a block of a peer was won by who signed it.

use consensus::identity::is_reward_signature_valid;
use consensus::kzg::KzgVerifier;

use super::block::AuthoredBlock;
use super::judge::Due;

/// What a block of a peer is held against.
#[derive(Debug)]
pub enum BlockCheck {
    /// Nobody has won it: everything about it was looked at.
    Made,
    /// A block that a farm has won.
    Authored {
        /// The block.
        block: Box<AuthoredBlock>,
        /// Its solution, and what was in force behind its parent.
        due: Box<Due>,
        /// Challenges that its slot has had.
        challenges: Vec<[u8; 32]>,
    },
}

impl BlockCheck {
    /// Verifies signature and solution, some milliseconds.
    pub fn is_good(&self, kzg: &KzgVerifier) -> bool {
        let Self::Authored { block, due, challenges } = self else { return true };
        let AuthoredBlock { header, signature } = &**block;
        is_reward_signature_valid(&header.hash(), signature, &header.solution.public_key)
            && due.is_won(challenges, kzg)
    }
}
