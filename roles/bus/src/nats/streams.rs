//! JetStream streams: made when they are not there, checked, written to, kept in as many copies as there are servers.
//!
//! ```text
//!   not there, gone ─▶ made (anew: every handle's generation grows, owners fill it again)
//!   there ─▶ settings compared ─▶ copies raised when the NATS cluster has grown
//! ```
//! Owns: what this connection knows of its streams. Never: fewer copies than a stream has, or a stream
//! removed.

use super::copies::{Copies, Raise};
use crate::BusError;
use crate::told::Waiting;
use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::jetstream::{self, Context, ErrorCode};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long to wait for an answer of JetStream's management: making a stream of three copies takes several rounds.
const API_TIMEOUT: Duration = Duration::from_secs(2);
/// First pause between attempts to open a stream, doubled up to the longest: all members of a cluster ask.
const OPEN_PAUSE: Duration = Duration::from_millis(200);
const OPEN_PAUSE_MAX: Duration = Duration::from_secs(3);
/// How often each known stream is looked at: whether it is still there, and in how many copies.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How soon after a reconnect: long enough that not all members of a cluster ask in the same moment.
const LOOK_AFTER_RECONNECT: Duration = Duration::from_millis(200);

/// The streams of one connection; clones are handles to the same.
#[derive(Clone)]
pub(super) struct Streams(Arc<Inner>);

struct Inner {
    client: Client,
    /// For writes and reads: their answers are waited for as long as [`super::NatsOptions::ack_timeout`].
    context: Context,
    /// For management.
    api: Context,
    connected: watch::Receiver<u64>,
    copies: Copies,
    known: Mutex<BTreeMap<String, Arc<Known>>>,
}

/// A stream as this connection knows it.
pub(super) struct Known {
    wanted: Config,
    /// Arguments of the nats command line tool that remove it.
    remove: String,
    /// Grows each time the stream is found to be another than before.
    pub(super) generation: watch::Sender<u64>,
    /// When the stream was made, in the server's words.
    created: Mutex<Option<String>>,
    waiting: Waiting,
    raise: Raise,
}

impl Streams {
    /// For one connection, looked after until the last handle is dropped.
    pub(super) fn new(
        client: Client,
        connected: watch::Receiver<u64>,
        copies: Copies,
        ack_timeout: Duration,
    ) -> Self {
        let mut context = async_nats::jetstream::new(client.clone());
        context.set_timeout(ack_timeout);
        let mut api = async_nats::jetstream::new(client.clone());
        api.set_timeout(API_TIMEOUT);
        let known = Mutex::default();
        let inner = Arc::new(Inner { client, context, api, connected: connected.clone(), copies, known });
        tokio::spawn(look_after(Arc::downgrade(&inner), connected));
        Self(inner)
    }

    /// For reads and writes.
    pub(super) fn context(&self) -> &Context {
        &self.0.context
    }

    /// The connection.
    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    /// Counts connections made.
    pub(super) fn connected(&self) -> watch::Receiver<u64> {
        self.0.connected.clone()
    }

    /// Nothing is sent while disconnected: the client would keep it and deliver it when it is of no use any more.
    pub(super) fn check_connected(&self, what: &str) -> Result<(), BusError> {
        check_connected(&self.0.client, what)
    }

    /// The stream with these settings, made if it is not there; waited for while JetStream cannot tell or make it.
    pub(super) async fn open(&self, wanted: Config, remove: String) -> Result<Arc<Known>, BusError> {
        let known = self.of(wanted, remove);
        let mut pause = OPEN_PAUSE;
        while !self.try_open(&known).await? {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(OPEN_PAUSE_MAX);
        }
        Ok(self.remember(known))
    }

    /// The same without waiting: where JetStream is away the stream is made when it is used, or found to be missing.
    pub(super) async fn open_soon(&self, wanted: Config, remove: String) -> Result<Arc<Known>, BusError> {
        let known = self.of(wanted, remove);
        self.try_open(&known).await?;
        Ok(self.remember(known))
    }

    /// What is known of a stream with these settings.
    fn of(&self, wanted: Config, remove: String) -> Arc<Known> {
        let is_same = |known: &Arc<Known>| difference(&known.wanted, &wanted).is_none();
        let before = self.known().get(&wanted.name).filter(|known| is_same(known)).cloned();
        before.unwrap_or_else(|| Arc::new(Known::new(wanted, remove)))
    }

    /// Whether the stream is there now. What no waiting mends is an error.
    async fn try_open(&self, known: &Known) -> Result<bool, BusError> {
        match self.ensure(known).await {
            Ok(_) => Ok(true),
            Err(error @ (BusError::Unavailable { .. } | BusError::OutcomeUnknown { .. })) => {
                known.waiting.failed(&error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The one record of a stream, for all handles of this connection.
    fn remember(&self, opened: Arc<Known>) -> Arc<Known> {
        self.known().entry(opened.wanted.name.clone()).or_insert(opened).clone()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Known>>> {
        lock(&self.0.known)
    }

    /// The stream as it is now, made (anew) if it is not there. Does not wait.
    pub(super) async fn ensure(&self, known: &Known) -> Result<Stream, BusError> {
        let what = format!("stream `{}`", known.wanted.name);
        self.check_connected(&what)?;
        let stream = match self.0.api.get_stream(&known.wanted.name).await {
            Ok(stream) => Ok(stream),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(refusal) if refusal.code() == 404 => {
                    self.make(&known.wanted).await
                }
                GetStreamErrorKind::JetStream(refusal) => Err(self.refused(&what, &refusal)),
                _ => Err(BusError::unavailable(&what, &error)),
            },
        }?;
        if let Some((found, wanted)) = difference(&stream.cached_info().config, &known.wanted) {
            return Err(BusError::Mismatch { what, found, wanted, remove: known.remove.clone() });
        }
        known.waiting.over();
        known.note(&stream);
        self.0.copies.raise(&self.0.api, self.server(), &stream, &known.raise).await;
        Ok(stream)
    }

    /// Looks at all streams once, beginning with this one; where to go on if JetStream is too slow for all, and whether it answered for
    /// each.
    async fn look(&self, first: usize) -> (Option<usize>, bool) {
        let mut is_well = true;
        let known: Vec<_> = self.known().values().cloned().collect();
        let started = Instant::now();
        for step in 0..known.len() {
            if started.elapsed() >= API_TIMEOUT {
                return (Some((first + step) % known.len()), false);
            }
            let known = &known[(first + step) % known.len()];
            if let Err(error) = self.ensure(known).await {
                known.waiting.failed(&error);
                is_well = false;
            }
        }
        (None, is_well)
    }

    /// After `pause`, or sooner where copies may be asked for again of a JetStream that answers.
    fn next_look(&self, pause: Duration, is_well: bool) -> Instant {
        let now = Instant::now();
        let due = self.known().values().filter_map(|known| known.raise.due()).min().filter(|_| is_well);
        let latest = now + pause;
        due.map_or(latest, |due| due.clamp(now + OPEN_PAUSE_MAX.min(pause), latest))
    }

    fn server(&self) -> async_nats::ServerInfo {
        self.0.client.server_info()
    }

    async fn make(&self, wanted: &Config) -> Result<Stream, BusError> {
        let what = format!("stream `{}`", wanted.name);
        // Never with a first sequence: nats-server 2.10.26 killed before it wrote its index loses what such a stream holds.
        let mut config = Config { num_replicas: self.0.copies.of(&self.server()), ..wanted.clone() };
        loop {
            let error = match self.0.api.create_stream(config.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            match error.kind() {
                // Of a NATS cluster that is smaller than three, or not whole now; the copies are made when they can be.
                CreateStreamErrorKind::JetStream(refusal)
                    if self.0.copies.is_auto() && config.num_replicas > 1 && lacks_servers(&refusal) =>
                {
                    config.num_replicas = 1;
                }
                // Another member was faster, and found another number of servers.
                CreateStreamErrorKind::JetStream(refusal)
                    if refusal.kind() == ErrorCode::STREAM_NAME_EXIST =>
                {
                    let stream = self.0.api.get_stream(&wanted.name).await;
                    return stream.map_err(|error| BusError::unavailable(&what, &error));
                }
                CreateStreamErrorKind::JetStream(refusal) => return Err(self.refused(&what, &refusal)),
                _ => return Err(BusError::unavailable(&what, &error)),
            }
        }
    }

    fn refused(&self, what: &str, refusal: &jetstream::Error) -> BusError {
        if super::checks::is_disabled(refusal) {
            return super::checks::no_jetstream(&self.server(), refusal.to_string());
        }
        BusError::unavailable(what, refusal)
    }
}

impl Known {
    fn new(wanted: Config, remove: String) -> Self {
        Self {
            waiting: Waiting::new(format!("JetStream to open stream `{}`", wanted.name)),
            wanted,
            remove,
            generation: watch::channel(0).0,
            created: Mutex::default(),
            raise: Raise::default(),
        }
    }

    /// The stream's name.
    pub(super) fn name(&self) -> &str {
        &self.wanted.name
    }

    /// Notes which stream this is; tells when it is another than before.
    fn note(&self, stream: &Stream) {
        let created = stream.cached_info().created.to_string();
        let before = lock(&self.created).replace(created.clone());
        if before.is_some_and(|before| before != created) {
            tracing::warn!("stream `{}` was gone and has been made anew", self.wanted.name);
            self.generation.send_modify(|generation| *generation += 1);
        }
    }
}

/// [`BusError::Unavailable`] while there is no connection.
pub(super) fn check_connected(client: &Client, what: &str) -> Result<(), BusError> {
    if client.connection_state() == State::Connected {
        return Ok(());
    }
    Err(BusError::Unavailable { what: what.to_owned(), reason: "not connected to NATS".to_owned() })
}

/// Looks at every known stream now and then, when its copies may be asked for again, and after each reconnect, until the
/// connection's last handle is gone.
async fn look_after(inner: Weak<Inner>, mut connected: watch::Receiver<u64>) {
    let (mut pause, mut first, mut was_well) = (LOOK_EVERY, 0, true);
    loop {
        let until = match inner.upgrade() {
            Some(inner) => Streams(inner).next_look(pause, was_well),
            None => return,
        };
        tokio::select! {
            changed = connected.changed() => match changed {
                Ok(()) => tokio::time::sleep(LOOK_AFTER_RECONNECT).await,
                Err(_) => return,
            },
            () = tokio::time::sleep_until(until) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let next;
        (next, was_well) = Streams(inner).look(first).await;
        match next {
            None => (pause, first) = (LOOK_EVERY, 0),
            // The rest is looked at soon, later each time: a JetStream that does not answer is asked once a round.
            Some(next) if pause == LOOK_EVERY => (pause, first) = (OPEN_PAUSE_MAX, next),
            Some(next) => (pause, first) = ((pause * 2).min(LOOK_EVERY), next),
        }
    }
}

/// Whether a server refuses because there are too few servers for that many copies.
fn lacks_servers(refusal: &jetstream::Error) -> bool {
    matches!(
        refusal.kind(),
        ErrorCode::CLUSTER_NO_PEERS
            | ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED
            | ErrorCode::INSUFFICIENT_RESOURCES
    )
}

/// The first setting that matters and differs: as found, as wanted. Copies, placement and limits on size are the
/// operator's own affair.
fn difference(found: &Config, wanted: &Config) -> Option<(String, String)> {
    macro_rules! compare {
        ($($field:ident),*) => {
            $(if found.$field != wanted.$field {
                let name = stringify!($field);
                return Some((format!("{name} {:?}", found.$field), format!("{name} {:?}", wanted.$field)));
            })*
        };
    }
    compare!(
        subjects,
        retention,
        max_messages_per_subject,
        discard,
        discard_new_per_subject,
        max_age,
        allow_direct,
        allow_rollup
    );
    None
}

/// Every critical section here leaves the state whole, so a poisoned lock is taken as it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
