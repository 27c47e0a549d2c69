//! The connection itself: where it may go, how fast it comes back, and what of it is told.

use super::options::{CONNECT_TIMEOUT, NatsOptions};
use crate::BusError;
use crate::told::{Rarely, Waiting};
use async_nats::{ConnectOptions, Event, ServerAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Longest pause between attempts to reconnect: a slot is a second.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// A dead connection that does not close is noticed after three of these.
const PING_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn parse_servers(servers: &[String]) -> Result<Vec<ServerAddr>, BusError> {
    if servers.is_empty() {
        let reason = "no server was given".to_owned();
        return Err(BusError::BadServerAddress { address: String::new(), reason });
    }
    let parse = |address: &String| {
        let bad = |reason: String| BusError::BadServerAddress { address: address.clone(), reason };
        let parsed: ServerAddr = address.parse().map_err(|error: std::io::Error| bad(error.to_string()))?;
        // Its lookup would fail for ever.
        let has_host = !parsed.host().is_empty() && !parsed.host().contains(char::is_whitespace);
        if has_host { Ok(parsed) } else { Err(bad("it names no host".to_owned())) }
    };
    servers.iter().map(parse).collect()
}

/// `connections` counts the connections made: its changes tell watchers to look for what they missed.
pub(super) fn connect_options(options: &NatsOptions, connections: watch::Sender<u64>) -> ConnectOptions {
    let teller = Arc::new(Teller {
        connections,
        servers: options.servers.join(", "),
        waiting: Waiting::new("NATS"),
        errors: Rarely::default(),
    });
    ConnectOptions::new()
        .name(&options.name)
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .reconnect_delay_callback(|attempts| {
            let doublings = u32::try_from(attempts.min(10)).unwrap_or(10);
            (Duration::from_millis(10) * 2u32.pow(doublings)).min(RECONNECT_PAUSE_MAX)
        })
        .event_callback(move |event| {
            teller.on(&event);
            std::future::ready(())
        })
}

/// What is told of the connection: a line when it is lost, one when it is back.
struct Teller {
    connections: watch::Sender<u64>,
    /// All that are tried, with commas.
    servers: String,
    waiting: Waiting,
    errors: Rarely,
}

impl Teller {
    fn on(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.connections.send_modify(|count| *count += 1);
                self.waiting.over();
            }
            Event::Disconnected => self.waiting.failed(&format_args!(
                "NATS: disconnected, tries {}; start nats-server or correct --nats-server",
                self.servers
            )),
            // Attempts to reconnect that fail; that there is no connection has been told.
            Event::ClientError(error) => tracing::debug!("NATS: {error}"),
            Event::SlowConsumer(_) | Event::ServerError(_) => {
                if let Some(count) = self.errors.count() {
                    tracing::warn!("NATS: {event} ({count} such since the last line)");
                }
            }
            Event::LameDuckMode | Event::Draining | Event::Closed => tracing::warn!("NATS: {event}"),
        }
    }
}
