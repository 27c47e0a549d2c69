//! One plot-client a farm: whoever serves a key answers for it, so a farm that was copied is found out and one of the two stops.
//!
//! ```text
//!   Opened ─▶ Claiming ── 1 s, connected ─▶ Held        told at once, every 250 ms while claiming, every 2 s when held,
//!                │                            │          and after every reconnect
//!                ├──── another is judged to have held longer ────▶ Stopped (for good, until it is opened by a new start)
//!                └──── Closed here ──────────────────────────────▶ forgotten: nothing is said, so whoever claims it next begins
//! ```
//! Two that hear of each other must not both go on, nor both stop, although each knows only for how long the other had held the key
//! when its message left. So one of them judges: the client with the lower id. It compares the time in the message with its own, and
//! either stops, or says that the other is to stop ([`FarmHeld::over`]), once for ever. The other answers the judge's word
//! at once, so that it can judge, and obeys. Within the time of a message the judge is the one that goes on.
//!
//! Owns: which keys this client answers for. Never: a word about the farm's bytes, a clock of another host, or a decision by JetStream.

use crate::ids::InstanceId;
use crate::messages::{FarmHeld, bounded_text};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A farm that starts lets so long pass before its first solution or signature: time for whoever has it to say so.
pub const CLAIM: Duration = Duration::from_secs(1);
/// How often a farm that is being claimed is told of: four times, should some be lost.
pub const TELL_CLAIMING_EVERY: Duration = Duration::from_millis(250);
/// How often a farm that is held is told of: with one message lost, two clients still find each other within 5 s.
pub const TELL_EVERY: Duration = Duration::from_secs(2);
/// Rivals a verdict is remembered of, a key. More at once there are only in an attack; the first verdicts are then forgotten.
const VERDICTS_MAX: usize = 64;

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A farm was opened here, and its subject is subscribed to; a second farm of one key must not be opened.
    Opened {
        /// Its key.
        public_key: [u8; 32],
        /// Its folder.
        path: String,
    },
    /// A farm was let go of here: this client answers for it no more.
    Closed {
        /// Its key.
        public_key: [u8; 32],
    },
    /// Somebody's word on the subject of a farm here, perhaps our own.
    Heard(FarmHeld),
    /// Messages flow, at the start or again.
    Connected,
    /// They do not.
    Disconnected,
    /// Time has passed: [`Holder::wake_at`].
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Publish on the key's subject.
    Tell(FarmHeld),
    /// The farm may farm and sign from now on.
    Begin {
        /// Its key.
        public_key: [u8; 32],
    },
    /// The farm must do nothing any more, at once.
    Stop(Stopped),
}

/// A farm that another plot-client has held for longer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Stopped {
    /// The farm's key.
    pub public_key: [u8; 32],
    /// This host.
    pub host: String,
    /// The farm's folder here.
    pub path: String,
    /// The other host.
    pub other_host: String,
    /// The farm's folder there.
    pub other_path: String,
    /// The plot-client there.
    pub other_client: InstanceId,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, path, other_host, other_path, other_client, .. } = self;
        write!(
            f,
            "the farm in {path} on host {host} is the same as the one in {other_path} on host {other_host} (plot-client {other_client}), \
             which has been running for longer: this one is stopped, since two of them would forfeit the rewards of both. \
             Remove one of the copies"
        )
    }
}

/// What this client holds. Times are since the process's start.
#[derive(Debug)]
pub struct Holder {
    client: InstanceId,
    host: String,
    is_connected: bool,
    farms: BTreeMap<[u8; 32], Farm>,
}

#[derive(Debug)]
struct Farm {
    path: String,
    opened_at: Duration,
    /// When the claim is over; none once the farm is held.
    claimed_at: Option<Duration>,
    tell_at: Duration,
    /// Clients judged to be later than this one.
    later: Vec<InstanceId>,
}

impl Farm {
    fn tell_every(&self) -> Duration {
        if self.claimed_at.is_some() { TELL_CLAIMING_EVERY } else { TELL_EVERY }
    }

    fn held_ms(&self, now: Duration) -> u64 {
        u64::try_from(now.saturating_sub(self.opened_at).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Holder {
    /// Of a client that holds nothing yet and is not connected.
    pub fn new(client: InstanceId, host: &str) -> Self {
        Self { client, host: bounded_text(host), is_connected: false, farms: BTreeMap::new() }
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        match event {
            Event::Opened { public_key, path } => self.open(public_key, &path, now),
            Event::Closed { public_key } => {
                self.farms.remove(&public_key);
                Vec::new()
            }
            Event::Heard(held) => self.hear(&held, now),
            Event::Connected => self.connect(now),
            Event::Disconnected => {
                self.is_connected = false;
                Vec::new()
            }
            Event::Tick => self.tick(now),
        }
    }

    /// When [`Event::Tick`] is due.
    pub fn wake_at(&self) -> Option<Duration> {
        let due = |farm: &Farm| farm.claimed_at.unwrap_or(Duration::MAX).min(farm.tell_at);
        self.farms.values().map(due).min().filter(|_| self.is_connected)
    }

    /// Whether the farm of this key may farm and sign.
    pub fn may_farm(&self, public_key: &[u8; 32]) -> bool {
        self.farms.get(public_key).is_some_and(|farm| farm.claimed_at.is_none())
    }

    fn open(&mut self, public_key: [u8; 32], path: &str, now: Duration) -> Vec<Action> {
        if self.farms.contains_key(&public_key) {
            return Vec::new();
        }
        let farm = Farm {
            path: bounded_text(path),
            opened_at: now,
            claimed_at: Some(now + CLAIM),
            tell_at: now,
            later: Vec::new(),
        };
        self.farms.insert(public_key, farm);
        self.tick(now)
    }

    /// What was said meanwhile, here and there, was not heard.
    fn connect(&mut self, now: Duration) -> Vec<Action> {
        self.is_connected = true;
        for farm in self.farms.values_mut() {
            farm.tell_at = now;
            if let Some(claimed_at) = &mut farm.claimed_at {
                *claimed_at = now + CLAIM;
            }
        }
        self.tick(now)
    }

    fn tick(&mut self, now: Duration) -> Vec<Action> {
        if !self.is_connected {
            return Vec::new();
        }
        let mut actions = Vec::new();
        for (public_key, farm) in &mut self.farms {
            if farm.claimed_at.is_some_and(|at| at <= now) {
                farm.claimed_at = None;
                actions.push(Action::Begin { public_key: *public_key });
            }
        }
        let due = |farm: &Farm| farm.tell_at <= now;
        let due: Vec<_> = self.farms.iter().filter(|(_, farm)| due(farm)).map(|(key, _)| *key).collect();
        for public_key in due {
            if let Some(farm) = self.farms.get_mut(&public_key) {
                farm.tell_at = now + farm.tell_every();
            }
            actions.extend(self.tell(&public_key, None, now));
        }
        actions
    }

    fn tell(&self, public_key: &[u8; 32], over: Option<InstanceId>, now: Duration) -> Option<Action> {
        let farm = self.farms.get(public_key)?;
        Some(Action::Tell(FarmHeld {
            client: self.client,
            public_key: *public_key,
            host: self.host.clone(),
            path: farm.path.clone(),
            held_ms: farm.held_ms(now),
            over,
        }))
    }

    fn hear(&mut self, held: &FarmHeld, now: Duration) -> Vec<Action> {
        let (us, them) = (self.client, held.client);
        let Some(farm) = self.farms.get_mut(&held.public_key).filter(|_| us != them) else {
            return Vec::new();
        };
        if us > them {
            // They judge. Our word may be what they wait for, and they answer it.
            return match held.over {
                Some(over) if over == us => self.stop(held).into_iter().collect(),
                _ => self.tell(&held.public_key, None, now).into_iter().collect(),
            };
        }
        if !farm.later.contains(&them) {
            if held.held_ms > farm.held_ms(now) {
                return self.stop(held).into_iter().collect();
            }
            if farm.later.len() == VERDICTS_MAX {
                farm.later.remove(0);
            }
            farm.later.push(them);
        }
        self.tell(&held.public_key, Some(them), now).into_iter().collect()
    }

    fn stop(&mut self, held: &FarmHeld) -> Option<Action> {
        let farm = self.farms.remove(&held.public_key)?;
        Some(Action::Stop(Stopped {
            public_key: held.public_key,
            host: self.host.clone(),
            path: farm.path,
            other_host: held.host.clone(),
            other_path: held.path.clone(),
            other_client: held.client,
        }))
    }
}

#[cfg(test)]
mod tests;
