//! When to try again.

use std::time::Duration;

use tokio::time::Instant;

/// Pauses that double from [`Backoff::FIRST`] to [`Backoff::LONGEST`].
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    pause: Duration,
    retry_at: Instant,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Backoff {
    /// Pause after the first failure.
    pub const FIRST: Duration = Duration::from_millis(250);
    /// Longest pause: a node that came back is found within it.
    pub const LONGEST: Duration = Duration::from_secs(8);

    /// Nothing has failed yet.
    pub fn new() -> Self {
        Self { pause: Self::FIRST, retry_at: Instant::now() }
    }

    /// Another try failed at `now`.
    pub fn failed(&mut self, now: Instant) {
        self.retry_at = now + self.pause;
        self.pause = (self.pause * 2).min(Self::LONGEST);
    }

    /// A try succeeded.
    pub fn succeeded(&mut self) {
        self.pause = Self::FIRST;
    }

    /// Not before this moment.
    pub fn retry_at(&self) -> Instant {
        self.retry_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_anew() {
        let mut backoff = Backoff::new();
        let now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            backoff.failed(now);
            pauses.push((backoff.retry_at() - now).as_millis());
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        backoff.succeeded();
        backoff.failed(now);
        assert_eq!(backoff.retry_at() - now, Backoff::FIRST);
    }
}
