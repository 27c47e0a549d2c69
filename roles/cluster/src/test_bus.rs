//! A bus whose connection comes and goes as a test wants.

use async_trait::async_trait;
use bus::local::LocalBus;
use bus::{Bucket, BucketConfig, Bus, BusError, Queue, QueueConfig, Subscription};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The in-process bus, as seen over a connection.
#[derive(Clone, Default)]
pub struct TestBus {
    local: LocalBus,
    is_away: Arc<AtomicBool>,
}

impl TestBus {
    /// What everybody else sees.
    pub fn others(&self) -> &LocalBus {
        &self.local
    }

    /// The connection breaks, and is noticed to; what is published meanwhile goes nowhere.
    pub fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Relaxed);
    }

    fn check(&self, what: &str) -> Result<(), BusError> {
        if self.is_connected() {
            return Ok(());
        }
        let reason = "away".to_owned();
        Err(BusError::Unavailable { what: what.to_owned(), reason })
    }
}

#[async_trait]
impl Bus for TestBus {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        self.check(subject)?;
        self.local.publish(subject, payload).await
    }

    async fn subscribe(&self, filter: &str) -> Result<Subscription, BusError> {
        self.local.subscribe(filter).await
    }

    async fn request(&self, subject: &str, payload: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        self.check(subject)?;
        self.local.request(subject, payload, timeout).await
    }

    async fn queue(&self, config: &QueueConfig) -> Result<Arc<dyn Queue>, BusError> {
        self.local.queue(config).await
    }

    async fn bucket(&self, config: &BucketConfig) -> Result<Arc<dyn Bucket>, BusError> {
        self.local.bucket(config).await
    }

    fn is_connected(&self) -> bool {
        !self.is_away.load(Ordering::Relaxed)
    }
}
