//! What can go wrong on the bus, in words an operator can act on.

use control::messages::MAX_MESSAGE_BYTES;

/// An error of the control bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// A payload at or over the limit; nothing was sent.
    #[error(
        "control message on `{subject}` is {size_bytes} bytes and must be below {MAX_MESSAGE_BYTES}; bulk data belongs on the transport"
    )]
    TooLarge {
        /// Subject or key.
        subject: String,
        /// Its size.
        size_bytes: usize,
    },
    /// A subject, key, filter, group, queue or bucket name that is not allowed.
    #[error("`{name}` cannot be used on the bus: a name is letters, digits, `_` and `-`, joined by dots")]
    BadName {
        /// The name, cut if long.
        name: String,
    },
    /// A request that nobody listens to.
    #[error("nobody answers `{subject}`: is that role running?")]
    NoResponders {
        /// The subject.
        subject: String,
    },
    /// A request that was not answered in time.
    #[error("no answer on `{subject}` within {timeout_ms} ms")]
    Timeout {
        /// The subject.
        subject: String,
        /// How long was waited.
        timeout_ms: u64,
    },
    /// A conditional write found another state. Nothing was written.
    #[error("key `{key}` of bucket `{bucket}` was changed by somebody else")]
    Conflict {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// The same job waits or is in flight: attach to that one.
    #[error("`{subject}` is queued already")]
    AlreadyQueued {
        /// The subject.
        subject: String,
    },
    /// A durable write or ack whose answer did not come: it may have happened, or may happen later.
    #[error("outcome of `{subject}` is unknown: {reason}")]
    OutcomeUnknown {
        /// Subject or key.
        subject: String,
        /// Why there is no answer.
        reason: String,
    },
    /// A stream, consumer or bucket exists with other settings.
    #[error(
        "{what} exists with {found}, this release needs {wanted}; if nothing else uses it, remove it: `nats {remove}`"
    )]
    Mismatch {
        /// Which one.
        what: String,
        /// The setting found.
        found: String,
        /// The setting needed.
        wanted: String,
        /// Arguments of the nats command line tool that remove it.
        remove: String,
    },
    /// The bus refused, or could not do it now; certainly nothing was written.
    #[error("{what}: {reason}")]
    Unavailable {
        /// What was tried.
        what: String,
        /// The backend's reason.
        reason: String,
    },
    /// The bus is closed: the process is stopping.
    #[error("the bus is closed")]
    Closed,
    /// A NATS server address that cannot be read.
    #[error("`{address}` is not a NATS server address, write nats://HOST:4222: {reason}")]
    BadServerAddress {
        /// As given.
        address: String,
        /// Why.
        reason: String,
    },
    /// None of the servers answered.
    #[error("no NATS server answers, tried {servers}: {reason}; start nats-server or correct --nats-server")]
    NoServer {
        /// All of them, with commas.
        servers: String,
        /// The last failure.
        reason: String,
    },
    /// A server of a release that cannot work.
    #[error(
        "NATS server {server} is version {found}, 2.10 or newer is needed: install nats-server 2.10 from https://nats.io/download"
    )]
    ServerTooOld {
        /// Its name.
        server: String,
        /// Its version.
        found: String,
    },
    /// A server whose payload limit is too small.
    #[error(
        "NATS server {server} has max_payload {found_bytes}, at least {needed_bytes} is needed: set `max_payload = 1MB` in its configuration"
    )]
    PayloadLimit {
        /// Its name.
        server: String,
        /// Its limit.
        found_bytes: usize,
        /// The smallest that works.
        needed_bytes: usize,
    },
    /// A server without JetStream.
    #[error(
        "NATS server {server} has no JetStream for this account: start it with `-js -sd DIR` or put `jetstream {{ store_dir: DIR }}` into its configuration ({reason})"
    )]
    NoJetStream {
        /// Its name.
        server: String,
        /// What it said.
        reason: String,
    },
}

impl BusError {
    pub(super) fn unavailable(what: &str, reason: &(dyn std::error::Error + 'static)) -> Self {
        Self::Unavailable { what: what.to_owned(), reason: reason.to_string() }
    }

    pub(super) fn timeout(subject: &str, timeout: std::time::Duration) -> Self {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        Self::Timeout { subject: subject.to_owned(), timeout_ms }
    }
}
