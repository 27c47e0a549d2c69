//! One cluster's part of a backend: everything in envelopes, every name under the cluster's.
//!
//! ```text
//!   subject  slot      ─▶  NAME.slot              bucket  members  ─▶  NAME_members
//!   queue    plot      ─▶  NAME_plot              payload ─▶ envelope of NAME (control::envelope)
//! ```
//! Owns: that two clusters on one NATS account do not hear each other, and that what cannot be read does no harm: a message is
//! skipped, a job that is none removed, one of a newer release left to others, a damaged value absent until somebody writes it
//! anew. Never: a judgement on what the payload says.

use super::names::{check_filter, check_name, check_queue_subject, check_size, check_token};
use super::told::Rarely;
use super::{
    Bucket, BucketConfig, Bus, BusError, Delivery, Entry, Expect, Message, Queue, QueueConfig, Subscription,
    Watch, WatchEvent,
};
use async_trait::async_trait;
use bytes::Bytes;
use control::envelope::{self, ClusterName, EnvelopeError};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a job of a newer release is left alone by one that cannot read it.
const LEAVE_FOR: Duration = Duration::from_secs(5);
/// Subjects of answers; their names are the backend's own.
const INBOX: &str = "_INBOX.";

/// One cluster's part of a backend.
#[derive(Clone)]
pub(crate) struct Sealed {
    raw: Arc<dyn Bus>,
    seal: Seal,
}

/// The cluster's seal, and what is told of what does not bear it.
#[derive(Clone)]
struct Seal {
    cluster: ClusterName,
    unread: Arc<Rarely>,
}

impl Seal {
    fn seal(&self, payload: &Bytes) -> Bytes {
        envelope::seal(&self.cluster, payload)
    }

    /// What is in the envelope; what cannot be read is told, at most one line a minute.
    fn open(&self, what: &str, bytes: &Bytes) -> Result<Bytes, EnvelopeError> {
        envelope::open(&self.cluster, bytes).inspect_err(|error| {
            if let Some(count) = self.unread.count() {
                tracing::warn!("skipped on `{what}`: {error} ({count} such since the last line)");
            }
        })
    }

    fn subject(&self, subject: &str) -> String {
        if subject.starts_with(INBOX) { subject.to_owned() } else { format!("{}.{subject}", self.cluster) }
    }

    /// Of a bucket or a queue.
    fn token(&self, name: &str) -> String {
        format!("{}_{name}", self.cluster)
    }
}

impl Sealed {
    pub(crate) fn new(raw: Arc<dyn Bus>, cluster: ClusterName) -> Self {
        Self { raw, seal: Seal { cluster, unread: Arc::default() } }
    }

    /// What lies beneath: names and bytes as they are.
    pub(crate) fn raw(&self) -> &Arc<dyn Bus> {
        &self.raw
    }
}

/// Makes a backend's handle the bus of its cluster, by its field `sealed`.
macro_rules! bus_by_seal {
    ($name:ty) => {
        #[async_trait::async_trait]
        impl $crate::Bus for $name {
            async fn publish(&self, subject: &str, payload: bytes::Bytes) -> Result<(), $crate::BusError> {
                self.sealed.publish(subject, payload).await
            }

            async fn subscribe(&self, filter: &str) -> Result<$crate::Subscription, $crate::BusError> {
                self.sealed.subscribe(filter).await
            }

            async fn request(
                &self,
                subject: &str,
                payload: bytes::Bytes,
                timeout: std::time::Duration,
            ) -> Result<bytes::Bytes, $crate::BusError> {
                self.sealed.request(subject, payload, timeout).await
            }

            async fn queue(
                &self,
                config: &$crate::QueueConfig,
            ) -> Result<std::sync::Arc<dyn $crate::Queue>, $crate::BusError> {
                self.sealed.queue(config).await
            }

            async fn bucket(
                &self,
                config: &$crate::BucketConfig,
            ) -> Result<std::sync::Arc<dyn $crate::Bucket>, $crate::BusError> {
                self.sealed.bucket(config).await
            }

            fn cluster(&self) -> control::envelope::ClusterName {
                self.sealed.cluster()
            }

            fn is_connected(&self) -> bool {
                self.sealed.is_connected()
            }
        }
    };
}
pub(crate) use bus_by_seal;

#[async_trait]
impl Bus for Sealed {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_name(subject)?;
        check_size(subject, &payload)?;
        self.raw.publish(&self.seal.subject(subject), self.seal.seal(&payload)).await
    }

    async fn subscribe(&self, filter: &str) -> Result<Subscription, BusError> {
        check_filter(filter)?;
        let raw = self.raw.subscribe(&self.seal.subject(filter)).await?;
        let seal = self.seal.clone();
        Ok(Subscription::new(raw.0.filter_map(move |message| {
            let message = seal.message(message);
            std::future::ready(message)
        })))
    }

    async fn request(&self, subject: &str, payload: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        check_name(subject)?;
        check_size(subject, &payload)?;
        let answer = self.raw.request(&self.seal.subject(subject), self.seal.seal(&payload), timeout).await?;
        // It was delivered, and what came of it is not known.
        self.seal.open(subject, &answer).map_err(|error| BusError::OutcomeUnknown {
            subject: subject.to_owned(),
            reason: format!("the answer cannot be read: {error}"),
        })
    }

    async fn queue(&self, config: &QueueConfig) -> Result<Arc<dyn Queue>, BusError> {
        check_token(&config.name)?;
        let raw = QueueConfig { name: self.seal.token(&config.name), ..config.clone() };
        let raw = self.raw.queue(&raw).await?;
        Ok(Arc::new(SealedQueue { raw, name: config.name.clone(), seal: self.seal.clone() }))
    }

    async fn bucket(&self, config: &BucketConfig) -> Result<Arc<dyn Bucket>, BusError> {
        check_token(&config.name)?;
        let raw = BucketConfig { name: self.seal.token(&config.name), ..config.clone() };
        Ok(Arc::new(SealedBucket { raw: self.raw.bucket(&raw).await?, seal: self.seal.clone() }))
    }

    fn cluster(&self) -> ClusterName {
        self.seal.cluster.clone()
    }

    fn is_connected(&self) -> bool {
        self.raw.is_connected()
    }
}

impl Seal {
    fn message(&self, message: Message) -> Option<Message> {
        let payload = self.open(&message.subject, &message.payload).ok()?;
        let subject = message.subject.strip_prefix(self.cluster.as_str())?.strip_prefix('.')?.to_owned();
        Some(Message { subject, payload, ..message })
    }
}

struct SealedQueue {
    raw: Arc<dyn Queue>,
    name: String,
    seal: Seal,
}

#[async_trait]
impl Queue for SealedQueue {
    async fn push(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_queue_subject(&self.name, subject)?;
        check_size(subject, &payload)?;
        // Its first token is the queue's name.
        self.raw.push(&self.seal.token(subject), self.seal.seal(&payload)).await
    }

    async fn pull(&self, group: &str, max_wait: Duration) -> Result<Option<Delivery>, BusError> {
        let give_up_at = Instant::now() + max_wait;
        loop {
            let left = give_up_at.saturating_duration_since(Instant::now());
            let Some(delivery) = self.raw.pull(group, left).await? else { return Ok(None) };
            match self.seal.open(&delivery.subject, &delivery.payload) {
                Ok(payload) => {
                    let outer = self.seal.token("");
                    let subject =
                        delivery.subject.strip_prefix(&outer).unwrap_or(&delivery.subject).to_owned();
                    return Ok(Some(Delivery { subject, payload, ..delivery }));
                }
                Err(EnvelopeError::OtherRelease { .. }) => delivery.nak(LEAVE_FOR).await?,
                // Else it would come back for ever.
                Err(EnvelopeError::Garbage { .. } | EnvelopeError::OtherCluster { .. }) => {
                    delivery.ack().await?;
                }
            }
        }
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.raw.generation()
    }
}

struct SealedBucket {
    raw: Arc<dyn Bucket>,
    seal: Seal,
}

#[async_trait]
impl Bucket for SealedBucket {
    async fn get(&self, key: &str) -> Result<Option<Entry>, BusError> {
        let Some(entry) = self.raw.get(key).await? else { return Ok(None) };
        match self.seal.open(key, &entry.value) {
            Ok(value) => Ok(Some(Entry { value, ..entry })),
            Err(EnvelopeError::Garbage { .. }) => Ok(None),
            Err(error) => Err(BusError::unavailable(key, &error)),
        }
    }

    async fn write(&self, key: &str, value: Option<Bytes>, expect: Expect) -> Result<u64, BusError> {
        check_name(key)?;
        check_size(key, value.as_ref().unwrap_or(&Bytes::new()))?;
        let value = value.map(|value| self.seal.seal(&value));
        let done = self.raw.write(key, value.clone(), expect).await;
        if !matches!((&done, expect), (Err(BusError::Conflict { .. }), Expect::Absent)) {
            return done;
        }
        // What nobody can read is as good as absent, and is replaced as it was found.
        match self.raw.get(key).await? {
            Some(found) if self.is_garbage(&found) => {
                self.raw.write(key, value, Expect::Revision(found.revision)).await
            }
            _ => done,
        }
    }

    async fn watch_any(&self, filters: &[String]) -> Result<Watch, BusError> {
        let raw = self.raw.watch_any(filters).await?;
        let seal = self.seal.clone();
        Ok(Watch::new(raw.0.filter_map(move |event| {
            let event = match event {
                WatchEvent::Put(entry) => seal
                    .open(&entry.key, &entry.value)
                    .ok()
                    .map(|value| WatchEvent::Put(Entry { value, ..entry })),
                other => Some(other),
            };
            std::future::ready(event)
        })))
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.raw.generation()
    }
}

impl SealedBucket {
    fn is_garbage(&self, entry: &Entry) -> bool {
        matches!(envelope::open(&self.seal.cluster, &entry.value), Err(EnvelopeError::Garbage { .. }))
    }
}
