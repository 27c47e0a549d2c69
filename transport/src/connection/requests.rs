//! The requests in progress, of both sides.
//!
//! A request lives from its frame until its one final frame, a response or a refusal. That holds for one taken
//! back too, so both sides count the same number and an id means one thing at a time.

use super::types::{AnswerError, BufferWanted, PeerRequestId, RequestId};
use crate::limits::CANCEL_MS;
use crate::message::{Request, Response};
use std::collections::HashMap;

/// A request this side made, waiting for its final frame.
#[derive(Debug)]
pub(super) struct Made {
    /// What its response must fit.
    pub(super) request: Request,
    pub(super) deadline_ms: Option<u64>,
    /// Its frame has left; until then the peer cannot know it.
    pub(super) sent: bool,
    /// Nobody waits for the answer any more.
    pub(super) abandoned: bool,
    /// It was taken back, and the peer ends it before then or hangs.
    pub(super) cancelled_ends_ms: Option<u64>,
}

/// A request of the peer whose final frame has not been sent.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Request,
    /// When the answer is useless, if the peer said so.
    pub(super) deadline_ms: Option<u64>,
    /// When work for it ends in any case.
    pub(super) ends_ms: u64,
    /// The final frame is in the queue.
    pub(super) answered: bool,
}

/// A message whose payload has not fully arrived.
pub(super) struct Arriving {
    pub(super) wanted: BufferWanted,
    /// What the payload goes with, unless it goes with a request of the peer.
    pub(super) response: Option<Response>,
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) made: HashMap<RequestId, Made>,
    pub(super) asked: HashMap<PeerRequestId, Asked>,
    last_id: u64,
}

impl Requests {
    /// Registers a request of ours and names it.
    pub(super) fn make(&mut self, request: Request, deadline_ms: Option<u64>) -> RequestId {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        self.made.insert(
            id,
            Made { request, deadline_ms, sent: false, abandoned: false, cancelled_ends_ms: None },
        );
        id
    }

    /// A request of the peer that still wants an answer.
    pub(super) fn unanswered(&mut self, id: PeerRequestId) -> Result<&mut Asked, AnswerError> {
        self.asked.get_mut(&id).filter(|asked| !asked.answered).ok_or(AnswerError::Unwanted)
    }

    /// The earliest time at which somebody's patience ends.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        let made = self.made.values().filter(|made| !made.abandoned).filter_map(|made| made.deadline_ms);
        let asked = self.asked.values().filter(|asked| !asked.answered).map(|asked| asked.ends_ms);
        let cancelled = self.made.values().filter_map(|made| made.cancelled_ends_ms);
        made.chain(asked).chain(cancelled).min()
    }

    /// Our requests whose time is over, in the order they were made.
    pub(super) fn overdue_made(&self, now_ms: u64) -> Vec<RequestId> {
        let overdue = |made: &Made| !made.abandoned && made.deadline_ms.is_some_and(|at| at <= now_ms);
        let mut ids: Vec<_> = self.made.iter().filter(|(_, made)| overdue(made)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// Whether the peer leaves a cancel unanswered. The time of new ones runs from here on.
    pub(super) fn is_cancel_ignored(&mut self, now_ms: u64) -> bool {
        let cancelled = self.made.values_mut().filter(|made| made.abandoned);
        cancelled.fold(false, |any, made| {
            any | (*made.cancelled_ends_ms.get_or_insert(now_ms + CANCEL_MS) <= now_ms)
        })
    }

    /// The peer's requests whose time is over, in the order of their ids.
    pub(super) fn overdue_asked(&self, now_ms: u64) -> Vec<PeerRequestId> {
        let overdue = |asked: &Asked| !asked.answered && asked.ends_ms <= now_ms;
        let mut ids: Vec<_> =
            self.asked.iter().filter(|(_, asked)| overdue(asked)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}
