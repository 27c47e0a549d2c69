//! Waiting for a card with an end to it.
//!
//! The driver's own waits have no time limit, and a card that hangs would hang its thread with it. So marks are asked, with pauses that
//! grow with the time waited so far: an answer is seen at most an eighth of that later than it came, and never much more than
//! [`LONGEST_PAUSE`], while a core spends less than one part in twenty on asking. A callback from the driver would be no better: it holds up its stream until the
//! host has run it, and is never called once a context has failed.

use std::time::{Duration, Instant};

/// A batch of records takes milliseconds, a whole sector's download a tenth of a second: a card that is silent for so long hangs.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Launches that end within this are waited for without giving up the core.
const SPIN: Duration = Duration::from_micros(20);
/// Bounds how late an answer is seen.
const LONGEST_PAUSE: Duration = Duration::from_micros(250);

/// Asks `reached` until it says so or fails, or until `limit` is over; whether it was reached.
pub fn wait<E>(limit: Duration, mut reached: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
    let start = Instant::now();
    loop {
        // Measured first, so that the last question comes after the limit, however late this thread is woken.
        let waited = start.elapsed();
        if reached()? {
            return Ok(true);
        }
        if waited >= limit {
            return Ok(false);
        }
        if waited < SPIN {
            std::hint::spin_loop();
        } else {
            std::thread::sleep((waited / 8).min(LONGEST_PAUSE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_errors_and_silence_end_it() {
        let mut asked = 0;
        let answer = wait(ANSWER_LIMIT, || {
            asked += 1;
            Ok::<_, ()>(asked == 50)
        });
        assert_eq!((answer, asked), (Ok(true), 50));
        assert_eq!(wait(ANSWER_LIMIT, || Err("lost")), Err("lost"));
        let start = Instant::now();
        assert_eq!(wait(Duration::from_millis(5), || Ok::<_, ()>(false)), Ok(false));
        assert!(start.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn asking_is_rare() {
        let mut asked = 0_u32;
        let _ = wait(Duration::from_millis(50), || {
            asked += 1;
            Ok::<_, ()>(false)
        });
        assert!(asked < 100_000, "{asked} questions in 50 ms");
    }
}
