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

use chacha20::ChaCha8;
use chacha20::cipher::{KeyIvInit, StreamCipher};

/// Overwrites `zeros` with the ChaCha8 stream of `seed` (nonce and counter from zero): what the network extends its first block
/// with, so that segment 0 is full at once (PROTOCOL 11).
pub fn extend_first_block(seed: &[u8; 32], zeros: &mut [u8]) {
    ChaCha8::new(seed.into(), &[0; 12].into()).apply_keystream(zeros);
}

#[cfg(test)]
mod tests;
