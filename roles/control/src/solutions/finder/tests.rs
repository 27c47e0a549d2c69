use super::*;
use std::collections::{BTreeMap as Map, VecDeque};
use std::ops::Deref;

pub(super) const ME: InstanceId = InstanceId([9; 16]);
const A: InstanceId = InstanceId([1; 16]);
const B: InstanceId = InstanceId([2; 16]);
const C: InstanceId = InstanceId([3; 16]);
pub(super) const FARM: FarmId = FarmId([4; 16]);

/// A finder whose farm's memory is written at once.
struct Quick(Finder);

impl Quick {
    fn new() -> Self {
        Self(Finder::new(ME, BTreeSet::new()))
    }

    fn on(&mut self, event: FinderEvent, now: Duration) -> Vec<FinderAction> {
        let mut events = VecDeque::from([event]);
        let mut all = Vec::new();
        while let Some(event) = events.pop_front() {
            for action in self.0.on(event, now) {
                match action {
                    FinderAction::Remember { id, .. } => events.push_back(FinderEvent::Remembered { id }),
                    action => all.push(action),
                }
            }
        }
        all
    }
}

impl Deref for Quick {
    type Target = Finder;

    fn deref(&self) -> &Finder {
        &self.0
    }
}

pub(super) fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn key(slot: u64, challenge: u8) -> SlotKey {
    SlotKey { slot, global_challenge: [challenge; 32] }
}

pub(super) fn heard(controller: InstanceId, slot: u64, challenge: u8) -> FinderEvent {
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
        FinderAction::Ended { .. } | FinderAction::Remember { .. } => None,
    };
    actions.iter().filter_map(ask).collect()
}

fn outcomes(actions: &[FinderAction]) -> Vec<Outcome> {
    let outcome = |action: &FinderAction| match action {
        FinderAction::Ended { outcome, .. } => Some(outcome.clone()),
        FinderAction::Ask { .. } | FinderAction::Remember { .. } => None,
    };
    actions.iter().filter_map(outcome).collect()
}

fn not_sent(id: SolutionId) -> FinderEvent {
    FinderEvent::Answered { id, answer: SolutionAnswer::NotSent { reason: "queue full".into() } }
}

/// A finder that heard slot 5 of these.
fn finder(controllers: &[InstanceId]) -> Quick {
    let mut finder = Quick::new();
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
    let mut finder = Quick::new();
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
    let mut finder = Quick::new();
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
    let mut finder = Quick::new();
    for n in 0..2 * MAX_SOLUTIONS {
        let mut solution = Solution::from_bytes(&[1; 412]).unwrap();
        solution.chunk[..8].copy_from_slice(&n.to_le_bytes());
        let proved = Proved { slot: key(5, 0), farm: FARM, solution, distance: 0, deadline: at(9000) };
        let ended = outcomes(&finder.on(FinderEvent::Proved(Box::new(proved)), at(0)));
        assert_eq!(ended.len(), usize::from(n >= MAX_SOLUTIONS));
    }
    assert_eq!(finder.len(), MAX_SOLUTIONS);
}

/// One thing that may become of a request.
pub(super) fn becomes(id: SolutionId, what: u8) -> FinderEvent {
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

/// What is to be written down.
fn handovers(actions: &[FinderAction]) -> Vec<(SolutionId, u8, InstanceId)> {
    let handover = |action: &FinderAction| match action {
        FinderAction::Remember { id, handover } => {
            Some((*id, handover.solution.chunk[0], handover.controller))
        }
        _ => None,
    };
    actions.iter().filter_map(handover).collect()
}

#[test]
fn nothing_leaves_before_it_is_written_down_for_whom_it_is() {
    let mut finder = Finder::new(ME, BTreeSet::new());
    [A, B].iter().for_each(|id| drop(finder.on(heard(*id, 5, 0), at(5000))));
    let actions = finder.on(proved(1), at(6000));
    let [(id, 1, first)] = handovers(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!((actions.len(), finder.wake_at()), (1, Some(at(9000))));
    assert_eq!(finder.on(FinderEvent::Tick, at(6100)), [], "it is being written");
    // What speaks of a request that has not left means nothing.
    for event in [not_sent(id), FinderEvent::NobodyThere { id }, becomes(id, 0), becomes(id, 5)] {
        assert_eq!(finder.on(event, at(6100)), []);
    }
    assert_eq!(one_asked(&finder.on(FinderEvent::Remembered { id }, at(6200))), (id, first));
    assert_eq!(finder.on(FinderEvent::Remembered { id }, at(6200)), [], "a second word");
    // Held back, it goes to the same; what is written of that one is written.
    finder.on(FinderEvent::HeldBack { id, reason: "the bus is away".into() }, at(6200));
    assert_eq!(one_asked(&finder.on(FinderEvent::Tick, at(6300))), (id, first));
    // Another is written down as well.
    let actions = finder.on(not_sent(id), at(6400));
    let second = if first == A { B } else { A };
    assert_eq!(handovers(&actions), [(id, 1, second)]);
    assert_eq!(one_asked(&finder.on(FinderEvent::Remembered { id }, at(6500))), (id, second));
}

#[test]
fn who_forgets_the_slot_while_it_is_written_down_is_not_asked() {
    let mut finder = Finder::new(ME, BTreeSet::new());
    finder.on(heard(A, 5, 0), at(5000));
    let [(id, _, A)] = handovers(&finder.on(proved(1), at(6000)))[..] else { panic!() };
    finder.on(heard(A, 5, 1), at(6010));
    finder.on(heard(B, 5, 0), at(6020));
    let actions = finder.on(FinderEvent::Remembered { id }, at(6030));
    assert_eq!((handovers(&actions), actions.len()), (vec![(id, 1, B)], 1));
    assert_eq!(one_asked(&finder.on(FinderEvent::Remembered { id }, at(6040))), (id, B));
}

#[test]
fn what_cannot_be_written_down_in_its_time_is_not_sent_and_holds_no_controller_up() {
    let mut finder = Finder::new(ME, BTreeSet::new());
    finder.on(heard(A, 5, 0), at(5000));
    let places = MAX_ASKS_A_CONTROLLER as u8;
    let ids: Vec<_> = (0..places).flat_map(|n| handovers(&finder.on(proved(n), at(6000)))).collect();
    assert_eq!(ids.len(), MAX_ASKS_A_CONTROLLER);
    assert_eq!(finder.on(proved(100), at(6000)), [], "A has no room");
    let ended = finder.on(FinderEvent::Remembered { id: ids[0].0 }, at(9000));
    let late: Outcome =
        Outcome::NotSent { reason: "its time was over when it was written down for whom it is".into() };
    let full = "its controllers answer too slowly for so many solutions".into();
    let mut expected = vec![late; MAX_ASKS_A_CONTROLLER];
    expected.push(Outcome::NotSent { reason: full });
    assert_eq!((outcomes(&ended), asks(&ended)), (expected, vec![]));
    assert!(finder.is_empty());
    let mut later = proved(50);
    if let FinderEvent::Proved(proved) = &mut later {
        proved.deadline = at(12_000);
    }
    assert_eq!(handovers(&finder.on(later, at(9000))).len(), 1, "A has room again");
    let ended = finder.on(FinderEvent::Shutdown, at(9000));
    assert_eq!(outcomes(&ended), [Outcome::NotSent { reason: "this plot-client ends".into() }]);
}

#[test]
fn what_an_earlier_run_may_have_sent_is_not_sent_and_all_else_is() {
    let mut first = Finder::new(ME, BTreeSet::new());
    first.on(heard(A, 5, 0), at(5000));
    let actions = first.on(proved(1), at(6000));
    let memory = actions.iter().filter_map(|action| match action {
        FinderAction::Remember { handover, .. } => Some(handover.solution),
        _ => None,
    });
    // Killed, and started again while B has yet to announce the slot.
    let mut finder = Quick(Finder::new(ME, memory.collect()));
    finder.on(heard(B, 5, 0), at(0));
    let reason = "an earlier run of this plot-client sent it, or was about to".into();
    let ended = finder.on(proved(1), at(100));
    assert_eq!((outcomes(&ended), asks(&ended)), (vec![Outcome::Unknown { reason }], vec![]));
    assert_eq!(outcomes(&finder.on(proved(1), at(100))), [Outcome::Known]);
    assert_eq!(one_asked(&finder.on(proved(2), at(100))).1, B, "another of the same slot");
}

#[test]
fn what_a_farm_remembers_that_is_opened_later_is_not_sent_either() {
    let mut first = Finder::new(ME, BTreeSet::new());
    first.on(heard(A, 5, 0), at(5000));
    let remembered = first.on(proved(1), at(6000)).into_iter().find_map(|action| match action {
        FinderAction::Remember { handover, .. } => Some(handover.solution),
        _ => None,
    });
    let mut finder = Quick(Finder::new(ME, BTreeSet::new()));
    finder.on(heard(B, 5, 0), at(0));
    finder.on(FinderEvent::Recalled(remembered.unwrap()), at(50));
    let ended = finder.on(proved(1), at(100));
    assert!(matches!(outcomes(&ended)[..], [Outcome::Unknown { .. }]) && asks(&ended).is_empty());
}
