//! A segment under way, and what the node is owed for it.

use std::time::Duration;

use super::retry::Retry;

/// Pauses between tries to fetch what the node has only now.
const FETCH_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));
/// Pauses between tries to write to a disk that refused.
const SPOOL_PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// Pauses between tries to place; short again when a cache comes.
const PLACE_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Wanted,
    Fetching,
    Writing,
    InMemory,
    Spooled,
}

/// A segment under way.
#[derive(Debug)]
pub struct Live {
    pub stage: Stage,
    /// Whether it is of the backlog: nobody waits for it.
    pub is_old: bool,
    /// Whether it is fetched although others say that they hold it.
    pub is_distrustful: bool,
    pub since: Duration,
    /// When to fetch, or to write.
    pub retry: Retry,
    pub place: Retry,
}

impl Live {
    pub fn new(stage: Stage, is_old: bool, now: Duration) -> Self {
        let retry = Retry::new(FETCH_PAUSE.0, FETCH_PAUSE.1, now);
        let place = Retry::new(PLACE_PAUSE.0, PLACE_PAUSE.1, now);
        Self { stage, is_old, is_distrustful: false, since: now, retry, place }
    }

    /// Its pieces are here now. Whether the disk takes them is another matter than whether the node gave them.
    pub fn fetched(&mut self, now: Duration) {
        self.stage = Stage::InMemory;
        self.retry = Retry::new(SPOOL_PAUSE.0, SPOOL_PAUSE.1, now);
    }

    /// Whether it takes the memory that there is for one segment.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.stage, Stage::Fetching | Stage::Writing | Stage::InMemory)
    }
}

/// Acknowledgements that the node waits for.
#[derive(Debug, Clone, Copy)]
pub struct Owed {
    pub count: u32,
    pub underway: u32,
    pub due: Duration,
}
