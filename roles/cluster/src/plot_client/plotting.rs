//! Keeps farms plotted: carries out what each farm's [`FarmJobs`] decides.
//!
//! ```text
//!   looks at the farm, words of plot-servers, ends of offers and pulls, time ─▶ FarmJobs ─▶ queue, plot-server, disk
//! ```
//! Farms are given to it and taken back while it runs, by [`Plots`]; those that are paused wait.
//!
//! Owns: the tasks in which that is done; one that panics is the end of what it did, and of nothing else. Never: a decision, or a word
//! about a farm that is not held (yet): a copy that is about to be stopped would say of the other's sectors that they are stored.

use super::asked::Asked;
use super::counters::Counters;
use super::ground::Ground;
use super::holder::Held;
use bus::cluster::Cluster;
use bus::jobs::{Offered, PlotJobs};
use bus::{BusError, Message, SharedBus};
use control::ids::{FarmId, InstanceId};
use control::messages::{ClusterInfo, Control, PlotJob, PlotProgress, SectorId, subjects};
use control::plot_jobs::{Action, Event, FarmJobs, Note, OfferAnswer, PullEnd};
use futures::future::FutureExt;
use futures::stream::{AbortHandle, BoxStream, SelectAll, StreamExt, abortable, unfold};
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
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

/// What is asked of [`Plotting`].
enum Order {
    Add(Arc<dyn Ground>, bus::Subscription),
    Remove(FarmId, oneshot::Sender<()>),
}

/// Gives farms to be plotted and takes them back; clones lead to the same [`Plotting`].
#[derive(Clone)]
pub struct Plots {
    bus: SharedBus,
    orders: mpsc::UnboundedSender<Order>,
}

impl Plots {
    /// A farm is to be plotted from when it is held.
    pub async fn add(&self, ground: Arc<dyn Ground>) -> Result<(), BusError> {
        let words = self.bus.subscribe(&subjects::plot_progress(ground.farm().id)).await?;
        // Gone only when the plot-client ends.
        let _ = self.orders.send(Order::Add(ground, words));
        Ok(())
    }

    /// It is not to be plotted any more: what is fetched for it is dropped, and plot-servers hear nothing any more. What they have made is
    /// asked for by whoever has the farm next, or they let go of it.
    pub async fn remove(&self, farm: FarmId) {
        let (done, is_done) = oneshot::channel();
        let _ = self.orders.send(Order::Remove(farm, done));
        let _ = is_done.await;
    }
}

/// The plotting of a plot-client's farms.
pub struct Plotting {
    bus: SharedBus,
    group: String,
    cluster: Cluster,
    queue: PlotJobs,
    orders: mpsc::UnboundedReceiver<Order>,
    /// By numbers in the order of their coming, none of which is used twice.
    farms: BTreeMap<u64, PlottedFarm>,
    next_farm: u64,
    /// What plot-servers say about the farms.
    words: SelectAll<BoxStream<'static, Message>>,
    info: watch::Receiver<ClusterInfo>,
    held: Held,
    counters: Arc<Counters>,
    /// Commitments of the segments that decide when sectors expire, by index.
    commitments: HashMap<u64, [u8; 48]>,
    reads: Arc<Semaphore>,
    /// Segments whose commitment is being read, and for which farm.
    asked: Asked<(u64, u64)>,
    /// What is done for which farm, and what that comes to.
    tasks: JoinSet<(u64, Option<Event>)>,
    started: Instant,
}

struct PlottedFarm {
    ground: Arc<dyn Ground>,
    place: String,
    jobs: FarmJobs,
    is_paused: bool,
    words: AbortHandle,
    /// The task that fetches a sector, or did last.
    pull: Option<tokio::task::AbortHandle>,
    /// The task that waits for a change of its sectors.
    watch: Option<tokio::task::AbortHandle>,
}

impl Drop for PlottedFarm {
    fn drop(&mut self) {
        self.words.abort();
        self.pull.iter().chain(&self.watch).for_each(tokio::task::AbortHandle::abort);
    }
}

impl Plotting {
    /// Of no farm yet; jobs are offered to plot-servers of `group`.
    pub async fn new(
        bus: SharedBus,
        group: String,
        info: watch::Receiver<ClusterInfo>,
        held: Held,
        counters: Arc<Counters>,
    ) -> Result<(Self, Plots), BusError> {
        let (cluster, queue) = (Cluster::open(&*bus).await?, PlotJobs::open(&*bus).await?);
        let (order, orders) = mpsc::unbounded_channel();
        let plotting = Self {
            bus: bus.clone(),
            group,
            cluster,
            queue,
            orders,
            farms: BTreeMap::new(),
            next_farm: 0,
            words: SelectAll::new(),
            info,
            held,
            counters,
            commitments: HashMap::new(),
            reads: Arc::new(Semaphore::new(READS)),
            asked: Asked::default(),
            tasks: JoinSet::new(),
            started: Instant::now(),
        };
        Ok((plotting, Plots { bus, orders: order }))
    }

    /// Plots until the bus is closed.
    pub async fn run(mut self) {
        let mut is_connected = self.bus.is_connected();
        let mut generation = self.queue.generation();
        let mut look_at_bus = tokio::time::interval(LOOK_AT_BUS_EVERY);
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                Some(order) = self.orders.recv() => self.obey(order).await,
                word = self.words.next(), if !self.words.is_empty() => match word {
                    Some(word) => self.on_word(&word).await,
                    // Those of farms that were taken back have ended too.
                    None if self.farms.is_empty() => {}
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
                    // What was done for a farm that was taken back.
                    Err(error) if error.is_cancelled() => {}
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
                    self.look_who_pauses().await;
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Add(ground, words) => {
                let next = async |mut words: bus::Subscription| words.next().await.map(|word| (word, words));
                let (stream, words) = abortable(unfold(words, next));
                self.words.push(stream.boxed());
                let (farm, settings) = (self.next_farm, self.info.borrow().protocol_info.clone());
                self.next_farm += 1;
                let plotted = PlottedFarm {
                    place: ground.place(),
                    jobs: FarmJobs::new(ground.farm(), settings, self.started.elapsed()),
                    ground,
                    is_paused: false,
                    words,
                    pull: None,
                    watch: None,
                };
                self.farms.insert(farm, plotted);
                self.watch(farm);
                self.on(farm, Event::Tick).await;
            }
            Order::Remove(id, done) => {
                self.farms.retain(|_, farm| farm.ground.farm().id != id);
                let _ = done.send(());
            }
        }
    }

    /// Lets jobs wait, or go on.
    async fn look_who_pauses(&mut self) {
        let changed = self.farms.iter().filter(|(_, farm)| farm.ground.is_paused() != farm.is_paused);
        for farm in changed.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.on(farm, Event::Tick).await;
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
        let farms = self.farms.values().filter(|farm| self.may_plot(farm));
        let first = farms.filter_map(|farm| farm.jobs.wake_at()).min();
        self.started + first.unwrap_or_else(|| self.started.elapsed() + control::plot_jobs::LOOK_EVERY)
    }

    async fn all(&mut self, event: &Event) {
        for farm in self.farms.keys().copied().collect::<Vec<_>>() {
            self.on(farm, event.clone()).await;
        }
    }

    async fn on_word(&mut self, message: &Message) {
        let progress = match PlotProgress::from_bytes(&message.payload) {
            Ok(progress) => progress,
            Err(error) => return tracing::warn!("plot progress that cannot be read: {error}"),
        };
        let is_its = |(_, farm): &(&u64, &PlottedFarm)| farm.ground.farm().id == progress.sector.farm;
        if let Some(farm) = self.farms.iter().find(is_its).map(|(number, _)| *number) {
            self.on(farm, Event::Heard(progress)).await;
        }
    }

    /// Gives an event to a farm, and does what follows; nothing when it was taken back.
    async fn on(&mut self, number: u64, event: Event) {
        if !self.farms.get(&number).is_some_and(|farm| self.may_plot(farm)) {
            return;
        }
        let Some(farm) = self.farms.get_mut(&number) else { return };
        let is_paused = farm.ground.is_paused();
        let has_changed = std::mem::replace(&mut farm.is_paused, is_paused) != is_paused;
        let now = self.started.elapsed();
        let mut actions = if has_changed { farm.jobs.on(Event::Paused(is_paused), now) } else { Vec::new() };
        if let Event::Segment { index, commitment } = &event {
            if self.commitments.len() >= MAX_COMMITMENTS {
                self.commitments.clear();
            }
            self.commitments.insert(*index, *commitment);
        }
        actions.append(&mut farm.jobs.on(event, now));
        for action in actions {
            match action {
                Action::Look => self.look(number),
                Action::AskSegment(index) => self.ask_segment(number, index),
                Action::Offer(job) => self.offer(number, job),
                Action::Pull { sector, server, checksum } => self.pull(number, sector, server, checksum),
                Action::Tell(progress) => tell(&self.bus, &progress).await,
                Action::Note(note) => self.note(number, note),
            }
        }
    }

    fn pull(&mut self, number: u64, sector: SectorId, server: InstanceId, checksum: [u8; 32]) {
        let Some(farm) = self.farms.get_mut(&number) else { return };
        let ground = farm.ground.clone();
        let pull = async move {
            let pulled = AssertUnwindSafe(ground.pull(sector, server, checksum)).catch_unwind();
            let end = match pulled.await {
                Ok(end) => end,
                Err(panic) => {
                    ground.drop_pull(sector).await;
                    PullEnd::Failed(format!("fetching it panicked: {}", text_of(&*panic)))
                }
            };
            (number, Some(Event::Pulled { sector, server, end }))
        };
        farm.pull = Some(self.tasks.spawn(pull));
    }

    /// Does `work` for a farm. If it panics nothing came of it.
    fn spawn(
        &mut self,
        farm: u64,
        what: &'static str,
        work: impl Future<Output = Option<Event>> + Send + 'static,
    ) {
        let place = self.farms[&farm].place.clone();
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
    fn watch(&mut self, farm: u64) {
        let Some(plotted) = self.farms.get_mut(&farm) else { return };
        let changed = plotted.ground.changed();
        plotted.watch = Some(self.tasks.spawn(changed.map(move |()| (farm, Some(Event::Changed)))));
    }

    fn look(&mut self, farm: u64) {
        let (ground, place) = (self.farms[&farm].ground.clone(), self.farms[&farm].place.clone());
        self.spawn(farm, "looking a farm over", async move {
            let looked = ground.look().await;
            looked
                .inspect_err(|error| tracing::warn!(dir = place, "plotting waits: {error}"))
                .ok()
                .map(Event::Looked)
        });
    }

    fn ask_segment(&mut self, farm: u64, index: u64) {
        let known = self.commitments.get(&index).copied();
        let (cluster, reads) = (self.cluster.clone(), self.reads.clone());
        // A farm wants it at each look until it is known.
        let Some(asking) = self.asked.begin((farm, index)) else { return };
        self.spawn(farm, "reading a segment's commitment", async move {
            let _asking = asking;
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

    fn offer(&mut self, farm: u64, job: PlotJob) {
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

    fn note(&self, farm: u64, note: Note) {
        let PlottedFarm { place: dir, ground, .. } = &self.farms[&farm];
        ground.note(&note);
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

/// Tells a server. A word that is lost is asked for again.
async fn tell(bus: &SharedBus, progress: &PlotProgress) {
    let sector = progress.sector;
    let told = match progress.to_bytes() {
        Ok(bytes) => bus.publish(&subjects::plot_answer(progress.server), bytes).await,
        Err(error) => return tracing::error!(%sector, "{error}"),
    };
    if let Err(error) = told {
        tracing::warn!(%sector, "{error}");
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
