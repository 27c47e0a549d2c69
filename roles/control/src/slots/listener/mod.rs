//! A finder's side: of all that several controllers announce, each (slot, challenge) is worked on once, while it is of use.
//!
//! ```text
//!   heard ─┬─ worked on already ───────────────────────────────────▶ nothing
//!          ├─ on time ─────────────────────────────────────────────▶ Work
//!          ├─ late, or the controller's first ─▶ held until it is quiet ─┬─ newest first ─▶ Work
//!          │                                                             └─ too little time left ─▶ Refuse (late)
//!          └─ four newer ones of that controller are known ────────▶ Refuse (old)
//! ```
//! A connection that comes back after an outage brings what was said meanwhile, the oldest first and within a moment. So what is
//! late waits until no more comes, and what is left is begun with the newest.
//!
//! Owns: what is worked on, and until when it is of use. Never: a comparison of two clocks, or which controller gets a solution.

use super::lateness::Lateness;
use super::recent::{RecentSlots, SlotKey};
use crate::ids::InstanceId;
use crate::messages::SlotInfo;
use std::collections::VecDeque;
use std::time::Duration;

/// Controllers remembered; a cluster has three or so. The one unheard for longest makes room.
pub const MAX_CONTROLLERS: usize = 64;
/// Slots remembered to be worked on or refused: as many as all controllers together hold recent.
const REMEMBERED: usize = 4 * MAX_CONTROLLERS;
/// A slot no later than this is begun at once.
pub const ON_TIME: Duration = Duration::from_millis(250);
/// What is late waits until that controller has been quiet for this long.
pub const SETTLE: Duration = Duration::from_millis(200);
/// And at most for this long.
pub const MAX_HOLD: Duration = Duration::from_millis(1000);
/// A slot with less than this part of the farming timeout left is not begun: an audit and a proof take longer.
const USEFUL_PART: u32 = 8;

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerEvent {
    /// A controller announced a slot.
    Heard(SlotInfo),
    /// How long after its beginning a slot's solution is of use.
    FarmingTimeout(Duration),
    /// Time has passed; see [`Listener::wake_at`].
    Tick,
}

/// Why a slot is not worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The node that announced it has announced four newer ones, and ignores solutions for it.
    Old,
    /// Its time is over, or nearly.
    Late {
        /// Since it began.
        age: Duration,
    },
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerAction {
    /// Audit and prove until `deadline`.
    Work {
        /// For this.
        slot: SlotInfo,
        /// When it is of no use any more.
        deadline: Duration,
    },
    /// Count it as lost; once a (slot, challenge).
    Refuse {
        /// Slot number.
        slot: u64,
        /// Why.
        reason: Refusal,
    },
}

/// What a plot-client has heard of slots.
#[derive(Debug)]
pub struct Listener {
    farming_timeout: Duration,
    controllers: Vec<Known>,
    begun: Ring,
    refused: Ring,
}

/// The last few.
#[derive(Debug, Default)]
struct Ring(VecDeque<SlotKey>);

#[derive(Debug)]
struct Known {
    id: InstanceId,
    heard_at: Duration,
    lateness: Lateness,
    /// Whether it was quiet once since its first word, so that [`Known::lateness`] has seen a message that was on time.
    is_settled: bool,
    recent: RecentSlots<Heard>,
    hold: Option<Hold>,
}

#[derive(Debug)]
struct Heard {
    info: SlotInfo,
    arrived: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    since: Duration,
    until: Duration,
}

impl Listener {
    /// Nothing heard yet; solutions are of use for `farming_timeout` after their slot began.
    pub fn new(farming_timeout: Duration) -> Self {
        let (begun, refused) = (Ring::default(), Ring::default());
        Self { farming_timeout, controllers: Vec::new(), begun, refused }
    }

    /// When the next [`ListenerEvent::Tick`] is due.
    pub fn wake_at(&self) -> Option<Duration> {
        self.controllers.iter().filter_map(|known| known.hold).map(|hold| hold.until).min()
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: ListenerEvent, now: Duration) -> Vec<ListenerAction> {
        match event {
            ListenerEvent::FarmingTimeout(timeout) => self.farming_timeout = timeout,
            ListenerEvent::Tick => {}
            ListenerEvent::Heard(info) => {
                let mut actions = self.hear(&info, now);
                actions.append(&mut self.decide_due(now));
                return actions;
            }
        }
        self.decide_due(now)
    }

    fn hear(&mut self, info: &SlotInfo, now: Duration) -> Vec<ListenerAction> {
        let (key, timeout) = (SlotKey::from(info), self.farming_timeout);
        let at = self.index_of(info.controller, now);
        let known = &mut self.controllers[at];
        known.is_settled &= !known.lateness.is_unknown(now);
        known.heard_at = now;
        known.lateness.note(info.announced_ms, now, timeout);
        let is_on_time = known.is_settled && known.lateness.delay(info.announced_ms, now) <= ON_TIME;
        let heard = Heard { info: info.clone(), arrived: now };
        let gone = known.recent.announce(key, info.announced_ms, heard);
        let mut actions: Vec<_> =
            gone.iter().filter_map(|(gone, _)| self.refuse(*gone, Refusal::Old)).collect();
        let known = &mut self.controllers[at];
        if self.begun.has(&key) || !known.recent.has(&key) {
            return actions;
        }
        if is_on_time {
            // It came first, or is begun before what was held: either way it is the newest.
            actions.extend(self.begin_or_refuse(at, key, now));
        } else {
            let since = known.hold.map_or(now, |hold| hold.since);
            known.hold = Some(Hold { since, until: (now + SETTLE).min(since + MAX_HOLD) });
        }
        actions
    }

    /// Where the controller is kept, from now on if need be.
    fn index_of(&mut self, id: InstanceId, now: Duration) -> usize {
        if let Some(at) = self.controllers.iter().position(|known| known.id == id) {
            return at;
        }
        if self.controllers.len() == MAX_CONTROLLERS {
            let longest = (0..MAX_CONTROLLERS).min_by_key(|&at| self.controllers[at].heard_at);
            self.controllers.swap_remove(longest.expect("there are some"));
        }
        let (lateness, recent) = (Lateness::default(), RecentSlots::default());
        self.controllers.push(Known { id, heard_at: now, lateness, is_settled: false, recent, hold: None });
        self.controllers.len() - 1
    }

    /// Decides about what was held, of all controllers that are quiet by now.
    fn decide_due(&mut self, now: Duration) -> Vec<ListenerAction> {
        let mut due = Vec::new();
        for (at, known) in self.controllers.iter_mut().enumerate() {
            if known.hold.take_if(|hold| hold.until <= now).is_some() {
                known.is_settled = true;
                due.extend(known.recent.newest_first().map(|(key, _)| (key.slot, at, *key)));
            }
        }
        // The newest of all first, whoever announced it.
        due.sort_by_key(|(slot, at, _)| (std::cmp::Reverse(*slot), *at));
        due.into_iter().filter_map(|(_, at, key)| self.begin_or_refuse(at, key, now)).collect()
    }

    fn begin_or_refuse(&mut self, at: usize, key: SlotKey, now: Duration) -> Option<ListenerAction> {
        if self.begun.has(&key) {
            return None;
        }
        let known = &self.controllers[at];
        let (_, heard) = known.recent.newest_first().find(|(recent, _)| **recent == key)?;
        let delay = known.lateness.delay(heard.info.announced_ms, heard.arrived);
        let age = delay + now.saturating_sub(heard.arrived);
        let left = self.farming_timeout.saturating_sub(age);
        if left.is_zero() || left < self.farming_timeout / USEFUL_PART {
            return self.refuse(key, Refusal::Late { age });
        }
        let slot = heard.info.clone();
        self.begun.push(key);
        Some(ListenerAction::Work { slot, deadline: now + left })
    }

    /// Told once, and not of a slot that is worked on.
    fn refuse(&mut self, key: SlotKey, reason: Refusal) -> Option<ListenerAction> {
        if self.begun.has(&key) || self.refused.has(&key) {
            return None;
        }
        self.refused.push(key);
        Some(ListenerAction::Refuse { slot: key.slot, reason })
    }
}

impl Ring {
    fn has(&self, key: &SlotKey) -> bool {
        self.0.contains(key)
    }

    fn push(&mut self, key: SlotKey) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(key);
    }
}

#[cfg(test)]
mod tests;
