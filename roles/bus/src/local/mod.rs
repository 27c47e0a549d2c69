//! The bus inside one process: the default of `dev`, and what tests drive with a paused clock.
//!
//! Owns: subscriptions, queues and buckets in memory, timed by tokio's clock. Never: a task or thread of its own;
//! whatever is due (redelivery, expiry) is found when somebody looks.

mod bucket;
mod queue;

use self::bucket::LocalBucket;
use self::queue::LocalQueue;
use super::names::{check_filter, check_name, check_size, check_token};
use super::{Bucket, BucketConfig, Bus, BusError, Message, Queue, QueueConfig, Subscription};
use async_trait::async_trait;
use bytes::Bytes;
use control::names::subject_matches;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Messages a subscriber may lag behind before it loses some.
const SUBSCRIPTION_CAPACITY: usize = 4096;

/// The in-process backend. Cloned handles are one bus.
#[derive(Clone, Default)]
pub struct LocalBus(Arc<Inner>);

#[derive(Default)]
struct Inner {
    subscribers: Mutex<Vec<Subscriber>>,
    buckets: Mutex<BTreeMap<String, Arc<LocalBucket>>>,
    queues: Mutex<BTreeMap<String, Arc<LocalQueue>>>,
    next_inbox: AtomicU64,
    faults: Arc<Faults>,
}

struct Subscriber {
    filter: String,
    sender: mpsc::Sender<Message>,
}

/// Faults a simulation asks for.
#[derive(Default)]
struct Faults {
    lost_answers: AtomicU64,
}

impl Faults {
    /// The answer to a durable write that did happen, unless it is to be lost.
    fn answer<T>(&self, subject: &str, done: T) -> Result<T, BusError> {
        let lose = |left: u64| left.checked_sub(1);
        if self.lost_answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lose).is_err() {
            return Ok(done);
        }
        let reason = "the answer was lost on request".to_owned();
        Err(BusError::OutcomeUnknown { subject: subject.to_owned(), reason })
    }
}

impl LocalBus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fault injection: the next `count` durable writes happen, but report [`BusError::OutcomeUnknown`].
    pub fn lose_answers(&self, count: u64) {
        self.0.faults.lost_answers.store(count, Ordering::Relaxed);
    }

    /// Hands a message to all matching subscribers and returns how many there are.
    fn deliver(&self, message: &Message) -> usize {
        let mut found = 0;
        lock(&self.0.subscribers).retain(|subscriber| {
            if subscriber.sender.is_closed() {
                return false;
            }
            if subject_matches(&subscriber.filter, &message.subject) {
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
        lock(&self.0.subscribers).push(Subscriber { filter: filter.to_owned(), sender });
        receiver
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_name(subject)?;
        check_size(subject, &payload)?;
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
        check_size(subject, &payload)?;
        let inbox = format!("_INBOX.{}", self.0.next_inbox.fetch_add(1, Ordering::Relaxed));
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
        let mut queues = lock(&self.0.queues);
        let queue = queues
            .entry(config.name.clone())
            .or_insert_with(|| Arc::new(LocalQueue::new(config.clone(), self.0.faults.clone())));
        queue.check_settings(config)?;
        Ok(queue.clone())
    }

    async fn bucket(&self, config: &BucketConfig) -> Result<Arc<dyn Bucket>, BusError> {
        check_token(&config.name)?;
        let mut buckets = lock(&self.0.buckets);
        let bucket = buckets
            .entry(config.name.clone())
            .or_insert_with(|| Arc::new(LocalBucket::new(config.clone(), self.0.faults.clone())));
        bucket.check_settings(config)?;
        Ok(bucket.clone())
    }

    fn is_connected(&self) -> bool {
        true
    }
}

/// Every critical section here leaves the state whole, so a poisoned lock is taken as it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
