//! Members that let requests run out or give bytes that fail their hash, passed over for a while: who hangs costs only himself. One that cannot be reached costs nothing,
//! and is asked again as soon as it can be.

use crate::host::HostError;
use control::ids::InstanceId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use transport::tcp::ClientError;

/// Unanswered requests after which a member is passed over.
const SILENCES_MAX: u32 = 3;
/// For how long, the first time; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// At the longest.
const MAX_PAUSE: Duration = Duration::from_secs(60);

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
    fn answered(&self, id: InstanceId) {
        self.lock().remove(&id);
    }

    /// Notes what became of a request.
    pub fn note<T>(&self, id: InstanceId, asked: &Result<T, HostError>) {
        match asked {
            Ok(_) => self.answered(id),
            Err(error) if error.refusal().is_some() => self.answered(id),
            Err(HostError::Request { source: ClientError::TimedOut { .. }, .. }) => self.silent(id, 1),
            // What it gives next is no better.
            Err(HostError::Damaged { .. }) => self.silent(id, SILENCES_MAX),
            Err(_) => {}
        }
    }

    /// It did not answer, or what is as bad as so many times.
    fn silent(&self, id: InstanceId, times: u32) {
        let mut silences = self.lock();
        let silence = silences.entry(id).or_default();
        // What was asked before it was passed over tells nothing new.
        if silence.until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        silence.unanswered += times;
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
    use control::messages::Role;

    #[tokio::test(start_paused = true)]
    async fn who_hangs_is_passed_over_ever_longer_and_who_answers_is_asked() {
        let (silences, id) = (Silences::default(), InstanceId([1; 16]));
        for pause in [15, 30, 60, 60] {
            (0..SILENCES_MAX).for_each(|_| {
                assert!(!silences.is_silent(id));
                silences.silent(id, 1);
            });
            (0..99).for_each(|_| silences.silent(id, 1));
            assert!(silences.is_silent(id));
            tokio::time::sleep(Duration::from_secs(pause)).await;
            assert!(!silences.is_silent(id));
        }
        silences.answered(id);
        silences.silent(id, 1);
        silences.silent(id, 1);
        assert!(!silences.is_silent(id));
        let damaged: Result<(), _> = Err(HostError::Damaged { peer: id, role: Role::ShardedCache });
        silences.note(id, &damaged);
        assert!(silences.is_silent(id), "at once");
    }
}
