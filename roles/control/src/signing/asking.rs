//! The controller's side: what its node wants signed is asked of the one plot-client that has the key, until it answers or the node
//! no longer waits.
//!
//! ```text
//!   Wanted ─▶ Asking ── Signed ──▶ Submitting ── node's word ──▶ Concluded (Signed, NotTaken)
//!     │         │ ▲ └─ Refused, Silent: kept as the reason
//!     │         │ └─ every 100 ms: asked again, the tries before still count
//!     │         └─ 500 ms over ──▶ Concluded (Refused, Unanswered)
//!     └─ no solution of that key was handed to the node ──▶ Concluded (NotOurs), nobody is asked
//! ```
//! Owns: which keys the node may ask for, when a plot-client is asked, what is submitted, and the one counted end of every wish.
//! Never: a request for a key outside its window, a second submission of an answered wish, or a judgement on a signature: whoever
//! drives this verifies it first.

use super::{QUIET_AFTER, SECOND_HASH_WITHIN, WINDOW};
use crate::ids::InstanceId;
use crate::messages::RewardSigningRequest;
use std::collections::BTreeMap;
use std::time::Duration;

/// The node waits so long for a signature.
pub const NODE_PATIENCE: Duration = Duration::from_millis(500);
/// How often a plot-client that has not answered is asked again: five times before the node gives up.
pub const ASK_EVERY: Duration = Duration::from_millis(100);
/// Wishes under way. A node keeps only its present hash, so the oldest goes first.
const UNDERWAY_MAX: usize = 64;
/// Keys with a window: solutions of 15 s, dozens a slot, and room for a burst. The one that was handed over first goes first.
const KEYS_MAX: usize = 4096;

/// A hash that the node wants signed by a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted {
    /// The hash.
    pub hash: [u8; 32],
    /// Whose signature.
    pub public_key: [u8; 32],
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The node has queued a solution of this key, or may have.
    HandedToNode {
        /// Whose.
        public_key: [u8; 32],
    },
    /// The node wants a signature.
    Wanted(Wanted),
    /// The plot-client gave a signature, and it is valid.
    Signed {
        /// What was asked for.
        wanted: Wanted,
        /// sr25519 signature.
        signature: [u8; 64],
    },
    /// The plot-client will not, or what it gave is no valid signature.
    Refused {
        /// What was asked for.
        wanted: Wanted,
        /// Why.
        reason: String,
    },
    /// A try ended without an answer.
    Silent {
        /// What was asked for.
        wanted: Wanted,
        /// As the bus says.
        reason: String,
    },
    /// The node's word on a submitted signature.
    Submitted {
        /// What it is for.
        wanted: Wanted,
        /// Why the node did not take it.
        result: Result<(), String>,
    },
    /// Time has passed: [`Asking::wake_at`].
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask on the key's subject; the answer is of use for `patience`. Tries for the same wish overlap.
    Ask {
        /// The request.
        request: RewardSigningRequest,
        /// Until the node gives up.
        patience: Duration,
    },
    /// Hand the signature to the node, on its present connection.
    Submit {
        /// What it is for.
        wanted: Wanted,
        /// sr25519 signature.
        signature: [u8; 64],
    },
    /// The wish has come to its end.
    Concluded {
        /// Which.
        wanted: Wanted,
        /// How.
        outcome: Outcome,
        /// Why; empty for a signature that was taken.
        reason: String,
    },
}

/// Where a node's wish ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The node took the signature.
    Signed,
    /// No solution of that key went through this controller: another farmer's, on the same node.
    NotOurs,
    /// The plot-client refused, to the end.
    Refused,
    /// No answer in time.
    Unanswered,
    /// The node did not take the signature.
    NotTaken,
}

impl Outcome {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Signed, Self::NotOurs, Self::Refused, Self::Unanswered, Self::NotTaken];
}

/// The controller's side of signing. Times are since the process's start.
#[derive(Debug)]
pub struct Asking {
    controller: InstanceId,
    windows: BTreeMap<[u8; 32], Window>,
    underway: BTreeMap<Wanted, Wish>,
}

/// The solutions of one key.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// The last of them.
    handed_at: Duration,
    /// Those for which no signature has been taken yet.
    owed: u32,
    signed_at: Duration,
}

impl Window {
    fn is_open(&self, now: Duration) -> bool {
        now < self.handed_at + WINDOW
    }

    /// When nothing more is expected of it.
    fn quiet_at(&self) -> Duration {
        let at_the_latest = self.handed_at + QUIET_AFTER;
        if self.owed > 0 { at_the_latest } else { at_the_latest.min(self.signed_at + SECOND_HASH_WITHIN) }
    }
}

#[derive(Debug)]
enum Wish {
    Asking { until: Duration, ask_at: Duration, trouble: Option<(Outcome, String)> },
    Submitting,
}

impl Asking {
    /// Of a controller that has just started.
    pub fn new(controller: InstanceId) -> Self {
        Self { controller, windows: BTreeMap::new(), underway: BTreeMap::new() }
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        match event {
            Event::HandedToNode { public_key } => {
                self.open(public_key, now);
                Vec::new()
            }
            Event::Wanted(wanted) => self.want(wanted, now),
            Event::Signed { wanted, signature } => self.submit(wanted, signature),
            Event::Refused { wanted, reason } => self.note(wanted, Outcome::Refused, reason),
            Event::Silent { wanted, reason } => self.note(wanted, Outcome::Unanswered, reason),
            Event::Submitted { wanted, result } => self.conclude(wanted, result, now),
            Event::Tick => self.tick(now),
        }
    }

    /// When [`Event::Tick`] is due.
    pub fn wake_at(&self) -> Option<Duration> {
        let due = |wish: &Wish| match wish {
            Wish::Asking { until, ask_at, .. } => Some(*until.min(ask_at)),
            Wish::Submitting => None,
        };
        self.underway.values().filter_map(due).min()
    }

    /// Whether a controller that hands no more solutions to its node may end: no signature is under way, nor expected.
    pub fn is_quiet(&self, now: Duration) -> bool {
        self.underway.is_empty() && self.windows.values().all(|window| window.quiet_at() <= now)
    }

    fn open(&mut self, public_key: [u8; 32], now: Duration) {
        self.windows.retain(|_, window| window.is_open(now));
        if self.windows.len() >= KEYS_MAX && !self.windows.contains_key(&public_key) {
            let oldest = self.windows.iter().min_by_key(|(_, window)| window.handed_at).map(|(key, _)| *key);
            oldest.and_then(|key| self.windows.remove(&key));
        }
        let window = Window { handed_at: now, owed: 0, signed_at: now };
        let window = self.windows.entry(public_key).or_insert(window);
        window.handed_at = now;
        window.owed = window.owed.saturating_add(1);
    }

    fn want(&mut self, wanted: Wanted, now: Duration) -> Vec<Action> {
        let is_open = self.windows.get(&wanted.public_key).is_some_and(|window| window.is_open(now));
        let deadline = now + NODE_PATIENCE;
        match self.underway.get_mut(&wanted) {
            Some(Wish::Asking { until, .. }) => {
                // Wanted anew: the node waits anew.
                if is_open {
                    *until = deadline;
                }
                return Vec::new();
            }
            Some(Wish::Submitting) => return Vec::new(),
            None => {}
        }
        if !is_open {
            let reason = "no solution of this key went to the node through this controller in the last 15 s";
            return vec![Action::Concluded { wanted, outcome: Outcome::NotOurs, reason: reason.to_owned() }];
        }
        let mut actions = self.make_room();
        let wish = Wish::Asking { until: deadline, ask_at: now + ASK_EVERY, trouble: None };
        self.underway.insert(wanted, wish);
        actions.push(self.ask(wanted, NODE_PATIENCE));
        actions
    }

    fn ask(&self, wanted: Wanted, patience: Duration) -> Action {
        let Wanted { hash, public_key } = wanted;
        let request = RewardSigningRequest { controller: self.controller, hash, public_key };
        Action::Ask { request, patience }
    }

    /// The wish whose time is over first goes, if there are too many.
    fn make_room(&mut self) -> Vec<Action> {
        if self.underway.len() < UNDERWAY_MAX {
            return Vec::new();
        }
        let until = |wish: &Wish| match wish {
            Wish::Asking { until, .. } => *until,
            Wish::Submitting => Duration::ZERO,
        };
        let oldest = self.underway.iter().min_by_key(|(_, wish)| until(wish)).map(|(wanted, _)| *wanted);
        oldest.and_then(|wanted| self.end(wanted, "pushed out by newer hashes")).into_iter().collect()
    }

    fn submit(&mut self, wanted: Wanted, signature: [u8; 64]) -> Vec<Action> {
        match self.underway.get_mut(&wanted) {
            Some(wish @ Wish::Asking { .. }) => *wish = Wish::Submitting,
            _ => return Vec::new(),
        }
        vec![Action::Submit { wanted, signature }]
    }

    fn note(&mut self, wanted: Wanted, outcome: Outcome, reason: String) -> Vec<Action> {
        if let Some(Wish::Asking { trouble, .. }) = self.underway.get_mut(&wanted)
            // A refusal says more than a silence.
            && (outcome == Outcome::Refused || !matches!(trouble, Some((Outcome::Refused, _))))
        {
            *trouble = Some((outcome, reason));
        }
        Vec::new()
    }

    fn conclude(&mut self, wanted: Wanted, result: Result<(), String>, now: Duration) -> Vec<Action> {
        if !matches!(self.underway.get(&wanted), Some(Wish::Submitting)) {
            return Vec::new();
        }
        self.underway.remove(&wanted);
        let (outcome, reason) = match result {
            Ok(()) => (Outcome::Signed, String::new()),
            Err(reason) => (Outcome::NotTaken, reason),
        };
        if outcome == Outcome::Signed
            && let Some(window) = self.windows.get_mut(&wanted.public_key)
        {
            window.owed = window.owed.saturating_sub(1);
            window.signed_at = now;
        }
        vec![Action::Concluded { wanted, outcome, reason }]
    }

    fn tick(&mut self, now: Duration) -> Vec<Action> {
        let (mut over, mut again) = (Vec::new(), Vec::new());
        for (wanted, wish) in &mut self.underway {
            match wish {
                Wish::Asking { until, .. } if *until <= now => over.push(*wanted),
                Wish::Asking { until, ask_at, .. } if *ask_at <= now => {
                    *ask_at = now + ASK_EVERY;
                    again.push((*wanted, *until - now));
                }
                _ => {}
            }
        }
        let over = over.into_iter().filter_map(|wanted| self.end(wanted, "no answer within 500 ms"));
        let mut actions: Vec<_> = over.collect();
        actions.extend(again.into_iter().map(|(wanted, patience)| self.ask(wanted, patience)));
        actions
    }

    /// Ends a wish without a signature; `otherwise` says why where nothing was heard.
    fn end(&mut self, wanted: Wanted, otherwise: &str) -> Option<Action> {
        let (outcome, reason) = match self.underway.remove(&wanted)? {
            Wish::Asking { trouble: Some(trouble), .. } => trouble,
            Wish::Asking { trouble: None, .. } => (Outcome::Unanswered, otherwise.to_owned()),
            Wish::Submitting => (Outcome::NotTaken, otherwise.to_owned()),
        };
        Some(Action::Concluded { wanted, outcome, reason })
    }
}
