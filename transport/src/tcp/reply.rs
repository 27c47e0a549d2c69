//! What comes of a request.

use super::link::Received;
use crate::message::{MessageError, Refusal, Response};
use crate::payload::PayloadBuf;
use engine::pool::AcquireError;
use std::net::SocketAddr;
use std::time::Duration;

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No connection; the next attempt is made by a request after `retry_in`.
    #[error("{peer} cannot be reached: {reason}; next attempt in {retry_in:?}")]
    Unreachable {
        /// The peer.
        peer: SocketAddr,
        /// What went wrong last.
        reason: String,
        /// Requests before that fail at once.
        retry_in: Duration,
    },
    /// The peer refused.
    #[error("{peer} refused: {refusal}")]
    Refused {
        /// The peer.
        peer: SocketAddr,
        /// What it says.
        refusal: Refusal,
    },
    /// No answer within the time of the request.
    #[error("{peer} did not answer within {limit:?}")]
    TimedOut {
        /// The peer.
        peer: SocketAddr,
        /// The time it had.
        limit: Duration,
    },
    /// The connection ended before the answer.
    #[error("connection to {peer} ended before the answer: {reason}")]
    Lost {
        /// The peer.
        peer: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The peer is about to end.
    #[error("{peer} is leaving and takes no new requests")]
    Leaving {
        /// The peer.
        peer: SocketAddr,
    },
    /// No memory for the answer.
    #[error(transparent)]
    Memory(#[from] AcquireError),
    /// The request itself is wrong.
    #[error("request is wrong: {0}")]
    Wrong(#[from] MessageError),
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// It fits the request.
    pub response: Response,
    /// Its payload, if it has one.
    pub payload: Option<Received>,
}

impl Reply {
    /// Whether the payload has the hash that the response names. Costs a pass over the bytes.
    pub fn is_intact(&self) -> bool {
        let hash = self.payload.as_ref().map(|payload| payload.blake3());
        hash.as_ref() == self.response.blake3()
    }
}
