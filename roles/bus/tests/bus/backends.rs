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

    /// A member of another cluster.
    pub async fn bus_in(&self, cluster: &str) -> SharedBus {
        let cluster = cluster.parse().unwrap();
        match self {
            Self::Local(bus) => Arc::new(bus.in_cluster(cluster)),
            Self::Nats(server) => {
                let options = NatsOptions { cluster, ..options(server) };
                Arc::new(NatsBus::connect(&options).await.unwrap())
            }
        }
    }

    /// A member, and what lies beneath its envelopes.
    pub async fn bus_and_raw(&self) -> (SharedBus, SharedBus) {
        match self {
            Self::Local(bus) => (Arc::new(bus.clone()), bus.raw()),
            Self::Nats(server) => {
                let bus = connect(server).await;
                let raw = bus.raw();
                (Arc::new(bus), raw)
            }
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
