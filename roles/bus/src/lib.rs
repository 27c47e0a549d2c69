//! The control bus: how the roles of one cluster talk about work, never the work itself.
//!
//! ```text
//!   publish ─▶ subject ─▶ every subscriber now          slots, solutions, signing, heartbeats
//!   push ────▶ queue ───▶ one taker, until it acks      plot jobs
//!   write ───▶ bucket ──▶ readers, watchers with replay members, epochs, cluster settings
//! ```
//!
//! Owns: the [`Bus`] trait, its two backends ([`nats`] for a cluster, [`local`] for one process), the envelope and the cluster's
//! name on everything (`sealed`), and the protocols
//! that stand on it: [`members`], [`cluster`], [`jobs`], [`epochs`]; their messages are `control`'s. [`told`] keeps what is said of waiting to few lines.
//! Never: a piece or a sector (every payload is below `MAX_MESSAGE_BYTES`), or a decision taken from a key's
//! expiry: buckets expire silently, so liveness is timed by who watches.
//!
//! The backends hide behind trait objects rather than an enum: each stands alone in its own module, a test can put
//! a faulty bus in front of a role, and a virtual call is nothing beside a message.

use async_trait::async_trait;
use bytes::Bytes;
use control::envelope::ClusterName;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub mod cluster;
pub mod epochs;
mod error;
mod fresh;
pub mod jobs;
pub mod kept;
pub mod leases;
pub mod local;
pub mod members;
mod names;
pub mod nats;
mod sealed;
pub mod told;

pub use error::BusError;
pub use fresh::Fresh;

/// A bus shared by the tasks of one process.
pub type SharedBus = Arc<dyn Bus>;

/// The control bus. Subjects and keys are tokens of `[A-Za-z0-9_-]` joined by dots; a filter may use `*` for one
/// token and a last `>` for one or more.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Hands `payload` to everybody subscribed now; nobody is fine. Delivery is at most once, and never later: without a
    /// connection it is [`BusError::Unavailable`] at once.
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError>;

    /// Messages published from now on whose subject matches `filter`. When this returns the subscription holds. A
    /// subscriber that falls far behind loses messages (and the log says so) rather than stall the publisher.
    async fn subscribe(&self, filter: &str) -> Result<Subscription, BusError>;

    /// Publishes and waits for the first answer. [`BusError::NoResponders`] at once when nobody is subscribed,
    /// [`BusError::Unavailable`] at once without a connection: then it was certainly not delivered.
    async fn request(&self, subject: &str, payload: Bytes, timeout: Duration) -> Result<Bytes, BusError>;

    /// Opens a work queue, created if it is not there, and made anew whenever it is gone. It does not wait for a store that is
    /// away, but says so once: pushing and pulling are [`BusError::Unavailable`] until it is back.
    /// [`BusError::Mismatch`] if it is there with other settings.
    async fn queue(&self, config: &QueueConfig) -> Result<Arc<dyn Queue>, BusError>;

    /// Opens a bucket, created if it is not there, and made anew whenever it is gone. While the bus cannot it waits, and says
    /// so once. [`BusError::Mismatch`] if it is there with other settings.
    async fn bucket(&self, config: &BucketConfig) -> Result<Arc<dyn Bucket>, BusError>;

    /// Whether messages flow now. While false, silence of others says nothing about them.
    fn is_connected(&self) -> bool;

    /// Name of the cluster whose members alone hear each other here.
    fn cluster(&self) -> ClusterName {
        ClusterName::default()
    }
}

/// A work queue: each message is done by one taker. Messages live until acknowledged, over restarts of the bus.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Puts a message on `subject` = `<queue>.<group>.…`. While another with the same subject waits or is in
    /// flight it is refused with [`BusError::AlreadyQueued`]; after the ack it may be pushed again.
    async fn push(&self, subject: &str, payload: Bytes) -> Result<(), BusError>;

    /// Takes the oldest message of `group`, waiting at most `max_wait` (zero: only what is there). A message taken
    /// and lost (this future dropped, process killed) comes again after the queue's ack wait.
    async fn pull(&self, group: &str, max_wait: Duration) -> Result<Option<Delivery>, BusError>;

    /// Changes each time the queue was found to have been made anew: what it held is lost, offer it again.
    fn generation(&self) -> watch::Receiver<u64>;
}

/// A bucket of keys with one current value each, every change numbered by a revision that only grows, until the bucket is
/// made anew ([`WatchEvent::Renewed`], [`Bucket::generation`]): then revisions may begin anew too.
#[async_trait]
pub trait Bucket: Send + Sync + 'static {
    /// The current value, if the key exists.
    async fn get(&self, key: &str) -> Result<Option<Entry>, BusError>;

    /// Writes (`Some`) or deletes (`None`) a key if `expect` holds, else [`BusError::Conflict`]. Returns the
    /// revision. After [`BusError::OutcomeUnknown`] the write may have happened, or may still happen.
    async fn write(&self, key: &str, value: Option<Bytes>, expect: Expect) -> Result<u64, BusError>;

    /// All keys matching one of `filters` (one at least, and no key matches two): first their current values, then
    /// [`WatchEvent::Ready`], then every change. A lost connection is bridged: what changed meanwhile is delivered
    /// afterwards, of several changes of one key at least the last. An expired key is silent.
    async fn watch_any(&self, filters: &[String]) -> Result<Watch, BusError>;

    /// Changes each time the bucket was found to have been made anew: what it held is lost, its owners put it again.
    fn generation(&self) -> watch::Receiver<u64>;

    /// All keys matching `filter`, as in [`Self::watch_any`].
    async fn watch(&self, filter: &str) -> Result<Watch, BusError> {
        self.watch_any(&[filter.to_owned()]).await
    }

    /// Writes whatever was there before.
    async fn put(&self, key: &str, value: Bytes) -> Result<u64, BusError> {
        self.write(key, Some(value), Expect::Any).await
    }

    /// Writes a key that does not exist (any more), else [`BusError::Conflict`].
    async fn create(&self, key: &str, value: Bytes) -> Result<u64, BusError> {
        self.write(key, Some(value), Expect::Absent).await
    }

    /// Replaces exactly `revision`, else [`BusError::Conflict`].
    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, BusError> {
        self.write(key, Some(value), Expect::Revision(revision)).await
    }

    /// Deletes a key; watchers are told.
    async fn delete(&self, key: &str) -> Result<u64, BusError> {
        self.write(key, None, Expect::Any).await
    }

    /// The current entries matching `filter`.
    async fn entries(&self, filter: &str) -> Result<Vec<Entry>, BusError> {
        let mut watch = self.watch(filter).await?;
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            match watch.next().await {
                WatchEvent::Put(entry) => {
                    entries.retain(|known| known.key != entry.key);
                    entries.push(entry);
                }
                WatchEvent::Delete { key, .. } => entries.retain(|known| known.key != key),
                WatchEvent::Renewed => entries.clear(),
                WatchEvent::Ready => return Ok(entries),
            }
        }
    }
}

/// What a write demands of the key's present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// The key never existed, was deleted or has expired.
    Absent,
    /// The last change of the key is exactly this revision.
    Revision(u64),
}

/// A message of a subscription.
#[derive(Debug, Clone)]
pub struct Message {
    /// Subject it was published on.
    pub subject: String,
    /// Body.
    pub payload: Bytes,
    /// Where the answer goes, if somebody waits for one: publish it there.
    pub reply_to: Option<String>,
}

/// Messages of one [`Bus::subscribe`]; dropped, the subscription ends.
pub struct Subscription(BoxStream<'static, Message>);

impl Subscription {
    fn new(stream: impl futures::Stream<Item = Message> + Send + 'static) -> Self {
        Self(stream.boxed())
    }

    /// The next message; `None` when the bus is closed. Can be dropped and called again without loss.
    pub async fn next(&mut self) -> Option<Message> {
        self.0.next().await
    }
}

/// Settings of a work queue.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// First token of its subjects.
    pub name: String,
    /// A message neither acknowledged nor reported in progress for this long is delivered again.
    pub ack_wait: Duration,
}

/// Settings of a bucket.
#[derive(Debug, Clone)]
pub struct BucketConfig {
    /// Its name, one token.
    pub name: String,
    /// Keys not written for this long vanish, silently. It cleans up; nothing may rely on when.
    pub max_age: Option<Duration>,
}

/// A key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Bytes,
    /// The revision that wrote it.
    pub revision: u64,
}

/// What a [`Watch`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// A key has this value now.
    Put(Entry),
    /// A key was deleted.
    Delete {
        /// The key.
        key: String,
        /// The revision that deleted it.
        revision: u64,
    },
    /// Everything that was there when the watch began has been delivered. Comes once, and once more after each
    /// [`Self::Renewed`].
    Ready,
    /// The bucket was lost and made anew: what it held is gone, what it holds now follows.
    Renewed,
}

/// Events of one [`Bucket::watch`]; it never ends. Dropped, the watch ends.
pub struct Watch(BoxStream<'static, WatchEvent>);

impl Watch {
    /// From a stream that never ends.
    fn new(stream: impl futures::Stream<Item = WatchEvent> + Send + 'static) -> Self {
        Self(stream.boxed())
    }

    /// The next event. Can be dropped and called again without loss.
    pub async fn next(&mut self) -> WatchEvent {
        match self.0.next().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

/// A message taken from a queue.
pub struct Delivery {
    /// Subject it was pushed on.
    pub subject: String,
    /// Body.
    pub payload: Bytes,
    /// How many times it has been handed out, this one included.
    pub delivery_count: u64,
    handle: Box<dyn Settle>,
}

impl Delivery {
    /// The work is done and stored: never deliver it again. On [`BusError::OutcomeUnknown`] it may come again.
    pub async fn ack(&self) -> Result<(), BusError> {
        self.handle.settle(Settlement::Ack).await
    }

    /// The work goes on: start the ack wait anew.
    pub async fn progress(&self) -> Result<(), BusError> {
        self.handle.settle(Settlement::Progress).await
    }

    /// Somebody else should do it, after `delay`.
    pub async fn nak(&self, delay: Duration) -> Result<(), BusError> {
        self.handle.settle(Settlement::Nak(delay)).await
    }
}

/// What a taker says about a delivery.
#[derive(Debug, Clone, Copy)]
enum Settlement {
    Ack,
    Progress,
    Nak(Duration),
}

/// A backend's way back to the queue.
#[async_trait]
trait Settle: Send + Sync {
    async fn settle(&self, settlement: Settlement) -> Result<(), BusError>;
}
