//! Whatever comes in whatever order, also over restarts, no solution can be sent twice.

use super::tests::{FARM, ME, at, becomes, heard, key};
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap as Map, HashSet};

/// What may happen, in the words of a property test.
#[derive(Debug, Clone, Copy)]
enum Step {
    Heard(u8, u64, u8),
    Proved(u8, u64, u8),
    /// What becomes of the nth request that is open.
    Asked(usize, u8),
    /// What came late, of the nth request that ever was.
    Late(usize, u8),
    /// The nth of what is being written has been written.
    Written(usize),
    /// The process is killed, and started again.
    Killed,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..4, 1u64..6, 0u8..2).prop_map(|(id, slot, challenge)| Step::Heard(id, slot, challenge)),
        (0u8..9, 1u64..6, 0u8..2).prop_map(|(n, slot, challenge)| Step::Proved(n, slot, challenge)),
        (0usize..9, 0u8..6).prop_map(|(nth, what)| Step::Asked(nth, what)),
        (0usize..99, 0u8..6).prop_map(|(nth, what)| Step::Late(nth, what)),
        (0usize..9).prop_map(Step::Written),
        (0usize..9).prop_map(Step::Written),
        (0u64..3000).prop_map(Step::Wait),
        Just(Step::Killed),
    ]
}

/// A finder and what it has done, over all its runs.
struct Played {
    finder: Finder,
    now: Duration,
    /// Requests that are open, those that ever were in this run, and solutions that are being written down.
    open: Vec<SolutionId>,
    ever: Vec<SolutionId>,
    writing: Vec<(SolutionId, SolutionKey)>,
    /// What the disk has.
    memory: BTreeSet<SolutionKey>,
    announced: HashSet<(InstanceId, u64, [u8; 32])>,
    /// Who was asked for what.
    asked: HashSet<(u64, [u8; 412], InstanceId)>,
    /// Solutions that a node may have got.
    perhaps_sent: HashSet<(u64, [u8; 412])>,
    requests: Map<SolutionId, (u64, [u8; 412])>,
    found: usize,
    ended: usize,
}

impl Played {
    fn new() -> Self {
        Self {
            finder: Finder::new(ME, BTreeSet::new()),
            now: Duration::ZERO,
            open: Vec::new(),
            ever: Vec::new(),
            writing: Vec::new(),
            memory: BTreeSet::new(),
            announced: HashSet::new(),
            asked: HashSet::new(),
            perhaps_sent: HashSet::new(),
            requests: Map::new(),
            found: 0,
            ended: 0,
        }
    }

    fn event(&mut self, step: Step) -> FinderEvent {
        match step {
            Step::Heard(id, slot, challenge) => {
                self.announced.insert((InstanceId([id; 16]), slot, [challenge; 32]));
                heard(InstanceId([id; 16]), slot, challenge)
            }
            Step::Proved(n, slot, challenge) => {
                self.found += 1;
                let mut solution = Solution::from_bytes(&[1; 412]).unwrap();
                solution.chunk = [n; 32];
                let (slot, farm, deadline) = (key(slot, challenge), FARM, self.now + at(4000));
                FinderEvent::Proved(Box::new(Proved { slot, farm, solution, distance: n.into(), deadline }))
            }
            Step::Asked(nth, what) if !self.open.is_empty() => {
                let id = self.open.remove(nth % self.open.len());
                // What certainly was not sent may be sent again; all else never.
                if what == 2 || what == 4 {
                    self.perhaps_sent.remove(&self.requests[&id]);
                }
                becomes(id, what)
            }
            // What is late is about a request that has been settled.
            Step::Late(nth, what) if !self.ever.is_empty() => {
                let id = self.ever[nth % self.ever.len()];
                if self.open.contains(&id) { FinderEvent::Tick } else { becomes(id, what) }
            }
            Step::Written(nth) if !self.writing.is_empty() => {
                let (id, key) = self.writing.remove(nth % self.writing.len());
                self.memory.insert(key);
                FinderEvent::Remembered { id }
            }
            Step::Wait(ms) => {
                self.now += at(ms);
                FinderEvent::Tick
            }
            Step::Killed => {
                self.finder = Finder::new(ME, self.memory.clone());
                (self.found, self.ended) = (0, 0);
                // It has heard of nobody yet.
                self.announced.clear();
                self.open.clear();
                self.ever.clear();
                self.writing.clear();
                self.requests.clear();
                FinderEvent::Tick
            }
            _ => FinderEvent::Tick,
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let event = self.event(step);
        for action in self.finder.on(event, self.now) {
            match action {
                FinderAction::Remember { id, handover } => {
                    prop_assert!(!self.open.contains(&id), "with one");
                    self.writing.push((id, handover.solution));
                }
                FinderAction::Ask { id, controller, request, .. } => {
                    let found = (request.slot, request.solution);
                    let slot = (controller, request.slot, request.global_challenge);
                    prop_assert!(self.announced.contains(&slot));
                    prop_assert!(!self.open.contains(&id), "with two at a time");
                    prop_assert!(self.asked.insert((found.0, found.1, controller)), "asked twice");
                    prop_assert!(self.perhaps_sent.insert(found), "a node may have it");
                    let solution = Solution::from_bytes(&request.solution).unwrap();
                    let key = SolutionKey::of(request.slot, &solution);
                    prop_assert!(self.memory.contains(&key), "not written down");
                    self.open.push(id);
                    self.ever.push(id);
                    self.requests.insert(id, found);
                }
                FinderAction::Ended { .. } => self.ended += 1,
            }
        }
        let solutions = &self.finder.solutions;
        let is_asked = |id: &SolutionId| {
            solutions.get(id).is_some_and(|solution| matches!(solution.state, State::Asked { .. }))
        };
        self.open.retain(is_asked);
        prop_assert_eq!(self.found, self.ended + self.finder.len());
        Ok(())
    }
}

proptest! {
    /// Whatever happens in whatever order, also over restarts: a solution is with one controller at a time, with none that did not
    /// announce its slot and challenge, with none twice, with none before that is written down, and with none at all after one that
    /// may have sent it; each has one outcome.
    #[test]
    fn no_solution_can_be_sent_twice(steps in prop::collection::vec(step(), 0..200)) {
        let mut played = Played::new();
        for step in steps.into_iter().chain([Step::Wait(60_000)]) {
            played.step(step)?;
        }
        prop_assert!(played.finder.is_empty(), "nothing waits for ever");
        prop_assert_eq!(played.finder.wake_at(), None);
        let places = |finder: &Finder| finder.controllers.busy();
        prop_assert_eq!(places(&played.finder), 0, "and no controller's place is taken");
    }
}
