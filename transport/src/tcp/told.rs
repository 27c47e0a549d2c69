//! What happens often when somebody is hostile, told once a minute with how often it happened.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Time between two lines.
const EVERY: Duration = Duration::from_secs(60);

/// One kind of thing to tell.
#[derive(Default)]
pub(super) struct Told {
    at: Cell<Option<Instant>>,
    untold: Cell<u64>,
}

impl Told {
    /// Counts one more. The number to tell, if it is time.
    pub(super) fn count(&self) -> Option<u64> {
        self.untold.set(self.untold.get() + 1);
        if self.at.get().is_some_and(|at| at.elapsed() < EVERY) {
            return None;
        }
        self.at.set(Some(Instant::now()));
        Some(self.untold.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line() {
        let told = Told::default();
        assert_eq!((told.count(), told.count(), told.count()), (Some(1), None, None));
        told.at.set(Instant::now().checked_sub(EVERY));
        assert_eq!((told.count(), told.count()), (Some(3), None));
    }
}
