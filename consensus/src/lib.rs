//! What the Autonomys network agrees on, bit for bit.
//!
//! ```text
//!  blocks ─ archiver ─▶ segment ─ pieces ─▶ encode (proof of space ⊕ erasure code) ─▶ sector
//!                                                                                       │ one s-bucket a slot
//!  node ◀─ verify ◀─ solution ◀─ prove (chunk, KZG witness, proof of space) ◀─ audit ◀──┘
//! ```
//!
//! Owns: every rule, derivation and byte format of the farming path (PROTOCOL sections 0 to 7).
//! Never: I/O, a clock, async code, or threads of its own. Work that can be spread takes a [`Workers`].
//! Input from outside is an error value when it is bad, never a panic.
#![deny(missing_docs)]

pub mod archiver;
pub mod audit;
pub mod bls;
pub mod challenge;
mod columns;
pub mod constants;
pub mod cpu;
pub mod erasure;
pub mod fft;
mod field;
pub mod identity;
pub mod kzg;
mod lanes;
mod parallel;
pub mod piece;
pub mod piece_set;
pub mod piece_verify;
pub mod pos;
pub mod reconstruct;
pub mod sector;
pub mod segment;
mod simd;
pub mod solution;
pub mod solution_range;
pub mod verify;
pub mod workers;

pub use cpu::CpuLevel;
pub use workers::{Serial, Workers};
