//! Who is in the cluster and who is alive, as one watcher sees it.
//!
//! ```text
//!   of a role whose heartbeats are heard:            of any other role:
//!     (none) ── entry ──▶ Unheard                      (none) ── entry ──▶ Listed ── not written anew ──▶ (none)
//!     Unheard, Suspect, Gone ── heard ──▶ Alive
//!     Alive ── silent ──▶ Suspect ── silent ──▶ Gone ── long after ──▶ (none)
//!   any ── left ──▶ (none)
//! ```
//! Owns: the entries of the members, their health by this watcher's own clock, and which role hears whose heartbeats. Never: a
//! judgement from a key's expiry (expired keys are silent), from an entry that was merely still there when the watch began,
//! or for a time in which the watcher itself heard nobody: cut off, stalled, or in front of a bucket that takes no writes.
//!
//! Heartbeats go to the few roles that must notice a death within seconds ([`heartbeats_for`]), and entries, each written once a
//! refresh, to those who serve or ask ([`entries_for`]), so deliveries grow with the members, not with their square. Who may
//! connect follows from entries alone ([`Members::listed`]).

use crate::ids::InstanceId;
use crate::messages::{MemberEntry, Role};
use std::collections::BTreeMap;
use std::time::Duration;

/// Members a watcher keeps; more would be a fault, not a cluster.
pub const MAX_MEMBERS: usize = 10_000;
/// An entry not written anew for so many refreshes is of a member that is gone: the bucket forgets it then, too.
const LAPSE_REFRESHES: u32 = 4;
/// A bucket in which nobody has written for so many refreshes takes no writes; nobody is judged by it.
const SILENT_REFRESHES: u32 = 2;
/// A member that is gone, or was never heard, is forgotten after so many refreshes.
const FORGET_REFRESHES: u32 = 8;

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

impl Liveness {
    /// After which time without being written the bucket forgets an entry.
    pub fn entry_max_age(&self) -> Duration {
        self.refresh * LAPSE_REFRESHES
    }
}

/// Whose heartbeats a member of `role` hears: those whose death it must notice within seconds, because it asks them or works
/// for them.
pub fn heartbeats_for(role: Role) -> &'static [Role] {
    match role {
        Role::PlotClient => &[Role::ProofServer, Role::PlotServer],
        Role::PlotServer => &[Role::ShardedCache, Role::FullPieceCache, Role::Controller, Role::PlotClient],
        Role::Controller => &[Role::ShardedCache, Role::FullPieceCache],
        Role::ShardedCache | Role::FullPieceCache | Role::ProofServer | Role::Other(_) => &[],
    }
}

/// Keys of the entries that a member of `role` needs, as filters of the members' bucket of which no two match the same key.
///
/// Whoever serves must know all who may connect, those of newer releases too. A plot-client serves nothing: it needs whom it
/// asks, which are those it hears, and the caches, of which it now and then rebuilds a damaged sector. Most members are plot-clients; if these heard of each other, deliveries would grow with the
/// square.
pub fn entries_for(role: Role) -> Vec<String> {
    match role {
        Role::PlotClient => {
            let asked = heartbeats_for(role).iter().chain(&[Role::ShardedCache, Role::FullPieceCache]);
            asked.map(|role| format!("{}.*", role.token())).collect()
        }
        _ => vec!["*.*".to_owned()],
    }
}

/// Heartbeats that are delivered in a second, in all, in a cluster of so many members of each role.
pub fn heartbeats_per_s(counts: &BTreeMap<Role, u32>, liveness: &Liveness) -> f64 {
    let count = |role: &Role| f64::from(counts.get(role).copied().unwrap_or(0));
    let heard_by_one = |hearer: &Role| heartbeats_for(*hearer).iter().map(count).sum::<f64>();
    let each_interval: f64 = Role::ALL.iter().map(|hearer| count(hearer) * heard_by_one(hearer)).sum();
    each_interval / liveness.interval.as_secs_f64()
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An entry was read: one of those that were there, or one just written.
    Entry(MemberEntry),
    /// The entries that were there when the watch began have all been read.
    Replayed,
    /// A member has taken its entry away.
    Left(InstanceId),
    /// A heartbeat came.
    Heartbeat(InstanceId),
    /// Time has passed. `is_connected`: whether messages reach this watcher now.
    Tick {
        /// See above.
        is_connected: bool,
    },
}

/// What a watcher learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberEvent {
    /// Its entry is new or has changed: it may connect with this certificate. Says nothing of its life.
    Listed(MemberEntry),
    /// Its entry is gone: it may not connect any more.
    Unlisted(InstanceId),
    /// Present: for the first time, or again after being suspect or gone.
    Joined(MemberEntry),
    /// Present, and its entry changed.
    Updated(MemberEntry),
    /// Silent for a while; it may come back.
    Suspect(InstanceId),
    /// Left, or silent for too long.
    Gone(InstanceId),
}

/// How a watcher sees a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Its entry is there; heartbeats of its role are not heard here.
    Listed,
    /// Its entry is there, but it has given no sign of life yet.
    Unheard,
    /// Heard within `suspect_after`.
    Alive,
    /// Heard within `gone_after`.
    Suspect,
    /// Not heard within `gone_after`; its entry is still there.
    Gone,
}

impl Health {
    fn is_present(self) -> bool {
        matches!(self, Self::Listed | Self::Alive | Self::Suspect)
    }
}

#[derive(Debug)]
struct Member {
    entry: MemberEntry,
    health: Health,
    /// Last sign of life: a heartbeat, or its entry written.
    heard_at: Duration,
    /// Last time its entry was written.
    written_at: Duration,
}

/// The members, as one watcher sees them. Times are since the process's start.
#[derive(Debug)]
pub struct Members {
    liveness: Liveness,
    /// Roles whose heartbeats are heard; none = all.
    heard: Option<Vec<Role>>,
    members: BTreeMap<InstanceId, Member>,
    is_replayed: bool,
    /// When any entry was last read.
    last_entry_at: Duration,
    judge_at: Duration,
    /// Entries that found no room.
    refused: u64,
}

impl Members {
    /// A watcher who hears the heartbeats of these roles; `None` = of all.
    pub fn new(heard: Option<Vec<Role>>, liveness: Liveness, now: Duration) -> Self {
        let members = BTreeMap::new();
        Self { liveness, heard, members, is_replayed: false, last_entry_at: now, judge_at: now, refused: 0 }
    }

    /// Members that are present (alive, suspect, or listed and not heard here), in order of their ids.
    pub fn present(&self) -> impl Iterator<Item = (&MemberEntry, Health)> {
        let is_present = |member: &&Member| member.health.is_present();
        self.members.values().filter(is_present).map(|member| (&member.entry, member.health))
    }

    /// All members that have an entry, in order of their ids, whatever is known of their lives: who may connect.
    pub fn listed(&self) -> impl Iterator<Item = &MemberEntry> {
        self.members.values().map(|member| &member.entry)
    }

    /// How many entries found no room; more than none is a fault to be told.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// When the next [`Event::Tick`] is due.
    pub fn wake_at(&self) -> Duration {
        self.judge_at
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<MemberEvent> {
        match event {
            Event::Entry(entry) => self.on_entry(entry, now),
            Event::Replayed => {
                self.is_replayed = true;
                Vec::new()
            }
            Event::Left(id) => self.remove(id),
            Event::Heartbeat(id) => self.heard(id, now).into_iter().collect(),
            Event::Tick { is_connected } => self.tick(is_connected, now),
        }
    }

    fn on_entry(&mut self, entry: MemberEntry, now: Duration) -> Vec<MemberEvent> {
        if now.saturating_sub(self.last_entry_at) > self.liveness.refresh * SILENT_REFRESHES {
            // For a while nobody could write: that says nothing about those who have not been able to yet.
            self.members.values_mut().for_each(|member| member.written_at = now);
        }
        self.last_entry_at = now;
        let (id, is_full) = (entry.id, self.members.len() >= MAX_MEMBERS);
        let mut actions = match self.members.get_mut(&id) {
            Some(member) => {
                member.written_at = now;
                changed(member, entry)
            }
            None if is_full => {
                self.refused += 1;
                return Vec::new();
            }
            None => self.insert(entry, now),
        };
        // An entry written while we watch is a sign of life; one that was there before is not.
        if self.is_replayed {
            actions.extend(self.heard(id, now));
        }
        actions
    }

    fn insert(&mut self, entry: MemberEntry, now: Duration) -> Vec<MemberEvent> {
        let is_heard = self.heard.as_ref().is_none_or(|heard| heard.contains(&entry.role));
        let health = if is_heard { Health::Unheard } else { Health::Listed };
        let member = Member { entry: entry.clone(), health, heard_at: now, written_at: now };
        self.members.insert(entry.id, member);
        let joined = (health == Health::Listed).then(|| MemberEvent::Joined(entry.clone()));
        [MemberEvent::Listed(entry)].into_iter().chain(joined).collect()
    }

    fn heard(&mut self, id: InstanceId, now: Duration) -> Option<MemberEvent> {
        // A heartbeat may overtake its entry; the next one will do.
        let member = self.members.get_mut(&id)?;
        if member.health == Health::Listed {
            return None;
        }
        member.heard_at = now;
        let before = std::mem::replace(&mut member.health, Health::Alive);
        (before != Health::Alive).then(|| MemberEvent::Joined(member.entry.clone()))
    }

    fn remove(&mut self, id: InstanceId) -> Vec<MemberEvent> {
        let Some(member) = self.members.remove(&id) else { return Vec::new() };
        let gone = member.health.is_present().then_some(MemberEvent::Gone(id));
        gone.into_iter().chain([MemberEvent::Unlisted(id)]).collect()
    }

    fn tick(&mut self, is_connected: bool, now: Duration) -> Vec<MemberEvent> {
        let is_late = now.saturating_sub(self.judge_at) > self.liveness.interval;
        self.judge_at = now + self.liveness.interval / 4;
        if !is_connected || is_late {
            // We are cut off, or slept; they need not be: everybody's time starts anew.
            for member in self.members.values_mut() {
                (member.heard_at, member.written_at) = (now, now);
            }
            self.last_entry_at = now;
            return Vec::new();
        }
        self.judge(now)
    }

    /// Whose time has run out.
    fn judge(&mut self, now: Duration) -> Vec<MemberEvent> {
        let Liveness { suspect_after, gone_after, refresh, .. } = self.liveness;
        let takes_writes = now.saturating_sub(self.last_entry_at) <= refresh * SILENT_REFRESHES;
        let mut actions = Vec::new();
        let mut lapsed = Vec::new();
        for (&id, member) in &mut self.members {
            let silence = now.saturating_sub(member.heard_at);
            match member.health {
                Health::Alive if silence >= suspect_after => {
                    member.health = Health::Suspect;
                    actions.push(MemberEvent::Suspect(id));
                }
                Health::Suspect if silence >= gone_after => {
                    member.health = Health::Gone;
                    actions.push(MemberEvent::Gone(id));
                }
                // Entries of the gone expire in silence; so they are forgotten here, some time after that.
                Health::Gone | Health::Unheard if silence >= refresh * FORGET_REFRESHES => lapsed.push(id),
                Health::Listed
                    if takes_writes && now.saturating_sub(member.written_at) >= refresh * LAPSE_REFRESHES =>
                {
                    lapsed.push(id);
                }
                _ => {}
            }
        }
        actions.extend(lapsed.into_iter().flat_map(|id| self.remove(id)));
        actions
    }
}

/// The entry of a member that is known was read again.
fn changed(member: &mut Member, entry: MemberEntry) -> Vec<MemberEvent> {
    if member.entry == entry {
        return Vec::new();
    }
    member.entry = entry.clone();
    let updated = matches!(member.health, Health::Alive | Health::Listed);
    let updated = updated.then(|| MemberEvent::Updated(entry.clone()));
    [MemberEvent::Listed(entry)].into_iter().chain(updated).collect()
}

#[cfg(test)]
mod tests;
