//! How to reach NATS.

use control::envelope::ClusterName;
use std::time::Duration;

/// One attempt at one server.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How to reach NATS.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// `nats://HOST:4222`, `nats://USER:PASSWORD@HOST:4222` or `tls://…`; any of them will do.
    pub servers: Vec<String>,
    /// How this process is called in the server's list of connections.
    pub name: String,
    /// Whose members this process is one of.
    pub cluster: ClusterName,
    /// How long to go on trying while no server answers; `None` = for ever.
    pub patience: Option<Duration>,
    /// How long to wait for the server's answer to a durable write.
    pub ack_timeout: Duration,
    /// Copies of streams and buckets; `None` = three in a NATS cluster that has three servers, else one.
    pub replicas: Option<usize>,
}

impl NatsOptions {
    /// The defaults for a role: try for ever, a second for an answer (a slot's time), as many copies as fit.
    pub fn new(servers: Vec<String>, name: &str) -> Self {
        Self {
            servers,
            name: name.to_owned(),
            cluster: ClusterName::default(),
            patience: None,
            ack_timeout: Duration::from_secs(1),
            replicas: None,
        }
    }
}
