//! When a farm looks again at the sectors of which its disk did not give the record: after a minute, then ever more seldom, and
//! when audits read everything again. On the farm's executor.

use engine::task;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// When to look.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    /// After the farm was opened; each is twice the one before.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
    /// The shortest, however well the disk reads.
    pub least: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self { first: secs(60), most: secs(600), least: secs(10) }
    }
}

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
pub async fn keep_looking(reads: Rc<Reads>, pauses: Pauses, mut look: impl AsyncFnMut() -> bool) {
    let mut pause = pauses.first;
    loop {
        task::sleep(pauses.least).await;
        // Over by the one or by the other.
        let _ = task::timeout(pause.saturating_sub(pauses.least), reads.are_well_again.notified()).await;
        if !look().await {
            return;
        }
        pause = (2 * pause).min(pauses.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::pool::Pool;
    use engine::{Executors, ExecutorsConfig};

    /// Looks that see sectors left so many times; how many there were.
    fn looks(pauses: Pauses, audits: &'static [u64], left: u32) -> u32 {
        let pool = Pool::new(1, 1).unwrap();
        let config = ExecutorsConfig { name: "test".into(), cores: vec![None], ring_depth: 8 };
        let executors = Executors::start(&config, &pool).unwrap();
        let looked = executors.spawner(0).spawn(move |_| async move {
            let (reads, mut looks) = (Rc::<Reads>::default(), 0);
            audits.iter().for_each(|errors| reads.audited(*errors));
            let look = async || {
                looks += 1;
                looks <= left
            };
            let looking = keep_looking(reads, pauses, look);
            // Which ends the test where nothing is looked for.
            let _ = task::timeout(Duration::from_millis(500), looking).await;
            looks
        });
        let looked = looked.wait().unwrap();
        executors.shutdown(Duration::from_secs(10)).unwrap();
        looked
    }

    #[test]
    fn it_is_looked_again_in_time_and_when_audits_read_well_again() {
        let (ms, hour) = (Duration::from_millis(1), Duration::from_secs(3600));
        let soon = Pauses { first: ms, most: 2 * ms, least: ms };
        assert_eq!(looks(soon, &[], 3), 4, "until nothing is left");
        let late = Pauses { first: hour, most: hour, least: ms };
        assert_eq!(looks(late, &[0, 0, 7], 3), 0, "the disk is as bad as it was");
        assert_eq!(looks(late, &[0, 7, 0], 3), 1, "it reads well again");
    }
}
