//! The server's one loop: the queue, the progress messages, the makers and the clock bring events to each sector's [`Life`], and
//! what it decides is carried out here.

use super::staging::{Staging, needed_bytes};
use super::work::{MakeError, Progress, Workshop};
use crate::host::Present;
use bus::jobs::{PlotJobs, TakenJob};
use bus::told::Waiting;
use bus::{BusError, Delivery, Message, SharedBus};
use control::ids::InstanceId;
use control::messages::{Control, PlotJob, PlotPhase, PlotProgress, Role, SectorId, bounded_text, subjects};
use control::plot_server::{Action, Event, Life, Made, Room, Surroundings, Taking, judge};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, timeout};

/// How long one look at the queue takes.
const TAKE_WAIT: Duration = Duration::from_secs(5);
/// Pause after the queue or the work failed.
const PAUSE: Duration = Duration::from_secs(2);

/// What the loop is given.
pub struct Server {
    /// This member.
    pub id: InstanceId,
    /// Its group: jobs of this group first.
    pub group: String,
    /// Sectors made at once.
    pub concurrency: usize,
    /// How often the cluster is told; well within the queue's ack wait.
    pub tell_every: Duration,
    /// The bus.
    pub bus: SharedBus,
    /// Who is there.
    pub present: watch::Receiver<Present>,
}

/// A sector that this server makes or holds.
struct Sector {
    job: PlotJob,
    life: Life,
    delivery: Option<Delivery>,
    maker: Option<Maker>,
    fetches: u64,
}

struct Maker {
    number: u64,
    /// Dropped to stop it.
    _stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    progress: Arc<Progress>,
}

type QueueLook = JoinHandle<Result<Option<TakenJob>, BusError>>;
/// Of which maker, for which sector.
type MakerResult = (u64, SectorId, Result<Made, MakeError>);

/// The loop's state.
struct Running {
    server: Server,
    /// Makes sectors.
    workshop: Arc<Workshop>,
    queue: PlotJobs,
    queue_waiting: Waiting,
    started: Instant,
    sectors: HashMap<SectorId, Sector>,
    results: mpsc::UnboundedSender<MakerResult>,
    makers_started: u64,
    taking: Option<QueueLook>,
    not_before: Instant,
    /// Jobs that are done, being taken out of the queue: JetStream answers to that when it can, and nothing waits for it.
    acking: JoinSet<()>,
    /// Bytes that must be free before the next job is taken: what the last one needed.
    wanted_bytes: u64,
}

impl Server {
    /// Serves until `shutdown` is ready. Then unmade jobs go back to the queue; what is staged stays.
    pub async fn run(
        self,
        workshop: Arc<Workshop>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), BusError> {
        let queue = PlotJobs::open(&*self.bus).await?;
        let mut progress = self.bus.subscribe(&subjects::plot_answer(self.id)).await?;
        let (results, mut made) = mpsc::unbounded_channel();
        let mut tick = tokio::time::interval(self.tell_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = std::pin::pin!(shutdown);
        let mut running = Running::new(self, workshop, queue, results);
        running.offer_what_is_found().await;
        loop {
            running.take_if_there_is_room();
            tokio::select! {
                () = &mut shutdown => break,
                taken = taken(&mut running.taking) => running.on_taken(taken).await,
                Some(result) = made.recv() => running.on_made(result).await,
                message = progress.next() => match message {
                    Some(message) => running.on_message(&message).await,
                    None => break,
                },
                _ = tick.tick() => running.on_tick().await,
            }
        }
        running.shut_down().await;
        Ok(())
    }
}

/// The end of the look at the queue that is under way, if there is one.
async fn taken(taking: &mut Option<QueueLook>) -> Result<Option<TakenJob>, BusError> {
    let Some(task) = taking else { return std::future::pending().await };
    let result = task.await;
    *taking = None;
    result.unwrap_or(Err(BusError::Closed))
}

impl Running {
    fn new(
        server: Server,
        workshop: Arc<Workshop>,
        queue: PlotJobs,
        results: mpsc::UnboundedSender<MakerResult>,
    ) -> Self {
        let started = Instant::now();
        Self {
            server,
            workshop,
            queue,
            queue_waiting: Waiting::new("the queue of plot jobs"),
            started,
            sectors: HashMap::new(),
            results,
            makers_started: 0,
            taking: None,
            not_before: started,
            acking: JoinSet::new(),
            wanted_bytes: 0,
        }
    }

    fn staging(&self) -> &Staging {
        &self.workshop.staging
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn offer_what_is_found(&mut self) {
        for found in self.staging().all() {
            let job = found.job.clone();
            tracing::info!(sector = %job.sector, "found staged from an earlier run");
            let (life, actions) = Life::found(job.pieces_in_sector, found.made, self.now());
            self.enter(job, life, None, actions).await;
        }
    }

    /// Looks at the queue in a task of its own: a job must not be lost because something else happened meanwhile.
    fn take_if_there_is_room(&mut self) {
        let making = self.sectors.values().filter(|sector| sector.life.has_place()).count();
        let is_room = making < self.server.concurrency && self.staging().free_bytes() >= self.wanted_bytes;
        if !is_room || self.taking.is_some() {
            return;
        }
        let (queue, groups, not_before) = (self.queue.clone(), self.groups(), self.not_before);
        self.taking = Some(tokio::spawn(async move {
            tokio::time::sleep_until(not_before).await;
            queue.take(&groups, TAKE_WAIT).await
        }));
    }

    /// The own group, then those of all plot-clients.
    fn groups(&self) -> Vec<String> {
        let present = self.server.present.borrow();
        let clients = present.values().filter(|entry| entry.role == Role::PlotClient);
        let own = &self.server.group;
        let others: BTreeSet<_> = clients.map(|entry| &entry.group).filter(|group| *group != own).collect();
        std::iter::once(own).chain(others).cloned().collect()
    }

    async fn on_taken(&mut self, taken: Result<Option<TakenJob>, BusError>) {
        if taken.is_ok() {
            self.queue_waiting.over();
        }
        match taken {
            Ok(None) => {}
            Ok(Some(taken)) => self.on_job(taken).await,
            Err(error) => {
                self.queue_waiting.failed(&format_args!("cannot take a plot job: {error}"));
                self.not_before = Instant::now() + PAUSE;
            }
        }
    }

    async fn on_job(&mut self, TakenJob { job, delivery }: TakenJob) {
        if let Some(sector) = self.sectors.get_mut(&job.sector) {
            sector.delivery = Some(delivery);
            let is_other = !makes_the_same(&sector.job, &job);
            sector.job = job.clone();
            self.on(job.sector, Event::Delivered).await;
            if is_other {
                self.on(job.sector, Event::Unusable("it is wanted with other settings".into())).await;
            }
            return;
        }
        let needed_bytes = needed_bytes(&job);
        let taking = {
            let servers = self.present_servers();
            let room = Room::of(needed_bytes, self.staging().free_bytes(), self.staging().limit_bytes());
            if room != Room::Never {
                self.wanted_bytes = needed_bytes;
            }
            let (own, deliveries) = (self.server.id, delivery.delivery_count);
            judge(&job, &Surroundings { own, servers: &servers, deliveries, room })
        };
        match taking {
            Taking::Here => self.begin(job, delivery).await,
            Taking::Leave { after, look_away, why } => {
                self.not_before = self.not_before.max(Instant::now() + look_away);
                tracing::info!(sector = %job.sector, "left to others: {why}");
                settled(delivery.nak(after).await);
            }
            Taking::Fail(reason) => {
                tracing::error!(sector = %job.sector, "not plotted: {reason}");
                self.tell(job.sector, PlotPhase::Failed { reason: bounded_text(&reason) }).await;
                self.ack(delivery);
            }
        }
    }

    async fn begin(&mut self, job: PlotJob, delivery: Delivery) {
        let client_is_present = self.server.present.borrow().contains_key(&job.client);
        tracing::info!(
            sector = %job.sector,
            pieces = job.pieces_in_sector,
            attempt = job.attempt,
            client_is_present,
            "plotting"
        );
        let (life, actions) = Life::taken(job.pieces_in_sector, client_is_present, self.now());
        self.enter(job, life, Some(delivery), actions).await;
    }

    fn present_servers(&self) -> Vec<InstanceId> {
        let present = self.server.present.borrow();
        present.values().filter(|entry| entry.role == Role::PlotServer).map(|entry| entry.id).collect()
    }

    async fn on_made(&mut self, (number, id, result): MakerResult) {
        let maker = self.sectors.get(&id).and_then(|sector| sector.maker.as_ref());
        if maker.is_none_or(|maker| maker.number != number) {
            // It was stopped, and whoever stopped it has seen to the rest.
            return;
        }
        match result {
            Ok(made) => {
                tracing::info!(sector = %id, "staged");
                self.on(id, Event::Made(made)).await;
            }
            Err(error) => {
                self.not_before = Instant::now() + PAUSE;
                self.on(id, Event::MakingFailed(error.to_string())).await;
            }
        }
    }

    async fn on_message(&mut self, message: &Message) {
        let progress = match PlotProgress::from_bytes(&message.payload) {
            Ok(progress) => progress,
            Err(error) => return tracing::warn!("plot progress: {error}"),
        };
        let event = match progress.phase {
            _ if progress.server != self.server.id => return,
            PlotPhase::Stored => Event::Stored,
            PlotPhase::Refused { reason } => Event::Unusable(reason),
            PlotPhase::Wanted => Event::ClientAlive,
            _ => return,
        };
        self.on(progress.sector, event).await;
    }

    fn ack(&mut self, delivery: Delivery) {
        self.acking.spawn(async move { settled(delivery.ack().await) });
    }

    async fn on_tick(&mut self) {
        while self.acking.try_join_next().is_some() {}
        for id in self.sectors.keys().copied().collect::<Vec<_>>() {
            for event in self.observed(&id).into_iter().chain([Event::Tick]) {
                self.on(id, event).await;
            }
        }
    }

    /// What has happened to a sector since the last look.
    fn observed(&mut self, id: &SectorId) -> Vec<Event> {
        let staged = self.workshop.staging.find(&id.staging());
        let Some(sector) = self.sectors.get_mut(id) else { return Vec::new() };
        let mut events = Vec::new();
        let fetches = staged.as_ref().map_or(0, |staged| staged.fetches.load(Ordering::Relaxed));
        let is_fetched = std::mem::replace(&mut sector.fetches, fetches) != fetches;
        if is_fetched || self.server.present.borrow().contains_key(&sector.job.client) {
            events.push(Event::ClientAlive);
        }
        if let Some(maker) = &sector.maker {
            let Progress { pieces, records, missing } = &*maker.progress;
            let load = |count: &std::sync::atomic::AtomicU16| count.load(Ordering::Relaxed);
            let (pieces, records, missing) = (load(pieces), load(records), missing.text());
            events.push(Event::Worked { pieces, records, missing });
        }
        if let Some(reason) = staged.as_ref().and_then(|staged| staged.unreadable.get()) {
            events.push(Event::Unusable(reason.clone()));
        }
        events
    }

    async fn enter(&mut self, job: PlotJob, life: Life, delivery: Option<Delivery>, actions: Vec<Action>) {
        let id = job.sector;
        self.sectors.insert(id, Sector { job, life, delivery, maker: None, fetches: 0 });
        self.carry_out(id, actions).await;
    }

    async fn on(&mut self, id: SectorId, event: Event) {
        let now = self.now();
        let Some(sector) = self.sectors.get_mut(&id) else { return };
        if matches!(event, Event::Made(_) | Event::MakingFailed(_)) {
            sector.maker = None;
        }
        let actions = sector.life.on(event, now);
        self.carry_out(id, actions).await;
    }

    async fn carry_out(&mut self, id: SectorId, actions: Vec<Action>) {
        for action in actions {
            let Some(sector) = self.sectors.get_mut(&id) else { return };
            match action {
                Action::Make => {
                    self.makers_started += 1;
                    let (workshop, results) = (self.workshop.clone(), self.results.clone());
                    sector.maker = Some(start(self.makers_started, workshop, results, sector.job.clone()));
                }
                Action::StopMaking => stop(sector.maker.take(), &self.workshop.staging, &sector.job).await,
                Action::Tell(phase) => self.tell(id, phase).await,
                Action::KeepJob => settle(&sector.delivery, Delivery::progress).await,
                Action::AckJob => {
                    if let Some(delivery) = sector.delivery.take() {
                        self.ack(delivery);
                    }
                }
                Action::GiveJobBack => {
                    settle(&sector.delivery, |delivery| delivery.nak(Duration::ZERO)).await;
                }
                Action::Discard => discard(&self.workshop.staging, &sector.job).await,
            }
        }
        if self.sectors.get(&id).is_some_and(|sector| sector.life.is_over()) {
            self.sectors.remove(&id);
        }
    }

    async fn tell(&self, sector: SectorId, phase: PlotPhase) {
        if let PlotPhase::Failed { reason } = &phase {
            tracing::warn!(%sector, "this attempt is over: {reason}");
        }
        let progress = PlotProgress { sector, server: self.server.id, phase };
        let bytes = progress.to_bytes().expect("reasons are cut to what fits");
        // It is told again with the next tick.
        if let Err(error) = self.server.bus.publish(&subjects::plot_progress(sector.farm), bytes).await {
            tracing::debug!(%sector, "plot progress: {error}");
        }
    }

    async fn shut_down(mut self) {
        for id in self.sectors.keys().copied().collect::<Vec<_>>() {
            self.on(id, Event::Shutdown).await;
        }
        if let Some(taking) = self.taking.take() {
            taking.abort();
            if let Ok(Ok(Some(taken))) = taking.await {
                settled(taken.delivery.nak(Duration::ZERO).await);
            }
        }
        let acked = async { while self.acking.join_next().await.is_some() {} };
        if timeout(PAUSE, acked).await.is_err() {
            tracing::warn!("JetStream has not taken out all jobs that are done: they will come again");
        }
    }
}

/// Whether both jobs give the same bytes.
fn makes_the_same(a: &PlotJob, b: &PlotJob) -> bool {
    let of = |job: &PlotJob| {
        let info = &job.protocol_info;
        let choice = (info.max_pieces_in_sector, info.recent_segments, info.recent_history_fraction);
        (job.sector, job.public_key, job.pieces_in_sector, choice)
    };
    of(a) == of(b)
}

fn start(
    number: u64,
    workshop: Arc<Workshop>,
    results: mpsc::UnboundedSender<MakerResult>,
    job: PlotJob,
) -> Maker {
    let (stop, stopped) = oneshot::channel();
    let progress = Arc::<Progress>::default();
    let (id, noted) = (job.sector, progress.clone());
    let work = tokio::spawn(async move { workshop.make(&job, &noted, stopped).await });
    let task = tokio::spawn(async move {
        let result = work.await.unwrap_or_else(|panic| Err(panic.into()));
        // The loop has ended; it stopped everything first.
        let _ = results.send((number, id, result));
    });
    Maker { number, _stop: stop, task, progress }
}

/// Ends a maker; what it may have staged in its last moment goes too.
async fn stop(maker: Option<Maker>, staging: &Staging, job: &PlotJob) {
    if let Some(Maker { _stop, task, .. }) = maker {
        drop(_stop);
        if let Err(error) = task.await {
            tracing::error!("the maker of a sector failed: {error}");
        }
    }
    if staging.find(&job.sector.staging()).is_some() {
        discard(staging, job).await;
    }
}

async fn discard(staging: &Staging, job: &PlotJob) {
    let (staging, of) = (staging.clone(), job.clone());
    let result = tokio::task::spawn_blocking(move || staging.discard(&of)).await;
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("{error}"),
        Err(error) => tracing::error!("deleting a staged sector: {error}"),
    }
}

async fn settle<'a, F>(delivery: &'a Option<Delivery>, how: impl FnOnce(&'a Delivery) -> F)
where
    F: Future<Output = Result<(), BusError>> + 'a,
{
    if let Some(delivery) = delivery {
        settled(how(delivery).await);
    }
}

/// A word that the queue did not hear makes the job come again, which ends well in every phase.
fn settled(result: Result<(), BusError>) {
    if let Err(error) = result {
        tracing::warn!("plot queue: {error}; the job will come again");
    }
}
