//! Every control message, and the one place that turns them into bytes and back.
//!
//! ```text
//!   version u8 | kind u8 | SCALE of the struct        together below 64 KiB
//! ```
//! SCALE, because the network's own solution arrives in it, it is compact, and it has one encoding a value. Bytes
//! from the bus are hostile until decoded: memory is bounded, kind and version must fit, nothing may follow (but in the
//! words of a newer release, which appends fields that this one leaves), and [`Control::check`] holds. Fields are only
//! appended, with a new version, and so that zeros mean what was before; any other change is a new kind.

mod codec;
mod limits;
mod text;

pub use codec::{Control, MessageError};
pub use limits::{
    MAX_ADDRESSES, MAX_AVOIDED_SERVERS, MAX_COPIES, MAX_EPOCH_MEMBERS, MAX_FARMS_TOLD, MAX_MESSAGE_BYTES,
    MAX_REASON_BYTES, MAX_TEXT_BYTES, OLDEST_VERSION, SOLUTION_SIZE, VERSION,
};
pub use text::{bounded_reason, bounded_text};

use text::check_text;

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

    /// [`super::FarmsWanted`], to every plot-client.
    pub const FARMS_WANTED: &str = "farms.wanted";

    /// [`super::FarmsTold`], to whoever wanted to know.
    pub fn farms_told(asker: InstanceId) -> String {
        format!("farms.told.{asker}")
    }

    /// [`super::FarmsOrder`], to one plot-client, which answers.
    pub fn farms(client: InstanceId) -> String {
        format!("farms.order.{client}")
    }

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

    /// Nothing, to one cache, which answers with [`super::CacheCounters`].
    pub fn cache_counters(cache: InstanceId) -> String {
        format!("cache_counters.{cache}")
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

pub use caches::{CacheCounters, Epoch, EpochMember, Invalidation, ItemKind, ReinitializeCaches};
pub use farms::{
    DiskHealth, DiskTold, FarmHeld, FarmStage, FarmTold, FarmsChange, FarmsDone, FarmsOrder, FarmsTold,
    FarmsWanted,
};
pub use holdings::{HoldingsAnswer, HoldingsRequest, MAX_HOLDINGS_SEGMENTS};
pub use members::{Heartbeat, MemberEntry, Role};
pub use network::{ClusterInfo, ProtocolInfo, SegmentCommitment, SegmentPlaced, SettingsWanted};
pub use plot::{PlotJob, PlotPhase, PlotProgress, SectorId};
pub use segments::{Lease, SegmentHeld};
pub use signing::{RewardSigningRequest, SigningAnswer};
pub use slots::{SlotInfo, SolutionAnswer, SolutionFound};

#[cfg(test)]
mod tests;
