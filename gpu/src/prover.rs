//! Proving chunks: what roles ask for and every backend gives.

use crate::ProverStats;
use async_trait::async_trait;
use consensus::pos::Seed;
use consensus::sector::{Bitfield, DecodeError, ProvedChunk};
use engine::pool::Slab;
use std::time::Instant;

/// A chunk to be proved.
#[derive(Debug)]
pub struct ProofRequest {
    /// Evaluation seed of the piece in its sector.
    pub seed: Seed,
    /// The record as stored, 1 MiB: encoded chunks in s-bucket order, then unencoded ones.
    pub record: Slab,
    /// Which s-buckets the encoded chunks are in.
    pub bitfield: Bitfield,
    /// Where the chunk lies.
    pub s_bucket: u16,
    /// When the result is no longer of use.
    pub deadline: Instant,
}

/// Proves chunks of records.
#[async_trait]
pub trait Prover: Send + Sync {
    /// Decodes the chunk and makes its witness and proof of space. The earliest deadline goes first; a request whose
    /// deadline is over before its work began is dropped. Dropping the future takes a waiting request out of the queue.
    /// The record is not checked against its commitment: a damaged one makes a solution that verification refuses.
    async fn prove(&self, request: ProofRequest) -> Result<ProvedChunk, ProveError>;

    /// Numbers for metrics.
    fn stats(&self) -> ProverStats;
}

/// Why there is no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProveError {
    /// The deadline was over before work on it began.
    #[error("the proof came too late: more proving threads, or a proof-server, would help")]
    Late,
    /// Too many requests wait already.
    #[error("{limit} proofs wait already: more proving threads, or another proof-server, would help")]
    Busy {
        /// Requests that may wait.
        limit: usize,
    },
    /// The record cannot be proved.
    #[error(transparent)]
    Record(#[from] DecodeError),
    /// The prover shuts down, or lost the request to a fault of its own (which is in the log).
    #[error("the request was dropped by the prover")]
    Dropped,
}
