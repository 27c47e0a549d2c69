//! Every control message, and the one place that turns them into bytes and back.
//!
//! ```text
//!   version u8 | kind u8 | SCALE of the struct        together below 64 KiB
//! ```
//! SCALE, because the network's own solution arrives in it, it is compact, and it has one encoding a value. Bytes
//! from the bus are hostile until decoded: memory is bounded, kind and version must fit, nothing may follow, and
//! [`Control::check`] holds. A changed layout is a new version; a struct is never changed in place.

mod codec;

pub use codec::{Control, MessageError};

/// A control message is smaller than this. It keeps one message far below the 1 MiB default of NATS and says at
/// once when something big was put on the wrong road.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Version of all layouts below.
pub const VERSION: u8 = 1;
/// SCALE of a solution (PROTOCOL 8), bytes.
pub const SOLUTION_SIZE: usize = 412;
/// Members of an epoch: 24 bytes each fit a message with room to spare.
pub const MAX_EPOCH_MEMBERS: usize = 2048;
/// Addresses of one member.
pub const MAX_ADDRESSES: usize = 16;
/// Longest text anywhere in a message, bytes.
pub const MAX_TEXT_BYTES: usize = 256;

/// Subjects of the messages that go to everybody listening.
pub mod subjects {
    use super::Role;
    use crate::ids::InstanceId;

    /// [`super::SlotInfo`], from every controller.
    pub const SLOT: &str = "slot";
    /// [`super::RewardSigningRequest`], to every plot-client.
    pub const REWARD_REQUEST: &str = "reward.request";
    /// [`super::RewardSignature`], to every controller.
    pub const REWARD_SIGNATURE: &str = "reward.signature";
    /// [`super::PlotProgress`], to whoever shows it.
    pub const PLOT_PROGRESS: &str = "progress";
    /// [`super::Invalidation`], to every cache.
    pub const INVALIDATION: &str = "invalidation";
    /// [`super::ReinitializeCaches`], to every controller.
    pub const REINITIALIZE_CACHES: &str = "caches.reinitialize";

    /// [`super::SolutionFound`], to one controller, which answers.
    pub fn solution(controller: InstanceId) -> String {
        format!("solution.{controller}")
    }

    /// [`super::Heartbeat`] of one member.
    pub fn heartbeat(role: Role, id: InstanceId) -> String {
        format!("heartbeat.{}.{id}", role.token())
    }
}

/// Derives what every message and part of one needs.
macro_rules! message {
    ($(#[$doc:meta])* $kind:ident $name:ident $body:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking)]
        pub $kind $name $body
    };
}

mod caches;
mod members;
mod network;
mod plot;
mod signing;
mod slots;

pub use caches::{Epoch, EpochMember, Invalidation, ItemKind, ReinitializeCaches};
pub use members::{Heartbeat, MemberEntry, Role};
pub use network::{ClusterInfo, ProtocolInfo, SegmentCommitment, SegmentPlaced};
pub use plot::{PlotJob, PlotPhase, PlotProgress, SectorId};
pub use signing::{RewardSignature, RewardSigningRequest};
pub use slots::{SlotInfo, SolutionAnswer, SolutionFound};

/// `text` as a message may carry it: without control characters, cut to [`MAX_TEXT_BYTES`].
pub fn fit_text(text: &str) -> String {
    let mut fit: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = (0..=MAX_TEXT_BYTES.min(fit.len())).rev().find(|&at| fit.is_char_boundary(at));
    fit.truncate(end.unwrap_or(0));
    fit
}

fn check_text(text: &str) -> Result<(), MessageError> {
    let fits = text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(MessageError::Impossible("text too long or with control characters")) }
}

#[cfg(test)]
mod tests;
