//! What controllers and plot-clients say about reward signatures.

use super::{Control, MessageError, check_text};
use crate::ids::InstanceId;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};

message! {
    /// A block or vote to be signed: a request on [`super::subjects::signature`], answered with a [`SigningAnswer`].
    #[derive(Copy, Hash, PartialOrd, Ord)]
    struct RewardSigningRequest {
        /// Whose node wants it.
        pub controller: InstanceId,
        /// Hash to sign.
        pub hash: [u8; 32],
        /// Whose signature is wanted.
        pub public_key: [u8; 32],
    }
}
impl Control for RewardSigningRequest {
    const KIND: u8 = 3;
}

message! {
    /// What a plot-client answers to a [`RewardSigningRequest`].
    enum SigningAnswer {
        /// The one signature of the key for the hash; it is on disk.
        Signed {
            /// sr25519 signature.
            signature: [u8; 64],
        },
        /// There is none, at least not now.
        Refused {
            /// Why.
            reason: String,
        },
    }
}
impl Control for SigningAnswer {
    const KIND: u8 = 17;

    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Signed { .. } => Ok(()),
            Self::Refused { reason } => check_text(reason),
        }
    }
}
