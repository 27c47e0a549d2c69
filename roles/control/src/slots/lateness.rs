//! How late a controller's message is, without comparing clocks: the quickest of its messages is taken to have been on time.
//!
//! A message's *offset* is its arrival by the clock here minus its announcement by the clock there. What it exceeds the least
//! offset of the last minutes by is its delay. Clocks may be a day apart; that they drift matters little within the window.

use std::collections::VecDeque;
use std::time::Duration;

/// The least offset is that of this window and the one before: of the last 5 to 10 minutes.
const WINDOW: Duration = Duration::from_secs(300);
/// So many late messages in a row, as far apart as they were announced, are no backlog: the clock there has jumped, as that of
/// a machine that was suspended does.
const JUMP_MESSAGES: usize = 10;
/// By how much their arrivals may be closer together than the announcements.
const JUMP_TOLERANCE_MS: i64 = 1000;

/// The delays of one controller's messages.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    /// Least offset of the present window and of the one before, milliseconds.
    least: [Option<i64>; 2],
    rotate_at: Duration,
    /// Arrival and announcement of the last messages, if all of them were too late to be of use.
    late: VecDeque<(i64, i64)>,
}

fn in_ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

impl Lateness {
    /// Whether nothing is known to compare with at `now`.
    pub fn is_unknown(&self, now: Duration) -> bool {
        self.least == [None, None] || now >= self.rotate_at + WINDOW
    }

    /// Learns from a message that came at `now` and is of no use when it is `useless_after` late.
    pub fn note(&mut self, announced_ms: u64, now: Duration, useless_after: Duration) {
        if now >= self.rotate_at {
            let is_long_ago = now >= self.rotate_at + WINDOW;
            self.least = [None, if is_long_ago { None } else { self.least[0] }];
            self.rotate_at = now + WINDOW;
        }
        let (arrived, announced) = (in_ms(now), signed(announced_ms));
        let offset = arrived.saturating_sub(announced);
        self.least[0] = Some(self.least[0].map_or(offset, |least| least.min(offset)));
        if self.delay(announced_ms, now) < useless_after {
            self.late.clear();
            return;
        }
        if self.late.len() == JUMP_MESSAGES {
            self.late.pop_front();
        }
        self.late.push_back((arrived, announced));
        let first = self.late.front().filter(|_| self.late.len() == JUMP_MESSAGES);
        if let Some((first_arrived, first_announced)) = first {
            let apart_here = arrived.saturating_sub(*first_arrived);
            let apart_there = announced.saturating_sub(*first_announced);
            if apart_there > 0 && apart_here.saturating_add(JUMP_TOLERANCE_MS) >= apart_there {
                self.least = [Some(offset), None];
                self.late.clear();
            }
        }
    }

    /// How late a message is that came at `arrived`.
    pub fn delay(&self, announced_ms: u64, arrived: Duration) -> Duration {
        let offset = in_ms(arrived).saturating_sub(signed(announced_ms));
        let least = self.least.iter().flatten().min().copied().unwrap_or(offset);
        Duration::from_millis(u64::try_from(offset.saturating_sub(least)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USELESS: Duration = Duration::from_secs(4);
    const DAY_MS: u64 = 86_400_000;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn heard(lateness: &mut Lateness, announced_ms: u64, arrived_ms: u64) -> Duration {
        lateness.note(announced_ms, at(arrived_ms), USELESS);
        lateness.delay(announced_ms, at(arrived_ms))
    }

    #[test]
    fn clocks_a_day_apart_do_not_matter() {
        for ahead in [0, DAY_MS] {
            let (there, here) = (|ms: u64| ms + ahead, |ms: u64| ms + DAY_MS - ahead);
            let mut lateness = Lateness::default();
            assert!(lateness.is_unknown(Duration::ZERO));
            assert_eq!(heard(&mut lateness, there(1000), here(1020)), at(0));
            assert_eq!(heard(&mut lateness, there(2000), here(2010)), at(0), "quicker than all before");
            assert_eq!(heard(&mut lateness, there(3000), here(3510)), at(500));
            assert_eq!(lateness.delay(there(1000), at(here(1020))), at(10), "known better by now");
        }
    }

    #[test]
    fn the_quickest_is_forgotten_after_some_minutes() {
        let mut lateness = Lateness::default();
        heard(&mut lateness, 0, 0);
        // Drifts by 1 ms a second: after 20 minutes only what drifted within the windows is left.
        let last = (1..1200).map(|second| heard(&mut lateness, second * 1000, second * 1001)).last().unwrap();
        assert!((at(299)..=at(601)).contains(&last), "{last:?}");
        assert!(!lateness.is_unknown(at(1_400_000)) && lateness.is_unknown(at(2_400_000)));
    }

    #[test]
    fn a_backlog_is_late_and_a_jump_of_the_clock_is_not() {
        let mut lateness = Lateness::default();
        heard(&mut lateness, 0, 0);
        // All of forty seconds within a third of a second.
        for second in 1..36 {
            let delay = heard(&mut lateness, second * 1000, 40_000 + second * 8);
            assert!(delay >= USELESS, "{second}: {delay:?}");
        }
        // The machine there slept for a minute and more: its clock stood.
        let mut lateness = Lateness::default();
        heard(&mut lateness, 0, 0);
        let delays: Vec<_> =
            (1..=20).map(|second| heard(&mut lateness, second * 1000, 100_000 + second * 1000)).collect();
        assert!(
            delays[..9].iter().all(|delay| *delay > USELESS) && delays[9..].iter().all(Duration::is_zero)
        );
    }

    #[test]
    fn any_number_is_survived() {
        let mut lateness = Lateness::default();
        for announced_ms in [u64::MAX, 0, u64::MAX / 2, 7] {
            heard(&mut lateness, announced_ms, 1000);
            lateness.note(announced_ms, Duration::MAX / 4, USELESS);
        }
    }
}
