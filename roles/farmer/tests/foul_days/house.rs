//! A cluster of processes that anything may happen to: its NATS servers, nodes and roles are killed, stopped, emptied and started again.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use devnet::{GenesisParameters, Report};
use tempfile::TempDir;

use crate::nats_cluster::NatsCluster;
use crate::nats_server::NatsServer;
use crate::process::Process;
use crate::stored_chain::{copy_of, stored_chain};
use crate::told::Told;

/// For everything that is waited for: two cores encode, prove and run a dozen processes.
const PATIENCE: Duration = Duration::from_secs(240);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// An account that exists on every development chain.
const REWARD_ADDRESS: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
/// Sectors of a farm.
pub const SECTORS: u64 = 2;

/// Sectors of two records, and about one solution a slot from all of them together.
fn parameters() -> GenesisParameters {
    GenesisParameters {
        slot_ms: Some(2000),
        slot_probability: Some((1, 2)),
        max_pieces_in_sector: Some(2),
        expected_pieces: Some(3),
        // The solution range stays what it is.
        era_blocks: Some(1_000_000),
        ..GenesisParameters::default()
    }
}

/// One cluster at a time: they share two cores.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The processes, dropped before what they use.
pub struct House {
    pub processes: BTreeMap<&'static str, Process>,
    pub nats: NatsCluster,
    folder: TempDir,
    chain: PathBuf,
    /// Held until all of it is gone; none of one that hardly needs a core.
    _one: Option<MutexGuard<'static, ()>>,
}

impl House {
    /// So many NATS servers, and nothing else.
    pub fn start(servers: usize) -> Self {
        let one = one_at_a_time();
        let chain = stored_chain("foul-days-chain", &parameters());
        let mut house = Self::beside(servers, chain);
        house._one = Some(one);
        house
    }

    /// The same on this chain, beside the clusters of other tests: it mostly waits.
    pub fn beside(servers: usize, chain: PathBuf) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        // One alone is no cluster: it would wait for others to elect a leader.
        let nats = match servers {
            1 => NatsCluster { servers: vec![NatsServer::start()] },
            _ => NatsCluster::start(servers),
        };
        Self { processes: BTreeMap::new(), nats, folder, chain, _one: None }
    }

    /// A path in the cluster's folder.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn process(&mut self, name: &'static str, args: &[&str]) {
        let args = args.iter().map(ToString::to_string).collect();
        self.processes.insert(name, Process::start(name, args, self.folder.path()));
    }

    /// A node on a copy of the stored chain; gives its address. `peers` are the addresses of others.
    pub fn node(&mut self, name: &'static str, peers: &[String]) -> String {
        let (copy, to) = (copy_of(&self.chain), self.path(name));
        fs::rename(copy.path().join("base"), &to).unwrap();
        let report = self.path(&format!("{name}.json"));
        // The same after it was killed.
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr()).unwrap().to_string();
        let mut line = vec!["dev-node", "--listen", &address, "--base-path", &to, "--report", &report];
        line.extend(peers.iter().flat_map(|peer| ["--peer", peer]));
        self.process(name, &line);
        self.until_true("the node listening", |house| house.count(name, "development node listens") > 0);
        format!("ws://{address}")
    }

    /// A role, told of all NATS servers.
    pub fn role(&mut self, name: &'static str, line: &[&str]) {
        let roster = self.path("roster");
        let mut whole = vec!["cluster".to_owned(), "--roster".to_owned(), roster];
        whole.extend(self.nats.urls().into_iter().flat_map(|url| ["--nats-server".to_owned(), url]));
        whole.extend(line.iter().map(ToString::to_string));
        let whole: Vec<_> = whole.iter().map(String::as_str).collect();
        self.process(name, &whole);
    }

    pub fn controller(&mut self, name: &'static str, node: &str) {
        let spool = self.path(&format!("{name}-spool"));
        self.role(name, &["controller", "--spool", &spool, "--node-rpc-url", node]);
    }

    pub fn full_cache(&mut self, name: &'static str) {
        let path = format!("path={},size=512MiB", self.path(name));
        self.role(name, &["full-piece-sharded-cache", "--tmp", &path]);
    }

    pub fn plot_server(&mut self, name: &'static str) {
        let base_path = self.path(name);
        self.role(name, &["plot-server", "--cpu", "--threads", "2", &base_path]);
    }

    pub fn plot_client(&mut self, name: &'static str, farm: &str) {
        self.plot_client_of(name, farm, SECTORS);
    }

    /// With so many sectors.
    pub fn plot_client_of(&mut self, name: &'static str, farm: &str, sectors: u64) {
        let farm = format!("path={},sectors={sectors}", self.path(farm));
        self.role(name, &["plot-client", "--reward-address", REWARD_ADDRESS, &farm]);
    }

    /// With these farms, and told `more`.
    pub fn plot_client_at(&mut self, name: &'static str, farms: &[String], more: &[&str]) {
        let farms: Vec<_> = farms.iter().map(|farm| format!("path={farm},sectors={SECTORS}")).collect();
        let line =
            ["plot-client", "--reward-address", REWARD_ADDRESS].into_iter().chain(more.iter().copied());
        self.role(name, &line.chain(farms.iter().map(String::as_str)).collect::<Vec<_>>());
    }

    /// Everything that farms: a node, a controller, a cache, a plot-server, a plot-client with one farm.
    pub fn basic(&mut self) {
        self.without_plot_client();
        self.plot_client("plot-client", "farm");
    }

    /// All that a plot-client needs.
    pub fn without_plot_client(&mut self) {
        let node = self.node("node-0", &[]);
        self.controller("controller-0", &node);
        self.full_cache("cache");
        self.plot_server("plot-server");
    }

    pub fn get(&mut self, name: &str) -> &mut Process {
        self.processes.get_mut(name).unwrap()
    }

    /// What a node reports, as of its last slot.
    pub fn report(&self, name: &str) -> Report {
        let text = fs::read(self.path(&format!("{name}.json")));
        text.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// How often a process has logged this.
    pub fn count(&self, name: &str, text: &str) -> usize {
        self.processes[name].log().matches(text).count()
    }

    /// Solutions that a controller has queued at its node.
    pub fn queued(&self, controller: &str) -> usize {
        self.count(controller, "outcome=Queued")
    }

    /// The newest slot that a plot-client has worked on, 0 before the first.
    pub fn newest_slot(&self, client: &str) -> u64 {
        Told::by(&self.processes[client].log()).slots.last().copied().unwrap_or(0)
    }

    /// What `look` finds in the end. Of those that run, nobody may end before.
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = look(self) {
                eprintln!("{what}: after {:.1} s", started.elapsed().as_secs_f32());
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// The same for a truth.
    pub fn until_true(&mut self, what: &str, mut look: impl FnMut(&Self) -> bool) {
        self.until(what, |house| look(house).then_some(()));
    }

    /// Nobody has ended by himself.
    pub fn all_alive(&mut self) {
        for (name, process) in &mut self.processes {
            let ended = process.ended();
            assert!(ended.is_none(), "{name} ended by itself: {ended:?}");
        }
    }

    /// How one ends that is to.
    pub fn until_ended(&mut self, name: &str) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(ended) = self.get(name).ended() {
                return ended;
            }
            assert!(started.elapsed() < PATIENCE, "{name} does not end");
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// SIGTERM to a plot-client, and the numbers of its last line: what became of everything.
    pub fn outcomes(&mut self, name: &str) -> BTreeMap<String, u64> {
        self.get(name).terminate();
        self.until_ended(name);
        let log = self.processes[name].log();
        let line = log.lines().rfind(|line| line.contains("farming slots=")).unwrap();
        eprintln!("{name}: {line}");
        let number = |part: &str| {
            let (key, value) = part.split_once('=')?;
            Some((key.to_owned(), value.parse().ok()?))
        };
        line.split_whitespace().filter_map(number).collect()
    }
}

impl Drop for House {
    /// What a failed test leaves is kept, all logs among it.
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("FOUL_DAYS_KEEP").is_some() {
            self.folder.disable_cleanup(true);
            eprintln!("all logs are in {}", self.folder.path().display());
        }
    }
}
