//! Whether a cache refuses pieces for want of room, told when it begins and when it is over.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A piece stored so long after the last refusal means that there is room again: one that fits between two refusals does not.
const ROOM_AFTER: Duration = Duration::from_secs(10);

/// Since when pieces are refused, if they are.
#[derive(Default)]
pub(super) struct Fullness(Cell<Option<Spell>>);

#[derive(Clone, Copy)]
struct Spell {
    since: Instant,
    last: Instant,
}

impl Fullness {
    /// A piece was refused. Whether that is to be told.
    pub fn refused(&self, now: Instant) -> bool {
        let before = self.0.get();
        self.0.set(Some(Spell { since: before.map_or(now, |spell| spell.since), last: now }));
        before.is_none()
    }

    /// A piece was stored. How long pieces were refused, if it is to be told that they are taken again.
    pub fn stored(&self, now: Instant) -> Option<Duration> {
        let spell = self.0.get().filter(|spell| now.duration_since(spell.last) >= ROOM_AFTER)?;
        self.0.set(None);
        Some(now.duration_since(spell.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_cache_is_told_once_and_its_room_once() {
        let fullness = Fullness::default();
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(fullness.stored(at(0)), None);
        assert_eq!((0..100).filter(|second| fullness.refused(at(*second))).count(), 1);
        assert_eq!(fullness.stored(at(100)), None, "one that fitted");
        assert!(!fullness.refused(at(101)));
        assert_eq!(fullness.stored(at(111)), Some(Duration::from_secs(111)));
        assert_eq!(fullness.stored(at(112)), None);
        assert!(fullness.refused(at(113)), "another time");
    }
}
