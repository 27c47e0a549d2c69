//! The store has lost what is placed, and no controller knows it any more; the caches have it all the same.

use super::test_world::{ME, OTHER, at};
use super::*;

/// One that has just started beside a store that is empty but for a history of so many segments; its node has so many.
fn reborn(known: u64, history: u64) -> Segments {
    let mut segments = Segments::new(ME, 3, at(0));
    for event in [Event::Store(Word::Known(known)), Event::StoreRead, Event::History(history)] {
        assert_eq!(segments.on(event, at(0)), []);
    }
    segments
}

fn stretch(from_segment: u64, segments: u16) -> Stretch {
    Stretch { from_segment, segments }
}

fn seen(stretch: Stretch, placed: impl IntoIterator<Item = u64>) -> Event {
    Event::Seen { stretch, placed: placed.into_iter().collect() }
}

/// What is asked of the caches.
fn looks(actions: &[Action]) -> Vec<Stretch> {
    let look = |action: &Action| if let Action::Look(stretch) = action { Some(*stretch) } else { None };
    actions.iter().filter_map(look).collect()
}

#[test]
fn what_the_caches_have_is_marked_again_and_history_grows_over_it() {
    let mut segments = reborn(3, 6);
    segments.on(Event::Lease(Standing::Mine), at(0));
    let actions = segments.on(Event::Caches(2), at(0));
    assert_eq!(actions, [Action::Look(stretch(0, 6))]);
    let actions = segments.on(seen(stretch(0, 6), [0, 1, 2, 3, 5]), at(1));
    let marks = [0, 1, 2, 3, 5].map(|index| Action::Tell(Tell::Placed(index)));
    assert_eq!(actions, marks);
    for index in [0, 1, 2, 5] {
        segments.on(Event::Told(Tell::Placed(index)), at(1));
    }
    let actions = segments.on(Event::Told(Tell::Placed(3)), at(1));
    assert_eq!(actions, [Action::Tell(Tell::History(4))], "4 is in no cache");
    assert!(segments.is_safe(5) && !segments.is_safe(4));
}

#[test]
fn the_newest_segment_is_not_fetched_while_the_caches_have_it() {
    // Perhaps it was announced while nobody listened.
    let mut segments = reborn(6, 6);
    segments.on(Event::Lease(Standing::Mine), at(0));
    assert_eq!(segments.on(Event::Caches(1), at(0)), [Action::Look(stretch(0, 6))]);
    let actions = segments.on(seen(stretch(0, 6), 0..6), at(0));
    assert!(actions.iter().all(|action| matches!(action, Action::Tell(Tell::Placed(_)))), "{actions:?}");
    assert!(segments.live.is_empty());

    let mut segments = reborn(6, 6);
    segments.on(Event::Lease(Standing::Mine), at(0));
    segments.on(Event::Caches(1), at(0));
    let actions = segments.on(seen(stretch(0, 6), 0..5), at(0));
    assert_eq!(actions.last(), Some(&Action::Fetch(5)), "it is in no cache");

    // Announced, it is fetched at once, since the node soon has it no more; where that fails the caches are asked.
    let mut segments = reborn(6, 6);
    segments.on(Event::Lease(Standing::Mine), at(0));
    assert_eq!(segments.on(Event::Announced(5), at(0)), [Action::Fetch(5)]);
    assert_eq!(segments.on(Event::Caches(1), at(0)), [Action::Look(stretch(0, 5))]);
    segments.on(seen(stretch(0, 5), 0..5), at(0));
    segments.on(Event::Tick, at(1));
    let actions = segments.on(Event::NotFetched { index: 5, is_gone: true }, at(6));
    assert_eq!(looks(&actions), [stretch(0, 6)]);
    let actions = segments.on(seen(stretch(0, 6), [5]), at(7));
    assert_eq!(actions[..], [Action::Acknowledge(5), Action::Tell(Tell::Placed(5))]);
    assert!(segments.live.is_empty(), "nobody is told that it is missing");
}

#[test]
fn nothing_is_asked_while_nothing_is_missing_or_it_is_anothers_turn() {
    let mut segments = reborn(3, 4);
    segments.on(Event::Announced(3), at(0));
    (0..3).for_each(|index| drop(segments.on(Event::Store(Word::Placed(index)), at(0))));
    let actions = [Event::Caches(2), Event::Lease(Standing::Mine)].map(|event| segments.on(event, at(0)));
    assert_eq!(actions.map(|actions| looks(&actions)), [vec![], vec![]], "3 is being fetched");
    let actions = segments.on(Event::Announced(4), at(1));
    assert_eq!(looks(&actions), [], "a new segment");
    segments.on(Event::Store(Word::Held { index: 4, by: OTHER }), at(2));
    assert_eq!(looks(&segments.on(Event::Tick, at(2000))), [], "another has it and places it");

    for lease in [Standing::Theirs, Standing::Unknown] {
        let mut segments = reborn(3, 4);
        segments.on(Event::Caches(2), at(0));
        segments.on(Event::Lease(lease), at(0));
        assert_eq!(looks(&segments.on(Event::Tick, at(100))), [], "{lease:?}");
    }
}

#[test]
fn in_vain_it_is_asked_again_ever_more_seldom_and_at_once_when_a_cache_comes() {
    let mut segments = reborn(2, 2);
    segments.on(Event::Lease(Standing::Mine), at(0));
    segments.on(Event::Caches(1), at(0));
    let actions = segments.on(seen(stretch(0, 2), []), at(0));
    assert_eq!(actions, [Action::Fetch(1)]);
    segments.on(Event::NotFetched { index: 1, is_gone: true }, at(0));
    let mut asked = Vec::new();
    for second in 1..4000 {
        let mut actions = segments.on(Event::Tick, at(second));
        while let Some(action) = actions.pop() {
            let event = match action {
                Action::Look(stretch) => {
                    asked.push(second);
                    seen(stretch, [])
                }
                Action::Fetch(index) => Event::NotFetched { index, is_gone: true },
                _ => continue,
            };
            actions.extend(segments.on(event, at(second)));
        }
    }
    let pauses: Vec<_> = asked.windows(2).map(|both| both[1] - both[0]).collect();
    assert!(pauses.is_sorted() && pauses[0] < 15 && *pauses.last().unwrap() >= 600, "{asked:?}");
    assert_eq!(looks(&segments.on(Event::Caches(2), at(4001))), [stretch(0, 2)]);
}

#[test]
fn a_store_that_is_emptied_again_is_told_what_was_seen() {
    let mut segments = reborn(2, 2);
    segments.on(Event::Lease(Standing::Mine), at(0));
    segments.on(Event::Caches(1), at(0));
    segments.on(seen(stretch(0, 2), [0, 1]), at(1));
    segments.on(Event::StoreOpened, at(2));
    let actions = segments.on(Event::StoreRead, at(3));
    assert_eq!(actions, [], "the words to the one before are on their way");
    segments.on(Event::NotTold(Tell::Placed(0)), at(4));
    segments.on(Event::NotTold(Tell::Placed(1)), at(4));
    let actions = segments.on(Event::Tick, at(4) + TELL_PAUSE);
    assert_eq!(actions, [Action::Tell(Tell::Placed(0)), Action::Tell(Tell::Placed(1))]);
}
