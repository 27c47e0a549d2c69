//! The bus on NATS: core subjects, JetStream for queues and buckets.
//!
//! Owns: the connection, its checks, and what survives a reconnect. Never: a server feature newer than 2.10.

mod bucket;
mod checks;
mod connection;
mod copies;
mod keys;
mod options;
mod queue;
mod route;
mod streams;
mod watch;
mod writes;

use self::bucket::NatsBucket;
pub use self::checks::{MIN_PAYLOAD_LIMIT_BYTES, check_server};
use self::connection::{connect_options, parse_servers};
use self::copies::Copies;
use self::options::CONNECT_TIMEOUT;
pub use self::options::NatsOptions;
use self::queue::NatsQueue;
pub use self::route::local_address;
use self::streams::Streams;
use super::names::{check_filter, check_name, check_token};
use super::sealed::{Sealed, bus_by_seal};
use super::{Bucket, BucketConfig, Bus, BusError, Message, Queue, QueueConfig, SharedBus, Subscription};
use crate::told::Waiting;
use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::{Client, Request, ServerAddr};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Pause between rounds over all servers.
const CONNECT_PAUSE: Duration = Duration::from_secs(1);
/// The NATS backend. Cloned handles share the connection.
#[derive(Clone)]
pub struct NatsBus {
    sealed: Sealed,
}

bus_by_seal!(NatsBus);

/// The bus beneath the envelopes.
struct Beneath {
    client: Client,
    streams: Streams,
}

impl NatsBus {
    /// Connects and checks the server. While none answers it tries again until `options.patience` is over; a
    /// server that answers but cannot work is an error at once.
    pub async fn connect(options: &NatsOptions) -> Result<Self, BusError> {
        let servers = parse_servers(&options.servers)?;
        let give_up_at = options.patience.map(|patience| Instant::now() + patience);
        let waiting = Waiting::new("NATS");
        loop {
            let error = match Self::connect_once(options, &servers).await {
                Err(error @ (BusError::NoServer { .. } | BusError::Unavailable { .. })) => error,
                done => {
                    waiting.over();
                    return done;
                }
            };
            if give_up_at.is_some_and(|at| Instant::now() + CONNECT_PAUSE > at) {
                return Err(error);
            }
            waiting.failed(&error);
            tokio::time::sleep(CONNECT_PAUSE).await;
        }
    }

    async fn connect_once(options: &NatsOptions, servers: &[ServerAddr]) -> Result<Self, BusError> {
        let (connections, connected) = tokio::sync::watch::channel(0);
        let client = connect_options(options, connections).connect(servers).await.map_err(|error| {
            BusError::NoServer { servers: options.servers.join(", "), reason: error.to_string() }
        })?;
        check_server(&client.server_info())?;
        let streams =
            Streams::new(client.clone(), connected, Copies::new(options.replicas), options.ack_timeout);
        checks::check_jetstream(streams.context(), &client.server_info()).await?;
        let beneath = Arc::new(Beneath { client, streams });
        Ok(Self { sealed: Sealed::new(beneath, options.cluster.clone()) })
    }

    /// The bus beneath the envelopes: names and bytes as they are.
    pub fn raw(&self) -> SharedBus {
        self.sealed.raw().clone()
    }
}

impl Beneath {
    /// Waits until the server has read everything sent before: a message to ourselves has come back. (The client's
    /// own flush ends when the bytes have left.)
    async fn await_round_trip(&self, what: &str) -> Result<(), BusError> {
        let inbox = self.client.new_inbox();
        let mut echo = self.client.subscribe(inbox.clone()).await.map_err(|_| BusError::Closed)?;
        self.client.publish(inbox, Bytes::new()).await.map_err(|_| BusError::Closed)?;
        match tokio::time::timeout(CONNECT_TIMEOUT, echo.next()).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(BusError::Closed),
            Err(error) => Err(BusError::unavailable(what, &error)),
        }
    }
}

#[async_trait]
impl Bus for Beneath {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_name(subject)?;
        self.streams.check_connected(subject)?;
        self.client.publish(subject.to_owned(), payload).await.map_err(|_| BusError::Closed)
    }

    async fn subscribe(&self, filter: &str) -> Result<Subscription, BusError> {
        check_filter(filter)?;
        let subscriber = self.client.subscribe(filter.to_owned()).await.map_err(|_| BusError::Closed)?;
        // The client subscribes again by itself whenever it connects.
        while let Err(error) = self.await_round_trip(filter).await {
            match error {
                BusError::Unavailable { .. } => tracing::debug!("subscription: {error}"),
                error => return Err(error),
            }
        }
        Ok(Subscription::new(subscriber.map(|message| Message {
            subject: message.subject.to_string(),
            payload: message.payload,
            reply_to: message.reply.map(|reply| reply.to_string()),
        })))
    }

    async fn request(&self, subject: &str, payload: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        check_name(subject)?;
        self.streams.check_connected(subject)?;
        let request = Request::new().payload(payload).timeout(Some(timeout));
        match self.client.send_request(subject.to_owned(), request).await {
            Ok(answer) => Ok(answer.payload),
            Err(error) => Err(match error.kind() {
                RequestErrorKind::TimedOut => BusError::timeout(subject, timeout),
                RequestErrorKind::NoResponders => BusError::NoResponders { subject: subject.to_owned() },
                _ => BusError::unavailable(subject, &error),
            }),
        }
    }

    async fn queue(&self, config: &QueueConfig) -> Result<Arc<dyn Queue>, BusError> {
        check_token(&config.name)?;
        Ok(Arc::new(NatsQueue::open(self.streams.clone(), config.clone()).await?))
    }

    async fn bucket(&self, config: &BucketConfig) -> Result<Arc<dyn Bucket>, BusError> {
        check_token(&config.name)?;
        Ok(Arc::new(NatsBucket::open(self.streams.clone(), config).await?))
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }
}
