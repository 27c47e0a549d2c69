//! The stored chain that all tests share, and nodes on copies of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use devnet::{DevNode, DevNodeConfig, DevNodeError, GenesisParameters, Report};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::stored_chain;

pub const SLOT_MS: u64 = 1000;

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
    stored_chain::config(base_path, parameters())
}

/// A folder with a copy of the chain that all tests share in `base`; the first who asks makes the chain.
pub fn copy_of_chain() -> TempDir {
    static CHAIN: OnceLock<PathBuf> = OnceLock::new();
    stored_chain::copy_of(CHAIN.get_or_init(|| stored_chain::stored_chain("dev-node-chain", &parameters())))
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
