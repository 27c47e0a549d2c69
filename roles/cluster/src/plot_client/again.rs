//! When a farm looks again at the sectors of which its disk did not give the record: after a minute, then ever more seldom, and
//! when audits read everything again. On the farm's executor.

use engine::task;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// Pause after the farm was opened.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// Longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(600);
/// Shortest pause, however well the disk reads.
const LEAST_PAUSE: Duration = Duration::from_secs(10);

/// How a farm's audits read.
#[derive(Default)]
pub struct Reads {
    have_failed: Cell<bool>,
    are_well_again: Notify,
}

impl Reads {
    /// An audit ended in which so many sectors could not be read.
    pub fn audited(&self, errors: u64) {
        if errors > 0 {
            self.have_failed.set(true);
        } else if self.have_failed.replace(false) {
            self.are_well_again.notify_one();
        }
    }
}

/// Has `look` look until it says that nothing is left to be looked for.
pub async fn keep_looking(reads: Rc<Reads>, mut look: impl AsyncFnMut() -> bool) {
    let mut pause = FIRST_PAUSE;
    loop {
        task::sleep(LEAST_PAUSE).await;
        // Over by the one or by the other.
        let _ = task::timeout(pause - LEAST_PAUSE, reads.are_well_again.notified()).await;
        if !look().await {
            return;
        }
        pause = (2 * pause).min(MAX_PAUSE);
    }
}
