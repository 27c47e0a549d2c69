//! Who is in the cluster and who is alive.
//!
//! ```text
//!   announce ──▶ bucket `members`, key <role>.<id>      what a member is; written anew now and then
//!            └─▶ subject heartbeat.<role>.<id>          that it lives; one small message an interval
//!   MemberWatch: both ──▶ Joined, Updated, Suspect, Gone, by its own clock
//! ```
//! Owns: announcing and watching. Never: a judgement from a key's expiry (expired keys are silent), from an entry
//! that was merely still there when the watch began, or while the watcher itself is cut off from the bus.

use super::{Bucket, BucketConfig, Bus, BusError, Message, SharedBus, Subscription, Watch, WatchEvent};
use control::ids::InstanceId;
use control::messages::{Control, Heartbeat, MemberEntry, Role, subjects};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const BUCKET: &str = "members";
/// Members a watcher keeps; more would be a fault, not a cluster.
const MAX_MEMBERS: usize = 10_000;

/// The times of liveness; the same in the whole cluster.
#[derive(Debug, Clone, Copy)]
pub struct Liveness {
    /// Mean time between heartbeats; each is up to a fifth earlier or later.
    pub interval: Duration,
    /// Silence after which a member is suspect: ask others first.
    pub suspect_after: Duration,
    /// Silence after which a member is gone.
    pub gone_after: Duration,
    /// How often a member writes its entry anew; it expires after four of these.
    pub refresh: Duration,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            suspect_after: Duration::from_secs(6),
            gone_after: Duration::from_secs(15),
            refresh: Duration::from_secs(60),
        }
    }
}

async fn open_bucket(bus: &dyn Bus, liveness: &Liveness) -> Result<Arc<dyn Bucket>, BusError> {
    bus.bucket(&BucketConfig { name: BUCKET.to_owned(), max_age: Some(liveness.refresh * 4) }).await
}

fn key(role: Role, id: InstanceId) -> String {
    format!("{}.{id}", role.token())
}

/// A member's presence. Dropped, the heartbeats stop and others notice in time; [`Self::leave`] tells them at once.
pub struct Announced {
    bucket: Arc<dyn Bucket>,
    entry: tokio::sync::watch::Sender<MemberEntry>,
    task: JoinHandle<()>,
}

impl Announced {
    /// Writes the entry and starts the heartbeats.
    pub async fn start(bus: SharedBus, entry: MemberEntry, liveness: Liveness) -> Result<Self, BusError> {
        let bucket = open_bucket(&*bus, &liveness).await?;
        write_entry(&*bucket, &entry).await?;
        let (entry, entries) = tokio::sync::watch::channel(entry);
        let task = tokio::spawn(keep_alive(bus, bucket.clone(), entries, liveness));
        Ok(Self { bucket, entry, task })
    }

    /// Replaces the entry: new capacity, new addresses. Role and id stay.
    pub async fn update(&self, change: impl FnOnce(&mut MemberEntry)) -> Result<(), BusError> {
        let mut entry = self.entry.borrow().clone();
        let (role, id) = (entry.role, entry.id);
        change(&mut entry);
        (entry.role, entry.id) = (role, id);
        write_entry(&*self.bucket, &entry).await?;
        self.entry.send_replace(entry);
        Ok(())
    }

    /// Leaves the cluster.
    pub async fn leave(self) -> Result<(), BusError> {
        self.task.abort();
        let (role, id) = (self.entry.borrow().role, self.entry.borrow().id);
        self.bucket.delete(&key(role, id)).await.map(drop)
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn write_entry(bucket: &dyn Bucket, entry: &MemberEntry) -> Result<(), BusError> {
    let key = key(entry.role, entry.id);
    let bytes = entry.to_bytes().map_err(|error| BusError::unavailable(&key, &error))?;
    bucket.put(&key, bytes).await.map(drop)
}

/// Heartbeats for ever, and the entry anew when it is due. Failures are logged: the next round may do better.
async fn keep_alive(
    bus: SharedBus,
    bucket: Arc<dyn Bucket>,
    entries: tokio::sync::watch::Receiver<MemberEntry>,
    liveness: Liveness,
) {
    let (role, id) = (entries.borrow().role, entries.borrow().id);
    let subject = subjects::heartbeat(role, id);
    let Ok(heartbeat) = (Heartbeat { role, id }).to_bytes() else { return };
    let mut refresh_at = Instant::now() + liveness.refresh;
    for round in 0u64.. {
        if let Err(error) = bus.publish(&subject, heartbeat.clone()).await {
            tracing::warn!("heartbeat: {error}");
        }
        if Instant::now() >= refresh_at {
            refresh_at = Instant::now() + liveness.refresh;
            let entry = entries.borrow().clone();
            if let Err(error) = write_entry(&*bucket, &entry).await {
                tracing::warn!("member entry: {error}");
            }
        }
        tokio::time::sleep(jittered(liveness.interval, id, round)).await;
    }
}

/// `interval`, up to a fifth shorter or longer, another in each round of each member.
fn jittered(interval: Duration, id: InstanceId, round: u64) -> Duration {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&id.0).update(&round.to_le_bytes());
    let share = f64::from(hasher.finalize().as_bytes()[0]) / 255.0;
    interval.mul_f64(0.8 + 0.4 * share)
}

/// What a watcher learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberEvent {
    /// Alive: for the first time, or again after being suspect or gone.
    Joined(MemberEntry),
    /// Alive, and its entry changed.
    Updated(MemberEntry),
    /// Silent for a while; it may come back.
    Suspect(InstanceId),
    /// Left, or silent for too long.
    Gone(InstanceId),
}

/// How a watcher sees a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Its entry is there, but it has given no sign of life yet.
    Unheard,
    /// Heard within `suspect_after`.
    Alive,
    /// Heard within `gone_after`.
    Suspect,
    /// Not heard within `gone_after`; its entry is still there.
    Gone,
}

struct Member {
    entry: MemberEntry,
    health: Health,
    heard_at: Instant,
}

/// Watches the members of one role, or of all.
pub struct MemberWatch {
    bus: SharedBus,
    liveness: Liveness,
    entries: Watch,
    heartbeats: Subscription,
    members: BTreeMap<InstanceId, Member>,
    /// Whether the entries that were there at the start have all been read.
    is_replayed: bool,
    judge_at: Instant,
    events: VecDeque<MemberEvent>,
}

impl MemberWatch {
    /// Starts watching.
    pub async fn start(bus: SharedBus, role: Option<Role>, liveness: Liveness) -> Result<Self, BusError> {
        let bucket = open_bucket(&*bus, &liveness).await?;
        let role = role.map_or("*", Role::token);
        let heartbeats = bus.subscribe(&format!("heartbeat.{role}.*")).await?;
        let entries = bucket.watch(&format!("{role}.*")).await?;
        let (members, events, judge_at) = (BTreeMap::new(), VecDeque::new(), Instant::now());
        Ok(Self { bus, liveness, entries, heartbeats, members, is_replayed: false, judge_at, events })
    }

    /// Members that are alive or suspect, in order of their ids.
    pub fn present(&self) -> impl Iterator<Item = (&MemberEntry, Health)> {
        let is_present = |member: &&Member| matches!(member.health, Health::Alive | Health::Suspect);
        self.members.values().filter(is_present).map(|member| (&member.entry, member.health))
    }

    /// The next event; `None` when the bus is closed. Can be dropped and called again without loss.
    pub async fn next(&mut self) -> Option<MemberEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            // Judged only when everything that has come is read: a watcher that was busy must not blame others.
            tokio::select! {
                biased;
                event = self.entries.next() => self.on_entry(event),
                message = self.heartbeats.next() => self.on_heartbeat(&message?),
                () = tokio::time::sleep_until(self.judge_at) => {
                    self.judge();
                    self.judge_at = Instant::now() + self.liveness.interval / 4;
                }
            }
        }
    }

    fn on_entry(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Ready => self.is_replayed = true,
            WatchEvent::Renewed => {}
            WatchEvent::Delete { key, .. } => {
                let id = key.rsplit('.').next().and_then(|id| id.parse().ok());
                let member = id.and_then(|id| self.members.remove(&id));
                if let Some(member) =
                    member.filter(|member| matches!(member.health, Health::Alive | Health::Suspect))
                {
                    self.events.push_back(MemberEvent::Gone(member.entry.id));
                }
            }
            WatchEvent::Put(put) => match MemberEntry::from_bytes(&put.value) {
                Ok(entry) if put.key == key(entry.role, entry.id) => self.on_member(entry),
                Ok(_) => tracing::warn!(key = put.key, "member entry under another's key"),
                Err(error) => tracing::warn!(key = put.key, "member entry: {error}"),
            },
        }
    }

    fn on_member(&mut self, entry: MemberEntry) {
        let id = entry.id;
        let is_room = self.members.len() < MAX_MEMBERS;
        match self.members.get_mut(&id) {
            Some(member) if member.entry == entry => {}
            Some(member) => {
                member.entry = entry.clone();
                if member.health == Health::Alive {
                    self.events.push_back(MemberEvent::Updated(entry));
                }
            }
            None if is_room => {
                let member = Member { entry, health: Health::Unheard, heard_at: Instant::now() };
                self.members.insert(id, member);
            }
            None => tracing::error!("more than {MAX_MEMBERS} members, ignoring {id}"),
        }
        // An entry written while we watch is a sign of life; one that was there before is not.
        if self.is_replayed {
            self.heard(id);
        }
    }

    fn on_heartbeat(&mut self, message: &Message) {
        match Heartbeat::from_bytes(&message.payload) {
            Ok(heartbeat) => self.heard(heartbeat.id),
            Err(error) => tracing::warn!(subject = message.subject, "heartbeat: {error}"),
        }
    }

    fn heard(&mut self, id: InstanceId) {
        // A heartbeat may overtake its entry; the next one will do.
        let Some(member) = self.members.get_mut(&id) else { return };
        member.heard_at = Instant::now();
        if member.health != Health::Alive {
            member.health = Health::Alive;
            self.events.push_back(MemberEvent::Joined(member.entry.clone()));
        }
    }

    /// Whose time has run out.
    fn judge(&mut self) {
        let now = Instant::now();
        if !self.bus.is_connected() {
            // We are cut off, they need not be: everybody's time starts anew.
            self.members.values_mut().for_each(|member| member.heard_at = now);
            return;
        }
        for (&id, member) in &mut self.members {
            let silence = now.duration_since(member.heard_at);
            match member.health {
                Health::Alive if silence >= self.liveness.suspect_after => {
                    member.health = Health::Suspect;
                    self.events.push_back(MemberEvent::Suspect(id));
                }
                Health::Suspect if silence >= self.liveness.gone_after => {
                    member.health = Health::Gone;
                    self.events.push_back(MemberEvent::Gone(id));
                }
                _ => {}
            }
        }
        // Entries of the gone expire in silence; so they are forgotten here, some time after that.
        let kept_for = self.liveness.refresh * 8;
        self.members.retain(|_, member| {
            let is_absent = matches!(member.health, Health::Gone | Health::Unheard);
            !is_absent || now.duration_since(member.heard_at) < kept_for
        });
    }
}
