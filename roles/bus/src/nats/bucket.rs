//! A bucket as a JetStream stream with one message a key, laid out as every NATS client lays out key-value buckets.

use super::keys::{DELETED, Keys, OPERATION, is_deletion};
use super::streams::Streams;
use super::watch::Follower;
use super::writes::{self, WriteError};
use crate::names::{check_filters, check_name};
use crate::{Bucket, BucketConfig, BusError, Entry, Expect, Watch};
use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Config, DirectGetError, DirectGetErrorKind, DiscardPolicy};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

/// Attempts at one write whose answer does not come, each waited for as long as the options say.
const WRITE_ATTEMPTS: u32 = 2;

pub(super) struct NatsBucket(Keys);

impl NatsBucket {
    pub(super) async fn open(streams: Streams, config: &BucketConfig) -> Result<Self, BusError> {
        let name = config.name.clone();
        let known = streams.open(settings(config), format!("kv del {name}")).await?;
        Ok(Self(Keys { streams, known, name }))
    }

    /// The last change of a key: revision, and the value unless it was deleted. Of a bucket in several copies perhaps not
    /// the very last: only a write tells that.
    async fn last_change(&self, key: &str) -> Result<Option<(u64, Option<Bytes>)>, BusError> {
        check_name(key)?;
        let mut got = self.direct_get(key).await?;
        if matches!(&got, Err(error) if error.kind() == DirectGetErrorKind::TimedOut) {
            // Perhaps it went to a server that has just died; the others have copies.
            got = self.direct_get(key).await?;
        }
        if matches!(&got, Err(error) if may_be_gone(error)) {
            self.0.streams.ensure(&self.0.known).await?;
            got = self.direct_get(key).await?;
        }
        match got {
            Ok(message) => {
                let value = (!is_deletion(&message.headers)).then_some(message.payload);
                Ok(Some((message.sequence, value)))
            }
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(BusError::unavailable(&self.0.what(key), &error)),
        }
    }

    async fn direct_get(&self, key: &str) -> Result<Result<StreamMessage, DirectGetError>, BusError> {
        let what = self.0.what(key);
        self.0.streams.check_connected(&what)?;
        let stream = self.0.streams.context().get_stream_no_info(self.0.known.name()).await;
        let stream = stream.map_err(|error| BusError::unavailable(&what, &error))?;
        Ok(stream.direct_get_last_for_subject(self.0.subject(key)).await)
    }

    /// One write. Its answer is asked for again by writing again: what was written already is recognised by its revision.
    async fn write_at(&self, key: &str, value: Option<Bytes>, last: Option<u64>) -> Result<u64, BusError> {
        let mut done = self.write_once(key, value.clone(), last).await;
        for _ in 1..WRITE_ATTEMPTS {
            let Err(unknown @ BusError::OutcomeUnknown { .. }) = done else { break };
            done = self.write_once(key, value.clone(), last).await;
            if let (Err(BusError::Conflict { .. }), Some(last)) = (&done, last) {
                return self.written_before(key, &value, last).await.ok_or(unknown);
            }
        }
        done
    }

    /// The revision of an earlier attempt that did arrive.
    async fn written_before(&self, key: &str, value: &Option<Bytes>, last: u64) -> Option<u64> {
        let (revision, found) = self.last_change(key).await.ok()??;
        (revision > last && found == *value).then_some(revision)
    }

    async fn write_once(&self, key: &str, value: Option<Bytes>, last: Option<u64>) -> Result<u64, BusError> {
        let mut headers = HeaderMap::new();
        if value.is_none() {
            headers.insert(OPERATION, DELETED[0]);
        }
        if let Some(revision) = last {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
        }
        let (subject, payload) = (self.0.subject(key), value.unwrap_or_default());
        match writes::write(&self.0.streams, &self.0.known, &subject, headers, payload).await {
            Ok(revision) => Ok(revision),
            Err(WriteError::WrongSequence | WriteError::Occupied) => Err(self.conflict(key)),
            Err(WriteError::Nobody(error) | WriteError::Other(error)) => Err(error),
        }
    }

    fn conflict(&self, key: &str) -> BusError {
        BusError::Conflict { bucket: self.0.name.clone(), key: key.to_owned() }
    }
}

fn settings(config: &BucketConfig) -> Config {
    let name = &config.name;
    Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        max_age: config.max_age.unwrap_or_default(),
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    }
}

/// Whether an error of a read may come from a stream that is not there: then nobody answers, at once or in time.
fn may_be_gone(error: &DirectGetError) -> bool {
    !matches!(error.kind(), DirectGetErrorKind::NotFound | DirectGetErrorKind::InvalidSubject)
}

#[async_trait]
impl Bucket for NatsBucket {
    async fn get(&self, key: &str) -> Result<Option<Entry>, BusError> {
        let Some((revision, value)) = self.last_change(key).await? else { return Ok(None) };
        Ok(value.map(|value| Entry { key: key.to_owned(), value, revision }))
    }

    async fn write(&self, key: &str, value: Option<Bytes>, expect: Expect) -> Result<u64, BusError> {
        check_name(key)?;
        let last = match expect {
            Expect::Any => None,
            Expect::Revision(revision) => Some(revision),
            Expect::Absent => Some(0),
        };
        let done = self.write_at(key, value.clone(), last).await;
        if !matches!((&done, expect), (Err(BusError::Conflict { .. }), Expect::Absent)) {
            return done;
        }
        // A deleted key still has a last revision: its deletion.
        match self.last_change(key).await? {
            Some((revision, None)) => self.write_at(key, value, Some(revision)).await,
            _ => done,
        }
    }

    async fn watch_any(&self, filters: &[String]) -> Result<Watch, BusError> {
        check_filters(filters)?;
        let follower = Follower::new(self.0.clone(), filters);
        Ok(Watch::new(futures::stream::unfold(follower, |mut follower| async {
            let event = follower.next().await;
            Some((event, follower))
        })))
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.0.known.generation.subscribe()
    }
}
