//! The CPU as a backend: threads that encode and threads that prove, each with its own tables.

mod assembly;
mod buffers;
mod encoder;
mod prover;
mod queue;
mod session;
mod workers;

pub use encoder::{CpuEncoder, CpuEncoderOptions, session_slabs};
pub use prover::{CpuProver, CpuProverOptions};

/// Memory of one worker, encoding or proving: the tables of one seed, and a record on its way.
pub const WORKER_BYTES: usize = 115 << 20;

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
