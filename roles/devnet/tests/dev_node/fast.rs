//! Copies of the stored chain with short slots: another chain, with the same segment.

use std::fs;
use std::time::{Duration, Instant};

use devnet::{DevNodeConfig, GenesisParameters};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::chain::{RunningNode, config, copy_of_chain};
use super::client::Client;

pub const FAST_SLOT_MS: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a chain of short slots in `base`. All are the same chain.
pub fn fast_chain() -> TempDir {
    let folder = copy_of_chain();
    let path = folder.path().join("base/genesis.json");
    let mut genesis: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    genesis["slotMs"] = json!(FAST_SLOT_MS);
    fs::write(&path, genesis.to_string()).unwrap();
    folder
}

/// Configuration of a node in `folder`.
pub fn fast_config(folder: &TempDir, peers: &[&RunningNode]) -> DevNodeConfig {
    DevNodeConfig {
        parameters: GenesisParameters::default(),
        peers: peers.iter().map(|peer| format!("ws://{}", peer.address)).collect(),
        ..config(&folder.path().join("base"))
    }
}

/// A node of a chain of its own, with who talks to it.
pub struct Fast {
    pub node: RunningNode,
    pub client: Client,
    /// Slots announced, with their challenges.
    pub heard: Vec<(u64, Value)>,
    _folder: TempDir,
}

impl Fast {
    pub async fn start(peers: &[&Self]) -> Self {
        let folder = fast_chain();
        let peers: Vec<_> = peers.iter().map(|peer| &peer.node).collect();
        let node = RunningNode::start(fast_config(&folder, &peers)).await;
        let client = Client::connect(node.address).await;
        Self { node, client, heard: Vec::new(), _folder: folder }
    }

    /// The next slot announced.
    pub async fn next_slot(&mut self) -> u64 {
        let notification = self.client.notification().await;
        self.note(&notification)
    }

    /// Hears all that came already.
    pub async fn catch_up(&mut self) {
        while let Some(notification) = self.client.notification_within(Duration::ZERO).await {
            self.note(&notification);
        }
    }

    fn note(&mut self, notification: &Value) -> u64 {
        let slot = &notification["params"]["result"];
        let number = slot["slotNumber"].as_u64().unwrap();
        self.heard.push((number, slot["globalChallenge"].clone()));
        number
    }

    /// Hears so many slots.
    pub async fn hear(&mut self, count: usize) {
        for _ in 0..count {
            self.next_slot().await;
        }
    }

    pub async fn report(&mut self) -> Value {
        self.client.call("devnet_report", json!([])).await
    }
}

/// Looks until `look` has found it.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
