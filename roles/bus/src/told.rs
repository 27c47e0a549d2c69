//! Telling the operator in few lines: a line when a state begins and one when it is over, or one a minute.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Time between two lines of one [`Rarely`].
const RARELY: Duration = Duration::from_secs(60);

/// Something that is waited for: told once when the waiting begins, once when it is over.
pub struct Waiting {
    what: String,
    since: Mutex<Option<Instant>>,
}

impl Waiting {
    /// For what is called so in the log.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), since: Mutex::default() }
    }

    /// It is not there; told when it was there before.
    pub fn failed(&self, reason: &dyn Display) {
        if self.begins() {
            tracing::warn!("{reason}; waiting for {}", self.what);
        }
    }

    /// It is there; told when it was not.
    pub fn over(&self) {
        if let Some(waited) = self.ends() {
            tracing::info!("{} is there after {} s", self.what, waited.as_secs());
        }
    }

    /// It is not there. Whether that is to be told, which the caller does.
    pub fn begins(&self) -> bool {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = since.is_none();
        since.get_or_insert_with(Instant::now);
        is_new
    }

    /// It is there. How long it was waited for, if that is to be told, which the caller does.
    pub fn ends(&self) -> Option<Duration> {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner).take();
        since.map(|since| since.elapsed())
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
    async fn what_is_waited_for_is_told_once_and_its_end_once() {
        let waiting = Waiting::new("it");
        assert_eq!(waiting.ends(), None, "nothing was waited for");
        assert_eq!([(); 3].map(|()| waiting.begins()), [true, false, false]);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!([(); 2].map(|()| waiting.ends()), [Some(Duration::from_secs(7)), None]);
        assert!(waiting.begins(), "another time");
    }

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
