//! What controllers and finders say about slots and solutions.

use super::{Control, MessageError, SOLUTION_SIZE, check_text};
use crate::ids::{FarmId, InstanceId};
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};

message! {
    /// A slot that a controller's node announced.
    struct SlotInfo {
        /// Slot number.
        pub slot: u64,
        /// Global challenge, 32 bytes.
        pub global_challenge: [u8; 32],
        /// Solution range for blocks.
        pub solution_range: u64,
        /// Solution range for votes; never below the one for blocks.
        pub voting_solution_range: u64,
        /// Whose node announced it.
        pub controller: InstanceId,
        /// When it did, by that controller's own clock: milliseconds since an origin that the controller keeps for its life. Only
        /// differences of one controller's announcements mean anything.
        pub announced_ms: u64,
    }
}
impl Control for SlotInfo {
    const KIND: u8 = 1;
}

message! {
    /// A solution for a slot: a request to one controller that announced exactly this slot and challenge, on its
    /// [`subjects::solution`](super::subjects::solution). The reply is a [`SolutionAnswer`]; whoever gets none never sends the solution again.
    struct SolutionFound {
        /// Slot number.
        pub slot: u64,
        /// Global challenge it answers.
        pub global_challenge: [u8; 32],
        /// The plot-client that asks.
        pub finder: InstanceId,
        /// Farm that found it.
        pub farm: FarmId,
        /// SCALE of the solution (PROTOCOL 8).
        pub solution: [u8; SOLUTION_SIZE],
    }
}
impl Control for SolutionFound {
    const KIND: u8 = 2;
}

message! {
    /// What became of a solution at the controller that was asked to send it. Reasons are texts of at most
    /// [`MAX_TEXT_BYTES`](super::MAX_TEXT_BYTES) bytes; see [`bounded_text`](super::bounded_text).
    enum SolutionAnswer {
        /// The node queued it. Whether the chain accepts it is never told.
        Queued,
        /// The node saw it and will not have it; no other would.
        Refused {
            /// Why.
            reason: String,
        },
        /// Certainly no node has it from this controller: another may be asked.
        NotSent {
            /// Why.
            reason: String,
        },
        /// The node may have it.
        Unknown {
            /// Why nobody knows.
            reason: String,
        },
    }
}
impl Control for SolutionAnswer {
    const KIND: u8 = 16;

    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Queued => Ok(()),
            Self::Refused { reason } | Self::NotSent { reason } | Self::Unknown { reason } => {
                check_text(reason)
            }
        }
    }
}

impl SolutionAnswer {
    /// Whether no signature can be asked for on account of this solution.
    pub fn is_not_taken(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NotSent { .. })
    }
}
