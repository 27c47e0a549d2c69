//! How a piece lies in memory and on a cache's disk.
//!
//! ```text
//!   a slab of the pool, or a slot    │ ... commitment, witness │ record 1 MiB │
//!                                    0                       4096
//! ```
//! The record begins a block, so that it goes to disk and GPU as it lies; the points end the block before it, so that both
//! are one run of bytes. Stated here alone: the piece store reads slots by it, `transport` fills slabs by it.

use crate::BLOCK_BYTES;
use consensus::constants::{POINT_SIZE, RECORD_SIZE};

/// Bytes of a slot, on disk and in memory.
pub const SLOT_BYTES: usize = BLOCK_BYTES + RECORD_SIZE;
/// Where the record begins.
pub const RECORD_AT: usize = BLOCK_BYTES;
/// Where a piece's commitment and witness begin: they end the block before the record.
pub const POINTS_AT: usize = RECORD_AT - 2 * POINT_SIZE;
