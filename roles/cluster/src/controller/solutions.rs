//! What becomes of each solution at this controller, in the finders' words, and the numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use super::signing_counts::SigningCounts;
use control::messages::{SolutionAnswer, bounded_text};
use node::client::NodeError;

/// What a controller answered to a solution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The own node queued it; whether it accepts it is never told.
    Queued,
    /// The own node, or this controller, will not have it.
    Refused,
    /// It was certainly not sent: its finder may ask another controller.
    NotSent,
    /// It may have been sent or not: the node did not say.
    Unknown,
    /// It came before; its finder was told what became of it then.
    Repeated,
}

impl Outcome {
    /// What an answer says.
    pub fn of(answer: &SolutionAnswer, is_repeat: bool) -> Self {
        match answer {
            _ if is_repeat => Self::Repeated,
            SolutionAnswer::Queued => Self::Queued,
            SolutionAnswer::Refused { .. } => Self::Refused,
            SolutionAnswer::NotSent { .. } => Self::NotSent,
            SolutionAnswer::Unknown { .. } => Self::Unknown,
        }
    }
}

/// What the node's answer means to a finder.
pub fn answer_of(answer: Result<(), NodeError>) -> SolutionAnswer {
    let Err(error) = answer else { return SolutionAnswer::Queued };
    let reason = bounded_text(&error.to_string());
    if error.is_certainly_not_done() {
        SolutionAnswer::NotSent { reason }
    } else if error.is_outcome_unknown() {
        SolutionAnswer::Unknown { reason }
    } else {
        SolutionAnswer::Refused { reason }
    }
}

/// Numbers of slots, solutions and signatures since the start.
#[derive(Debug, Default)]
pub struct Counts {
    outcomes: [AtomicU64; 5],
    announced: AtomicU64,
    withheld: AtomicU64,
    /// How wishes for signatures ended.
    pub signing: SigningCounts,
}

impl Counts {
    /// Solutions that ended so.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    /// Slots of the node that the cluster was told.
    pub fn announced(&self) -> u64 {
        self.announced.load(Ordering::Relaxed)
    }

    /// Slots of the node that the cluster was not told, since the bus was away.
    pub fn withheld(&self) -> u64 {
        self.withheld.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_announced(&self) {
        self.announced.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_withheld(&self) {
        self.withheld.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_node_are_told_apart() {
        let url = || "ws://n".to_owned();
        let method = "subspace_submitSolutionResponse";
        let refused = NodeError::Refused { url: url(), method, code: 9001, text: "two\nlines".repeat(99) };
        let counts = Counts::default();
        for (answer, outcome) in [
            (Ok(()), Outcome::Queued),
            (Err(NodeError::SolutionIgnored { url: url() }), Outcome::NotSent),
            (Err(NodeError::NotSent { url: url(), method }), Outcome::NotSent),
            (Err(NodeError::UnsafeMethods { url: url() }), Outcome::NotSent),
            (Err(NodeError::Unanswered { url: url(), method, reason: String::new() }), Outcome::Unknown),
            (Err(NodeError::BadAnswer { url: url(), method, reason: String::new() }), Outcome::Unknown),
            (Err(refused), Outcome::Refused),
        ] {
            let told = answer_of(answer.clone());
            assert!(control::messages::Control::to_bytes(&told).is_ok(), "{told:?}");
            assert_eq!(Outcome::of(&told, false), outcome, "{answer:?}");
            assert_eq!(Outcome::of(&told, true), Outcome::Repeated);
            counts.add(outcome);
        }
        assert_eq!((counts.of(Outcome::NotSent), counts.of(Outcome::Queued)), (3, 1));
        assert_eq!(counts.of(Outcome::Repeated), 0);
    }
}
