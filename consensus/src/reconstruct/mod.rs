//! From pieces back to blocks, and from some pieces to all of them (PROTOCOL 4.5).
//!
//! ```text
//! any 128 of 256 pieces ─▶ 128 source records ─▶ recorded segment ─▶ blocks
//!                       └▶ all 256 records ─ commitments, witnesses ─▶ pieces
//! ```
//!
//! Owns: joining what [`crate::archiver`] cut.
//! Never: checks pieces. Give it verified ones: inconsistent values come out as garbage or as an error.

mod blocks;

pub use blocks::{BlockReconstructor, BlocksError};
