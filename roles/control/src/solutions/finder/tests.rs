use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap as Map, HashSet};

const ME: InstanceId = InstanceId([9; 16]);
const A: InstanceId = InstanceId([1; 16]);
const B: InstanceId = InstanceId([2; 16]);
const C: InstanceId = InstanceId([3; 16]);
const FARM: FarmId = FarmId([4; 16]);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn key(slot: u64, challenge: u8) -> SlotKey {
    SlotKey { slot, global_challenge: [challenge; 32] }
}

fn heard(controller: InstanceId, slot: u64, challenge: u8) -> FinderEvent {
    let SlotKey { slot, global_challenge } = key(slot, challenge);
    let (solution_range, voting_solution_range, announced_ms) = (1, 2, slot * 1000);
    let info =
        SlotInfo { slot, global_challenge, solution_range, voting_solution_range, controller, announced_ms };
    FinderEvent::Heard(info)
}

/// Solution number `n` for slot 5 of challenge 0, the better the less `n`; of use until 9 s.
fn proved(n: u8) -> FinderEvent {
    let mut solution = Solution::from_bytes(&[1; 412]).unwrap();
    solution.chunk = [n; 32];
    let distance = n.into();
    let slot = key(5, 0);
    FinderEvent::Proved(Box::new(Proved { slot, farm: FARM, solution, distance, deadline: at(9000) }))
}

fn asks(actions: &[FinderAction]) -> Vec<(SolutionId, InstanceId, u8)> {
    let ask = |action: &FinderAction| match action {
        FinderAction::Ask { id, controller, public_key, request } => {
            let solution = Solution::from_bytes(&request.solution).unwrap();
            assert_eq!((solution.public_key, request.finder, request.farm), (*public_key, ME, FARM));
            Some((*id, *controller, solution.chunk[0]))
        }
        FinderAction::Ended { .. } => None,
    };
    actions.iter().filter_map(ask).collect()
}

fn outcomes(actions: &[FinderAction]) -> Vec<Outcome> {
    let outcome = |action: &FinderAction| match action {
        FinderAction::Ended { outcome, .. } => Some(outcome.clone()),
        FinderAction::Ask { .. } => None,
    };
    actions.iter().filter_map(outcome).collect()
}

fn not_sent(id: SolutionId) -> FinderEvent {
    FinderEvent::Answered { id, answer: SolutionAnswer::NotSent { reason: "queue full".into() } }
}

/// A finder that heard slot 5 of these.
fn finder(controllers: &[InstanceId]) -> Finder {
    let mut finder = Finder::new(ME);
    for id in controllers {
        assert_eq!(finder.on(heard(*id, 5, 0), at(5000)), []);
    }
    finder
}

/// The only solution is asked of somebody: whom?
fn one_asked(actions: &[FinderAction]) -> (SolutionId, InstanceId) {
    let [(id, controller, _)] = asks(actions)[..] else { panic!("one request, not {actions:?}") };
    (id, controller)
}

#[test]
fn one_controller_is_asked_and_its_answer_ends_it() {
    let reason = || "why".to_owned();
    for (answer, outcome) in [
        (SolutionAnswer::Queued, Outcome::Queued),
        (SolutionAnswer::Refused { reason: reason() }, Outcome::Refused { reason: reason() }),
        (SolutionAnswer::Unknown { reason: reason() }, Outcome::Unknown { reason: reason() }),
    ] {
        let mut finder = finder(&[A, B]);
        let (id, controller) = one_asked(&finder.on(proved(1), at(6000)));
        let actions = finder.on(FinderEvent::Answered { id, answer: answer.clone() }, at(6100));
        let (slot, farm, controller) = (5, FARM, Some(controller));
        assert_eq!(actions, [FinderAction::Ended { slot, farm, controller, outcome }]);
        assert!(finder.is_empty());
        assert_eq!(finder.on(FinderEvent::Answered { id, answer }, at(6200)), [], "a second word");
        assert_eq!(finder.on(heard(C, 5, 0), at(6300)), [], "it is over");
    }
}

#[test]
fn only_after_not_sent_or_nobody_there_another_is_asked() {
    let mut finder = finder(&[A, B]);
    let (id, first) = one_asked(&finder.on(proved(1), at(6000)));
    let (same, second) = one_asked(&finder.on(not_sent(id), at(6100)));
    assert!(same == id && second != first);
    assert_eq!(finder.on(FinderEvent::NobodyThere { id }, at(6200)), [], "nobody else announced it");
    // One that announces it later, and not one with another challenge.
    assert_eq!(finder.on(heard(InstanceId([7; 16]), 5, 1), at(6300)), []);
    assert_eq!(one_asked(&finder.on(heard(C, 5, 0), at(6400))), (id, C));
    finder.on(not_sent(id), at(6500));
    assert_eq!(finder.wake_at(), Some(at(9000)));
    let ended = finder.on(FinderEvent::Tick, at(9000));
    assert_eq!(outcomes(&ended), [Outcome::NotSent { reason: "queue full".into() }]);
    assert_eq!(asks(&ended), []);
}

#[test]
fn nothing_is_asked_of_a_controller_whose_node_has_another_challenge_or_has_forgotten_the_slot() {
    let mut finder = Finder::new(ME);
    finder.on(heard(A, 5, 1), at(5000));
    finder.on(heard(B, 5, 0), at(5000));
    (6..10).for_each(|slot| drop(finder.on(heard(B, slot, 0), at(5100))));
    assert_eq!(finder.on(proved(1), at(6000)), []);
    let reason = "no controller's node knows its slot any more".into();
    assert_eq!(outcomes(&finder.on(FinderEvent::Tick, at(9000))), [Outcome::NotSent { reason }]);
}

#[test]
fn silence_is_unknown_and_never_sent_again_and_others_come_first_from_then_on() {
    let mut finder = finder(&[A, B]);
    let (_, silent) = one_asked(&finder.on(proved(1), at(6000)));
    let well = if silent == A { B } else { A };
    // Even before its time is over others are preferred.
    finder.on(FinderEvent::Tick, at(6000) + SLOW_AFTER);
    for n in 2..8 {
        let (id, controller) = one_asked(&finder.on(proved(n), at(7100)));
        assert_eq!(controller, well);
        finder.on(FinderEvent::Answered { id, answer: SolutionAnswer::Queued }, at(7100));
    }
    assert_eq!(finder.wake_at(), Some(at(6000) + ANSWER_PATIENCE));
    let actions = finder.on(FinderEvent::Tick, at(6000) + ANSWER_PATIENCE);
    assert_eq!(outcomes(&actions), [Outcome::Unknown { reason: "no answer within 5 s".into() }]);
    assert_eq!(finder.on(heard(C, 5, 0), at(11_100)), []);
    // The same solution, proved anew, is known to be on its way.
    assert_eq!(outcomes(&finder.on(proved(1), at(6200))), [Outcome::Known]);
}

#[test]
fn a_lapse_is_over_when_a_newer_slot_is_announced_and_a_pause_that_doubles_is_over() {
    let mut controllers = Controllers::default();
    let best = |controllers: &Controllers, chunk: u8, now: Duration| {
        let solution = Solution { chunk: [chunk; 32], ..Solution::from_bytes(&[1; 412]).unwrap() };
        controllers.best(&SolutionKey::of(6, &solution), &key(6, 0), &[], &BTreeSet::new(), now)
    };
    let is_asked = |controllers: &Controllers, now| (0..64).any(|n| best(controllers, n, now) == Some(A));
    for slot in [5, 6] {
        [A, B].iter().for_each(|id| controllers.heard(*id, key(slot, 0), slot, at(0)));
    }
    assert!(is_asked(&controllers, at(0)));
    controllers.left_unanswered(A, at(0));
    assert!(!is_asked(&controllers, at(5000)), "no newer slot");
    controllers.heard(A, key(7, 0), 7, at(500));
    assert!(!is_asked(&controllers, at(900)) && is_asked(&controllers, at(1000)));
    controllers.left_unanswered(A, at(1000));
    controllers.heard(A, key(8, 0), 8, at(1000));
    assert!(!is_asked(&controllers, at(2900)) && is_asked(&controllers, at(3000)));
    controllers.left_unanswered(A, at(3000));
    controllers.answered(A);
    assert!(is_asked(&controllers, at(3000)), "it answers again");
    controllers.was_absent(A, at(3000));
    assert!(!is_asked(&controllers, at(9000)));
    controllers.heard(A, key(9, 0), 9, at(9000));
    assert!(is_asked(&controllers, at(9000)));
}

#[test]
fn what_is_held_back_goes_to_the_same_a_moment_later() {
    let mut finder = finder(&[A]);
    let (id, _) = one_asked(&finder.on(proved(1), at(6000)));
    let held = |reason: &str| FinderEvent::HeldBack { id, reason: reason.into() };
    assert_eq!(finder.on(held("the bus is away"), at(6000)), []);
    assert_eq!(finder.wake_at(), Some(at(6000) + HELD_BACK_PAUSE));
    assert_eq!(one_asked(&finder.on(FinderEvent::Tick, at(6100))), (id, A));
    finder.on(held("the bus is away"), at(8950));
    let reason = "the bus is away".into();
    assert_eq!(outcomes(&finder.on(FinderEvent::Tick, at(9000))), [Outcome::NotSent { reason }]);
}

#[test]
fn many_are_asked_at_once_best_first_and_a_controller_gets_no_more_than_it_can_take() {
    let mut finder = Finder::new(ME);
    (0..30).rev().for_each(|n| drop(finder.on(proved(n), at(4000))));
    let asked = asks(&finder.on(heard(A, 5, 0), at(5000)));
    let best: Vec<_> = (0..MAX_ASKS_A_CONTROLLER as u8).collect();
    assert_eq!(asked.iter().map(|(_, _, n)| *n).collect::<Vec<_>>(), best);
    // A hanging one holds nobody else up.
    let more = asks(&finder.on(heard(B, 5, 0), at(5001)));
    assert!(more.len() == MAX_ASKS_A_CONTROLLER && more.iter().all(|(_, id, _)| *id == B));
    let answer = FinderEvent::Answered { id: more[0].0, answer: SolutionAnswer::Queued };
    let next = asks(&finder.on(answer, at(5002)));
    assert_eq!((next.len(), next[0].1, next[0].2), (1, B, 16));
}

#[test]
fn solutions_are_spread_over_healthy_controllers() {
    let mut counts = Map::new();
    let mut finder = finder(&[A, B, C]);
    for n in 0..90 {
        let (id, controller) = one_asked(&finder.on(proved(n), at(6000)));
        *counts.entry(controller).or_insert(0) += 1;
        finder.on(FinderEvent::Answered { id, answer: SolutionAnswer::Queued }, at(6000));
    }
    assert!(counts.len() == 3 && counts.values().all(|count| *count > 15), "{counts:?}");
}

#[test]
fn what_is_proved_too_late_or_twice_or_at_the_end_has_an_outcome_too() {
    let mut finder = finder(&[A]);
    assert_eq!(outcomes(&finder.on(proved(1), at(9000))), [Outcome::Expired]);
    finder.on(proved(2), at(6000));
    assert_eq!(outcomes(&finder.on(proved(2), at(6000))), [Outcome::Known]);
    let (waiting, _) = one_asked(&finder.on(proved(3), at(6000)));
    finder.on(not_sent(waiting), at(6000));
    let ended = outcomes(&finder.on(FinderEvent::Shutdown, at(6000)));
    assert!(matches!(ended[..], [Outcome::Unknown { .. }, Outcome::NotSent { .. }]), "{ended:?}");
    assert!(matches!(outcomes(&finder.on(proved(4), at(6000)))[..], [Outcome::NotSent { .. }]));
}

#[test]
fn memory_is_bounded() {
    let mut finder = Finder::new(ME);
    for n in 0..2 * MAX_SOLUTIONS {
        let mut solution = Solution::from_bytes(&[1; 412]).unwrap();
        solution.chunk[..8].copy_from_slice(&n.to_le_bytes());
        let proved = Proved { slot: key(5, 0), farm: FARM, solution, distance: 0, deadline: at(9000) };
        let ended = outcomes(&finder.on(FinderEvent::Proved(Box::new(proved)), at(0)));
        assert_eq!(ended.len(), usize::from(n >= MAX_SOLUTIONS));
    }
    assert_eq!(finder.len(), MAX_SOLUTIONS);
}

/// What may happen, in the words of a property test.
#[derive(Debug, Clone)]
enum Step {
    Heard(u8, u64, u8),
    Proved(u8, u64, u8),
    /// What becomes of the nth request that is open.
    Asked(usize, u8),
    /// What came late, of the nth request that ever was.
    Late(usize, u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..4, 1u64..6, 0u8..2).prop_map(|(id, slot, challenge)| Step::Heard(id, slot, challenge)),
        (0u8..9, 1u64..6, 0u8..2).prop_map(|(n, slot, challenge)| Step::Proved(n, slot, challenge)),
        (0usize..9, 0u8..6).prop_map(|(nth, what)| Step::Asked(nth, what)),
        (0usize..99, 0u8..6).prop_map(|(nth, what)| Step::Late(nth, what)),
        (0u64..3000).prop_map(Step::Wait),
    ]
}

fn becomes(id: SolutionId, what: u8) -> FinderEvent {
    let reason = || "for a reason".to_owned();
    let answer = |answer| FinderEvent::Answered { id, answer };
    match what {
        0 => answer(SolutionAnswer::Queued),
        1 => answer(SolutionAnswer::Refused { reason: reason() }),
        2 => answer(SolutionAnswer::NotSent { reason: reason() }),
        3 => answer(SolutionAnswer::Unknown { reason: reason() }),
        4 => FinderEvent::NobodyThere { id },
        _ => FinderEvent::Unanswered { id, reason: reason() },
    }
}

proptest! {
    /// Whatever happens in whatever order: a solution is with one controller at a time, with none that did not announce its
    /// slot and challenge, with none twice, and with none at all after one that may have sent it; each has one outcome.
    #[test]
    fn no_solution_can_be_sent_twice(steps in prop::collection::vec(step(), 0..200)) {
        let (mut finder, mut now) = (Finder::new(ME), Duration::ZERO);
        let (mut open, mut ever) = (Vec::<SolutionId>::new(), Vec::new());
        let mut announced = HashSet::new();
        let mut asked = HashSet::new();
        let (mut found, mut ended) = (0, 0);
        for step in steps.into_iter().chain([Step::Wait(60_000)]) {
            let event = match step {
                Step::Heard(id, slot, challenge) => {
                    announced.insert((InstanceId([id; 16]), slot, [challenge; 32]));
                    heard(InstanceId([id; 16]), slot, challenge)
                }
                Step::Proved(n, slot, challenge) => {
                    found += 1;
                    let mut solution = Solution::from_bytes(&[1; 412]).unwrap();
                    solution.chunk = [n; 32];
                    let (slot, farm, deadline) = (key(slot, challenge), FARM, now + at(4000));
                    FinderEvent::Proved(Box::new(Proved { slot, farm, solution, distance: n.into(), deadline }))
                }
                Step::Asked(nth, what) if !open.is_empty() => becomes(open.remove(nth % open.len()), what),
                // What is late is about a request that has been settled.
                Step::Late(nth, what) if !ever.is_empty() => {
                    let id = ever[nth % ever.len()];
                    if open.contains(&id) { FinderEvent::Tick } else { becomes(id, what) }
                }
                Step::Wait(ms) => {
                    now += at(ms);
                    FinderEvent::Tick
                }
                _ => FinderEvent::Tick,
            };
            for action in finder.on(event, now) {
                match action {
                    FinderAction::Ask { id, controller, request, .. } => {
                        prop_assert!(announced.contains(&(controller, request.slot, request.global_challenge)));
                        prop_assert!(!open.contains(&id), "with two at a time");
                        prop_assert!(asked.insert((request.slot, request.solution, controller)), "asked twice");
                        open.push(id);
                        ever.push(id);
                    }
                    FinderAction::Ended { .. } => ended += 1,
                }
            }
            open.retain(|id| finder.solutions.get(id).is_some_and(|it| matches!(it.state, State::Asked { .. })));
            prop_assert_eq!(found, ended + finder.len());
        }
        prop_assert!(finder.is_empty(), "nothing waits for ever");
        prop_assert_eq!(finder.wake_at(), None);
    }
}
