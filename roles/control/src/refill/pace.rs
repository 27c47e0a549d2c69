//! How fast pieces are pulled: what a refill takes of links and disks, readers do not have.
//!
//! ```text
//!   Measuring ── MEASURED_BYTES came without a pause ─▶ Limited to half of that rate ── MEASURED_FOR is over ─▶ Measuring
//! ```

use std::time::Duration;

/// Bytes that show what the link gives.
const MEASURED_BYTES: u64 = 64 << 20;
/// How long that holds: others come and go.
const MEASURED_FOR: Duration = Duration::from_secs(600);
/// A pause after which a measurement begins anew.
const PAUSE: Duration = Duration::from_secs(1);

/// The pace of one cache. Times are since its start.
#[derive(Debug)]
pub struct Pace {
    /// As the operator said, bytes a second.
    fixed: Option<u64>,
    state: State,
    /// When the next piece may be asked for.
    next: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Measuring { since: Duration, last: Duration, bytes: u64 },
    Limited { since: Duration, bytes_per_s: u64 },
}

const UNMEASURED: State = State::Measuring { since: Duration::ZERO, last: Duration::ZERO, bytes: 0 };

impl Pace {
    /// So many bytes a second, or half of what the link gives.
    pub fn new(bytes_per_s: Option<u64>) -> Self {
        Self { fixed: bytes_per_s, state: UNMEASURED, next: Duration::ZERO }
    }

    /// Bytes a second, if they are limited now.
    pub fn bytes_per_s(&self) -> Option<u64> {
        match self.state {
            _ if self.fixed.is_some() => self.fixed,
            State::Limited { bytes_per_s, .. } => Some(bytes_per_s),
            State::Measuring { .. } => None,
        }
    }

    /// When so many bytes may be asked for; they count from then on.
    pub fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        if let State::Limited { since, .. } = self.state
            && now >= since + MEASURED_FOR
        {
            self.state = UNMEASURED;
        }
        let at = self.next.max(now);
        self.next = at + self.time_of(bytes);
        at
    }

    /// So many bytes that were taken did not come.
    pub fn give_back(&mut self, bytes: u64) {
        self.next = self.next.saturating_sub(self.time_of(bytes));
    }

    fn time_of(&self, bytes: u64) -> Duration {
        let takes = self.bytes_per_s().map_or(0.0, |limit| bytes as f64 / limit.max(1) as f64);
        Duration::try_from_secs_f64(takes).unwrap_or(MEASURED_FOR)
    }

    /// So many bytes came.
    pub fn came(&mut self, more: u64, now: Duration) {
        let State::Measuring { since, last, bytes } = self.state else { return };
        if bytes == 0 || now > last + PAUSE {
            // The first only begins the measurement.
            self.state = State::Measuring { since: now, last: now, bytes: 1 };
            return;
        }
        let bytes = bytes.saturating_add(more);
        let took = now.saturating_sub(since).as_secs_f64();
        self.state = if bytes < MEASURED_BYTES || took == 0.0 {
            State::Measuring { since, last: now, bytes }
        } else {
            State::Limited { since: now, bytes_per_s: (bytes as f64 / took / 2.0) as u64 }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_given_pace_is_kept() {
        let mut pace = Pace::new(Some(10 * MIB));
        let at: Vec<_> = (0..4).map(|_| pace.take(MIB, ms(50))).collect();
        assert_eq!(at, [50, 150, 250, 350].map(ms));
        pace.give_back(MIB);
        assert_eq!(pace.take(MIB, ms(50)), ms(350), "a refusal costs nothing");
        assert_eq!(pace.take(MIB, ms(9000)), ms(9000), "what was not used is not made up for");
        pace.came(999 * MIB, ms(9001));
        assert_eq!(pace.bytes_per_s(), Some(10 * MIB));
        assert!(Pace::new(Some(0)).take(u64::MAX, ms(0)) == ms(0), "as slow as can be, and no panic");
    }

    #[test]
    fn half_of_what_the_link_gives_is_taken_and_measured_again() {
        let mut pace = Pace::new(None);
        let feed = |pace: &mut Pace, from: u64, each_ms: u64| {
            for n in 0..=64 {
                assert_eq!(pace.take(MIB, ms(from + n * each_ms)), ms(from + n * each_ms), "unlimited");
                pace.came(MIB, ms(from + n * each_ms));
            }
        };
        feed(&mut pace, 0, 10);
        assert_eq!(pace.bytes_per_s().map(|limit| limit / MIB), Some(50), "of 100 MiB/s");
        let at: Vec<_> = (0..3).map(|_| pace.take(MIB, ms(1000)).as_millis()).collect();
        assert!(at[1] - at[0] == 20 || at[1] - at[0] == 19, "{at:?}");
        feed(&mut pace, 700_000, 20);
        assert_eq!(pace.bytes_per_s().map(|limit| limit / MIB), Some(25));
    }

    #[test]
    fn a_pause_is_not_taken_for_a_slow_link() {
        let mut pace = Pace::new(None);
        for n in 0..60 {
            pace.came(MIB, ms(n * 10));
        }
        for n in 0..=64 {
            pace.came(MIB, ms(60_000 + n * 10));
        }
        assert_eq!(pace.bytes_per_s().map(|limit| limit / MIB), Some(50));
    }
}
