//! What controllers and finders say about slots and solutions.

use super::{Control, SOLUTION_SIZE};
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
    }
}
impl Control for SlotInfo {
    const KIND: u8 = 1;
}

message! {
    /// A solution for a slot.
    struct SolutionFound {
        /// Slot number.
        pub slot: u64,
        /// Global challenge it answers.
        pub global_challenge: [u8; 32],
        /// Farm that found it.
        pub farm: FarmId,
        /// SCALE of the solution (PROTOCOL 8).
        pub solution: [u8; SOLUTION_SIZE],
    }
}
impl Control for SolutionFound {
    const KIND: u8 = 2;
}
