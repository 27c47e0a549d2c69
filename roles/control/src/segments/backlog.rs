//! Segments that were archived before anybody here looked: asked for calmly, one after the other, over and over.
//!
//! A node has its first segment always (except while it holds the newest) and the others by luck, so these are seldom found; the
//! caches have them from elsewhere. A round goes over the first and then from the newest down; after each the pause doubles.

use std::time::Duration;

use super::ranges::Ranges;
use crate::retry::Retry;

/// Pause between two segments of a round: one small request to the node.
const STEP: Duration = Duration::from_millis(250);
/// Pause after the first round.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Pause after many rounds; while the first segment is missing, which each node has, it is shorter.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
const LONGEST_PAUSE_FOR_FIRST: Duration = Duration::from_secs(60);

/// Where the present round is.
#[derive(Debug)]
pub struct Backlog {
    /// One past the segment that is next; none: the first segment is.
    below: Option<u64>,
    step_at: Duration,
    round: Retry,
    is_first_missing: bool,
}

impl Backlog {
    pub fn new(now: Duration) -> Self {
        let round = Retry::new(FIRST_PAUSE, LONGEST_PAUSE, now);
        Self { below: None, step_at: now, round, is_first_missing: false }
    }

    /// When the next segment is due.
    pub fn due(&self) -> Duration {
        let due = self.step_at.max(self.round.due);
        if self.is_first_missing { due.min(self.step_at + LONGEST_PAUSE_FOR_FIRST) } else { due }
    }

    /// The next segment below `history` to be asked for, that is neither in `placed` nor `skipped`, if one is due.
    pub fn next(
        &mut self,
        history: u64,
        placed: &Ranges,
        skipped: impl Fn(u64) -> bool,
        now: Duration,
    ) -> Option<u64> {
        if history == 0 || now < self.due() {
            return None;
        }
        if self.below.is_none() {
            self.below = Some(history);
            self.is_first_missing = !placed.contains(0) && !skipped(0);
            if self.is_first_missing {
                return Some(0);
            }
        }
        let mut below = self.below?;
        while let Some(index) = placed.gap_below(below).filter(|index| *index > 0) {
            if !skipped(index) {
                self.below = Some(index);
                return Some(index);
            }
            below = index;
        }
        self.below = None;
        self.round.failed(now);
        None
    }

    /// The node has it not.
    pub fn failed(&mut self, now: Duration) {
        self.step_at = now + STEP;
    }

    /// Something is to be had after all, or the node is another: begin a new round.
    pub fn begin_anew(&mut self, now: Duration) {
        self.below = None;
        self.round.begin_anew(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_goes_from_the_first_and_the_newest_down_and_the_next_comes_later() {
        let (mut backlog, mut placed) = (Backlog::new(Duration::ZERO), Ranges::default());
        placed.insert(3);
        let mut now = Duration::ZERO;
        let mut round = |now: &mut Duration, placed: &Ranges| {
            let mut asked = Vec::new();
            while let Some(index) = backlog.next(6, placed, |index| index == 1, *now) {
                asked.push(index);
                backlog.failed(*now);
                *now = backlog.due();
            }
            (asked, backlog.due() - *now)
        };
        assert_eq!(round(&mut now, &placed), (vec![0, 5, 4, 2], FIRST_PAUSE));
        now += FIRST_PAUSE;
        assert_eq!(round(&mut now, &placed), (vec![0, 5, 4, 2], 2 * FIRST_PAUSE));
        for _ in 0..20 {
            now += LONGEST_PAUSE;
            let pause = round(&mut now, &placed).1;
            assert!(pause <= LONGEST_PAUSE_FOR_FIRST, "{pause:?}");
        }
        [0, 2, 4].into_iter().for_each(|index| placed.insert(index));
        now += LONGEST_PAUSE;
        assert_eq!(round(&mut now, &placed), (vec![5], LONGEST_PAUSE));
    }

    #[test]
    fn nothing_is_asked_of_an_empty_or_full_history() {
        let (mut backlog, mut placed) = (Backlog::new(Duration::ZERO), Ranges::default());
        assert_eq!(backlog.next(0, &placed, |_| false, Duration::ZERO), None);
        [0, 1].into_iter().for_each(|index| placed.insert(index));
        assert_eq!(backlog.next(2, &placed, |_| false, Duration::ZERO), None);
    }
}
