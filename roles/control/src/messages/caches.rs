//! Who holds which items.

use super::{Control, MAX_COPIES, MAX_EPOCH_MEMBERS, MessageError};
use crate::ids::InstanceId;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};

message! {
    /// Who owns what: the sharded caches and their weights, one key of the epochs bucket.
    struct Epoch {
        /// Grows by one with each change.
        pub number: u64,
        /// The members, in order of their ids, each once.
        pub members: Vec<EpochMember>,
        /// Owners that each piece has: sharded caches that hold it, 1 to [`MAX_COPIES`]. 0, of the release before there were any, is 1.
        pub copies: u8,
    }
}

impl Epoch {
    /// The one before the first: nobody owns anything.
    pub fn nobody() -> Self {
        Self { number: 0, members: Vec::new(), copies: 1 }
    }
}

impl Control for Epoch {
    const KIND: u8 = 10;

    fn check(&self) -> Result<(), MessageError> {
        let in_order = self.members.is_sorted_by(|a, b| a.id < b.id);
        if !in_order || self.members.len() > MAX_EPOCH_MEMBERS {
            return Err(MessageError::Impossible("epoch members out of order or too many"));
        }
        if self.copies <= MAX_COPIES {
            return Ok(());
        }
        Err(MessageError::Impossible("copies of a piece"))
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
    /// What a cache did since it started: its answer on [`super::subjects::cache_counters`], where the question is empty.
    #[derive(Copy)]
    struct CacheCounters {
        /// Items given.
        pub hits: u64,
        /// Items asked for that are not there.
        pub misses: u64,
        /// Items stored.
        pub stored: u64,
        /// Items found damaged on disk and dropped.
        pub damaged: u64,
        /// Items that fit its memory (`--mem-cache`); 0 = it has none.
        pub mem_capacity: u64,
        /// Items in its memory now.
        pub mem_items: u64,
        /// Of the items given, those from its memory.
        pub mem_hits: u64,
        /// Of the items given, those that had to be read from its disk.
        pub mem_misses: u64,
    }
}
impl Control for CacheCounters {
    const KIND: u8 = 24;
}
