//! Of which pieces a damaged sector is rebuilt, and when that is given up: decisions alone, without clock, bus or disk.
//!
//! ```text
//!   the record that proving named, parts of the contents map that are surely wrong
//!      └─▶ Fetch, one after another ─▶ Compare ─┬─ right ─▶ Write
//!              ▲                                ├─ those that lie in the blocks where something differed ─▶ Fetch
//!              │                                └─ nobody new ─▶ Search ─┬─ those that do not decode ─▶ Fetch
//!              └─ again after a pause where nobody gives it              └─ all do ─▶ Search on, to the last record
//!   any: too many pieces, one that nobody gives, nothing found, too long ─▶ GiveUp: the sector is plotted again
//! ```
//! One thing is under way at a time. A comparison reads the whole sector, so some records are fetched for each.
//!
//! Owns: what is fetched, compared and searched next, how fast, and when it ends. Never: what is right; the sector's checksum says that.

#[cfg(test)]
mod tests;

use crate::retry::Retry;
use std::collections::BTreeSet;
use std::time::Duration;

/// Pause after a piece was asked for in vain.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Pauses double up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a rebuild may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Pieces of a sector. A block of 4096 bytes has chunks of up to 128 records.
    pub most_pieces: u16,
    /// Records that are compared, or searched, at once; each takes 2.2 MiB of memory.
    pub at_once: u16,
    /// Time from one piece to the next.
    pub pace: Duration,
    /// Time for which a piece that nobody gives is asked for.
    pub patience: Duration,
    /// All of it.
    pub within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            most_pieces: 256,
            at_once: 32,
            pace: Duration::from_millis(500),
            patience: Duration::from_secs(60),
            within: Duration::from_secs(30 * 60),
        }
    }
}

/// What has become of the last action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The piece has come, and its record is encoded.
    Fetched,
    /// Nobody gave the piece; why, for people.
    NotFetched(String),
    /// All that is wrong is known.
    Right,
    /// Something is wrong still, and it may be of these records.
    Suspects(BTreeSet<u16>),
    /// More is wrong than is made anew, or a piece was not the sector's.
    TooMuch,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Fetch the piece of this record and encode it, not before `at`.
    Fetch {
        /// Which.
        record: u16,
        /// Time since the same beginning as that of events.
        at: Duration,
    },
    /// Compare the sector with what was fetched since the last comparison.
    Compare,
    /// Look which of these do not decode to their pieces.
    Search(Vec<u16>),
    /// Write what is right.
    Write,
    /// Mark the sector.
    GiveUp(GivenUp),
}

/// Why a sector is not rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GivenUp {
    /// It would take more pieces than a rebuild may.
    #[error("too much of it is damaged to be rebuilt of its pieces")]
    TooMuch,
    /// Every record decodes, and yet the checksum is wrong.
    #[error("what is damaged is not found among its records")]
    NotFound,
    /// A piece is not to be had.
    #[error("a piece that it could be rebuilt of is not given: {0}")]
    NoPiece(String),
    /// It took too long.
    #[error("rebuilding it of its pieces took too long")]
    TooLong,
}

/// The rebuilding of one sector.
#[derive(Debug)]
pub struct Rebuild {
    limits: Limits,
    started: Duration,
    /// To be fetched.
    wanted: BTreeSet<u16>,
    /// That have come.
    fetched: BTreeSet<u16>,
    /// Of those, how many were not compared yet.
    uncompared: u16,
    /// To be searched, in reverse.
    unsearched: Vec<u16>,
    /// When the next piece is due.
    due: Retry,
    /// Since when the piece is asked for in vain.
    in_vain_since: Option<Duration>,
}

impl Rebuild {
    /// Begins with a sector of so many records. Without `needed` nothing can be compared; `named` is a record that is damaged, as far as is
    /// known.
    pub fn begin(
        records: u16,
        needed: BTreeSet<u16>,
        named: Option<u16>,
        limits: Limits,
        now: Duration,
    ) -> (Self, Action) {
        let is_too_much = needed.len() > usize::from(limits.at_once.min(limits.most_pieces));
        let mut wanted = needed;
        // All that is needed is compared at once.
        if wanted.len() < usize::from(limits.at_once) {
            wanted.extend(named);
        }
        let mut rebuild = Self {
            limits,
            started: now,
            wanted,
            fetched: BTreeSet::new(),
            uncompared: 0,
            unsearched: spread(records),
            due: Retry::new(FIRST_PAUSE, LONGEST_PAUSE, now),
            in_vain_since: None,
        };
        let first = if is_too_much { Action::GiveUp(GivenUp::TooMuch) } else { rebuild.next(now) };
        (rebuild, first)
    }

    /// Pieces that have come.
    pub fn pieces(&self) -> usize {
        self.fetched.len()
    }

    /// What follows from what has become of the last action.
    pub fn on(&mut self, event: Event, now: Duration) -> Action {
        match event {
            Event::Right => return Action::Write,
            _ if now.saturating_sub(self.started) > self.limits.within => {
                return Action::GiveUp(GivenUp::TooLong);
            }
            Event::TooMuch => return Action::GiveUp(GivenUp::TooMuch),
            Event::Fetched => {
                let come = self.wanted.pop_first();
                self.fetched.extend(come);
                self.uncompared += 1;
                self.due.begin_anew(now + self.limits.pace);
                self.in_vain_since = None;
            }
            Event::NotFetched(why) => {
                let since = *self.in_vain_since.get_or_insert(now);
                self.due.failed(now);
                if self.due.due > since + self.limits.patience {
                    return Action::GiveUp(GivenUp::NoPiece(why));
                }
            }
            Event::Suspects(suspects) => {
                self.uncompared = 0;
                self.wanted.extend(suspects.difference(&self.fetched));
                if self.wanted.len() + self.fetched.len() > usize::from(self.limits.most_pieces) {
                    return Action::GiveUp(GivenUp::TooMuch);
                }
            }
        }
        self.next(now)
    }

    fn next(&mut self, now: Duration) -> Action {
        if let Some(record) = self.wanted.first()
            && self.uncompared < self.limits.at_once
        {
            return Action::Fetch { record: *record, at: self.due.due.max(now) };
        }
        if self.uncompared > 0 {
            return Action::Compare;
        }
        let mut batch = Vec::new();
        while batch.len() < usize::from(self.limits.at_once)
            && let Some(record) = self.unsearched.pop()
        {
            if !self.fetched.contains(&record) {
                batch.push(record);
            }
        }
        if batch.is_empty() { Action::GiveUp(GivenUp::NotFound) } else { Action::Search(batch) }
    }
}

/// All records, so that the last so many lie everywhere among them: those of a block are neighbours.
fn spread(records: u16) -> Vec<u16> {
    let mut all: Vec<_> = (0..records).collect();
    all.sort_by_key(|record| std::cmp::Reverse(record.reverse_bits()));
    all
}
