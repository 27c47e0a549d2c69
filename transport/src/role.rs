//! What a member is to the cluster.
//!
//! On the wire a role is one byte, and a newer release may know more of them: an unknown one is kept as its number and
//! may do nothing ([`crate::rights`]).

#![allow(missing_docs, reason = "rkyv's traits name their parts")]

use rkyv::Place;
use rkyv::rancor::Fallible;
use rkyv::with::{ArchiveWith, DeserializeWith, SerializeWith};
use std::fmt;

/// What a member is to the cluster (FIELD section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Connects to a node and verifies what comes from it.
    Controller,
    /// One shard of the piece cache.
    ShardedCache,
    /// A cache that holds every piece.
    FullPieceCache,
    /// Makes sectors.
    PlotServer,
    /// Stores sectors and audits them.
    PlotClient,
    /// Proves for plot clients.
    ProofServer,
    /// Tools and benchmarks.
    Tool,
    /// What a newer release knows by this number.
    Other(u8),
}

impl Role {
    /// The roles of this release, by their numbers.
    pub const ALL: [Self; 7] = [
        Self::Controller,
        Self::ShardedCache,
        Self::FullPieceCache,
        Self::PlotServer,
        Self::PlotClient,
        Self::ProofServer,
        Self::Tool,
    ];

    /// The role of a number on the wire.
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Other(number))
    }

    /// Its number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::Controller => 0,
            Self::ShardedCache => 1,
            Self::FullPieceCache => 2,
            Self::PlotServer => 3,
            Self::PlotClient => 4,
            Self::ProofServer => 5,
            Self::Tool => 6,
            Self::Other(number) => number,
        }
    }

    /// The role's name on the command line.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::ShardedCache => "sharded-cache",
            Self::FullPieceCache => "full-piece-sharded-cache",
            Self::PlotServer => "plot-server",
            Self::PlotClient => "plot-client",
            Self::ProofServer => "proof-server",
            Self::Tool => "tool",
            Self::Other(_) => "other",
        }
    }

    /// Whether a member that is known as this may say in its hello that it is `said`. What a newer release's roles are called
    /// there only that release knows, and tools of the release before say that they are plot-clients.
    pub fn may_say(self, said: Self) -> bool {
        match self {
            Self::Other(_) => true,
            Self::Tool => matches!(said, Self::Tool | Self::PlotClient),
            _ => self == said,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())?;
        if let Self::Other(number) = self { write!(f, "-{number}") } else { Ok(()) }
    }
}

/// The role in an archive: its number.
pub struct AsNumber;

impl ArchiveWith<Role> for AsNumber {
    type Archived = u8;
    type Resolver = ();

    fn resolve_with(role: &Role, (): (), out: Place<u8>) {
        out.write(role.number());
    }
}

impl<S: Fallible + ?Sized> SerializeWith<Role, S> for AsNumber {
    fn serialize_with(_: &Role, _: &mut S) -> Result<(), S::Error> {
        Ok(())
    }
}

impl<D: Fallible + ?Sized> DeserializeWith<u8, Role, D> for AsNumber {
    fn deserialize_with(number: &u8, _: &mut D) -> Result<Role, D::Error> {
        Ok(Role::from_number(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_kept() {
        for number in 0..=u8::MAX {
            assert_eq!(Role::from_number(number).number(), number);
        }
        assert_eq!(Role::from_number(6), Role::Tool);
        assert_eq!(Role::from_number(7), Role::Other(7));
    }

    #[test]
    fn a_member_says_what_it_is() {
        for role in Role::ALL {
            assert!(role.may_say(role) && !role.may_say(Role::Other(9)));
            assert!(Role::Other(9).may_say(role));
        }
        assert!(!Role::PlotClient.may_say(Role::Controller) && !Role::PlotClient.may_say(Role::Tool));
        assert!(Role::Tool.may_say(Role::PlotClient) && !Role::Tool.may_say(Role::Controller));
    }
}
