//! Who is there.

use super::{Control, MAX_ADDRESSES, MessageError, check_text};
use crate::ids::InstanceId;
use crate::names::valid_token;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode, Input, Output};
use std::fmt;

/// What a member does. On the wire one byte, in this order from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
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
    /// What a newer release knows by this number: kept and shown, nothing is asked of it. Of this release only [`Role::TOOL`] is one.
    Other(u8),
}

impl Role {
    /// A command of an operator that takes part in a cluster for a while.
    pub const TOOL: Self = Self::Other(64);
    /// The roles of this release, by their numbers.
    pub const ALL: [Self; 6] = [
        Self::Controller,
        Self::ShardedCache,
        Self::FullPieceCache,
        Self::ProofServer,
        Self::PlotServer,
        Self::PlotClient,
    ];

    /// The role's name on the command line, in subjects and keys.
    pub fn token(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::ShardedCache => "sharded-cache",
            Self::FullPieceCache => "full-piece-sharded-cache",
            Self::ProofServer => "proof-server",
            Self::PlotServer => "plot-server",
            Self::PlotClient => "plot-client",
            Self::Other(_) => "other",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Controller => 0,
            Self::ShardedCache => 1,
            Self::FullPieceCache => 2,
            Self::ProofServer => 3,
            Self::PlotServer => 4,
            Self::PlotClient => 5,
            Self::Other(number) => number,
        }
    }
}

impl fmt::Display for Role {
    /// The token; of an unknown role with its number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::TOOL {
            return f.write_str("tool");
        }
        f.write_str(self.token())?;
        if let Self::Other(number) = self { write!(f, "-{number}") } else { Ok(()) }
    }
}

impl Encode for Role {
    fn size_hint(&self) -> usize {
        1
    }

    fn encode_to<T: Output + ?Sized>(&self, dest: &mut T) {
        dest.push_byte(self.number());
    }
}

impl Decode for Role {
    fn decode<I: Input>(input: &mut I) -> Result<Self, parity_scale_codec::Error> {
        let number = input.read_byte()?;
        Ok(Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Other(number)))
    }
}

impl DecodeWithMemTracking for Role {}

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
        /// A cache that takes no more pieces.
        pub is_full: bool,
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
