//! Every control message, and the one place that turns them into bytes and back.
//!
//! ```text
//!   version u8 | kind u8 | SCALE of the struct        together below 64 KiB
//! ```
//! SCALE, because the network's own solution arrives in it, it is compact, and it has one encoding a value. Bytes
//! from the bus are hostile until decoded: memory is bounded, kind and version must fit, nothing may follow, and
//! [`Control::check`] holds. A changed layout is a new version; a struct is never changed in place.

use super::ids::{FarmId, InstanceId};
use super::valid_token;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};

mod codec;

pub use codec::{Control, MessageError};

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
    use super::super::ids::InstanceId;
    use super::Role;

    /// [`super::SlotInfo`], from every controller.
    pub const SLOT: &str = "slot";
    /// [`super::SolutionFound`], to every controller.
    pub const SOLUTION: &str = "solution";
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

mod plot;

pub use plot::{PlotJob, PlotPhase, PlotProgress, SectorId};

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

message! {
    /// The network's settings, as the node gives them (PROTOCOL 8).
    struct ProtocolInfo {
        /// Segments of history.
        pub history_size: u64,
        /// Pieces a sector may hold.
        pub max_pieces_in_sector: u16,
        /// How many of the newest segments count as recent.
        pub recent_segments: u64,
        /// Share of pieces taken from them: numerator, denominator.
        pub recent_history_fraction: (u64, u64),
        /// Segments a sector lives at least.
        pub min_sector_lifetime: u64,
    }
}

impl From<&ProtocolInfo> for consensus::sector::ProtocolInfo {
    fn from(info: &ProtocolInfo) -> Self {
        Self {
            history_size: info.history_size,
            max_pieces_in_sector: info.max_pieces_in_sector,
            recent_segments: info.recent_segments,
            recent_history_fraction: info.recent_history_fraction,
            min_sector_lifetime: info.min_sector_lifetime,
        }
    }
}

impl ProtocolInfo {
    fn check(&self) -> Result<(), MessageError> {
        let (part, whole) = self.recent_history_fraction;
        let fits = self.history_size > 0 && self.max_pieces_in_sector > 0 && whole > 0 && part <= whole;
        if fits { Ok(()) } else { Err(MessageError::Impossible("protocol info")) }
    }
}

message! {
    /// What all members of a cluster must agree on; one key of the cluster's bucket.
    struct ClusterInfo {
        /// SHA-256 of the KZG setup file.
        pub kzg_setup_sha256: [u8; 32],
        /// Genesis hash of the network.
        pub genesis_hash: [u8; 32],
        /// The network's settings, as last seen.
        pub protocol_info: ProtocolInfo,
        /// Whether this is a development chain, whose setup is `insecure-v1`.
        pub is_dev: bool,
        /// How long after its slot begins a solution is of use, milliseconds.
        pub farming_timeout_ms: u32,
    }
}
impl Control for ClusterInfo {
    const KIND: u8 = 7;

    fn check(&self) -> Result<(), MessageError> {
        self.protocol_info.check()
    }
}

message! {
    /// What a member does.
    #[derive(Copy, Hash, PartialOrd, Ord)]
    enum Role {
        /// Speaks with a node.
        Controller,
        /// Holds pieces, each on its owners.
        ShardedCache,
        /// Holds every piece it can.
        FullPieceCache,
        /// Proves.
        ProofServer,
        /// Encodes sectors.
        PlotServer,
        /// Has the disks.
        PlotClient,
    }
}

impl Role {
    /// The role's name on the command line, in subjects and keys.
    pub fn token(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::ShardedCache => "sharded-cache",
            Self::FullPieceCache => "full-piece-sharded-cache",
            Self::ProofServer => "proof-server",
            Self::PlotServer => "plot-server",
            Self::PlotClient => "plot-client",
        }
    }
}

message! {
    /// A member of the cluster, key `<role>.<id>` of the members bucket.
    struct MemberEntry {
        /// What it does.
        pub role: Role,
        /// Which process it is.
        pub id: InstanceId,
        /// Where its transport listens, `HOST:PORT`, best first.
        pub addresses: Vec<String>,
        /// SHA-256 of the certificate it shows there; peers pin it.
        pub certificate_sha256: [u8; 32],
        /// Its group, one token.
        pub group: String,
        /// Its machine, as the operator knows it.
        pub host: String,
        /// How much it can hold or do, in the role's own unit; the weight in an epoch.
        pub capacity: u64,
        /// Its release.
        pub version: String,
    }
}
impl Control for MemberEntry {
    const KIND: u8 = 8;

    fn check(&self) -> Result<(), MessageError> {
        if self.addresses.len() > MAX_ADDRESSES {
            return Err(MessageError::Impossible("too many addresses"));
        }
        if !valid_token(&self.group) {
            return Err(MessageError::Impossible("group name"));
        }
        let texts = self.addresses.iter().chain([&self.host, &self.version]);
        texts.map(String::as_str).try_for_each(check_text)
    }
}

message! {
    /// A member is alive.
    struct Heartbeat {
        /// What it does.
        pub role: Role,
        /// Which it is.
        pub id: InstanceId,
    }
}
impl Control for Heartbeat {
    const KIND: u8 = 9;
}

message! {
    /// Who owns what: the sharded caches and their weights, one key of the epochs bucket.
    struct Epoch {
        /// Grows by one with each change.
        pub number: u64,
        /// The members, in order of their ids, each once.
        pub members: Vec<EpochMember>,
    }
}
impl Control for Epoch {
    const KIND: u8 = 10;

    fn check(&self) -> Result<(), MessageError> {
        let in_order = self.members.is_sorted_by(|a, b| a.id < b.id);
        if in_order && self.members.len() <= MAX_EPOCH_MEMBERS {
            return Ok(());
        }
        Err(MessageError::Impossible("epoch members out of order or too many"))
    }
}

message! {
    /// A member of an epoch.
    #[derive(Copy)]
    struct EpochMember {
        /// Which.
        pub id: InstanceId,
        /// Its share of the items against the others' weights; 0 = drains, owns nothing.
        pub weight: u64,
    }
}

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

message! {
    /// Asks for a new epoch and for the caches to be filled anew.
    struct ReinitializeCaches {
        /// Names the request, so that it is done once.
        pub request: InstanceId,
        /// Seconds to wait before it starts.
        pub delay_s: u32,
    }
}
impl Control for ReinitializeCaches {
    const KIND: u8 = 12;
}

message! {
    /// What kind of item a cache holds.
    #[derive(Copy, Hash, PartialOrd, Ord)]
    enum ItemKind {
        /// A piece.
        Piece,
        /// The parity chunks of a piece's record.
        ParityPiece,
    }
}

message! {
    /// An item that failed its checks at a reader: its holder drops and refetches it.
    struct Invalidation {
        /// What kind.
        pub kind: ItemKind,
        /// Piece index.
        pub piece_index: u64,
        /// The cache that served it.
        pub holder: InstanceId,
    }
}
impl Control for Invalidation {
    const KIND: u8 = 13;
}

message! {
    /// What a segment commits to, key `segment.<index>` of the cluster's bucket: decides when sectors expire (PROTOCOL 5.1).
    #[derive(Copy)]
    struct SegmentCommitment {
        /// Compressed point.
        pub commitment: [u8; 48],
    }
}
impl Control for SegmentCommitment {
    const KIND: u8 = 14;
}

message! {
    /// The caches have all pieces of a segment, key `placed.<index>` of the cluster's bucket.
    #[derive(Copy)]
    struct SegmentPlaced {
        /// Epoch whose owners got them; zero where there were only full-piece caches.
        pub epoch: u64,
    }
}
impl Control for SegmentPlaced {
    const KIND: u8 = 15;
}

fn check_text(text: &str) -> Result<(), MessageError> {
    let fits = text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(MessageError::Impossible("text too long or with control characters")) }
}

#[cfg(test)]
mod tests;
