//! Durable writes: to a stream that may have to be made anew, with an answer or the word that there is none.

use super::streams::{Known, Streams};
use crate::BusError;
use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use bytes::Bytes;

/// Error code of a store that refuses, with the reason in words.
const STREAM_STORE_FAILED: u64 = 10077;

/// Why a durable write failed, before the caller says what it means.
pub(super) enum WriteError {
    /// The expected sequence was not the last.
    WrongSequence,
    /// The subject holds a message already.
    Occupied,
    /// Nobody takes writes to that subject: the stream is gone, or has no leader. Nothing was written.
    Nobody(BusError),
    /// Anything else.
    Other(BusError),
}

/// Writes, and returns the sequence. A stream that is gone is made anew.
pub(super) async fn write(
    streams: &Streams,
    known: &Known,
    subject: &str,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<u64, WriteError> {
    match write_once(streams, subject, headers.clone(), payload.clone()).await {
        Err(WriteError::Nobody(_)) => {
            streams.ensure(known).await.map_err(WriteError::Other)?;
            write_once(streams, subject, headers, payload).await
        }
        done => done,
    }
}

async fn write_once(
    streams: &Streams,
    subject: &str,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<u64, WriteError> {
    streams.check_connected(subject).map_err(WriteError::Other)?;
    let sent = streams.context().publish_with_headers(subject.to_owned(), headers, payload).await;
    let acked = match sent {
        Ok(ack) => ack.await,
        Err(error) => Err(error),
    };
    acked.map(|ack| ack.sequence).map_err(|error| WriteError::from_publish(subject, &error))
}

impl WriteError {
    fn from_publish(subject: &str, error: &PublishError) -> Self {
        let refusal =
            std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
        match (error.kind(), refusal) {
            (PublishErrorKind::WrongLastSequence, _) => Self::WrongSequence,
            (_, Some(refusal)) if is_occupied(refusal) => Self::Occupied,
            (PublishErrorKind::StreamNotFound, _) => Self::Nobody(BusError::unavailable(subject, error)),
            (PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe, _) => {
                Self::Other(BusError::OutcomeUnknown {
                    subject: subject.to_owned(),
                    reason: error.to_string(),
                })
            }
            _ => Self::Other(BusError::unavailable(subject, error)),
        }
    }
}

fn is_occupied(refusal: &jetstream::Error) -> bool {
    refusal.error_code().0 == STREAM_STORE_FAILED && refusal.to_string().contains("per subject")
}
