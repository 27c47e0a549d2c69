use super::signatory::{Action, Event};
use super::*;
use crate::ids::InstanceId;
use crate::messages::{RewardSigningRequest, SigningAnswer};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const KEY: [u8; 32] = [7; 32];
const CONTROLLER: InstanceId = InstanceId([1; 16]);
const OTHER: InstanceId = InstanceId([2; 16]);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn handed(controller: InstanceId) -> Event {
    Event::HandedOver { public_key: KEY, controller }
}

fn asked(controller: InstanceId, hash: u8, asker: u64) -> Event {
    Event::Asked { request: RewardSigningRequest { controller, hash: [hash; 32], public_key: KEY }, asker }
}

fn stored(hash: u8, stored: Stored) -> Event {
    Event::Stored { public_key: KEY, hash: [hash; 32], stored }
}

fn sign(hash: u8, may_be_new: bool) -> [Action; 1] {
    [Action::Sign { public_key: KEY, hash: [hash; 32], may_be_new }]
}

fn signed(asker: u64, byte: u8) -> Action {
    Action::Answer { asker, answer: SigningAnswer::Signed { signature: [byte; 64] } }
}

fn serving() -> Signatory {
    let mut signatory = Signatory::default();
    assert_eq!(signatory.on(Event::Serving { public_key: KEY }, ms(0)), []);
    signatory
}

fn is_refused(mut actions: Vec<Action>) -> bool {
    let last = actions.pop();
    actions.is_empty() && matches!(last, Some(Action::Answer { answer: SigningAnswer::Refused { .. }, .. }))
}

fn passed_over(asker: u64) -> [Action; 1] {
    [Action::PassOver { asker }]
}

/// Asks and lets the store make it.
fn sign_fresh(signatory: &mut Signatory, controller: InstanceId, hash: u8, at: u64) {
    assert_eq!(signatory.on(asked(controller, hash, 0), ms(at)), sign(hash, true));
    assert_eq!(signatory.on(stored(hash, Stored::Fresh([hash; 64])), ms(at)), [signed(0, hash)]);
}

#[test]
fn a_stranger_gets_no_signature() {
    let mut signatory = serving();
    assert!(is_refused(signatory.on(asked(CONTROLLER, 1, 1), ms(0))));
    signatory.on(handed(CONTROLLER), ms(0));
    assert!(is_refused(signatory.on(asked(OTHER, 1, 2), ms(0))), "another controller's window is not its");
    let elsewhere = RewardSigningRequest { controller: CONTROLLER, hash: [1; 32], public_key: [8; 32] };
    assert_eq!(signatory.on(Event::Asked { request: elsewhere, asker: 3 }, ms(0)), passed_over(3));
    assert_eq!(signatory.on(asked(CONTROLLER, 1, 4), ms(14_999)), sign(1, true));
    assert!(is_refused(signatory.on(asked(CONTROLLER, 2, 5), ms(15_000))), "too late");
}

#[test]
fn two_new_hashes_are_signed_for_a_solution_and_old_ones_again() {
    let mut signatory = serving();
    signatory.on(handed(CONTROLLER), ms(0));
    sign_fresh(&mut signatory, CONTROLLER, 1, 5000);
    // The request is repeated while the disk works: one question to the store, both are answered.
    assert_eq!(signatory.on(asked(CONTROLLER, 2, 7), ms(5000)), sign(2, true));
    assert_eq!(signatory.on(asked(CONTROLLER, 2, 8), ms(5100)), []);
    assert_eq!(signatory.on(stored(2, Stored::Fresh([2; 64])), ms(5150)), [signed(7, 2), signed(8, 2)]);
    // A third is given only if it was there before.
    assert_eq!(signatory.on(asked(CONTROLLER, 3, 9), ms(5200)), sign(3, false));
    assert!(is_refused(signatory.on(stored(3, Stored::Absent), ms(5200))));
    assert_eq!(signatory.on(asked(CONTROLLER, 4, 10), ms(5200)), sign(4, false));
    assert_eq!(signatory.on(stored(4, Stored::Known([4; 64])), ms(5200)), [signed(10, 4)]);
    // What that controller was given it gets after the window too, but nothing new.
    assert_eq!(signatory.on(asked(CONTROLLER, 1, 11), ms(20_000)), sign(1, false));
    assert!(is_refused(signatory.on(asked(CONTROLLER, 5, 12), ms(20_000))));
    assert!(is_refused(signatory.on(asked(OTHER, 2, 13), ms(20_000))));
}

#[test]
fn a_controller_with_nothing_left_does_not_stand_in_anothers_way() {
    let mut signatory = serving();
    signatory.on(handed(CONTROLLER), ms(0));
    sign_fresh(&mut signatory, CONTROLLER, 1, 1);
    sign_fresh(&mut signatory, CONTROLLER, 2, 2);
    signatory.on(handed(OTHER), ms(3));
    // Both have the same node, which wants the hash of the other's solution: the one without a right to it asks first.
    assert_eq!(signatory.on(asked(CONTROLLER, 3, 1), ms(4)), sign(3, false));
    assert_eq!(signatory.on(asked(OTHER, 3, 2), ms(4)), []);
    assert_eq!(signatory.on(stored(3, Stored::Absent), ms(5)), sign(3, true));
    assert_eq!(signatory.on(stored(3, Stored::Fresh([3; 64])), ms(6)), [signed(1, 3), signed(2, 3)]);
}

#[test]
fn a_hash_that_is_known_or_fails_does_not_count() {
    let mut signatory = serving();
    signatory.on(handed(CONTROLLER), ms(0));
    for (hash, outcome) in [(1, Stored::Known([1; 64])), (2, Stored::Failed("disk\nfull".to_owned()))] {
        assert_eq!(signatory.on(asked(CONTROLLER, hash, 1), ms(1)), sign(hash, true));
        let actions = signatory.on(stored(hash, outcome), ms(2));
        assert!(matches!(actions[..], [Action::Answer { .. }]));
    }
    sign_fresh(&mut signatory, CONTROLLER, 3, 3);
    sign_fresh(&mut signatory, CONTROLLER, 4, 3);
    assert_eq!(signatory.on(asked(CONTROLLER, 5, 1), ms(3)), sign(5, false));
}

#[test]
fn a_solution_that_was_not_taken_closes_its_own_window() {
    let mut signatory = serving();
    let not_taken = Event::NotTaken { public_key: KEY, controller: CONTROLLER };
    assert_eq!(signatory.on(not_taken.clone(), ms(0)), []);
    signatory.on(handed(CONTROLLER), ms(0));
    signatory.on(not_taken.clone(), ms(100));
    assert!(is_refused(signatory.on(asked(CONTROLLER, 1, 1), ms(200))));
    // Of two solutions one stays, with what was signed for it.
    signatory.on(handed(CONTROLLER), ms(300));
    sign_fresh(&mut signatory, CONTROLLER, 1, 300);
    signatory.on(handed(CONTROLLER), ms(400));
    signatory.on(not_taken, ms(500));
    sign_fresh(&mut signatory, CONTROLLER, 2, 600);
    assert_eq!(signatory.on(asked(CONTROLLER, 3, 1), ms(600)), sign(3, false));
}

#[test]
fn a_farm_that_is_lost_answers_nobody() {
    let mut signatory = serving();
    signatory.on(handed(CONTROLLER), ms(0));
    signatory.on(asked(CONTROLLER, 1, 5), ms(1));
    // Whoever has it now answers the same question.
    assert_eq!(signatory.on(Event::Lost { public_key: KEY }, ms(2)), passed_over(5));
    assert_eq!(signatory.on(stored(1, Stored::Fresh([1; 64])), ms(3)), [], "it does not leave");
    signatory.on(handed(CONTROLLER), ms(4));
    assert_eq!(signatory.on(asked(CONTROLLER, 1, 6), ms(4)), passed_over(6));
}

#[test]
fn memory_is_bounded() {
    let mut signatory = serving();
    for n in 0..1000u128 {
        (0..3).for_each(|_| drop(signatory.on(handed(InstanceId(n.to_be_bytes())), ms(n as u64))));
    }
    (0..1000).for_each(|_| drop(signatory.on(handed(CONTROLLER), ms(1000))));
    let mut refused = 0;
    for n in 0..=255 {
        refused += u32::from(is_refused(signatory.on(asked(CONTROLLER, n, n.into()), ms(1000))));
    }
    assert_eq!(refused, 240, "16 at once");
    refused = 0;
    for n in 0..100 {
        refused += u32::from(is_refused(signatory.on(asked(CONTROLLER, 0, n), ms(1000))));
    }
    assert_eq!(refused, 85, "16 ask for one hash at once");
}

#[test]
fn what_was_handed_over_before_a_restart_is_signed_for_afterwards() {
    let recalled = |controller, age| Event::Recalled { public_key: KEY, controller, age: ms(age) };
    let mut signatory = Signatory::default();
    for event in [recalled(CONTROLLER, 15_000), recalled(OTHER, 9000), recalled(OTHER, 4000)] {
        assert_eq!(signatory.on(event, ms(100)), []);
    }
    assert_eq!(signatory.on(asked(OTHER, 1, 1), ms(1000)), passed_over(1), "the key is not served yet");
    assert_eq!(signatory.on(Event::Serving { public_key: KEY }, ms(1100)), []);
    assert!(is_refused(signatory.on(asked(CONTROLLER, 1, 2), ms(1100))), "its time was over");
    // What was signed before is known to the store; new ones are two for each solution, the oldest first.
    assert_eq!(signatory.on(asked(OTHER, 1, 3), ms(1100)), sign(1, true));
    assert_eq!(signatory.on(stored(1, Stored::Known([1; 64])), ms(1100)), [signed(3, 1)]);
    (2..6).for_each(|hash| sign_fresh(&mut signatory, OTHER, hash, 1200));
    assert_eq!(signatory.on(asked(OTHER, 6, 4), ms(1300)), sign(6, false));
    assert!(is_refused(signatory.on(stored(6, Stored::Absent), ms(1300))));
    assert_eq!(signatory.on(asked(OTHER, 7, 5), ms(11_099)), sign(7, false));
    assert!(is_refused(signatory.on(asked(OTHER, 8, 6), ms(11_100))), "15 s after the second");
    // Lost and served again, by the same process, nothing of it is left.
    signatory.on(recalled(CONTROLLER, 0), ms(12_000));
    signatory.on(Event::Lost { public_key: KEY }, ms(12_000));
    signatory.on(Event::Serving { public_key: KEY }, ms(12_000));
    assert!(is_refused(signatory.on(asked(CONTROLLER, 9, 7), ms(12_000))));
}

#[test]
fn it_is_quiet_when_no_node_can_want_more() {
    let mut signatory = serving();
    assert_eq!(signatory.quiet_at(), Some(ms(0)), "nothing was handed over");
    signatory.on(handed(CONTROLLER), ms(1000));
    signatory.on(handed(OTHER), ms(3000));
    assert_eq!(signatory.quiet_at(), Some(ms(13_000)), "10 s after the last");
    assert_eq!(signatory.on(asked(OTHER, 1, 1), ms(4000)), sign(1, true));
    assert_eq!(signatory.quiet_at(), None, "one is being made");
    signatory.on(stored(1, Stored::Fresh([1; 64])), ms(4100));
    assert_eq!(signatory.quiet_at(), Some(ms(11_000)), "the other's");
    let (own, others) = (signatory.key_quiet_at(&KEY), signatory.key_quiet_at(&[2; 32]));
    assert_eq!((own, others), (Some(ms(11_000)), Some(ms(0))), "of each key");
    sign_fresh(&mut signatory, CONTROLLER, 2, 5000);
    assert_eq!(
        signatory.quiet_at(),
        Some(ms(7000)),
        "a block's hash comes within 2 s of its vote's, or never"
    );
    signatory.on(handed(OTHER), ms(8000));
    signatory.on(Event::NotTaken { public_key: KEY, controller: OTHER }, ms(8100));
    assert_eq!(signatory.quiet_at(), Some(ms(7000)), "that one was not taken");
    signatory.on(Event::Recalled { public_key: [2; 32], controller: OTHER, age: ms(14_000) }, ms(8200));
    assert_eq!(signatory.quiet_at(), Some(ms(7000)), "a key that is not served");
}

#[derive(Debug, Clone)]
enum Step {
    HandedOver(u8),
    NotTaken(u8),
    Asked(u8, u8),
    /// The store is done with the n-th of what it was asked, unless it fails; a new signature may be made.
    Done(usize, bool),
    Lost,
    Serving,
    /// The process starts anew: only the store is left, and what was written of solutions that were handed over.
    Restart,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (controller, hash) = (0u8..2, 0u8..8);
    let step = prop_oneof![
        3 => controller.clone().prop_map(Step::HandedOver),
        1 => controller.clone().prop_map(Step::NotTaken),
        8 => (controller, hash).prop_map(|(controller, hash)| Step::Asked(controller, hash)),
        8 => (0usize..4, prop::bool::weighted(0.9)).prop_map(|(n, works)| Step::Done(n, works)),
        1 => Just(Step::Lost),
        2 => Just(Step::Serving),
        1 => Just(Step::Restart),
        4 => prop_oneof![0u64..1000, 0u64..20_000].prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..120)
}

/// What a watcher, who sees only what goes in and out, counts.
#[derive(Default)]
struct Watcher {
    /// Solutions by controller: when each was handed over, or taken back.
    handed: BTreeMap<u8, Vec<Duration>>,
    written: Vec<(u8, Duration)>,
    store: BTreeMap<u8, [u8; 64]>,
    at_store: Vec<(u8, bool)>,
    /// Open questions: who asks, for what, and whether a window was open or the hash was given to it before.
    open: BTreeMap<u64, (u8, u8)>,
    given: BTreeSet<(u8, u8)>,
    made: u32,
    is_serving: bool,
}

impl Watcher {
    fn is_open(&self, controller: u8, now: Duration) -> bool {
        let handed = self.handed.get(&controller).into_iter().flatten();
        handed.into_iter().any(|at| now < *at + WINDOW)
    }

    fn see(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Sign { hash, may_be_new, .. } => {
                    assert!(
                        self.is_serving && self.at_store.iter().all(|(known, _)| *known != hash[0]),
                        "twice"
                    );
                    self.at_store.push((hash[0], may_be_new));
                }
                Action::PassOver { asker } => {
                    self.open.remove(&asker).expect("asked once, passed over once");
                    assert!(!self.is_serving, "whose key it is answers");
                }
                Action::Answer { asker, answer } => {
                    let (controller, hash) = self.open.remove(&asker).expect("asked once, answered once");
                    assert!(self.is_serving, "whose key it is not says nothing");
                    if let SigningAnswer::Signed { signature } = answer {
                        assert_eq!(self.store[&hash], signature, "the durable one");
                        self.given.insert((controller, hash));
                    }
                }
            }
        }
    }

    fn work(&mut self, n: usize, works: bool) -> Option<(u8, Stored)> {
        let (hash, may_be_new) = (n < self.at_store.len()).then(|| self.at_store.remove(n))?;
        let stored = match self.store.get(&hash) {
            _ if !works => Stored::Failed("broken".to_owned()),
            Some(signature) => Stored::Known(*signature),
            None if !may_be_new => Stored::Absent,
            None => {
                self.made += 1;
                let mut signature = [hash; 64];
                signature[..4].copy_from_slice(&self.made.to_le_bytes());
                self.store.insert(hash, signature);
                Stored::Fresh(signature)
            }
        };
        Some((hash, stored))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_hash_is_signed_outside_a_window_nor_more_than_two_a_solution(steps in steps()) {
        let (mut signatory, mut watcher, mut now) = (Signatory::default(), Watcher::default(), ms(0));
        let (mut asker, mut solutions) = (0, 0);
        let id = |controller| InstanceId([controller; 16]);
        for step in steps {
            let event = match step {
                Step::HandedOver(controller) => {
                    if watcher.is_serving {
                        watcher.handed.entry(controller).or_default().push(now);
                        watcher.written.push((controller, now));
                        solutions += 1;
                    }
                    handed(id(controller))
                }
                Step::NotTaken(controller) => {
                    Event::NotTaken { public_key: KEY, controller: id(controller) }
                }
                Step::Asked(controller, hash) => {
                    asker += 1;
                    watcher.open.insert(asker, (controller, hash));
                    let is_allowed = watcher.is_open(controller, now) || watcher.given.contains(&(controller, hash));
                    let actions = signatory.on(asked(id(controller), hash, asker), now);
                    let is_passed_over = actions == passed_over(asker);
                    prop_assert!(is_allowed || is_passed_over || is_refused(actions.clone()), "{:?}", actions);
                    watcher.see(actions);
                    continue;
                }
                Step::Done(n, works) => match watcher.work(n, works) {
                    Some((hash, done)) => stored(hash, done),
                    None => continue,
                },
                Step::Lost => {
                    let actions = signatory.on(Event::Lost { public_key: KEY }, now);
                    watcher.is_serving = false;
                    watcher.see(actions);
                    watcher.handed.clear();
                    // The store finishes what it began, and nobody hears of it.
                    while watcher.work(0, true).is_some() {}
                    continue;
                }
                Step::Serving => {
                    watcher.is_serving = true;
                    Event::Serving { public_key: KEY }
                }
                Step::Restart => {
                    (signatory, watcher.is_serving) = (Signatory::default(), false);
                    watcher.handed.clear();
                    watcher.given.clear();
                    watcher.open.clear();
                    watcher.at_store.clear();
                    for (controller, at) in watcher.written.clone() {
                        let event = Event::Recalled { public_key: KEY, controller: id(controller), age: now - at };
                        prop_assert_eq!(signatory.on(event, now), []);
                        watcher.handed.entry(controller).or_default().push(at);
                        solutions += usize::from(now < at + WINDOW);
                    }
                    continue;
                }
                Step::Pass(time) => {
                    now += ms(time);
                    continue;
                }
            };
            let actions = signatory.on(event, now);
            watcher.see(actions);
            prop_assert!(watcher.store.len() <= 2 * solutions, "more than two hashes a solution");
        }
    }
}
