use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    Limits { most_pieces: 40, at_once: 8, ..Limits::default() }
}

/// A sector whose blocks hold parts of some records each, of which some are damaged.
#[derive(Debug, Clone)]
struct Sector {
    records: u16,
    /// Records that lie in a block, and those of them that are damaged there.
    blocks: Vec<(BTreeSet<u16>, BTreeSet<u16>)>,
}

impl Sector {
    fn damaged(&self) -> BTreeSet<u16> {
        self.blocks.iter().flat_map(|(_, damaged)| damaged).copied().collect()
    }

    fn compare(&self, fetched: &BTreeSet<u16>) -> Event {
        if self.damaged().is_subset(fetched) {
            return Event::Right;
        }
        let seen = self.blocks.iter().filter(|(_, damaged)| !damaged.is_disjoint(fetched));
        Event::Suspects(seen.flat_map(|(records, _)| records).copied().collect())
    }

    fn search(&self, records: &[u16], fetched: &BTreeSet<u16>) -> Event {
        let damaged = self.damaged();
        if damaged.is_subset(fetched) {
            return Event::Right;
        }
        Event::Suspects(records.iter().filter(|record| damaged.contains(record)).copied().collect())
    }
}

/// How it ends, what was fetched, and when.
fn run(
    sector: &Sector,
    named: Option<u16>,
    gives: impl Fn(u16, Duration) -> bool,
) -> (Action, BTreeSet<u16>, Vec<Duration>) {
    let (mut now, mut fetched, mut times) = (SECOND, BTreeSet::new(), Vec::new());
    let (mut rebuild, mut action) = Rebuild::begin(sector.records, BTreeSet::new(), named, limits(), now);
    let mut searched = BTreeSet::new();
    for _ in 0..1000 {
        let event = match &action {
            Action::Fetch { record, at } => {
                assert!(*at >= now && !fetched.contains(record));
                now = *at;
                if gives(*record, now) {
                    fetched.insert(*record);
                    times.push(now);
                    Event::Fetched
                } else {
                    Event::NotFetched("away".into())
                }
            }
            Action::Compare => sector.compare(&fetched),
            Action::Search(records) => {
                assert!(!records.is_empty() && records.len() <= usize::from(limits().at_once));
                assert!(records.iter().all(|record| searched.insert(*record)), "searched once");
                sector.search(records, &fetched)
            }
            Action::Write | Action::GiveUp(_) => {
                assert_eq!(rebuild.pieces(), fetched.len());
                return (action, fetched, times);
            }
        };
        now += Duration::from_millis(100);
        action = rebuild.on(event, now);
    }
    panic!("it does not end: {action:?}");
}

fn any_sector() -> impl Strategy<Value = Sector> {
    (1u16..60).prop_flat_map(|records| {
        let some = prop::collection::btree_set(0..records, 1..12);
        let block = (some, any::<prop::sample::Index>()).prop_map(|(all, split)| {
            let damaged = 1 + split.index(all.len());
            let damaged = all.iter().copied().take(damaged).collect();
            (all, damaged)
        });
        prop::collection::vec(block, 1..5).prop_map(move |blocks| Sector { records, blocks })
    })
}

proptest! {
    #[test]
    fn what_is_damaged_is_fetched_or_it_is_given_up(sector in any_sector(), is_named in any::<bool>()) {
        let named = sector.damaged().first().copied().filter(|_| is_named);
        let (end, fetched, times) = run(&sector, named, |_, _| true);
        prop_assert!(fetched.len() <= usize::from(limits().most_pieces));
        prop_assert!(times.windows(2).all(|two| two[1] - two[0] >= limits().pace));
        let suspects: BTreeSet<u16> = sector.blocks.iter().flat_map(|(all, _)| all).copied().collect();
        if suspects.len() <= usize::from(limits().most_pieces) {
            prop_assert_eq!(&end, &Action::Write);
        }
        match end {
            Action::Write => prop_assert!(sector.damaged().is_subset(&fetched)),
            end => prop_assert_eq!(end, Action::GiveUp(GivenUp::TooMuch)),
        }
    }

    #[test]
    fn pieces_that_come_late_or_never_end_it_in_time(sector in any_sector(), away_s in 0u64..200) {
        let back = SECOND * away_s as u32;
        let (end, _, times) = run(&sector, None, |_, now| now >= back);
        match end {
            Action::GiveUp(GivenUp::NoPiece(why)) => prop_assert!(why == "away" && times.is_empty() && away_s > 40),
            end => prop_assert!(end == Action::Write || end == Action::GiveUp(GivenUp::TooMuch)),
        }
        if away_s > 70 {
            prop_assert!(times.is_empty());
        }
    }
}

#[test]
fn a_wrong_checksum_of_good_records_is_given_up_when_all_were_searched() {
    let (mut rebuild, mut action) = Rebuild::begin(20, BTreeSet::new(), None, limits(), SECOND);
    let mut searched = Vec::new();
    while let Action::Search(records) = action {
        searched.extend(records);
        action = rebuild.on(Event::Suspects(BTreeSet::new()), SECOND);
    }
    assert_eq!(action, Action::GiveUp(GivenUp::NotFound));
    // Everywhere from the beginning: those of a block are neighbours.
    let mut first = searched[..4].to_vec();
    first.sort_unstable();
    assert_eq!(first, [0, 4, 8, 16]);
    searched.sort_unstable();
    assert!(searched.into_iter().eq(0..20));
}

#[test]
fn what_the_contents_map_lacks_comes_before_anything_is_compared() {
    let needed: BTreeSet<_> = (10..18).collect();
    let (mut rebuild, mut action) = Rebuild::begin(20, needed.clone(), Some(3), limits(), SECOND);
    let mut asked = BTreeSet::new();
    while let Action::Fetch { record, at } = action {
        asked.insert(record);
        action = rebuild.on(Event::Fetched, at);
    }
    assert_eq!((action, asked), (Action::Compare, needed));
    let many = (0..9).collect();
    assert_eq!(Rebuild::begin(20, many, None, limits(), SECOND).1, Action::GiveUp(GivenUp::TooMuch));
}

#[test]
fn it_does_not_go_on_for_ever_but_ends_well_where_it_is_right_at_last() {
    let late = SECOND + limits().within + SECOND;
    let begin = || Rebuild::begin(20, BTreeSet::new(), Some(3), limits(), SECOND).0;
    assert_eq!(begin().on(Event::Fetched, late), Action::GiveUp(GivenUp::TooLong));
    assert_eq!(begin().on(Event::Right, late), Action::Write);
    assert_eq!(begin().on(Event::TooMuch, SECOND), Action::GiveUp(GivenUp::TooMuch));
}
