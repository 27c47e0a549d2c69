//! From pieces back to blocks, and from some pieces to all of them (PROTOCOL 4.5).
//!
//! ```text
//! any 128 of 256 pieces ─ reconstruct_segment ─▶ recorded segment ─ BlockReconstructor ─▶ blocks
//!                       └ reconstruct_pieces ──▶ any of the 256, commitments and witnesses computed
//! ```
//!
//! Owns: joining what [`crate::archiver`] cut.
//! Never: checks pieces. Give it verified ones: inconsistent values come out as garbage or as an error.

mod blocks;
mod pieces;

pub use blocks::{BlockReconstructor, BlocksError};
pub use pieces::{ReconstructError, ReconstructedPieces, reconstruct_pieces, reconstruct_segment};
