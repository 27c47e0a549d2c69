//! A solution's life, from the farm that found it to the one node that gets it.
//!
//! ```text
//!   plot-client: Finder ── SolutionFound, to one controller at a time ──▶ controller: Desk ── submit ──▶ its node
//!                  ▲                                                       │
//!                  └── SolutionAnswer: queued, refused, unknown end it; ◀──┘
//!                      not sent, or nobody there: the next controller
//! ```
//! What leaves is written down before ([`Handover`]): a plot-client that is killed and started again does not send it a second time.
//!
//! A solution signed for twice costs the block's rewards, one sent never costs the same. So it goes on only while nobody can have sent
//! it, and silence counts as sent.
//!
//! Owns: who is asked, what is sent to a node, and the one outcome of each solution. Never: a signature.

mod desk;
mod finder;
mod recent;

pub use desk::{
    Ask, Desk, DeskAction, DeskEvent, LINGER_MAX, MAX_UNDERWAY, NODE_PATIENCE, SIGNING_TIME, Submission,
};
pub use finder::{
    ANSWER_PATIENCE, Finder, FinderAction, FinderEvent, HELD_BACK_PAUSE, MAX_ASKS_A_CONTROLLER,
    MAX_SOLUTIONS, Proved, SLOW_AFTER, SolutionId,
};

use crate::ids::InstanceId;
use consensus::solution::Solution;

/// What makes two solutions the same: signed twice, they are an equivocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SolutionKey {
    /// Slot number.
    pub slot: u64,
    /// The farm's public key.
    pub public_key: [u8; 32],
    /// Sector.
    pub sector_index: u16,
    /// Piece in the sector.
    pub piece_offset: u16,
    /// Chunk in the record.
    pub chunk: [u8; 32],
}

impl SolutionKey {
    /// Of a solution for `slot`.
    pub fn of(slot: u64, solution: &Solution) -> Self {
        Self {
            slot,
            public_key: solution.public_key,
            sector_index: solution.sector_index,
            piece_offset: solution.piece_offset,
            chunk: solution.chunk,
        }
    }
}

/// A solution that leaves for a controller: what a plot-client writes down before, and its next run reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handover {
    /// The solution.
    pub solution: SolutionKey,
    /// Whom it is handed to.
    pub controller: InstanceId,
}

/// Where a solution ended, as its finder knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A node queued it; whether the chain accepts it is never told.
    Queued,
    /// A node saw it and would not have it.
    Refused {
        /// Why.
        reason: String,
    },
    /// Certainly no node has it, and its time is over.
    NotSent {
        /// What stood in the way last.
        reason: String,
    },
    /// A node may have it.
    Unknown {
        /// Why nobody knows.
        reason: String,
    },
    /// Its time was over when it was proved.
    Expired,
    /// It was found before, and that one has an outcome of its own.
    Known,
}
