//! Caches that refill from each other, in any order, while members come and go.

use super::*;
use crate::messages::EpochMember;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::OnceLock;

const SEGMENTS: u64 = 3;
const CASES: u32 = 96;

fn id(n: u8) -> InstanceId {
    InstanceId([n; 16])
}

fn epoch(number: u64, members: &[(u8, u64)]) -> Epoch {
    let members = members.iter().map(|(n, weight)| EpochMember { id: id(*n), weight: *weight }).collect();
    Epoch { number, members, copies: 1 }
}

/// What a cache holds, and its loop.
#[derive(Clone)]
struct Cache {
    refill: Refill,
    held: BTreeSet<u64>,
    capacity: usize,
    is_present: bool,
}

impl Cache {
    fn pieces(&self) -> Pieces {
        let mut pieces = Pieces::new();
        for index in &self.held {
            let index = consensus::piece::PieceIndex(*index);
            pieces.entry(index.segment_index()).or_default().insert(index.position());
        }
        pieces
    }
}

/// What is under way at a cache.
#[derive(Clone)]
enum Work {
    /// What its loop said in the epoch of this fingerprint.
    Do(Action, Option<u64>),
    /// An answer that is on its way to its loop.
    Tell(Event),
    /// The present epoch is on its way to it.
    Follow,
}

/// Some caches, and what is under way between them.
#[derive(Clone)]
struct World {
    caches: BTreeMap<InstanceId, Cache>,
    epoch: Epoch,
    underway: Vec<(InstanceId, Work)>,
    now: Duration,
    /// A controller that rebuilds what nobody has.
    rebuilds: bool,
    pulls: u64,
    copies: u8,
}

impl World {
    fn new(rebuilds: bool) -> Self {
        let (caches, underway, epoch) = (BTreeMap::new(), Vec::new(), epoch(0, &[]));
        Self { caches, epoch, underway, now: Duration::ZERO, rebuilds, pulls: 0, copies: 1 }
    }

    fn add(&mut self, n: u8, kind: Kind, capacity: usize) {
        let refill = Refill::new(id(n), kind);
        self.caches.insert(id(n), Cache { refill, held: BTreeSet::new(), capacity, is_present: true });
        self.send(id(n), Event::History(SEGMENTS));
        self.send(id(n), Event::Epoch(self.epoch.clone()));
        self.tell_peers();
    }

    fn send(&mut self, to: InstanceId, event: Event) {
        let Some(cache) = self.caches.get_mut(&to).filter(|cache| cache.is_present) else { return };
        let actions = cache.refill.on(event, self.now);
        let by = cache.refill.fingerprint();
        self.underway.extend(actions.into_iter().map(|action| (to, Work::Do(action, by))));
    }

    fn tell_peers(&mut self) {
        let of = |kind| {
            let its = self.caches.iter().filter(|(_, cache)| cache.is_present && cache.refill.kind == kind);
            its.map(|(id, _)| *id).collect()
        };
        let controllers = if self.rebuilds { [id(200)].into() } else { BTreeSet::new() };
        let peers = Peers { sharded: of(Kind::Sharded), full: of(Kind::Full), controllers };
        for to in self.caches.keys().copied().collect::<Vec<_>>() {
            self.send(to, Event::Peers(peers.clone()));
        }
    }

    fn begin(&mut self, members: &[(u8, u64)]) {
        self.epoch = Epoch { copies: self.copies, ..epoch(self.epoch.number + 1, members) };
        self.underway.extend(self.caches.keys().map(|to| (*to, Work::Follow)));
    }

    fn has(&self, cache: InstanceId, index: u64) -> bool {
        self.caches.get(&cache).is_some_and(|cache| cache.is_present && cache.held.contains(&index))
    }

    /// As the store does it, which goes by the epoch that its cache has heard of. What it answers is on its way from then on.
    fn carry_out(&mut self, at: InstanceId, action: Action, by: Option<u64>) {
        let event = match action {
            Action::Look => Event::Held(self.caches[&at].pieces()),
            Action::Pull { index, from } => {
                let is_given = from.iter().any(|from| self.has(*from, index) || *from == id(200));
                Event::Pulled { index, pulled: self.pull(at, index, is_given) }
            }
            Action::Ask { owner, from_segment, segments } => {
                let answers = |cache: &&Cache| cache.is_present && cache.refill.fingerprint() == by;
                let pieces = self.caches.get(&owner).filter(answers).map(Cache::pieces).unwrap_or_default();
                let of = |segment| pieces.get(&segment).copied().unwrap_or_default();
                let its = (from_segment..from_segment + u64::from(segments)).map(of);
                Event::Holds { owner, from_segment, pieces: its.collect() }
            }
            Action::LetGo { index } => {
                if self.caches[&at].refill.fingerprint() == by {
                    self.let_go(at, index);
                }
                return;
            }
        };
        self.underway.push((at, Work::Tell(event)));
    }

    fn pull(&mut self, at: InstanceId, index: u64, is_given: bool) -> Pulled {
        self.pulls += 1;
        let cache = self.caches.get_mut(&at).unwrap();
        let is_room = cache.held.len() < cache.capacity;
        if is_given && is_room {
            cache.held.insert(index);
        }
        match (is_given, is_room) {
            (true, true) => Pulled::Stored,
            (true, false) => Pulled::NotTaken,
            (false, _) => Pulled::Nobody,
        }
    }

    fn let_go(&mut self, at: InstanceId, index: u64) {
        let mut others = self.caches.iter().filter(|(other, _)| **other != at);
        let is_kept = others.any(|(_, cache)| cache.held.contains(&index));
        assert!(is_kept, "the last copy of piece {index} was let go");
        self.caches.get_mut(&at).unwrap().held.remove(&index);
    }

    /// One of the things that are under way happens, else the time of the next comes. Whether there was one.
    fn step(&mut self, choice: usize) -> bool {
        if self.underway.is_empty() {
            let present = self.caches.values().filter(|cache| cache.is_present);
            let Some(at) = present.filter_map(|cache| cache.refill.wake_at()).min() else { return false };
            self.now = self.now.max(at);
            for to in self.caches.keys().copied().collect::<Vec<_>>() {
                self.send(to, Event::Tick);
            }
            return true;
        }
        let (at, work) = self.underway.swap_remove(choice % self.underway.len());
        match work {
            // Also what went is not there any more.
            _ if !self.caches.get(&at).is_some_and(|cache| cache.is_present) => {}
            Work::Do(action, by) => self.carry_out(at, action, by),
            Work::Tell(event) => self.send(at, event),
            Work::Follow => self.send(at, Event::Epoch(self.epoch.clone())),
        }
        true
    }

    /// Until all have what they should, at most so many steps.
    fn settle(&mut self) {
        for choice in 0..60_000 {
            let is_settled = |cache: &Cache| !cache.is_present || cache.refill.is_settled();
            if self.underway.is_empty() && self.caches.values().all(is_settled) {
                return;
            }
            assert!(self.step(choice * 7919), "nothing is under way, and not all is done");
        }
        panic!(
            "it does not end: {:?}",
            self.caches.values().map(|cache| cache.refill.progress()).collect::<Vec<_>>()
        );
    }

    fn should(&self, n: u8) -> BTreeSet<u64> {
        let owners = Owners::new(&self.epoch);
        let all = 0..SEGMENTS * 256;
        match self.caches[&id(n)].refill.kind {
            Kind::Full => all.collect(),
            Kind::Sharded => all.filter(|index| owners.of_piece(*index).contains(&id(n))).collect(),
        }
    }

    fn check_settled(&self) {
        for (of, cache) in self.caches.iter().filter(|(_, cache)| cache.is_present) {
            assert_eq!(cache.held, self.should(of.0[0]), "{of}");
            assert!(cache.refill.is_settled(), "{of}: {:?}", cache.refill.progress());
        }
    }

    /// A full-piece cache with everything, and four sharded ones that have their shares.
    fn filled() -> Self {
        static FILLED: OnceLock<World> = OnceLock::new();
        FILLED.get_or_init(Self::fill).clone()
    }

    fn fill() -> Self {
        let mut world = Self::new(false);
        world.add(100, Kind::Full, 9999);
        world.caches.get_mut(&id(100)).unwrap().held = (0..SEGMENTS * 256).collect();
        (1..5).for_each(|n| world.add(n, Kind::Sharded, 9999));
        world.begin(&[(1, 5), (2, 5), (3, 5), (4, 5)]);
        world.settle();
        world.check_settled();
        world
    }
}

#[test]
fn a_fifth_cache_takes_its_share_and_nothing_else_moves() {
    let mut world = World::filled();
    world.pulls = 0;
    world.add(5, Kind::Sharded, 9999);
    world.begin(&[(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
    world.settle();
    world.check_settled();
    let share = world.should(5).len() as u64;
    assert!((120..190).contains(&share), "a fifth of 768: {share}");
    assert_eq!(world.pulls, share);
}

#[test]
fn without_a_full_cache_the_old_owners_give() {
    let mut world = World::filled();
    world.caches.remove(&id(100));
    world.add(5, Kind::Sharded, 9999);
    world.begin(&[(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
    world.settle();
    world.check_settled();
    // Drained: what it has goes to the others.
    world.begin(&[(1, 0), (2, 5), (3, 5), (4, 5), (5, 5)]);
    world.settle();
    world.check_settled();
    assert!(world.caches[&id(1)].held.is_empty());
    assert_eq!(world.caches[&id(1)].refill.kept(), 0);
}

#[test]
fn what_is_lost_comes_back_from_others_or_is_rebuilt_or_waits_ever_longer() {
    let mut world = World::filled();
    let lost: Vec<u64> = world.should(1).into_iter().take(20).collect();
    lost.iter().for_each(|index| assert!(world.caches.get_mut(&id(1)).unwrap().held.remove(index)));
    world.send(id(1), Event::Lost);
    world.settle();
    world.check_settled();
    // Now nobody has them.
    world.caches.remove(&id(100));
    lost.iter().for_each(|index| assert!(world.caches.get_mut(&id(1)).unwrap().held.remove(index)));
    world.tell_peers();
    world.send(id(1), Event::Lost);
    let began = world.now;
    while world.now < began + Duration::from_secs(3600) {
        assert!(world.step(0));
    }
    let progress = world.caches[&id(1)].refill.progress();
    assert_eq!((progress.lacking, progress.nowhere, progress.is_done()), (20, 20, false));
    assert!(world.pulls < 768 + 20 * 30, "ever more seldom: {}", world.pulls);
    // A controller comes that can.
    world.rebuilds = true;
    world.tell_peers();
    world.settle();
    world.check_settled();
}

#[test]
fn a_second_copy_comes_and_goes_and_nobody_lets_go_before_both_owners_have_it() {
    let mut world = World::filled();
    world.copies = 2;
    world.begin(&[(1, 5), (2, 5), (3, 5), (4, 5)]);
    world.settle();
    world.check_settled();
    assert_eq!((1..5).map(|n| world.should(n).len()).sum::<usize>(), 2 * 768);
    // Of a drained one's pieces both owners must say that they have them.
    world.caches.remove(&id(100));
    world.begin(&[(1, 0), (2, 5), (3, 5), (4, 5)]);
    let lost = world.should(2).into_iter().find(|index| world.caches[&id(1)].held.contains(index)).unwrap();
    world.caches.get_mut(&id(2)).unwrap().capacity = 0;
    world.caches.get_mut(&id(2)).unwrap().held.remove(&lost);
    let until = world.now + Duration::from_secs(600);
    while world.now < until {
        assert!(world.step(3));
    }
    assert!(world.caches[&id(1)].held.contains(&lost), "one of its owners has no room for it");
    world.caches.get_mut(&id(2)).unwrap().capacity = 9999;
    world.settle();
    world.check_settled();
    world.copies = 1;
    world.begin(&[(2, 5), (3, 5), (4, 5)]);
    world.settle();
    world.check_settled();
}

#[test]
fn a_cache_without_room_keeps_what_is_its_own_and_goes_on_when_there_is_some() {
    let mut world = World::filled();
    world.add(5, Kind::Sharded, 10);
    world.begin(&[(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
    let began = world.now;
    while world.now < began + Duration::from_secs(600) {
        assert!(world.step(3));
    }
    assert_eq!(world.caches[&id(5)].held.len(), 10);
    assert!(world.pulls < 768 + 10 + 200, "it does not pull what it cannot keep: {}", world.pulls);
    world.caches.get_mut(&id(5)).unwrap().capacity = 9999;
    world.settle();
    world.check_settled();
}

#[test]
fn what_is_not_history_yet_leaves_a_drained_cache_only_when_its_owner_has_it() {
    let mut world = World::filled();
    world.caches.remove(&id(100));
    let placed = SEGMENTS * 256 + 7;
    world.caches.get_mut(&id(1)).unwrap().held.insert(placed);
    world.begin(&[(1, 0), (2, 5), (3, 5), (4, 5)]);
    let began = world.now;
    while world.now < began + Duration::from_secs(120) {
        assert!(world.step(3));
    }
    assert_eq!(world.caches[&id(1)].held, [placed].into());
    assert!(world.caches[&id(1)].refill.progress().held > 0, "not drained");
    while world.caches[&id(1)].refill.kept() != 1 {
        assert!(world.step(3));
    }
    let owner = Owners::new(&world.epoch).of(crate::messages::ItemKind::Piece, placed, 1)[0];
    world.caches.get_mut(&owner).unwrap().held.insert(placed);
    while world.caches[&id(1)].refill.progress().held > 0 {
        assert!(world.step(3));
    }
    assert!(world.caches[&id(1)].held.is_empty());
}

#[test]
fn a_piece_of_a_far_away_segment_is_compared_in_one_step() {
    let mut world = World::filled();
    world.caches.get_mut(&id(1)).unwrap().held.insert((1 << 60) + 5);
    world.begin(&[(1, 5), (2, 5), (3, 5), (4, 5), (9, 1)]);
    let began = world.now;
    for n in 0..20_000 {
        world.step(n);
    }
    assert!(world.now > began + Duration::from_secs(600), "rounds end: {:?}", world.now);
    assert!(world.should(1).is_subset(&world.caches[&id(1)].held));
}

/// Else a cache would remove what the next epoch gives it again, after it was looked whether that is there.
#[test]
fn a_removal_that_an_epoch_overtakes_removes_nothing() {
    let is_removal = |(_, work): &(InstanceId, Work)| matches!(work, Work::Do(Action::LetGo { .. }, _));
    let mut world = World::filled();
    world.add(5, Kind::Sharded, 9999);
    world.begin(&[(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
    while !world.underway.iter().any(is_removal) {
        assert!(world.step(0));
    }
    let (late, others) = std::mem::take(&mut world.underway).into_iter().partition(is_removal);
    world.underway = others;
    world.begin(&[(1, 5), (2, 5), (3, 5), (4, 5)]);
    world.settle();
    world.underway = late;
    world.settle();
    world.check_settled();
}

#[test]
fn members_that_come_and_go_all_the_time_stop_no_round() {
    let mut world = World::filled();
    world.add(5, Kind::Sharded, 9999);
    world.begin(&[(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
    for n in 0..4000 {
        if n % 7 == 0 {
            world.caches.get_mut(&id(4)).unwrap().is_present = n % 2 == 0;
            world.tell_peers();
        }
        world.step(n);
    }
    assert_eq!(world.caches[&id(5)].held, world.should(5));
}

#[test]
fn nothing_is_done_before_an_epoch_and_a_history_are_known() {
    let mut refill = Refill::new(id(1), Kind::Sharded);
    let peers = Peers { full: [id(2)].into(), ..Peers::default() };
    assert_eq!(refill.on(Event::Peers(peers), Duration::ZERO), []);
    assert_eq!(refill.on(Event::History(3), Duration::ZERO), []);
    assert_eq!(refill.wake_at(), None);
    assert_eq!(refill.on(Event::Epoch(epoch(4, &[(1, 1)])), Duration::ZERO), [Action::Look]);
    refill.on(Event::Epoch(epoch(3, &[])), Duration::ZERO);
    assert_eq!(refill.epoch().map(|epoch| epoch.number), Some(3), "of a store that was emptied");
}

#[derive(Debug, Clone)]
enum Blow {
    Step(usize),
    Begin(Vec<(u8, u64)>),
    Away(u8),
    Back(u8),
    Lose(u8, u64),
}

fn blows() -> impl Strategy<Value = Vec<Blow>> {
    let members = prop::collection::btree_map(1u8..5, 0u64..4, 1..5);
    let blow = prop_oneof![
        40 => any::<usize>().prop_map(Blow::Step),
        1 => members.prop_map(|members| Blow::Begin(members.into_iter().collect())),
        1 => (1u8..5).prop_map(Blow::Away),
        1 => (1u8..5).prop_map(Blow::Back),
        1 => (1u8..5, 0..SEGMENTS * 256).prop_map(|(n, index)| Blow::Lose(n, index)),
    ];
    prop::collection::vec(blow, 0..300)
}

/// Each blow is dealt; then all are there, and it settles.
fn deal(mut world: World, blows: Vec<Blow>, copies: u8) {
    for blow in blows {
        match blow {
            Blow::Step(choice) => drop(world.step(choice)),
            Blow::Begin(members) => {
                world.copies = 1 + (world.copies + copies) % 3;
                world.begin(&members);
            }
            Blow::Away(n) => {
                world.caches.get_mut(&id(n)).unwrap().is_present = false;
                world.tell_peers();
            }
            Blow::Back(n) => come_back(&mut world, n),
            Blow::Lose(n, index) => {
                if world.caches.get_mut(&id(n)).unwrap().held.remove(&index) {
                    world.underway.push((id(n), Work::Tell(Event::Lost)));
                }
            }
        }
    }
    (1..5).for_each(|n| come_back(&mut world, n));
    world.copies = copies;
    world.begin(&[(1, 5), (2, 1), (3, 5), (4, 5)]);
    world.settle();
    world.check_settled();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// The full-piece cache stays, so nothing can be lost; each cache is away, and damaged, at any moment.
    #[test]
    fn whatever_happens_in_the_end_each_holds_what_it_should(blows in blows(), copies in 1u8..4) {
        deal(World::filled(), blows, copies);
    }

    /// Nobody else has what they have, and no disk is damaged: then no piece is ever let go by the last that has it.
    #[test]
    fn whatever_happens_no_piece_is_let_go_by_the_last_that_has_it(blows in blows(), copies in 1u8..4) {
        let mut world = World::filled();
        world.caches.remove(&id(100));
        world.tell_peers();
        let is_harmless = |blow: &Blow| !matches!(blow, Blow::Lose(..));
        deal(world, blows.into_iter().filter(is_harmless).collect(), copies);
    }
}

/// A cache starts again: its process knows nothing, its disk all.
fn come_back(world: &mut World, n: u8) {
    if world.caches[&id(n)].is_present {
        return;
    }
    let held = std::mem::take(&mut world.caches.get_mut(&id(n)).unwrap().held);
    world.underway.retain(|(by, _)| *by != id(n));
    world.add(n, Kind::Sharded, 9999);
    world.caches.get_mut(&id(n)).unwrap().held = held;
}
