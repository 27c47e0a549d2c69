//! A finder's side: each solution goes to one controller after the other, until one may have sent it.
//!
//! ```text
//!   proved ─▶ Waiting ── a controller announced exactly its (slot, challenge), and has room ──▶ Remembering
//!     │         │ ▲                                                                                │ written down
//!     │         │ ├─ not sent, nobody there: that one is not asked again ◀─┐                       ▼
//!     │         │ └─ held back before it left: the same a moment later ◀───┴──────────────────── Asked ─┬─ queued ────────▶ Queued
//!     │         └─ deadline, also while it is written down ─▶ NotSent, with what stood in the way last  ├─ refused ───────▶ Refused
//!     ├─ its time is over ─▶ Expired                                                                    └─ unknown, silence ─▶ Unknown
//!     ├─ found before ─────▶ Known
//!     └─ an earlier run of this plot-client may have sent it ─▶ Unknown
//! ```
//! A solution stands in its farm's memory before it leaves. So a plot-client that is killed and started again within a slot's life, and
//! finds it anew because a node announces that slot late, does not send it to a second node. The memory names solutions, not slots:
//! others of the same slot go out after a restart too, and no number locks a farm out.
//!
//! Healthy controllers come first: one with a request that is unanswered for a second, or that left one unanswered, comes last until it
//! has announced a newer slot and a pause is over that doubles each time. Among equals the solution's hash decides, which
//! spreads them.
//!
//! Owns: all solutions of one plot-client that are under way. Never: a second controller after one that may have sent it.

mod controllers;

use self::controllers::Controllers;
pub use self::controllers::MAX_ASKS_A_CONTROLLER;
use super::recent::Recent;
use super::{Handover, Outcome, SolutionKey};
use crate::ids::{FarmId, InstanceId};
use crate::messages::{SlotInfo, SolutionAnswer, SolutionFound};
use crate::slots::SlotKey;
use consensus::solution::Solution;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Solutions under way at a time; beyond that the machine that proves has found more than any chain takes.
pub const MAX_SOLUTIONS: usize = 1024;
/// Solutions remembered, to send none twice.
const MAX_KNOWN: usize = 8192;
/// Silence after which nobody knows what became of a solution. More than a controller gives its node, so that its reason comes first.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Silence after which others are asked first.
pub const SLOW_AFTER: Duration = Duration::from_secs(1);
/// When to try again what was held back.
pub const HELD_BACK_PAUSE: Duration = Duration::from_millis(100);

/// One solution, in events and actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SolutionId(pub u64);

/// A solution that a farm has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// What it answers.
    pub slot: SlotKey,
    /// Which farm.
    pub farm: FarmId,
    /// The solution.
    pub solution: Solution,
    /// Distance to the challenge: less is better.
    pub distance: u64,
    /// When it is of no use any more.
    pub deadline: Duration,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinderEvent {
    /// A controller announced a slot: each word of each, also of slots that are not worked on.
    Heard(SlotInfo),
    /// The memory of a farm that was opened since: an earlier run, or this one before it let go of the farm, may have sent this.
    Recalled(SolutionKey),
    /// A solution was found.
    Proved(Box<Proved>),
    /// The farm's memory has what [`FinderAction::Remember`] named, or cannot take it, or not in time: it may leave.
    ///
    /// Also in the latter cases, since a solution that is not sent is a reward lost for certain, and one that is forgotten costs
    /// something only if this process is killed, started again and shown the slot anew, all within seconds. Who cannot write says so
    /// once, and counts.
    Remembered {
        /// Which solution.
        id: SolutionId,
    },
    /// The controller answered.
    Answered {
        /// Which solution.
        id: SolutionId,
        /// What it says.
        answer: SolutionAnswer,
    },
    /// Certainly nobody has heard the request.
    NobodyThere {
        /// Which solution.
        id: SolutionId,
    },
    /// The request has not left at all, for a reason that has nothing to do with the controller.
    HeldBack {
        /// Which solution.
        id: SolutionId,
        /// Why.
        reason: String,
    },
    /// The request may have been heard, and there will be no answer.
    Unanswered {
        /// Which solution.
        id: SolutionId,
        /// Why.
        reason: String,
    },
    /// Time has passed; see [`Finder::wake_at`].
    Tick,
    /// The plot-client ends: nothing more is sent.
    Shutdown,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinderAction {
    /// Write this where the next run of this plot-client finds it, and tell [`FinderEvent::Remembered`] within a fraction of a second.
    Remember {
        /// Names the solution in the event that follows.
        id: SolutionId,
        /// What to write.
        handover: Handover,
    },
    /// Send `request` to `controller` and tell what becomes of it.
    Ask {
        /// Names the solution in the event that follows.
        id: SolutionId,
        /// Whom to ask.
        controller: InstanceId,
        /// The farm's key.
        public_key: [u8; 32],
        /// What to send.
        request: Box<SolutionFound>,
    },
    /// The solution's end; count it. Comes once for each [`FinderEvent::Proved`].
    Ended {
        /// Slot number.
        slot: u64,
        /// The farm that found it.
        farm: FarmId,
        /// The controller asked last.
        controller: Option<InstanceId>,
        /// How it ended.
        outcome: Outcome,
    },
}

/// All solutions of one plot-client.
#[derive(Debug)]
pub struct Finder {
    me: InstanceId,
    controllers: Controllers,
    solutions: BTreeMap<SolutionId, Underway>,
    known: Recent<SolutionKey, (), MAX_KNOWN>,
    /// What an earlier run may have sent.
    earlier: BTreeSet<SolutionKey>,
    next_id: u64,
    is_ending: bool,
}

#[derive(Debug)]
struct Underway {
    key: SolutionKey,
    slot: SlotKey,
    request: Box<SolutionFound>,
    distance: u64,
    deadline: Duration,
    /// Controllers that the farm's memory names.
    remembered: Vec<InstanceId>,
    /// Who certainly has not sent it, in order.
    tried: Vec<InstanceId>,
    /// What stood in the way last.
    reason: Option<String>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For a controller, or for a moment to pass.
    Waiting {
        not_before: Option<Duration>,
    },
    /// Nothing has left for this controller yet, though it counts as asked.
    Remembering {
        controller: InstanceId,
    },
    Asked {
        controller: InstanceId,
        since: Duration,
    },
}

impl Finder {
    /// Nothing found yet by plot-client `me`, whose farms' memory names these solutions.
    pub fn new(me: InstanceId, earlier: BTreeSet<SolutionKey>) -> Self {
        let (controllers, solutions, known) = Default::default();
        Self { me, controllers, solutions, known, earlier, next_id: 0, is_ending: false }
    }

    /// When the next [`FinderEvent::Tick`] is due.
    pub fn wake_at(&self) -> Option<Duration> {
        let due = |solution: &Underway| match solution.state {
            State::Waiting { not_before } => {
                not_before.map_or(solution.deadline, |at| at.min(solution.deadline))
            }
            State::Remembering { .. } => solution.deadline,
            State::Asked { since, .. } => since + ANSWER_PATIENCE,
        };
        self.solutions.values().map(due).min()
    }

    /// Solutions that have no outcome yet.
    pub fn len(&self) -> usize {
        self.solutions.len()
    }

    /// Whether every solution has its outcome.
    pub fn is_empty(&self) -> bool {
        self.solutions.is_empty()
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: FinderEvent, now: Duration) -> Vec<FinderAction> {
        let mut actions = Vec::new();
        match event {
            FinderEvent::Heard(info) => {
                self.controllers.heard(info.controller, SlotKey::from(&info), info.announced_ms, now);
            }
            FinderEvent::Recalled(key) => drop(self.earlier.insert(key)),
            FinderEvent::Proved(proved) => actions.extend(self.take(*proved, now)),
            FinderEvent::Remembered { id } => actions.extend(self.remembered(id, now)),
            FinderEvent::Answered { id, answer } => actions.extend(self.answered(id, answer)),
            FinderEvent::NobodyThere { id } => self.nobody_there(id, now),
            FinderEvent::HeldBack { id, reason } => self.held_back(id, reason, now),
            FinderEvent::Unanswered { id, reason } => actions.extend(self.unanswered(id, reason, now)),
            FinderEvent::Tick => {}
            FinderEvent::Shutdown => self.is_ending = true,
        }
        actions.append(&mut self.end_overdue(now));
        actions.append(&mut self.ask_best_first(now));
        actions
    }

    fn take(&mut self, proved: Proved, now: Duration) -> Option<FinderAction> {
        let Proved { slot, farm, solution, distance, deadline } = proved;
        let ended = |outcome| Some(FinderAction::Ended { slot: slot.slot, farm, controller: None, outcome });
        let key = SolutionKey::of(slot.slot, &solution);
        if self.known.get(&key).is_some() {
            return ended(Outcome::Known);
        }
        if self.earlier.contains(&key) {
            self.known.insert(key, ());
            let reason = "an earlier run of this plot-client sent it, or was about to".to_owned();
            return ended(Outcome::Unknown { reason });
        }
        if now >= deadline {
            return ended(Outcome::Expired);
        }
        if self.solutions.len() == MAX_SOLUTIONS {
            let reason = format!("{MAX_SOLUTIONS} other solutions wait to be sent");
            return ended(Outcome::NotSent { reason });
        }
        self.known.insert(key, ());
        let request = Box::new(SolutionFound {
            slot: slot.slot,
            global_challenge: slot.global_challenge,
            finder: self.me,
            farm,
            solution: solution.to_bytes(),
        });
        let (remembered, tried, reason, state) = Default::default();
        let underway = Underway { key, slot, request, distance, deadline, remembered, tried, reason, state };
        self.solutions.insert(SolutionId(self.next_id), underway);
        self.next_id += 1;
        None
    }

    /// Lets a solution leave, unless its time has passed or that controller's node has taken another turn meanwhile.
    fn remembered(&mut self, id: SolutionId, now: Duration) -> Option<FinderAction> {
        let solution = self.solutions.get_mut(&id).filter(|solution| now < solution.deadline)?;
        let State::Remembering { controller } = solution.state else { return None };
        solution.remembered.push(controller);
        if self.controllers.who_announced(&solution.slot).all(|id| id != controller) {
            self.controllers.not_asked(controller);
            solution.state = State::default();
            return None;
        }
        Some(solution.leave(id, controller, now))
    }

    /// The solution and who was asked, if that is so.
    fn asked(&mut self, id: SolutionId) -> Option<(&mut Underway, InstanceId)> {
        let solution = self.solutions.get_mut(&id)?;
        match solution.state {
            State::Asked { controller, .. } => Some((solution, controller)),
            State::Waiting { .. } | State::Remembering { .. } => None,
        }
    }

    fn answered(&mut self, id: SolutionId, answer: SolutionAnswer) -> Option<FinderAction> {
        let (solution, controller) = self.asked(id)?;
        let outcome = match answer {
            SolutionAnswer::Queued => Outcome::Queued,
            SolutionAnswer::Refused { reason } => Outcome::Refused { reason },
            SolutionAnswer::Unknown { reason } => Outcome::Unknown { reason },
            SolutionAnswer::NotSent { reason } => {
                solution.not_sent_by(controller, reason);
                self.controllers.answered(controller);
                return None;
            }
        };
        self.controllers.answered(controller);
        self.end(id, outcome)
    }

    fn nobody_there(&mut self, id: SolutionId, now: Duration) {
        let Some((solution, controller)) = self.asked(id) else { return };
        solution.not_sent_by(controller, "the controller is not there any more".to_owned());
        self.controllers.was_absent(controller, now);
    }

    fn held_back(&mut self, id: SolutionId, reason: String, now: Duration) {
        let Some((solution, controller)) = self.asked(id) else { return };
        solution.reason = Some(reason);
        solution.state = State::Waiting { not_before: Some(now + HELD_BACK_PAUSE) };
        self.controllers.not_asked(controller);
    }

    fn unanswered(&mut self, id: SolutionId, reason: String, now: Duration) -> Option<FinderAction> {
        let (_, controller) = self.asked(id)?;
        self.controllers.left_unanswered(controller, now);
        self.end(id, Outcome::Unknown { reason })
    }

    fn end(&mut self, id: SolutionId, outcome: Outcome) -> Option<FinderAction> {
        let solution = self.solutions.remove(&id)?;
        let controller = match solution.state {
            State::Asked { controller, .. } => Some(controller),
            State::Waiting { .. } => solution.tried.last().copied(),
            State::Remembering { controller } => {
                self.controllers.not_asked(controller);
                solution.tried.last().copied()
            }
        };
        Some(FinderAction::Ended {
            slot: solution.key.slot,
            farm: solution.request.farm,
            controller,
            outcome,
        })
    }

    /// Ends what waited until its deadline, and what was not answered.
    fn end_overdue(&mut self, now: Duration) -> Vec<FinderAction> {
        let is_overdue = |solution: &Underway| match solution.state {
            State::Waiting { .. } | State::Remembering { .. } => self.is_ending || now >= solution.deadline,
            State::Asked { since, .. } => self.is_ending || now >= since + ANSWER_PATIENCE,
        };
        let overdue: Vec<_> =
            self.solutions.iter().filter(|(_, solution)| is_overdue(solution)).map(|(id, _)| *id).collect();
        let mut actions = Vec::new();
        for id in overdue {
            let solution = &self.solutions[&id];
            let ended = match solution.state {
                State::Asked { .. } if self.is_ending => {
                    let reason = "this plot-client ended before the answer came".to_owned();
                    self.end(id, Outcome::Unknown { reason })
                }
                State::Asked { .. } => {
                    let reason = format!("no answer within {} s", ANSWER_PATIENCE.as_secs());
                    self.unanswered(id, reason, now)
                }
                State::Waiting { .. } | State::Remembering { .. } => {
                    let reason = self.obstacle(solution);
                    self.end(id, Outcome::NotSent { reason })
                }
            };
            actions.extend(ended);
        }
        actions
    }

    /// What kept a waiting solution from being sent.
    fn obstacle(&self, solution: &Underway) -> String {
        let is_open = self.controllers.who_announced(&solution.slot).any(|id| !solution.tried.contains(&id));
        match &solution.reason {
            _ if self.is_ending => "this plot-client ends".to_owned(),
            _ if matches!(solution.state, State::Remembering { .. }) => {
                "its time was over when it was written down for whom it is".to_owned()
            }
            Some(reason) => reason.clone(),
            None if is_open => "its controllers answer too slowly for so many solutions".to_owned(),
            None => "no controller's node knows its slot any more".to_owned(),
        }
    }

    fn ask_best_first(&mut self, now: Duration) -> Vec<FinderAction> {
        let mut waiting = Vec::new();
        for (id, solution) in &mut self.solutions {
            if let State::Waiting { not_before } = &mut solution.state {
                not_before.take_if(|at| *at <= now);
                if not_before.is_none() {
                    waiting.push((solution.deadline, solution.distance, *id));
                }
            }
        }
        if waiting.is_empty() || self.is_ending {
            return Vec::new();
        }
        // Those of one slot have one deadline.
        waiting.sort_unstable();
        let slow = self.slow(now);
        waiting.into_iter().filter_map(|(_, _, id)| self.ask(id, &slow, now)).collect()
    }

    /// Controllers that owe an answer for longer than they should.
    fn slow(&self, now: Duration) -> BTreeSet<InstanceId> {
        let slow = |solution: &Underway| match solution.state {
            State::Asked { controller, since } if now >= since + SLOW_AFTER => Some(controller),
            _ => None,
        };
        self.solutions.values().filter_map(slow).collect()
    }

    /// Has it written down for whom a solution is; lets it leave where that was done before.
    fn ask(&mut self, id: SolutionId, slow: &BTreeSet<InstanceId>, now: Duration) -> Option<FinderAction> {
        let solution = self.solutions.get_mut(&id)?;
        let controller = self.controllers.best(&solution.key, &solution.slot, &solution.tried, slow, now)?;
        self.controllers.asked(controller);
        if solution.remembered.contains(&controller) {
            return Some(solution.leave(id, controller, now));
        }
        solution.state = State::Remembering { controller };
        let handover = Handover { solution: solution.key, controller };
        Some(FinderAction::Remember { id, handover })
    }
}

impl Default for State {
    fn default() -> Self {
        Self::Waiting { not_before: None }
    }
}

impl Underway {
    fn leave(&mut self, id: SolutionId, controller: InstanceId, now: Duration) -> FinderAction {
        self.state = State::Asked { controller, since: now };
        let (public_key, request) = (self.key.public_key, self.request.clone());
        FinderAction::Ask { id, controller, public_key, request }
    }

    fn not_sent_by(&mut self, controller: InstanceId, reason: String) {
        self.tried.push(controller);
        self.reason = Some(reason);
        self.state = State::default();
    }
}

#[cfg(test)]
mod any_order;
#[cfg(test)]
mod tests;
