//! A peer as a client sees it: where it is, who it must be, and how to talk to it.

use crate::connection::Config;
use crate::tls::{Fingerprint, Identity};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a client expects at the other end.
#[derive(Debug, Clone)]
pub enum ServerPin {
    /// TLS, with this member's certificate, to the one server with that fingerprint.
    Certificate(Arc<Identity>, Fingerprint),
    /// No encryption and no proof of who is there: for benchmarks (`--insecure-plain-tcp`).
    InsecurePlainTcp,
}

/// A peer and how to talk to it.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Where it listens, best first; at least one. A later one is tried where an earlier one fails or takes its time.
    pub addresses: Vec<SocketAddr>,
    /// Who it must be.
    pub pin: ServerPin,
    /// The connection's limits. `max_requests` is taken as zero: a client serves nothing.
    pub connection: Config,
    /// For the socket, TLS and the hello together, at all addresses.
    pub connect_timeout: Duration,
    /// Pause after the first failure to connect; doubles with each, up to `max_backoff`, plus up to half at random.
    pub first_backoff: Duration,
    /// Longest pause.
    pub max_backoff: Duration,
}

impl ClientConfig {
    /// Five seconds to connect; pauses from 100 ms to 10 s.
    pub fn new(addresses: impl Into<Vec<SocketAddr>>, pin: ServerPin, connection: Config) -> Self {
        let seconds = Duration::from_secs;
        Self {
            addresses: addresses.into(),
            pin,
            connection: Config { max_requests: 0, ..connection },
            connect_timeout: seconds(5),
            first_backoff: Duration::from_millis(100),
            max_backoff: seconds(10),
        }
    }
}
