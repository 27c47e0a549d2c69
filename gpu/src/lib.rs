//! The seam between the roles and whatever encodes sectors and proves chunks.
//!
//! ```text
//!   credit() ─▶ piece fetched into a slab ─▶ submit() ─┐ in any order                stored record ──▶ prove()
//!                                                      ▼                             s-bucket, deadline   │
//!                                     ┌── workers or streams ──┐                                          ▼
//!   FinishedSector ◀── finish() ◀─────│ table, extension, XOR  │              chunk, witness, proof of space
//!   slabs in on-disk order            └────────────────────────┘
//! ```
//!
//! Owns: [`SectorEncoder`] and [`Prover`], the rules every backend keeps, and the backends: [`cpu`] and [`card`].
//! Never: files, sockets, where pieces come from or where sectors go; formats, which belong to `consensus`.
//!
//! All big memory that crosses the seam is the engine's pool, so that a backend may register it with its device once.
#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod card;
pub mod cpu;
pub mod device;
mod encoder;
mod finished;
pub mod interface;
pub mod known;
pub mod measure;
mod meter;
mod prover;
mod proving;
mod queue;
mod session;
mod stats;
pub mod workbench;
mod workers;

pub use encoder::{
    BeginError, Credit, EncodingSession, PieceError, PieceToEncode, SectorEncoder, SectorPlan,
};
pub use finished::{FinishError, FinishedSector, SectorError};
pub use prover::{ProofRequest, ProveError, Prover};
pub use stats::{CardStats, EncoderStats, ProverStats, WorkerStats};
