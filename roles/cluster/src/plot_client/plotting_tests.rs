//! Plotting on the in-process bus, with farms that are lists; the test is the plot-server. The clock is paused.

use super::*;
use async_trait::async_trait;
use bus::Subscription;
use bus::jobs::TakenJob;
use bus::local::LocalBus;
use control::ids::{FarmId, InstanceId};
use control::messages::{PlotPhase, ProtocolInfo};
use control::plot_jobs::{Farm, SectorState};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const BYTES: u64 = 77;
const PATIENCE: Duration = Duration::from_secs(600);
/// Of all farms here.
const KEY: [u8; 32] = [2; 32];

/// How the next pulls of a farm end; well, when there are no more.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Panic,
    Wrong,
    Hang,
}

struct List {
    id: FarmId,
    sectors: Mutex<Vec<SectorState>>,
    fates: Mutex<Vec<Fate>>,
    looks_panic: AtomicBool,
    is_paused: AtomicBool,
    dropped: AtomicUsize,
    /// Pulls that have begun, and those that hang there.
    pulls: AtomicUsize,
    hanging: Arc<AtomicUsize>,
}

/// A pull that hangs.
struct Hangs(Arc<AtomicUsize>);

impl Drop for Hangs {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl List {
    fn new(number: u8, fates: &[Fate]) -> Arc<Self> {
        Arc::new(Self {
            id: FarmId([number; 16]),
            sectors: Mutex::new(vec![SectorState::NotPlotted]),
            fates: Mutex::new(fates.to_vec()),
            looks_panic: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            dropped: AtomicUsize::new(0),
            pulls: AtomicUsize::new(0),
            hanging: Arc::default(),
        })
    }

    fn is_plotted(&self) -> bool {
        matches!(self.sectors.lock().unwrap()[0], SectorState::Plotted { .. })
    }
}

#[async_trait]
impl Ground for List {
    fn farm(&self) -> Farm {
        Farm {
            id: self.id,
            public_key: KEY,
            client: InstanceId([9; 16]),
            pieces_in_sector: 2,
            sector_bytes: BYTES,
        }
    }

    fn place(&self) -> String {
        "a list".into()
    }

    fn is_stopped(&self) -> bool {
        false
    }

    fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    async fn look(&self) -> Result<Vec<SectorState>, String> {
        assert!(!self.looks_panic.swap(false, Ordering::Relaxed), "a look that panics");
        Ok(self.sectors.lock().unwrap().clone())
    }

    async fn pull(&self, sector: SectorId, _: InstanceId, _: [u8; 32]) -> PullEnd {
        self.pulls.fetch_add(1, Ordering::Relaxed);
        let fate = self.fates.lock().unwrap().pop();
        match fate {
            Some(Fate::Hang) => {
                self.hanging.fetch_add(1, Ordering::Relaxed);
                let _hangs = Hangs(self.hanging.clone());
                std::future::pending().await
            }
            Some(Fate::Panic) => panic!("a pull that panics"),
            Some(Fate::Wrong) => PullEnd::Wrong("other bytes".into()),
            None => {
                let index = usize::from(sector.sector_index);
                let plotted = SectorState::Plotted { history_size: sector.history_size };
                self.sectors.lock().unwrap()[index] = plotted;
                PullEnd::Stored
            }
        }
    }

    async fn drop_pull(&self, _: SectorId) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// A plot-server by hand.
struct Hand {
    bus: SharedBus,
    queue: PlotJobs,
    id: InstanceId,
    answers: Subscription,
}

impl Hand {
    async fn new(bus: &LocalBus, number: u8) -> Self {
        let bus: SharedBus = Arc::new(bus.another());
        let id = InstanceId([number; 16]);
        let answers = bus.subscribe(&subjects::plot_answer(id)).await.unwrap();
        Self { queue: PlotJobs::open(&*bus).await.unwrap(), bus, id, answers }
    }

    async fn take(&self) -> TakenJob {
        self.queue.take(&["default".to_owned()], PATIENCE).await.unwrap().expect("no job was offered")
    }

    async fn say(&self, sector: SectorId, phase: PlotPhase) {
        let word = PlotProgress { sector, server: self.id, phase }.to_bytes().unwrap();
        self.bus.publish(&subjects::plot_progress(sector.farm), word).await.unwrap();
    }

    /// Says that the sector is staged until its client says what became of it.
    async fn stage(&mut self, job: &PlotJob) -> PlotPhase {
        let give_up_at = Instant::now() + PATIENCE;
        while Instant::now() < give_up_at {
            self.say(job.sector, PlotPhase::Staged { sector_size_bytes: BYTES, checksum: [7; 32] }).await;
            let until = Instant::now() + Duration::from_secs(5);
            while let Ok(answer) = tokio::time::timeout_at(until, self.answers.next()).await {
                let answer = PlotProgress::from_bytes(&answer.unwrap().payload).unwrap();
                if answer.sector == job.sector && answer.phase != PlotPhase::Wanted {
                    return answer.phase;
                }
            }
        }
        panic!("nobody answered");
    }

    /// Makes the next job, to its end.
    async fn serve(&mut self) -> (PlotJob, PlotPhase) {
        let taken = self.take().await;
        let answer = self.stage(&taken.job).await;
        taken.delivery.ack().await.unwrap();
        (taken.job, answer)
    }
}

/// A bus, and these farms being plotted through it.
async fn plot(farms: &[Arc<List>]) -> LocalBus {
    let (_, keys) = watch::channel(BTreeSet::from([KEY]));
    plot_held(farms, keys).await.0
}

/// The same while they are held.
async fn plot_held(farms: &[Arc<List>], keys: watch::Receiver<BTreeSet<[u8; 32]>>) -> (LocalBus, Plots) {
    let local = LocalBus::new();
    let bus: SharedBus = Arc::new(local.another());
    let protocol_info = ProtocolInfo {
        history_size: 10,
        max_pieces_in_sector: 2,
        recent_segments: 5,
        recent_history_fraction: (1, 10),
        min_sector_lifetime: 4,
    };
    let info = ClusterInfo {
        kzg_setup_sha256: [0; 32],
        genesis_hash: [0; 32],
        protocol_info,
        is_dev: true,
        farming_timeout_ms: 4000,
    };
    let (keep, info) = watch::channel(info);
    let held = Held::told_by(keys);
    let (plotting, plots) = Plotting::new(bus, "default".into(), info, held, Arc::default()).await.unwrap();
    for farm in farms {
        plots.add(farm.clone()).await.unwrap();
    }
    tokio::spawn(async move {
        let _keep = keep;
        plotting.run().await;
    });
    (local, plots)
}

#[tokio::test(start_paused = true)]
async fn a_pull_or_a_look_that_panics_costs_that_attempt_only() {
    let farms = [List::new(1, &[Fate::Panic, Fate::Panic]), List::new(2, &[])];
    farms[0].looks_panic.store(true, Ordering::Relaxed);
    let bus = plot(&farms).await;
    let (mut first, mut second) = (Hand::new(&bus, 1).await, Hand::new(&bus, 2).await);
    let (served, also_served) = tokio::join!(first.serve(), second.serve());
    for (_, answer) in [served, also_served] {
        assert_eq!(answer, PlotPhase::Stored);
    }
    assert!(farms.iter().all(|farm| farm.is_plotted()));
    assert_eq!(farms[0].dropped.load(Ordering::Relaxed), 2, "nothing of it is left");
}

#[tokio::test(start_paused = true)]
async fn of_a_farm_that_is_not_held_nothing_is_said_and_nothing_fetched() {
    let (hold, keys) = watch::channel(BTreeSet::new());
    let (mine, copy) = (List::new(1, &[]), List::new(1, &[]));
    copy.sectors.lock().unwrap()[0] = SectorState::Plotted { history_size: 10 };
    let (local, _) = plot_held(&[copy], keys.clone()).await;
    let mut server = Hand::new(&local, 1).await;
    let sector = SectorId { farm: mine.id, sector_index: 0, history_size: 10 };
    for _ in 0..20 {
        server.say(sector, PlotPhase::Staged { sector_size_bytes: BYTES, checksum: [7; 32] }).await;
        let answer = tokio::time::timeout(Duration::from_secs(1), server.answers.next()).await;
        assert!(answer.is_err(), "the sector is another's, who waits for it");
    }
    // Nor is anything ordered; once it is held all of it is done at once.
    let (local, _) = plot_held(std::slice::from_ref(&mine), keys).await;
    let mut server = Hand::new(&local, 1).await;
    assert!(server.queue.take(&["default".to_owned()], Duration::from_secs(30)).await.unwrap().is_none());
    hold.send_replace(BTreeSet::from([KEY]));
    let held_at = Instant::now();
    assert_eq!(server.serve().await.1, PlotPhase::Stored);
    assert!(mine.is_plotted() && held_at.elapsed() < Duration::from_secs(5), "{:?}", held_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lies_is_named_in_the_next_attempt() {
    let farm = List::new(1, &[Fate::Wrong]);
    let bus = plot(std::slice::from_ref(&farm)).await;
    let mut liar = Hand::new(&bus, 1).await;
    let begun = Instant::now();
    let (first, answer) = liar.serve().await;
    assert_eq!((first.attempt, answer), (1, PlotPhase::Refused { reason: "other bytes".into() }));
    let (second, answer) = liar.serve().await;
    assert_eq!((second.attempt, second.avoid, answer), (2, vec![liar.id], PlotPhase::Stored));
    assert!(begun.elapsed() >= Duration::from_secs(10) && farm.is_plotted());
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_was_emptied_is_filled_again() {
    let farm = List::new(1, &[]);
    let bus = plot(std::slice::from_ref(&farm)).await;
    let mut server = Hand::new(&bus, 1).await;
    // Offered, and lost before anybody took it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    bus.lose_store();
    let lost_at = Instant::now();
    assert_eq!(server.serve().await.1, PlotPhase::Stored);
    assert!(lost_at.elapsed() <= Duration::from_secs(70), "{:?}", lost_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_sector_that_is_damaged_before_its_job_has_left_the_queue_does_not_wait_for_long() {
    let farm = List::new(1, &[]);
    let bus = plot(std::slice::from_ref(&farm)).await;
    let mut server = Hand::new(&bus, 1).await;
    let taken = server.take().await;
    assert_eq!(server.stage(&taken.job).await, PlotPhase::Stored);
    farm.sectors.lock().unwrap()[0] = SectorState::Damaged;
    // It is looked over, and the order meets the job of before.
    tokio::time::sleep(Duration::from_secs(13)).await;
    taken.delivery.ack().await.unwrap();
    let acked_at = Instant::now();
    assert_eq!(server.serve().await.1, PlotPhase::Stored);
    assert!(farm.is_plotted() && acked_at.elapsed() <= Duration::from_secs(8), "{:?}", acked_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_sector_made_for_an_earlier_run_is_taken_up() {
    let farm = List::new(1, &[]);
    let local = plot(std::slice::from_ref(&farm)).await;
    let mut server = Hand::new(&local, 1).await;
    // Of a history size that nobody offers now.
    let mut job = server.take().await.job;
    job.sector.history_size = 9;
    job.client = InstanceId([8; 16]);
    assert_eq!(server.stage(&job).await, PlotPhase::Stored);
    assert!(farm.is_plotted());
}

#[tokio::test(start_paused = true)]
async fn a_farm_comes_while_others_are_plotted_and_goes_amid_a_pull() {
    let (_hold, keys) = watch::channel(BTreeSet::from([KEY]));
    let (local, plots) = plot_held(&[], keys).await;
    let (gone, stays) = (List::new(1, &[Fate::Hang]), List::new(2, &[]));
    plots.add(gone.clone()).await.unwrap();
    let mut server = Hand::new(&local, 1).await;
    let taken = server.take().await;
    taken.delivery.ack().await.unwrap();
    let (job, staged) = (taken.job, PlotPhase::Staged { sector_size_bytes: BYTES, checksum: [7; 32] });
    while gone.hanging.load(Ordering::Relaxed) == 0 {
        server.say(job.sector, staged.clone()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    plots.add(stays.clone()).await.unwrap();
    plots.remove(gone.id).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(gone.hanging.load(Ordering::Relaxed), 0, "the pull is dropped");
    while tokio::time::timeout(Duration::from_secs(1), server.answers.next()).await.is_ok() {}
    server.say(job.sector, staged).await;
    let answer = tokio::time::timeout(Duration::from_secs(60), server.answers.next()).await;
    assert!(answer.is_err() && gone.pulls.load(Ordering::Relaxed) == 1, "nothing more is done with it");
    assert_eq!(server.serve().await.1, PlotPhase::Stored);
    assert!(stays.is_plotted() && !gone.is_plotted());
    // It comes back, and is plotted from where it was.
    plots.add(gone.clone()).await.unwrap();
    assert_eq!(server.stage(&job).await, PlotPhase::Stored);
    assert!(gone.is_plotted());
}

#[tokio::test(start_paused = true)]
async fn a_paused_farm_waits_and_goes_on_by_itself() {
    let farm = List::new(1, &[]);
    farm.is_paused.store(true, Ordering::Relaxed);
    let bus = plot(std::slice::from_ref(&farm)).await;
    let mut server = Hand::new(&bus, 1).await;
    let groups = ["default".to_owned()];
    assert!(
        server.queue.take(&groups, Duration::from_secs(90)).await.unwrap().is_none(),
        "nothing is offered"
    );
    farm.is_paused.store(false, Ordering::Relaxed);
    let job = server.take().await.job;
    farm.is_paused.store(true, Ordering::Relaxed);
    tokio::time::sleep(2 * LOOK_AT_BUS_EVERY).await;
    for _ in 0..10 {
        server.say(job.sector, PlotPhase::Staged { sector_size_bytes: BYTES, checksum: [7; 32] }).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(farm.pulls.load(Ordering::Relaxed), 0, "nothing is fetched");
    farm.is_paused.store(false, Ordering::Relaxed);
    assert_eq!(server.stage(&job).await, PlotPhase::Stored);
    assert!(farm.is_plotted());
}
