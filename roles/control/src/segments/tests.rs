use super::test_world::{Fate, ME, OTHER, World, at, fate};
use super::*;
use proptest::prelude::*;

/// A controller whose store was read and has so many segments, with the lease or without.
fn ready(known: u64, lease: Standing) -> Segments {
    let mut segments = Segments::new(ME, 3, at(0));
    segments.placed = (0..known).fold(Ranges::default(), |mut placed, index| {
        placed.insert(index);
        placed
    });
    let mut words: Vec<_> = (0..known).map(|index| Event::Store(Word::Placed(index))).collect();
    words.extend([Event::Store(Word::Known(known)), Event::StoreRead, Event::Lease(lease)]);
    words.push(Event::History(known));
    for event in words {
        assert_eq!(segments.on(event, at(0)), []);
    }
    segments
}

fn announce(segments: &mut Segments, index: u64, now: Duration) -> Vec<Action> {
    let mut actions = segments.on(Event::Announced(index), now);
    actions.extend(segments.on(Event::History(index + 1), now));
    actions
}

#[test]
fn a_segment_is_fetched_held_acknowledged_placed_told_and_deleted_in_this_order() {
    let mut segments = ready(5, Standing::Mine);
    assert_eq!(announce(&mut segments, 5, at(1)), [Action::Fetch(5)]);
    assert_eq!(segments.on(Event::Fetched(5), at(9)), [Action::Spool(5)]);
    assert!(!segments.is_safe(5));
    let told = Action::Tell(Tell::Held(5));
    assert_eq!(segments.on(Event::Spooled(5), at(10)), [Action::Acknowledge(5), told]);
    assert_eq!(segments.on(Event::Acknowledged(5), at(10)), []);
    assert_eq!(segments.on(Event::Told(Tell::Held(5)), at(10)), []);
    assert_eq!(segments.first_unplaced(), Some(5));
    assert_eq!(segments.on(Event::Caches(2), at(11)), [Action::Place(5)]);
    assert_eq!(segments.on(Event::Placed(5), at(20)), [Action::Tell(Tell::Placed(5))]);
    let over = [Action::Delete(5), Action::Tell(Tell::NotHeld(5)), Action::Tell(Tell::History(6))];
    assert_eq!(segments.on(Event::Told(Tell::Placed(5)), at(20)), over);
    assert_eq!(segments.on(Event::Told(Tell::History(6)), at(20)), []);
    assert!(segments.live.is_empty() && segments.owed.is_empty());
}

#[test]
fn without_caches_nothing_grows_and_after_a_restart_all_is_placed() {
    let mut segments = ready(5, Standing::Mine);
    for index in [5, 6] {
        announce(&mut segments, index, at(index));
        segments.on(Event::Fetched(index), at(index));
        let actions = segments.on(Event::Spooled(index), at(index));
        assert!(actions.contains(&Action::Acknowledge(index)), "{actions:?}");
    }
    let mut again = ready(5, Standing::Unknown);
    let tells = again.on(Event::Found(vec![5, 6]), at(0));
    assert_eq!(tells, [Action::Tell(Tell::Held(5)), Action::Tell(Tell::Held(6))]);
    assert_eq!(again.on(Event::Caches(1), at(1)), [Action::Place(5)]);
    assert_eq!(again.on(Event::Placed(5), at(2)), [Action::Tell(Tell::Placed(5)), Action::Place(6)]);
    let actions = again.on(Event::Placed(6), at(3));
    assert_eq!(actions, [Action::Tell(Tell::Placed(6))]);
    assert_eq!(
        again.on(Event::Told(Tell::Placed(6)), at(3)),
        [Action::Delete(6), Action::Tell(Tell::NotHeld(6))],
        "not the history before 5 is told; the word that it is held may be on its way"
    );
    let actions = again.on(Event::Told(Tell::Placed(5)), at(3));
    assert_eq!(actions.last(), Some(&Action::Tell(Tell::History(7))));
}

#[test]
fn others_wait_for_the_holders_word_and_fetch_themselves_when_it_does_not_come() {
    let mut segments = ready(5, Standing::Theirs);
    assert_eq!(announce(&mut segments, 5, at(1)), []);
    let held = Event::Store(Word::Held { index: 5, by: OTHER });
    assert_eq!(segments.on(held.clone(), at(9)), [Action::Acknowledge(5)]);
    assert_eq!(segments.on(Event::Tick, at(100)), []);

    let mut segments = ready(5, Standing::Theirs);
    announce(&mut segments, 5, at(1));
    assert!(segments.wake_at().is_some_and(|at| at <= Duration::from_secs(1) + FETCH_PATIENCE));
    assert_eq!(segments.on(Event::Tick, at(1) + FETCH_PATIENCE), [Action::Fetch(5)]);

    let mut segments = ready(5, Standing::Theirs);
    announce(&mut segments, 5, at(1));
    assert_eq!(segments.on(Event::Lease(Standing::Mine), at(17)), [Action::Fetch(5)], "the lease lapsed");
    segments.on(Event::Fetched(5), at(20));
    segments.on(held, at(20));
    assert_eq!(segments.on(Event::Spooled(5), at(21)), [], "acknowledged before, told by the other");
    assert_eq!(segments.on(Event::Caches(1), at(21)), [Action::Place(5)], "the lease places");
}

#[test]
fn a_holder_that_dies_is_replaced_by_the_other_that_holds() {
    let mut segments = ready(5, Standing::Theirs);
    segments.on(Event::Caches(1), at(0));
    announce(&mut segments, 5, at(1));
    segments.on(Event::Tick, at(31));
    segments.on(Event::Fetched(5), at(33));
    segments.on(Event::Store(Word::Held { index: 5, by: OTHER }), at(33));
    assert_eq!(segments.on(Event::Spooled(5), at(34)), []);
    assert_eq!(segments.on(Event::Tick, at(1) + PLACE_PATIENCE), [Action::Place(5)]);
}

#[test]
fn an_emptied_store_is_told_everything_again() {
    let mut segments = ready(5, Standing::Mine);
    announce(&mut segments, 5, at(1));
    segments.on(Event::Fetched(5), at(2));
    segments.on(Event::Spooled(5), at(3));
    segments.on(Event::Told(Tell::Held(5)), at(3));
    assert_eq!(segments.on(Event::StoreOpened, at(9)), []);
    let actions = segments.on(Event::StoreRead, at(9));
    let marks = (0..5).map(|index| Action::Tell(Tell::Placed(index)));
    let expected: Vec<_> = [Action::Tell(Tell::Held(5))].into_iter().chain(marks).collect();
    assert_eq!(actions, expected);
    assert_eq!(segments.on(Event::NotTold(Tell::Held(5)), at(10)), []);
    assert_eq!(segments.on(Event::Tick, at(10) + TELL_PAUSE), [Action::Tell(Tell::Held(5))]);
}

#[test]
fn a_full_spool_is_told_once_and_placing_makes_room() {
    let mut segments = ready(5, Standing::Mine);
    for index in 5..8 {
        announce(&mut segments, index, at(index));
        segments.on(Event::Fetched(index), at(index));
        segments.on(Event::Spooled(index), at(index));
        segments.on(Event::Acknowledged(index), at(index));
        segments.on(Event::Told(Tell::Held(index)), at(index));
    }
    assert_eq!(announce(&mut segments, 8, at(8)), [Action::Note(Note::SpoolIsFull)]);
    assert_eq!(segments.on(Event::Tick, at(9)), [], "nothing acknowledged, nothing told twice");
    segments.on(Event::Caches(1), at(10));
    segments.on(Event::Placed(5), at(11));
    let actions = segments.on(Event::Told(Tell::Placed(5)), at(12));
    assert!(actions.contains(&Action::Fetch(8)), "{actions:?}");
    assert!(actions.contains(&Action::Note(Note::SpoolHasRoom)), "{actions:?}");
}

#[test]
fn what_the_disk_refuses_is_not_acknowledged_until_it_is_placed_or_taken() {
    let mut segments = ready(5, Standing::Mine);
    announce(&mut segments, 5, at(1));
    segments.on(Event::Fetched(5), at(2));
    assert_eq!(segments.on(Event::NotSpooled(5), at(3)), []);
    assert_eq!(segments.on(Event::Tick, at(5)), [Action::Spool(5)]);
    assert_eq!(segments.on(Event::NotSpooled(5), at(5)), []);
    assert_eq!(segments.on(Event::Caches(1), at(6)), [Action::Place(5)], "from memory");
    let actions = segments.on(Event::Placed(5), at(7));
    assert_eq!(actions, [Action::LetGo(5), Action::Acknowledge(5), Action::Tell(Tell::Placed(5))]);
}

#[test]
fn a_damaged_copy_is_withdrawn_and_fetched_again() {
    let mut segments = ready(5, Standing::Theirs);
    segments.on(Event::History(6), at(0));
    segments.on(Event::Found(vec![5]), at(0));
    segments.on(Event::Told(Tell::Held(5)), at(0));
    assert_eq!(segments.on(Event::Caches(1), at(0)), [Action::Place(5)]);
    let actions = segments.on(Event::Damaged(5), at(1));
    assert_eq!(actions, [Action::Tell(Tell::NotHeld(5)), Action::Fetch(5)]);
    assert!(!segments.is_safe(5));
    let gone = Event::NotFetched { index: 5, is_gone: true };
    assert_eq!(segments.on(gone.clone(), at(2)), []);
    segments.on(Event::Tick, at(150));
    segments.on(gone.clone(), at(150));
    segments.on(Event::Tick, at(170));
    assert_eq!(segments.on(gone, at(170)), [Action::Note(Note::Missing(5))]);
}

#[test]
fn old_segments_are_asked_for_by_the_lease_alone_and_calmly() {
    let mut segments = Segments::new(ME, 3, at(0));
    let first = [Event::Store(Word::Known(4)), Event::StoreRead, Event::History(4), Event::Caches(1)];
    first.into_iter().for_each(|event| assert_eq!(segments.on(event, at(0)), []));
    let stretch = Stretch { from_segment: 0, segments: 4 };
    let actions = segments.on(Event::Lease(Standing::Mine), at(0));
    assert_eq!(actions, [Action::Look(stretch)], "the caches may have all");
    let actions = segments.on(Event::Seen { stretch, placed: vec![] }, at(0));
    assert_eq!(actions, [Action::Fetch(3)], "the newest may be at hand");
    let gone = |index| Event::NotFetched { index, is_gone: true };
    assert_eq!(segments.on(gone(3), at(0)), []);
    let soon = Duration::from_millis(250);
    assert_eq!(segments.on(Event::Tick, soon), [Action::Fetch(0)]);
    assert_eq!(segments.on(Event::Fetched(0), soon), [Action::Spool(0)]);
    assert_eq!(segments.on(Event::Spooled(0), soon), [Action::Tell(Tell::Held(0)), Action::Place(0)]);
    segments.on(Event::Placed(0), soon);
    let actions = segments.on(Event::Told(Tell::Placed(0)), soon);
    assert_eq!(actions.last(), Some(&Action::Fetch(2)), "{actions:?}");
    assert_eq!(segments.on(gone(2), soon), []);
    assert_eq!(segments.on(Event::Lease(Standing::Theirs), at(1)), []);
}

/// Answers everything that one controller does until it waits, or until it has done `dies_after` things; whether it lives.
fn answer_all(
    world: &mut World,
    segments: &mut Segments,
    me: InstanceId,
    dies_after: &mut usize,
    now: Duration,
) -> bool {
    while !world.open.is_empty() {
        let Some(left) = dies_after.checked_sub(1) else { return false };
        *dies_after = left;
        let Some(event) = world.answer(0, true) else { continue };
        // The store's words carry names.
        if let Event::Told(Tell::Held(index)) = event {
            world.held.insert(index, me);
            world.claimed.insert(index);
        }
        world.take(segments.on(event, now));
    }
    true
}

#[test]
fn a_holder_of_the_lease_may_die_after_anything_that_it_did() {
    for steps in 0..9 {
        // The first has the lease, and dies after so many things done.
        let mut world = World {
            history: 6,
            known: 5,
            caches: (0..5).collect(),
            placed: (0..5).collect(),
            ..World::default()
        };
        let (mut first, mut left) = (ready(5, Standing::Mine), steps);
        world.take(first.on(Event::Caches(2), at(0)));
        world.take(announce(&mut first, 5, at(1)));
        let lives = answer_all(&mut world, &mut first, ME, &mut left, at(2));
        let spool_of_first = std::mem::take(&mut world.spool);
        world.acknowledged.clear();
        (world.open, world.memory) = (Vec::new(), None);

        // The second hears of it what the store has, and gets the lease in time.
        let mut second = Segments::new(OTHER, 3, at(0));
        let events =
            world.read_store().into_iter().chain([Event::History(6), Event::Caches(2), Event::Announced(5)]);
        for event in events.chain([Event::Lease(Standing::Theirs)]).collect::<Vec<_>>() {
            world.take(second.on(event, at(2)));
        }
        answer_all(&mut world, &mut second, OTHER, &mut usize::MAX.clone(), at(2));
        world.take(second.on(Event::Lease(Standing::Mine), at(20)));
        answer_all(&mut world, &mut second, OTHER, &mut usize::MAX.clone(), at(20));
        assert!(world.acknowledged.contains(&5), "after {steps}: its node waits");

        // What only the first held is placed when it is back.
        world.spool = spool_of_first;
        let mut again = world.restart(at(30));
        for event in world.read_store().into_iter().chain([Event::Caches(2)]) {
            world.take(again.on(event, at(30)));
        }
        answer_all(&mut world, &mut again, ME, &mut usize::MAX.clone(), at(30));
        assert!(
            world.caches.contains(&5) && world.known == 6 && world.spool.is_empty(),
            "after {steps}: {lives}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_is_lost_and_in_fair_weather_all_is_placed_and_known(fates in prop::collection::vec(fate(), 0..200)) {
        let mut world = World { history: 1, known: 1, ..World::default() };
        let mut now = at(0);
        let mut segments = world.restart(now);
        for fate in fates {
            if let Fate::Wait { ms } = fate {
                now += Duration::from_millis(ms);
            }
            if let Fate::Restart = fate {
                segments = world.restart(now);
            }
            for event in world.events_of(fate) {
                let actions = segments.on(event, now);
                world.take(actions);
                prop_assert!(segments.live.len() <= LIVE_MAX && segments.telling.len() <= TELLS_MAX);
            }
        }
        // The other controller is as good as its word, or withdraws it.
        for index in std::mem::take(&mut world.held).into_keys() {
            world.take(segments.on(Event::Store(Word::NotHeld(index)), now));
        }
        let fair = [Event::Caches(3), Event::Lease(Standing::Mine), Event::Began];
        for event in world.read_store().into_iter().chain(fair) {
            world.take(segments.on(event, now));
        }
        for _ in 0..5000 {
            while let Some(event) = world.answer(0, true) {
                world.take(segments.on(event, now));
            }
            now = segments.wake_at().unwrap_or(now + at(1)).max(now + Duration::from_millis(1));
            world.take(segments.on(Event::Tick, now));
            let is_all_placed = (0..world.history).all(|index| world.caches.contains(&index));
            let is_idle = world.open.is_empty() && world.spool.is_empty() && segments.owed.is_empty();
            if is_all_placed && is_idle && world.known == world.history {
                break;
            }
        }
        prop_assert_eq!(world.known, world.history);
        prop_assert!((0..world.history).all(|index| world.caches.contains(&index)));
        prop_assert!(segments.owed.is_empty() && segments.live.is_empty(), "{:?}", segments);
    }
}
