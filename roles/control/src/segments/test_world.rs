//! The world around one controller, for tests: disk, caches and store as they really are, and what may befall them.

use super::*;
use proptest::prelude::*;

pub const ME: InstanceId = InstanceId([1; 16]);
pub const OTHER: InstanceId = InstanceId([2; 16]);

pub fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a script may do to a controller. Answers come only to what was asked.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    Answer { which: usize, is_good: bool },
    Announce,
    Began,
    Lease(u8),
    Caches(u8),
    HeldByOther { back: u64, is_over: bool },
    PlacedByOther { back: u64 },
    EmptyStore,
    ReadStore,
    Wait { ms: u64 },
    Damage { which: usize },
    Restart,
}

pub fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, is_good)| Fate::Answer { which, is_good }),
        2 => Just(Fate::Announce),
        1 => Just(Fate::Began),
        1 => (0u8..3).prop_map(Fate::Lease),
        1 => (0u8..3).prop_map(Fate::Caches),
        1 => (1u64..4, any::<bool>()).prop_map(|(back, is_over)| Fate::HeldByOther { back, is_over }),
        1 => (1u64..4).prop_map(|back| Fate::PlacedByOther { back }),
        1 => Just(Fate::EmptyStore),
        2 => Just(Fate::ReadStore),
        4 => (0u64..40_000).prop_map(|ms| Fate::Wait { ms }),
        1 => any::<usize>().prop_map(|which| Fate::Damage { which }),
        1 => Just(Fate::Restart),
    ]
}

/// The world around one controller: what really is on its disk, in the caches and in the store.
#[derive(Default)]
pub struct World {
    pub history: u64,
    pub spool: BTreeSet<u64>,
    pub memory: Option<u64>,
    pub caches: BTreeSet<u64>,
    pub held: BTreeMap<u64, InstanceId>,
    pub placed: BTreeSet<u64>,
    pub known: u64,
    /// Claims of the other, ever: what may have been relied on.
    pub claimed: BTreeSet<u64>,
    pub acknowledged: BTreeSet<u64>,
    pub open: Vec<Action>,
}

impl World {
    /// Checks what the controller does, and keeps what wants an answer.
    pub fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Acknowledge(index) => {
                    let is_held = self.spool.contains(&index)
                        || self.caches.contains(&index)
                        || self.claimed.contains(&index);
                    assert!(is_held, "{index} is acknowledged and nobody holds it");
                    self.acknowledged.insert(index);
                }
                Action::Delete(index) => {
                    assert!(self.caches.contains(&index), "{index} is deleted and in no cache");
                    assert!(self.spool.remove(&index), "{index} is deleted and was not there");
                    continue;
                }
                Action::Tell(Tell::Placed(index)) => assert!(self.caches.contains(&index)),
                Action::Tell(Tell::Held(index)) => assert!(self.spool.contains(&index)),
                Action::Tell(Tell::History(segments)) => {
                    assert!(segments > self.known.min(1));
                    assert!((self.known..segments).all(|index| self.caches.contains(&index)), "{segments}");
                }
                Action::Fetch(index) => {
                    assert!(index < self.history && self.memory.is_none());
                    assert!(!self.open.iter().any(|open| matches!(open, Action::Fetch(_))));
                    assert!(self.spool.len() < 3, "the spool is full");
                }
                Action::Spool(index) => assert_eq!(self.memory, Some(index)),
                Action::Place(index) => {
                    assert!(self.memory == Some(index) || self.spool.contains(&index));
                    assert!(!self.open.iter().any(|open| matches!(open, Action::Place(_))));
                }
                Action::Look(stretch) => {
                    assert!(stretch.from_segment < self.history && stretch.segments <= LOOK_SEGMENTS_MAX);
                    assert!(!self.open.iter().any(|open| matches!(open, Action::Look(_))));
                }
                Action::LetGo(index) => {
                    assert_eq!(self.memory.take(), Some(index));
                    continue;
                }
                Action::Note(_) => continue,
                Action::Tell(Tell::NotHeld(index)) => {
                    self.held.retain(|held, by| *held != index || *by != ME);
                    continue;
                }
            }
            self.open.push(action);
        }
    }

    pub fn answer(&mut self, which: usize, is_good: bool) -> Option<Event> {
        if self.open.is_empty() {
            return None;
        }
        let action = self.open.remove(which % self.open.len());
        Some(match action {
            Action::Fetch(index) if is_good => {
                self.memory = Some(index);
                Event::Fetched(index)
            }
            Action::Fetch(index) => Event::NotFetched { index, is_gone: which.is_multiple_of(2) },
            Action::Spool(index) if is_good => {
                self.memory = None;
                self.spool.insert(index);
                Event::Spooled(index)
            }
            Action::Spool(index) => Event::NotSpooled(index),
            Action::Place(index) if is_good => {
                self.caches.insert(index);
                Event::Placed(index)
            }
            Action::Place(index) => Event::NotPlaced(index),
            Action::Look(stretch) => {
                let held = self.caches.iter().copied().filter(|index| is_good && stretch.contains(*index));
                Event::Seen { stretch, placed: held.collect() }
            }
            Action::Acknowledge(index) if is_good => Event::Acknowledged(index),
            Action::Acknowledge(index) => Event::NotAcknowledged(index),
            Action::Tell(tell) if is_good => {
                match tell {
                    Tell::Held(index) => drop(self.held.insert(index, ME)),
                    Tell::Placed(index) => drop(self.placed.insert(index)),
                    Tell::History(segments) => self.known = self.known.max(segments),
                    Tell::NotHeld(_) => {}
                }
                Event::Told(tell)
            }
            Action::Tell(tell) => Event::NotTold(tell),
            _ => return None,
        })
    }

    pub fn read_store(&self) -> Vec<Event> {
        let held = self.held.iter().map(|(index, by)| Word::Held { index: *index, by: *by });
        let placed = self.placed.iter().map(|index| Word::Placed(*index));
        let words = held.chain(placed).chain([Word::Known(self.known)]).map(Event::Store);
        [Event::StoreOpened].into_iter().chain(words).chain([Event::StoreRead]).collect()
    }

    pub fn events_of(&mut self, fate: Fate) -> Vec<Event> {
        match fate {
            Fate::Answer { which, is_good } => self.answer(which, is_good).into_iter().collect(),
            Fate::Announce => {
                self.history += 1;
                vec![Event::History(self.history), Event::Announced(self.history - 1)]
            }
            Fate::Began => vec![Event::Began],
            Fate::Lease(n) => {
                let standings = [Standing::Mine, Standing::Theirs, Standing::Unknown];
                vec![Event::Lease(standings[usize::from(n)])]
            }
            Fate::Caches(count) => vec![Event::Caches(count.into())],
            Fate::HeldByOther { back, is_over } => {
                let index = self.history.saturating_sub(back);
                if is_over {
                    self.held.remove(&index);
                    return vec![Event::Store(Word::NotHeld(index))];
                }
                self.held.insert(index, OTHER);
                self.claimed.insert(index);
                vec![Event::Store(Word::Held { index, by: OTHER })]
            }
            Fate::PlacedByOther { back } => {
                let index = self.history.saturating_sub(back);
                self.placed.insert(index);
                self.caches.insert(index);
                vec![Event::Store(Word::Placed(index))]
            }
            Fate::EmptyStore => {
                self.held.clear();
                self.placed.clear();
                Vec::new()
            }
            Fate::ReadStore => self.read_store(),
            Fate::Damage { which } => {
                let index = (!self.spool.is_empty()).then(|| which % self.spool.len());
                let index = index.and_then(|at| self.spool.iter().nth(at).copied());
                let Some(index) = index else { return Vec::new() };
                self.spool.remove(&index);
                self.open.retain(|open| *open != Action::Place(index));
                vec![Event::Damaged(index)]
            }
            Fate::Wait { .. } | Fate::Restart => vec![Event::Tick],
        }
    }

    pub fn restart(&mut self, now: Duration) -> Segments {
        (self.open, self.memory) = (Vec::new(), None);
        let mut segments = Segments::new(ME, 3, now);
        let events = [Event::Found(self.spool.iter().copied().collect()), Event::History(self.history)];
        events.into_iter().for_each(|event| self.take(segments.on(event, now)));
        segments
    }
}
