//! A work queue as a JetStream stream with one durable pull consumer a group.

use super::streams::{Known, Streams};
use super::writes::{self, WriteError};
use crate::names::{check_queue_subject, check_token};
use crate::{BusError, Delivery, Queue, QueueConfig, Settle, Settlement};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy};
use async_nats::jetstream::{AckKind, Message};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Messages of one group in flight at once; far above the sectors its servers can encode.
const MAX_IN_FLIGHT: i64 = 4096;
/// How much longer than the server we wait for its "nothing there".
const PULL_GRACE: Duration = Duration::from_secs(2);

pub(super) struct NatsQueue {
    streams: Streams,
    known: Arc<Known>,
    config: QueueConfig,
    consumers: Mutex<HashMap<String, PullConsumer>>,
}

fn settings(name: &str) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>")],
        retention: RetentionPolicy::WorkQueue,
        // One message a subject, the second refused: that is the whole de-duplication. Message ids would keep
        // an acknowledged job from running again for two minutes.
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        discard_new_per_subject: true,
        ..Config::default()
    }
}

impl NatsQueue {
    pub(super) async fn open(streams: Streams, config: QueueConfig) -> Result<Self, BusError> {
        let name = &config.name;
        let known = streams.open_soon(settings(name), format!("stream rm {name}")).await?;
        Ok(Self { streams, known, config, consumers: Mutex::default() })
    }

    /// The group's consumer, made with its stream if they are not there.
    async fn consumer(&self, group: &str) -> Result<PullConsumer, BusError> {
        if let Some(consumer) = self.known_consumers().get(group) {
            return Ok(consumer.clone());
        }
        let wanted = pull::Config {
            durable_name: Some(group.to_owned()),
            filter_subject: format!("{}.{group}.>", self.config.name),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.config.ack_wait,
            max_ack_pending: MAX_IN_FLIGHT,
            ..pull::Config::default()
        };
        let what = format!("consumer `{group}` of stream `{}`", self.config.name);
        let stream = self.streams.ensure(&self.known).await?;
        let consumer = stream.get_or_create_consumer(group, wanted).await;
        let consumer = consumer.map_err(|error| BusError::unavailable(&what, &error))?;
        let found = consumer.cached_info().config.ack_wait;
        if found != self.config.ack_wait {
            return Err(BusError::Mismatch {
                what,
                found: format!("ack_wait {found:?}"),
                wanted: format!("ack_wait {:?}", self.config.ack_wait),
                remove: format!("consumer rm {} {group}", self.config.name),
            });
        }
        self.known_consumers().insert(group.to_owned(), consumer.clone());
        Ok(consumer)
    }

    fn known_consumers(&self) -> std::sync::MutexGuard<'_, HashMap<String, PullConsumer>> {
        self.consumers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// One message of a group; `None` when the server said in time that there is none.
    async fn pull_one(&self, group: &str, max_wait: Duration) -> Result<Option<Message>, BusError> {
        let what = format!("pull from group `{group}`");
        self.streams.check_connected(&what)?;
        let mut connected = self.streams.connected();
        connected.mark_unchanged();
        let consumer = self.consumer(group).await?;
        let failed = |error: async_nats::Error| BusError::unavailable(&what, error.as_ref());
        let batch = if max_wait.is_zero() {
            consumer.fetch().max_messages(1).messages().await
        } else {
            consumer.batch().max_messages(1).expires(max_wait).messages().await
        };
        let mut batch = batch.map_err(|error| BusError::unavailable(&what, &error))?;
        let no_answer =
            |reason: &str| BusError::Unavailable { what: what.clone(), reason: reason.to_owned() };
        tokio::select! {
            biased;
            message = batch.next() => message.transpose().map_err(failed),
            // What was asked of another server, or of one before its restart, is not answered any more.
            _ = connected.changed() => Err(no_answer("the connection was lost meanwhile")),
            () = tokio::time::sleep(max_wait + PULL_GRACE) => Err(no_answer("the server does not answer")),
        }
    }
}

#[async_trait]
impl Queue for NatsQueue {
    async fn push(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_queue_subject(&self.config.name, subject)?;
        match writes::write(&self.streams, &self.known, subject, HeaderMap::new(), payload).await {
            Ok(_) => Ok(()),
            Err(WriteError::Occupied) => Err(BusError::AlreadyQueued { subject: subject.to_owned() }),
            Err(WriteError::WrongSequence) => Err(BusError::Unavailable {
                what: subject.to_owned(),
                reason: "the server compared a sequence nobody gave".to_owned(),
            }),
            Err(WriteError::Nobody(error) | WriteError::Other(error)) => Err(error),
        }
    }

    async fn pull(&self, group: &str, max_wait: Duration) -> Result<Option<Delivery>, BusError> {
        check_token(group)?;
        let give_up_at = Instant::now() + max_wait;
        let mut message = self.pull_one(group, max_wait).await;
        if matches!(message, Err(BusError::Unavailable { .. })) {
            // Perhaps the consumer was removed, or its store lost: it is made anew.
            self.known_consumers().remove(group);
            let left = give_up_at.saturating_duration_since(Instant::now());
            message = self.pull_one(group, left).await;
        }
        if message.is_err() {
            self.known_consumers().remove(group);
        }
        message?.map(delivery).transpose()
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.known.generation.subscribe()
    }
}

fn delivery(message: Message) -> Result<Delivery, BusError> {
    let info = message.info().map_err(|error| BusError::unavailable("job delivery", error.as_ref()))?;
    let delivery_count = u64::try_from(info.delivered).unwrap_or(1);
    let (subject, payload) = (message.subject.to_string(), message.payload.clone());
    Ok(Delivery { subject, payload, delivery_count, handle: Box::new(Handle(message)) })
}

struct Handle(Message);

#[async_trait]
impl Settle for Handle {
    async fn settle(&self, settlement: Settlement) -> Result<(), BusError> {
        let unknown = |error: async_nats::Error| BusError::OutcomeUnknown {
            subject: self.0.subject.to_string(),
            reason: error.to_string(),
        };
        match settlement {
            Settlement::Ack => self.0.double_ack().await.map_err(unknown),
            Settlement::Progress => self.0.ack_with(AckKind::Progress).await.map_err(unknown),
            Settlement::Nak(delay) => self.0.ack_with(AckKind::Nak(Some(delay))).await.map_err(unknown),
        }
    }
}
