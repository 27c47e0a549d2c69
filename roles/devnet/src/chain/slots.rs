//! Slots that farms may answer, and their answers until somebody looks at them.

use std::collections::VecDeque;

use consensus::solution::Solution;

use super::report::Reason;

/// Slots for which solutions are collected before they are looked at. Also the number of announced slots remembered.
pub const BLOCK_AUTHORING_DELAY_SLOTS: u64 = 4;

/// Solutions that the RPC holds until somebody takes them on; more are sent back.
pub const RPC_QUEUE_MAX: usize = 9;

/// Solutions that wait for their slot to be looked at; more are dropped without a word.
pub const SLOT_QUEUE_MAX: usize = 10;

/// Slots with solutions that wait because the node is behind.
const CLOSED_MAX: usize = 16;

/// A solution that was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", node::SOLUTION_IGNORED)]
pub struct Ignored;

/// What became of a solution that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Submission {
    /// It waits in its slot's queue.
    Queued,
    /// It came too late, but farms are not told so.
    Swallowed(Reason),
    /// It was sent back.
    Refused(Reason),
}

/// A slot that farms were told of.
#[derive(Debug)]
struct Announced {
    queue: Queue,
    challenge: [u8; 32],
    /// Whether its solutions were taken away.
    closed: bool,
}

/// Solutions for one slot, in order of arrival.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) slot: u64,
    /// Voting range as it was announced.
    pub(super) voting_range: u64,
    /// At the RPC.
    arriving: Vec<Solution>,
    /// Behind it.
    pub(super) waiting: Vec<Solution>,
}

/// What became of solutions without anybody asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) count: usize,
    pub(super) reason: Reason,
}

#[derive(Debug, Default)]
pub(super) struct Slots {
    newest: Option<u64>,
    /// The last ones announced, oldest first.
    window: VecDeque<Announced>,
    /// Due ones with solutions, oldest first.
    closed: VecDeque<Queue>,
}

impl Slots {
    /// Whether `slot` is after all that began before; if so it begins.
    pub(super) fn begin(&mut self, slot: u64) -> bool {
        let later = self.newest.is_none_or(|newest| slot > newest);
        if later {
            self.newest = Some(slot);
        }
        later
    }

    /// Farms were told of `slot`, maybe once more. Solutions to another challenge of it are lost.
    pub(super) fn announce(&mut self, slot: u64, challenge: [u8; 32], voting_range: u64) -> Lost {
        let mut lost = Lost { count: 0, reason: Reason::ChallengeChanged };
        if let Some(again) = self.window.iter_mut().find(|announced| announced.queue.slot == slot) {
            if again.challenge != challenge {
                lost.count = again.queue.arriving.len() + again.queue.waiting.len();
                again.queue.arriving.clear();
                again.queue.waiting.clear();
                again.challenge = challenge;
            }
            return lost;
        }
        if self.window.len() as u64 == BLOCK_AUTHORING_DELAY_SLOTS {
            // Closed unless it was announced again when it was due already.
            let gone = self.window.pop_front().expect("as many as slots are remembered");
            lost = Lost { count: gone.queue.arriving.len() + gone.queue.waiting.len(), reason: Reason::Late };
        }
        let queue = Queue { slot, voting_range, arriving: Vec::new(), waiting: Vec::new() };
        self.window.push_back(Announced { queue, challenge, closed: false });
        lost
    }

    pub(super) fn submit(&mut self, slot: u64, solution: Solution) -> Submission {
        let oldest = self.window.iter().map(|announced| announced.queue.slot).min().unwrap_or(0);
        let Some(announced) = self.window.iter_mut().find(|announced| announced.queue.slot == slot) else {
            return Submission::Refused(if slot < oldest { Reason::Late } else { Reason::NotAnnounced });
        };
        if announced.closed {
            return Submission::Swallowed(Reason::Late);
        }
        if announced.queue.arriving.len() >= RPC_QUEUE_MAX {
            return Submission::Refused(Reason::QueueFull);
        }
        announced.queue.arriving.push(solution);
        Submission::Queued
    }

    /// Takes solutions from the RPC to where they wait for their slot; those that find no place are dropped.
    pub(super) fn forward(&mut self) -> Lost {
        let count = self.window.iter_mut().map(|announced| announced.queue.forward()).sum();
        Lost { count, reason: Reason::Dropped }
    }

    /// The oldest slot with solutions that is due in `now`. All solutions must have been [forwarded](Self::forward).
    pub(super) fn take_closed(&mut self, now: u64) -> Option<Queue> {
        self.close(now);
        self.closed.pop_front()
    }

    /// Closes slots that are due in `now`.
    pub(super) fn close(&mut self, now: u64) {
        let due = |announced: &&mut Announced| {
            !announced.closed && announced.queue.slot.saturating_add(BLOCK_AUTHORING_DELAY_SLOTS) <= now
        };
        for announced in self.window.iter_mut().filter(due) {
            announced.closed = true;
            let Queue { slot, voting_range, ref mut waiting, .. } = announced.queue;
            let waiting = std::mem::take(waiting);
            if !waiting.is_empty() {
                self.closed.push_back(Queue { slot, voting_range, arriving: Vec::new(), waiting });
            }
        }
    }

    /// Drops what is too much to ever catch up with, oldest first.
    pub(super) fn shed(&mut self) -> Lost {
        let too_many = self.closed.len().saturating_sub(CLOSED_MAX);
        let count = self.closed.drain(..too_many).map(|queue| queue.waiting.len()).sum();
        Lost { count, reason: Reason::NodeBehind }
    }
}

impl Queue {
    fn forward(&mut self) -> usize {
        let room = SLOT_QUEUE_MAX.saturating_sub(self.waiting.len()).min(self.arriving.len());
        self.waiting.extend(self.arriving.drain(..room));
        self.arriving.drain(..).count()
    }
}
