//! From blocks to segments, and from segments to pieces (PROTOCOL 4.2 and 4.4).
//!
//! ```text
//! blocks ─ add_block ─▶ Archiver ─ cut ─▶ RecordedSegment ─ archive_segment ─▶ 256 pieces + header
//!                          ▲                                                          │
//!                          └──────────────────────── seal ────────────────────────────┘
//! ```
//!
//! Owns: where blocks are cut, and the commitments, parity and witnesses of a segment.
//! Never: stores anything. What a caller keeps over a restart is the last header and the block it ends in.

mod archive;
mod cut;

pub use archive::{NewArchivedSegment, archive_segment};
pub(crate) use archive::{SegmentPolynomial, commit_record};
pub use cut::{Archiver, ArchiverError, RecordedSegment};

#[cfg(test)]
mod tests;
