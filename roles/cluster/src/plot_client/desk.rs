//! What operators wish of a plot-client's farms while it runs, and what they are told.
//!
//! ```text
//!   SIGHUP ─▶ farms file ─┐
//!   FarmsOrder ───────────┼─▶ Wishes ─▶ Fleet ─▶ FarmsDone, once the farm is open, or closed, or a while has passed
//!   FarmsWanted ──────────┴─────────────────▶ FarmsTold
//! ```
//! Owns: who waits for an answer. Never: which wish holds, or what becomes of a farm.

use super::disks::DiskCounts;
use super::farms::FarmHandle;
use super::farms_file;
use super::fleet::Fleet;
use super::spec::FarmSpec;
use super::wishes::{MAX_ADDED, Wishes};
use bus::{BusError, Message, SharedBus, Subscription};
use control::fleet::{Event, State};
use control::ids::InstanceId;
use control::messages::{
    Control, DiskHealth, DiskTold, FarmStage, FarmTold, FarmsChange, FarmsDone, FarmsOrder, FarmsTold,
    FarmsWanted, MAX_FARMS_TOLD, bounded_reason, bounded_text, subjects,
};
use engine::Class;
use engine::disk::Health;
use engine::farm::SectorStatus;
use futures::future::join_all;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep_until, timeout};

/// Who asks for a farm is answered within this, whatever has become of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Requests that may wait for what becomes of their farm.
const MAX_WAITING: usize = 64;
/// A file that is not read within this hangs.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// Time for a farm to say how many of its sectors are plotted.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// Hears what operators wish.
pub struct Desk {
    fleet: Fleet,
    wishes: Wishes,
    bus: SharedBus,
    client: InstanceId,
    host: String,
    wanted: Subscription,
    orders: Subscription,
    hangups: Option<Signal>,
    waiting: Vec<Waiting>,
}

/// Somebody who waits for what becomes of a farm.
struct Waiting {
    path: PathBuf,
    /// Whether it is to come, or else to go.
    comes: bool,
    reply_to: String,
    until: Instant,
}

enum Heard {
    Fleet(super::fleet::Next),
    Wanted(Message),
    Order(Message),
    Hangup,
    Nothing,
}

impl Desk {
    /// Of plot-client `client` on `host`. Nothing is opened before it runs.
    pub async fn new(
        fleet: Fleet,
        wishes: Wishes,
        bus: SharedBus,
        client: InstanceId,
        host: String,
    ) -> Result<Self, BusError> {
        let wanted = bus.subscribe(subjects::FARMS_WANTED).await?;
        let orders = bus.subscribe(&subjects::farms(client)).await?;
        let hangups = wishes.hangups();
        Ok(Self { fleet, wishes, bus, client, host, wanted, orders, hangups, waiting: Vec::new() })
    }

    /// Opens the farms, and goes on until there is a reason to end, which it gives.
    pub async fn run(&mut self) -> String {
        if let Err(reason) = self.fleet.on(self.wishes.event()) {
            return reason;
        }
        loop {
            let until = self.waiting.iter().map(|waiting| waiting.until).min();
            let heard = tokio::select! {
                next = self.fleet.next() => Heard::Fleet(next),
                Some(message) = self.wanted.next() => Heard::Wanted(message),
                Some(message) = self.orders.next() => Heard::Order(message),
                () = hangup(&mut self.hangups) => Heard::Hangup,
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => Heard::Nothing,
            };
            let done = match heard {
                Heard::Fleet(next) => self.fleet.go_on(next).await,
                Heard::Wanted(message) => {
                    self.tell(&message);
                    Ok(())
                }
                Heard::Order(message) => self.obey(message).await,
                Heard::Hangup => self.reload().await,
                Heard::Nothing => Ok(()),
            };
            if let Err(reason) = done {
                return reason;
            }
            self.answer().await;
        }
    }

    /// Reads the farms file again. What is wrong with it changes nothing.
    async fn reload(&mut self) -> Result<(), String> {
        let Some((file, named)) = self.wishes.file() else {
            tracing::warn!("SIGHUP: there is no farms file to read again (--farms-file): nothing changes");
            return Ok(());
        };
        let read = tokio::task::spawn_blocking(move || farms_file::read(&file, &named));
        match timeout(READ_WITHIN, read).await {
            Ok(Ok(Ok(farms))) => {
                tracing::info!(farms = farms.len(), "SIGHUP: the farms file is read again");
                self.wishes.read_again(farms);
                let overruled = self.wishes.overruled();
                if !overruled.is_empty() {
                    tracing::warn!(
                        "SIGHUP: what was asked for by request holds where the file's line is as it was: {overruled}; `farms add` and \
                         `farms remove` change that, or another line"
                    );
                }
                return self.fleet.on(self.wishes.event());
            }
            Ok(Ok(Err(error))) => tracing::error!("SIGHUP: {error}: nothing changes"),
            Ok(Err(error)) => tracing::error!("SIGHUP: reading the farms file ended early: {error}"),
            Err(_) => tracing::error!(
                "SIGHUP: the farms file is not read in time, is its disk there? Nothing changes"
            ),
        }
        Ok(())
    }

    async fn obey(&mut self, message: Message) -> Result<(), String> {
        let Some(reply_to) = message.reply_to else { return Ok(()) };
        let what = match FarmsOrder::from_bytes(&message.payload) {
            Ok(order) => order.what,
            Err(error) => {
                reply(&self.bus, &reply_to, &refused(&format!("the request cannot be read: {error}"))).await;
                return Ok(());
            }
        };
        if self.waiting.len() >= MAX_WAITING {
            let reason = format!("{MAX_WAITING} requests wait for their farms already: ask again in a while");
            reply(&self.bus, &reply_to, &refused(&reason)).await;
            return Ok(());
        }
        match what {
            FarmsChange::Add { farm } => self.add(&farm, reply_to).await,
            FarmsChange::Remove { path } => self.remove(&path, reply_to).await,
            FarmsChange::PausePlotting { path, is_paused } => {
                let done = self.pause_plotting(&path, is_paused);
                reply(&self.bus, &reply_to, &done).await;
                Ok(())
            }
            FarmsChange::Scrub { path, is_wanted } => {
                let done = self.scrub(&path, is_wanted);
                reply(&self.bus, &reply_to, &done).await;
                Ok(())
            }
        }
    }

    async fn add(&mut self, farm: &str, reply_to: String) -> Result<(), String> {
        let farm = match FarmSpec::of_another_host(farm) {
            Ok(farm) => farm,
            Err(error) => {
                reply(&self.bus, &reply_to, &refused(&format!("{error}"))).await;
                return Ok(());
            }
        };
        if !self.wishes.may_add(&farm.path) {
            let reason =
                format!("{MAX_ADDED} farms are here by request already: write them into the farms file");
            reply(&self.bus, &reply_to, &refused(&reason)).await;
            return Ok(());
        }
        self.wishes.add(farm.clone());
        let path = farm.path.clone();
        let (dir, remark) = (path.display(), self.wishes.remark_on_added(&path));
        tracing::info!(%dir, "a farm is added by request{remark}");
        self.wait(path.clone(), true, reply_to);
        self.fleet.on(Event::Added { path, spec: farm })
    }

    async fn remove(&mut self, path: &str, reply_to: String) -> Result<(), String> {
        let Some(path) = self.find(path) else {
            reply(&self.bus, &reply_to, &refused(&format!("there is no farm in {path} here"))).await;
            return Ok(());
        };
        self.wishes.remove(&path);
        let (dir, remark) = (path.display(), self.wishes.remark_on_removed(&path));
        tracing::info!(%dir, "a farm is removed by request{remark}");
        self.wait(path.clone(), false, reply_to);
        self.fleet.on(Event::Removed { path })
    }

    fn pause_plotting(&mut self, path: &str, is_paused: bool) -> FarmsDone {
        let Some(path) = self.find(path) else { return refused(&format!("there is no farm in {path} here")) };
        self.fleet.pause_plotting(&path, is_paused);
        let what = if is_paused {
            "paused, until it is resumed, the farm is removed, or this plot-client ends"
        } else {
            "resumed"
        };
        tracing::info!(dir = %path.display(), "plotting is {what}");
        done(&format!("plotting is {what}"))
    }

    /// Begins or stops the scrub of the farm of this folder, if it is open.
    fn scrub(&self, path: &str, is_wanted: bool) -> FarmsDone {
        let found = self.find(path);
        let (mut farms, _) = self.fleet.farms();
        let farm = farms.find(|(path, ..)| Some(*path) == found.as_deref()).and_then(|(.., farm)| farm);
        let Some(farm) = farm else { return refused(&format!("no farm is open in {path} here")) };
        let asked = if is_wanted { farm.scrub().begin() } else { farm.scrub().stop() };
        asked.map_or_else(|why| refused(&why), done)
    }

    /// The farm of this folder, as it was told.
    fn find(&self, path: &str) -> Option<PathBuf> {
        let (farms, _) = self.fleet.farms();
        farms
            .map(|(path, ..)| path)
            .find(|found| text(found) == path || *found == Path::new(path))
            .map(Path::to_owned)
    }

    fn wait(&mut self, path: PathBuf, comes: bool, reply_to: String) {
        self.waiting.push(Waiting { path, comes, reply_to, until: Instant::now() + ANSWER_WITHIN });
    }

    /// Answers those whose farm has come to something, or who have waited long enough.
    async fn answer(&mut self) {
        let now = Instant::now();
        for waiting in std::mem::take(&mut self.waiting) {
            match self.outcome(&waiting, waiting.until <= now) {
                Some(answer) => reply(&self.bus, &waiting.reply_to, &answer).await,
                None => self.waiting.push(waiting),
            }
        }
    }

    fn outcome(&self, waiting: &Waiting, is_late: bool) -> Option<FarmsDone> {
        match (self.fleet.state(&waiting.path), waiting.comes) {
            (None, false) => Some(done(&format!("closed{}", self.wishes.remark_on_removed(&waiting.path)))),
            (Some(State::Open), true) => {
                if let Some(reason) = self.fleet.kept(&waiting.path) {
                    return Some(refused(&format!("{reason}; it goes on with the size that it had")));
                }
                Some(done(&format!("open{}", self.wishes.remark_on_added(&waiting.path))))
            }
            (Some(State::Shut { reason, again_at }), true) if !reason.is_empty() => {
                let again = if again_at.is_some() { "; it is tried again" } else { "" };
                Some(refused(&format!("{reason}{again}")))
            }
            (None, true) => Some(refused("it was removed meanwhile")),
            (Some(_), true) if is_late => Some(done("it is being opened: see `farms list`")),
            (Some(_), false) if is_late => Some(done("it is being closed: see `farms list`")),
            _ => None,
        }
    }

    /// Tells of all farms, in a task: a farm may take a moment to say how many sectors it has.
    fn tell(&self, message: &Message) {
        let asker = match FarmsWanted::from_bytes(&message.payload) {
            Ok(FarmsWanted { asker }) => asker,
            Err(error) => return tracing::debug!("a question about farms that cannot be read: {error}"),
        };
        let (farms, now) = self.fleet.farms();
        let farms: Vec<_> =
            farms.map(|(path, state, farm)| (self.told(path, state, farm, now), farm.cloned())).collect();
        let (bus, client, host) = (self.bus.clone(), self.client, bounded_text(&self.host));
        let farms_in_all = u16::try_from(farms.len()).unwrap_or(u16::MAX);
        tokio::spawn(async move {
            // At once: so many are to be waited for.
            let told = FarmsTold { client, host: host.clone(), farms_in_all, farms: Vec::new() };
            send(&bus, asker, &told).await;
            let farms = join_all(farms.into_iter().map(|(told, farm)| count_plotted(told, farm))).await;
            for farms in farms.chunks(MAX_FARMS_TOLD) {
                let told = FarmsTold { client, host: host.clone(), farms_in_all, farms: farms.to_vec() };
                send(&bus, asker, &told).await;
            }
        });
    }

    fn disk_told(&self, farm: &FarmHandle) -> DiskTold {
        let health = match farm.health().get() {
            Health::Healthy => DiskHealth::Healthy,
            Health::Slow => DiskHealth::Slow,
            Health::Sick => DiskHealth::Sick,
            Health::Gone => DiskHealth::Gone,
        };
        let DiskCounts { changes, late, failed, refused, .. } = self.fleet.disk(farm);
        let device = bounded_text(farm.health().device());
        DiskTold { device, health, changes, late, failed, refused }
    }

    fn told(&self, path: &Path, state: State<'_>, farm: Option<&FarmHandle>, now: Duration) -> FarmTold {
        let trouble = farm.and_then(FarmHandle::disk_trouble);
        let (failing, failing_reason) = farm.map_or_else(Default::default, |farm| {
            let failing = farm.failing();
            (failing.count() as u16, bounded_reason(&failing.reason()))
        });
        let stage = match state {
            State::Opening => FarmStage::Opening,
            State::Closing => FarmStage::Closing,
            State::Shut { reason, again_at } => {
                let again_in_s = again_at.map(|at| at.saturating_sub(now).as_secs() as u32);
                FarmStage::Failed { reason: bounded_reason(reason), again_in_s }
            }
            State::Open => match trouble {
                Some(reason) => FarmStage::Paused { reason: bounded_text(reason) },
                None if farm.is_some_and(|farm| self.fleet.is_held(farm)) => FarmStage::Farming,
                None => FarmStage::Claimed,
            },
        };
        FarmTold {
            path: text(path),
            id: self.fleet.id(path),
            stage,
            plotted: 0,
            sectors: farm.map_or(0, |farm| farm.layout().sectors()),
            sector_bytes: farm.map_or(0, |farm| farm.layout().sector_bytes()),
            is_plotting_paused: self.fleet.is_plotting_paused(path),
            failing,
            failing_reason,
            disk: farm.map(|farm| self.disk_told(farm)),
            scrub: farm.map(|farm| bounded_text(&farm.scrub().told(trouble))).unwrap_or_default(),
        }
    }
}

async fn send(bus: &SharedBus, asker: InstanceId, told: &FarmsTold) {
    let sent = match told.to_bytes() {
        Ok(bytes) => bus.publish(&subjects::farms_told(asker), bytes).await,
        Err(error) => return tracing::error!("{error}"),
    };
    if let Err(error) = sent {
        tracing::debug!("farms could not be told of: {error}");
    }
}

/// A folder as it is told.
fn text(path: &Path) -> String {
    bounded_text(&path.display().to_string())
}

fn done(what: &str) -> FarmsDone {
    FarmsDone::Done { what: bounded_reason(what) }
}

fn refused(reason: &str) -> FarmsDone {
    FarmsDone::Refused { reason: bounded_reason(reason) }
}

async fn reply(bus: &SharedBus, reply_to: &str, answer: &FarmsDone) {
    let sent = match answer.to_bytes() {
        Ok(bytes) => bus.publish(reply_to, bytes).await,
        Err(error) => return tracing::error!("{error}"),
    };
    if let Err(error) = sent {
        tracing::debug!("a request could not be answered: {error}");
    }
}

async fn count_plotted(told: FarmTold, farm: Option<FarmHandle>) -> FarmTold {
    let Some(farm) = farm else { return told };
    let is_plotted = |status: &SectorStatus| matches!(status, SectorStatus::Plotted { .. });
    let count = farm.run(Class::Scrub, move |open| async move {
        open.farm.statuses().into_iter().filter(is_plotted).count() as u16
    });
    let plotted = match timeout(LOOK_WITHIN, count).await {
        Ok(Ok(plotted)) => plotted,
        // What is known of one that does not answer.
        Ok(Err(_)) | Err(_) => farm.plotted_when_opened(),
    };
    FarmTold { plotted, ..told }
}

async fn hangup(hangups: &mut Option<Signal>) {
    let heard = match hangups {
        Some(hangups) => hangups.recv().await,
        None => None,
    };
    if heard.is_none() {
        std::future::pending::<()>().await;
    }
}
