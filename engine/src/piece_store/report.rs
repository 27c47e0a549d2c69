//! What a store says to its owner.

use super::header::ItemId;
use crate::error::IoError;
use crate::piece_layout::SLOT_BYTES;
use crate::pool::AcquireError;
use crate::ring::RingError;

/// Why the store cannot do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// No memory to read into.
    #[error("{0}; give more buffer memory")]
    Buffers(#[from] AcquireError),
    /// The item on disk is damaged. It is dropped: fetch it from elsewhere.
    #[error(
        "{path}: item {id} at offset {offset} is damaged and was dropped; if this goes on, check the disk"
    )]
    Damaged {
        /// The item.
        id: ItemId,
        /// The file.
        path: String,
        /// Of its slot.
        offset: u64,
    },
    /// All slots are taken.
    #[error("the cache is full: all of its {slots} slots are in use")]
    Full {
        /// Slots.
        slots: u64,
    },
    /// Not even one slot.
    #[error(
        "{path}: {bytes} bytes are too few for a cache: give size= of at least {SLOT_BYTES}, or free space"
    )]
    TooSmall {
        /// The file.
        path: String,
        /// Bytes there are for it.
        bytes: u64,
    },
    /// The disk cannot be given a ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The executor ends.
    #[error("the executor is shutting down")]
    Closed,
}

/// What opening a store found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct StoreReport {
    /// Slots whose item is damaged: they are free.
    pub damaged: u64,
    /// Slots that the disk does not give: they are not used.
    pub unreadable: u64,
    /// Second copies of an item: the whole one of the latest epoch stays.
    pub duplicates: u64,
    /// Slots that are as the index said, whose headers were not read yet; all others' were.
    pub believed: u64,
}
