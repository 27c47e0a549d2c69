//! Who is there.

use super::{Control, MAX_ADDRESSES, MessageError, check_text};
use crate::ids::InstanceId;
use crate::names::valid_token;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};

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
