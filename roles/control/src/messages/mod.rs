//! Every control message, and the one place that turns them into bytes and back.
//!
//! ```text
//!   version u8 | kind u8 | SCALE of the struct        together below 64 KiB
//! ```
//! SCALE, because the network's own solution arrives in it, it is compact, and it has one encoding a value. Bytes
//! from the bus are hostile until decoded: memory is bounded, kind and version must fit, nothing may follow (but in the
//! words of a newer release, which appends fields that this one leaves), and [`Control::check`] holds. Fields are only
//! appended, with a new version; any other change is a new kind.

mod codec;

pub use codec::{Control, MessageError};

/// A control message is smaller than this. It keeps one message far below the 1 MiB default of NATS and says at
/// once when something big was put on the wrong road.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Version of all layouts below; grows with each release that appends to one.
pub const VERSION: u8 = 2;
/// The oldest version that this release can read.
pub const OLDEST_VERSION: u8 = 2;
/// SCALE of a solution (PROTOCOL 8), bytes.
pub const SOLUTION_SIZE: usize = 412;
/// Members of an epoch: 24 bytes each fit a message with room to spare.
pub const MAX_EPOCH_MEMBERS: usize = 2048;
/// Addresses of one member.
pub const MAX_ADDRESSES: usize = 16;
/// Plot-servers that a plot job names as to be avoided: more than have failed one farm within half an hour.
pub const MAX_AVOIDED_SERVERS: usize = 8;
/// Longest text anywhere in a message, bytes.
pub const MAX_TEXT_BYTES: usize = 256;

/// Subjects of the messages that go to everybody listening.
pub mod subjects {
    use super::Role;
    use crate::ids::{FarmId, InstanceId};

    /// [`super::SlotInfo`], from every controller.
    pub const SLOT: &str = "slot";
    /// [`super::PlotProgress`] of every plot-server, for whoever shows it: a filter.
    pub const PLOT_PROGRESS_OF_ALL: &str = "progress.*";
    /// [`super::PlotProgress`] of every plot-client, for whoever shows it: a filter.
    pub const PLOT_ANSWERS_OF_ALL: &str = "plotted.*";
    /// [`super::Invalidation`], to every cache.
    pub const INVALIDATION: &str = "invalidation";
    /// [`super::ReinitializeCaches`], to every controller.
    pub const REINITIALIZE_CACHES: &str = "caches.reinitialize";

    /// [`super::SettingsWanted`], to everybody who knows the settings.
    pub const SETTINGS_WANTED: &str = "settings.wanted";

    /// [`super::ClusterInfo`] as a member knows it, to a controller that has found none.
    pub fn settings_known(controller: InstanceId) -> String {
        format!("settings.known.{controller}")
    }

    /// [`super::HoldingsRequest`], to one cache, which answers.
    pub fn holdings(cache: InstanceId) -> String {
        format!("holdings.{cache}")
    }

    /// [`super::SolutionFound`], to one controller, which answers.
    pub fn solution(controller: InstanceId) -> String {
        format!("solution.{controller}")
    }

    /// [`super::PlotProgress`] of plot-servers about one farm. Named after the farm and not after the plot-client, which has another id
    /// after each start and must still hear what was made for it.
    pub fn plot_progress(farm: FarmId) -> String {
        format!("progress.{farm}")
    }

    /// [`super::PlotProgress`] of plot-clients to one plot-server.
    pub fn plot_answer(server: InstanceId) -> String {
        format!("plotted.{server}")
    }

    /// [`super::RewardSigningRequest`] to whoever holds the key; answered with [`super::SigningAnswer`].
    pub fn signature(public_key: &[u8; 32]) -> String {
        format!("signature.{}", hex(public_key))
    }

    /// [`super::FarmHeld`] of whoever holds the key.
    pub fn farm(public_key: &[u8; 32]) -> String {
        format!("farm.{}", hex(public_key))
    }

    /// 64 characters: the longest token there is.
    fn hex(bytes: &[u8; 32]) -> String {
        use std::fmt::Write;
        bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("text grows");
            text
        })
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
mod farms;
mod holdings;
mod members;
mod network;
mod plot;
mod segments;
mod signing;
mod slots;

pub use caches::{Epoch, EpochMember, Invalidation, ItemKind, ReinitializeCaches};
pub use farms::FarmHeld;
pub use holdings::{HoldingsAnswer, HoldingsRequest, MAX_HOLDINGS_SEGMENTS};
pub use members::{Heartbeat, MemberEntry, Role};
pub use network::{ClusterInfo, ProtocolInfo, SegmentCommitment, SegmentPlaced, SettingsWanted};
pub use plot::{PlotJob, PlotPhase, PlotProgress, SectorId};
pub use segments::{Lease, SegmentHeld};
pub use signing::{RewardSigningRequest, SigningAnswer};
pub use slots::{SlotInfo, SolutionAnswer, SolutionFound};

/// `text` as a message may carry it: no longer than [`MAX_TEXT_BYTES`], and on one line.
pub fn bounded_text(text: &str) -> String {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[..end].replace(char::is_control, " ")
}

fn check_text(text: &str) -> Result<(), MessageError> {
    let fits = text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(MessageError::Impossible("text too long or with control characters")) }
}

#[cfg(test)]
mod tests;
