//! What a cache's loop hears, and what it says.

use super::sources::Peers;
use crate::ids::InstanceId;
use crate::messages::Epoch;
use consensus::piece_set::PieceSet;
use std::collections::BTreeMap;

/// Segments in one question to an owner.
pub const ASK_SEGMENTS_MAX: u16 = 128;

/// Which pieces a cache is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Those of which it is an owner in the epoch.
    Sharded,
    /// All.
    Full,
}

/// Pieces by segment; no set is empty.
pub type Pieces = BTreeMap<u64, PieceSet>;

/// What happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// An epoch begins.
    Epoch(Epoch),
    /// The cluster's history has so many segments.
    History(u64),
    /// Who else is present now.
    Peers(Peers),
    /// A piece that was here is lost.
    Lost,
    /// What the store holds: the answer to [`Action::Look`].
    Held(Pieces),
    /// What became of [`Action::Pull`].
    Pulled {
        /// Of which piece.
        index: u64,
        /// What.
        pulled: Pulled,
    },
    /// An owner's answer to [`Action::Ask`]; no sets if there is none.
    Holds {
        /// Who.
        owner: InstanceId,
        /// From which segment on.
        from_segment: u64,
        /// A set a segment; what is not there is empty.
        pieces: Vec<PieceSet>,
    },
    /// Time has passed: [`super::Refill::wake_at`].
    Tick,
}

/// What became of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulled {
    /// It is here, durable.
    Stored,
    /// Nobody gave it.
    Nobody,
    /// There is no room for it, or the disk refuses.
    NotTaken,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell what the store holds.
    Look,
    /// Get a piece from the first of these that gives it, and store it.
    Pull {
        /// Which.
        index: u64,
        /// Whom to ask, in order.
        from: Vec<InstanceId>,
    },
    /// Ask an owner which pieces of these segments it has; it answers only if it goes by the same epoch.
    Ask {
        /// Whom.
        owner: InstanceId,
        /// The first.
        from_segment: u64,
        /// How many.
        segments: u16,
    },
    /// Remove a piece, unless another epoch has begun since: in that one it may be this cache's own, and a look may have said that it is
    /// here.
    LetGo {
        /// Which.
        index: u64,
    },
}

/// How far a cache is from what it should hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pieces lacking when the present round, or the last, began.
    pub lacking: u64,
    /// Those of them that came.
    pub pulled: u64,
    /// Those of them that nobody gave.
    pub nowhere: u64,
    /// Those of them for which there was no room.
    pub not_taken: u64,
    /// Pieces held beyond what it should.
    pub surplus: u64,
    /// Those of them that were let go.
    pub let_go: u64,
    /// Pieces held when it began.
    pub held: u64,
    /// More are lacking than one round pulls.
    pub has_more: bool,
}

impl Progress {
    /// Whether nothing is left to be done, as far as the last round shows.
    pub fn is_done(&self) -> bool {
        self.pulled == self.lacking && self.let_go == self.surplus && !self.has_more
    }
}
