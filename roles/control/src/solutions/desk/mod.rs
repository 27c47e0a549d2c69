//! A controller's side: what its node is given, and what the finders are told.
//!
//! | asked to send | answer |
//! |---|---|
//! | a solution that was sent before | what became of it, as soon as that is known |
//! | this controller ends | not sent |
//! | its (slot, challenge) is not among the last four of the present subscription at the node | not sent |
//! | no solution at all | refused |
//! | too many are underway | not sent |
//! | any other | submitted over the connection of that subscription; then what the node says, or unknown after [`NODE_PATIENCE`] |
//!
//! ```text
//!   open ── told to end ─▶ ending: no more solutions; stays while one is underway, and while the node may want signatures
//!                          for what it queued ── or subscription lost, or LINGER_MAX ─▶ over
//! ```
//! Owns: what goes to the node, once. Never: a solution for a slot that this node has not announced.

use super::SolutionKey;
use super::recent::Recent;
use crate::messages::{SolutionAnswer, SolutionFound};
use crate::slots::{RecentSlots, SlotKey};
use consensus::solution::Solution;
use std::collections::BTreeMap;
use std::time::Duration;

/// Solutions submitted and not answered at a time; a node queues nine.
pub const MAX_UNDERWAY: usize = 64;
/// Solutions remembered, so that none is sent twice. Only such as the node announced a slot for get there.
const MAX_KNOWN: usize = 4096;
/// Finders that wait for the outcome of one solution; there is one, unless it was copied.
const MAX_WAITING: usize = 8;
/// Silence of the node after which nobody knows. Less than [`ANSWER_PATIENCE`](super::ANSWER_PATIENCE).
pub const NODE_PATIENCE: Duration = Duration::from_secs(4);
/// Silence after which a solution counts as perhaps queued: signatures for it may be wanted before the node answers.
const PERHAPS_QUEUED_AFTER: Duration = Duration::from_millis(500);
/// How long after a solution its last signature may be wanted: a node signs 4 to 8 s after the slot began.
pub const SIGNING_TIME: Duration = Duration::from_secs(8);
/// How long a controller that was told to end stays at most.
pub const LINGER_MAX: Duration = Duration::from_secs(10);

/// A finder's request, and the way back to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask(pub u64);

/// A solution given to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Submission(pub u64);

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeskEvent {
    /// The subscription of slots at the node holds.
    SubscriptionBegan,
    /// It does not hold any more.
    SubscriptionLost,
    /// The node announced a slot over the present subscription.
    Announced(SlotKey),
    /// A finder asks.
    Asked {
        /// Names the request in the answer.
        ask: Ask,
        /// For this.
        found: Box<SolutionFound>,
    },
    /// The node's answer, in the finders' words: null is queued, "ignored" and a connection that was gone before anything was
    /// written are not sent, no answer is unknown, any other refusal is refused.
    NodeAnswered {
        /// To which.
        submission: Submission,
        /// What became of it.
        answer: SolutionAnswer,
    },
    /// Time has passed; see [`Desk::wake_at`].
    Tick,
    /// The controller is told to end.
    Shutdown,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeskAction {
    /// Give a solution to the node, now, over the connection of the present subscription and no other.
    Submit {
        /// Names it in the event that follows.
        submission: Submission,
        /// Slot number.
        slot: u64,
        /// The solution.
        solution: Box<Solution>,
    },
    /// From now on signatures may be wanted for this key: its solution was queued, or may have been. Comes once a solution at most.
    HandedToNode {
        /// The farm's key.
        public_key: [u8; 32],
    },
    /// Answer a finder. Comes once for each [`DeskEvent::Asked`].
    Answer {
        /// Which request.
        ask: Ask,
        /// Slot number.
        slot: u64,
        /// The answer.
        answer: SolutionAnswer,
        /// Whether it is what another request was answered with, so not to be counted again.
        is_repeat: bool,
    },
    /// Nothing is left to be done: the controller may go. Comes once, after [`DeskEvent::Shutdown`].
    End,
}

/// What a controller does with solutions.
#[derive(Debug, Default)]
pub struct Desk {
    is_subscribed: bool,
    recent: RecentSlots<()>,
    announced: u64,
    known: Recent<SolutionKey, Fate, MAX_KNOWN>,
    underway: BTreeMap<Submission, Underway>,
    next_submission: u64,
    /// When the last solution was queued, perhaps.
    handed_at: Option<Duration>,
    ending: Option<Ending>,
}

#[derive(Debug)]
enum Fate {
    Underway(Submission),
    Over(SolutionAnswer),
}

#[derive(Debug)]
struct Underway {
    key: SolutionKey,
    asks: Vec<Ask>,
    since: Duration,
    is_perhaps_queued: bool,
}

#[derive(Debug, Clone, Copy)]
struct Ending {
    since: Duration,
    is_over: bool,
}

fn not_sent(reason: &str) -> SolutionAnswer {
    SolutionAnswer::NotSent { reason: reason.to_owned() }
}

impl Desk {
    /// Nothing announced, nothing asked.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it was told to end.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// When the next [`DeskEvent::Tick`] is due.
    pub fn wake_at(&self) -> Option<Duration> {
        let answers = self.underway.values().map(|underway| {
            let patience = if underway.is_perhaps_queued { NODE_PATIENCE } else { PERHAPS_QUEUED_AFTER };
            underway.since + patience
        });
        let ending = self.ending.filter(|ending| !ending.is_over);
        answers.chain(ending.map(|ending| self.ends_at(ending))).min()
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: DeskEvent, now: Duration) -> Vec<DeskAction> {
        let mut actions = Vec::new();
        match event {
            DeskEvent::SubscriptionBegan => {
                self.recent.clear();
                self.is_subscribed = true;
            }
            DeskEvent::SubscriptionLost => {
                self.recent.clear();
                self.is_subscribed = false;
            }
            DeskEvent::Announced(key) if self.is_subscribed => {
                self.announced += 1;
                self.recent.announce(key, self.announced, ());
            }
            DeskEvent::Announced(_) | DeskEvent::Tick => {}
            DeskEvent::Asked { ask, found } => actions.extend(self.asked(ask, &found, now)),
            DeskEvent::NodeAnswered { submission, answer } => {
                actions = self.node_answered(submission, &answer, now);
            }
            DeskEvent::Shutdown => {
                self.ending.get_or_insert(Ending { since: now, is_over: false });
            }
        }
        actions.append(&mut self.lose_patience(now));
        actions.extend(self.end_if_over(now));
        actions
    }

    fn asked(&mut self, ask: Ask, found: &SolutionFound, now: Duration) -> Option<DeskAction> {
        let slot = found.slot;
        let answer = |answer, is_repeat| Some(DeskAction::Answer { ask, slot, answer, is_repeat });
        let Ok(solution) = Solution::from_bytes(&found.solution) else {
            let reason = "these bytes are no solution".to_owned();
            return answer(SolutionAnswer::Refused { reason }, false);
        };
        let key = SolutionKey::of(slot, &solution);
        match self.known.get(&key) {
            Some(Fate::Over(known)) => return answer(known.clone(), true),
            Some(Fate::Underway(submission)) => {
                let asks = self.underway.get_mut(submission).map(|underway| &mut underway.asks);
                if let Some(asks) = asks.filter(|asks| asks.len() < MAX_WAITING) {
                    asks.push(ask);
                    return None;
                }
                let reason = "it is underway, and too many wait for what becomes of it".to_owned();
                return answer(SolutionAnswer::Unknown { reason }, true);
            }
            None => {}
        }
        if let Some(reason) = self.obstacle(found) {
            return answer(not_sent(reason), false);
        }
        Some(self.submit(ask, key, solution, now))
    }

    /// Why a solution cannot be sent from here.
    fn obstacle(&self, found: &SolutionFound) -> Option<&'static str> {
        let key = SlotKey { slot: found.slot, global_challenge: found.global_challenge };
        if self.ending.is_some() {
            Some("this controller ends")
        } else if !self.is_subscribed {
            Some("this controller's node is away")
        } else if !self.recent.has(&key) {
            Some("this controller's node does not know this slot with this challenge, now")
        } else if self.underway.len() >= MAX_UNDERWAY {
            Some("this controller's node has more solutions to answer than it can take")
        } else {
            None
        }
    }

    fn submit(&mut self, ask: Ask, key: SolutionKey, solution: Solution, now: Duration) -> DeskAction {
        let submission = Submission(self.next_submission);
        self.next_submission += 1;
        self.known.insert(key, Fate::Underway(submission));
        let underway = Underway { key, asks: vec![ask], since: now, is_perhaps_queued: false };
        self.underway.insert(submission, underway);
        DeskAction::Submit { submission, slot: key.slot, solution: Box::new(solution) }
    }

    fn node_answered(
        &mut self,
        submission: Submission,
        answer: &SolutionAnswer,
        now: Duration,
    ) -> Vec<DeskAction> {
        // Later than its time: it was told to be unknown, and stays so.
        let Some(underway) = self.underway.remove(&submission) else { return Vec::new() };
        let mut actions = Vec::new();
        if !answer.is_not_taken() && !underway.is_perhaps_queued {
            actions.push(self.handed(underway.key.public_key, now));
        }
        if let Some(fate) = self.known.get_mut(&underway.key) {
            *fate = Fate::Over(answer.clone());
        }
        let slot = underway.key.slot;
        actions.extend(underway.asks.into_iter().enumerate().map(|(nth, ask)| DeskAction::Answer {
            ask,
            slot,
            answer: answer.clone(),
            is_repeat: nth > 0,
        }));
        actions
    }

    fn handed(&mut self, public_key: [u8; 32], now: Duration) -> DeskAction {
        self.handed_at = Some(now);
        DeskAction::HandedToNode { public_key }
    }

    fn lose_patience(&mut self, now: Duration) -> Vec<DeskAction> {
        let mut perhaps = Vec::new();
        for underway in self.underway.values_mut() {
            if !underway.is_perhaps_queued && now >= underway.since + PERHAPS_QUEUED_AFTER {
                underway.is_perhaps_queued = true;
                perhaps.push(underway.key.public_key);
            }
        }
        let mut actions: Vec<_> = perhaps.into_iter().map(|key| self.handed(key, now)).collect();
        let is_silent = |underway: &Underway| now >= underway.since + NODE_PATIENCE;
        let silent: Vec<_> =
            self.underway.iter().filter(|(_, underway)| is_silent(underway)).map(|(id, _)| *id).collect();
        for submission in silent {
            let reason = format!("the node did not answer within {} s", NODE_PATIENCE.as_secs());
            let unknown = SolutionAnswer::Unknown { reason };
            actions.append(&mut self.node_answered(submission, &unknown, now));
        }
        actions
    }

    /// When a controller that was told to end has seen to all it can.
    fn ends_at(&self, ending: Ending) -> Duration {
        if self.underway.is_empty() && !self.is_subscribed {
            // Whatever the node had queued is lost with it.
            return ending.since;
        }
        let signed_at = self.handed_at.map_or(ending.since, |at| at + SIGNING_TIME);
        let answered_at = self.underway.values().map(|underway| underway.since + NODE_PATIENCE).max();
        signed_at.max(answered_at.unwrap_or_default()).min(ending.since + LINGER_MAX)
    }

    fn end_if_over(&mut self, now: Duration) -> Option<DeskAction> {
        let ending = self.ending.filter(|ending| !ending.is_over && now >= self.ends_at(*ending))?;
        self.ending = Some(Ending { is_over: true, ..ending });
        Some(DeskAction::End)
    }
}

#[cfg(test)]
mod tests;
