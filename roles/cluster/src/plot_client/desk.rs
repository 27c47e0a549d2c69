//! What operators wish of a plot-client's farms while it runs, and what they are told.
//!
//! ```text
//!   SIGHUP ─▶ farms file ─┐
//!   FarmsOrder ───────────┼─▶ Wishes ─▶ Fleet ─▶ FarmsDone, once the farm is open, or closed, or a while has passed
//!   FarmsWanted ──────────┴─────────────────▶ FarmsTold
//! ```
//! Owns: which farms are wished for, by whom. Never: the operator's file (it is read only), or what becomes of a farm.

use super::farms::FarmHandle;
use super::farms_file::{self, FarmsFileError};
use super::fleet::Fleet;
use super::spec::FarmSpec;
use bus::{BusError, Message, SharedBus, Subscription};
use control::fleet::{Event, State};
use control::ids::InstanceId;
use control::messages::{
    Control, FarmStage, FarmTold, FarmsChange, FarmsDone, FarmsOrder, FarmsTold, FarmsWanted, MAX_FARMS_TOLD,
    bounded_text, subjects,
};
use engine::Class;
use engine::farm::SectorStatus;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout};

/// Who asks for a farm is answered within this, whatever has become of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Farms that may be here by request.
const MAX_ADDED: usize = 64;
/// Requests that may wait for what becomes of their farm.
const MAX_WAITING: usize = 64;
/// A file that is not read within this hangs.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// Time for a farm to say how many of its sectors are plotted.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// The farms that operators wish for.
#[derive(Debug, Clone)]
pub struct Wishes {
    named: Vec<FarmSpec>,
    file: Option<PathBuf>,
    in_file: Vec<FarmSpec>,
    /// By requests; they count until the end of the process.
    added: Vec<FarmSpec>,
    /// Of those on the command line, by requests.
    removed: BTreeSet<PathBuf>,
    /// Whether SIGHUP is listened to.
    listens: bool,
}

impl Wishes {
    /// Those of the command line.
    pub fn new(named: Vec<FarmSpec>) -> Self {
        let (in_file, added, removed) = Default::default();
        Self { named, file: None, in_file, added, removed, listens: false }
    }

    /// Those of the command line and of a farms file, which is read now, and again at each SIGHUP from the start of the plot-client on.
    /// Without a file SIGHUP is told to do nothing. Must be called inside a tokio runtime with its I/O driver.
    pub fn with_file(named: Vec<FarmSpec>, file: Option<PathBuf>) -> Result<Self, FarmsFileError> {
        let in_file = file.as_ref().map_or(Ok(Vec::new()), |file| farms_file::read(file, &named))?;
        // What comes before the desk is there must not end the process either.
        drop(listen());
        Ok(Self { file, in_file, listens: true, ..Self::new(named) })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all().len()
    }

    /// The folders.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.all().into_keys().collect()
    }

    pub(super) fn all(&self) -> BTreeMap<PathBuf, FarmSpec> {
        let named = self.named.iter().filter(|farm| !self.removed.contains(&farm.path));
        let all = named.chain(&self.in_file).chain(&self.added);
        all.map(|farm| (farm.path.clone(), farm.clone())).collect()
    }

    fn event(&self) -> Event<FarmSpec> {
        Event::Named(self.all().into_iter().collect())
    }

    /// The file says this now.
    fn read_again(&mut self, in_file: Vec<FarmSpec>) {
        self.added.retain(|added| in_file.iter().all(|farm| farm.path != added.path));
        self.in_file = in_file;
    }

    /// Whether one more may be added.
    fn may_add(&self, path: &Path) -> bool {
        self.added.iter().filter(|added| added.path != path).count() < MAX_ADDED
    }

    fn add(&mut self, farm: FarmSpec) {
        self.removed.remove(&farm.path);
        self.added.retain(|added| added.path != farm.path);
        self.added.push(farm);
    }

    fn remove(&mut self, path: &Path) {
        self.added.retain(|added| added.path != path);
        self.in_file.retain(|farm| farm.path != path);
        self.removed.insert(path.to_owned());
    }
}

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
        let hangups = if wishes.listens { listen() } else { None };
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
        let Some(file) = self.wishes.file.clone() else {
            tracing::warn!("SIGHUP: there is no farms file to read again (--farms-file): nothing changes");
            return Ok(());
        };
        let named = self.wishes.named.clone();
        let read = tokio::task::spawn_blocking(move || farms_file::read(&file, &named));
        match timeout(READ_WITHIN, read).await {
            Ok(Ok(Ok(farms))) => {
                tracing::info!(farms = farms.len(), "SIGHUP: the farms file is read again");
                self.wishes.read_again(farms);
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
                let done = self.with_farm(&path, |farm| pause_plotting(farm, is_paused));
                reply(&self.bus, &reply_to, &done).await;
                Ok(())
            }
            FarmsChange::Scrub { path, is_wanted } => {
                let done = self.with_farm(&path, |farm| scrub(farm, is_wanted));
                reply(&self.bus, &reply_to, &done).await;
                Ok(())
            }
        }
    }

    async fn add(&mut self, farm: &str, reply_to: String) -> Result<(), String> {
        let farm: FarmSpec = match farm.parse() {
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
        tracing::info!(dir = %farm.path.display(), "a farm is added by request, until this plot-client ends");
        self.wishes.add(farm.clone());
        let path = farm.path.clone();
        self.wait(path.clone(), true, reply_to);
        self.fleet.on(Event::Added { path, spec: farm })
    }

    async fn remove(&mut self, path: &str, reply_to: String) -> Result<(), String> {
        let Some(path) = self.find(path) else {
            reply(&self.bus, &reply_to, &refused(&format!("there is no farm in {path} here"))).await;
            return Ok(());
        };
        tracing::info!(dir = %path.display(), "a farm is removed by request");
        self.wishes.remove(&path);
        self.wait(path.clone(), false, reply_to);
        self.fleet.on(Event::Removed { path })
    }

    /// Does something with the farm of this folder, if it is open.
    fn with_farm(&self, path: &str, what: impl FnOnce(&FarmHandle) -> FarmsDone) -> FarmsDone {
        let found = self.find(path);
        let (mut farms, _) = self.fleet.farms();
        let farm = farms.find(|(path, ..)| Some(*path) == found.as_deref()).and_then(|(.., farm)| farm);
        farm.map_or_else(|| refused(&format!("no farm is open in {path} here")), what)
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
            (None, false) => Some(done("closed")),
            (Some(State::Open), true) => {
                if let Some(reason) = self.fleet.kept(&waiting.path) {
                    return Some(refused(&format!("{reason}; it goes on with the size that it had")));
                }
                let file = self.wishes.file.as_ref().map(|file| format!("{} and ", file.display()));
                let file = file.unwrap_or_default();
                Some(done(&format!(
                    "open, until this plot-client ends: {file}its command line do not know of it"
                )))
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
        tokio::spawn(async move {
            let farms = join_all(farms.into_iter().map(|(told, farm)| count_plotted(told, farm))).await;
            let farms_in_all = u16::try_from(farms.len()).unwrap_or(u16::MAX);
            // One message at least.
            let parts = farms.chunks(MAX_FARMS_TOLD).chain(farms.is_empty().then_some(&[][..]));
            for farms in parts {
                let told = FarmsTold { client, host: host.clone(), farms_in_all, farms: farms.to_vec() };
                let sent = match told.to_bytes() {
                    Ok(bytes) => bus.publish(&subjects::farms_told(asker), bytes).await,
                    Err(error) => return tracing::error!("{error}"),
                };
                if let Err(error) = sent {
                    tracing::debug!("farms could not be told of: {error}");
                }
            }
        });
    }

    fn told(&self, path: &Path, state: State<'_>, farm: Option<&FarmHandle>, now: Duration) -> FarmTold {
        let trouble = farm.and_then(FarmHandle::disk_trouble);
        let stage = match state {
            State::Opening => FarmStage::Opening,
            State::Closing => FarmStage::Closing,
            State::Shut { reason, again_at } => {
                let again_in_s = again_at.map(|at| at.saturating_sub(now).as_secs() as u32);
                FarmStage::Failed { reason: bounded_text(reason), again_in_s }
            }
            State::Open => match trouble {
                Some(reason) => FarmStage::Paused { reason: bounded_text(reason) },
                None if farm.is_some_and(|farm| self.fleet.is_held(farm)) => FarmStage::Farming,
                None => FarmStage::Claimed,
            },
        };
        FarmTold {
            path: text(path),
            id: farm.map(FarmHandle::id),
            stage,
            plotted: 0,
            sectors: farm.map_or(0, |farm| farm.layout().sectors()),
            is_plotting_paused: farm.is_some_and(FarmHandle::is_plotting_paused),
            disk: bounded_text(trouble.unwrap_or_default()),
            scrub: farm.map(|farm| bounded_text(&farm.scrub().told(trouble))).unwrap_or_default(),
        }
    }
}

fn pause_plotting(farm: &FarmHandle, is_paused: bool) -> FarmsDone {
    farm.pause_plotting(is_paused);
    let what = if is_paused { "paused, until it is resumed or closed" } else { "resumed" };
    tracing::info!(dir = %farm.dir().display(), "plotting is {what}");
    done(&format!("plotting is {what}"))
}

fn scrub(farm: &FarmHandle, is_wanted: bool) -> FarmsDone {
    let asked = if is_wanted { farm.scrub().begin() } else { farm.scrub().stop() };
    asked.map_or_else(|why| refused(&why), done)
}

/// A folder as it is told.
fn text(path: &Path) -> String {
    bounded_text(&path.display().to_string())
}

fn done(what: &str) -> FarmsDone {
    FarmsDone::Done { what: bounded_text(what) }
}

fn refused(reason: &str) -> FarmsDone {
    FarmsDone::Refused { reason: bounded_text(reason) }
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

/// From now on SIGHUP does not end the process.
fn listen() -> Option<Signal> {
    let told = |error: io::Error| tracing::warn!("SIGHUP is not listened to: {error}");
    signal(SignalKind::hangup()).map_err(told).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn farm(text: &str) -> FarmSpec {
        text.parse().unwrap()
    }

    fn all(wishes: &Wishes) -> Vec<String> {
        wishes.all().values().map(|farm| format!("{} {:?}", farm.path.display(), farm.size)).collect()
    }

    #[tokio::test]
    async fn what_was_asked_for_last_holds_and_the_file_is_the_operators() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("farms");
        std::fs::write(&file, "path=/b,sectors=1\n").unwrap();
        let mut wishes = Wishes::with_file(vec![farm("path=/a,sectors=1")], Some(file.clone())).unwrap();
        assert_eq!(all(&wishes), ["/a Sectors(1)", "/b Sectors(1)"]);
        wishes.add(farm("path=/c,sectors=1"));
        wishes.add(farm("path=/b,sectors=2"));
        assert_eq!(all(&wishes), ["/a Sectors(1)", "/b Sectors(2)", "/c Sectors(1)"]);
        wishes.remove(Path::new("/a"));
        wishes.remove(Path::new("/b"));
        assert_eq!(all(&wishes), ["/c Sectors(1)"]);
        // Read again, the file names its farms again; what it does not know stays as it was asked for.
        wishes.read_again(farms_file::read(&file, &wishes.named).unwrap());
        assert_eq!(all(&wishes), ["/b Sectors(1)", "/c Sectors(1)"]);
        wishes.add(farm("path=/a,sectors=3"));
        wishes.remove(Path::new("/a"));
        assert_eq!(wishes.count(), 2);
        // So many by request, and no more.
        for number in 1..MAX_ADDED {
            assert!(wishes.may_add(Path::new("/more")));
            wishes.add(farm(&format!("path=/d/{number},sectors=1")));
        }
        assert!(!wishes.may_add(Path::new("/more")) && wishes.may_add(Path::new("/c")));
    }
}
