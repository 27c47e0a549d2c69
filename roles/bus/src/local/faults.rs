//! Faults that tests ask for: a member's connection that is cut, a store that is away, answers that get lost.

use crate::BusError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often one who waits for the store looks for it.
pub(super) const STORE_PAUSE: Duration = Duration::from_millis(100);

/// One member's connection.
#[derive(Default)]
pub(super) struct Link {
    is_cut: AtomicBool,
}

impl Link {
    pub(super) fn check(&self, what: &str) -> Result<(), BusError> {
        if !self.is_cut.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(BusError::Unavailable { what: what.to_owned(), reason: "disconnected on request".to_owned() })
    }

    pub(super) fn set_connected(&self, is_connected: bool) {
        self.is_cut.store(!is_connected, Ordering::Relaxed);
    }
}

/// Faults of the bus itself, the same for all members.
#[derive(Default)]
pub(super) struct Faults {
    lost_answers: AtomicU64,
    has_no_store: AtomicBool,
}

impl Faults {
    pub(super) fn check_store(&self, what: &str) -> Result<(), BusError> {
        if !self.has_no_store.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(BusError::Unavailable {
            what: what.to_owned(),
            reason: "the store is away on request".to_owned(),
        })
    }

    pub(super) fn set_store(&self, is_there: bool) {
        self.has_no_store.store(!is_there, Ordering::Relaxed);
    }

    /// The answer to a durable write that did happen, unless it is to be lost.
    pub(super) fn answer<T>(&self, subject: &str, done: T) -> Result<T, BusError> {
        let lose = |left: u64| left.checked_sub(1);
        if self.lost_answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lose).is_err() {
            return Ok(done);
        }
        let reason = "the answer was lost on request".to_owned();
        Err(BusError::OutcomeUnknown { subject: subject.to_owned(), reason })
    }

    pub(super) fn lose_answers(&self, count: u64) {
        self.lost_answers.store(count, Ordering::Relaxed);
    }
}
