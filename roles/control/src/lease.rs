//! Who does what one alone should do: a key that its holder writes anew all the time, and that others take over when it has not
//! changed for long.
//!
//! ```text
//!             ┌── read: nothing, or not changed for the limit ──▶ write my name ─┐
//!   Unknown ──┤                                                                 ├─ done ──▶ Mine ─ renewed in time ─▶ Mine
//!             └── read: another's, changing ──▶ Theirs                           │            └── not renewed ──▶ Unknown
//!                                                                              └─ conflict, unknown: read again
//! ```
//! Owns: when the key is read and written, and whose the lease is as far as this member can know. Never: a promise that there is
//! one holder alone. A holder that was cut off believes for up to the limit what is not so any more, so only work that may be
//! done twice is given out by lease. Whether a lease lapsed is timed by the clock of who watches, from the last *change* seen;
//! an emptied store is a lease that nobody has.

use std::time::Duration;

use crate::ids::InstanceId;
use crate::messages::Lease;
use crate::store::{Expect, Found, Wrote};

/// How often the key is read, and written by its holder.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);
/// A lease whose key has not changed for this long may be taken by others: several renewals, so that a store without a leader
/// for some seconds changes nothing.
pub const LAPSES_AFTER: Duration = Duration::from_secs(15);
/// An answer of the store that has not come for this long never comes.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Whose the lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// This member's.
    Mine,
    /// Another's, which renews it.
    Theirs,
    /// Nobody's, or the store does not answer.
    Unknown,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The key was read.
    Read(Found<Lease>),
    /// It could not be read.
    NotRead,
    /// What came of the write.
    Wrote(Wrote),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read the key.
    Read,
    /// Write the key if that holds.
    Write {
        /// The value.
        lease: Lease,
        /// What must hold.
        expect: Expect,
    },
}

/// What was seen of the key, and since when.
#[derive(Debug, Clone, Copy)]
struct Seen {
    revision: u64,
    is_mine: bool,
    changed_at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Read(Duration),
    Write(Duration),
}

/// One member's part in one lease.
#[derive(Debug)]
pub struct LeaseKeeper {
    me: InstanceId,
    host: String,
    seen: Option<Seen>,
    /// Highest seen.
    term: u64,
    /// That of the last write.
    written: u64,
    asked: Asked,
    look_at: Duration,
    /// Until when nobody else may have taken it, counted from when the last write that succeeded was begun.
    mine_until: Duration,
    /// When the key was last read.
    read_at: Option<Duration>,
    now: Duration,
}

impl LeaseKeeper {
    /// A member that knows nothing of the lease yet.
    pub fn new(me: InstanceId, host: String) -> Self {
        let (look_at, mine_until, now) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let (seen, term, written, asked, read_at) = (None, 0, 0, Asked::Nothing, None);
        Self { me, host, seen, term, written, asked, look_at, mine_until, read_at, now }
    }

    /// Whose it is now.
    pub fn standing(&self, now: Duration) -> Standing {
        if now < self.mine_until {
            return Standing::Mine;
        }
        let is_heard = self.read_at.is_some_and(|at| now.saturating_sub(at) < LAPSES_AFTER);
        match self.seen {
            Some(seen) if is_heard && !seen.is_mine && !is_lapsed(&seen, now) => Standing::Theirs,
            _ => Standing::Unknown,
        }
    }

    /// When [`Event::Tick`] is due.
    pub fn wake_at(&self) -> Option<Duration> {
        let answer_by = match self.asked {
            Asked::Nothing => return Some(self.look_at),
            Asked::Read(since) | Asked::Write(since) => since + ANSWER_LIMIT,
        };
        Some(answer_by)
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        self.now = now;
        match event {
            Event::Tick => self.tick(),
            Event::Read(found) if matches!(self.asked, Asked::Read(_)) => self.read(&found),
            Event::NotRead if matches!(self.asked, Asked::Read(_)) => self.rest(),
            Event::Wrote(wrote) => self.wrote(wrote),
            // An answer that nobody waits for any more: it is as old as nobody knows.
            Event::Read(_) | Event::NotRead => Vec::new(),
        }
    }

    fn tick(&mut self) -> Vec<Action> {
        match self.asked {
            Asked::Read(since) | Asked::Write(since) if self.now < since + ANSWER_LIMIT => return Vec::new(),
            Asked::Nothing if self.now < self.look_at => return Vec::new(),
            _ => {}
        }
        self.asked = Asked::Read(self.now);
        vec![Action::Read]
    }

    fn rest(&mut self) -> Vec<Action> {
        self.asked = Asked::Nothing;
        self.look_at = self.now + RENEW_EVERY;
        Vec::new()
    }

    fn read(&mut self, found: &Found<Lease>) -> Vec<Action> {
        self.read_at = Some(self.now);
        let (revision, lease) = match found {
            Found::Nothing => {
                self.seen = None;
                return self.write(Expect::Absent, self.term.saturating_add(1));
            }
            Found::Value(lease, revision) => (*revision, Some(lease)),
            // Of another release: whoever writes it changes it, like everybody.
            Found::Unreadable(revision) => (*revision, None),
        };
        self.term = self.term.max(lease.map_or(0, |lease| lease.term));
        let is_mine = lease.is_some_and(|lease| lease.holder == self.me);
        let is_same = self.seen.is_some_and(|seen| seen.revision == revision);
        let changed_at = self.seen.filter(|_| is_same).map_or(self.now, |seen| seen.changed_at);
        let seen = Seen { revision, is_mine, changed_at };
        self.seen = Some(seen);
        if is_mine {
            self.write(Expect::Revision(revision), self.term)
        } else if is_lapsed(&seen, self.now) {
            self.write(Expect::Revision(revision), self.term.saturating_add(1))
        } else {
            // Another has taken it, whatever was believed here.
            self.mine_until = Duration::ZERO;
            self.rest()
        }
    }

    fn write(&mut self, expect: Expect, term: u64) -> Vec<Action> {
        self.asked = Asked::Write(self.now);
        self.written = term;
        vec![Action::Write { lease: Lease { holder: self.me, host: self.host.clone(), term }, expect }]
    }

    fn wrote(&mut self, wrote: Wrote) -> Vec<Action> {
        let Asked::Write(since) = self.asked else { return Vec::new() };
        match wrote {
            Wrote::Done(revision) => {
                self.mine_until = since + LAPSES_AFTER;
                self.term = self.term.max(self.written);
                self.seen = Some(Seen { revision, is_mine: true, changed_at: self.now });
            }
            Wrote::Conflict => self.mine_until = Duration::ZERO,
            Wrote::Unknown => {}
        }
        self.rest()
    }
}

fn is_lapsed(seen: &Seen, now: Duration) -> bool {
    now.saturating_sub(seen.changed_at) >= LAPSES_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEP: Duration = Duration::from_millis(500);

    /// A store with one key, as a real one is: it may fail, lose answers, be emptied, and be read late.
    #[derive(Default)]
    struct Store {
        value: Option<(Lease, u64)>,
        older: Option<(Lease, u64)>,
        revisions: u64,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Weather {
        Fair,
        /// Nothing answers.
        Away,
        /// Writes are done, their answers are lost.
        Deaf,
        /// Reads show what was there before the last write.
        Stale,
    }

    impl Store {
        fn answer(&mut self, action: &Action, weather: Weather) -> Option<Event> {
            match action {
                _ if weather == Weather::Away => Some(match action {
                    Action::Read => Event::NotRead,
                    Action::Write { .. } => Event::Wrote(Wrote::Unknown),
                }),
                Action::Read => {
                    let value = if weather == Weather::Stale { &self.older } else { &self.value };
                    Some(Event::Read(
                        value.clone().map_or(Found::Nothing, |(lease, at)| Found::Value(lease, at)),
                    ))
                }
                Action::Write { lease, expect } => {
                    let present = self.value.as_ref().map_or(Expect::Absent, |(_, at)| Expect::Revision(*at));
                    if present != *expect {
                        return Some(Event::Wrote(Wrote::Conflict));
                    }
                    self.revisions += 1;
                    self.older = self.value.replace((lease.clone(), self.revisions));
                    (weather != Weather::Deaf).then_some(Event::Wrote(Wrote::Done(self.revisions)))
                }
            }
        }
    }

    fn step(keeper: &mut LeaseKeeper, store: &mut Store, weather: Weather, now: Duration) {
        let mut actions = keeper.on(Event::Tick, now);
        while let Some(action) = actions.pop() {
            if let Some(event) = store.answer(&action, weather) {
                actions.extend(keeper.on(event, now));
            }
        }
    }

    fn keeper(n: u8) -> LeaseKeeper {
        LeaseKeeper::new(InstanceId([n; 16]), format!("host-{n}"))
    }

    #[test]
    fn one_has_it_and_another_takes_over_after_the_limit() {
        let (mut store, mut a, mut b) = (Store::default(), keeper(1), keeper(2));
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(60) {
            step(&mut a, &mut store, Weather::Fair, now);
            step(&mut b, &mut store, Weather::Fair, now);
            assert_eq!((a.standing(now), b.standing(now)), (Standing::Mine, Standing::Theirs), "{now:?}");
            now += STEP;
        }
        let died_at = now;
        while b.standing(now) != Standing::Mine {
            assert!(now < died_at + LAPSES_AFTER + 2 * RENEW_EVERY, "taken in time");
            step(&mut b, &mut store, Weather::Fair, now);
            now += STEP;
        }
        assert!(now >= died_at + LAPSES_AFTER - RENEW_EVERY, "not before its time");
        assert_eq!(store.value.as_ref().unwrap().0.term, 2);
        step(&mut a, &mut store, Weather::Fair, now);
        assert_eq!(a.standing(now), Standing::Theirs, "it came back too late");
    }

    #[test]
    fn a_store_that_answers_nothing_is_nobodys_and_an_emptied_one_is_filled_again() {
        let (mut store, mut a) = (Store::default(), keeper(1));
        step(&mut a, &mut store, Weather::Fair, Duration::ZERO);
        let mut now = Duration::ZERO;
        while now < LAPSES_AFTER {
            assert_eq!(a.standing(now), Standing::Mine);
            step(&mut a, &mut store, Weather::Away, now);
            now += STEP;
        }
        assert_eq!(a.standing(now), Standing::Unknown);
        store = Store::default();
        step(&mut a, &mut store, Weather::Fair, now + RENEW_EVERY);
        assert_eq!(a.standing(now + RENEW_EVERY), Standing::Mine);
        assert_eq!(store.value.unwrap().0.term, 2, "terms go on");
    }

    #[test]
    fn garbage_is_another_holder_until_it_stops_changing() {
        let mut a = keeper(1);
        let mut now = Duration::ZERO;
        assert_eq!(a.on(Event::Tick, now), [Action::Read]);
        assert_eq!(a.on(Event::Read(Found::Unreadable(7)), now), []);
        assert_eq!(a.standing(now), Standing::Theirs);
        loop {
            now += RENEW_EVERY;
            assert_eq!(a.on(Event::Tick, now), [Action::Read]);
            let actions = a.on(Event::Read(Found::Unreadable(7)), now);
            if now >= LAPSES_AFTER {
                assert!(
                    matches!(&actions[..], [Action::Write { expect: Expect::Revision(7), .. }]),
                    "{actions:?}"
                );
                return;
            }
            assert_eq!(actions, []);
        }
    }

    proptest! {
        #[test]
        fn whatever_the_store_does_one_has_it_soon_after(
            faults in prop::collection::vec((0usize..3, 0usize..4, prop::bool::weighted(0.03)), 0..400),
        ) {
            let (mut store, mut keepers) = (Store::default(), [keeper(1), keeper(2), keeper(3)]);
            let weathers = [Weather::Fair, Weather::Away, Weather::Deaf, Weather::Stale];
            let mut now = Duration::ZERO;
            for (who, weather, is_emptied) in faults {
                if is_emptied {
                    store = Store::default();
                }
                step(&mut keepers[who], &mut store, weathers[weather], now);
                now += STEP;
            }
            let settled_at = now + 2 * LAPSES_AFTER + ANSWER_LIMIT;
            while now < settled_at + Duration::from_secs(20) {
                keepers.iter_mut().for_each(|keeper| step(keeper, &mut store, Weather::Fair, now));
                let mine = keepers.iter().filter(|keeper| keeper.standing(now) == Standing::Mine).count();
                prop_assert!(now < settled_at || mine == 1, "{mine} at {now:?}");
                prop_assert!(keepers.iter().all(|keeper| keeper.wake_at().is_some()));
                now += STEP;
            }
        }

        #[test]
        fn no_answer_in_any_order_makes_it_mine_without_a_write(answers in prop::collection::vec(0u8..6, 0..100)) {
            let mut keeper = keeper(1);
            let mut now = Duration::ZERO;
            let mut is_writing = false;
            for answer in answers {
                let lease = Lease { holder: InstanceId([9; 16]), host: String::new(), term: 3 };
                let event = match answer {
                    0 => Event::Tick,
                    1 => Event::Read(Found::Nothing),
                    2 => Event::Read(Found::Value(lease, 4)),
                    3 => Event::NotRead,
                    4 => Event::Wrote(Wrote::Conflict),
                    _ => Event::Wrote(Wrote::Done(9)),
                };
                let is_done = matches!(event, Event::Wrote(Wrote::Done(_)));
                let actions = keeper.on(event, now);
                prop_assert!(keeper.standing(now) != Standing::Mine || is_writing);
                if is_done && keeper.standing(now) == Standing::Mine {
                    return Ok(());
                }
                is_writing |= actions.iter().any(|action| matches!(action, Action::Write { .. }));
                prop_assert!(actions.len() <= 1);
                now += STEP;
            }
        }
    }
}
