//! Whether the cache takes more pieces, told to those who bring them.
//!
//! ```text
//!   Room ── no slot is free ─▶ Full ── a sixteenth of all slots is free, or 16 ─▶ Room
//! ```

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::calls::{Call, Calls, Room};
use crate::host::Host;

/// How often the store is asked.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Slots that are free again before it is told so: each change is a message to all who bring pieces.
const ROOM_AGAIN: u64 = 16;

/// Whether the cache is full, as it was told to be or not before.
fn is_full(room: Room, was_full: bool) -> bool {
    let enough = if was_full { (room.capacity / 16).clamp(1, ROOM_AGAIN) } else { 1 };
    room.free < enough
}

/// Tells each change in the cache's entry, until the executor ends. One that hands over what it has takes nothing.
pub async fn tell(host: &Host, calls: &Calls, is_draining: bool) {
    if is_draining {
        return host.tell_full(true);
    }
    let (mut was_full, mut ticks) = (false, interval(LOOK_EVERY));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // None while the store is not open.
        let Some(room) = calls.make(Call::Room).await else { return };
        let now = room.map_or(was_full, |room| is_full(room, was_full));
        if std::mem::replace(&mut was_full, now) != now {
            host.tell_full(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slot_that_comes_free_is_not_told() {
        let full = |free, capacity, was_full| is_full(Room { free, capacity }, was_full);
        assert!(full(0, 4096, false) && !full(1, 4096, false));
        assert!(full(15, 4096, true) && !full(16, 4096, true));
        assert!(full(0, 3, true) && !full(1, 3, true), "a small one");
        assert!(full(0, 0, false) && full(0, 0, true));
    }
}
