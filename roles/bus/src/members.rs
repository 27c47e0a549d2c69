//! Who is in the cluster and who is alive: announcing a member, and running [`control::members`] for a watcher.
//!
//! ```text
//!   Announced ─▶ bucket `members`, key <role>.<id>      what a member is; written anew now and then, and after a loss
//!            └─▶ subject heartbeat.<role>.<id>          that it lives; one small message an interval
//!   MemberWatch: entries of those it needs, heartbeats of the roles it must hear ─▶ machine ─▶ MemberEvent
//! ```
//! Owns: the bucket's keys, subscriptions and clock. Never: a judgement on who lives; and nothing here waits for JetStream:
//! heartbeats go and come without it, entries follow when it is there.

use super::told::{Rarely, Waiting};
use super::{Bucket, BucketConfig, BusError, Message, SharedBus, Watch, WatchEvent};
use control::ids::InstanceId;
use control::members::{Event, Members, entries_for};
use control::messages::{Control, Heartbeat, MemberEntry, Role, subjects};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, SelectAll, once, pending, select_all};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use control::members::{Health, Liveness, MemberEvent, heartbeats_for};

const BUCKET: &str = "members";
/// How long a start waits for the bucket: to tell settings that differ at once. After that it is waited for in the background.
const OPEN_PATIENCE: Duration = Duration::from_secs(1);
/// Pause before an entry that could not be written is tried again, doubled up to the refresh.
const WRITE_PAUSE: Duration = Duration::from_secs(1);

type Opening = BoxFuture<'static, Result<Arc<dyn Bucket>, BusError>>;

/// The bucket, opened within a moment, or the opening to be waited for.
async fn open_bucket(
    bus: SharedBus,
    liveness: Liveness,
) -> Result<Result<Arc<dyn Bucket>, Opening>, BusError> {
    let config = BucketConfig { name: BUCKET.to_owned(), max_age: Some(liveness.entry_max_age()) };
    let mut opening: Opening = Box::pin(async move { bus.bucket(&config).await });
    match tokio::time::timeout(OPEN_PATIENCE, &mut opening).await {
        Ok(opened) => opened.map(Ok),
        Err(_) => Ok(Err(opening)),
    }
}

fn key(role: Role, id: InstanceId) -> String {
    format!("{}.{id}", role.token())
}

/// What the member of this id has told of itself, if it has and the bucket can be read within a moment.
pub async fn entry_of(
    bus: &SharedBus,
    id: InstanceId,
    liveness: Liveness,
) -> Result<Option<MemberEntry>, BusError> {
    let Ok(bucket) = open_bucket(bus.clone(), liveness).await? else { return Ok(None) };
    let entries = tokio::time::timeout(OPEN_PATIENCE, bucket.entries(&format!("*.{id}"))).await;
    let entries = entries.unwrap_or(Ok(Vec::new()))?;
    Ok(entries.iter().find_map(|entry| MemberEntry::from_bytes(&entry.value).ok()))
}

/// A member's presence. Dropped, the heartbeats stop and others notice in time; [`Self::leave`] tells them at once.
pub struct Announced {
    /// The bucket, once it is open.
    bucket: Arc<Mutex<Option<Arc<dyn Bucket>>>>,
    entry: tokio::sync::watch::Sender<MemberEntry>,
    tasks: [JoinHandle<()>; 2],
}

impl Announced {
    /// Starts the heartbeats, and writes the entry as soon as JetStream takes it. An error is one that no waiting mends.
    pub async fn start(bus: SharedBus, entry: MemberEntry, liveness: Liveness) -> Result<Self, BusError> {
        let beating = tokio::spawn(beat(bus.clone(), Heartbeat { role: entry.role, id: entry.id }, liveness));
        let bucket = Arc::new(Mutex::new(None));
        let (entry, entries) = tokio::sync::watch::channel(entry);
        let opened = match open_bucket(bus, liveness).await {
            Ok(opened) => opened,
            Err(error) => {
                beating.abort();
                return Err(error);
            }
        };
        let written = tokio::spawn(keep_written(opened, bucket.clone(), entries, liveness));
        Ok(Self { bucket, entry, tasks: [beating, written] })
    }

    /// Replaces the entry: new capacity, new addresses. Role and id stay.
    pub fn update(&self, change: impl FnOnce(&mut MemberEntry)) {
        self.entry.send_modify(|entry| {
            let (role, id) = (entry.role, entry.id);
            change(entry);
            (entry.role, entry.id) = (role, id);
        });
    }

    /// Leaves the cluster.
    pub async fn leave(self) -> Result<(), BusError> {
        self.tasks.iter().for_each(JoinHandle::abort);
        let (role, id) = (self.entry.borrow().role, self.entry.borrow().id);
        let bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take();
        match bucket {
            Some(bucket) => bucket.delete(&key(role, id)).await.map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Heartbeats for ever. One that cannot be sent is told with the connection it lacks.
async fn beat(bus: SharedBus, heartbeat: Heartbeat, liveness: Liveness) {
    let subject = subjects::heartbeat(heartbeat.role, heartbeat.id);
    let Ok(bytes) = heartbeat.to_bytes() else { return };
    for round in 0u64.. {
        if let Err(error) = bus.publish(&subject, bytes.clone()).await {
            tracing::debug!("heartbeat: {error}");
        }
        tokio::time::sleep(jittered(liveness.interval, heartbeat.id, round)).await;
    }
}

/// Keeps the entry written: at first, when it changes, when it is due, and when the bucket was lost.
async fn keep_written(
    opened: Result<Arc<dyn Bucket>, Opening>,
    opened_bucket: Arc<Mutex<Option<Arc<dyn Bucket>>>>,
    mut entries: tokio::sync::watch::Receiver<MemberEntry>,
    liveness: Liveness,
) {
    let bucket = match opened {
        Ok(bucket) => bucket,
        Err(opening) => match opening.await {
            Ok(bucket) => bucket,
            Err(error) => return tracing::error!("this member is not announced: {error}"),
        },
    };
    *opened_bucket.lock().unwrap_or_else(PoisonError::into_inner) = Some(bucket.clone());
    let mut generation = bucket.generation();
    let (waiting, mut pause) =
        (Waiting::new("the bucket of members to take this member's entry"), WRITE_PAUSE);
    loop {
        let entry = entries.borrow_and_update().clone();
        generation.mark_unchanged();
        let wait = match write_entry(&*bucket, &entry).await {
            Ok(()) => {
                waiting.over();
                pause = WRITE_PAUSE;
                liveness.refresh
            }
            Err(error) => {
                waiting.failed(&error);
                pause = (pause * 2).min(liveness.refresh);
                pause / 2
            }
        };
        tokio::select! {
            changed = entries.changed() => if changed.is_err() { return },
            Ok(()) = generation.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn write_entry(bucket: &dyn Bucket, entry: &MemberEntry) -> Result<(), BusError> {
    let key = key(entry.role, entry.id);
    let bytes = entry.to_bytes().map_err(|error| BusError::unavailable(&key, &error))?;
    bucket.put(&key, bytes).await.map(drop)
}

/// `interval`, up to a fifth shorter or longer, another in each round of each member.
fn jittered(interval: Duration, id: InstanceId, round: u64) -> Duration {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&id.0).update(&round.to_le_bytes());
    let share = f64::from(hasher.finalize().as_bytes()[0]) / 255.0;
    interval.mul_f64(0.8 + 0.4 * share)
}

/// Watches the members.
pub struct MemberWatch {
    bus: SharedBus,
    entries: Watch,
    /// Never ends.
    heartbeats: SelectAll<BoxStream<'static, Option<Message>>>,
    members: Members,
    started: Instant,
    events: VecDeque<MemberEvent>,
    unread: Rarely,
}

impl MemberWatch {
    /// Watches the entries and heartbeats of one role, or of all.
    pub async fn start(bus: SharedBus, role: Option<Role>, liveness: Liveness) -> Result<Self, BusError> {
        let token = role.map_or("*", Role::token);
        Self::over(bus, vec![format!("{token}.*")], role.map(|role| vec![role]), &[token], liveness).await
    }

    /// Watches what one of `role` needs: entries by [`entries_for`], heartbeats by [`heartbeats_for`].
    pub async fn start_for(bus: SharedBus, role: Role, liveness: Liveness) -> Result<Self, BusError> {
        let heard = heartbeats_for(role);
        let tokens: Vec<_> = heard.iter().map(|role| role.token()).collect();
        Self::over(bus, entries_for(role), Some(heard.to_vec()), &tokens, liveness).await
    }

    /// Entries under the keys `listed`, heartbeats of the roles `heard`, which are those of `tokens`.
    async fn over(
        bus: SharedBus,
        listed: Vec<String>,
        heard: Option<Vec<Role>>,
        tokens: &[&str],
        liveness: Liveness,
    ) -> Result<Self, BusError> {
        let mut heartbeats = vec![pending().boxed()];
        for token in tokens {
            let subscription = bus.subscribe(&format!("heartbeat.{token}.*")).await?;
            // Its end is an event, too: the bus is closed.
            heartbeats.push(subscription.0.map(Some).chain(once(async { None })).boxed());
        }
        let entries = match open_bucket(bus.clone(), liveness).await? {
            Ok(bucket) => bucket.watch_any(&listed).await?,
            Err(opening) => later(opening, listed),
        };
        Ok(Self {
            bus,
            entries,
            heartbeats: select_all(heartbeats),
            members: Members::new(heard, liveness, Duration::ZERO),
            started: Instant::now(),
            events: VecDeque::new(),
            unread: Rarely::default(),
        })
    }

    /// Members that are present, in order of their ids.
    pub fn present(&self) -> impl Iterator<Item = (&MemberEntry, Health)> {
        self.members.present()
    }

    /// Members that have an entry, in order of their ids: who may connect.
    pub fn listed(&self) -> impl Iterator<Item = &MemberEntry> {
        self.members.listed()
    }

    /// The next event; `None` when the bus is closed. Can be dropped and called again without loss.
    pub async fn next(&mut self) -> Option<MemberEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let judge_at = self.started + self.members.wake_at();
            // Judged only when everything that has come is read: a watcher that was busy must not blame others.
            let event = tokio::select! {
                biased;
                event = self.entries.next() => self.read_entry(event),
                message = self.heartbeats.next() => self.read_heartbeat(&message??),
                () = tokio::time::sleep_until(judge_at) => {
                    Some(Event::Tick { is_connected: self.bus.is_connected() })
                }
            };
            if let Some(event) = event {
                self.events.extend(self.members.on(event, self.started.elapsed()));
            }
        }
    }

    fn read_entry(&self, event: WatchEvent) -> Option<Event> {
        match event {
            WatchEvent::Ready => Some(Event::Replayed),
            // Its members write themselves anew; who does not is judged like any other.
            WatchEvent::Renewed => None,
            WatchEvent::Delete { key, .. } => {
                let id = key.rsplit('.').next()?.parse().ok()?;
                Some(Event::Left(id))
            }
            WatchEvent::Put(put) => match MemberEntry::from_bytes(&put.value) {
                Ok(entry) if is_key_of(&put.key, &entry) => Some(Event::Entry(entry)),
                Ok(_) => self.skip(&put.key, &"member entry under another's key"),
                Err(error) => self.skip(&put.key, &error),
            },
        }
    }

    fn read_heartbeat(&self, message: &Message) -> Option<Event> {
        match Heartbeat::from_bytes(&message.payload) {
            Ok(heartbeat) => Some(Event::Heartbeat(heartbeat.id)),
            Err(error) => self.skip(&message.subject, &error),
        }
    }

    fn skip(&self, what: &str, reason: &dyn std::fmt::Display) -> Option<Event> {
        if let Some(count) = self.unread.count() {
            tracing::warn!("skipped on `{what}`: {reason} ({count} such since the last line)");
        }
        None
    }
}

/// Whether `entry` may stand under `key`. What an unknown role is called there only its release knows.
fn is_key_of(key: &str, entry: &MemberEntry) -> bool {
    let Some((token, id)) = key.split_once('.') else { return false };
    id == entry.id.to_string() && (token == entry.role.token() || matches!(entry.role, Role::Other(_)))
}

/// The watch of a bucket that is still being opened.
fn later(opening: Opening, filters: Vec<String>) -> Watch {
    let opened = async move {
        let watch = match opening.await {
            Ok(bucket) => bucket.watch_any(&filters).await,
            Err(error) => Err(error),
        };
        watch.unwrap_or_else(|error| {
            tracing::error!("members are not watched: {error}");
            Watch::new(pending())
        })
    };
    Watch::new(once(opened).flat_map(|watch| watch.0))
}
