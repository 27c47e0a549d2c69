//! What plot-clients say about the farms they hold.

use super::{Control, MessageError, check_text};
use crate::ids::InstanceId;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};

message! {
    /// A plot-client answers for a key: on [`super::subjects::farm`], to whoever else does.
    struct FarmHeld {
        /// Who holds it.
        pub client: InstanceId,
        /// The farm's key.
        pub public_key: [u8; 32],
        /// Name of the client's host, for people.
        pub host: String,
        /// The farm's folder there, for people.
        pub path: String,
        /// For how long it has been held, by the client's own clock, milliseconds.
        pub held_ms: u64,
        /// The client that holds the same key, has held it for less long, and must stop.
        pub over: Option<InstanceId>,
    }
}
impl Control for FarmHeld {
    const KIND: u8 = 18;

    fn check(&self) -> Result<(), MessageError> {
        check_text(&self.host).and_then(|()| check_text(&self.path))
    }
}
