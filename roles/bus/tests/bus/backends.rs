//! The two backends as a test sees them.

use crate::nats_server::NatsServer;
use bus::local::LocalBus;
use bus::nats::{NatsBus, NatsOptions};
use bus::{Bucket, BucketConfig, Bus, Queue, QueueConfig, SharedBus};
use std::sync::Arc;
use std::time::Duration;

/// Long enough for a loaded machine, short enough for a test.
pub const ACK_WAIT: Duration = Duration::from_millis(600);

pub enum Backend {
    Local(LocalBus),
    Nats(NatsServer),
}

impl Backend {
    pub fn local() -> Self {
        Self::Local(LocalBus::new())
    }

    pub fn nats() -> Self {
        Self::Nats(NatsServer::start())
    }

    /// A member's own access: another connection each time.
    pub async fn bus(&self) -> SharedBus {
        match self {
            Self::Local(bus) => Arc::new(bus.clone()),
            Self::Nats(server) => Arc::new(connect(server).await),
        }
    }

    pub async fn bucket(&self) -> Arc<dyn Bucket> {
        bucket(&*self.bus().await).await
    }

    pub async fn queue(&self) -> Arc<dyn Queue> {
        let config = QueueConfig { name: "work".to_owned(), ack_wait: ACK_WAIT };
        self.bus().await.queue(&config).await.unwrap()
    }
}

pub async fn bucket(bus: &dyn Bus) -> Arc<dyn Bucket> {
    bus.bucket(&BucketConfig { name: "things".to_owned(), max_age: None }).await.unwrap()
}

pub fn options(server: &NatsServer) -> NatsOptions {
    let mut options = NatsOptions::new(vec![server.url()], "test");
    options.patience = Some(Duration::from_secs(5));
    options.ack_timeout = Duration::from_secs(2);
    options
}

pub async fn connect(server: &NatsServer) -> NatsBus {
    NatsBus::connect(&options(server)).await.unwrap()
}
