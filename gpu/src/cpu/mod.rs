//! The CPU as a backend: threads that encode and threads that prove, each with its own tables.

mod assembly;
mod buffers;
mod encoder;
mod prover;

pub use encoder::{CpuEncoder, CpuEncoderOptions, session_slabs};
pub use prover::{CpuProver, CpuProverOptions};

/// Memory of one worker that encodes, at most: a [`consensus::sector::RecordEncoder`] (119 MiB where measured, of which 113 are the tables of a
/// seed), the thread's stack, and what the allocator keeps. One that proves has tables of the same size.
pub const WORKER_BYTES: usize = 128 << 20;

/// Why a backend cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// More slabs than the pool has.
    #[error("plotting may use {wanted} buffers of 2 MiB, but the pool has {available}: make the pool larger")]
    Memory {
        /// Slabs that the encoder was to use.
        wanted: usize,
        /// Slabs of the pool.
        available: usize,
    },
    /// No thread.
    #[error("cannot start threads: {0}; raise the limit of threads (ulimit -u)")]
    Thread(#[from] std::io::Error),
}
