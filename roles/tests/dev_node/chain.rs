//! The stored chain that all tests share, and nodes on copies of it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use roles::dev_node::{DevNode, DevNodeConfig, DevNodeError, GenesisParameters, Report};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const SLOT_MS: u64 = 1000;

/// What every test's history is made of.
const HISTORY: &str = "what the tests remember";

/// Constants at which two pieces win something in nearly every slot.
pub fn parameters() -> GenesisParameters {
    GenesisParameters {
        slot_ms: Some(SLOT_MS),
        slot_probability: Some((1, 2)),
        max_pieces_in_sector: Some(2),
        expected_pieces: Some(1),
        ..GenesisParameters::default()
    }
}

/// Configuration of a node on any free port.
pub fn config(base_path: &Path) -> DevNodeConfig {
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    DevNodeConfig { parameters: parameters(), ..DevNodeConfig::new(listen, base_path.into()) }
}

/// A chain with one segment, made by the first who asks. It is kept between runs: its own format says whether it is whole.
fn shared_chain() -> &'static Path {
    static CHAIN: OnceLock<PathBuf> = OnceLock::new();
    CHAIN.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dev-node-chain");
        let history = folder.join("history.txt");
        fs::create_dir_all(&folder).unwrap();
        fs::write(&history, HISTORY).unwrap();
        let config = DevNodeConfig { history: vec![history], ..config(&folder.join("base")) };
        let make =
            || std::thread::scope(|scope| scope.spawn(|| block_on_start(config.clone())).join().unwrap());
        // A chain of another version is not worth a failure.
        make().or_else(|_| fs::remove_dir_all(folder.join("base")).map(|()| make()).unwrap()).unwrap();
        folder.join("base")
    })
}

fn block_on_start(config: DevNodeConfig) -> Result<(), DevNodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(DevNode::start(config)).map(drop)
}

/// A folder with a copy of the shared chain in `base`.
pub fn copy_of_chain() -> TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    copy(shared_chain(), &folder.path().join("base"));
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.path().extension().is_some_and(|extension| extension == "bin") {
            // Never written again.
            fs::hard_link(entry.path(), target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A node that runs beside the test.
pub struct RunningNode {
    pub address: SocketAddr,
    pub genesis_hash: [u8; 32],
    pub height: u32,
    stop: oneshot::Sender<()>,
    outcome: JoinHandle<Result<Report, DevNodeError>>,
}

impl RunningNode {
    pub async fn start(config: DevNodeConfig) -> Self {
        let node = DevNode::start(config).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let (address, genesis_hash, height) = (node.address(), node.genesis_hash(), node.height());
        let outcome = tokio::spawn(node.run(async { _ = stopped.await }));
        Self { address, genesis_hash, height, stop, outcome }
    }

    /// Ends the node and gives its report.
    pub async fn stop(self) -> Report {
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), self.outcome).await.unwrap().unwrap().unwrap()
    }
}
