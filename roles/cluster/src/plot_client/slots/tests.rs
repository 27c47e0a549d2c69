//! The stories of foul days, with controllers that do as they are told and farms that find what they should.

use super::*;
use crate::plot_client::counters::Counter;
use crate::plot_client::solutions::{Handovers, MayFarm, Memory, Remember};
use crate::shutdown::KeepRunning;
use crate::test_bus::TestBus;
use bus::Bus;
use consensus::solution::Solution;
use control::ids::{FarmId, InstanceId};
use control::messages::{ProtocolInfo, SolutionAnswer, SolutionFound, subjects};
use control::slots::SlotKey;
use control::solutions::{ANSWER_PATIENCE, Handover, SolutionKey};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const A: InstanceId = InstanceId([1; 16]);
const B: InstanceId = InstanceId([2; 16]);
const KEY: [u8; 32] = [1; 32];
const TIMEOUT_MS: u32 = 4000;

/// What everybody did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Did {
    Began(u64),
    HandedOver(InstanceId),
    /// A controller heard of a solution for a slot.
    Heard(InstanceId, u64),
    NotTaken(InstanceId),
}

type Diary = Arc<Mutex<Vec<Did>>>;

fn note(diary: &Diary, did: Did) {
    diary.lock().unwrap().push(did);
}

const SIGNED_AFTER: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Ears(Diary, Arc<Mutex<Option<Instant>>>);

impl Handovers for Ears {
    fn handed_over(&self, public_key: [u8; 32], controller: InstanceId) {
        assert_eq!(public_key, KEY);
        note(&self.0, Did::HandedOver(controller));
        *self.1.lock().unwrap() = Some(Instant::now());
    }

    fn not_taken(&self, public_key: [u8; 32], controller: InstanceId) {
        assert_eq!(public_key, KEY);
        note(&self.0, Did::NotTaken(controller));
    }

    /// Two seconds after it was handed over, a solution is signed for.
    fn is_quiet(&self) -> bool {
        self.1.lock().unwrap().is_none_or(|at| at.elapsed() >= SIGNED_AFTER)
    }
}

fn info() -> ClusterInfo {
    let protocol_info = ProtocolInfo {
        history_size: 1,
        max_pieces_in_sector: 1,
        recent_segments: 5,
        recent_history_fraction: (1, 10),
        min_sector_lifetime: 4,
    };
    let (kzg_setup_sha256, genesis_hash) = ([0; 32], [0; 32]);
    let (is_dev, farming_timeout_ms) = (true, TIMEOUT_MS);
    ClusterInfo { kzg_setup_sha256, genesis_hash, protocol_info, is_dev, farming_timeout_ms }
}

/// The file of the farm.
#[derive(Clone, Default)]
struct TestFile {
    written: Arc<Mutex<Vec<Handover>>>,
    delay: Duration,
    is_full: bool,
}

impl TestFile {
    /// What a plot-client that starts makes of it.
    fn memory(&self) -> Memory {
        let (recall, earlier) = mpsc::unbounded_channel();
        self.written.lock().unwrap().iter().for_each(|handover| recall.send(handover.solution).unwrap());
        let file = self.clone();
        let remember: Remember = Arc::new(move |handover| {
            let file = file.clone();
            Box::pin(async move {
                tokio::time::sleep(file.delay).await;
                if !file.is_full {
                    file.written.lock().unwrap().push(handover);
                }
                !file.is_full
            })
        });
        Memory { earlier, remember }
    }
}

/// A plot-client whose farm finds so many solutions in every slot, on a bus with controllers.
struct Scene {
    bus: TestBus,
    counters: Arc<Counters>,
    may_farm: Arc<AtomicBool>,
    file: TestFile,
    diary: Diary,
    started: Instant,
    running: JoinSet<()>,
    keep_running: Option<KeepRunning>,
    _info: watch::Sender<ClusterInfo>,
}

impl Scene {
    async fn new(solutions_a_slot: u8) -> Self {
        Self::with(solutions_a_slot, TestFile::default()).await
    }

    async fn with(solutions_a_slot: u8, file: TestFile) -> Self {
        let bus = TestBus::default();
        let (counters, diary, started) = (Arc::<Counters>::default(), Diary::default(), Instant::now());
        let may_farm = Arc::new(AtomicBool::new(true));
        let asked = may_farm.clone();
        let may: MayFarm = Arc::new(move |key| *key == KEY && asked.load(Ordering::Relaxed));
        let (me, ears, memory) =
            (InstanceId([9; 16]), Arc::new(Ears(diary.clone(), Arc::default())), file.memory());
        let solutions =
            Solutions::new(me, Arc::new(bus.clone()), ears, may, memory, counters.clone(), started);
        let (_info, info) = watch::channel(info());
        let (finds, found) = mpsc::channel(FOUND_CAPACITY);
        let (keep_running, shutdown) = Shutdown::new();
        let following = Following { solutions, info, counters: counters.clone(), started, shutdown };
        let slots = bus.subscribe(subjects::SLOT).await.unwrap();
        let began = diary.clone();
        let work = move |info: SlotInfo, deadline| {
            note(&began, Did::Began(info.slot));
            let finds = finds.clone();
            async move {
                for n in 0..solutions_a_slot {
                    let mut solution = Solution::from_bytes(&[1; 412]).unwrap();
                    solution.chunk = [n ^ info.slot as u8; 32];
                    let (slot, farm, distance) = (SlotKey::from(&info), FarmId([3; 16]), n.into());
                    assert!(finds.send(Found { slot, farm, solution, distance, deadline }).await.is_ok());
                }
                None
            }
        };
        let mut running = JoinSet::new();
        running.spawn(following.run(slots, found, work));
        let keep_running = Some(keep_running);
        Self { bus, counters, may_farm, file, diary, started, running, keep_running, _info }
    }

    /// A controller that answers every solution so; without an answer it hangs.
    async fn controller(&mut self, id: InstanceId, answer: Option<SolutionAnswer>) {
        let mut asked = self.bus.others().subscribe(&subjects::solution(id)).await.unwrap();
        let (bus, diary, file) = (self.bus.others().clone(), self.diary.clone(), self.file.clone());
        self.running.spawn(async move {
            while let Some(message) = asked.next().await {
                let found = SolutionFound::from_bytes(&message.payload).unwrap();
                let solution = SolutionKey::of(found.slot, &Solution::from_bytes(&found.solution).unwrap());
                let handover = Handover { solution, controller: id };
                let is_written = file.written.lock().unwrap().contains(&handover);
                assert!(is_written || file.is_full, "it was not written down for whom it is");
                note(&diary, Did::Heard(id, found.slot));
                if let Some(answer) = &answer {
                    bus.publish(&message.reply_to.unwrap(), answer.to_bytes().unwrap()).await.unwrap();
                }
            }
        });
    }

    /// The controllers announce a slot that their nodes announced at so many milliseconds.
    async fn announce(&self, controllers: &[InstanceId], slot: u64, challenge: u8, announced_ms: u64) {
        for &controller in controllers {
            let global_challenge = [challenge; 32];
            let (solution_range, voting_solution_range) = (1, 2);
            let info = SlotInfo {
                slot,
                global_challenge,
                solution_range,
                voting_solution_range,
                controller,
                announced_ms,
            };
            self.bus.others().publish(subjects::SLOT, info.to_bytes().unwrap()).await.unwrap();
        }
    }

    async fn until_ms(&self, ms: u64) {
        tokio::time::sleep_until(self.started + Duration::from_millis(ms)).await;
    }

    /// Slots 1 to 3, whose solutions nobody asks about, so that the controllers' clocks are known.
    async fn settle(&self, controllers: &[InstanceId]) {
        for slot in 1..=3 {
            self.until_ms(slot * 1000).await;
            self.announce(controllers, slot, 0, slot * 1000).await;
        }
        self.until_ms(3900).await;
        self.diary.lock().unwrap().clear();
    }

    fn diary(&self) -> Vec<Did> {
        self.diary.lock().unwrap().clone()
    }

    fn heard(&self) -> Vec<(InstanceId, u64)> {
        let heard = |did: Did| if let Did::Heard(id, slot) = did { Some((id, slot)) } else { None };
        self.diary().into_iter().filter_map(heard).collect()
    }

    /// Queued, refused, not sent, unknown; and every solution has its outcome.
    fn outcomes(&self) -> [u64; 4] {
        let counters = &self.counters;
        assert_eq!(counters.proved.get(), counters.ended(), "{counters:?}");
        [&counters.queued, &counters.refused, &counters.not_sent, &counters.unknown].map(Counter::get)
    }
}

fn not_sent() -> Option<SolutionAnswer> {
    Some(SolutionAnswer::NotSent { reason: "the node's queue is full".to_owned() })
}

#[tokio::test(start_paused = true)]
async fn forty_seconds_without_a_bus_end_with_work_on_the_live_slots_newest_first() {
    let scene = Scene::new(0).await;
    scene.settle(&[A, B]).await;
    for slot in 4..=44 {
        scene.until_ms(44_000 + slot * 8).await;
        scene.announce(&[A, B], slot, 0, slot * 1000).await;
    }
    scene.until_ms(46_000).await;
    assert_eq!(scene.diary(), [44, 43, 42].map(Did::Began));
    assert_eq!((scene.counters.slots.get(), scene.counters.refused_slots.get()), (3 + 3, 38));
    scene.announce(&[B, A], 46, 0, 46_000).await;
    tokio::task::yield_now().await;
    scene.until_ms(46_001).await;
    assert_eq!(scene.diary().last(), Some(&Did::Began(46)), "and go on as before");
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_hangs_costs_what_it_was_given_and_no_more() {
    let mut scene = Scene::new(1).await;
    scene.controller(A, None).await;
    scene.controller(B, Some(SolutionAnswer::Queued)).await;
    for slot in 1..30 {
        scene.until_ms(slot * 1000).await;
        scene.announce(&[A, B], slot, 0, slot * 1000).await;
    }
    scene.until_ms(40_000).await;
    let heard = scene.heard();
    let by_slot: std::collections::HashSet<_> = heard.iter().map(|(_, slot)| slot).collect();
    assert_eq!(by_slot.len(), heard.len(), "nothing was sent a second time: {heard:?}");
    let lost = heard.iter().filter(|(id, _)| *id == A).count();
    assert!((1..=5).contains(&lost), "it is tried again ever more seldom: {heard:?}");
    let [queued, refused, not_sent, unknown] = scene.outcomes();
    assert!(queued > 20 && (refused, not_sent) == (0, 0) && unknown == lost as u64, "{:?}", scene.counters);
    assert!(!scene.diary().contains(&Did::NotTaken(A)), "it may have been taken");
}

#[tokio::test(start_paused = true)]
async fn only_a_controller_whose_node_has_that_challenge_is_asked() {
    let mut scene = Scene::new(8).await;
    scene.controller(A, Some(SolutionAnswer::Queued)).await;
    scene.controller(B, Some(SolutionAnswer::Queued)).await;
    scene.announce(&[A], 5, 0, 5000).await;
    scene.announce(&[B], 5, 1, 5000).await;
    scene.until_ms(3000).await;
    assert_eq!(scene.diary().iter().filter(|did| **did == Did::Began(5)).count(), 2, "a fork is farmed too");
    let heard = scene.heard();
    // Chunks are the same in both, so the second eight are not sent at all: one slot, two signatures.
    assert!(heard == [(A, 5); 8] || heard == [(B, 5); 8], "{heard:?}");
    assert_eq!((scene.outcomes(), scene.counters.known.get()), ([8, 0, 0, 0], 8));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_goes_to_the_next_also_to_one_that_comes_later() {
    let mut scene = Scene::new(1).await;
    scene.controller(A, not_sent()).await;
    scene.settle(&[A, B]).await;
    scene.until_ms(4000).await;
    // Nobody is there for B, and A's node has no room.
    scene.announce(&[A, B], 4, 0, 4000).await;
    scene.until_ms(6000).await;
    let mut did = scene.diary();
    let (a, b) =
        ([Did::HandedOver(A), Did::Heard(A, 4), Did::NotTaken(A)], [Did::HandedOver(B), Did::NotTaken(B)]);
    let in_order = [&[Did::Began(4)][..], &a, &b].concat();
    let in_other_order = [&[Did::Began(4)][..], &b, &a].concat();
    assert!(did == in_order || did == in_other_order, "{did:?}");
    let late = InstanceId([5; 16]);
    scene.controller(late, Some(SolutionAnswer::Queued)).await;
    scene.announce(&[late], 4, 0, 77).await;
    scene.until_ms(9000).await;
    did = scene.diary();
    assert_eq!(did[did.len() - 2..], [Did::HandedOver(late), Did::Heard(late, 4)]);
    assert_eq!(scene.outcomes(), [1, 0, 3, 0], "and three of the slots before, with nobody there at all");
}

#[tokio::test(start_paused = true)]
async fn told_to_end_it_ends_what_it_has_and_waits_for_signatures() {
    let mut scene = Scene::new(1).await;
    scene.controller(A, Some(SolutionAnswer::Queued)).await;
    scene.settle(&[A]).await;
    let following = scene.running.len();
    scene.announce(&[A], 4, 0, 4000).await;
    scene.until_ms(4000).await;
    drop(scene.keep_running.take());
    scene.until_ms(4100).await;
    scene.announce(&[A], 5, 0, 5000).await;
    scene.until_ms(5800).await;
    assert_eq!(scene.diary(), [Did::Began(4), Did::HandedOver(A), Did::Heard(A, 4)], "slot 5 is not begun");
    assert_eq!((scene.outcomes(), scene.running.len()), ([4, 0, 0, 0], following));
    assert!(scene.running.try_join_next().is_none(), "a signature is still to be given");
    scene.until_ms(6200).await;
    assert!(scene.running.try_join_next().is_some(), "and then it ends");
}

#[tokio::test(start_paused = true)]
async fn told_to_end_it_does_not_wait_for_ever() {
    for (solutions_a_slot, ends_after_ms) in [(0, 1000..1200), (1, 5000..5400)] {
        let mut scene = Scene::new(solutions_a_slot).await;
        scene.controller(A, None).await;
        scene.announce(&[A], 4, 0, 4000).await;
        scene.until_ms(1000).await;
        drop(scene.keep_running.take());
        let following = tokio::time::timeout(Duration::from_secs(60), scene.running.join_next()).await;
        assert!(following.is_ok(), "{solutions_a_slot}");
        let took_ms = scene.started.elapsed().as_millis();
        assert!(ends_after_ms.contains(&took_ms), "{took_ms} ms with {solutions_a_slot} solutions");
    }
}

#[tokio::test(start_paused = true)]
async fn refused_is_the_end_of_it() {
    let mut scene = Scene::new(1).await;
    let refused = SolutionAnswer::Refused { reason: "no".to_owned() };
    scene.controller(A, Some(refused.clone())).await;
    scene.controller(B, Some(refused)).await;
    scene.announce(&[A, B], 4, 0, 4000).await;
    scene.until_ms(9000).await;
    assert_eq!((scene.heard().len(), scene.outcomes()), (1, [0, 1, 0, 0]));
    assert!(matches!(
        scene.diary()[..],
        [Did::Began(4), Did::HandedOver(_), Did::Heard(..), Did::NotTaken(_)]
    ));
}

#[tokio::test(start_paused = true)]
async fn nothing_leaves_while_the_bus_is_away_or_another_has_the_farm() {
    let mut scene = Scene::new(1).await;
    scene.controller(A, Some(SolutionAnswer::Queued)).await;
    scene.settle(&[A]).await;
    scene.until_ms(4000).await;
    scene.bus.set_away(true);
    scene.announce(&[A], 4, 0, 4000).await;
    scene.until_ms(5000).await;
    assert_eq!(scene.diary(), [Did::Began(4)], "not even handed over");
    scene.bus.set_away(false);
    scene.until_ms(5200).await;
    assert_eq!(scene.diary()[1..], [Did::HandedOver(A), Did::Heard(A, 4)]);

    scene.may_farm.store(false, Ordering::Relaxed);
    scene.announce(&[A], 6, 0, 6000).await;
    scene.until_ms(11_000).await;
    assert_eq!(scene.diary()[3..], [Did::Began(6)]);
    assert_eq!(scene.outcomes(), [4, 0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_a_restart_is_not_sent_to_a_second_controller_whose_node_is_late() {
    let file = TestFile::default();
    let mut scene = Scene::with(1, file.clone()).await;
    scene.controller(A, Some(SolutionAnswer::Queued)).await;
    scene.announce(&[A], 5, 0, 5000).await;
    scene.until_ms(1000).await;
    assert_eq!(scene.outcomes(), [1, 0, 0, 0]);
    drop(scene);

    let mut scene = Scene::with(2, file).await;
    scene.controller(B, Some(SolutionAnswer::Queued)).await;
    scene.announce(&[B], 5, 0, 5000).await;
    scene.until_ms(1000).await;
    assert_eq!(scene.heard(), [(B, 5)], "the other one of the slot");
    assert_eq!(scene.outcomes(), [1, 0, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_costs_the_memory_and_no_solution() {
    let mut scene = Scene::with(2, TestFile { is_full: true, ..TestFile::default() }).await;
    scene.controller(A, Some(SolutionAnswer::Queued)).await;
    scene.announce(&[A], 5, 0, 5000).await;
    scene.until_ms(1000).await;
    assert_eq!((scene.outcomes(), scene.counters.unremembered.get()), ([2, 0, 0, 0], 2));
}

#[tokio::test(start_paused = true)]
async fn what_changes_while_it_is_written_counts() {
    let delay = Duration::from_millis(200);
    let mut scene = Scene::with(1, TestFile { delay, ..TestFile::default() }).await;
    scene.controller(A, Some(SolutionAnswer::Queued)).await;
    scene.settle(&[A]).await;
    scene.until_ms(4000).await;
    scene.announce(&[A], 4, 0, 4000).await;
    scene.until_ms(4100).await;
    scene.bus.set_away(true);
    scene.until_ms(5000).await;
    assert_eq!(scene.diary(), [Did::Began(4)], "not even handed over");
    scene.bus.set_away(false);
    scene.until_ms(5100).await;
    assert_eq!(scene.diary()[1..], [Did::HandedOver(A), Did::Heard(A, 4)], "and not written again");

    scene.announce(&[A], 6, 0, 6000).await;
    scene.until_ms(5200).await;
    scene.may_farm.store(false, Ordering::Relaxed);
    scene.until_ms(11_000).await;
    assert_eq!(scene.diary()[3..], [Did::Began(6)]);
    assert_eq!(scene.outcomes(), [4, 0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_plot_client_gives_everything_an_outcome() {
    let mut scene = Scene::new(1).await;
    scene.controller(A, None).await;
    scene.announce(&[A], 4, 0, 4000).await;
    scene.announce(&[B], 5, 0, 4000).await;
    scene.until_ms(1000).await;
    scene.running.shutdown().await;
    assert_eq!(scene.outcomes(), [0, 0, 1, 1]);
    assert!(Duration::from_millis(1000) < ANSWER_PATIENCE, "before anybody lost patience");
}

#[tokio::test(start_paused = true)]
async fn a_silence_is_told_once_and_its_end_once() {
    let seconds = Duration::from_secs;
    let mut silence = Silence::default();
    for _ in 0..30 {
        assert!(tokio::time::timeout(seconds(1), silence.lasts()).await.is_err(), "slots come");
        assert_eq!(silence.broken(), None);
    }
    assert!(tokio::time::timeout(seconds(14), silence.lasts()).await.is_err());
    assert!(tokio::time::timeout(seconds(2), silence.lasts()).await.is_ok());
    assert!(tokio::time::timeout(seconds(3600), silence.lasts()).await.is_err(), "told already");
    assert_eq!(silence.broken(), Some(seconds(15 + 3600)));
    assert_eq!(silence.broken(), None);
    assert!(tokio::time::timeout(seconds(16), silence.lasts()).await.is_ok(), "another time");
}
