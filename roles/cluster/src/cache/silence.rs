//! Members that did not answer, passed over for a while: who hangs costs only himself.

use control::ids::InstanceId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Unanswered requests after which a member is passed over.
const SILENCES_MAX: u32 = 3;
/// For how long, the first time; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// At the longest.
const MAX_PAUSE: Duration = Duration::from_secs(240);

/// Who did not answer; clones are handles to the same.
#[derive(Debug, Clone, Default)]
pub struct Silences(Arc<Mutex<BTreeMap<InstanceId, Silence>>>);

#[derive(Debug, Default)]
struct Silence {
    unanswered: u32,
    until: Option<Instant>,
    pause: Duration,
}

impl Silences {
    /// Whether a member is passed over now.
    pub fn is_silent(&self, id: InstanceId) -> bool {
        self.lock().get(&id).is_some_and(|silence| silence.until.is_some_and(|until| Instant::now() < until))
    }

    /// It answered, if only to refuse.
    pub fn answered(&self, id: InstanceId) {
        self.lock().remove(&id);
    }

    /// It did not.
    pub fn silent(&self, id: InstanceId) {
        let mut silences = self.lock();
        let silence = silences.entry(id).or_default();
        silence.unanswered += 1;
        if silence.unanswered >= SILENCES_MAX {
            silence.pause = (silence.pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
            (silence.unanswered, silence.until) = (0, Some(Instant::now() + silence.pause));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Silence>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_hangs_is_passed_over_ever_longer_and_who_answers_is_asked() {
        let (silences, id) = (Silences::default(), InstanceId([1; 16]));
        for pause in [15, 30, 60, 120, 240, 240] {
            (0..SILENCES_MAX).for_each(|_| {
                assert!(!silences.is_silent(id));
                silences.silent(id);
            });
            assert!(silences.is_silent(id));
            tokio::time::sleep(Duration::from_secs(pause)).await;
            assert!(!silences.is_silent(id));
        }
        silences.answered(id);
        silences.silent(id);
        silences.silent(id);
        assert!(!silences.is_silent(id));
    }
}
