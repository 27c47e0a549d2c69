use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const S: Duration = Duration::from_secs(1);

type Act = Action<u8>;

/// How openings fail, by number; 0 does not.
const PASSES: [Passes; 6] =
    [Passes::Maybe, Passes::Maybe, Passes::Never, Passes::Slowly, Passes::Surely, Passes::Soon];

fn at(path: &str) -> PathBuf {
    path.into()
}

fn fleet(named: &[&str]) -> Fleet<u8> {
    let mut fleet = Fleet::new(false);
    let opens = fleet.on(Event::Named(named.iter().map(|path| (at(path), 1)).collect()), Duration::ZERO);
    let expected: Vec<_> = named.iter().map(|path| Act::Open { path: at(path), spec: 1 }).collect();
    assert_eq!(opens, expected);
    fleet
}

fn opened(path: &str) -> Event<u8> {
    Event::Opened { path: at(path) }
}

fn passing(path: &str, reason: &str) -> Event<u8> {
    Event::Failed { path: at(path), why: Failure { reason: reason.into(), passes: Passes::Maybe } }
}

fn lasting(path: &str, reason: &str) -> Event<u8> {
    Event::Failed { path: at(path), why: Failure { reason: reason.into(), passes: Passes::Never } }
}

fn told(path: &str, reason: &str, again_in_s: Option<u32>) -> Act {
    Act::TellFailure { path: at(path), reason: reason.into(), again_in: again_in_s.map(|pause| S * pause) }
}

#[test]
fn a_farm_that_fails_is_tried_again_less_and_less_often_told_once_and_the_others_go_on() {
    let mut fleet = fleet(&["/a", "/b"]);
    assert_eq!(fleet.on(opened("/a"), S), []);
    assert_eq!(fleet.on(passing("/b", "no disk"), S), [told("/b", "no disk", Some(10))]);
    let (mut now, mut pauses) = (S, Vec::new());
    for _ in 0..8 {
        let due = fleet.wake_at().unwrap();
        pauses.push((due - now).as_secs());
        now = due;
        assert_eq!(fleet.on(Event::Tick, now - S), []);
        assert_eq!(fleet.on(Event::Tick, now), [Act::Open { path: at("/b"), spec: 1 }]);
        assert_eq!(fleet.on(passing("/b", "no disk"), now), [], "told before");
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300]);
    now = fleet.wake_at().unwrap();
    fleet.on(Event::Tick, now);
    assert_eq!(fleet.on(passing("/b", "locked"), now), [told("/b", "locked", Some(300))], "something else");
    now = fleet.wake_at().unwrap();
    fleet.on(Event::Tick, now);
    assert_eq!(fleet.on(opened("/b"), now), []);
    assert!(fleet.states().all(|(_, state)| state == State::Open) && fleet.wake_at().is_none());
}

#[test]
fn without_an_open_farm_it_is_waited_unless_no_waiting_helps() {
    let mut fleet = fleet(&["/a", "/b"]);
    assert_eq!(fleet.on(lasting("/a", "damaged"), S), [told("/a", "damaged", None)]);
    let waits = [told("/b", "no disk", Some(10)), Act::TellNoneOpen];
    assert_eq!(fleet.on(passing("/b", "no disk"), S), waits);
    fleet.on(Event::Tick, 11 * S);
    assert_eq!(fleet.on(passing("/b", "no disk"), 11 * S), [], "told before");
    fleet.on(Event::Tick, 31 * S);
    let ends = [told("/b", "other chain", None), Act::End { reason: "other chain".into() }];
    assert_eq!(fleet.on(lasting("/b", "other chain"), 31 * S), ends);
}

#[test]
fn an_operator_who_wants_to_see_every_failure_does() {
    let mut fleet = Fleet::new(true);
    fleet.on(Event::Named(vec![(at("/a"), 1), (at("/b"), 1)]), Duration::ZERO);
    fleet.on(opened("/a"), S);
    let end = Act::End { reason: "no disk".into() };
    assert_eq!(fleet.on(passing("/b", "no disk"), S), [told("/b", "no disk", None), end]);
    let why = Failure { reason: "a copy".into(), passes: Passes::Never };
    let end = Act::End { reason: "a copy".into() };
    let close = Act::Close { path: at("/a") };
    let lost = fleet.on(Event::Lost { path: at("/a"), why }, S);
    assert_eq!(lost, [close, told("/a", "a copy", None), end]);
}

#[test]
fn the_last_wish_holds_once_what_is_under_way_has_ended() {
    let mut fleet = fleet(&["/a"]);
    assert_eq!(fleet.on(Event::Removed { path: at("/a") }, S), [Act::GiveUp { path: at("/a") }]);
    assert_eq!(fleet.on(opened("/a"), S), [Act::Close { path: at("/a") }, Act::TellNoneOpen]);
    assert_eq!(fleet.on(Event::Added { path: at("/a"), spec: 2 }, S), [], "it must be let go first");
    let closed = fleet.on(Event::Closed { path: at("/a") }, S);
    assert_eq!(closed, [Act::Open { path: at("/a"), spec: 2 }]);
    assert_eq!(fleet.on(opened("/a"), S), []);
    // Named again as it is; then with another size.
    assert_eq!(fleet.on(Event::Named(vec![(at("/a"), 2)]), S), []);
    assert_eq!(fleet.on(Event::Named(vec![(at("/a"), 3)]), S), [Act::Close { path: at("/a") }]);
    let closed = fleet.on(Event::Closed { path: at("/a") }, S);
    assert_eq!(closed, [Act::Open { path: at("/a"), spec: 3 }]);
    // Named no more while it fails: nobody is told, and it is gone.
    assert_eq!(fleet.on(Event::Named(Vec::new()), S), [Act::GiveUp { path: at("/a") }]);
    assert_eq!(fleet.on(passing("/a", "no disk"), S), [Act::TellNoneOpen]);
    assert_eq!(fleet.states().count(), 0);
}

#[test]
fn what_failed_for_good_is_tried_again_when_it_is_named_again() {
    let mut fleet = fleet(&["/a", "/b"]);
    fleet.on(opened("/a"), S);
    fleet.on(lasting("/b", "damaged"), S);
    assert_eq!(fleet.wake_at(), None);
    let again = fleet.on(Event::Added { path: at("/b"), spec: 1 }, 2 * S);
    assert_eq!(again, [Act::Open { path: at("/b"), spec: 1 }]);
    assert_eq!(
        fleet.on(lasting("/b", "damaged"), 2 * S),
        [told("/b", "damaged", None)],
        "asked for, so told"
    );
    let named = vec![(at("/a"), 1), (at("/b"), 1)];
    assert_eq!(fleet.on(Event::Named(named), 3 * S), [Act::Open { path: at("/b"), spec: 1 }]);
}

#[test]
fn a_farm_that_cannot_be_opened_as_it_is_named_now_goes_on_as_it_was() {
    let mut fleet = Fleet::new(true);
    fleet.on(Event::Named(vec![(at("/a"), 1)]), Duration::ZERO);
    fleet.on(opened("/a"), S);
    for (size, failure) in [(2, lasting("/a", "would shrink")), (3, passing("/a", "disk full"))] {
        let Event::Failed { why: Failure { reason, .. }, .. } = failure.clone() else { unreachable!() };
        assert_eq!(fleet.on(Event::Named(vec![(at("/a"), size)]), S), [Act::Close { path: at("/a") }]);
        let closed = fleet.on(Event::Closed { path: at("/a") }, S);
        assert_eq!(closed, [Act::Open { path: at("/a"), spec: size }]);
        let kept = Act::TellKept { path: at("/a"), reason: reason.clone() };
        assert_eq!(fleet.on(failure, S), [kept, Act::Open { path: at("/a"), spec: 1 }]);
        assert_eq!(fleet.on(opened("/a"), S), []);
        assert_eq!(fleet.on(Event::Tick, 1000 * S), [], "nothing else is tried");
        // The file is read again for another farm.
        assert_eq!(fleet.on(Event::Named(vec![(at("/a"), size)]), S), []);
        assert_eq!((fleet.state(&at("/a")), fleet.kept(&at("/a"))), (Some(State::Open), Some(&*reason)));
    }
    // Named as it is, nothing is said any more. Where the last one fails too, it is a failure like any.
    assert_eq!(fleet.on(Event::Named(vec![(at("/a"), 1)]), S), []);
    assert_eq!(fleet.kept(&at("/a")), None);
    fleet.on(Event::Added { path: at("/a"), spec: 3 }, S);
    fleet.on(Event::Closed { path: at("/a") }, S);
    fleet.on(passing("/a", "no disk"), S);
    let end = Act::End { reason: "no disk".into() };
    assert_eq!(fleet.on(passing("/a", "no disk"), S), [told("/a", "no disk", None), end]);
}

#[test]
fn a_farm_that_came_by_request_alone_never_ends_the_process() {
    let mut fleet = Fleet::new(true);
    fleet.on(Event::Added { path: at("/a"), spec: 1 }, S);
    assert_eq!(fleet.on(lasting("/a", "damaged"), S), [told("/a", "damaged", None), Act::TellNoneOpen]);
    // Named beside others it stays what it is.
    fleet.on(Event::Named(vec![(at("/a"), 1), (at("/b"), 1)]), S);
    assert_eq!(fleet.on(passing("/a", "no disk"), S), [told("/a", "no disk", Some(10))]);
    let end = Act::End { reason: "no disk".into() };
    assert_eq!(fleet.on(passing("/b", "no disk"), S), [told("/b", "no disk", None), end]);
}

#[test]
fn what_passes_surely_is_never_the_end_and_what_passes_slowly_is_tried_rarely() {
    let fails = |reason: &str, passes| Event::Failed {
        path: at("/a"),
        why: Failure { reason: reason.into(), passes },
    };
    let mut fleet = Fleet::new(true);
    fleet.on(Event::Named(vec![(at("/a"), 1)]), Duration::ZERO);
    let failed = fleet.on(fails("the same farm", Passes::Surely), S);
    assert_eq!(failed, [told("/a", "the same farm", Some(10)), Act::TellNoneOpen]);
    assert_eq!(fleet.on(Event::Tick, 11 * S), [Act::Open { path: at("/a"), spec: 1 }]);
    let mut fleet = self::fleet(&["/a"]);
    let failed = fleet.on(fails("disk full", Passes::Slowly), S);
    assert_eq!(failed, [told("/a", "disk full", Some(300)), Act::TellNoneOpen]);
    assert_eq!(fleet.on(Event::Tick, 300 * S), []);
    assert_eq!(fleet.on(Event::Tick, 301 * S), [Act::Open { path: at("/a"), spec: 1 }]);
}

#[test]
fn a_farm_whose_disk_is_gone_is_let_go_of_and_looked_for_every_ten_seconds() {
    let gone = || Failure { reason: "its disk is gone".into(), passes: Passes::Soon };
    let mut fleet = self::fleet(&["/a", "/b"]);
    fleet.on(opened("/a"), S);
    fleet.on(opened("/b"), S);
    let close = Act::Close { path: at("/a") };
    let lost = fleet.on(Event::Lost { path: at("/a"), why: gone() }, 2 * S);
    assert_eq!(lost, [close, told("/a", "its disk is gone", Some(10))]);
    assert_eq!(fleet.on(Event::Lost { path: at("/a"), why: gone() }, 3 * S), [], "known");
    assert_eq!(fleet.on(Event::Closed { path: at("/a") }, 4 * S), []);
    let mut now = 2 * S;
    for told_now in [vec![told("/a", "not mounted", Some(10))], vec![], vec![], vec![]] {
        assert_eq!(fleet.wake_at(), Some(now + FIRST_PAUSE));
        now += FIRST_PAUSE;
        assert_eq!(fleet.on(Event::Tick, now), [Act::Open { path: at("/a"), spec: 1 }]);
        let why = Failure { reason: "not mounted".into(), passes: Passes::Soon };
        assert_eq!(fleet.on(Event::Failed { path: at("/a"), why }, now), told_now, "once");
    }
    // One that takes long to let go of is opened when it has been.
    now += FIRST_PAUSE;
    fleet.on(Event::Tick, now);
    assert_eq!(fleet.on(opened("/a"), now), []);
    fleet.on(Event::Lost { path: at("/a"), why: gone() }, now);
    assert_eq!(fleet.on(Event::Tick, now + 300 * S), []);
    let closed = fleet.on(Event::Closed { path: at("/a") }, now + 301 * S);
    assert_eq!(closed, [Act::Open { path: at("/a"), spec: 1 }]);
}

/// What happens, by numbers.
#[derive(Debug, Clone, Copy)]
enum Step {
    Named(u8, u8),
    Added(u8, u8),
    Removed(u8),
    /// The end of what is under way there: well, or not, or for good.
    Ends(u8, u8),
    Lost(u8, bool),
    Passes(u16),
    /// A word about something that is not under way.
    Nonsense(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..16u8, 1..3u8).prop_map(|(set, spec)| Step::Named(set, spec)),
        (0..4u8, 1..3u8).prop_map(|(path, spec)| Step::Added(path, spec)),
        (0..4u8).prop_map(Step::Removed),
        (0..4u8, 0..6u8).prop_map(|(path, end)| Step::Ends(path, end)),
        (0..4u8, any::<bool>()).prop_map(|(path, may_pass)| Step::Lost(path, may_pass)),
        (0..400u16).prop_map(Step::Passes),
        (0..4u8, 0..4u8).prop_map(|(path, what)| Step::Nonsense(path, what)),
    ]
}

/// The disks: which folders are open, and with which size; what is under way.
#[derive(Default)]
struct World {
    now: Duration,
    wanted: BTreeMap<PathBuf, u8>,
    opening: BTreeMap<PathBuf, u8>,
    open: BTreeMap<PathBuf, u8>,
    closing: BTreeSet<PathBuf>,
}

impl World {
    fn does(&mut self, fleet: &mut Fleet<u8>, event: Event<u8>) {
        for action in fleet.on(event, self.now) {
            match action {
                Act::Open { path, spec } => {
                    let is_free = !self.open.contains_key(&path) && !self.closing.contains(&path);
                    assert!(is_free, "opened while it is open");
                    assert!(self.opening.insert(path, spec).is_none(), "opened twice");
                }
                Act::Close { path } => {
                    assert!(self.open.remove(&path).is_some(), "closed, and not open");
                    self.closing.insert(path);
                }
                Act::GiveUp { path } => {
                    let tried = self.opening.get(&path);
                    assert!(tried.is_some() && self.wanted.get(&path) != tried, "it is wanted");
                }
                Act::TellKept { path, .. } => assert!(self.wanted.contains_key(&path)),
                Act::TellFailure { .. } | Act::TellNoneOpen | Act::End { .. } => {}
            }
        }
    }

    fn ends(&mut self, fleet: &mut Fleet<u8>, path: PathBuf, end: u8) {
        if self.closing.remove(&path) {
            self.does(fleet, Event::Closed { path });
        } else if let Some(spec) = self.opening.remove(&path) {
            if end == 0 {
                self.open.insert(path.clone(), spec);
                self.does(fleet, Event::Opened { path });
            } else {
                let why = Failure { reason: end.to_string(), passes: PASSES[usize::from(end)] };
                self.does(fleet, Event::Failed { path, why });
            }
        }
    }

    fn step(&mut self, fleet: &mut Fleet<u8>, step: Step) {
        let path = |number: u8| PathBuf::from(format!("/{number}"));
        match step {
            Step::Named(set, spec) => {
                let named =
                    (0..4).filter(|number| set & (1 << number) != 0).map(|number| (path(number), spec));
                self.wanted = named.collect();
                self.does(fleet, Event::Named(self.wanted.clone().into_iter().collect()));
            }
            Step::Added(number, spec) => {
                self.wanted.insert(path(number), spec);
                self.does(fleet, Event::Added { path: path(number), spec });
            }
            Step::Removed(number) => {
                self.wanted.remove(&path(number));
                self.does(fleet, Event::Removed { path: path(number) });
            }
            Step::Ends(number, end) => self.ends(fleet, path(number), end),
            Step::Lost(number, may_pass) => {
                let passes = if may_pass { Passes::Maybe } else { Passes::Never };
                let why = Failure { reason: "lost".into(), passes };
                self.does(fleet, Event::Lost { path: path(number), why });
            }
            Step::Passes(seconds) => {
                self.now += S * u32::from(seconds);
                self.does(fleet, Event::Tick);
            }
            Step::Nonsense(number, what) => {
                let (path, why) = (path(number), Failure { reason: "?".into(), passes: Passes::Maybe });
                let is_under_way = self.opening.contains_key(&path) || self.closing.contains(&path);
                match what {
                    0 if !is_under_way => self.does(fleet, Event::Opened { path }),
                    1 if !is_under_way => self.does(fleet, Event::Closed { path }),
                    2 if !is_under_way => self.does(fleet, Event::Failed { path, why }),
                    _ => {}
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn in_any_order_a_folder_is_opened_once_and_in_the_end_all_that_is_wanted_is_open(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let (mut fleet, mut world) = (Fleet::new(false), World::default());
        for step in steps {
            world.step(&mut fleet, step);
            let states: BTreeMap<_, _> = fleet.states().map(|(path, state)| (path.to_owned(), state)).collect();
            for (path, state) in &states {
                prop_assert_eq!(*state == State::Open, world.open.contains_key(path));
                prop_assert_eq!(*state == State::Opening, world.opening.contains_key(path));
                prop_assert_eq!(*state == State::Closing, world.closing.contains(path));
            }
            prop_assert!(world.open.keys().chain(&world.closing).all(|path| states.contains_key(path)));
        }
        // Everything works from now on, and what had failed is asked for again.
        let named = world.wanted.clone();
        world.does(&mut fleet, Event::Named(named.clone().into_iter().collect()));
        for (path, spec) in named.clone() {
            world.does(&mut fleet, Event::Added { path, spec });
        }
        for _ in 0..4 {
            world.now += LONGEST_PAUSE;
            world.does(&mut fleet, Event::Tick);
            for number in 0..4 {
                world.ends(&mut fleet, PathBuf::from(format!("/{number}")), 0);
            }
        }
        prop_assert_eq!(world.open, named);
        prop_assert!(world.opening.is_empty() && world.closing.is_empty() && fleet.wake_at().is_none());
    }
}
