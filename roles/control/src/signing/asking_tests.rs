use super::asking::{Action, Event};
use super::*;
use crate::ids::InstanceId;
use crate::messages::RewardSigningRequest;
use proptest::prelude::*;
use std::collections::BTreeMap;

const KEY: [u8; 32] = [7; 32];
const US: InstanceId = InstanceId([1; 16]);
const WANTED: Wanted = Wanted { hash: [3; 32], public_key: KEY };

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ask(patience: u64) -> Action {
    let request = RewardSigningRequest { controller: US, hash: WANTED.hash, public_key: KEY };
    Action::Ask { request, patience: ms(patience) }
}

fn handed() -> Event {
    Event::HandedToNode { public_key: KEY }
}

/// With a solution of the key at the node since 0 s.
fn asking() -> Asking {
    let mut asking = Asking::new(US);
    assert_eq!(asking.on(handed(), ms(0)), []);
    asking
}

fn concluded(mut actions: Vec<Action>) -> (Outcome, String) {
    match actions.pop() {
        Some(Action::Concluded { wanted: WANTED, outcome, reason }) if actions.is_empty() => {
            (outcome, reason)
        }
        other => panic!("{actions:?} {other:?}"),
    }
}

#[test]
fn a_hash_is_asked_for_until_it_is_signed_and_then_submitted_once() {
    let mut asking = asking();
    assert_eq!(asking.on(Event::Wanted(WANTED), ms(5000)), [ask(500)]);
    assert_eq!(asking.wake_at(), Some(ms(5100)));
    assert_eq!(asking.on(Event::Tick, ms(5099)), []);
    assert_eq!(asking.on(Event::Tick, ms(5100)), [ask(400)]);
    let signed = Event::Signed { wanted: WANTED, signature: [9; 64] };
    let submit = Action::Submit { wanted: WANTED, signature: [9; 64] };
    assert_eq!(asking.on(signed.clone(), ms(5150)), [submit]);
    assert_eq!(asking.on(signed, ms(5160)), [], "the other try's");
    assert_eq!((asking.wake_at(), asking.on(Event::Tick, ms(6000))), (None, vec![]));
    let submitted = Event::Submitted { wanted: WANTED, result: Ok(()) };
    assert_eq!(concluded(asking.on(submitted.clone(), ms(5170))), (Outcome::Signed, String::new()));
    assert_eq!(asking.on(submitted, ms(5180)), []);
    // The node asks again after a new subscription.
    assert_eq!(asking.on(Event::Wanted(WANTED), ms(5200)), [ask(500)]);
}

#[test]
fn every_end_has_its_reason() {
    let silent = Event::Silent { wanted: WANTED, reason: "nobody".to_owned() };
    let refused = Event::Refused { wanted: WANTED, reason: "no window".to_owned() };
    for (events, outcome, reason) in [
        (vec![], Outcome::Unanswered, "no answer within 500 ms"),
        (vec![silent.clone()], Outcome::Unanswered, "nobody"),
        (vec![silent.clone(), refused.clone()], Outcome::Refused, "no window"),
        (vec![refused, silent], Outcome::Refused, "no window"),
    ] {
        let mut asking = asking();
        asking.on(Event::Wanted(WANTED), ms(1000));
        for event in events {
            assert_eq!(asking.on(event, ms(1050)), []);
        }
        let tries: Vec<_> = (1..5).flat_map(|n| asking.on(Event::Tick, ms(1000 + 100 * n))).collect();
        assert_eq!(tries, [ask(400), ask(300), ask(200), ask(100)], "whatever is answered meanwhile");
        assert_eq!(concluded(asking.on(Event::Tick, ms(1500))), (outcome, reason.to_owned()));
        let late = Event::Signed { wanted: WANTED, signature: [9; 64] };
        assert_eq!(asking.on(late, ms(1501)), [], "the node does not wait any more");
    }
    let mut asking = asking();
    asking.on(Event::Wanted(WANTED), ms(1000));
    asking.on(Event::Signed { wanted: WANTED, signature: [9; 64] }, ms(1001));
    let not_taken = Event::Submitted { wanted: WANTED, result: Err("gone".to_owned()) };
    assert_eq!(concluded(asking.on(not_taken, ms(1002))), (Outcome::NotTaken, "gone".to_owned()));
}

#[test]
fn only_keys_whose_solution_went_to_the_node_are_asked() {
    let mut asking = Asking::new(US);
    assert_eq!(concluded(asking.on(Event::Wanted(WANTED), ms(0))).0, Outcome::NotOurs);
    asking.on(handed(), ms(1));
    assert_eq!(asking.on(Event::Wanted(WANTED), ms(15_000)), [ask(500)]);
    asking.on(Event::Tick, ms(15_500));
    assert_eq!(concluded(asking.on(Event::Wanted(WANTED), ms(15_501))).0, Outcome::NotOurs);
}

#[test]
fn one_that_is_to_end_waits_for_what_is_owed_ten_seconds_at_most() {
    let mut asking = Asking::new(US);
    assert!(asking.is_quiet(ms(0)));
    asking.on(handed(), ms(0));
    asking.on(handed(), ms(1000));
    assert!(!asking.is_quiet(ms(10_999)) && asking.is_quiet(ms(11_000)));
    for hash in [1, 2] {
        let wanted = Wanted { hash: [hash; 32], public_key: KEY };
        asking.on(Event::Wanted(wanted), ms(5000));
        assert!(!asking.is_quiet(ms(60_000)), "one is under way");
        asking.on(Event::Signed { wanted, signature: [9; 64] }, ms(5100));
        asking.on(Event::Submitted { wanted, result: Ok(()) }, ms(5200));
        assert_eq!(asking.is_quiet(ms(7200)), hash == 2, "both are signed, and no block's hash followed");
    }
    assert!(!asking.is_quiet(ms(7199)));
}

#[test]
fn memory_is_bounded_and_the_newest_are_kept() {
    let mut asking = asking();
    let wanted = |n: u8| Wanted { hash: [n; 32], public_key: KEY };
    let mut pushed_out = Vec::new();
    for n in 0..=255 {
        for action in asking.on(Event::Wanted(wanted(n)), ms(n.into())) {
            match action {
                Action::Concluded { wanted, outcome: Outcome::Unanswered, .. } => pushed_out.push(wanted),
                action => assert!(matches!(action, Action::Ask { .. })),
            }
        }
    }
    assert_eq!(pushed_out, (0..192).map(wanted).collect::<Vec<_>>());
    for n in 0..10_000u64 {
        let mut public_key = [0; 32];
        public_key[..8].copy_from_slice(&n.to_le_bytes());
        asking.on(Event::HandedToNode { public_key }, ms(1000 + n / 10));
    }
    let newest = Wanted {
        hash: [0; 32],
        public_key: *b"\x0f\x27\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    };
    let is_asked = |actions: Vec<Action>| actions.iter().any(|action| matches!(action, Action::Ask { .. }));
    assert!(is_asked(asking.on(Event::Wanted(newest), ms(2001))));
    assert!(!is_asked(asking.on(Event::Wanted(wanted(0)), ms(2001))));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Handed(u8),
    Wanted(u8, u8),
    Signed(u8, u8),
    Refused(u8, u8),
    Silent(u8, u8),
    Submitted(u8, u8, bool),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (key, hash) = (0u8..3, 0u8..4);
    let pair = (hash, key.clone());
    let step = prop_oneof![
        1 => key.prop_map(Step::Handed),
        2 => pair.clone().prop_map(|(hash, key)| Step::Wanted(hash, key)),
        1 => pair.clone().prop_map(|(hash, key)| Step::Signed(hash, key)),
        1 => pair.clone().prop_map(|(hash, key)| Step::Refused(hash, key)),
        1 => pair.clone().prop_map(|(hash, key)| Step::Silent(hash, key)),
        1 => (pair, any::<bool>()).prop_map(|((hash, key), is_taken)| Step::Submitted(hash, key, is_taken)),
        2 => prop_oneof![0u64..300, 0u64..8000].prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..80)
}

/// What a watcher knows of the wishes.
#[derive(Default)]
struct Watcher {
    handed_at: BTreeMap<u8, Duration>,
    /// Begun and not concluded; when they were last wanted, and whether they are submitted.
    underway: BTreeMap<(u8, u8), (Duration, bool)>,
}

impl Watcher {
    fn see(&mut self, action: &Action, now: Duration) {
        let of = |wanted: &Wanted| (wanted.hash[0], wanted.public_key[0]);
        match action {
            Action::Ask { request, patience } => {
                let of = (request.hash[0], request.public_key[0]);
                let (wanted_at, is_submitted) = self.underway[&of];
                assert!(!is_submitted && now + *patience == wanted_at + NODE_PATIENCE && !patience.is_zero());
                assert!(wanted_at < self.handed_at[&of.1] + WINDOW, "outside the window");
            }
            Action::Submit { wanted, .. } => {
                let (_, is_submitted) = self.underway.get_mut(&of(wanted)).expect("wanted");
                assert!(!std::mem::replace(is_submitted, true), "twice");
            }
            Action::Concluded { wanted, outcome, reason } => {
                let was = self.underway.remove(&of(wanted)).expect("each ends once");
                let is_submitted = matches!(outcome, Outcome::Signed | Outcome::NotTaken);
                assert_eq!(was.1, is_submitted);
                assert_eq!(reason.is_empty(), *outcome == Outcome::Signed);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_is_asked_outside_a_window_and_every_wish_ends_once(steps in steps()) {
        let (mut asking, mut watcher, mut now) = (Asking::new(US), Watcher::default(), ms(0));
        let wanted = |hash, key| Wanted { hash: [hash; 32], public_key: [key; 32] };
        let last = [Step::Pass(1000)];
        for step in steps.into_iter().chain(last) {
            let event = match step {
                Step::Handed(key) => {
                    watcher.handed_at.insert(key, now);
                    Event::HandedToNode { public_key: [key; 32] }
                }
                Step::Wanted(hash, key) => {
                    let is_open = watcher.handed_at.get(&key).is_some_and(|at| now < *at + WINDOW);
                    let (wanted_at, is_submitted) = watcher.underway.entry((hash, key)).or_insert((now, false));
                    if is_open && !*is_submitted {
                        *wanted_at = now;
                    }
                    Event::Wanted(wanted(hash, key))
                }
                Step::Signed(hash, key) => Event::Signed { wanted: wanted(hash, key), signature: [1; 64] },
                Step::Refused(hash, key) => Event::Refused { wanted: wanted(hash, key), reason: "r".to_owned() },
                Step::Silent(hash, key) => Event::Silent { wanted: wanted(hash, key), reason: "s".to_owned() },
                Step::Submitted(hash, key, is_taken) => {
                    let result = if is_taken { Ok(()) } else { Err("n".to_owned()) };
                    Event::Submitted { wanted: wanted(hash, key), result }
                }
                Step::Pass(time) => {
                    let until = now + ms(time);
                    while let Some(at) = asking.wake_at().filter(|at| *at <= until) {
                        asking.on(Event::Tick, at).iter().for_each(|action| watcher.see(action, at));
                    }
                    now = until;
                    continue;
                }
            };
            asking.on(event, now).iter().for_each(|action| watcher.see(action, now));
        }
        prop_assert!(watcher.underway.values().all(|(_, is_submitted)| *is_submitted), "none waits for ever");
    }
}
