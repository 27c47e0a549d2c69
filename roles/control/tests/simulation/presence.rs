//! What every member does to be seen and to see others: entry, heartbeats, and the machine that judges who is there.

use super::member::{Expect, Id, Input, Output};
use control::ids::InstanceId;
use control::members::{Event, Liveness, Members, entries_for, heartbeats_for};
use control::messages::{Control, Heartbeat, MemberEntry, Role, subjects};
use std::time::Duration;

pub const BUCKET: &str = "members";
/// Pause before an entry that could not be written is tried again.
const WRITE_PAUSE: Duration = Duration::from_secs(2);

/// A member among members.
pub struct Presence {
    entry: MemberEntry,
    members: Members,
    /// Whose entries it hears of.
    filters: Vec<String>,
    liveness: Liveness,
    beat_at: Duration,
    round: u64,
    write_at: Duration,
    writing: Option<Id>,
    is_connected: bool,
}

impl Presence {
    pub fn new(role: Role, id: InstanceId, capacity: u64) -> Self {
        let liveness = Liveness::default();
        let entry = MemberEntry {
            role,
            id,
            addresses: Vec::new(),
            certificate_sha256: [0; 32],
            group: "default".to_owned(),
            host: "host".to_owned(),
            capacity,
            version: "1".to_owned(),
            is_full: false,
        };
        let members = Members::new(Some(heartbeats_for(role).to_vec()), liveness, Duration::ZERO);
        let (beat_at, write_at) = (Duration::ZERO, Duration::ZERO);
        let filters = entries_for(role);
        Self {
            entry,
            members,
            filters,
            liveness,
            beat_at,
            round: 0,
            write_at,
            writing: None,
            is_connected: false,
        }
    }

    /// As in an earlier release.
    pub fn watch_everybody(&mut self) {
        self.filters = vec!["*.*".to_owned()];
    }

    /// Members of a role that are present.
    pub fn present(&self, role: Role) -> impl Iterator<Item = &MemberEntry> {
        self.members.present().map(|(entry, _)| entry).filter(move |entry| entry.role == role)
    }

    pub fn is_present(&self, id: InstanceId) -> bool {
        self.members.present().any(|(entry, _)| entry.id == id)
    }

    pub fn wake_at(&self) -> Duration {
        self.beat_at.min(self.members.wake_at()).min(self.write_at)
    }

    pub fn on(&mut self, input: &Input, now: Duration, ids: &mut Id, out: &mut Vec<Output>) {
        match input {
            Input::Start => {
                for role in heartbeats_for(self.entry.role) {
                    out.push(Output::Subscribe(format!("heartbeat.{}.*", role.token())));
                }
                out.push(Output::KvWatch { bucket: BUCKET, filters: self.filters.clone() });
            }
            Input::Connected(is_connected) => self.is_connected = *is_connected,
            Input::Message { payload, reply_to: None, .. } => {
                if let Ok(heartbeat) = Heartbeat::from_bytes(payload) {
                    self.members.on(Event::Heartbeat(heartbeat.id), now);
                }
            }
            Input::Kv { bucket: BUCKET, key, value, .. } => {
                let event = match value.as_ref().map(|value| MemberEntry::from_bytes(value)) {
                    Some(Ok(entry)) => Some(Event::Entry(entry)),
                    Some(Err(_)) => None,
                    None => key.rsplit('.').next().and_then(|id| id.parse().ok()).map(Event::Left),
                };
                event.map(|event| self.members.on(event, now));
            }
            Input::KvReady { bucket: BUCKET } => drop(self.members.on(Event::Replayed, now)),
            Input::KvRenewed { bucket: BUCKET } => self.write_at = now,
            Input::KvWritten { id, result } if self.writing == Some(*id) => {
                self.writing = None;
                self.write_at = now + if result.is_ok() { self.liveness.refresh } else { WRITE_PAUSE };
            }
            _ => {}
        }
        self.go_on(now, ids, out);
    }

    /// What is due, whatever has happened.
    fn go_on(&mut self, now: Duration, ids: &mut Id, out: &mut Vec<Output>) {
        if now >= self.members.wake_at() {
            self.members.on(Event::Tick { is_connected: self.is_connected }, now);
        }
        if now >= self.beat_at {
            let Heartbeat { role, id } = Heartbeat { role: self.entry.role, id: self.entry.id };
            let payload = Heartbeat { role, id }.to_bytes().unwrap();
            out.push(Output::Publish { subject: subjects::heartbeat(role, id), payload });
            self.round += 1;
            let share =
                u32::from(blake3::hash(&[&id.0[..], &self.round.to_le_bytes()].concat()).as_bytes()[0]);
            self.beat_at = now + self.liveness.interval * (800 + share * 400 / 255) / 1000;
        }
        if now >= self.write_at {
            *ids += 1;
            self.writing = Some(*ids);
            // Written again should the answer never come.
            self.write_at = now + self.liveness.refresh;
            let key = format!("{}.{}", self.entry.role.token(), self.entry.id);
            let value = Some(self.entry.to_bytes().unwrap());
            out.push(Output::KvWrite { id: *ids, bucket: BUCKET, key, value, expect: Expect::Any });
        }
    }
}
