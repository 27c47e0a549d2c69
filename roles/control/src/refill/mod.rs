//! What a cache pulls and lets go, so that it holds what it should (DESIGN 3): the one loop behind a join, a drain, another size, a
//! full-piece cache that comes late, a damaged piece and `reinitialization-cache`.
//!
//! ```text
//!   Idle ── owners, history, peers or the own store changed, or a pause is over ─▶ Looking ── own index ─▶ Comparing, a stretch a step
//!    ▲                                                                                                       │
//!    ├── asked of all ── Asking: have the owners what is held beyond that? ─ yes ─▶ LetGo ◀── all tried ── Pulling: what is lacking,
//!    │                                                                                                     newest segment first
//!    └── an epoch that begins ends the round early; whatever else changes meanwhile is seen to in another one, a while later
//! ```
//! A round that leaves something to be done is followed by another after a pause that doubles; one that leaves nothing, by another when
//! something changes, or a while later: a controller gives a piece to the next cache when its owner does not answer.
//!
//! Owns: what is pulled, from whom, in which order, and what is let go. Never: lets go of a piece whose owners have not all said just now
//! that they have it, in the same epoch, or of one that this cache should hold; pulls what is not history yet, since whoever places it brings it.

mod pace;
mod round;
mod sources;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::InstanceId;
use crate::messages::Epoch;
use crate::rendezvous::{Owners, fingerprint};
use crate::retry::Retry;
use consensus::piece_set::PieceSet;

pub use pace::Pace;
use round::{Round, count};
pub use sources::{Peers, owned, sources};
pub use words::{ASK_SEGMENTS_MAX, Action, Event, Kind, Pieces, Progress, Pulled};

/// Pieces on their way here at once.
pub const PULLS_AT_ONCE: usize = 8;
/// Segments compared in one step: each takes 256 looks at the owners.
const COMPARED_AT_ONCE: usize = 32;
/// So long after an epoch began nothing is let go. By then whoever decided by the one before has done what he decided: else two caches
/// could each let a piece go because the other still has it.
const EPOCH_SETTLES: Duration = Duration::from_secs(10);
/// Segments of which pieces are pulled in one round; the others are for the next.
const PULLED_SEGMENTS_MAX: usize = 65_536;
/// Pauses between rounds that leave something to be done; the first is also the shortest between any two of an epoch.
const ROUND_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Pause after a round that left nothing to be done.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// One cache's loop. Times are since its start.
#[derive(Debug, Clone)]
pub struct Refill {
    me: InstanceId,
    kind: Kind,
    epoch: Option<Epoch>,
    /// Of that epoch.
    owners: Option<Owners>,
    /// When it was heard of.
    epoch_at: Duration,
    history: u64,
    peers: Peers,
    round: Round,
    /// An epoch has begun since the round has.
    is_stale: bool,
    /// Something else has changed since then.
    again: bool,
    /// When the last round ended.
    ended_at: Option<Duration>,
    retry: Retry,
    /// When the next round begins, if none is under way.
    next_at: Duration,
    progress: Progress,
    /// A round has ended, and nothing has changed since it began.
    is_settled: bool,
    now: Duration,
}

impl Refill {
    /// A cache that has just started.
    pub fn new(me: InstanceId, kind: Kind) -> Self {
        let retry = Retry::new(ROUND_PAUSE.0, ROUND_PAUSE.1, Duration::ZERO);
        Self {
            me,
            kind,
            epoch: None,
            owners: None,
            epoch_at: Duration::ZERO,
            history: 0,
            peers: Peers::default(),
            round: Round::Idle,
            is_stale: false,
            again: false,
            ended_at: None,
            retry,
            next_at: Duration::ZERO,
            progress: Progress::default(),
            is_settled: false,
            now: Duration::ZERO,
        }
    }

    /// Of the present round, or the last.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The epoch that is followed, if one is known.
    pub fn epoch(&self) -> Option<&Epoch> {
        self.epoch.as_ref()
    }

    /// What tells that epoch from others.
    pub fn fingerprint(&self) -> Option<u64> {
        self.epoch.as_ref().map(fingerprint)
    }

    /// Whether it holds what it should and nothing else, since a round that nothing has disturbed.
    pub fn is_settled(&self) -> bool {
        self.is_settled && self.progress.is_done()
    }

    /// Pieces that are others' and stay here after a round all the same: no owner says that he has them. None while a round is under way.
    pub fn kept(&self) -> u64 {
        let is_over = matches!(self.round, Round::Idle) && !self.is_stale;
        if is_over { self.progress.surplus.saturating_sub(self.progress.let_go) } else { 0 }
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        self.now = now;
        let mut actions = Vec::new();
        self.take(event, &mut actions);
        self.go_on(&mut actions);
        actions
    }

    /// When [`Event::Tick`] is due; none while something else is waited for.
    pub fn wake_at(&self) -> Option<Duration> {
        match &self.round {
            Round::Comparing { .. } => Some(self.now),
            Round::Idle if self.may_begin() => Some(self.next_at),
            Round::Asking { stretch: None, .. } => Some(self.epoch_at + EPOCH_SETTLES),
            _ => None,
        }
    }

    fn take(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            // The store is followed in order, and one that was emptied may begin to count anew.
            Event::Epoch(epoch) if self.epoch.as_ref() != Some(&epoch) => {
                self.owners = Some(Owners::new(&epoch));
                (self.epoch, self.epoch_at) = (Some(epoch), self.now);
                self.changed();
                (self.is_stale, self.next_at) = (true, self.now);
            }
            Event::History(segments) => {
                if segments > self.history {
                    self.history = segments;
                    self.changed();
                }
            }
            Event::Peers(peers) => {
                // Who has gone gives nothing; who comes may have what nobody had, or be told that he may let it go.
                let is_more = peers.has_others_than(&self.peers);
                self.peers = peers;
                if is_more {
                    self.changed();
                }
            }
            Event::Lost => self.changed(),
            Event::Held(held) => self.compare(held),
            Event::Pulled { index, pulled } => self.pulled(index, pulled),
            Event::Holds { owner, from_segment, pieces } => self.heard(owner, from_segment, &pieces, actions),
            Event::Tick | Event::Epoch(_) => {}
        }
    }

    /// Another round is due: now, or a while after the one before.
    fn changed(&mut self) {
        (self.again, self.is_settled) = (true, false);
        self.retry.begin_anew(self.now);
        let not_before = self.ended_at.map_or(Duration::ZERO, |ended_at| ended_at + ROUND_PAUSE.0);
        self.next_at = self.now.max(not_before);
    }

    /// Without owners a sharded cache cannot know what it should hold.
    fn may_begin(&self) -> bool {
        self.history > 0 && (self.kind == Kind::Full || self.owners.is_some())
    }

    fn compare(&mut self, held: Pieces) {
        if matches!(self.round, Round::Looking) {
            self.progress = Progress { held: count(&held), ..Progress::default() };
            self.round = Round::comparing(held, self.history);
        }
    }

    fn pulled(&mut self, index: u64, pulled: Pulled) {
        let Round::Pulling { lacking, underway, .. } = &mut self.round else { return };
        if !underway.remove(&index) {
            return;
        }
        match pulled {
            Pulled::Stored => self.progress.pulled += 1,
            Pulled::Nobody => self.progress.nowhere += 1,
            // Nor is there room for the others, until something is let go.
            Pulled::NotTaken => self.progress.not_taken += 1 + std::mem::take(lacking).count(),
        }
    }

    /// What its owners have may go from here.
    fn heard(&mut self, owner: InstanceId, from_segment: u64, has: &[PieceSet], actions: &mut Vec<Action>) {
        let Round::Asking { stretch: Some(stretch), .. } = &mut self.round else { return };
        if stretch.from_segment != from_segment || self.is_stale {
            return;
        }
        let Some(its) = stretch.owners.remove(&owner) else { return };
        for index in its.into_iter().filter(|index| sources::has(has, from_segment, *index)) {
            if stretch.confirmed(index) {
                self.progress.let_go += 1;
                actions.push(Action::LetGo { index });
            }
        }
    }

    fn go_on(&mut self, actions: &mut Vec<Action>) {
        match &mut self.round {
            Round::Idle => {
                if self.may_begin() && self.now >= self.next_at {
                    (self.is_stale, self.again) = (false, false);
                    self.round = Round::Looking;
                    actions.push(Action::Look);
                }
            }
            Round::Looking => {}
            Round::Comparing { .. } => self.compare_some(actions),
            Round::Pulling { .. } => self.pull_more(actions),
            Round::Asking { .. } => self.ask_more(actions),
        }
    }

    /// Compares some segments, unless something has changed meanwhile.
    fn compare_some(&mut self, actions: &mut Vec<Action>) {
        let (me, kind, owners, history) = (self.me, self.kind, self.owners.as_ref(), self.history);
        let Round::Comparing { held, next, lacking, surplus } = &mut self.round else { return };
        for _ in 0..COMPARED_AT_ONCE {
            let is_much = lacking.segments() == PULLED_SEGMENTS_MAX;
            self.progress.has_more |= is_much && *next > 0;
            let Some(segment) = next.checked_sub(1).filter(|_| !self.is_stale && !is_much) else {
                let (lacking, surplus) = (std::mem::take(lacking), std::mem::take(surplus));
                (self.progress.lacking, self.progress.surplus) = (lacking.count(), surplus.count());
                self.round = Round::Pulling { lacking, surplus, underway: BTreeSet::new() };
                return self.pull_more(actions);
            };
            // Beyond history only what is held counts, however far beyond it is.
            let segment = match held.range(..=segment).next_back() {
                Some((last, _)) if segment >= history => (*last).max(history.saturating_sub(1)),
                None if segment >= history => history.saturating_sub(1),
                _ => segment,
            };
            *next = segment;
            let held = held.get(&segment).copied().unwrap_or_default();
            let should = match (kind, owners) {
                (Kind::Full, _) => PieceSet::FULL,
                (Kind::Sharded, Some(owners)) => sources::owned(owners, me, segment),
                (Kind::Sharded, None) => PieceSet::EMPTY,
            };
            if segment < history {
                lacking.add(segment, should, held);
            }
            if kind == Kind::Sharded {
                surplus.add(segment, held, should);
            }
        }
    }

    fn pull_more(&mut self, actions: &mut Vec<Action>) {
        let (me, is_stale) = (self.me, self.is_stale);
        let Round::Pulling { lacking, surplus, underway } = &mut self.round else { return };
        while underway.len() < PULLS_AT_ONCE
            && !is_stale
            && let Some(index) = lacking.take_newest()
        {
            underway.insert(index);
            let from = sources(self.owners.as_ref(), &self.peers, me, index);
            actions.push(Action::Pull { index, from });
        }
        if underway.is_empty() {
            let surplus = std::mem::take(surplus);
            self.round = Round::Asking { surplus, stretch: None };
            self.ask_more(actions);
        }
    }

    /// Asks about the next stretch when the one before is answered for; ends the round after the last.
    fn ask_more(&mut self, actions: &mut Vec<Action>) {
        let Round::Asking { surplus, stretch } = &mut self.round else { return };
        let is_too_soon = self.now < self.epoch_at + EPOCH_SETTLES && !surplus.is_empty();
        if is_too_soon && !self.is_stale {
            return;
        }
        if stretch.as_ref().is_some_and(|stretch| !stretch.owners.is_empty()) && !self.is_stale {
            return;
        }
        let owners = self.owners.as_ref().filter(|_| !self.is_stale);
        *stretch = owners.and_then(|owners| surplus.next_stretch(owners, &self.peers));
        match stretch {
            Some(stretch) => actions.extend(stretch.questions()),
            None => self.end_round(),
        }
    }

    fn end_round(&mut self) {
        (self.round, self.ended_at) = (Round::Idle, Some(self.now));
        let is_moving = self.progress.pulled + self.progress.let_go > 0;
        self.next_at = match () {
            () if self.is_stale => self.now,
            // Whether what was let go is gone is seen by another look.
            () if self.again || is_moving => self.now + ROUND_PAUSE.0,
            () if self.progress.is_done() => self.now + LOOK_EVERY,
            () => {
                self.retry.failed(self.now);
                self.retry.due
            }
        };
        if is_moving {
            self.retry.begin_anew(self.now);
        }
        self.is_settled = !self.is_stale && !self.again;
    }
}
