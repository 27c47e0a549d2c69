//! Keeps farms plotted: carries out what each farm's [`FarmJobs`] decides.
//!
//! ```text
//!   looks at the farm, words of plot-servers, ends of offers and pulls, time ─▶ FarmJobs ─▶ queue, plot-server, disk
//! ```
//! Owns: the tasks in which that is done; one that panics is the end of what it did, and of nothing else. Never: a decision, or a word
//! about a farm that is not held (yet): a copy that is about to be stopped would say of the other's sectors that they are stored.

use super::counters::Counters;
use super::ground::Ground;
use super::holder::Held;
use bus::cluster::Cluster;
use bus::jobs::{Offered, PlotJobs};
use bus::{BusError, Message, SharedBus};
use control::messages::{ClusterInfo, Control, PlotJob, PlotProgress, SectorId, subjects};
use control::plot_jobs::{Action, Event, FarmJobs, Note, OfferAnswer, PullEnd};
use futures::future::FutureExt;
use futures::stream::{BoxStream, StreamExt, select_all, unfold};
use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often it is looked whether the bus is there again.
const LOOK_AT_BUS_EVERY: Duration = Duration::from_secs(1);
/// Reads of segment commitments at once: a full farm needs hundreds, and nothing waits for them.
const READS: usize = 8;
/// Commitments kept for all farms; 3.5 MiB, more than a network has segments in a year.
const MAX_COMMITMENTS: usize = 1 << 16;
/// Failures in a row from which a sector's trouble is an error for an operator: the pauses are five minutes and more.
const ERROR_FROM: u16 = 6;

/// What plot-servers say about some farms.
pub type Words = BoxStream<'static, Message>;

/// Subscribes to what is said about these farms.
pub async fn listen(bus: &SharedBus, grounds: &[Arc<dyn Ground>]) -> Result<Words, BusError> {
    let mut all = Vec::new();
    for ground in grounds {
        let words = bus.subscribe(&subjects::plot_progress(ground.farm().id)).await?;
        let next = async |mut words: bus::Subscription| words.next().await.map(|word| (word, words));
        all.push(unfold(words, next).boxed());
    }
    Ok(select_all(all).boxed())
}

/// The plotting of a plot-client's farms.
pub struct Plotting {
    bus: SharedBus,
    group: String,
    cluster: Cluster,
    queue: PlotJobs,
    farms: Vec<PlottedFarm>,
    info: watch::Receiver<ClusterInfo>,
    held: Held,
    counters: Arc<Counters>,
    /// Commitments of the segments that decide when sectors expire, by index.
    commitments: HashMap<u64, [u8; 48]>,
    reads: Arc<Semaphore>,
    /// What is done for which farm, and what that comes to.
    tasks: JoinSet<(usize, Option<Event>)>,
    started: Instant,
}

struct PlottedFarm {
    ground: Arc<dyn Ground>,
    place: String,
    jobs: FarmJobs,
}

impl Plotting {
    /// For the farms given, each from when it is held, by jobs offered to plot-servers of `group`.
    pub async fn new(
        bus: SharedBus,
        group: String,
        grounds: Vec<Arc<dyn Ground>>,
        info: watch::Receiver<ClusterInfo>,
        held: Held,
        counters: Arc<Counters>,
    ) -> Result<Self, BusError> {
        let (cluster, queue) = (Cluster::open(&*bus).await?, PlotJobs::open(&*bus).await?);
        let settings = info.borrow().protocol_info.clone();
        let farm = |ground: Arc<dyn Ground>| PlottedFarm {
            place: ground.place(),
            jobs: FarmJobs::new(ground.farm(), settings.clone(), Duration::ZERO),
            ground,
        };
        Ok(Self {
            farms: grounds.into_iter().map(farm).collect(),
            bus,
            group,
            cluster,
            queue,
            info,
            held,
            counters,
            commitments: HashMap::new(),
            reads: Arc::new(Semaphore::new(READS)),
            tasks: JoinSet::new(),
            started: Instant::now(),
        })
    }

    /// Plots until the bus is closed.
    pub async fn run(mut self, mut words: Words) {
        let mut is_connected = self.bus.is_connected();
        let mut generation = self.queue.generation();
        let mut look_at_bus = tokio::time::interval(LOOK_AT_BUS_EVERY);
        self.all(&Event::Tick).await;
        (0..self.farms.len()).for_each(|farm| self.watch(farm));
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                word = words.next() => match word {
                    Some(word) => self.on_word(&word).await,
                    None => return,
                },
                Some(done) = self.tasks.join_next() => match done {
                    Ok((farm, Some(event))) => {
                        if event == Event::Changed {
                            self.watch(farm);
                        }
                        self.on(farm, event).await;
                    }
                    Ok((_, None)) => {}
                    // Panics are caught in them.
                    Err(error) => tracing::error!("a task of plotting ended early: {error}"),
                },
                () = tokio::time::sleep_until(wake_at) => self.all(&Event::Tick).await,
                Ok(()) = self.info.changed() => self.settings().await,
                // What was said before of a farm that may be plotted from now on, it has not heard.
                Ok(()) = self.held.changed() => self.settings().await,
                Ok(()) = generation.changed() => self.all(&Event::QueueAnew).await,
                _ = look_at_bus.tick() => {
                    let was_connected = std::mem::replace(&mut is_connected, self.bus.is_connected());
                    if is_connected && !was_connected {
                        self.all(&Event::QueueAnew).await;
                    }
                }
            }
        }
    }

    async fn settings(&mut self) {
        let settings = self.info.borrow_and_update().protocol_info.clone();
        self.all(&Event::Settings(settings)).await;
    }

    fn may_plot(&self, farm: &PlottedFarm) -> bool {
        self.held.may_farm(&farm.ground.farm().public_key) && !farm.ground.is_stopped()
    }

    fn wake_at(&self) -> Instant {
        let farms = self.farms.iter().filter(|farm| self.may_plot(farm));
        let first = farms.filter_map(|farm| farm.jobs.wake_at()).min();
        self.started + first.unwrap_or_else(|| self.started.elapsed() + control::plot_jobs::LOOK_EVERY)
    }

    async fn all(&mut self, event: &Event) {
        for farm in 0..self.farms.len() {
            self.on(farm, event.clone()).await;
        }
    }

    async fn on_word(&mut self, message: &Message) {
        let progress = match PlotProgress::from_bytes(&message.payload) {
            Ok(progress) => progress,
            Err(error) => return tracing::warn!("plot progress that cannot be read: {error}"),
        };
        let is_its = |farm: &PlottedFarm| farm.ground.farm().id == progress.sector.farm;
        if let Some(farm) = self.farms.iter().position(is_its) {
            self.on(farm, Event::Heard(progress)).await;
        }
    }

    /// Gives an event to a farm, and does what follows.
    async fn on(&mut self, farm: usize, event: Event) {
        if !self.may_plot(&self.farms[farm]) {
            return;
        }
        if let Event::Segment { index, commitment } = &event {
            if self.commitments.len() >= MAX_COMMITMENTS {
                self.commitments.clear();
            }
            self.commitments.insert(*index, *commitment);
        }
        let now = self.started.elapsed();
        for action in self.farms[farm].jobs.on(event, now) {
            match action {
                Action::Look => self.look(farm),
                Action::AskSegment(index) => self.ask_segment(farm, index),
                Action::Offer(job) => self.offer(farm, job),
                Action::Pull { sector, server, checksum } => {
                    let ground = self.farms[farm].ground.clone();
                    let pull = async move {
                        let pulled = AssertUnwindSafe(ground.pull(sector, server, checksum)).catch_unwind();
                        let end = match pulled.await {
                            Ok(end) => end,
                            Err(panic) => {
                                ground.drop_pull(sector).await;
                                PullEnd::Failed(format!("fetching it panicked: {}", text_of(&*panic)))
                            }
                        };
                        Some(Event::Pulled { sector, server, end })
                    };
                    self.tasks.spawn(pull.map(move |event| (farm, event)));
                }
                Action::Tell(progress) => self.tell(&progress).await,
                Action::Note(note) => self.note(farm, note),
            }
        }
    }

    /// Does `work` for a farm. If it panics nothing came of it.
    fn spawn(
        &mut self,
        farm: usize,
        what: &'static str,
        work: impl Future<Output = Option<Event>> + Send + 'static,
    ) {
        let place = self.farms[farm].place.clone();
        let work = async move {
            let done = AssertUnwindSafe(work).catch_unwind().await;
            let event = done.unwrap_or_else(|panic| {
                tracing::error!(dir = place, "{what} panicked: {}", text_of(&*panic));
                None
            });
            (farm, event)
        };
        self.tasks.spawn(work);
    }

    /// Waits for the next change of a farm's sectors.
    fn watch(&mut self, farm: usize) {
        let changed = self.farms[farm].ground.changed();
        self.tasks.spawn(changed.map(move |()| (farm, Some(Event::Changed))));
    }

    fn look(&mut self, farm: usize) {
        let (ground, place) = (self.farms[farm].ground.clone(), self.farms[farm].place.clone());
        self.spawn(farm, "looking a farm over", async move {
            let looked = ground.look().await;
            looked
                .inspect_err(|error| tracing::warn!(dir = place, "plotting waits: {error}"))
                .ok()
                .map(Event::Looked)
        });
    }

    fn ask_segment(&mut self, farm: usize, index: u64) {
        let known = self.commitments.get(&index).copied();
        let (cluster, reads) = (self.cluster.clone(), self.reads.clone());
        self.spawn(farm, "reading a segment's commitment", async move {
            if let Some(commitment) = known {
                return Some(Event::Segment { index, commitment });
            }
            let _permit = reads.acquire().await.ok()?;
            match cluster.segment(index).await {
                Ok(commitment) => commitment.map(|commitment| Event::Segment { index, commitment }),
                Err(error) => {
                    tracing::debug!(index, "a segment's commitment: {error}");
                    None
                }
            }
        });
    }

    fn offer(&mut self, farm: usize, job: PlotJob) {
        let (queue, group) = (self.queue.clone(), self.group.clone());
        self.spawn(farm, "offering a job", async move {
            let answer = match queue.offer(&group, &job).await {
                Ok(Offered::Queued) => OfferAnswer::Queued,
                Ok(Offered::AlreadyThere) => OfferAnswer::AlreadyThere,
                Err(error) => OfferAnswer::Failed(error.to_string()),
            };
            Some(Event::Offered { sector: job.sector, answer })
        });
    }

    /// Tells a server. A word that is lost is asked for again.
    async fn tell(&self, progress: &PlotProgress) {
        let sector = progress.sector;
        let told = match progress.to_bytes() {
            Ok(bytes) => self.bus.publish(&subjects::plot_answer(progress.server), bytes).await,
            Err(error) => return tracing::error!(%sector, "{error}"),
        };
        if let Err(error) = told {
            tracing::warn!(%sector, "{error}");
        }
    }

    fn note(&self, farm: usize, note: Note) {
        let dir = &self.farms[farm].place;
        match note {
            Note::Offered { sector: SectorId { sector_index, history_size, .. }, reason, attempt } => {
                tracing::info!(dir, sector_index, history_size, attempt, ?reason, "to be plotted");
            }
            Note::NotOffered { sector, reason } => tracing::warn!(dir, %sector, "plotting waits: {reason}"),
            Note::Failed { sector, server, failures, reason, pause } => {
                let pause_s = pause.as_secs();
                if failures < ERROR_FROM {
                    tracing::warn!(dir, %sector, %server, failures, pause_s, "an attempt failed: {reason}");
                } else {
                    tracing::error!(dir, %sector, %server, failures, pause_s, "attempts keep failing: {reason}");
                }
            }
            Note::PullFailed { sector, server, reason, pause } => {
                let pause_s = pause.as_secs();
                tracing::warn!(dir, %sector, %server, pause_s, "fetching will be tried again: {reason}");
            }
            Note::Stored { sector } => {
                self.counters.plotted.increment();
                tracing::info!(dir, %sector, "sector stored");
            }
        }
    }
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a text".to_owned())
}

#[cfg(test)]
#[path = "plotting_tests.rs"]
mod tests;
