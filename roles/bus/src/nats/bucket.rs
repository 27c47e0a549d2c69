//! A bucket as a JetStream stream with one message a key, laid out as every NATS client lays out key-value buckets.

use super::streams::{Streams, WriteError};
use crate::names::{check_filter, check_name, check_size};
use crate::{Bucket, BucketConfig, BusError, Entry, Expect, Watch, WatchEvent};
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use async_nats::jetstream::stream::{Config, DirectGetErrorKind, DiscardPolicy, Stream};
use async_nats::jetstream::{Context, Message};
use async_nats::{Client, HeaderMap, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use std::time::Duration;

/// Header that marks a deletion, and its values.
const OPERATION: &str = "KV-Operation";
const DELETED: [&str; 2] = ["DEL", "PURGE"];
/// How often the server says that a watch has nothing new.
const IDLE_HEARTBEAT: Duration = Duration::from_secs(5);
/// A watch that heard nothing for this long is made anew.
const SILENCE: Duration = Duration::from_secs(12);
/// Pause after a failed attempt to make a watch anew.
const WATCH_PAUSE: Duration = Duration::from_millis(200);

#[derive(Clone)]
pub(super) struct NatsBucket {
    client: Client,
    streams: Streams,
    config: BucketConfig,
    stream: Stream,
}

impl NatsBucket {
    pub(super) async fn open(
        client: Client,
        streams: Streams,
        config: BucketConfig,
    ) -> Result<Self, BusError> {
        let stream = ensure_stream(&streams, &config).await?;
        Ok(Self { client, streams, config, stream })
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.config.name)
    }

    /// The last change of a key: revision, and the value unless it was deleted.
    async fn last_change(&self, key: &str) -> Result<Option<(u64, Option<Bytes>)>, BusError> {
        check_name(key)?;
        match self.stream.direct_get_last_for_subject(self.subject(key)).await {
            Ok(message) => {
                let value = (!is_deletion(&message.headers)).then_some(message.payload);
                Ok(Some((message.sequence, value)))
            }
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(BusError::unavailable(&self.what(key), &error)),
        }
    }

    async fn write_at(&self, key: &str, value: Option<Bytes>, last: Option<u64>) -> Result<u64, BusError> {
        let mut headers = HeaderMap::new();
        if value.is_none() {
            headers.insert(OPERATION, DELETED[0]);
        }
        if let Some(revision) = last {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
        }
        match self.streams.write(&self.subject(key), headers, value.unwrap_or_default()).await {
            Ok(revision) => Ok(revision),
            Err(WriteError::WrongSequence | WriteError::Occupied) => Err(self.conflict(key)),
            Err(WriteError::Other(error)) => Err(error),
        }
    }

    fn conflict(&self, key: &str) -> BusError {
        BusError::Conflict { bucket: self.config.name.clone(), key: key.to_owned() }
    }

    fn what(&self, key: &str) -> String {
        format!("bucket `{}`, key `{key}`", self.config.name)
    }
}

async fn ensure_stream(streams: &Streams, config: &BucketConfig) -> Result<Stream, BusError> {
    let name = &config.name;
    let settings = Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        max_age: config.max_age.unwrap_or_default(),
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    };
    streams.ensure(&settings, format!("kv del {name}")).await
}

fn is_deletion(headers: &HeaderMap) -> bool {
    headers.get(OPERATION).is_some_and(|operation| DELETED.contains(&operation.as_str()))
}

#[async_trait]
impl Bucket for NatsBucket {
    async fn get(&self, key: &str) -> Result<Option<Entry>, BusError> {
        let Some((revision, value)) = self.last_change(key).await? else { return Ok(None) };
        Ok(value.map(|value| Entry { key: key.to_owned(), value, revision }))
    }

    async fn write(&self, key: &str, value: Option<Bytes>, expect: Expect) -> Result<u64, BusError> {
        check_name(key)?;
        check_size(key, value.as_ref().unwrap_or(&Bytes::new()))?;
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

    async fn watch(&self, filter: &str) -> Result<Watch, BusError> {
        check_filter(filter)?;
        let mut follower = Follower::new(self.clone(), filter);
        follower.live = Some(follower.attach().await?);
        Ok(Watch::new(futures::stream::unfold(follower, |mut follower| async {
            let event = follower.next().await;
            Some((event, follower))
        })))
    }
}

/// One watch. It reads an ephemeral ordered consumer of its own and makes a new one, from the last revision seen,
/// whenever the old one may have missed something: after a reconnect, a gap, or silence.
struct Follower {
    bucket: NatsBucket,
    filter: String,
    /// Everything up to this revision has been delivered.
    seen: u64,
    /// Last revision when the watch began. Nobody need hear of what was deleted before.
    began_at: Option<u64>,
    /// When the stream was made; another one starts its revisions anew.
    created: Option<String>,
    is_ready: bool,
    live: Option<Live>,
}

/// The consumer being read.
struct Live {
    messages: async_nats::Subscriber,
    context: Context,
    connected: tokio::sync::watch::Receiver<u64>,
    /// Messages received from it.
    received: u64,
    /// Messages it still has to deliver.
    pending: u64,
}

/// Why a consumer cannot be read on.
struct Broken;

impl Follower {
    fn new(bucket: NatsBucket, filter: &str) -> Self {
        let filter = filter.to_owned();
        Self { bucket, filter, seen: 0, began_at: None, created: None, is_ready: false, live: None }
    }

    async fn next(&mut self) -> WatchEvent {
        loop {
            let Some(live) = &mut self.live else {
                match self.attach().await {
                    Ok(live) => self.live = Some(live),
                    Err(error) => {
                        tracing::warn!(bucket = self.bucket.config.name, "watch interrupted: {error}");
                        tokio::time::sleep(WATCH_PAUSE).await;
                    }
                }
                continue;
            };
            if live.pending == 0 && !self.is_ready {
                self.is_ready = true;
                return WatchEvent::Ready;
            }
            match live.receive().await {
                Ok(Some(change)) => {
                    if let Some(event) = self.event(change) {
                        return event;
                    }
                }
                Ok(None) => {}
                Err(Broken) => self.live = None,
            }
        }
    }

    /// Makes a consumer that delivers everything after `seen`.
    async fn attach(&mut self) -> Result<Live, BusError> {
        let mut connected = self.bucket.streams.connected.clone();
        connected.mark_unchanged();
        let stream = ensure_stream(&self.bucket.streams, &self.bucket.config).await?;
        let info = stream.cached_info();
        let created = info.created.to_string();
        let is_another = self.created.as_ref().is_some_and(|known| *known != created);
        if is_another || info.state.last_sequence < self.seen {
            tracing::warn!(
                bucket = self.bucket.config.name,
                "the bucket was made anew, reading it from its start"
            );
            self.seen = 0;
        }
        self.began_at.get_or_insert(info.state.last_sequence);
        self.created = Some(created);
        let inbox = self.bucket.client.new_inbox();
        let messages = self.bucket.client.subscribe(inbox.clone()).await.map_err(|_| BusError::Closed)?;
        let consumer = stream.create_consumer(self.consumer_config(inbox)).await;
        let consumer =
            consumer.map_err(|error| BusError::unavailable(&self.bucket.what(&self.filter), &error))?;
        let pending = consumer.cached_info().num_pending;
        let context = self.bucket.streams.context.clone();
        Ok(Live { messages, context, connected, received: 0, pending })
    }

    fn consumer_config(&self, deliver_subject: String) -> push::Config {
        let deliver_policy = match self.seen {
            0 => DeliverPolicy::LastPerSubject,
            seen => DeliverPolicy::ByStartSequence { start_sequence: seen + 1 },
        };
        push::Config {
            deliver_subject,
            deliver_policy,
            filter_subject: self.bucket.subject(&self.filter),
            ack_policy: AckPolicy::None,
            idle_heartbeat: IDLE_HEARTBEAT,
            num_replicas: 1,
            memory_storage: true,
            ..push::Config::default()
        }
    }

    fn event(&mut self, change: Change) -> Option<WatchEvent> {
        let Change { subject, revision, value } = change;
        self.seen = revision;
        let key = subject.strip_prefix(&self.bucket.subject(""))?.to_owned();
        match value {
            Some(value) => Some(WatchEvent::Put(Entry { key, value, revision })),
            None if self.began_at.is_none_or(|began_at| revision > began_at) => {
                Some(WatchEvent::Delete { key, revision })
            }
            None => None,
        }
    }
}

/// A change as read from a consumer.
struct Change {
    subject: String,
    revision: u64,
    value: Option<Bytes>,
}

impl Live {
    /// The next change, nothing after an idle heartbeat.
    async fn receive(&mut self) -> Result<Option<Change>, Broken> {
        let message = tokio::select! {
            biased;
            _ = self.connected.changed() => return Err(Broken),
            message = tokio::time::timeout(SILENCE, self.messages.next()) => message,
        };
        let Ok(Some(message)) = message else { return Err(Broken) };
        if message.status == Some(StatusCode::IDLE_HEARTBEAT) {
            return self.heard_idle(message.headers.as_ref());
        }
        let message = Message { message, context: self.context.clone() };
        let info = message.info().map_err(|_| Broken)?;
        self.received += 1;
        if info.consumer_sequence != self.received {
            return Err(Broken);
        }
        self.pending = info.pending;
        let is_deleted = message.headers.as_ref().is_some_and(is_deletion);
        let value = (!is_deleted).then(|| message.payload.clone());
        Ok(Some(Change { subject: message.subject.to_string(), revision: info.stream_sequence, value }))
    }

    /// The consumer has nothing to deliver; what it delivered must have come here.
    fn heard_idle(&mut self, headers: Option<&HeaderMap>) -> Result<Option<Change>, Broken> {
        let last = headers.and_then(|headers| headers.get("Nats-Last-Consumer"));
        let delivered: u64 = last.and_then(|last| last.as_str().parse().ok()).ok_or(Broken)?;
        if delivered != self.received {
            return Err(Broken);
        }
        self.pending = 0;
        Ok(None)
    }
}
