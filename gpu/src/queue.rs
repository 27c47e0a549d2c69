//! Jobs that wait for a worker: bounded, ordered, and droppable from outside.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Jobs by key, the smallest first, equal ones in the order they came.
///
/// Jobs are always dropped without the lock, since dropping one may wake or lock others.
pub(crate) struct Queue<K, J> {
    state: Mutex<State<K, J>>,
    ready: Condvar,
    limit: usize,
}

struct State<K, J> {
    jobs: BTreeMap<Ticket<K>, J>,
    next_number: u64,
    closed: bool,
}

/// Names a job that was pushed: its key, and a number no other job has.
pub(crate) type Ticket<K> = (K, u64);

/// Why a job was not taken; it is dropped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    Full,
    Closed,
}

/// No job will come any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

impl<K: Ord + Copy, J> Queue<K, J> {
    pub fn new(limit: usize) -> Self {
        let state = State { jobs: BTreeMap::new(), next_number: 0, closed: false };
        Self { state: Mutex::new(state), ready: Condvar::new(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, J>> {
        self.state.lock().expect("nothing panics while it holds the queue's lock")
    }

    pub fn push(&self, key: K, job: J) -> Result<Ticket<K>, PushError> {
        let mut state = self.lock();
        let refused = match (state.closed, state.jobs.len() >= self.limit) {
            (true, _) => Some(PushError::Closed),
            (false, true) => Some(PushError::Full),
            (false, false) => None,
        };
        if let Some(error) = refused {
            drop(state);
            return Err(error);
        }
        let ticket = (key, state.next_number);
        state.next_number += 1;
        state.jobs.insert(ticket, job);
        drop(state);
        self.ready.notify_one();
        Ok(ticket)
    }

    /// Waits for a job; none once the queue is closed.
    pub fn pop(&self) -> Option<J> {
        let mut state = self.lock();
        loop {
            if let Some((_, job)) = state.jobs.pop_first() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.ready.wait(state).expect("nothing panics while it holds the queue's lock");
        }
    }

    /// Waits for a job, but no longer than `limit`; none if none came.
    pub fn pop_within(&self, limit: Duration) -> Result<Option<J>, Closed> {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some((_, job)) = state.jobs.pop_first() {
                return Ok(Some(job));
            }
            let left = end.saturating_duration_since(Instant::now());
            match (state.closed, left.is_zero()) {
                (true, _) => return Err(Closed),
                (false, true) => return Ok(None),
                (false, false) => {
                    let waited = self.ready.wait_timeout(state, left);
                    state = waited.expect("nothing panics while it holds the queue's lock").0;
                }
            }
        }
    }

    /// Takes a job out, if it still waits.
    pub fn remove(&self, ticket: &Ticket<K>) -> Option<J> {
        self.lock().jobs.remove(ticket)
    }

    /// Takes out all jobs with this key.
    pub fn remove_all(&self, key: K) -> Vec<J> {
        let mut state = self.lock();
        let tickets: Vec<_> =
            state.jobs.range((key, 0)..=(key, u64::MAX)).map(|(ticket, _)| *ticket).collect();
        tickets.iter().filter_map(|ticket| state.jobs.remove(ticket)).collect()
    }

    pub fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Drops what waits and takes nothing more; workers end.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        self.ready.notify_all();
        drop(jobs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn smallest_key_first_then_in_order() {
        let queue = Queue::new(5);
        for (key, job) in [(2, 'c'), (1, 'a'), (2, 'd'), (1, 'b'), (0, 'x')] {
            queue.push(key, job).unwrap();
        }
        assert_eq!(queue.push(0, 'y'), Err(PushError::Full));
        assert_eq!(queue.remove_all(0), ['x']);
        let popped: String = (0..4).filter_map(|_| queue.pop()).collect();
        assert_eq!((popped.as_str(), queue.len()), ("abcd", 0));
    }

    #[test]
    fn a_job_can_be_taken_out_once() {
        let queue = Queue::new(2);
        let ticket = queue.push(7, 'a').unwrap();
        assert_eq!((queue.remove(&ticket), queue.remove(&ticket)), (Some('a'), None));
    }

    #[test]
    fn waiting_for_a_while_ends_with_a_job_the_time_or_the_queue() {
        let queue = Queue::new(2);
        queue.push(1, 'a').unwrap();
        assert_eq!(queue.pop_within(Duration::ZERO), Ok(Some('a')));
        let started = Instant::now();
        assert_eq!(queue.pop_within(Duration::from_millis(5)), Ok(None));
        assert!(started.elapsed() >= Duration::from_millis(5));
        queue.close();
        assert_eq!(queue.pop_within(Duration::from_secs(60)), Err(Closed));
    }

    #[test]
    fn closing_wakes_workers_and_drops_jobs() {
        let queue = Arc::new(Queue::<u8, Arc<()>>::new(2));
        let waiting = std::thread::spawn({
            let queue = queue.clone();
            move || queue.pop().is_none()
        });
        queue.close();
        assert!(waiting.join().unwrap());
        assert_eq!(queue.push(0, Arc::new(())), Err(PushError::Closed));

        let (job, queue) = (Arc::new(()), Queue::new(1));
        queue.push(0, job.clone()).unwrap();
        queue.close();
        assert!(Arc::strong_count(&job) == 1 && queue.pop().is_none());
    }
}
