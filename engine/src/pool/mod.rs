//! The one pool of aligned buffers: 2 MiB slabs that go disk → wire → GPU without a copy.
//!
//! ```text
//!   free ──acquire──▶ SlabMut (one owner, writes) ──freeze──▶ Slab (shared, reads) ──last drop──▶ free or next waiter
//!                        │ split_off / narrow                    │ clone / slice
//! ```
//!
//! Owns: the memory and the count of handles of each slab. A handle is a range of a slab; ranges of `SlabMut` overlap no
//! other handle. Never: what lies in a slab. Slabs come back with whatever their last user left in them.

#[cfg(not(loom))]
mod acquire;
#[cfg_attr(loom, allow(dead_code))]
mod core;
#[cfg(not(loom))]
pub mod nodes;
#[cfg(not(loom))]
mod region;
#[cfg(not(loom))]
mod slab;

#[cfg(not(loom))]
pub use self::acquire::Acquire;
#[cfg(not(loom))]
pub use self::shared::{Pool, PoolStats, REGISTERED_BUFFER_BYTES};
#[cfg(not(loom))]
pub use self::slab::{Slab, SlabMut};

#[cfg(not(loom))]
mod shared;

/// Size of a slab: the largest payload of a frame, two pieces' records, one huge page.
pub const SLAB_BYTES: usize = 2 * 1024 * 1024;
/// Most slabs of a pool: 128 GiB, so that a byte offset into the region fits any address space.
pub const MAX_SLABS: usize = 65_536;

/// Why the pool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// More slabs than any pool may have, or none.
    #[error("a pool of {slabs} slabs of 2 MiB is not possible: between 1 and {MAX_SLABS} are")]
    TooLarge {
        /// Slabs asked for.
        slabs: usize,
    },
    /// The kernel gave no address space.
    #[error(
        "cannot map {bytes} bytes for the buffer pool: {source}; lower the buffer memory or raise the limit (ulimit -v)"
    )]
    Map {
        /// Bytes asked for.
        bytes: usize,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// Why no slab will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// The queue of waiting tasks is full: the caller should refuse work instead.
    #[error("all buffers are in use and {limit} tasks wait already")]
    TooManyWaiting {
        /// Length of the queue.
        limit: usize,
    },
}
