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
    /// For damaged bytes.
    is_damaged: bool,
}

impl Silences {
    /// Whether a member is passed over now.
    pub fn is_silent(&self, id: InstanceId) -> bool {
        self.lock().get(&id).is_some_and(|silence| silence.until.is_some_and(|until| Instant::now() < until))
    }

    /// It answered, if only to refuse.
    fn answered(&self, id: InstanceId) {
        let mut silences = self.lock();
        // One that gave damaged bytes gives good ones in between.
        let is_damaged = |it: &Silence| it.is_damaged && it.until.is_some_and(|until| Instant::now() < until);
        if !silences.get(&id).is_some_and(is_damaged) {
            silences.remove(&id);
        }
    }

    /// Notes what became of a request. Whether the member begins to be passed over for it.
    pub fn note<T>(&self, id: InstanceId, asked: &Result<T, HostError>) -> bool {
        match asked {
            Err(HostError::Request { source: ClientError::TimedOut { .. }, .. }) => self.silent(id, false),
            Err(HostError::Damaged { .. }) => self.silent(id, true),
            Err(error) if error.refusal().is_none() => false,
            Ok(_) | Err(_) => {
                self.answered(id);
                false
            }
        }
    }

    /// It did not answer, or gave damaged bytes, of which one time is enough.
    fn silent(&self, id: InstanceId, is_damaged: bool) -> bool {
        let mut silences = self.lock();
        let silence = silences.entry(id).or_default();
        // What was asked before it was passed over tells nothing new.
        if silence.until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        silence.unanswered += 1;
        silence.is_damaged = is_damaged;
        let is_over = is_damaged || silence.unanswered >= SILENCES_MAX;
        if is_over {
            silence.pause = (silence.pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
            (silence.unanswered, silence.until) = (0, Some(Instant::now() + silence.pause));
        }
        is_over
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
                silences.silent(id, false);
            });
            assert!((0..99).all(|_| !silences.silent(id, false)));
            assert!(silences.is_silent(id));
            tokio::time::sleep(Duration::from_secs(pause)).await;
            assert!(!silences.is_silent(id));
        }
        silences.answered(id);
        silences.silent(id, false);
        silences.silent(id, false);
        assert!(!silences.is_silent(id));
        let damaged: Result<(), _> = Err(HostError::Damaged { peer: id, role: Role::ShardedCache });
        assert!(silences.note(id, &damaged) && silences.is_silent(id), "at once");
        assert!(!silences.note(id, &damaged), "told once");
        silences.note(id, &Ok(()));
        assert!(silences.is_silent(id), "good bytes in between");
        tokio::time::sleep(MAX_PAUSE).await;
        silences.note(id, &Ok(()));
        assert!(silences.note(id, &damaged));
    }
}
