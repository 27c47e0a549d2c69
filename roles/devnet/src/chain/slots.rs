//! Slots that farms may answer, and their answers until somebody looks at them.

use std::collections::VecDeque;

use consensus::solution::Solution;

use super::report::Reason;

/// Slots for which solutions are collected before they are looked at. Also the number of announced slots remembered.
pub const BLOCK_AUTHORING_DELAY_SLOTS: u64 = 4;

/// Solutions that may be queued for a slot when one more comes.
pub const QUEUED_SOLUTIONS_MAX: usize = 9;

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
    /// Whether its solutions were taken away.
    closed: bool,
}

/// Solutions for one slot, in order of arrival.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) slot: u64,
    /// Voting range as it was announced.
    pub(super) voting_range: u64,
    pub(super) queue: Vec<Solution>,
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
            self.close(slot);
        }
        later
    }

    pub(super) fn announce(&mut self, slot: u64, voting_range: u64) {
        if self.window.len() as u64 == BLOCK_AUTHORING_DELAY_SLOTS {
            // Slots differ by one at least, so this one is due and closed.
            self.window.pop_front();
        }
        let queue = Queue { slot, voting_range, queue: Vec::new() };
        self.window.push_back(Announced { queue, closed: false });
    }

    pub(super) fn submit(&mut self, slot: u64, solution: Solution) -> Submission {
        let oldest = self.window.front().map_or(0, |announced| announced.queue.slot);
        let Some(announced) = self.window.iter_mut().find(|announced| announced.queue.slot == slot) else {
            return Submission::Refused(if slot < oldest { Reason::Late } else { Reason::NotAnnounced });
        };
        if announced.closed {
            return Submission::Swallowed(Reason::Late);
        }
        if announced.queue.queue.len() > QUEUED_SOLUTIONS_MAX {
            return Submission::Refused(Reason::QueueFull);
        }
        announced.queue.queue.push(solution);
        Submission::Queued
    }

    /// The oldest slot with solutions that is due in `now`.
    pub(super) fn take_closed(&mut self, now: u64) -> Option<Queue> {
        self.close(now);
        self.closed.pop_front()
    }

    fn close(&mut self, now: u64) {
        let due = |announced: &&mut Announced| {
            !announced.closed && announced.queue.slot.saturating_add(BLOCK_AUTHORING_DELAY_SLOTS) <= now
        };
        for announced in self.window.iter_mut().filter(due) {
            announced.closed = true;
            let Queue { slot, voting_range, ref mut queue } = announced.queue;
            let queue = std::mem::take(queue);
            if !queue.is_empty() {
                self.closed.push_back(Queue { slot, voting_range, queue });
            }
        }
    }

    /// Drops what is too much to ever catch up with, oldest first; gives how many solutions that cost.
    pub(super) fn shed(&mut self) -> usize {
        let too_many = self.closed.len().saturating_sub(CLOSED_MAX);
        self.closed.drain(..too_many).map(|queue| queue.queue.len()).sum()
    }
}
