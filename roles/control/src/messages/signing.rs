//! What controllers and plot-clients say about reward signatures.

use super::Control;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};

message! {
    /// A block or vote to be signed.
    struct RewardSigningRequest {
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
    /// The one signature of a key for a hash.
    struct RewardSignature {
        /// Hash that was signed.
        pub hash: [u8; 32],
        /// Whose signature it is.
        pub public_key: [u8; 32],
        /// sr25519 signature.
        pub signature: [u8; 64],
    }
}
impl Control for RewardSignature {
    const KIND: u8 = 4;
}
