//! A whole cluster: every role its own process, by the lines that operators have in their supervisor files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bus::nats::{NatsBus, NatsOptions};
use bus::{Bus, Subscription};
use control::ids::FarmId;
use control::messages::{Control, PlotPhase, PlotProgress, SectorId, SlotInfo, SolutionFound, subjects};
use devnet::{GenesisParameters, Report};
use tempfile::TempDir;

use crate::nats_server::NatsServer;
use crate::process::Process;
use crate::stored_chain::{copy_of, stored_chain};

/// For everything that is waited for. A machine with two busy cores takes its time to encode and to prove.
const PATIENCE: Duration = Duration::from_secs(240);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Plot-clients, each with one farm, and the sectors of a farm.
pub const FARMS: usize = 2;
pub const SECTORS: u16 = 2;
/// Processes of roles.
pub const PROCESSES: usize = 8;
const ROSTER: &str = "roster";
/// Room for the chain's one segment, whatever else the file system holds.
const CACHE_SIZE: &str = "512MiB";
/// What a plot-server may take: enough for one sector by one thread, not for the two by four that it would make.
const PLOT_SERVER_MEMORY: &str = "384MiB";
pub const PLOT_SERVER_MEMORY_BYTES: u64 = 384 << 20;
/// An account that exists on every development chain.
const REWARD_ADDRESS: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

/// Sectors of two records, so that encoding takes seconds, and about one solution a slot from all of them together, so
/// that the processor can prove what is found.
fn parameters() -> GenesisParameters {
    GenesisParameters {
        slot_ms: Some(2000),
        slot_probability: Some((1, 2)),
        max_pieces_in_sector: Some(2),
        expected_pieces: Some(5),
        // The solution range stays what it is.
        era_blocks: Some(1_000_000),
        ..GenesisParameters::default()
    }
}

/// What the members have said on the bus.
#[derive(Default)]
pub struct Heard {
    /// The newest slot.
    pub slot: u64,
    /// Sectors that plot-clients have stored.
    pub stored: BTreeSet<SectorId>,
    /// Slot and farm of each solution.
    pub solutions: Vec<(u64, FarmId)>,
}

/// The processes, in the order in which they are told to end. Dropped, they are killed.
pub struct Cluster {
    processes: Vec<Process>,
    heard: Arc<Mutex<Heard>>,
    folder: TempDir,
    _nats: NatsServer,
}

impl Cluster {
    /// Starts everything at once: roles wait for each other.
    pub async fn start() -> Self {
        let folder = copy_of(&stored_chain("e2e-chain", &parameters()));
        let nats = NatsServer::start();
        let heard = listen(&nats).await;
        let mut cluster = Self { processes: Vec::new(), heard, folder, _nats: nats };
        let (base_path, report) = (cluster.path("base"), cluster.path("report.json"));
        cluster.process(
            "dev-node",
            &["dev-node", "--listen", "127.0.0.1:0", "--base-path", &base_path, "--report", &report],
        );
        let node = cluster.until("the node's address", Self::node_address).await;
        cluster.role("controller", &["controller", "--tmp", "--node-rpc-url", &format!("ws://{node}")]);
        let at = |cluster: &Self, name: &str| format!("path={}", cluster.path(name));
        let cache = |cluster: &Self, name: &str| format!("{},size={CACHE_SIZE}", at(cluster, name));
        let (sharded, full) = (cache(&cluster, "sharded-cache"), cache(&cluster, "full-piece"));
        cluster.role("sharded-cache", &["sharded-cache", &sharded]);
        cluster.role("full-piece-sharded-cache", &["full-piece-sharded-cache", "--tmp", &full]);
        cluster.role("proof-server", &["proof-server"]);
        for (name, base_path) in [("plot-server-0", "base-path-0"), ("plot-server-1", "base-path-1")] {
            let base_path = cluster.path(base_path);
            let line = [
                "plot-server",
                "--cpu",
                "--priority-cache",
                "--listen-port",
                "0",
                "--threads",
                "4",
                "--max-memory",
            ];
            cluster.role(name, &[&line[..], &[PLOT_SERVER_MEMORY, &base_path]].concat());
        }
        for (name, farm) in [("plot-client-0", "farm-0"), ("plot-client-1", "farm-1")] {
            let farm = format!("{},sectors={SECTORS}", at(&cluster, farm));
            cluster.role(name, &["plot-client", "--reward-address", REWARD_ADDRESS, &farm]);
        }
        cluster
    }

    fn process(&mut self, name: &'static str, args: &[&str]) {
        let args = args.iter().map(ToString::to_string).collect();
        self.processes.push(Process::start(name, args, self.folder.path()));
    }

    fn role(&mut self, name: &'static str, line: &[&str]) {
        let url = self._nats.url();
        let roster = self.path(ROSTER);
        self.process(name, &[&["cluster", "--nats-server", &url, "--roster", &roster], line].concat());
    }

    fn node_address(&self) -> Option<String> {
        let log = self.get("dev-node").log();
        let (_, after) = log.split_once("development node listens address=")?;
        after.split_whitespace().next().map(str::to_owned)
    }

    /// Where the processes of the roles find each other.
    pub fn roster(&self) -> PathBuf {
        self.path(ROSTER).into()
    }

    /// A path in the cluster's folder.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn get(&self, name: &str) -> &Process {
        self.processes.iter().find(|process| process.name == name).unwrap()
    }

    pub fn get_mut(&mut self, name: &str) -> &mut Process {
        self.processes.iter_mut().find(|process| process.name == name).unwrap()
    }

    /// What `look` finds in the end. Nobody may end before.
    pub async fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = look(self) {
                eprintln!("{what}: after {:.1} s", started.elapsed().as_secs_f32());
                return found;
            }
            for process in &mut self.processes {
                let ended = process.ended();
                assert!(
                    ended.is_none(),
                    "{} ended by itself while the test waited for {what}: {ended:?}",
                    process.name
                );
            }
            assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    pub fn heard<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.heard.lock().unwrap())
    }

    /// The node's report, as of the last slot.
    pub fn report(&self) -> Option<Report> {
        serde_json::from_slice(&fs::read(self.path("report.json")).ok()?).ok()
    }

    /// SIGTERM to all, the node first; each must end well.
    pub async fn end(&mut self) {
        for process in &mut self.processes {
            process.terminate();
            let asked = Instant::now();
            let status = loop {
                if let Some(status) = process.ended() {
                    break status;
                }
                assert!(asked.elapsed() < PATIENCE, "{} does not end", process.name);
                tokio::time::sleep(LOOK_INTERVAL).await;
            };
            assert!(status.success(), "{} ended with {status}", process.name);
            eprintln!("{} ended after {:.1} s", process.name, asked.elapsed().as_secs_f32());
        }
    }

    /// The farm of a plot-client, which has made it.
    pub fn farm_id(&self, farm: usize) -> FarmId {
        let path = self.farms()[farm].join("single_disk_farm.json");
        let info: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        info["v0"]["id"].as_str().unwrap().parse().unwrap()
    }

    /// Whether a plot-server makes a sector and has not staged it yet.
    pub fn is_making(&self, base_path: &str) -> bool {
        let Ok(folder) = fs::read_dir(self.path(base_path)) else { return false };
        let paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
        let is_made = |path: &Path| paths.contains(&path.with_extension("staged"));
        paths.iter().any(|path| path.extension() == Some("sector".as_ref()) && !is_made(path))
    }

    /// The directories of all farms.
    pub fn farms(&self) -> Vec<PathBuf> {
        (0..FARMS).map(|farm| self.path(&format!("farm-{farm}")).into()).collect()
    }
}

/// What farms ask of controllers, all of them.
const SOLUTIONS: &str = "solution.*";

/// Notes what the members say from now on.
async fn listen(nats: &NatsServer) -> Arc<Mutex<Heard>> {
    let options = NatsOptions { patience: Some(PATIENCE), ..NatsOptions::new(vec![nats.url()], "test") };
    let bus = NatsBus::connect(&options).await.unwrap();
    let heard = Arc::<Mutex<Heard>>::default();
    let mut slots = bus.subscribe(subjects::SLOT).await.unwrap();
    let mut progress = bus.subscribe(subjects::PLOT_ANSWERS_OF_ALL).await.unwrap();
    let mut solutions = bus.subscribe(SOLUTIONS).await.unwrap();
    let noting = heard.clone();
    tokio::spawn(async move {
        // Kept: the subscriptions end with it.
        let _bus = bus;
        loop {
            tokio::select! {
                slot = next::<SlotInfo>(&mut slots) => {
                    let mut heard = noting.lock().unwrap();
                    heard.slot = heard.slot.max(slot.slot);
                }
                PlotProgress { sector, phase, .. } = next(&mut progress) => {
                    if phase == PlotPhase::Stored {
                        noting.lock().unwrap().stored.insert(sector);
                    }
                }
                SolutionFound { slot, farm, .. } = next(&mut solutions) => {
                    noting.lock().unwrap().solutions.push((slot, farm));
                }
            }
        }
    });
    heard
}

async fn next<T: Control>(subscription: &mut Subscription) -> T {
    let message = subscription.next().await.expect("the bus of the test stays open");
    T::from_bytes(&message.payload).unwrap()
}
