//! Segments that nobody knows to be placed, looked for in the caches: the store may have lost that they are, with all who knew it.
//!
//! A round goes from the lowest such segment up, a stretch at a time; after each the pause doubles, and where all is known to be placed
//! nothing is asked. What the caches have is not fetched from the node, so old segments wait for the first round.

use std::time::Duration;

use super::retry::Retry;

/// Segments of one look: 4 KiB of each cache's answer.
pub const LOOK_SEGMENTS_MAX: u16 = 128;
/// Pause between two looks of a round.
const STEP: Duration = Duration::from_millis(250);
/// Pauses between rounds.
const ROUND_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// A stretch of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The first.
    pub from_segment: u64,
    /// How many.
    pub segments: u16,
}

impl Stretch {
    /// Whether a segment is one of them.
    pub fn contains(&self, index: u64) -> bool {
        index.checked_sub(self.from_segment).is_some_and(|at| at < u64::from(self.segments))
    }
}

/// Where the present round is.
#[derive(Debug)]
pub struct Looks {
    /// Where it goes on; none between rounds.
    from: Option<u64>,
    underway: Option<Stretch>,
    step_at: Duration,
    round: Retry,
    has_looked: bool,
}

impl Looks {
    pub fn new(now: Duration) -> Self {
        let round = Retry::new(ROUND_PAUSE.0, ROUND_PAUSE.1, now);
        Self { from: None, underway: None, step_at: now, round, has_looked: false }
    }

    /// When the next look is due, if none is under way.
    pub fn due(&self) -> Duration {
        self.step_at.max(self.round.due)
    }

    /// Whether all was looked for that was missing since [`Self::begin_anew`], or nothing was.
    pub fn has_looked(&self) -> bool {
        self.has_looked
    }

    /// The next stretch below `end`, if one is due. `missing` gives the lowest missing segment from one on.
    pub fn next(&mut self, end: u64, missing: impl Fn(u64) -> Option<u64>, now: Duration) -> Option<Stretch> {
        if self.underway.is_some() || now < self.due() {
            return None;
        }
        let Some(from_segment) = missing(self.from.unwrap_or(0)).filter(|from| *from < end) else {
            if self.from.take().is_some() {
                self.round.failed(now);
            }
            self.has_looked = true;
            return None;
        };
        let segments = LOOK_SEGMENTS_MAX.min(u16::try_from(end - from_segment).unwrap_or(u16::MAX));
        self.from = Some(from_segment + u64::from(segments));
        self.underway = Some(Stretch { from_segment, segments });
        self.underway
    }

    /// The caches have answered; whether that was asked for.
    pub fn seen(&mut self, stretch: Stretch, now: Duration) -> bool {
        let is_expected = self.underway.take_if(|underway| *underway == stretch).is_some();
        if is_expected {
            self.step_at = now + STEP;
        }
        is_expected
    }

    /// There may be more to be seen: a new round begins.
    pub fn begin_anew(&mut self, now: Duration) {
        (self.from, self.has_looked) = (None, false);
        self.round.begin_anew(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_goes_up_in_bounded_steps_and_the_next_comes_later() {
        let (mut looks, mut now) = (Looks::new(Duration::ZERO), Duration::ZERO);
        // Every segment but the first five hundred is missing.
        let missing = |from: u64| Some(from.max(500));
        let mut round = |now: &mut Duration| {
            let mut stretches = Vec::new();
            while let Some(stretch) = looks.next(800, missing, *now) {
                assert_eq!(looks.next(800, missing, *now), None, "one at a time");
                assert!(!looks.seen(Stretch { segments: 1, ..stretch }, *now), "another question's answer");
                assert!(looks.seen(stretch, *now));
                stretches.push((stretch.from_segment, stretch.segments));
                *now = looks.due();
            }
            assert!(looks.has_looked());
            (stretches, looks.due() - *now)
        };
        let all = vec![(500, 128), (628, 128), (756, 44)];
        assert_eq!(round(&mut now), (all.clone(), ROUND_PAUSE.0));
        now += ROUND_PAUSE.0;
        assert_eq!(round(&mut now), (all.clone(), 2 * ROUND_PAUSE.0));
        for _ in 0..20 {
            now += ROUND_PAUSE.1;
            assert!(round(&mut now).1 <= ROUND_PAUSE.1);
        }
        looks.begin_anew(now);
        assert!(!looks.has_looked() && looks.next(800, missing, now).is_some(), "at once");
    }

    #[test]
    fn nothing_is_asked_where_nothing_is_missing() {
        let mut looks = Looks::new(Duration::ZERO);
        assert_eq!(looks.next(9, |_| None, Duration::ZERO), None);
        assert!(looks.has_looked());
        assert_eq!(looks.next(9, |_| Some(9), Duration::ZERO), None, "what is not archived yet");
        assert_eq!(looks.due(), Duration::ZERO, "what is missing later is looked for at once");
        assert!(looks.next(10, |_| Some(9), Duration::ZERO).is_some());
    }
}
