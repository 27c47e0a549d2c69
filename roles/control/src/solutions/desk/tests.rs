use super::*;
use crate::ids::{FarmId, InstanceId};
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap, HashSet};

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn key(slot: u64, challenge: u8) -> SlotKey {
    SlotKey { slot, global_challenge: [challenge; 32] }
}

/// A solution number `n` for a slot with challenge 0, asked for as number `ask`.
fn asked(ask: u64, slot: u64, n: u8) -> DeskEvent {
    asked_for(ask, key(slot, 0), n)
}

fn asked_for(ask: u64, SlotKey { slot, global_challenge }: SlotKey, n: u8) -> DeskEvent {
    let (finder, farm) = (InstanceId([1; 16]), FarmId([2; 16]));
    let found = SolutionFound { slot, global_challenge, finder, farm, solution: [n; 412] };
    DeskEvent::Asked { ask: Ask(ask), found: Box::new(found) }
}

/// A desk whose node announced slots 1 to 5.
fn desk() -> Desk {
    let mut desk = Desk::new();
    desk.on(DeskEvent::SubscriptionBegan, at(0));
    (1..=5).for_each(|slot| drop(desk.on(DeskEvent::Announced(key(slot, 0)), at(0))));
    desk
}

fn submission(actions: &[DeskAction]) -> Submission {
    let [DeskAction::Submit { submission, .. }] = actions else { panic!("submitted, not {actions:?}") };
    *submission
}

fn answer_of(actions: &[DeskAction]) -> SolutionAnswer {
    let [DeskAction::Answer { answer, is_repeat: false, .. }] = actions else { panic!("{actions:?}") };
    answer.clone()
}

fn is_not_sent(actions: &[DeskAction]) -> bool {
    matches!(answer_of(actions), SolutionAnswer::NotSent { .. })
}

fn answered(submission: Submission, answer: SolutionAnswer) -> DeskEvent {
    DeskEvent::NodeAnswered { submission, answer }
}

#[test]
fn a_solution_goes_to_the_node_and_the_answer_to_the_finder() {
    let mut desk = desk();
    let submission = submission(&desk.on(asked(7, 5, 1), at(1000)));
    let actions = desk.on(answered(submission, SolutionAnswer::Queued), at(1010));
    let answer =
        DeskAction::Answer { ask: Ask(7), slot: 5, answer: SolutionAnswer::Queued, is_repeat: false };
    assert_eq!(actions, [DeskAction::HandedToNode { public_key: [1; 32] }, answer]);
    assert_eq!(desk.wake_at(), None);
    for answer in [
        SolutionAnswer::Refused { reason: "no".into() },
        SolutionAnswer::NotSent { reason: "ignored".into() },
    ] {
        let n = if answer.is_not_taken() { 3 } else { 2 };
        let mut desk = self::desk();
        let submission = self::submission(&desk.on(asked(8, 5, n), at(1000)));
        assert_eq!(
            answer_of(&desk.on(answered(submission, answer.clone()), at(1010))),
            answer,
            "no signature"
        );
    }
}

#[test]
fn only_the_last_four_slots_of_the_present_subscription_with_their_challenge() {
    let mut desk = desk();
    assert!(is_not_sent(&desk.on(asked(1, 1, 1), at(0))), "the node has forgotten it");
    assert!(is_not_sent(&desk.on(asked(2, 6, 1), at(0))), "not announced yet");
    assert!(is_not_sent(&desk.on(asked_for(3, key(5, 1), 1), at(0))), "another challenge");
    desk.on(DeskEvent::Announced(key(5, 1)), at(0));
    assert!(is_not_sent(&desk.on(asked(4, 5, 1), at(0))), "the chain took another turn");
    submission(&desk.on(asked_for(5, key(5, 1), 1), at(0)));
    // The node restarts between slot and solution.
    desk.on(DeskEvent::SubscriptionLost, at(0));
    assert!(is_not_sent(&desk.on(asked(6, 4, 2), at(0))));
    assert_eq!(desk.on(DeskEvent::Announced(key(6, 0)), at(0)), [], "of the subscription that is lost");
    desk.on(DeskEvent::SubscriptionBegan, at(0));
    assert!(is_not_sent(&desk.on(asked(7, 4, 2), at(0))));
    assert!(is_not_sent(&desk.on(asked(8, 6, 2), at(0))));
    desk.on(DeskEvent::Announced(key(6, 0)), at(0));
    submission(&desk.on(asked(9, 6, 2), at(0)));
}

#[test]
fn the_same_solution_twice_is_sent_once() {
    let mut desk = desk();
    let sent = submission(&desk.on(asked(1, 5, 1), at(0)));
    assert_eq!(desk.on(asked(2, 5, 1), at(1)), [], "it waits for what becomes of the first");
    let actions = desk.on(answered(sent, SolutionAnswer::Queued), at(2));
    let answer = |ask, is_repeat| {
        let (ask, slot, answer) = (Ask(ask), 5, SolutionAnswer::Queued);
        DeskAction::Answer { ask, slot, answer, is_repeat }
    };
    assert_eq!(actions[1..], [answer(1, false), answer(2, true)]);
    assert_eq!(desk.on(asked(3, 5, 1), at(3)), [answer(3, true)]);
    // So it is when the slot is long forgotten.
    (6..20).for_each(|slot| drop(desk.on(DeskEvent::Announced(key(slot, 0)), at(4))));
    assert_eq!(desk.on(asked(4, 5, 1), at(5)), [answer(4, true)]);
}

#[test]
fn a_silent_node_makes_a_solution_unknown_and_perhaps_queued_before_that() {
    let mut desk = desk();
    // One that answers slowly.
    let slow = submission(&desk.on(asked(9, 5, 9), at(100)));
    let actions = desk.on(DeskEvent::Tick, at(600));
    assert_eq!(actions, [DeskAction::HandedToNode { public_key: [9; 32] }]);
    let actions = desk.on(answered(slow, SolutionAnswer::Queued), at(700));
    assert_eq!(answer_of(&actions), SolutionAnswer::Queued, "told of once");
    let sent = submission(&desk.on(asked(1, 5, 1), at(1000)));
    assert_eq!(desk.wake_at(), Some(at(1500)));
    let handed = DeskAction::HandedToNode { public_key: [1; 32] };
    assert_eq!(desk.on(DeskEvent::Tick, at(1500)), [handed]);
    assert_eq!(desk.wake_at(), Some(at(1000) + NODE_PATIENCE));
    let actions = desk.on(DeskEvent::Tick, at(1000) + NODE_PATIENCE);
    assert!(matches!(answer_of(&actions), SolutionAnswer::Unknown { .. }), "and told of once");
    assert_eq!(desk.on(answered(sent, SolutionAnswer::Queued), at(9000)), [], "too late to be told");
    let again = desk.on(asked(2, 5, 1), at(9000));
    assert!(matches!(
        again[..],
        [DeskAction::Answer { answer: SolutionAnswer::Unknown { .. }, is_repeat: true, .. }]
    ));
}

#[test]
fn told_to_end_it_takes_no_more_and_stays_for_the_signatures() {
    let mut desk = desk();
    let sent = submission(&desk.on(asked(1, 5, 1), at(1000)));
    assert_eq!(desk.on(DeskEvent::Shutdown, at(1100)), []);
    assert!(is_not_sent(&desk.on(asked(2, 5, 2), at(1100))));
    desk.on(answered(sent, SolutionAnswer::Queued), at(1200));
    assert_eq!(desk.wake_at(), Some(at(1200) + SIGNING_TIME));
    assert_eq!(desk.on(DeskEvent::Tick, at(9199)), []);
    assert_eq!(desk.on(DeskEvent::Tick, at(9200)), [DeskAction::End]);
    assert_eq!((desk.on(DeskEvent::Tick, at(9300)), desk.wake_at()), (vec![], None), "once");
}

#[test]
fn an_end_that_nobody_needs_to_wait_for_is_at_once() {
    assert_eq!(desk().on(DeskEvent::Shutdown, at(0)), [DeskAction::End]);
    let mut desk = desk();
    let sent = submission(&desk.on(asked(1, 5, 1), at(0)));
    desk.on(answered(sent, SolutionAnswer::Queued), at(0));
    assert_eq!(desk.on(DeskEvent::Shutdown, at(100)), []);
    assert_eq!(
        desk.on(DeskEvent::SubscriptionLost, at(200)),
        [DeskAction::End],
        "and the node's queue with it"
    );
}

#[test]
fn a_solution_that_hangs_does_not_hold_the_end_up_for_long() {
    let mut desk = desk();
    submission(&desk.on(asked(1, 5, 1), at(0)));
    desk.on(DeskEvent::Shutdown, at(0));
    desk.on(DeskEvent::Tick, at(500));
    desk.on(DeskEvent::Tick, NODE_PATIENCE);
    assert_eq!(desk.on(DeskEvent::Tick, LINGER_MAX), [DeskAction::End]);
}

#[test]
fn memory_is_bounded() {
    let mut desk = desk();
    let mut sent = 0;
    for n in 0..=255 {
        sent += usize::from(matches!(desk.on(asked(n.into(), 5, n), at(0))[..], [DeskAction::Submit { .. }]));
    }
    assert_eq!(sent, MAX_UNDERWAY);
    for ask in 0..2 * MAX_WAITING as u64 {
        desk.on(asked(1000 + ask, 5, 1), at(0));
    }
    assert!(desk.underway.values().all(|underway| underway.asks.len() <= MAX_WAITING));
    for slot in 6..6 + 2 * MAX_KNOWN as u64 {
        desk.on(DeskEvent::Tick, at(slot * 10_000));
        desk.on(DeskEvent::Announced(key(slot, 0)), at(slot * 10_000));
        desk.on(asked(slot, slot, 1), at(slot * 10_000));
    }
    assert_eq!(desk.known.len(), MAX_KNOWN);
    assert!(
        matches!(answer_of(&desk.on(asked(0, 5, 0), at(0))), SolutionAnswer::Refused { .. }),
        "no history"
    );
}

proptest! {
    /// Whatever happens in whatever order: nothing is submitted that the node has not announced since it was subscribed, nothing
    /// twice, every request is answered once, none is told that it was not sent when it may have been.
    #[test]
    fn the_node_gets_each_solution_once(
        steps in prop::collection::vec((0u8..9, 1u64..9, 0u8..2, 0u8..4, 0u64..2000), 0..200),
    ) {
        let (mut desk, mut now, mut next_ask) = (Desk::new(), 0, 0);
        let mut announced = HashSet::new();
        let mut sent = HashMap::new();
        let (mut open, mut waiting) = (Vec::new(), BTreeSet::new());
        let mut is_subscribed = false;
        for (what, slot, challenge, n, pause_ms) in steps.into_iter().chain([(8, 1, 0, 0, 60_000)]) {
            now += pause_ms;
            let event = match what {
                0 => { is_subscribed = true; announced.clear(); DeskEvent::SubscriptionBegan }
                1 => { is_subscribed = false; announced.clear(); DeskEvent::SubscriptionLost }
                2 | 3 => {
                    if is_subscribed { announced.insert(key(slot, challenge)); }
                    DeskEvent::Announced(key(slot, challenge))
                }
                4 | 5 => {
                    next_ask += 1;
                    waiting.insert(Ask(next_ask));
                    asked_for(next_ask, key(slot, challenge), n + 1)
                }
                6 | 7 if !open.is_empty() => {
                    let (submission, _) = open.remove(usize::from(n) % open.len());
                    let reason = "why".to_owned();
                    answered(submission, match n {
                        0 => SolutionAnswer::Queued,
                        1 => SolutionAnswer::Refused { reason },
                        2 => SolutionAnswer::NotSent { reason },
                        _ => SolutionAnswer::Unknown { reason },
                    })
                }
                _ => DeskEvent::Tick,
            };
            let of_node = match &event {
                DeskEvent::NodeAnswered { answer, .. } => Some(answer.clone()),
                _ => None,
            };
            let asked_key = match &event {
                DeskEvent::Asked { found, .. } => Some((found.slot, found.solution)),
                _ => None,
            };
            for action in desk.on(event, at(now)) {
                match action {
                    DeskAction::Submit { submission, slot, solution } => {
                        let (_, bytes) = asked_key.expect("submitted when asked for");
                        prop_assert_eq!(solution.to_bytes(), bytes);
                        prop_assert!(announced.iter().any(|key| key.slot == slot));
                        prop_assert!(sent.insert((slot, bytes), ()).is_none(), "sent twice");
                        open.push((submission, (slot, bytes)));
                    }
                    DeskAction::Answer { ask, answer, .. } => {
                        prop_assert!(waiting.remove(&ask), "answered twice");
                        let is_sure = matches!(answer, SolutionAnswer::NotSent { .. });
                        if let Some(key) = asked_key.filter(|_| is_sure) {
                            // Of what the node has, or had, that is what the node said.
                            prop_assert!(!open.iter().any(|(_, open)| *open == key));
                        } else if is_sure {
                            prop_assert_eq!(Some(answer), of_node.clone());
                        }
                    }
                    DeskAction::HandedToNode { .. } => {}
                    DeskAction::End => prop_assert!(false, "nobody told it to end"),
                }
            }
        }
        prop_assert!(waiting.is_empty(), "nobody waits for ever");
    }
}
