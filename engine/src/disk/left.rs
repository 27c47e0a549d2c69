//! Transfers that nobody waits for any more, since they came too late or their askers went, and that the device still has.
//!
//! A write among them may reach the disk at any time, and a read hangs at a bad place, perhaps: what would overlap one of its
//! kind waits until it has ended. So no older bytes come after newer ones, and a bad place holds one request, not all that
//! are ever asked of it.

use super::scheduler::Ticket;
use crate::error::Action;
use crate::file::DirectFile;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

/// One of them.
pub(super) struct Left {
    pub action: Action,
    pub file: Arc<DirectFile>,
    pub range: Range<u64>,
}

/// Those of one disk, and who waits for their end.
#[derive(Default)]
pub(super) struct LeftBehind {
    all: HashMap<Ticket, Left>,
    waiting: Vec<Waker>,
}

impl LeftBehind {
    pub fn insert(&mut self, ticket: Ticket, left: Left) {
        self.all.insert(ticket, left);
    }

    /// The device has ended it: what was kept for it, to be dropped outside of any borrow, and who waited.
    pub fn remove(&mut self, ticket: Ticket) -> Option<(Left, Vec<Waker>)> {
        Some((self.all.remove(&ticket)?, self.take_waiting()))
    }

    /// Those that wait, so that they look again.
    pub fn take_waiting(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waiting)
    }

    pub fn wait(&mut self, waker: &Waker) {
        self.waiting.push(waker.clone());
    }

    /// Whether one of the same kind lies over this range.
    pub fn is_over(&self, action: Action, file: &Arc<DirectFile>, range: &Range<u64>) -> bool {
        self.all.values().any(|left| {
            let overlaps = left.range.start < range.end && range.start < left.range.end;
            left.action == action && Arc::ptr_eq(&left.file, file) && overlaps
        })
    }

    pub fn all(&self) -> impl Iterator<Item = &Left> {
        self.all.values()
    }
}
