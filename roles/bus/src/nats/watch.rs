//! A watch of a bucket: everything that is there, then every change, over lost connections and lost stores.

use super::keys::{Keys, is_deletion};
use crate::told::Waiting;
use crate::{BusError, Entry, WatchEvent};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use async_nats::jetstream::{Context, Message};
use async_nats::{HeaderMap, StatusCode};
use bytes::Bytes;
use futures::StreamExt;
use std::time::Duration;

/// How often the server says that a watch has nothing new.
const IDLE_HEARTBEAT: Duration = Duration::from_secs(2);
/// A watch that heard nothing for this long is made anew: its stream is gone, or the server that fed it.
const SILENCE: Duration = Duration::from_secs(5);
/// First pause after a failed attempt to make a watch anew, doubled up to the longest: all members of a cluster ask.
const WATCH_PAUSE: Duration = Duration::from_millis(200);
const WATCH_PAUSE_MAX: Duration = Duration::from_secs(3);

/// One watch. It reads an ephemeral ordered consumer of its own and makes a new one, from the last revision seen,
/// whenever the old one may have missed something: after a reconnect, a gap, or silence.
pub(super) struct Follower {
    keys: Keys,
    filters: Vec<String>,
    /// Everything up to this revision has been delivered.
    seen: u64,
    /// Last revision when the watch began. Nobody need hear of what was deleted before.
    began_at: Option<u64>,
    /// When the stream was made; another one starts its revisions anew.
    created: Option<String>,
    is_ready: bool,
    /// Whether the bucket was found to be another, and this is still to be said.
    is_renewed: bool,
    live: Option<Live>,
    waiting: Waiting,
    pause: Duration,
}

/// The consumer being read.
struct Live {
    messages: async_nats::Subscriber,
    context: Context,
    connected: tokio::sync::watch::Receiver<u64>,
    /// Messages received from it.
    received: u64,
    /// Messages it still has to deliver.
    pending: u64,
}

/// Why a consumer cannot be read on.
struct Broken;

impl Follower {
    pub(super) fn new(keys: Keys, filters: &[String]) -> Self {
        let waiting = Waiting::new(format!("the watch of stream `{}`", keys.known.name()));
        let filters = filters.to_vec();
        let (seen, began_at, created, live) = (0, None, None, None);
        Self {
            keys,
            filters,
            seen,
            began_at,
            created,
            is_ready: false,
            is_renewed: false,
            live,
            waiting,
            pause: WATCH_PAUSE,
        }
    }

    pub(super) async fn next(&mut self) -> WatchEvent {
        loop {
            let Some(live) = &mut self.live else {
                match self.attach().await {
                    Ok(live) => {
                        self.waiting.over();
                        self.pause = WATCH_PAUSE;
                        self.live = Some(live);
                    }
                    Err(error) => {
                        self.waiting.failed(&error);
                        tokio::time::sleep(self.pause).await;
                        self.pause = (self.pause * 2).min(WATCH_PAUSE_MAX);
                    }
                }
                continue;
            };
            if std::mem::take(&mut self.is_renewed) {
                self.is_ready = false;
                return WatchEvent::Renewed;
            }
            if live.pending == 0 && !self.is_ready {
                self.is_ready = true;
                return WatchEvent::Ready;
            }
            match live.receive().await {
                Ok(Some(change)) => {
                    if let Some(event) = self.event(change) {
                        return event;
                    }
                }
                Ok(None) => {}
                Err(Broken) => self.live = None,
            }
        }
    }

    /// Makes a consumer that delivers everything after `seen`.
    async fn attach(&mut self) -> Result<Live, BusError> {
        let mut connected = self.keys.streams.connected();
        connected.mark_unchanged();
        let stream = self.keys.streams.ensure(&self.keys.known).await?;
        let info = stream.cached_info();
        let created = info.created.to_string();
        let is_another = self.created.as_ref().is_some_and(|known| *known != created);
        if is_another || info.state.last_sequence < self.seen {
            self.seen = 0;
            self.is_renewed = true;
        }
        self.began_at.get_or_insert(info.state.last_sequence);
        self.created = Some(created);
        let client = self.keys.streams.client();
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await.map_err(|_| BusError::Closed)?;
        let consumer = stream.create_consumer(self.consumer_config(inbox)).await;
        let what = || self.keys.what(&self.filters.join("`, `"));
        let consumer = consumer.map_err(|error| BusError::unavailable(&what(), &error))?;
        let pending = consumer.cached_info().num_pending;
        let context = self.keys.streams.context().clone();
        Ok(Live { messages, context, connected, received: 0, pending })
    }

    fn consumer_config(&self, deliver_subject: String) -> push::Config {
        let deliver_policy = match self.seen {
            0 => DeliverPolicy::LastPerSubject,
            seen => DeliverPolicy::ByStartSequence { start_sequence: seen + 1 },
        };
        // One consumer whatever the number of filters: the server sends nothing else, and one idle heartbeat.
        let subjects = self.filters.iter().map(|filter| self.keys.subject(filter)).collect::<Vec<_>>();
        let (filter_subject, filter_subjects) = match <[String; 1]>::try_from(subjects) {
            Ok([subject]) => (subject, Vec::new()),
            Err(subjects) => (String::new(), subjects),
        };
        push::Config {
            deliver_subject,
            deliver_policy,
            filter_subject,
            filter_subjects,
            ack_policy: AckPolicy::None,
            idle_heartbeat: IDLE_HEARTBEAT,
            num_replicas: 1,
            memory_storage: true,
            ..push::Config::default()
        }
    }

    fn event(&mut self, change: Change) -> Option<WatchEvent> {
        let Change { subject, revision, value } = change;
        self.seen = revision;
        let key = subject.strip_prefix(&self.keys.subject(""))?.to_owned();
        match value {
            Some(value) => Some(WatchEvent::Put(Entry { key, value, revision })),
            None if self.began_at.is_none_or(|began_at| revision > began_at) => {
                Some(WatchEvent::Delete { key, revision })
            }
            None => None,
        }
    }
}

/// A change as read from a consumer.
struct Change {
    subject: String,
    revision: u64,
    value: Option<Bytes>,
}

impl Live {
    /// The next change, nothing after an idle heartbeat.
    async fn receive(&mut self) -> Result<Option<Change>, Broken> {
        let message = tokio::select! {
            biased;
            _ = self.connected.changed() => return Err(Broken),
            message = tokio::time::timeout(SILENCE, self.messages.next()) => message,
        };
        let Ok(Some(message)) = message else { return Err(Broken) };
        if message.status == Some(StatusCode::IDLE_HEARTBEAT) {
            return self.heard_idle(message.headers.as_ref());
        }
        let message = Message { message, context: self.context.clone() };
        let info = message.info().map_err(|_| Broken)?;
        self.received += 1;
        if info.consumer_sequence != self.received {
            return Err(Broken);
        }
        self.pending = info.pending;
        let is_deleted = message.headers.as_ref().is_some_and(is_deletion);
        let value = (!is_deleted).then(|| message.payload.clone());
        Ok(Some(Change { subject: message.subject.to_string(), revision: info.stream_sequence, value }))
    }

    /// The consumer has nothing to deliver; what it delivered must have come here.
    fn heard_idle(&mut self, headers: Option<&HeaderMap>) -> Result<Option<Change>, Broken> {
        let last = headers.and_then(|headers| headers.get("Nats-Last-Consumer"));
        let delivered: u64 = last.and_then(|last| last.as_str().parse().ok()).ok_or(Broken)?;
        if delivered != self.received {
            return Err(Broken);
        }
        self.pending = 0;
        Ok(None)
    }
}
