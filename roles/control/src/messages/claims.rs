//! Who submits a solution.

use super::Control;
use crate::ids::InstanceId;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};

message! {
    /// Who submits a solution, one key of the claims bucket.
    struct Claim {
        /// How far it is.
        pub state: ClaimState,
        /// The controller that holds it.
        pub holder: InstanceId,
        /// Which attempt of that controller: two tasks of one process are rivals too.
        pub attempt: InstanceId,
        /// When this was written by the holder's clock, milliseconds since 1970. For people; nothing is timed by it.
        pub at_unix_ms: u64,
    }
}
impl Control for Claim {
    const KIND: u8 = 11;
}

message! {
    /// State of a claim.
    #[derive(Copy)]
    enum ClaimState {
        /// The holder will send it; another may take over later.
        Claimed,
        /// The holder may have sent it; nobody else ever does.
        Sending,
        /// The node has answered.
        Done {
            /// Whether it queued the solution.
            accepted: bool,
        },
    }
}
