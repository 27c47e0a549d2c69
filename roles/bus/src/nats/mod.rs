//! The bus on NATS: core subjects, JetStream for queues and buckets.
//!
//! Owns: the connection, its checks, and what survives a reconnect. Never: a server feature newer than 2.10.

mod bucket;
mod checks;
mod queue;
mod route;
mod streams;

use self::bucket::NatsBucket;
pub use self::checks::{MIN_PAYLOAD_LIMIT_BYTES, check_server};
use self::queue::NatsQueue;
pub use self::route::local_address;
use self::streams::Streams;
use super::names::{check_filter, check_name, check_size, check_token};
use super::{Bucket, BucketConfig, Bus, BusError, Message, Queue, QueueConfig, Subscription};
use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, Request, ServerAddr};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// One attempt at one server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause between rounds over all servers.
const CONNECT_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between attempts to reconnect: a slot is a second.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// A dead connection that does not close is noticed after about two of these.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// How to reach NATS.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// `nats://HOST:4222`, `nats://USER:PASSWORD@HOST:4222` or `tls://…`; any of them will do.
    pub servers: Vec<String>,
    /// How this process is called in the server's list of connections.
    pub name: String,
    /// How long to go on trying while no server answers; `None` = for ever.
    pub patience: Option<Duration>,
    /// How long to wait for the server's answer to a durable write.
    pub ack_timeout: Duration,
    /// Copies of streams and buckets created here; 3 on a NATS cluster of three.
    pub replicas: usize,
}

impl NatsOptions {
    /// The defaults for a role: try for ever, five seconds for an answer, one copy.
    pub fn new(servers: Vec<String>, name: &str) -> Self {
        Self {
            servers,
            name: name.to_owned(),
            patience: None,
            ack_timeout: Duration::from_secs(5),
            replicas: 1,
        }
    }
}

/// The NATS backend. Cloned handles share the connection.
#[derive(Clone)]
pub struct NatsBus {
    client: Client,
    streams: Streams,
}

impl NatsBus {
    /// Connects and checks the server. While none answers it tries again until `options.patience` is over; a
    /// server that answers but cannot work is an error at once.
    pub async fn connect(options: &NatsOptions) -> Result<Self, BusError> {
        let servers = parse_servers(&options.servers)?;
        let give_up_at = options.patience.map(|patience| Instant::now() + patience);
        loop {
            let error = match Self::connect_once(options, &servers).await {
                Err(error @ (BusError::NoServer { .. } | BusError::Unavailable { .. })) => error,
                done => return done,
            };
            if give_up_at.is_some_and(|at| Instant::now() + CONNECT_PAUSE > at) {
                return Err(error);
            }
            tracing::warn!("{error}; trying again");
            tokio::time::sleep(CONNECT_PAUSE).await;
        }
    }

    async fn connect_once(options: &NatsOptions, servers: &[ServerAddr]) -> Result<Self, BusError> {
        let (connections, connected) = watch::channel(0);
        let client = connect_options(options, connections).connect(servers).await.map_err(|error| {
            BusError::NoServer { servers: options.servers.join(", "), reason: error.to_string() }
        })?;
        check_server(&client.server_info())?;
        let mut context = async_nats::jetstream::new(client.clone());
        context.set_timeout(options.ack_timeout);
        checks::check_jetstream(&context, &client.server_info()).await?;
        let streams = Streams { context, connected, replicas: options.replicas };
        Ok(Self { client, streams })
    }
}

impl NatsBus {
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

fn parse_servers(servers: &[String]) -> Result<Vec<ServerAddr>, BusError> {
    if servers.is_empty() {
        let reason = "no server was given".to_owned();
        return Err(BusError::BadServerAddress { address: String::new(), reason });
    }
    let parse = |address: &String| {
        address.parse().map_err(|error: std::io::Error| BusError::BadServerAddress {
            address: address.clone(),
            reason: error.to_string(),
        })
    };
    servers.iter().map(parse).collect()
}

/// `connections` counts the connections made: its changes tell watchers to look for what they missed.
fn connect_options(options: &NatsOptions, connections: watch::Sender<u64>) -> ConnectOptions {
    let connections = Arc::new(connections);
    ConnectOptions::new()
        .name(&options.name)
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .reconnect_delay_callback(|attempts| {
            let doublings = u32::try_from(attempts.min(10)).unwrap_or(10);
            (Duration::from_millis(10) * 2u32.pow(doublings)).min(RECONNECT_PAUSE_MAX)
        })
        .event_callback(move |event| {
            match &event {
                Event::Connected => {
                    connections.send_modify(|count| *count += 1);
                    tracing::debug!("NATS: connected");
                }
                other => tracing::warn!("NATS: {other}"),
            }
            std::future::ready(())
        })
}

#[async_trait]
impl Bus for NatsBus {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_name(subject)?;
        check_size(subject, &payload)?;
        self.client.publish(subject.to_owned(), payload).await.map_err(|_| BusError::Closed)
    }

    async fn subscribe(&self, filter: &str) -> Result<Subscription, BusError> {
        check_filter(filter)?;
        let subscriber = self.client.subscribe(filter.to_owned()).await.map_err(|_| BusError::Closed)?;
        self.await_round_trip(filter).await?;
        Ok(Subscription::new(subscriber.map(|message| Message {
            subject: message.subject.to_string(),
            payload: message.payload,
            reply_to: message.reply.map(|reply| reply.to_string()),
        })))
    }

    async fn request(&self, subject: &str, payload: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        check_name(subject)?;
        check_size(subject, &payload)?;
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
        Ok(Arc::new(NatsBucket::open(self.client.clone(), self.streams.clone(), config.clone()).await?))
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }
}
