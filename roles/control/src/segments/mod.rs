//! What becomes of the segments that the node archives: decisions alone, without clock, bus, node or disk.
//!
//! ```text
//!   announced ─▶ Wanted ─ fetch ─▶ Fetching ─▶ Writing ── durable ──▶ Spooled ── every piece in a cache ──▶ placed ─▶ known
//!                  ▲                   │          │ ▲                   │  ╲                                  (told, then
//!                  ├──── failed ◀──────┘          ▼ │ disk refuses      │   ▶ held is told                      deleted here)
//!                  │                            InMemory ─── placed ────│──────────────────────────────────▶ placed
//!                  └───────────────────────── damaged ◀─────────────────┘
//!   acknowledged: as soon as the segment is Spooled here, or another says that he holds it, or it is placed
//! ```
//! Owns: what is fetched, held, placed, acknowledged, told and deleted, and when. Never: acknowledges what nobody holds durably;
//! deletes what the store does not know as placed; tells of a history with a segment in it that is not placed, or of a shorter one.
//!
//! One controller fetches, by lease ([`crate::lease`]). The others wait for its word and fetch themselves when it does not come
//! within a patience that leaves the node's two minutes time enough: to fetch twice costs a little, not to fetch loses the segment.
//! Segments that were archived before anybody looked are a [`backlog`]. Everything the store said may be gone with it: after
//! [`Event::StoreOpened`] it is compared with what this controller knows, and told again; and what no controller knows to be placed any
//! more is looked for in the caches, by whoever has the lease.

mod backlog;
mod choice;
mod looks;
mod ranges;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::InstanceId;
use crate::lease::Standing;
use crate::retry::Retry;
use backlog::Backlog;
use looks::Looks;
use ranges::Ranges;

pub use looks::{LOOK_SEGMENTS_MAX, Stretch};
pub use words::{Action, Event, Note, Tell, Word};

/// Segments a spool holds at most: 4 GiB, some hours of the network's history.
pub const SPOOL_SEGMENTS_MAX: usize = 16;
/// How long the word of the lease's holder is waited for before a segment is fetched here. The node waits 120 s for an
/// acknowledgement; fetching and verifying takes up to half of that on a small host.
pub const FETCH_PATIENCE: Duration = Duration::from_secs(30);
/// The same while nobody is known to have the lease, and how long caches may take to be seen that perhaps have the segment.
pub const FETCH_PATIENCE_ALONE: Duration = Duration::from_secs(5);
/// How long others who hold a segment are left to place it.
pub const PLACE_PATIENCE: Duration = Duration::from_secs(60);
/// After this a node has its newest segment no longer (its 120 s, and some).
pub const NODE_HOLDS_FOR: Duration = Duration::from_secs(150);

/// Pauses between tries to fetch what the node has only now.
const FETCH_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));
/// Pauses between tries to write to a disk that refused.
const SPOOL_PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// Pauses between tries to place; short again when a cache comes.
const PLACE_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// Pause after the store or the node did not take a word.
const TELL_PAUSE: Duration = Duration::from_secs(2);
/// Words on their way to the store at once.
const TELLS_MAX: usize = 32;
/// Segments under way here; a cluster that is this far behind leaves the oldest to the backlog.
const LIVE_MAX: usize = 256;
/// Words of others that are kept; more would be a fault.
const HELD_MAX: usize = 4096;
/// Segments for which acknowledgements are owed; a node waits for its newest alone.
const OWED_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Wanted,
    Fetching,
    Writing,
    InMemory,
    Spooled,
}

/// A segment under way.
#[derive(Debug)]
struct Live {
    stage: Stage,
    /// Whether it is of the backlog: nobody waits for it.
    is_old: bool,
    /// Whether the node said just now that it has it.
    is_announced: bool,
    /// Whether it is fetched although others say that they hold it.
    is_distrustful: bool,
    since: Duration,
    /// When to fetch, or to write.
    retry: Retry,
    place: Retry,
}

impl Live {
    fn new(stage: Stage, is_old: bool, now: Duration) -> Self {
        let retry = Retry::new(FETCH_PAUSE.0, FETCH_PAUSE.1, now);
        let place = Retry::new(PLACE_PAUSE.0, PLACE_PAUSE.1, now);
        Self { stage, is_old, is_announced: false, is_distrustful: false, since: now, retry, place }
    }

    fn is_in_memory(&self) -> bool {
        matches!(self.stage, Stage::Fetching | Stage::Writing | Stage::InMemory)
    }
}

/// Acknowledgements that the node waits for.
#[derive(Debug, Clone, Copy)]
struct Owed {
    count: u32,
    underway: u32,
    due: Duration,
}

/// One controller's part in all segments. Times are since its start.
#[derive(Debug)]
pub struct Segments {
    me: InstanceId,
    spool_max: usize,
    live: BTreeMap<u64, Live>,
    owed: BTreeMap<u64, Owed>,
    backlog: Backlog,
    looks: Looks,
    /// Segments the node has; none before it was asked.
    history: Option<u64>,
    /// Segments the cluster has.
    known: u64,
    /// What is placed, and what of that the store is known to have.
    placed: Ranges,
    placed_told: Ranges,
    held_by_others: BTreeMap<u64, InstanceId>,
    held_told: BTreeSet<u64>,
    telling: BTreeSet<Tell>,
    tell_at: Duration,
    is_store_read: bool,
    lease: Standing,
    caches: usize,
    placing: Option<u64>,
    is_full_told: bool,
    now: Duration,
}

impl Segments {
    /// A controller `me` whose spool holds at most `spool_max` segments ([`SPOOL_SEGMENTS_MAX`]).
    pub fn new(me: InstanceId, spool_max: usize, now: Duration) -> Self {
        Self {
            me,
            spool_max,
            live: BTreeMap::new(),
            owed: BTreeMap::new(),
            backlog: Backlog::new(now),
            looks: Looks::new(now),
            history: None,
            known: 0,
            placed: Ranges::default(),
            placed_told: Ranges::default(),
            held_by_others: BTreeMap::new(),
            held_told: BTreeSet::new(),
            telling: BTreeSet::new(),
            tell_at: now,
            is_store_read: false,
            lease: Standing::Unknown,
            caches: 0,
            placing: None,
            is_full_told: false,
            now,
        }
    }

    /// Whether the segment is held durably: here, by another, or by the caches.
    pub fn is_safe(&self, index: u64) -> bool {
        let is_spooled = self.live.get(&index).is_some_and(|live| live.stage == Stage::Spooled);
        is_spooled || self.held_by_others.contains_key(&index) || self.placed.contains(index)
    }

    /// The lowest segment that this controller holds and that is not placed: what a cluster without settings must not be told of.
    pub fn first_unplaced(&self) -> Option<u64> {
        self.live.iter().find(|(_, live)| live.stage == Stage::Spooled).map(|(index, _)| *index)
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        self.now = now;
        let mut actions = Vec::new();
        self.take(event, &mut actions);
        self.finish(&mut actions);
        self.acknowledge(&mut actions);
        self.tell(&mut actions);
        actions.extend(self.next_write().map(Action::Spool));
        actions.extend(self.next_place().map(Action::Place));
        self.note_room(&mut actions);
        actions.extend(self.next_look().map(Action::Look));
        actions.extend(self.next_fetch().map(Action::Fetch));
        actions
    }

    /// When [`Event::Tick`] is due; none while time alone changes nothing.
    pub fn wake_at(&self) -> Option<Duration> {
        let of_live = self.live.iter().flat_map(|(index, live)| {
            let patience = live.since + self.fetch_patience(*index, live);
            [live.retry.due, live.place.due, patience, live.since + PLACE_PATIENCE]
        });
        let of_owed = self.owed.values().map(|owed| owed.due);
        let others = [self.tell_at, self.backlog.due(), self.looks.due()];
        of_live.chain(of_owed).chain(others).filter(|at| *at > self.now).min()
    }

    fn take(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Found(indexes) => {
                for index in indexes {
                    self.live.insert(index, Live::new(Stage::Spooled, false, self.now));
                }
            }
            // What was owed to the node before may be owed still, and is harmless where it is not.
            Event::Began => self.backlog.begin_anew(self.now),
            Event::Announced(index) => self.announced(index),
            Event::History(segments) => self.history(segments),
            Event::Lease(standing) => self.lease = standing,
            Event::Caches(count) => self.caches(count),
            Event::Fetched(_) | Event::NotFetched { .. } => self.fetch_ended(&event, actions),
            Event::Spooled(_) | Event::NotSpooled(_) => self.write_ended(&event),
            Event::Damaged(index) => self.damaged(index, actions),
            Event::Placed(_) | Event::NotPlaced(_) => self.place_ended(&event),
            Event::Seen { stretch, placed } => self.seen(stretch, &placed),
            Event::Acknowledged(index) => self.acknowledged(index, true),
            Event::NotAcknowledged(index) => self.acknowledged(index, false),
            Event::Told(tell) => self.told(tell),
            Event::NotTold(tell) => {
                self.telling.remove(&tell);
                self.tell_at = self.now + TELL_PAUSE;
            }
            Event::StoreOpened => {
                self.is_store_read = false;
                self.placed_told = Ranges::default();
                self.held_by_others.clear();
                self.held_told.clear();
                self.looks.begin_anew(self.now);
            }
            Event::Store(word) => self.heard(word),
            Event::StoreRead => self.is_store_read = true,
            Event::Tick => {}
        }
    }

    fn announced(&mut self, index: u64) {
        while self.owed.len() >= OWED_MAX {
            self.owed.pop_first();
        }
        let none = Owed { count: 0, underway: 0, due: self.now };
        let owed = self.owed.entry(index).or_insert(none);
        owed.count = owed.count.saturating_add(1);
        self.want(index, true);
    }

    /// A segment that the node has now, and soon no more.
    fn want(&mut self, index: u64, is_announced: bool) {
        if self.placed.contains(index) {
            return;
        }
        if let Some(live) = self.live.get_mut(&index) {
            live.is_old = false;
            live.is_announced |= is_announced;
            if live.stage == Stage::Wanted {
                (live.since, live.retry.due) = (self.now, self.now);
            }
            return;
        }
        if self.live.len() >= LIVE_MAX {
            let wanted =
                self.live.iter().find(|(_, live)| live.stage == Stage::Wanted).map(|(index, _)| *index);
            let Some(oldest) = wanted else { return };
            self.live.remove(&oldest);
        }
        self.live.insert(index, Live { is_announced, ..Live::new(Stage::Wanted, false, self.now) });
    }

    fn history(&mut self, segments: u64) {
        let is_longer = self.history.replace(segments).is_none_or(|before| before < segments);
        if let Some(newest) = segments.checked_sub(1).filter(|_| is_longer) {
            // Perhaps it was announced while nobody listened.
            self.want(newest, false);
        }
    }

    fn caches(&mut self, count: usize) {
        if count > self.caches {
            self.live.values_mut().for_each(|live| live.place.begin_anew(self.now));
            self.looks.begin_anew(self.now);
        }
        self.caches = count;
    }

    fn fetch_ended(&mut self, event: &Event, actions: &mut Vec<Action>) {
        let (Event::Fetched(index) | Event::NotFetched { index, .. }) = *event else { return };
        let Some(live) = self.live.get_mut(&index).filter(|live| live.stage == Stage::Fetching) else {
            return;
        };
        if matches!(event, Event::Fetched(_)) {
            // Where it is placed meanwhile it is let go at once.
            live.stage = Stage::InMemory;
            live.retry = Retry::new(SPOOL_PAUSE.0, SPOOL_PAUSE.1, self.now);
            return;
        }
        live.stage = Stage::Wanted;
        live.retry.failed(self.now);
        let is_gone = matches!(event, Event::NotFetched { is_gone: true, .. });
        if live.is_old {
            self.live.remove(&index);
            self.backlog.failed(self.now);
        } else if is_gone && self.now.saturating_sub(live.since) >= NODE_HOLDS_FOR {
            self.live.remove(&index);
            let is_missed = index >= self.known && !self.is_safe(index);
            actions.extend(is_missed.then_some(Action::Note(Note::Missing(index))));
        }
    }

    fn write_ended(&mut self, event: &Event) {
        let (Event::Spooled(index) | Event::NotSpooled(index)) = *event else { return };
        let Some(live) = self.live.get_mut(&index).filter(|live| live.stage == Stage::Writing) else {
            return;
        };
        if matches!(event, Event::Spooled(_)) {
            (live.stage, live.is_distrustful) = (Stage::Spooled, false);
        } else {
            live.stage = Stage::InMemory;
            live.retry.failed(self.now);
        }
    }

    fn damaged(&mut self, index: u64, actions: &mut Vec<Action>) {
        if self.live.get(&index).is_some_and(|live| live.stage != Stage::Spooled) {
            return;
        }
        if self.placing == Some(index) {
            self.placing = None;
        }
        if self.held_told.remove(&index) || self.telling.remove(&Tell::Held(index)) {
            actions.push(Action::Tell(Tell::NotHeld(index)));
        }
        self.live.remove(&index);
        if !self.placed.contains(index) {
            // What others say may be this one's own word, from an earlier run.
            let live = Live { is_distrustful: true, ..Live::new(Stage::Wanted, false, self.now) };
            self.live.insert(index, live);
        }
    }

    fn place_ended(&mut self, event: &Event) {
        let (Event::Placed(index) | Event::NotPlaced(index)) = *event else { return };
        if self.placing != Some(index) {
            return;
        }
        self.placing = None;
        if matches!(event, Event::Placed(_)) {
            self.placed.insert(index);
            self.held_by_others.remove(&index);
        } else if let Some(live) = self.live.get_mut(&index) {
            live.place.failed(self.now);
        }
    }

    fn acknowledged(&mut self, index: u64, is_taken: bool) {
        let Some(owed) = self.owed.get_mut(&index).filter(|owed| owed.underway > 0) else { return };
        owed.underway -= 1;
        if is_taken {
            owed.count = owed.count.saturating_sub(1);
        } else {
            owed.due = self.now + TELL_PAUSE;
        }
        if owed.count == 0 {
            self.owed.remove(&index);
        }
    }

    fn told(&mut self, tell: Tell) {
        // Words that were on their way while the store was read anew may have gone to the one before.
        if !self.telling.remove(&tell) || !self.is_store_read {
            return;
        }
        match tell {
            Tell::Held(index) => drop(self.held_told.insert(index)),
            Tell::NotHeld(_) => {}
            Tell::Placed(index) => self.placed_told.insert(index),
            Tell::History(segments) => self.known = self.known.max(segments),
        }
    }

    fn heard(&mut self, word: Word) {
        match word {
            Word::Held { index, by } if by == self.me => drop(self.held_told.insert(index)),
            Word::Held { index, by } => {
                self.held_told.remove(&index);
                if self.held_by_others.len() < HELD_MAX && !self.placed.contains(index) {
                    self.held_by_others.insert(index, by);
                }
            }
            Word::NotHeld(index) => {
                self.held_by_others.remove(&index);
                self.held_told.remove(&index);
            }
            Word::Placed(index) => {
                self.placed.insert(index);
                self.placed_told.insert(index);
                self.held_by_others.remove(&index);
            }
            Word::Known(segments) => self.known = self.known.max(segments),
        }
    }

    /// Ends what is placed. A fetch or a write under way ends by itself first.
    fn finish(&mut self, actions: &mut Vec<Action>) {
        let (placed, told, placing) = (&self.placed, &self.placed_told, self.placing);
        let (held_told, telling) = (&mut self.held_told, &self.telling);
        self.live.retain(|index, live| {
            let is_over = placed.contains(*index) && placing != Some(*index);
            match live.stage {
                Stage::Wanted if is_over => return false,
                Stage::InMemory if is_over => actions.push(Action::LetGo(*index)),
                Stage::Spooled if is_over && told.contains(*index) => {
                    actions.push(Action::Delete(*index));
                    if held_told.remove(index) || telling.contains(&Tell::Held(*index)) {
                        actions.push(Action::Tell(Tell::NotHeld(*index)));
                    }
                }
                _ => return true,
            }
            false
        });
    }

    fn acknowledge(&mut self, actions: &mut Vec<Action>) {
        let safe: Vec<_> = self.owed.keys().copied().filter(|index| self.is_safe(*index)).collect();
        for index in safe {
            let Some(owed) = self.owed.get_mut(&index) else { continue };
            while owed.underway < owed.count && owed.due <= self.now {
                owed.underway += 1;
                actions.push(Action::Acknowledge(index));
            }
        }
    }

    fn tell(&mut self, actions: &mut Vec<Action>) {
        if !self.is_store_read || self.now < self.tell_at {
            return;
        }
        let spooled = self.live.iter().filter(|(_, live)| live.stage == Stage::Spooled);
        let held = spooled.map(|(index, _)| *index).filter(|index| {
            let is_known = self.held_told.contains(index) || self.held_by_others.contains_key(index);
            !is_known && !self.placed.contains(*index)
        });
        let mut words: Vec<_> = held.map(Tell::Held).collect();
        words.extend(self.placed.missing_in(&self.placed_told, TELLS_MAX).into_iter().map(Tell::Placed));
        // Only what the store has as placed: who reads of a longer history finds the marks as well.
        let history = self.placed_told.gap_from(self.known);
        words.extend((history > self.known && self.known > 0).then_some(Tell::History(history)));
        for word in words {
            if self.telling.len() < TELLS_MAX && self.telling.insert(word) {
                actions.push(Action::Tell(word));
            }
        }
    }

    fn note_room(&mut self, actions: &mut Vec<Action>) {
        let is_full = !self.has_room() && self.live.values().any(|live| live.stage == Stage::Wanted);
        if is_full != self.is_full_told && (is_full || self.has_room()) {
            self.is_full_told = is_full;
            actions.push(Action::Note(if is_full { Note::SpoolIsFull } else { Note::SpoolHasRoom }));
        }
    }
}

#[cfg(test)]
mod lost_tests;
#[cfg(test)]
mod test_world;
#[cfg(test)]
mod tests;
