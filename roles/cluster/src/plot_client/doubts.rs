//! Sectors that farming finds something wrong with, looked into off the path of the slots. On the farm's executor.
//!
//! ```text
//!   proving fails ─▶ one sector at a time is read whole ─▶ its own hash fails: it is rebuilt of its pieces, or plotted again
//!                                                      ├─▶ its record alone is wrong: made anew of the sector
//!                                                      ├─▶ it is whole: that is said once, and it is left alone for an hour
//!                                                      └─▶ the disk refuses: nothing is marked
//! ```
//! Never: a mark without bytes that were read and are wrong, or more than [`MAX_WAITING`] sectors that wait.

use engine::Class;
use engine::farm::{Depth, Farm, Mended, SectorError, SectorFault, SectorStatus};
use futures::lock::{Mutex, MutexGuard};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Sectors of a farm that wait, the one being read included; of others it is asked again when they win a slot again.
const MAX_WAITING: usize = 16;
/// Time for which a sector that was found whole is left alone.
const LEAVE_WHOLE: Duration = Duration::from_secs(3600);
/// Time for which a sector is left alone that the disk did not give.
const LEAVE_UNREAD: Duration = Duration::from_secs(600);

/// A sector that something may be wrong with.
#[derive(Debug, Clone)]
pub struct Suspect {
    /// Which.
    pub sector: u16,
    /// History size that it had.
    pub history_size: u64,
    /// What is read first; the whole of it if that is good.
    pub depth: Depth,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This was wrong with it, and this has become of it.
    Damaged(SectorFault, Mended),
    /// Nothing is wrong with it.
    Whole,
    /// It could not be read, or the mark not be written.
    Failed(String),
}

/// What is being looked into of one farm.
#[derive(Default)]
pub struct Doubts {
    /// Held by the one that is read.
    turn: Mutex<()>,
    waiting: Cell<usize>,
    /// Sectors that are left alone until then; no more than the farm has.
    settled: RefCell<HashMap<u16, Instant>>,
}

impl Doubts {
    /// Looks into a sector, and marks it if it is bad. None when it waits already, was looked into lately, or is another sector by now.
    pub async fn look_into(&self, farm: &Farm, suspect: &Suspect) -> Option<Verdict> {
        if !self.begins(suspect.sector, Instant::now()) {
            return None;
        }
        let verdict = {
            let _turn = self.turn().await;
            judge(farm, suspect).await
        };
        self.ends(suspect.sector, verdict.as_ref(), Instant::now());
        verdict
    }

    /// The turn of whoever reads a sector whole: one at a time for a farm.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    fn begins(&self, sector: u16, now: Instant) -> bool {
        let mut settled = self.settled.borrow_mut();
        settled.retain(|_, until| *until > now);
        let begins = self.waiting.get() < MAX_WAITING && !settled.contains_key(&sector);
        if begins {
            // It is not asked for a second time while it waits.
            settled.insert(sector, now + LEAVE_WHOLE);
            self.waiting.set(self.waiting.get() + 1);
        }
        begins
    }

    fn ends(&self, sector: u16, verdict: Option<&Verdict>, now: Instant) {
        self.waiting.set(self.waiting.get() - 1);
        let leave = match verdict {
            Some(Verdict::Whole) => LEAVE_WHOLE,
            Some(Verdict::Failed(_)) => LEAVE_UNREAD,
            Some(Verdict::Damaged(..)) | None => Duration::ZERO,
        };
        self.settled.borrow_mut().insert(sector, now + leave);
    }
}

async fn judge(farm: &Farm, suspect: &Suspect) -> Option<Verdict> {
    let &Suspect { sector, history_size, depth } = suspect;
    if farm.status(sector) != (SectorStatus::Plotted { history_size }) {
        return None;
    }
    let mut found = farm.check_and_mend(Class::Scrub, sector, depth).await;
    if depth == Depth::Map && matches!(found, Ok(None)) {
        found = farm.check_and_mend(Class::Scrub, sector, Depth::Whole).await;
    }
    match found {
        Ok(Some((fault, mended))) => Some(Verdict::Damaged(fault, mended)),
        Ok(None) => Some(Verdict::Whole),
        Err(SectorError::BeingWritten { .. } | SectorError::NotPlotted { .. }) => None,
        Err(error) => Some(Verdict::Failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_is_looked_into_once_and_no_more_than_some_wait() {
        let (doubts, now) = (Doubts::default(), Instant::now());
        let later = |time: Duration| now + time + Duration::from_secs(1);
        assert!(doubts.begins(1, now));
        assert!(!doubts.begins(1, now), "it waits");
        doubts.ends(1, Some(&Verdict::Whole), now);
        assert!(!doubts.begins(1, later(LEAVE_UNREAD)));
        assert!(doubts.begins(1, later(LEAVE_WHOLE)));
        doubts.ends(1, Some(&Verdict::Failed("EIO".into())), now);
        assert!(!doubts.begins(1, now) && doubts.begins(1, later(LEAVE_UNREAD)));
        doubts.ends(1, Some(&Verdict::Damaged(SectorFault::Checksum, Mended::Marked)), now);
        // Plotted anew, it is another sector.
        assert!(doubts.begins(1, now));
        doubts.ends(1, None, now);
        for sector in 0..MAX_WAITING as u16 {
            assert!(doubts.begins(sector, now));
        }
        assert!(!doubts.begins(99, now), "too many wait");
        doubts.ends(0, None, now);
        assert!(doubts.begins(99, now));
    }
}
