//! The bus inside one process: the default of `dev`, and what tests drive with a paused clock.
//!
//! Owns: subscriptions, queues and buckets in memory, timed by tokio's clock. Never: a task or thread of its own;
//! whatever is due (redelivery, expiry) is found when somebody looks.

mod bucket;
mod faults;
mod lock;
mod queue;

use self::bucket::LocalBucket;
use self::faults::{Faults, Link, STORE_PAUSE};
use self::lock::lock;
use self::queue::LocalQueue;
use super::names::{check_filter, check_name, check_token};
use super::sealed::{Sealed, bus_by_seal};
use super::{Bucket, BucketConfig, Bus, BusError, Message, Queue, QueueConfig, SharedBus, Subscription};
use crate::told::Waiting;
use async_trait::async_trait;
use bytes::Bytes;
use control::envelope::ClusterName;
use control::names::subject_matches;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Messages a subscriber may lag behind before it loses some.
const SUBSCRIPTION_CAPACITY: usize = 4096;

/// The in-process backend: one member's access to it. Clones share the access, [`LocalBus::another`] is another member's.
#[derive(Clone)]
pub struct LocalBus {
    beneath: Beneath,
    cluster: ClusterName,
    sealed: Sealed,
}

bus_by_seal!(LocalBus);

/// The bus beneath the envelopes.
#[derive(Clone, Default)]
struct Beneath {
    inner: Arc<Inner>,
    link: Arc<Link>,
}

#[derive(Default)]
struct Inner {
    subscribers: Mutex<Vec<Subscriber>>,
    buckets: Mutex<BTreeMap<String, LocalBucket>>,
    queues: Mutex<BTreeMap<String, LocalQueue>>,
    next_inbox: AtomicU64,
    faults: Arc<Faults>,
}

struct Subscriber {
    filter: String,
    link: Arc<Link>,
    sender: mpsc::Sender<Message>,
}

impl Default for LocalBus {
    fn default() -> Self {
        Self::of(Beneath::default(), ClusterName::default())
    }
}

impl LocalBus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    fn of(beneath: Beneath, cluster: ClusterName) -> Self {
        let sealed = Sealed::new(Arc::new(beneath.clone()), cluster.clone());
        Self { beneath, cluster, sealed }
    }

    /// Another member's access to the same bus, with a connection of its own.
    pub fn another(&self) -> Self {
        let beneath = Beneath { inner: self.beneath.inner.clone(), link: Arc::default() };
        Self::of(beneath, self.cluster.clone())
    }

    /// Access of a member of another cluster to the same bus.
    pub fn in_cluster(&self, cluster: ClusterName) -> Self {
        Self::of(Beneath { inner: self.beneath.inner.clone(), link: Arc::default() }, cluster)
    }

    /// The bus beneath the envelopes: names and bytes as they are.
    pub fn raw(&self) -> SharedBus {
        self.sealed.raw().clone()
    }

    /// Fault injection: the next `count` durable writes happen, but report [`BusError::OutcomeUnknown`].
    pub fn lose_answers(&self, count: u64) {
        self.beneath.inner.faults.lose_answers(count);
    }

    /// Fault injection: cuts this member off, or connects it again. What is published meanwhile does not reach it.
    pub fn set_connected(&self, is_connected: bool) {
        self.beneath.link.set_connected(is_connected);
    }

    /// Fault injection: takes what lasts (queues, buckets) away from everybody, or gives it back. Subjects go on.
    pub fn set_store(&self, is_there: bool) {
        self.beneath.inner.faults.set_store(is_there);
    }

    /// Fault injection: everything that lasts is forgotten, as by a server whose disk was emptied.
    pub fn lose_store(&self) {
        lock(&self.beneath.inner.buckets).values().for_each(LocalBucket::lose);
        lock(&self.beneath.inner.queues).values().for_each(LocalQueue::lose);
    }
}

impl Beneath {
    /// Hands a message to all matching subscribers and returns how many there are.
    fn deliver(&self, message: &Message) -> usize {
        let mut found = 0;
        lock(&self.inner.subscribers).retain(|subscriber| {
            if subscriber.sender.is_closed() {
                return false;
            }
            if subject_matches(&subscriber.filter, &message.subject)
                && subscriber.link.check(&message.subject).is_ok()
            {
                found += 1;
                if subscriber.sender.try_send(message.clone()).is_err() {
                    tracing::warn!(filter = subscriber.filter, "slow subscriber lost a message");
                }
            }
            true
        });
        found
    }

    fn attach(&self, filter: &str) -> mpsc::Receiver<Message> {
        let (sender, receiver) = mpsc::channel(SUBSCRIPTION_CAPACITY);
        lock(&self.inner.subscribers).push(Subscriber {
            filter: filter.to_owned(),
            link: self.link.clone(),
            sender,
        });
        receiver
    }
}

#[async_trait]
impl Bus for Beneath {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_name(subject)?;
        self.link.check(subject)?;
        self.deliver(&Message { subject: subject.to_owned(), payload, reply_to: None });
        Ok(())
    }

    async fn subscribe(&self, filter: &str) -> Result<Subscription, BusError> {
        check_filter(filter)?;
        let mut receiver = self.attach(filter);
        Ok(Subscription::new(futures::stream::poll_fn(move |context| receiver.poll_recv(context))))
    }

    async fn request(&self, subject: &str, payload: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        check_name(subject)?;
        self.link.check(subject)?;
        let inbox = format!("_INBOX.{}", self.inner.next_inbox.fetch_add(1, Ordering::Relaxed));
        let mut answers = self.attach(&inbox);
        let message = Message { subject: subject.to_owned(), payload, reply_to: Some(inbox) };
        if self.deliver(&message) == 0 {
            return Err(BusError::NoResponders { subject: subject.to_owned() });
        }
        match tokio::time::timeout(timeout, answers.recv()).await {
            Ok(answer) => answer.map(|message| message.payload).ok_or(BusError::Closed),
            Err(_) => Err(BusError::timeout(subject, timeout)),
        }
    }

    async fn queue(&self, config: &QueueConfig) -> Result<Arc<dyn Queue>, BusError> {
        check_token(&config.name)?;
        let mut queues = lock(&self.inner.queues);
        let queue = queues
            .entry(config.name.clone())
            .or_insert_with(|| LocalQueue::new(config.clone(), self.inner.faults.clone()));
        queue.check_settings(config)?;
        Ok(Arc::new(queue.for_member(self.link.clone())))
    }

    async fn bucket(&self, config: &BucketConfig) -> Result<Arc<dyn Bucket>, BusError> {
        check_token(&config.name)?;
        self.await_store(&format!("bucket `{}`", config.name)).await;
        let mut buckets = lock(&self.inner.buckets);
        let bucket = buckets
            .entry(config.name.clone())
            .or_insert_with(|| LocalBucket::new(config.clone(), self.inner.faults.clone()));
        bucket.check_settings(config)?;
        Ok(Arc::new(bucket.for_member(self.link.clone())))
    }

    fn is_connected(&self) -> bool {
        self.link.check("").is_ok()
    }
}

impl Beneath {
    /// Waits while the store is away or this member cut off.
    async fn await_store(&self, what: &str) {
        let waiting = Waiting::new(format!("the store, to open {what}"));
        while let Err(error) = self.link.check(what).and_then(|()| self.inner.faults.check_store(what)) {
            waiting.failed(&error);
            tokio::time::sleep(STORE_PAUSE).await;
        }
        waiting.over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WatchEvent;

    /// A member that is cut off sends and hears nothing; others go on, and it learns afterwards what was stored.
    #[tokio::test(start_paused = true)]
    async fn a_member_is_cut_off_alone() {
        let (cut, config) = (LocalBus::new(), BucketConfig { name: "b".to_owned(), max_age: None });
        let other = cut.another();
        let (bucket, theirs) = (cut.bucket(&config).await.unwrap(), other.bucket(&config).await.unwrap());
        let (mut heard, mut watch) = (cut.subscribe("s").await.unwrap(), bucket.watch(">").await.unwrap());
        assert_eq!(watch.next().await, WatchEvent::Ready);
        cut.set_connected(false);
        assert!(!cut.is_connected() && other.is_connected());
        let refused = cut.publish("s", Bytes::new()).await;
        assert!(matches!(refused, Err(BusError::Unavailable { .. })), "{refused:?}");
        other.publish("s", "missed".into()).await.unwrap();
        theirs.put("k", "v".into()).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(9), watch.next()).await.is_err());
        cut.set_connected(true);
        assert!(matches!(watch.next().await, WatchEvent::Put(entry) if entry.value == "v"));
        other.publish("s", "heard".into()).await.unwrap();
        assert_eq!(heard.next().await.unwrap().payload, "heard");
    }
}
