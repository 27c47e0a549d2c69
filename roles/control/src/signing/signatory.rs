//! The plot-client's side: what it signs, for whom, and how often.
//!
//! ```text
//!   HandedOver ─▶ window of (key, controller): 15 s, two new hashes ── NotTaken ─▶ closed
//!   Recalled ───▶ what is left of the 15 s, when the key is served
//!   Asked ─┬─ window open, or signed for that controller before ─▶ Sign ─▶ store ─▶ Stored ─▶ Answer (all who asked meanwhile)
//!          ├─ else ─▶ Answer (refused)
//!          └─ key not served (any more) ─▶ PassOver: whoever has it answers
//! ```
//! Whoever asks takes the first answer. So a client that does not serve a key is silent: a copy of the farm that was stopped would be
//! quicker with its refusal than the one that goes on, which writes first.
//!
//! Owns: the windows, and who waits for which hash. The store owns the signatures: it gives the one it has, or makes one where that is
//! allowed, and says which. Never: two questions to the store for one hash at a time, more than two new hashes a solution, a
//! new hash without a window of whoever asks, or an answer for a key that is not served (any more).

use super::{QUIET_AFTER, SECOND_HASH_WITHIN, WINDOW};
use crate::ids::InstanceId;
use crate::messages::{RewardSigningRequest, SigningAnswer, bounded_text};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A solution leads to one hash, a vote's or a block's, or to both.
pub const HASHES_PER_SOLUTION: u8 = 2;
/// Solutions of one key that one controller has at once; the oldest go first. Far more than any key finds in 15 s.
const SOLUTIONS_MAX: usize = 256;
/// Controllers that have solutions of one key at once; the one whose window ends first goes first.
const CONTROLLERS_MAX: usize = 64;
/// Hashes of one key that are being stored at once.
const UNDERWAY_MAX: usize = 16;
/// Requests that wait for one hash: a controller asks five times.
const ASKERS_MAX: usize = 16;
/// Hashes of one key of which it is remembered for whom they were signed; the oldest are forgotten.
const GIVEN_MAX: usize = 64;

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This plot-client has the key, alone.
    Serving {
        /// The key.
        public_key: [u8; 32],
    },
    /// It has it no longer.
    Lost {
        /// The key.
        public_key: [u8; 32],
    },
    /// A solution is about to leave for a controller.
    HandedOver {
        /// Whose.
        public_key: [u8; 32],
        /// For whom.
        controller: InstanceId,
    },
    /// An earlier run of this plot-client handed a solution over, or was about to. Said before the key is served, the oldest first.
    ///
    /// Nobody wrote down whether that controller's node took it and what was signed for it, so the window is open for the rest of its
    /// time and for two new hashes. What was signed before is in the store, and given again.
    Recalled {
        /// Whose.
        public_key: [u8; 32],
        /// To whom.
        controller: InstanceId,
        /// How long ago.
        age: Duration,
    },
    /// That controller's node certainly has not got it.
    NotTaken {
        /// Whose.
        public_key: [u8; 32],
        /// Who says so.
        controller: InstanceId,
    },
    /// Somebody asks for a signature.
    Asked {
        /// What for.
        request: RewardSigningRequest,
        /// Names the question in [`Action::Answer`]; never used for another.
        asker: u64,
    },
    /// The store's answer to [`Action::Sign`].
    Stored {
        /// Whose store.
        public_key: [u8; 32],
        /// The hash.
        hash: [u8; 32],
        /// What came of it.
        stored: Stored,
    },
}

/// What a store says about a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Signed now; it is durable.
    Fresh([u8; 64]),
    /// It was there, durable.
    Known([u8; 64]),
    /// It is not there, and none was to be made.
    Absent,
    /// Nothing may leave.
    Failed(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Look the hash up in the key's store; if it is not there and `may_be_new`, sign it and make that durable.
    Sign {
        /// Whose store.
        public_key: [u8; 32],
        /// The hash.
        hash: [u8; 32],
        /// Whether a signature may be made.
        may_be_new: bool,
    },
    /// Say nothing to a question, and forget it.
    PassOver {
        /// Which.
        asker: u64,
    },
    /// Answer a question.
    Answer {
        /// Which.
        asker: u64,
        /// With this.
        answer: SigningAnswer,
    },
}

/// The plot-client's side of signing, for all its keys. Times are since the process's start.
#[derive(Debug, Default)]
pub struct Signatory {
    keys: BTreeMap<[u8; 32], Key>,
    /// Windows of an earlier run, and their ends, by keys that are not served yet.
    recalled: BTreeMap<[u8; 32], VecDeque<(InstanceId, Duration)>>,
}

#[derive(Debug, Default)]
struct Key {
    /// Solutions that a controller has, the oldest first; none of the lists is empty.
    windows: BTreeMap<InstanceId, VecDeque<Solution>>,
    underway: BTreeMap<[u8; 32], Underway>,
    /// Hashes and whom they were signed for, the newest last.
    given: VecDeque<([u8; 32], InstanceId)>,
}

#[derive(Debug, Clone, Copy)]
struct Solution {
    until: Duration,
    hashes_left: u8,
    /// When nothing more is expected of it.
    quiet_at: Duration,
}

#[derive(Debug)]
struct Underway {
    /// Which solution's hash this is, if a new one: its controller and end.
    charged: Option<(InstanceId, Duration)>,
    askers: Vec<(u64, InstanceId)>,
}

impl Signatory {
    /// What follows from `event`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        match event {
            Event::Serving { public_key } => {
                let key = self.keys.entry(public_key).or_default();
                for (controller, until) in self.recalled.remove(&public_key).into_iter().flatten() {
                    key.open(controller, until, now);
                }
                Vec::new()
            }
            Event::Recalled { public_key, controller, age } => {
                self.recall(public_key, controller, age, now);
                Vec::new()
            }
            Event::Lost { public_key } => {
                self.recalled.remove(&public_key);
                self.keys.remove(&public_key).map(Key::pass_over_all).unwrap_or_default()
            }
            Event::HandedOver { public_key, controller } => {
                if let Some(key) = self.keys.get_mut(&public_key) {
                    key.open(controller, now + WINDOW, now);
                }
                Vec::new()
            }
            Event::NotTaken { public_key, controller } => {
                if let Some(key) = self.keys.get_mut(&public_key) {
                    key.close(controller);
                }
                Vec::new()
            }
            Event::Asked { request, asker } => match self.keys.get_mut(&request.public_key) {
                Some(key) => key.ask(request, asker, now),
                None => vec![Action::PassOver { asker }],
            },
            Event::Stored { public_key, hash, stored } => self
                .keys
                .get_mut(&public_key)
                .map(|key| key.stored(public_key, hash, stored, now))
                .unwrap_or_default(),
        }
    }

    /// From when on a plot-client that hands no more over may end, since no signature is expected of it; none while one is being made.
    pub fn quiet_at(&self) -> Option<Duration> {
        let quiet_at = self.keys.values().map(Key::quiet_at).collect::<Option<Vec<_>>>()?;
        Some(quiet_at.into_iter().max().unwrap_or_default())
    }

    /// The same of one key, which may be let go of then.
    pub fn key_quiet_at(&self, public_key: &[u8; 32]) -> Option<Duration> {
        self.keys.get(public_key).map_or(Some(Duration::ZERO), Key::quiet_at)
    }

    fn recall(&mut self, public_key: [u8; 32], controller: InstanceId, age: Duration, now: Duration) {
        let Some(left) = WINDOW.checked_sub(age).filter(|left| !left.is_zero()) else { return };
        let recalled = self.recalled.entry(public_key).or_default();
        if recalled.len() == SOLUTIONS_MAX {
            recalled.pop_front();
        }
        recalled.push_back((controller, now + left));
    }
}

impl Key {
    /// When nothing more is expected; none while something is being signed.
    fn quiet_at(&self) -> Option<Duration> {
        let solutions = self.windows.values().flatten();
        let quiet_at = solutions.map(|solution| solution.quiet_at).max().unwrap_or_default();
        self.underway.is_empty().then_some(quiet_at)
    }

    fn forget_old(&mut self, now: Duration) {
        for solutions in self.windows.values_mut() {
            solutions.retain(|solution| now < solution.until);
        }
        self.windows.retain(|_, solutions| !solutions.is_empty());
    }

    fn open(&mut self, controller: InstanceId, until: Duration, now: Duration) {
        self.forget_old(now);
        if self.windows.len() >= CONTROLLERS_MAX && !self.windows.contains_key(&controller) {
            let end = |solutions: &VecDeque<Solution>| solutions.back().map(|solution| solution.until);
            let first = self.windows.iter().min_by_key(|(_, solutions)| end(solutions)).map(|(id, _)| *id);
            first.and_then(|id| self.windows.remove(&id));
        }
        let solutions = self.windows.entry(controller).or_default();
        if solutions.len() == SOLUTIONS_MAX {
            solutions.pop_front();
        }
        let quiet_at = (until + QUIET_AFTER).saturating_sub(WINDOW);
        solutions.push_back(Solution { until, hashes_left: HASHES_PER_SOLUTION, quiet_at });
    }

    /// Takes back the newest solution of which nothing was signed: hashes are counted against the oldest, so that one is not this.
    fn close(&mut self, controller: InstanceId) {
        let Some(solutions) = self.windows.get_mut(&controller) else { return };
        let untouched = solutions.iter().rposition(|solution| solution.hashes_left == HASHES_PER_SOLUTION);
        solutions.remove(untouched.unwrap_or(solutions.len() - 1));
        if solutions.is_empty() {
            self.windows.remove(&controller);
        }
    }

    fn ask(&mut self, request: RewardSigningRequest, asker: u64, now: Duration) -> Vec<Action> {
        let RewardSigningRequest { controller, hash, public_key } = request;
        self.forget_old(now);
        if !self.windows.contains_key(&controller) && !self.given.contains(&(hash, controller)) {
            return vec![refuse(asker, "that controller was given no solution of this key in the last 15 s")];
        }
        if let Some(underway) = self.underway.get_mut(&hash) {
            if underway.askers.len() == ASKERS_MAX {
                return vec![refuse(asker, "too many wait for this hash")];
            }
            underway.askers.push((asker, controller));
            return Vec::new();
        }
        if self.underway.len() == UNDERWAY_MAX {
            return vec![refuse(asker, "too many hashes of this key are being stored")];
        }
        let charged = self.charge(controller, now);
        let may_be_new = charged.is_some();
        self.underway.insert(hash, Underway { charged, askers: vec![(asker, controller)] });
        vec![Action::Sign { public_key, hash, may_be_new }]
    }

    /// Counts a hash against the oldest solution that has one left. Another, or a question for the same again, comes soon or never.
    fn charge(&mut self, controller: InstanceId, now: Duration) -> Option<(InstanceId, Duration)> {
        let mut solutions = self.windows.get_mut(&controller)?.iter_mut();
        let solution = solutions.find(|solution| solution.hashes_left > 0)?;
        solution.hashes_left -= 1;
        solution.quiet_at = solution.quiet_at.min(now + SECOND_HASH_WITHIN);
        Some((controller, solution.until))
    }

    /// The hash was not new after all.
    fn refund(&mut self, (controller, until): (InstanceId, Duration)) {
        let solutions = self.windows.get_mut(&controller).into_iter().flatten();
        let is_charged =
            |solution: &&mut Solution| solution.until == until && solution.hashes_left < HASHES_PER_SOLUTION;
        if let Some(solution) = solutions.into_iter().find(is_charged) {
            solution.hashes_left += 1;
        }
    }

    fn stored(&mut self, public_key: [u8; 32], hash: [u8; 32], stored: Stored, now: Duration) -> Vec<Action> {
        let Some(Underway { charged, askers }) = self.underway.remove(&hash) else { return Vec::new() };
        // Whoever asked first may have nothing left while another that joined has: two controllers of one node ask for the same.
        if stored == Stored::Absent
            && charged.is_none()
            && let Some(charged) = askers.iter().find_map(|(_, controller)| self.charge(*controller, now))
        {
            self.underway.insert(hash, Underway { charged: Some(charged), askers });
            return vec![Action::Sign { public_key, hash, may_be_new: true }];
        }
        if let Some(charged) = charged
            && !matches!(stored, Stored::Fresh(_))
        {
            self.refund(charged);
        }
        let answer = match stored {
            Stored::Fresh(signature) | Stored::Known(signature) => SigningAnswer::Signed { signature },
            Stored::Absent => refusal("two hashes were signed for each solution of this key already"),
            Stored::Failed(reason) => refusal(&reason),
        };
        if matches!(answer, SigningAnswer::Signed { .. }) {
            askers.iter().for_each(|(_, controller)| self.remember(hash, *controller));
        }
        askers.into_iter().map(|(asker, _)| Action::Answer { asker, answer: answer.clone() }).collect()
    }

    fn remember(&mut self, hash: [u8; 32], controller: InstanceId) {
        if self.given.contains(&(hash, controller)) {
            return;
        }
        if self.given.len() == GIVEN_MAX {
            self.given.pop_front();
        }
        self.given.push_back((hash, controller));
    }

    fn pass_over_all(self) -> Vec<Action> {
        let askers = self.underway.into_values().flat_map(|underway| underway.askers);
        askers.map(|(asker, _)| Action::PassOver { asker }).collect()
    }
}

fn refusal(reason: &str) -> SigningAnswer {
    SigningAnswer::Refused { reason: bounded_text(reason) }
}

fn refuse(asker: u64, reason: &str) -> Action {
    Action::Answer { asker, answer: refusal(reason) }
}
