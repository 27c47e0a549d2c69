//! Who may ask what: the one table of it.
//!
//! | | get an item | put an item | sector range, its metadata | prove |
//! |---|---|---|---|---|
//! | controller | yes | yes | | |
//! | caches | yes | | | |
//! | plot-server | yes | | | |
//! | plot-client | yes, to rebuild a damaged sector | | yes | yes |
//! | proof-server | | | | |
//! | tool | yes | | | |
//! | role of a newer release | | | | |
//!
//! Pieces come from outside through controllers alone, which verify them; a cache gets what it owns by asking others for it,
//! so it puts nothing. The role that counts is the one that the member's certificate has here, and where there are no
//! certificates (`--insecure-plain-tcp`) the one it says. Never: whether a request makes sense to this member; its handler
//! says that.

use crate::message::Request;
use crate::role::Role;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestKind {
    /// [`Request::GetItem`].
    GetItem,
    /// [`Request::PutItem`].
    PutItem,
    /// [`Request::GetSectorRange`].
    GetSectorRange,
    /// [`Request::GetSectorMetadata`].
    GetSectorMetadata,
    /// [`Request::Prove`].
    Prove,
}

impl RequestKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::GetItem, Self::PutItem, Self::GetSectorRange, Self::GetSectorMetadata, Self::Prove];

    /// That of a request.
    pub const fn of(request: &Request) -> Self {
        match request {
            Request::GetItem { .. } => Self::GetItem,
            Request::PutItem { .. } => Self::PutItem,
            Request::GetSectorRange { .. } => Self::GetSectorRange,
            Request::GetSectorMetadata { .. } => Self::GetSectorMetadata,
            Request::Prove { .. } => Self::Prove,
        }
    }
}

/// Whether a member of `role` may ask this.
pub const fn may_send(role: Role, kind: RequestKind) -> bool {
    use RequestKind::{GetItem, GetSectorMetadata, GetSectorRange, Prove, PutItem};
    match role {
        Role::Controller => matches!(kind, GetItem | PutItem),
        Role::ShardedCache | Role::FullPieceCache | Role::PlotServer | Role::Tool => matches!(kind, GetItem),
        Role::PlotClient => matches!(kind, GetItem | GetSectorRange | GetSectorMetadata | Prove),
        Role::ProofServer | Role::Other(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each role's kinds, in the order of [`RequestKind::ALL`].
    #[test]
    fn the_whole_matrix() {
        let expected = [
            (Role::Controller, [true, true, false, false, false]),
            (Role::ShardedCache, [true, false, false, false, false]),
            (Role::FullPieceCache, [true, false, false, false, false]),
            (Role::PlotServer, [true, false, false, false, false]),
            (Role::PlotClient, [true, false, true, true, true]),
            (Role::ProofServer, [false; 5]),
            (Role::Tool, [true, false, false, false, false]),
        ];
        assert_eq!(expected.map(|(role, _)| role), Role::ALL);
        let others = (7..=u8::MAX).map(|number| (Role::Other(number), [false; 5]));
        for (role, may) in expected.into_iter().chain(others) {
            assert_eq!(RequestKind::ALL.map(|kind| may_send(role, kind)), may, "{role}");
        }
    }
}
