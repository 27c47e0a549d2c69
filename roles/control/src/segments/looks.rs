//! Segments that nobody knows to be placed, looked for in the caches: the store may have lost that they are, with all who knew it.
//!
//! A round goes from the newest such segment down, a stretch at a time; after each the pause doubles, and where all is known to be placed
//! nothing is asked. What the caches have is not fetched from the node, so old segments wait for the first round.

use std::time::Duration;

use crate::retry::Retry;

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
    /// Below this it goes on; none between rounds.
    below: Option<u64>,
    underway: Option<Stretch>,
    step_at: Duration,
    round: Retry,
    has_looked: bool,
}

impl Looks {
    pub fn new(now: Duration) -> Self {
        let round = Retry::new(ROUND_PAUSE.0, ROUND_PAUSE.1, now);
        Self { below: None, underway: None, step_at: now, round, has_looked: false }
    }

    /// When the next look is due, if none is under way.
    pub fn due(&self) -> Duration {
        self.step_at.max(self.round.due)
    }

    /// Whether all was looked for that was missing since [`Self::begin_anew`], or nothing was.
    pub fn has_looked(&self) -> bool {
        self.has_looked
    }

    /// Whether a segment was looked for since then.
    pub fn has_looked_for(&self, index: u64) -> bool {
        let is_passed = self.below.is_some_and(|below| index >= below);
        self.has_looked || is_passed && !self.underway.is_some_and(|underway| underway.contains(index))
    }

    /// The next stretch of a history of so many segments, if one is due. `missing_below` gives the highest missing segment below one.
    pub fn next(
        &mut self,
        history: u64,
        missing_below: impl Fn(u64) -> Option<u64>,
        now: Duration,
    ) -> Option<Stretch> {
        if self.underway.is_some() || now < self.due() {
            return None;
        }
        let Some(last) = missing_below(self.below.unwrap_or(history)) else {
            if self.below.take().is_some() {
                self.round.failed(now);
            }
            self.has_looked = true;
            return None;
        };
        let from_segment = (last + 1).saturating_sub(LOOK_SEGMENTS_MAX.into());
        let segments = u16::try_from(last + 1 - from_segment).unwrap_or(LOOK_SEGMENTS_MAX);
        self.below = Some(from_segment);
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
        (self.below, self.has_looked) = (None, false);
        self.round.begin_anew(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_goes_down_in_bounded_steps_and_the_next_comes_later() {
        let (mut looks, mut now) = (Looks::new(Duration::ZERO), Duration::ZERO);
        // The first five hundred are not missing.
        let missing = |below: u64| below.checked_sub(1).filter(|last| *last >= 500);
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
        let all = vec![(672, 128), (544, 128), (416, 128)];
        assert_eq!(round(&mut now), (all.clone(), ROUND_PAUSE.0));
        now += ROUND_PAUSE.0;
        assert_eq!(round(&mut now), (all.clone(), 2 * ROUND_PAUSE.0));
        for _ in 0..20 {
            now += ROUND_PAUSE.1;
            assert!(round(&mut now).1 <= ROUND_PAUSE.1);
        }
        looks.begin_anew(now);
        assert!(!looks.has_looked() && !looks.has_looked_for(799));
        let stretch = looks.next(800, missing, now).expect("at once");
        assert!(!looks.has_looked_for(799));
        looks.seen(stretch, now);
        assert!(looks.has_looked_for(799) && looks.has_looked_for(672) && !looks.has_looked_for(671));
    }

    #[test]
    fn nothing_is_asked_where_nothing_is_missing() {
        let mut looks = Looks::new(Duration::ZERO);
        assert_eq!(looks.next(9, |_| None, Duration::ZERO), None);
        assert!(looks.has_looked());
        assert_eq!(looks.due(), Duration::ZERO, "what is missing later is looked for at once");
        assert_eq!(
            looks.next(10, |_| Some(9), Duration::ZERO),
            Some(Stretch { from_segment: 0, segments: 10 })
        );
    }
}
