//! What becomes of each solution, and the books about it.
//!
//! Every solution that was found ends in exactly one of the [`Outcome`]s, so that no reward is lost without a word.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::signing_counts::SigningCounts;
use node::client::NodeError;

/// Slots that a node remembers to have announced: it ignores solutions for others.
const ANNOUNCED_MAX: usize = 4;
/// Solutions remembered, to send none twice.
const KNOWN_MAX: usize = 4096;

/// Where a solution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The own node queued it; whether it accepts it is never told.
    Queued,
    /// The own node did not even queue it.
    Ignored,
    /// The own node refused it otherwise.
    Refused,
    /// Its time was over before it was sent.
    Expired,
    /// It was not sent since node or bus failed.
    Unsent,
    /// It may have been sent or not: whoever was to say so did not answer.
    Unknown,
    /// Another controller has it.
    Elsewhere,
}

impl Outcome {
    /// What the node's answer means.
    pub fn of_answer(answer: &Result<(), NodeError>) -> Self {
        match answer {
            Ok(()) => Self::Queued,
            Err(NodeError::SolutionIgnored { .. }) => Self::Ignored,
            Err(error) if error.is_outcome_unknown() => Self::Unknown,
            Err(_) => Self::Refused,
        }
    }
}

/// Numbers of solutions and signatures since the start.
#[derive(Debug, Default)]
pub struct Counts {
    outcomes: [AtomicU64; 7],
    /// How wishes for signatures ended.
    pub signing: SigningCounts,
}

impl Counts {
    /// Solutions that ended so.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// What is to be done with a solution that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// Claim and send it, within this time.
    Send(Duration),
    /// It came before.
    Known,
    /// Its slot is over.
    Expired,
}

/// The slots and solutions of the last seconds.
#[derive(Debug)]
pub struct Book {
    farming_timeout: Duration,
    /// Slots that the own node announced on its present subscription, and when.
    announced: VecDeque<(u64, Instant)>,
    /// Slot and identity of solutions that came in.
    known: BTreeSet<(u64, [u8; 32])>,
}

impl Book {
    /// Empty. Solutions are of use for `farming_timeout` after their slot began.
    pub fn new(farming_timeout: Duration) -> Self {
        Self { farming_timeout, announced: VecDeque::new(), known: BTreeSet::new() }
    }

    /// The own node announced `slot`.
    pub fn announce(&mut self, slot: u64, now: Instant) {
        self.announced.retain(|(known, _)| *known != slot);
        self.announced.push_back((slot, now));
        if self.announced.len() > ANNOUNCED_MAX {
            self.announced.pop_front();
        }
    }

    /// The own node has, perhaps, restarted and knows of no slot any more.
    pub fn forget_announced(&mut self) {
        self.announced.clear();
    }

    /// Whether the own node takes solutions for `slot`.
    pub fn is_announced(&self, slot: u64) -> bool {
        self.announced.iter().any(|(known, _)| *known == slot)
    }

    /// A solution for `slot` was found; `identity` tells it from all others.
    pub fn take(&mut self, slot: u64, identity: [u8; 32], now: Instant) -> Incoming {
        if !self.known.insert((slot, identity)) {
            return Incoming::Known;
        }
        if self.known.len() > KNOWN_MAX {
            self.known.pop_first();
        }
        let newest = self.announced.iter().map(|(slot, _)| *slot).max();
        let begun_at = self.announced.iter().find(|(known, _)| *known == slot).map(|(_, at)| *at);
        let left = match begun_at {
            Some(begun_at) => (begun_at + self.farming_timeout).saturating_duration_since(now),
            // Gone by. The own node does not take it, and the others have had their chance.
            None if newest.is_some_and(|newest| slot < newest) => Duration::ZERO,
            // Another controller's node was faster.
            None => self.farming_timeout,
        };
        if left.is_zero() { Incoming::Expired } else { Incoming::Send(left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(4);

    #[test]
    fn a_solution_has_its_slots_time_and_comes_once() {
        let (mut book, start) = (Book::new(TIMEOUT), Instant::now());
        let later = |ms| start + Duration::from_millis(ms);
        assert_eq!(book.take(9, [0; 32], start), Incoming::Send(TIMEOUT), "another node was faster");
        book.announce(10, start);
        assert_eq!(book.take(10, [1; 32], later(1500)), Incoming::Send(Duration::from_millis(2500)));
        assert_eq!(book.take(10, [1; 32], later(1501)), Incoming::Known);
        assert_eq!(book.take(10, [2; 32], later(4000)), Incoming::Expired);
        assert_eq!(book.take(9, [2; 32], later(10)), Incoming::Expired, "never announced here, and gone by");
        assert_eq!(book.take(11, [2; 32], later(10)), Incoming::Send(TIMEOUT));
    }

    #[test]
    fn a_node_knows_its_last_four_slots_until_it_restarts() {
        let (mut book, now) = (Book::new(TIMEOUT), Instant::now());
        for slot in [1, 2, 2, 3, 4, 5] {
            book.announce(slot, now);
        }
        let announced: Vec<_> = (0..8).filter(|slot| book.is_announced(*slot)).collect();
        assert_eq!(announced, [2, 3, 4, 5]);
        book.forget_announced();
        assert!(!book.is_announced(5));
        assert_eq!(
            book.take(3, [0; 32], now),
            Incoming::Send(TIMEOUT),
            "the claim waits for the announcement"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let (mut book, now) = (Book::new(TIMEOUT), Instant::now());
        for slot in 0..3 * KNOWN_MAX as u64 {
            book.take(slot, [0; 32], now);
        }
        assert_eq!(book.known.len(), KNOWN_MAX);
        assert_eq!(book.take(3 * KNOWN_MAX as u64 - 1, [0; 32], now), Incoming::Known);
    }

    #[test]
    fn answers_of_the_node_are_booked_apart() {
        let url = || "ws://n".to_owned();
        let method = "subspace_submitSolutionResponse";
        let unanswered = NodeError::Unanswered { url: url(), method, reason: String::new() };
        let refused = NodeError::Refused { url: url(), method, code: 9001, text: String::new() };
        let counts = Counts::default();
        for (answer, outcome) in [
            (Ok(()), Outcome::Queued),
            (Err(NodeError::SolutionIgnored { url: url() }), Outcome::Ignored),
            (Err(unanswered), Outcome::Unknown),
            (Err(refused), Outcome::Refused),
            (Err(NodeError::UnsafeMethods { url: url() }), Outcome::Refused),
        ] {
            assert_eq!(Outcome::of_answer(&answer), outcome, "{answer:?}");
            counts.add(outcome);
        }
        assert_eq!((counts.of(Outcome::Refused), counts.of(Outcome::Queued)), (2, 1));
        assert_eq!(counts.of(Outcome::Elsewhere), 0);
    }
}
