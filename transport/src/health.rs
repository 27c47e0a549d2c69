//! Whether a connection still answers.
//!
//! A peer that is well answers something between two requests that run out of time, if only by refusing. Time is milliseconds since any fixed moment. Never: what is done about it.

use crate::limits::{TIMEOUTS_APART_MS, TIMEOUTS_MAX};

/// What requests of one connection came to.
#[derive(Debug, Default)]
pub struct Health {
    timeouts: u32,
    last_ms: Option<u64>,
}

impl Health {
    /// The peer gave what somebody waited for, or refused it.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// A request's time is over. Whether the connection is to be retired: so many moments passed without an answer. Requests
    /// that were made together end together and count as one.
    pub fn timed_out(&mut self, now_ms: u64) -> bool {
        if self.last_ms.is_none_or(|last_ms| now_ms >= last_ms + TIMEOUTS_APART_MS) {
            self.timeouts += 1;
            self.last_ms = Some(now_ms);
        }
        self.timeouts >= TIMEOUTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_in_a_row_retires_and_any_answer_in_between_does_not() {
        let mut health = Health::default();
        for round in 0..10 {
            let at = |n: u64| (round * 10 + n) * TIMEOUTS_APART_MS;
            assert!(!health.timed_out(at(0)) && !health.timed_out(at(1)));
            health.answered();
        }
        let at = |n: u64| (1000 + n) * TIMEOUTS_APART_MS;
        assert!((0..64).all(|_| !health.timed_out(at(0))), "a window that ends in one moment");
        assert!((0..64).all(|_| !health.timed_out(at(1))));
        assert!(health.timed_out(at(2)));
    }
}
