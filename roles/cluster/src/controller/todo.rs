//! Segments that are still to be brought into the caches, and when to try.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Pause after the first try in vain; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause: a node that has not the segment's pieces now hardly has them later.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// What is to be done, the newest first: its pieces are the ones that vanish.
#[derive(Debug, Default)]
pub struct Todo(BTreeMap<u64, Task>);

#[derive(Debug, Clone, Copy)]
struct Task {
    due: Instant,
    pause: Duration,
}

impl Todo {
    /// Another segment, due now.
    pub fn add(&mut self, segment_index: u64, now: Instant) {
        self.0.insert(segment_index, Task { due: now, pause: FIRST_PAUSE });
    }

    /// The newest segment that is due.
    pub fn next(&self, now: Instant) -> Option<u64> {
        self.0.iter().rev().find(|(_, task)| task.due <= now).map(|(index, _)| *index)
    }

    /// It did not work now.
    pub fn failed(&mut self, segment_index: u64, now: Instant) {
        if let Some(task) = self.0.get_mut(&segment_index) {
            task.due = now + task.pause;
            task.pause = (task.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// It is done.
    pub fn done(&mut self, segment_index: u64) {
        self.0.remove(&segment_index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_first_and_failures_wait_ever_longer() {
        let (mut todo, start) = (Todo::default(), Instant::now());
        let after = |pause| start + pause - Duration::from_millis(1);
        assert_eq!(todo.next(start), None);
        [0, 1, 2].iter().for_each(|index| todo.add(*index, start));
        assert_eq!(todo.next(start), Some(2));
        todo.failed(2, start);
        assert_eq!(todo.next(start), Some(1));
        todo.done(1);
        todo.done(0);
        assert_eq!((todo.next(after(FIRST_PAUSE)), todo.next(start + FIRST_PAUSE)), (None, Some(2)));
        todo.failed(2, start);
        let second = FIRST_PAUSE * 2;
        assert_eq!((todo.next(after(second)), todo.next(start + second)), (None, Some(2)));
        (0..20).for_each(|_| todo.failed(2, start));
        assert_eq!((todo.next(after(LONGEST_PAUSE)), todo.next(start + LONGEST_PAUSE)), (None, Some(2)));
        todo.add(2, start);
        assert_eq!(todo.next(start), Some(2), "announced again");
    }
}
