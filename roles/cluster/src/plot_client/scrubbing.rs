//! What was asked for of a farm's scrubbing, and how far it is; from any thread.
//!
//! ```text
//!   begin ─▶ sector 0, 1, … in turn ─▶ all were looked at ─▶ what was found, until the next begins
//!                                 └─ stop ─▶ the same of those that were
//! ```
//! Kept in memory alone: a farm that is opened anew is scrubbed from its first sector, when that is asked for again.
//!
//! Owns: the one scrub of a farm. Never: a read.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What a look at a sector has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// Nothing is wrong with it.
    Whole,
    /// Its record was damaged, and is made anew.
    Mended,
    /// It was damaged, and is rebuilt of its pieces.
    Rebuilt,
    /// It is damaged, and marked for replotting.
    Marked,
    /// It is damaged, and could not be marked.
    Left,
    /// The disk does not give it.
    Unreadable,
    /// It waits for replotting, or is being written.
    PassedOver,
}

/// The scrub of one farm.
#[derive(Default)]
pub struct Scrub {
    state: Mutex<State>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    found: Found,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Never,
    Running,
    Stopped,
    Ended,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Found {
    /// Looked at; the next one's number.
    done: u16,
    /// In all, as far as is known.
    sectors: Option<u16>,
    whole: u16,
    mended: u16,
    rebuilt: u16,
    marked: u16,
    left: u16,
    unreadable: u16,
}

impl Scrub {
    /// Has it begin with the first sector; what it answers is for people, also why it does not.
    pub fn begin(&self) -> Result<&'static str, String> {
        let mut state = self.lock();
        if state.stage == Stage::Running {
            return Err(format!("it is being scrubbed already: {}", state.found));
        }
        *state = State { stage: Stage::Running, found: Found::default() };
        drop(state);
        self.wanted.notify_one();
        Ok(
            "scrubbing begins with the first sector; `farms list` shows how far it is; it ends with the plot-client, and starts anew when asked for",
        )
    }

    /// Has it end with the sector that is looked at.
    pub fn stop(&self) -> Result<&'static str, String> {
        let mut state = self.lock();
        if state.stage != Stage::Running {
            return Err("it is not being scrubbed".to_owned());
        }
        state.stage = Stage::Stopped;
        Ok("scrubbing is stopped")
    }

    /// Ready when one was begun since this was last awaited.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Whether one is under way.
    pub fn is_running(&self) -> bool {
        self.lock().stage == Stage::Running
    }

    /// The sector to look at next in a farm of so many; none when there is nothing to do.
    pub fn next(&self, sectors: u16) -> Option<u16> {
        let mut state = self.lock();
        if state.stage != Stage::Running {
            return None;
        }
        state.found.sectors = Some(sectors);
        if state.found.done >= sectors {
            state.stage = Stage::Ended;
            return None;
        }
        Some(state.found.done)
    }

    /// A sector was looked at. One of a scrub that was stopped and begun anew meanwhile does not count.
    pub fn looked(&self, sector: u16, looked: Looked) {
        let found = &mut self.lock().found;
        if found.done != sector {
            return;
        }
        found.done += 1;
        match looked {
            Looked::Whole => found.whole += 1,
            Looked::Mended => found.mended += 1,
            Looked::Rebuilt => found.rebuilt += 1,
            Looked::Marked => found.marked += 1,
            Looked::Left => found.left += 1,
            Looked::Unreadable => found.unreadable += 1,
            Looked::PassedOver => {}
        }
    }

    /// How far it is, for people, while this is the trouble with its disk; empty when there was none.
    pub fn told(&self, trouble: Option<&str>) -> String {
        let State { stage, found } = &*self.lock();
        match (stage, trouble) {
            (Stage::Never, _) => String::new(),
            (Stage::Running, Some(trouble)) => format!("waits, {trouble}: {found}"),
            (Stage::Running, None) => format!("under way: {found}"),
            (Stage::Stopped, _) => format!("stopped: {found}"),
            (Stage::Ended, _) => format!("ended: {found}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, sectors, whole, mended, rebuilt, marked, left, unreadable } = self;
        match sectors {
            Some(sectors) => write!(f, "{done} of {sectors} sectors")?,
            None => write!(f, "{done} sectors")?,
        }
        write!(f, ", {whole} whole, {mended} with a record made anew")?;
        if *rebuilt > 0 {
            write!(f, ", {rebuilt} rebuilt of their pieces")?;
        }
        write!(f, ", {marked} damaged")?;
        if *marked > 0 {
            write!(f, " and plotted again")?;
        }
        if *left > 0 {
            write!(f, ", {left} damaged and left")?;
        }
        if *unreadable > 0 {
            write!(f, ", {unreadable} that the disk does not give")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_told_until_the_next() {
        let scrub = Scrub::default();
        assert_eq!((scrub.told(None).as_str(), scrub.next(3)), ("", None));
        assert!(scrub.stop().is_err());
        scrub.begin().unwrap();
        assert!(scrub.begin().unwrap_err().contains("already"));
        for looked in [Looked::Whole, Looked::Mended, Looked::Marked] {
            let sector = scrub.next(3).unwrap();
            scrub.looked(sector, looked);
        }
        assert!(
            scrub.is_running()
                && scrub.told(Some("its disk is sick")).starts_with("waits, its disk is sick: 3 of 3")
        );
        assert_eq!(scrub.next(3), None);
        let found = "3 of 3 sectors, 1 whole, 1 with a record made anew, 1 damaged and plotted again";
        assert_eq!((scrub.is_running(), scrub.told(None)), (false, format!("ended: {found}")));
        scrub.begin().unwrap();
        assert_eq!(scrub.next(3), Some(0));
        scrub.stop().unwrap();
        assert!(scrub.told(None).starts_with("stopped: 0 of 3") && scrub.next(3).is_none());
        // What was read for a scrub that was stopped says nothing in the next one.
        scrub.begin().unwrap();
        scrub.looked(2, Looked::Marked);
        assert_eq!(scrub.next(2), Some(0));
        scrub.looked(0, Looked::Unreadable);
        // The farm has grown.
        assert_eq!(scrub.next(9), Some(1));
        scrub.looked(1, Looked::PassedOver);
        assert!(scrub.told(None).ends_with("0 damaged, 1 that the disk does not give"));
    }
}
