//! When to try again.

use std::time::Duration;

/// Pauses that double from a first to a longest.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Not before this moment.
    pub due: Duration,
    pause: Duration,
    first: Duration,
    longest: Duration,
}

impl Retry {
    /// Due now.
    pub fn new(first: Duration, longest: Duration, now: Duration) -> Self {
        Self { due: now, pause: first, first, longest }
    }

    /// Whether a try was in vain since things last changed.
    pub fn has_failed(&self) -> bool {
        self.pause > self.first
    }

    /// Another try was in vain.
    pub fn failed(&mut self, now: Duration) {
        self.due = now + self.pause;
        self.pause = (self.pause * 2).min(self.longest);
    }

    /// Things have changed: due now, and pauses are short again.
    pub fn begin_anew(&mut self, now: Duration) {
        (self.due, self.pause) = (now, self.first);
    }
}
