//! The farms of this plot-client while they come and go: carries out what [`control::fleet::Fleet`] decides.
//!
//! ```text
//!   flags, farms file, SIGHUP, requests ─▶ Fleet ─┬─ Open ──▶ Opener ─▶ memory, Holds, Plots, a signing task, the set that slots read
//!                                                 └─ Close ─▶ no slot, no sector; signatures until what was sent is signed; lock free
//! ```
//! The set has every farm whose files are open, also those that are leaving: who farms asks each.
//!
//! Owns: the farms' handles, who has been given them, and the tasks that open and close them. Never: a decision of when, or a farm's work.

use super::counters::{Counters, FarmCounts};
use super::disks::{DiskCounts, Disks};
use super::farms::FarmHandle;
use super::ground::OnDisk;
use super::holder::{Held, Holds, Stop};
use super::mount::Mount;
use super::opening::{OpenError, Opener};
use super::plotting::Plots;
use super::rebuilding::Rebuilder;
use super::signing::{Signing, Store, Windows};
use super::spec::FarmSpec;
use super::upkeep::keep_up;
use crate::host::Host;
use bus::BusError;
use control::fleet::{self, Action, Event, Failure, Passes, State};
use control::holder::Stopped;
use control::ids::FarmId;
use control::messages::subjects;
use control::solutions::{Handover, SolutionKey};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Time for what a farm has begun before it is let go of: proofs, solutions and signatures for them.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);
/// It leaves when for so long nothing was begun nor expected: a solution is on its way to a controller for less.
const QUIET_FOR: Duration = Duration::from_secs(1);
/// How often that is looked at, and the counts of farms are brought up to date.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Time between two updates of what is counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Files are let go of within this, or it is told that the disk hangs.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);
/// An opening that takes longer is told.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// Every farm whose files are open.
pub type FarmSet = Arc<[FarmHandle]>;

/// What a farm is given to when it is opened, and taken from when it is closed.
pub struct Services {
    /// This member.
    pub host: Host,
    /// Its signatures.
    pub windows: Windows,
    /// Whether it is this plot-client's alone.
    pub holds: Holds,
    /// Which farms are.
    pub held: Held,
    /// Its plotting.
    pub plots: Plots,
    /// Where it is told what it sent in earlier runs.
    pub recalled: mpsc::UnboundedSender<SolutionKey>,
    /// What became of everything.
    pub counters: Arc<Counters>,
    /// What is done where its sectors are damaged.
    pub rebuilder: Arc<Rebuilder>,
    /// Whether a new sector is read back before it counts.
    pub verify_writes: bool,
}

/// The farms of a plot-client.
pub struct Fleet {
    decisions: fleet::Fleet<FarmSpec>,
    opener: Arc<Opener>,
    services: Arc<Services>,
    open: BTreeMap<PathBuf, Member>,
    /// Farms that are being opened, until they are given up.
    opening: BTreeMap<PathBuf, watch::Sender<()>>,
    set: watch::Sender<FarmSet>,
    /// Those that were open once, whose sectors are counted.
    seen: BTreeSet<FarmId>,
    /// Which farm was open in a folder last, as long as that folder is wanted: no other is taken for it, and none is made.
    known: BTreeMap<PathBuf, FarmId>,
    /// Folders whose plotting an operator has paused, as long as they are wanted.
    paused: BTreeSet<PathBuf>,
    disks: Disks,
    doing: JoinSet<Done>,
    /// How an open farm says that it cannot go on.
    lose: mpsc::UnboundedSender<(PathBuf, FarmId, Failure)>,
    lost: mpsc::UnboundedReceiver<(PathBuf, FarmId, Failure)>,
    started: Instant,
}

/// An open farm.
struct Member {
    farm: FarmHandle,
    mount: Mount,
    /// What goes on for it until it is closed; ends with this.
    tasks: JoinSet<()>,
}

/// What a task has done.
enum Done {
    Opened(PathBuf, Result<FarmHandle, OpenError>),
    Closed(PathBuf),
    /// Of one that was opened in vain.
    LetGo,
}

impl Fleet {
    /// Of no farm yet. With `exit_on_error` any farm that cannot be opened or go on is the end.
    pub fn new(opener: Opener, services: Services, exit_on_error: bool) -> Self {
        let (lose, lost) = mpsc::unbounded_channel();
        Self {
            decisions: fleet::Fleet::new(exit_on_error),
            opener: Arc::new(opener),
            services: Arc::new(services),
            open: BTreeMap::new(),
            opening: BTreeMap::new(),
            set: watch::Sender::new(Vec::new().into()),
            seen: BTreeSet::new(),
            known: BTreeMap::new(),
            paused: BTreeSet::new(),
            disks: Disks::default(),
            doing: JoinSet::new(),
            lose,
            lost,
            started: Instant::now(),
        }
    }

    /// The farms whose files are open, as they come and go.
    pub fn set(&self) -> watch::Receiver<FarmSet> {
        self.set.subscribe()
    }

    /// Where a farm is.
    pub fn state(&self, path: &Path) -> Option<State<'_>> {
        self.decisions.state(path)
    }

    /// Why a farm goes on with the size that it had, though it was named with another since, if that is so.
    pub fn kept(&self, path: &Path) -> Option<&str> {
        self.decisions.kept(path)
    }

    /// Every farm, where it is, and its handle if it is open; and the time of its decisions.
    pub fn farms(&self) -> (impl Iterator<Item = (&Path, State<'_>, Option<&FarmHandle>)>, Duration) {
        let farms = self.decisions.states();
        let farms = farms.map(|(path, state)| (path, state, self.open.get(path).map(|member| &member.farm)));
        (farms, self.started.elapsed())
    }

    /// Whether the farm may farm: nobody else has it.
    pub fn is_held(&self, farm: &FarmHandle) -> bool {
        self.services.held.may_farm(&farm.identity().public_key())
    }

    /// Orders and fetches no more sectors for a farm, or again, until it is removed; also when it is closed and opened again meanwhile.
    pub fn pause_plotting(&mut self, path: &Path, is_paused: bool) {
        if is_paused {
            self.paused.insert(path.to_owned());
        } else {
            self.paused.remove(path);
        }
        if let Some(member) = self.open.get(path) {
            member.farm.pause_plotting(is_paused);
        }
    }

    /// Whether an operator has paused its plotting.
    pub fn is_plotting_paused(&self, path: &Path) -> bool {
        self.paused.contains(path)
    }

    /// The farm that was open there last, whether it is there now or not.
    pub fn id(&self, path: &Path) -> Option<FarmId> {
        self.known.get(path).copied()
    }

    /// What is counted of the farm's disk.
    pub fn disk(&self, farm: &FarmHandle) -> DiskCounts {
        self.disks.of(farm.health())
    }

    /// What comes next. Can be dropped and called again without loss.
    pub async fn next(&mut self) -> Next {
        let wake_at = self.decisions.wake_at().map(|at| self.started + at);
        tokio::select! {
            Some(done) = self.doing.join_next() => Next(Comes::Done(done)),
            Some((path, id, why)) = self.lost.recv() => Next(Comes::Lost(path, id, why)),
            () = sleep_until(wake_at.unwrap_or(self.started)), if wake_at.is_some() => Next(Comes::Event(Event::Tick)),
            () = sleep(COUNT_EVERY) => Next(Comes::Nothing),
        }
    }

    /// Does what has come, to its end; an error is that of the plot-client.
    pub async fn go_on(&mut self, next: Next) -> Result<(), String> {
        if let Comes::Done(Ok(Done::Opened(path, _))) = &next.0 {
            self.opening.remove(path);
        }
        let event = match next.0 {
            Comes::Done(Ok(Done::Opened(path, Ok(farm)))) => Some(self.opened(path, farm).await),
            Comes::Done(Ok(Done::Opened(path, Err(error)))) => {
                Some(failed(path, error.to_string(), error.passes()))
            }
            Comes::Done(Ok(Done::Closed(path))) => {
                self.open.remove(&path);
                self.publish();
                Some(Event::Closed { path })
            }
            Comes::Done(Err(error)) => return Err(format!("opening or closing a farm ended early: {error}")),
            // Of one that has gone meanwhile and come again, this says nothing.
            Comes::Lost(path, id, why) => {
                let is_it = self.open.get(&path).is_some_and(|member| member.farm.id() == id);
                is_it.then_some(Event::Lost { path, why })
            }
            Comes::Event(event) => Some(event),
            Comes::Done(Ok(Done::LetGo)) | Comes::Nothing => None,
        };
        let ended = event.map_or(Ok(()), |event| self.on(event)).and_then(|()| self.look_at_disks());
        self.count();
        ended
    }

    /// Gives an event to the machine, and does what follows; an error is the end.
    pub fn on(&mut self, event: Event<FarmSpec>) -> Result<(), String> {
        for action in self.decisions.on(event, self.started.elapsed()) {
            match action {
                Action::Open { path, spec } => {
                    let (wanted, given_up) = watch::channel(());
                    self.opening.insert(path.clone(), wanted);
                    let (opener, known) = (self.opener.clone(), self.known.get(&path).copied());
                    self.doing.spawn(async move {
                        let opened = open(&opener, spec, known, given_up).await;
                        Done::Opened(path, opened)
                    });
                }
                Action::GiveUp { path } => drop(self.opening.remove(&path)),
                Action::Close { path } => self.close(path),
                Action::TellFailure { path, reason, again_in } => tell_failure(&path, &reason, again_in),
                Action::TellKept { path, reason } => {
                    let dir = path.display();
                    tracing::error!(%dir, "this farm goes on with the size that it had: {reason}");
                }
                Action::TellNoneOpen => tracing::warn!("no farm is open: nothing is farmed until one is"),
                Action::End { reason } => return Err(reason),
            }
        }
        // What is not wanted any more is no reason for anything when it is wanted again.
        self.known.retain(|path, _| self.decisions.state(path).is_some());
        self.paused.retain(|path| self.decisions.state(path).is_some());
        Ok(())
    }

    /// Lets go of farms whose disk is gone, or is not what is mounted there any more.
    fn look_at_disks(&mut self) -> Result<(), String> {
        self.disks.look(self.open.values().map(|member| member.farm.health()));
        let (now, mut lost) = (Instant::now(), Vec::new());
        for (path, Member { farm, mount, .. }) in &mut self.open {
            if let Some(why) = mount.trouble(farm.health().get(), now).filter(|_| !farm.is_leaving()) {
                let dir = path.display();
                let reason =
                    format!("{dir}: {why}; farm {} is closed, and opened again when it is there", farm.id());
                lost.push((path.clone(), Failure { reason, passes: Passes::Soon }));
            }
        }
        lost.into_iter().try_for_each(|(path, why)| self.on(Event::Lost { path, why }))
    }

    /// Takes a farm that was just opened into service.
    async fn opened(&mut self, path: PathBuf, farm: FarmHandle) -> Event<FarmSpec> {
        let is_same = |member: &&Member| member.farm.identity().public_key() == farm.identity().public_key();
        if let Some(first) = self.open.values().find(is_same) {
            let passes = if first.farm.is_leaving() { Passes::Surely } else { Passes::Never };
            let (dir, first) = (path.display(), first.farm.dir().display());
            let reason = format!("{dir}: the same farm as the one in {first}: remove one of the copies");
            self.doing.spawn(let_go_unused(farm, path.clone()));
            return failed(path, reason, passes);
        }
        let tasks = match self.serve(&path, &farm).await {
            Ok(tasks) => tasks,
            Err(error) => {
                self.doing.spawn(let_go_unused(farm, path.clone()));
                return failed(path, error.to_string(), Passes::Maybe);
            }
        };
        let (plotted, sectors) = (farm.plotted_when_opened(), farm.layout().sectors());
        if self.seen.insert(farm.id()) {
            self.services.counters.found_plotted.add(plotted.into());
        }
        tracing::info!(dir = %path.display(), id = %farm.id(), plotted, sectors, "farm open");
        farm.pause_plotting(self.paused.contains(&path));
        self.known.insert(path.clone(), farm.id());
        let mount = Mount::of(&path);
        self.open.insert(path.clone(), Member { farm, mount, tasks });
        self.publish();
        Event::Opened { path }
    }

    /// Gives a farm to everybody who works with it. What is remembered of its solutions first, so that none is sent twice.
    async fn serve(&self, path: &Path, farm: &FarmHandle) -> Result<JoinSet<()>, BusError> {
        let Services { host, windows, holds, plots, recalled, counters, verify_writes, .. } = &*self.services;
        let (public_key, bus) = (farm.identity().public_key(), host.bus().clone());
        let requests = bus.subscribe(&subjects::signature(&public_key)).await?;
        recall(farm, windows, recalled);
        let owner = Owner { path: path.to_owned(), farm: farm.clone(), lose: self.lose.clone() };
        holds.open(public_key, path.display().to_string(), Arc::new(owner)).await?;
        plots
            .add(Arc::new(OnDisk { host: host.clone(), farm: farm.clone(), verify_writes: *verify_writes }))
            .await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_up(farm.clone(), counters.clone(), self.services.rebuilder.clone()));
        let (signer, windows, counters) = (farm.clone(), windows.clone(), counters.clone());
        let store: Store = Box::new(move |hash, may_be_new| {
            let farm = signer.clone();
            Box::pin(async move { farm.sign(hash, may_be_new).await })
        });
        tasks.spawn(Signing { bus, public_key, store, windows, counters }.run(requests));
        let (path, farm, lose) = (path.to_owned(), farm.clone(), self.lose.clone());
        tasks.spawn(async move {
            farm.ended().await;
            let reason = format!("{}: its executor has ended: start this plot-client again", path.display());
            let _ = lose.send((path, farm.id(), Failure { reason, passes: Passes::Never }));
        });
        Ok(tasks)
    }

    /// Lets go of a farm, in a task.
    fn close(&mut self, path: PathBuf) {
        let Some(member) = self.open.get_mut(&path) else { return };
        let (farm, services) = (member.farm.clone(), self.services.clone());
        let mut tasks = std::mem::take(&mut member.tasks);
        farm.leave();
        let (dir, limit_s) = (path.display(), LEAVE_WITHIN.as_secs());
        match farm.disk_trouble() {
            None => tracing::info!(%dir, "the farm leaves: what it has begun may end, {limit_s} s at most"),
            Some(trouble) => {
                tracing::info!(%dir, "the farm leaves: {trouble}, and what it has begun has {limit_s} s");
            }
        }
        self.doing.spawn(async move {
            let public_key = farm.identity().public_key();
            services.plots.remove(farm.id()).await;
            if timeout(LEAVE_WITHIN, quiet(&farm, &services.windows)).await.is_err() {
                tracing::warn!(dir = %path.display(), "the farm leaves before all that it had begun has ended");
            }
            services.holds.close(public_key).await;
            tasks.shutdown().await;
            let_go(&farm, &path).await;
            tracing::info!(dir = %path.display(), id = %farm.id(), "farm closed");
            Done::Closed(path)
        });
    }

    fn publish(&self) {
        self.set.send_replace(self.open.values().map(|member| member.farm.clone()).collect());
    }

    /// Brings the counts of farms up to date.
    fn count(&self) {
        let (mut counts, mut troubles) = (FarmCounts::default(), Vec::new());
        let (farms, _) = self.farms();
        for (path, state, farm) in farms {
            counts.named += 1;
            let trouble = match (state, farm) {
                (State::Open, Some(farm)) => match farm.disk_trouble() {
                    Some(trouble) => {
                        counts.paused += 1;
                        Some(trouble)
                    }
                    None if self.is_held(farm) => {
                        counts.open += 1;
                        None
                    }
                    None => {
                        counts.claimed += 1;
                        Some("claimed: not known yet to be in use by nobody else")
                    }
                },
                (State::Shut { reason, .. }, _) => {
                    counts.failed += 1;
                    Some(reason)
                }
                (State::Opening, _) => Some("opening"),
                (State::Closing | State::Open, _) => Some("closing"),
            };
            troubles.extend(trouble.map(|trouble| format!("{}: {trouble}", path.display())));
        }
        counts.plotting_paused = self.paused.len();
        counts.disks = self.disks.counts();
        counts.troubles = troubles.join("; ");
        self.services.counters.set_farms(counts);
    }
}

/// What comes next, for [`Fleet::go_on`].
pub struct Next(Comes);

enum Comes {
    Done(Result<Done, JoinError>),
    Lost(PathBuf, FarmId, Failure),
    Event(Event<FarmSpec>),
    Nothing,
}

/// Hears that another plot-client has the farm.
struct Owner {
    path: PathBuf,
    farm: FarmHandle,
    lose: mpsc::UnboundedSender<(PathBuf, FarmId, Failure)>,
}

impl Stop for Owner {
    fn stop(&self, why: &Stopped) {
        self.farm.stop();
        let why = Failure { reason: why.to_string(), passes: Passes::Never };
        // Gone only when the plot-client ends.
        let _ = self.lose.send((self.path.clone(), self.farm.id(), why));
    }
}

/// Opens the windows of what an earlier run handed over, while signatures for that may be wanted; what may have been sent is not again.
fn recall(farm: &FarmHandle, windows: &Windows, recalled: &mpsc::UnboundedSender<SolutionKey>) {
    let now = SystemTime::now();
    for earlier in farm.sent().earlier() {
        let Handover { solution, controller } = earlier.handover;
        if let Some(age) = earlier.age(now) {
            windows.recall(solution.public_key, controller, age);
        }
        if earlier.counts(now) {
            let _ = recalled.send(solution);
        }
    }
}

/// Ready when a farm that leaves has nothing under way any more. One that was stopped has nothing to wait for.
async fn quiet(farm: &FarmHandle, windows: &Windows) {
    let public_key = farm.identity().public_key();
    let mut since = Instant::now();
    while !farm.is_stopped() && !farm.is_closed() && since.elapsed() < QUIET_FOR {
        sleep(LOOK_EVERY).await;
        if farm.is_at_work() || !windows.is_quiet_for(&public_key) {
            since = Instant::now();
        }
    }
}

/// Opens a farm, and tells once where that takes long.
async fn open(
    opener: &Opener,
    spec: FarmSpec,
    known: Option<FarmId>,
    given_up: watch::Receiver<()>,
) -> Result<FarmHandle, OpenError> {
    let path = spec.path.clone();
    let mut opening = pin!(opener.open(spec, known, given_up));
    if let Ok(opened) = timeout(OPEN_WITHIN, &mut opening).await {
        return opened;
    }
    let limit_s = OPEN_WITHIN.as_secs();
    tracing::warn!(dir = %path.display(), "opening this farm takes longer than {limit_s} s: it is made or grown, or its disk is slow");
    opening.await
}

/// Closes a farm that nobody works with.
async fn let_go(farm: &FarmHandle, path: &Path) {
    farm.stop();
    if timeout(CLOSE_WITHIN, farm.close()).await.is_err() {
        tracing::warn!(dir = %path.display(), "the farm's files are still open: its disk does not answer");
        farm.ended().await;
    }
}

/// Closes a farm that was opened in vain.
async fn let_go_unused(farm: FarmHandle, path: PathBuf) -> Done {
    let_go(&farm, &path).await;
    Done::LetGo
}

fn failed(path: PathBuf, reason: String, passes: Passes) -> Event<FarmSpec> {
    Event::Failed { path, why: Failure { reason, passes } }
}

fn tell_failure(path: &Path, reason: &str, again_in: Option<Duration>) {
    let dir = path.display();
    match again_in {
        Some(pause) => {
            tracing::error!(%dir, "this farm takes no part: {reason}; tried again in {} s", pause.as_secs());
        }
        None => tracing::error!(%dir, "this farm takes no part: {reason}"),
    }
}
