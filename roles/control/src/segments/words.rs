//! What happens to segments, and what is to be done.

use super::looks::Stretch;
use crate::ids::InstanceId;
use crate::lease::Standing;

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The spool was looked at: these segments are whole there.
    Found(Vec<u64>),
    /// The subscription at the own node holds from now on; segments may have been missed before.
    Began,
    /// The own node announced this segment: it holds its pieces until all subscribers have acknowledged, or for two minutes.
    Announced(u64),
    /// The own node has so many segments, and their commitments are known here.
    History(u64),
    /// Whose the lease is.
    Lease(Standing),
    /// So many caches are present.
    Caches(usize),
    /// All pieces are here, in memory, and verified in full.
    Fetched(u64),
    /// They are not; whether the node said that it has not got them.
    NotFetched {
        /// Which segment.
        index: u64,
        /// The node answered, and has them not now.
        is_gone: bool,
    },
    /// The segment is durable in the spool; it is in memory no longer.
    Spooled(u64),
    /// The disk did not take it. It is still in memory.
    NotSpooled(u64),
    /// The spool's copy is damaged or gone, and was cleared away.
    Damaged(u64),
    /// Every piece is durable in a cache.
    Placed(u64),
    /// Not every piece found a cache.
    NotPlaced(u64),
    /// The caches that answered have all pieces of these segments of a stretch, each where it is asked for ([`crate::holdings`]).
    Seen {
        /// What was asked for.
        stretch: Stretch,
        /// What of it is placed.
        placed: Vec<u64>,
    },
    /// The node took the acknowledgement.
    Acknowledged(u64),
    /// It did not.
    NotAcknowledged(u64),
    /// The store took the word.
    Told(Tell),
    /// It did not, or that is not known.
    NotTold(Tell),
    /// The store is read anew, since it may not be the one it was: what is not heard before [`Event::StoreRead`] is not there.
    StoreOpened,
    /// What the store has, or has from now on.
    Store(Word),
    /// All that is there now has been heard.
    StoreRead,
    /// Time has passed.
    Tick,
}

/// What the store says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// A controller holds the segment on its disk.
    Held {
        /// Which segment.
        index: u64,
        /// Which controller.
        by: InstanceId,
    },
    /// Nobody says so any more.
    NotHeld(u64),
    /// The segment is placed.
    Placed(u64),
    /// History has so many segments, for the whole cluster.
    Known(u64),
}

/// What the store is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tell {
    /// This controller holds the segment on its disk (key `held.<index>`).
    Held(u64),
    /// It does so no longer: withdraw that, if it is this controller's word.
    NotHeld(u64),
    /// The segment is placed (key `placed.<index>`).
    Placed(u64),
    /// History has at least so many segments: a job for [`crate::settings`].
    History(u64),
}

/// What is to be done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Get all pieces of the segment from the node and verify them in full; one at a time.
    Fetch(u64),
    /// Make the fetched segment durable in the spool.
    Spool(u64),
    /// The fetched segment is not needed any more.
    LetGo(u64),
    /// Tell the own node that the segment is dealt with.
    Acknowledge(u64),
    /// Bring all pieces of the segment to the caches, from memory or from the spool; one at a time.
    Place(u64),
    /// Ask the caches which of these segments they have; one question at a time.
    Look(Stretch),
    /// Tell the store.
    Tell(Tell),
    /// Delete the segment from the spool.
    Delete(u64),
    /// Tell people.
    Note(Note),
}

/// What an operator should know. Each is told once until it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The spool holds as many segments as it may; new ones are not fetched, nor acknowledged, until caches take some.
    SpoolIsFull,
    /// There is room again.
    SpoolHasRoom,
    /// The node does not have this segment any more and nobody says that he holds it: history stays where it is until it is brought
    /// from an archive.
    Missing(u64),
}
