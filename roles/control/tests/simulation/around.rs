//! Where a controller stands when something happens, and what it waits for.

use super::member::{Id, Output};
use super::presence::Presence;
use control::segments::Tell;
use std::time::Duration;

/// What an answer is the answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Lease,
    Settings,
    Epoch,
    Told(Tell),
    Withdrawn(u64),
    History,
    Fetched(u64),
    Spooled(u64),
    Deleted,
    Placed(u64),
}

/// Where a controller stands when something happens.
pub struct Around<'a> {
    pub now: Duration,
    pub ids: &'a mut Id,
    pub connection: Option<u64>,
    pub presence: &'a Presence,
    pub out: &'a mut Vec<Output>,
}

impl Around<'_> {
    /// A number of the next question.
    pub fn id(&mut self) -> Id {
        *self.ids += 1;
        *self.ids
    }
}
