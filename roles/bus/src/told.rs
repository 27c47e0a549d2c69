//! Telling the operator in few lines: a line when a state begins and one when it is over, or one a minute.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Time between two lines of one [`Rarely`].
const RARELY: Duration = Duration::from_secs(60);

/// Something that is waited for: told once when the waiting begins, once when it is over.
pub(crate) struct Waiting {
    what: String,
    since: Mutex<Option<Instant>>,
}

impl Waiting {
    /// For what is called so in the log.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), since: Mutex::default() }
    }

    /// It is not there; told when it was there before.
    pub(crate) fn failed(&self, reason: &dyn Display) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            *since = Some(Instant::now());
            tracing::warn!("{reason}; waiting for {}", self.what);
        }
    }

    /// It is there; told when it was not.
    pub(crate) fn over(&self) {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(since) = since {
            tracing::info!("{} is there after {} s", self.what, since.elapsed().as_secs());
        }
    }
}

/// Something that may happen often: told at most once a minute, with how often it happened.
#[derive(Default)]
pub(crate) struct Rarely(Mutex<State>);

#[derive(Default)]
struct State {
    told_at: Option<Instant>,
    untold: u64,
}

impl Rarely {
    /// Counts one more. The number to tell, if it is time.
    pub(crate) fn count(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.untold += 1;
        if state.told_at.is_some_and(|at| at.elapsed() < RARELY) {
            return None;
        }
        state.told_at = Some(Instant::now());
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_a_line_a_minute() {
        let rarely = Rarely::default();
        let mut told = Vec::new();
        for _ in 0..150 {
            told.extend(rarely.count());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(told, [1, 60, 60]);
    }
}
