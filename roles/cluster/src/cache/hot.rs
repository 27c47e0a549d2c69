//! Which items stay in memory: a queue that forgives a scan (S3-FIFO, Yang et al., SOSP 2023).
//!
//! ```text
//!   insert ─▶ probation, a tenth ── nobody asked again ─▶ ghosts: their ids alone
//!                │ asked again                               │ inserted again
//!                ▼                                           │
//!   is_hot ─▶  main  ◀───────────────────────────────────────┘      oldest of main: asked again ─▶ its end, once less; else out
//! ```
//! Whoever reads every item once, as a cache that fills, passes through probation, and main stays as it is. Nothing is moved when an item is
//! asked for, only counted.
//!
//! Owns: the order in which items go. Never: whether one may still be given; what it keeps may be anything that is dropped when it goes.

use std::collections::{BTreeMap, HashMap};

use engine::piece_store::ItemId;

/// Requests for an item that count: as often may it pass the end of main unasked.
const HITS_MAX: u8 = 3;
/// One in so many places is on probation.
const PROBATION_SHARE: usize = 10;

/// At most `capacity` items, of which the coldest goes when another comes.
#[derive(Debug)]
pub struct Hot<V> {
    capacity: usize,
    kept: HashMap<ItemId, Kept<V>>,
    probation: Line,
    main: Line,
    ghosts: Line,
    ghost_turns: HashMap<ItemId, u64>,
    turns: u64,
}

#[derive(Debug)]
struct Kept<V> {
    value: V,
    /// Its place in its line.
    turn: u64,
    is_in_main: bool,
    hits: u8,
}

/// Ids, the oldest first.
type Line = BTreeMap<u64, ItemId>;

impl<V> Hot<V> {
    /// Of so many items; of none it keeps nothing.
    pub fn new(capacity: usize) -> Self {
        let (kept, ghost_turns) = Default::default();
        let (probation, main, ghosts) = Default::default();
        Self { capacity, kept, probation, main, ghosts, ghost_turns, turns: 0 }
    }

    /// Items in memory.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// An item that is here, and that it was asked for.
    pub fn get(&mut self, id: ItemId) -> Option<&V> {
        let kept = self.kept.get_mut(&id)?;
        kept.hits = (kept.hits + 1).min(HITS_MAX);
        Some(&kept.value)
    }

    /// Keeps an item, in place of an earlier one of its id. One that `is_hot` need not prove it.
    pub fn insert(&mut self, id: ItemId, value: V, is_hot: bool) {
        if self.capacity == 0 {
            return;
        }
        let was_in_main = self.take(id).is_some_and(|before| before.is_in_main);
        let was_ghost = self.ghost_turns.remove(&id).is_some_and(|turn| self.ghosts.remove(&turn).is_some());
        while self.kept.len() >= self.capacity {
            self.evict();
        }
        let is_in_main = is_hot || was_in_main || was_ghost;
        let turn = self.turn();
        if is_in_main { &mut self.main } else { &mut self.probation }.insert(turn, id);
        self.kept.insert(id, Kept { value, turn, is_in_main, hits: 0 });
    }

    /// Forgets an item; true if it was here.
    pub fn remove(&mut self, id: ItemId) -> bool {
        self.take(id).is_some()
    }

    /// Lets go the oldest item on probation that nobody has asked for again; false if there is none. What has proved hot stays.
    pub fn give_back(&mut self) -> bool {
        while let Some((_, id)) = self.probation.pop_first() {
            if self.leaves_probation(id) {
                return true;
            }
        }
        false
    }

    /// One item goes. Ends, since each step puts an item into main or takes a hit from it.
    fn evict(&mut self) {
        let probation_max = self.capacity / PROBATION_SHARE;
        loop {
            let is_from_probation = self.probation.len() > probation_max || self.main.is_empty();
            let line = if is_from_probation { &mut self.probation } else { &mut self.main };
            let Some((_, id)) = line.pop_first() else { return };
            let is_gone = if is_from_probation { self.leaves_probation(id) } else { self.leaves_main(id) };
            if is_gone {
                return;
            }
        }
    }

    /// At the end of probation: into main, or gone but for its id.
    fn leaves_probation(&mut self, id: ItemId) -> bool {
        let is_wanted = self.kept.get(&id).is_some_and(|kept| kept.hits > 0);
        if is_wanted {
            self.move_to_main(id, 0);
        } else {
            self.kept.remove(&id);
            self.remember(id);
        }
        !is_wanted
    }

    /// At the end of main: to its beginning, or gone.
    fn leaves_main(&mut self, id: ItemId) -> bool {
        let hits = self.kept.get(&id).map_or(0, |kept| kept.hits);
        match hits.checked_sub(1) {
            Some(left) => self.move_to_main(id, left),
            None => drop(self.kept.remove(&id)),
        }
        hits == 0
    }

    fn move_to_main(&mut self, id: ItemId, hits: u8) {
        let turn = self.turn();
        if let Some(kept) = self.kept.get_mut(&id) {
            (kept.turn, kept.is_in_main, kept.hits) = (turn, true, hits);
            self.main.insert(turn, id);
        }
    }

    /// As many ids as there are items, and no more.
    fn remember(&mut self, id: ItemId) {
        let turn = self.turn();
        self.ghosts.insert(turn, id);
        self.ghost_turns.insert(id, turn);
        if self.ghosts.len() > self.capacity
            && let Some((_, oldest)) = self.ghosts.pop_first()
        {
            self.ghost_turns.remove(&oldest);
        }
    }

    fn take(&mut self, id: ItemId) -> Option<Kept<V>> {
        let kept = self.kept.remove(&id)?;
        if kept.is_in_main { &mut self.main } else { &mut self.probation }.remove(&kept.turn);
        Some(kept)
    }

    fn turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::piece_store::ItemKind;
    use proptest::prelude::*;
    use std::rc::Rc;

    fn id(index: u64) -> ItemId {
        ItemId { kind: ItemKind::Piece, index }
    }

    fn here(hot: &Hot<u64>) -> Vec<u64> {
        let mut ids: Vec<_> = hot.kept.keys().map(|id| id.index).collect();
        ids.sort_unstable();
        ids
    }

    /// As a cache asks for an item: what is not here is read, and inserted.
    fn ask(hot: &mut Hot<u64>, index: u64) -> bool {
        let is_here = hot.get(id(index)).is_some();
        if !is_here {
            hot.insert(id(index), index, false);
        }
        is_here
    }

    fn sweep(hot: &mut Hot<u64>, indices: std::ops::Range<u64>) {
        for index in indices {
            ask(hot, index);
        }
    }

    #[test]
    fn a_scan_passes_and_what_is_asked_again_stays() {
        let mut hot = Hot::new(20);
        (0..10).for_each(|index| assert!(!ask(&mut hot, index)));
        (0..10).for_each(|index| assert!(ask(&mut hot, index), "{index}"));
        for index in 1000..3000 {
            assert!(!ask(&mut hot, index));
        }
        assert_eq!(here(&hot)[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "asked for twice");
        // Other habits: once asked for, twice, and each of the old ones loses its place.
        for _ in 0..5 {
            sweep(&mut hot, 100..120);
        }
        assert!(
            (100..120).filter(|index| hot.kept.contains_key(&id(*index))).count() >= 18,
            "{:?}",
            here(&hot)
        );
    }

    #[test]
    fn what_comes_back_soon_after_it_went_is_hot() {
        let mut hot = Hot::new(10);
        sweep(&mut hot, 0..11);
        assert!(hot.get(id(0)).is_none(), "the oldest on probation");
        hot.insert(id(0), 0, false);
        sweep(&mut hot, 100..200);
        assert!(hot.get(id(0)).is_some());
        // Ghosts are as many as items.
        assert_eq!(hot.ghosts.len(), 10);
        hot.insert(id(5), 5, false);
        sweep(&mut hot, 200..300);
        assert!(hot.get(id(5)).is_none(), "it went too long ago");
    }

    #[test]
    fn the_hot_of_yesterday_make_room_in_their_order() {
        let mut hot = Hot::new(4);
        (0..4).for_each(|index| hot.insert(id(index), index, true));
        assert!(ask(&mut hot, 0));
        (4..6).for_each(|index| hot.insert(id(index), index, true));
        assert_eq!(here(&hot), [0, 3, 4, 5], "0 was asked for");
        sweep(&mut hot, 5000..6000);
        assert_eq!(hot.len(), 4);
        assert_eq!(here(&hot)[..3], [0, 4, 5], "a scan takes the place of one");
    }

    #[test]
    fn what_is_given_back_has_not_proved_hot() {
        let mut hot = Hot::new(10);
        (0..3).for_each(|index| hot.insert(id(index), index, true));
        sweep(&mut hot, 3..7);
        assert!(ask(&mut hot, 3));
        assert_eq!((0..9).filter(|_| hot.give_back()).count(), 3);
        assert_eq!(here(&hot), [0, 1, 2, 3]);
    }

    #[test]
    fn of_no_capacity_it_keeps_nothing_and_of_one_the_last() {
        let mut none = Hot::new(0);
        assert!(!ask(&mut none, 1) && !ask(&mut none, 1) && !none.give_back());
        let mut one = Hot::new(1);
        for index in 0..9 {
            one.insert(id(index), index, index % 2 == 0);
            assert_eq!(here(&one), [index]);
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Ask(u64),
        Insert(u64, bool),
        Remove(u64),
        GiveBack,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u64..40).prop_map(Step::Ask),
            2 => (0u64..40, any::<bool>()).prop_map(|(index, is_hot)| Step::Insert(index, is_hot)),
            1 => (0u64..40).prop_map(Step::Remove),
            1 => Just(Step::GiveBack),
        ];
        prop::collection::vec(step, 0..300)
    }

    proptest! {
        /// Whatever is done: never more than fits, each item once, the last value of each, and every value that is not here is dropped.
        #[test]
        fn it_keeps_its_bounds_and_the_last_value(steps in steps(), capacity in 0usize..12) {
            let (mut hot, mut alive, mut last) = (Hot::<Rc<usize>>::new(capacity), Vec::new(), HashMap::new());
            for (value, step) in steps.into_iter().enumerate() {
                let mut put = |hot: &mut Hot<Rc<usize>>, index, is_hot| {
                    let value = Rc::new(value);
                    alive.push(Rc::downgrade(&value));
                    last.insert(index, *value);
                    hot.insert(id(index), value, is_hot);
                };
                match step {
                    Step::Ask(index) => match hot.get(id(index)).map(|value| **value) {
                        Some(found) => prop_assert_eq!(last.get(&index), Some(&found)),
                        None => put(&mut hot, index, false),
                    },
                    Step::Insert(index, is_hot) => put(&mut hot, index, is_hot),
                    Step::Remove(index) => {
                        let was_here = hot.kept.contains_key(&id(index));
                        prop_assert_eq!(hot.remove(id(index)), was_here);
                        prop_assert!(hot.get(id(index)).is_none());
                    }
                    Step::GiveBack => {
                        let before = hot.len();
                        prop_assert_eq!(before - usize::from(hot.give_back()), hot.len());
                    }
                }
                alive.retain(|value| value.upgrade().is_some());
                prop_assert!(hot.len() <= capacity && alive.len() == hot.len());
                prop_assert_eq!(hot.probation.len() + hot.main.len(), hot.len());
                prop_assert!(hot.ghosts.len() <= capacity && hot.ghosts.len() == hot.ghost_turns.len());
                prop_assert!(hot.ghosts.values().all(|id| !hot.kept.contains_key(id)));
            }
        }
    }
}
