//! JetStream streams: made or found, checked, written to. Queues and buckets are both streams.

use crate::BusError;
use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use tokio::sync::watch;

/// Error code of a store that refuses, with the reason in words.
const STREAM_STORE_FAILED: u64 = 10077;

/// Access to the streams of one connection.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) context: Context,
    /// Counts connections made.
    pub(super) connected: watch::Receiver<u64>,
    pub(super) replicas: usize,
}

impl Streams {
    /// The stream with these settings, made if it is not there. `remove` is the command that would remove it.
    pub(super) async fn ensure(&self, wanted: &Config, remove: String) -> Result<Stream, BusError> {
        let wanted = Config { num_replicas: self.replicas, ..wanted.clone() };
        let what = format!("stream `{}`", wanted.name);
        let stream = self.context.get_or_create_stream(wanted.clone()).await;
        let stream = stream.map_err(|error| BusError::unavailable(&what, &error))?;
        match difference(&stream.cached_info().config, &wanted) {
            None => Ok(stream),
            Some((found, wanted)) => Err(BusError::Mismatch { what, found, wanted, remove }),
        }
    }

    /// A durable write; returns its sequence.
    pub(super) async fn write(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<u64, WriteError> {
        let sent = self.context.publish_with_headers(subject.to_owned(), headers, payload).await;
        let acked = match sent {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        acked.map(|ack| ack.sequence).map_err(|error| WriteError::from_publish(subject, &error))
    }
}

/// Why a durable write failed, before the caller says what it means.
pub(super) enum WriteError {
    /// The expected sequence was not the last.
    WrongSequence,
    /// The subject holds a message already.
    Occupied,
    /// Anything else.
    Other(BusError),
}

impl WriteError {
    fn from_publish(subject: &str, error: &PublishError) -> Self {
        let refusal =
            std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
        match (error.kind(), refusal) {
            (PublishErrorKind::WrongLastSequence, _) => Self::WrongSequence,
            (_, Some(refusal)) if is_occupied(refusal) => Self::Occupied,
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

/// The first setting that matters and differs: as found, as wanted. Copies, placement and limits on size are the
/// operator's own affair.
fn difference(found: &Config, wanted: &Config) -> Option<(String, String)> {
    macro_rules! compare {
        ($($field:ident),*) => {
            $(if found.$field != wanted.$field {
                let name = stringify!($field);
                return Some((format!("{name} {:?}", found.$field), format!("{name} {:?}", wanted.$field)));
            })*
        };
    }
    compare!(
        subjects,
        retention,
        max_messages_per_subject,
        discard,
        discard_new_per_subject,
        max_age,
        allow_direct,
        allow_rollup
    );
    None
}
