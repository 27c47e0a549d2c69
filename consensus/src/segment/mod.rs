//! Segments: the byte format of recorded history and of its headers (PROTOCOL 4.1 and 4.3).
//!
//! ```text
//! recorded segment, 130 023 424 B
//! │ 0 │ 4, parent header │ 3, continuation │ 1, block │ … │ 2, start of a block │ zeros │
//!   version  (not in segment 0)                          (what did not fit comes first in the next segment)
//! ```
//!
//! Owns: items and headers, to and from bytes.
//! Never: decides where blocks are cut ([`crate::archiver`]) or joins them again ([`crate::reconstruct`]).

mod compact;
mod header;
mod items;

pub(crate) use compact::compact_size;
pub use header::{ArchivedProgress, HeaderError, LastArchivedBlock, SegmentHeader};
pub use items::{SegmentError, SegmentItem, SegmentItems};
pub(crate) use items::{
    TAG_BLOCK, TAG_BLOCK_CONTINUATION, TAG_BLOCK_START, TAG_PARENT_HEADER, VERSION, push_block_item,
};

/// Longest block (bytes) an archiver takes: the most a 4-byte compact length can say.
pub const MAX_BLOCK_SIZE: usize = (1 << 30) - 1;
