use super::*;
use crate::messages::ProtocolInfo;
use proptest::prelude::*;

fn info(chain: u8, history_size: u64) -> ClusterInfo {
    let protocol_info = ProtocolInfo {
        history_size,
        max_pieces_in_sector: 10,
        recent_segments: 5,
        recent_history_fraction: (1, 10),
        min_sector_lifetime: 4,
    };
    let (kzg_setup_sha256, genesis_hash) = ([1; 32], [chain; 32]);
    ClusterInfo { kzg_setup_sha256, genesis_hash, protocol_info, is_dev: true, farming_timeout_ms: 4000 }
}

/// One key, whose writes may lose their answers or not happen.
#[derive(Default)]
struct Store {
    value: Option<(ClusterInfo, u64)>,
    revisions: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    Fair,
    Away,
    Deaf,
}

impl Store {
    fn answer(&mut self, action: &Action, weather: Weather) -> Option<Event> {
        match action {
            Action::Read if weather == Weather::Away => Some(Event::NotRead),
            Action::Read => {
                let value = self.value.clone();
                Some(Event::Read(value.map_or(Found::Nothing, |(info, at)| Found::Value(info, at))))
            }
            Action::Write { .. } if weather == Weather::Away => Some(Event::Wrote(Wrote::Unknown)),
            Action::Write { info, expect } => {
                let present = self.value.as_ref().map_or(Expect::Absent, |(_, at)| Expect::Revision(*at));
                if present != *expect {
                    return Some(Event::Wrote(Wrote::Conflict));
                }
                self.revisions += 1;
                self.value = Some((info.clone(), self.revisions));
                Some(Event::Wrote(if weather == Weather::Deaf {
                    Wrote::Unknown
                } else {
                    Wrote::Done(self.revisions)
                }))
            }
            _ => None,
        }
    }

    fn history(&self) -> u64 {
        self.value.as_ref().map_or(0, |(info, _)| info.protocol_info.history_size)
    }
}

/// Lets one controller go on until it waits; what else than reads and writes it did.
fn run(
    settings: &mut Settings,
    first: Event,
    store: &mut Store,
    weather: Weather,
    now: Duration,
) -> Vec<Action> {
    let (mut events, mut said) = (vec![first], Vec::new());
    while let Some(event) = events.pop() {
        for action in settings.on(event, now) {
            match action {
                Action::Read | Action::Write { .. } => events.extend(store.answer(&action, weather)),
                other => said.push(other),
            }
        }
    }
    said
}

/// A controller that remembers nothing.
fn fresh(own: ClusterInfo) -> Settings {
    Settings::new(own, None, None)
}

/// Lets one controller wake as it likes from `from` until `until`; what it did, but for reads, writes and questions.
fn run_until(settings: &mut Settings, store: &mut Store, from: Duration, until: Duration) -> Vec<Action> {
    let (mut now, mut said) = (from, Vec::new());
    while now <= until {
        said.extend(run(settings, Event::Tick, store, Weather::Fair, now));
        let wake_at = settings.wake_at().expect("it looks at them for ever");
        now = wake_at.max(now + Duration::from_millis(1));
    }
    said.retain(|action| *action != Action::Ask);
    said
}

#[test]
fn an_empty_cluster_begins_with_the_node_and_grows_with_what_is_placed() {
    let (mut store, mut settings) = (Store::default(), fresh(info(1, 5)));
    let fair = Weather::Fair;
    let said = run_until(&mut settings, &mut store, Duration::ZERO, NEW_PATIENCE);
    assert_eq!(said, [Action::Listening, Action::Agreed(info(1, 5))]);
    let now = NEW_PATIENCE + Duration::from_millis(1);
    let said = run(&mut settings, Event::Placed(7), &mut store, fair, now);
    assert_eq!(said, [Action::Agreed(info(1, 7))]);
    run(&mut settings, Event::Placed(6), &mut store, fair, now);
    assert_eq!(store.history(), 7);

    let mut late = fresh(info(1, 9));
    let said = run(&mut late, Event::Tick, &mut store, fair, Duration::ZERO);
    assert_eq!(said, [Action::Agreed(info(1, 7))], "its node is ahead of what is placed");

    let (mut store, mut holder) = (Store::default(), Settings::new(info(1, 9), Some(8), None));
    run_until(&mut holder, &mut store, Duration::ZERO, NEW_PATIENCE);
    assert_eq!(store.history(), 8, "it holds what nobody has placed");
}

#[test]
fn nothing_is_waited_for_where_no_other_history_can_be() {
    let (mut store, mut settings) = (Store::default(), fresh(info(1, 1)));
    let said = run(&mut settings, Event::Tick, &mut store, Weather::Fair, Duration::ZERO);
    assert_eq!(said, [Action::Agreed(info(1, 1))]);
}

#[test]
fn a_cluster_is_born_again_with_the_longest_history_that_anybody_knows() {
    let second = Duration::from_secs(1);
    // It remembers one, and a plot-client knows of a longer one.
    let (mut store, remembered) = (Store::default(), info(1, 6));
    let mut settings = Settings::new(info(1, 9), Some(3), Some(&remembered));
    let said = run(&mut settings, Event::Tick, &mut store, Weather::Fair, Duration::ZERO);
    assert_eq!(said, [Action::Emptied, Action::Ask]);
    for told in
        [info(1, 8), info(1, 7), info(2, 30), ClusterInfo { kzg_setup_sha256: [9; 32], ..info(1, 30) }]
    {
        assert_eq!(run(&mut settings, Event::Told(told), &mut store, Weather::Fair, ASK_EVERY / 2), []);
    }
    let said = run_until(&mut settings, &mut store, ASK_EVERY, KNOWN_PATIENCE);
    assert_eq!(said, [Action::Agreed(info(1, 8))]);
    run(&mut settings, Event::Told(info(1, 30)), &mut store, Weather::Fair, 2 * second);
    assert_eq!(store.history(), 8, "too late: the settings are there");

    // One that remembers more than the one that was faster.
    let mut second_one = Settings::new(info(1, 9), None, Some(&info(1, 9)));
    run(&mut second_one, Event::Tick, &mut store, Weather::Fair, second);
    assert_eq!(store.history(), 9);

    // It remembers nothing, and is told late.
    let (mut store, mut settings) = (Store::default(), fresh(info(1, 9)));
    let said = run_until(&mut settings, &mut store, Duration::ZERO, 7 * second);
    assert_eq!(said, [Action::Listening]);
    run(&mut settings, Event::Told(info(1, 2)), &mut store, Weather::Fair, 7 * second);
    let said = run_until(&mut settings, &mut store, 7 * second, 8 * second);
    assert_eq!(said, [Action::Agreed(info(1, 2))]);

    // Nobody is heard while the bus is away.
    let (mut store, mut settings) = (Store::default(), fresh(info(1, 9)));
    run_until(&mut settings, &mut store, Duration::ZERO, 7 * second);
    run(&mut settings, Event::Tick, &mut store, Weather::Away, 7 * second + ASK_EVERY);
    run_until(&mut settings, &mut store, 9 * second + 2 * ASK_EVERY, 15 * second);
    assert_eq!(store.value, None);
    run_until(&mut settings, &mut store, 15 * second, 16 * second);
    assert_eq!(store.history(), 9);

    // What it remembers is of another chain.
    let (mut store, mut settings) = (Store::default(), Settings::new(info(1, 1), None, Some(&info(2, 7))));
    run(&mut settings, Event::Tick, &mut store, Weather::Fair, Duration::ZERO);
    assert_eq!(store.value, Some((info(1, 1), 1)));
}

#[test]
fn who_is_told_that_settings_are_there_listens_no_more() {
    let (mut store, mut settings) = (Store::default(), fresh(info(1, 9)));
    run(&mut settings, Event::Tick, &mut store, Weather::Fair, Duration::ZERO);
    store = Store { value: Some((info(1, 4), 1)), revisions: 1 };
    let said = run_until(&mut settings, &mut store, ASK_EVERY, LOOK_EVERY);
    assert_eq!(said, [Action::Agreed(info(1, 4))]);
    store = Store::default();
    let said = run_until(&mut settings, &mut store, 2 * LOOK_EVERY, 2 * LOOK_EVERY + KNOWN_PATIENCE);
    assert_eq!(said, [Action::Emptied, Action::Agreed(info(1, 4))], "from now on it knows");
}

#[test]
fn of_two_chains_exactly_one_wins() {
    let mut store = Store::default();
    let mut settings = [fresh(info(1, 1)), fresh(info(2, 1))];
    // Both have read that there is nothing before either writes.
    let mut writes = Vec::new();
    for one in &mut settings {
        assert_eq!(one.on(Event::Tick, Duration::ZERO), [Action::Read]);
        writes.extend(one.on(Event::Read(Found::Nothing), Duration::ZERO));
    }
    let mut said = Vec::new();
    for (one, write) in settings.iter_mut().zip(&writes) {
        let event = store.answer(write, Weather::Fair).unwrap();
        said.push(run(one, event, &mut store, Weather::Fair, Duration::ZERO));
    }
    assert_eq!(said[0], [Action::Agreed(info(1, 1))]);
    assert_eq!(said[1], [], "it looks again");
    let said = run(&mut settings[1], Event::Tick, &mut store, Weather::Fair, CONFLICT_PAUSE);
    assert_eq!(said, [Action::Refused(Refusal::OtherChain([1; 32]))]);
    let other_setup = ClusterInfo { kzg_setup_sha256: [9; 32], ..info(1, 1) };
    let said = run(&mut fresh(other_setup), Event::Tick, &mut store, Weather::Fair, CONFLICT_PAUSE);
    assert_eq!(said, [Action::Refused(Refusal::OtherSetup([1; 32]))]);
}

#[test]
fn an_emptied_store_gets_the_longest_history_back() {
    let (mut store, mut settings) = (Store::default(), fresh(info(1, 1)));
    run(&mut settings, Event::Tick, &mut store, Weather::Fair, Duration::ZERO);
    run(&mut settings, Event::Placed(8), &mut store, Weather::Fair, Duration::ZERO);
    store = Store::default();
    let said = run_until(&mut settings, &mut store, LOOK_EVERY, LOOK_EVERY + KNOWN_PATIENCE);
    assert_eq!(said, [Action::Emptied, Action::Agreed(info(1, 8))]);

    // What is placed while the settings are away is told with them.
    store = Store::default();
    let mut now = 3 * LOOK_EVERY;
    let lost = run(&mut settings, Event::Tick, &mut store, Weather::Fair, now);
    assert_eq!(lost, [Action::Emptied, Action::Ask]);
    now += KNOWN_PATIENCE;
    assert_eq!(settings.on(Event::Tick, now), [Action::Read]);
    let write = settings.on(Event::Read(Found::Nothing), now);
    assert!(matches!(write[..], [Action::Write { .. }]), "{write:?}");
    settings.on(Event::Wrote(Wrote::Unknown), now);
    let said = run(&mut settings, Event::Placed(9), &mut store, Weather::Fair, now);
    assert_eq!((said, store.history()), (vec![Action::Agreed(info(1, 9))], 9));

    // Another, that knew less, was faster.
    store = Store { value: Some((info(1, 5), 1)), revisions: 1 };
    let said = run(&mut settings, Event::Tick, &mut store, Weather::Fair, now + LOOK_EVERY);
    assert_eq!((said, store.history()), (vec![Action::Emptied], 9));
}

#[test]
fn rules_are_written_once_and_garbage_is_left_alone() {
    let mut store = Store { value: Some((info(1, 5), 1)), revisions: 1 };
    let mut own = info(1, 9);
    own.protocol_info.max_pieces_in_sector = 20;
    let mut settings = fresh(own.clone());
    own.protocol_info.history_size = 5;
    let said = run(&mut settings, Event::Tick, &mut store, Weather::Fair, Duration::ZERO);
    assert_eq!(said, [Action::Agreed(own)]);
    store.value = Some((info(1, 5), 3));
    run(&mut settings, Event::Tick, &mut store, Weather::Fair, LOOK_EVERY);
    assert_eq!(store.value, Some((info(1, 5), 3)), "no writing against each other");

    for (at, expected) in [(2, vec![Action::Unreadable]), (3, vec![])] {
        assert_eq!(settings.on(Event::Tick, at * LOOK_EVERY), [Action::Read]);
        assert_eq!(settings.on(Event::Read(Found::Unreadable(7)), at * LOOK_EVERY), expected);
    }
}

proptest! {
    #[test]
    fn history_never_goes_back_and_who_wrote_last_knows_the_longest(
        steps in prop::collection::vec((0usize..3, 0usize..3, 0u64..20, prop::bool::weighted(0.05)), 0..200),
    ) {
        let mut store = Store::default();
        let mut settings: Vec<_> =
            [(1, 4), (1, 6), (2, 5)].map(|(chain, size)| fresh(info(chain, size))).into();
        let (mut is_over, mut longest) = ([false; 3], [0; 3]);
        let mut now = Duration::ZERO;
        for (who, weather, placed, is_emptied) in steps {
            now += Duration::from_millis(700);
            if is_emptied {
                store = Store::default();
            }
            if is_over[who] {
                continue;
            }
            let weather = [Weather::Fair, Weather::Away, Weather::Deaf][weather];
            let before = store.value.clone();
            let is_placed = placed > 10 && settings[who].agreed().is_some();
            let event = if is_placed { Event::Placed(placed) } else { Event::Tick };
            for action in run(&mut settings[who], event, &mut store, weather, now) {
                match action {
                    Action::Refused(_) => is_over[who] = true,
                    Action::Agreed(info) => {
                        let size = info.protocol_info.history_size;
                        prop_assert!(longest[who] <= size, "each sees history grow alone");
                        longest[who] = size;
                    }
                    _ => {}
                }
            }
            if let (Some((before, _)), Some((after, _))) = (&before, &store.value) {
                prop_assert_eq!(before.genesis_hash, after.genesis_hash);
                prop_assert!(before.protocol_info.history_size <= after.protocol_info.history_size);
            }
        }
        for _ in 0..40 {
            now += LOOK_EVERY;
            for who in 0..3 {
                if !is_over[who] {
                    let said = run(&mut settings[who], Event::Tick, &mut store, Weather::Fair, now);
                    is_over[who] |= said.iter().any(|action| matches!(action, Action::Refused(_)));
                }
            }
        }
        // Those of one chain are left, and agree.
        let left: Vec<_> = settings.iter().zip(is_over).filter(|(_, is_over)| !is_over).map(|(one, _)| one).collect();
        prop_assert!(left.iter().all(|one| one.agreed() == store.value.as_ref().map(|(info, _)| info)));
        prop_assert!(left.len() < 3);
    }
}
