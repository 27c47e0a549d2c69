//! The seam between the roles and whatever encodes sectors and proves chunks.
//!
//! ```text
//!   pieces ──▶ buffer() ─▶ RecordBuffer ─▶ submit() ─┐ in any order                  stored record ──▶ prove()
//!              (credit)    1 MiB, pool               ▼                               s-bucket, deadline   │
//!                                     ┌── workers or streams ──┐                                         ▼
//!   FinishedSector ◀── finish() ◀─────│ table, extension, XOR  │              chunk, witness, proof of space
//!   slabs in on-disk order            └────────────────────────┘
//! ```
//!
//! Owns: [`SectorEncoder`] and [`Prover`], the rules every backend keeps, and the backends: [`cpu`].
//! Never: files, sockets, where pieces come from or where sectors go; formats, which belong to `consensus`.
//!
//! All memory that crosses the seam is the engine's pool, so that a backend may register it with its device once.
#![deny(missing_docs)]
#![deny(unsafe_code)]

mod buffers;
pub mod cpu;
mod encoder;
mod finished;
mod prover;
mod stats;

pub use buffers::{BufferError, RecordBuffer};
pub use encoder::{
    BeginError, EncodingSession, FinishError, PieceError, PieceToEncode, SectorEncoder, SectorPlan,
};
pub use finished::{FinishedSector, SectorError};
pub use prover::{ProofRequest, ProveError, Prover};
pub use stats::{EncoderStats, ProverStats, WorkerStats};
