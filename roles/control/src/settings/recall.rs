//! Where no settings are found: a new cluster, or one whose store was emptied? Whoever still knows what they were is listened to for a while.

use std::time::Duration;

/// How often is asked.
pub const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long others are listened to by one who knows a history himself, or from the first answer on: somebody may know a longer one.
pub const KNOWN_PATIENCE: Duration = Duration::from_secs(1);
/// How long one who knows nothing listens before he takes the cluster for a new one: members are started one after the
/// other. Less than a controller waits before it announces slots without settings.
pub const NEW_PATIENCE: Duration = Duration::from_secs(8);

/// What has been heard of the settings that are not there.
#[derive(Debug)]
pub struct Recall {
    patience: Duration,
    until: Duration,
    history_size: Option<u64>,
}

impl Recall {
    /// Listens for so long.
    pub fn new(patience: Duration, now: Duration) -> Self {
        Self { patience, until: now + patience, history_size: None }
    }

    /// The longest history heard of.
    pub fn history_size(&self) -> Option<u64> {
        self.history_size
    }

    /// Somebody knows so long a history.
    pub fn hear(&mut self, history_size: u64, now: Duration) {
        self.history_size = self.history_size.max(Some(history_size));
        self.patience = KNOWN_PATIENCE.min(self.patience);
        self.until = self.until.min(now + self.patience);
    }

    /// The bus did not answer: nobody could be heard.
    pub fn was_deaf(&mut self, now: Duration) {
        self.until = now + self.patience;
    }

    /// When to ask next, or to begin; none once that is due.
    pub fn next(&self, now: Duration) -> Option<Duration> {
        (now < self.until).then(|| self.until.min(now + ASK_EVERY))
    }
}
