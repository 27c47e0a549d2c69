//! A node of a development chain: the double of a real node for farmers to run against.
//!
//! ```text
//!                      ┌ begin_slots ─▶ slot info ─────────────┐
//!  clock ──────────────┘                                       ▼
//!  files ─ history ─▶ store ◀─ archive ◀─ blocks ◀─ make_blocks ◀─ chain ◀── rpc ◀── WebSocket ◀── farmers
//!                      │                    ▲             │  judge, sign                ▲
//!                      │        importing ──┘             │                             │
//!                      │            └── peers ◀── WebSocket ◀── nodes of the same chain │
//!                      └── pieces, headers ───────────────┴── report ───────────────────┘
//! ```
//!
//! It speaks the network's own JSON-RPC, archives by the network's rules, verifies every solution in full and keeps its verdicts
//! to itself, as the network's node does: they are in the report alone.
//!
//! Nodes of one chain, made of the same files with the same flags, are each other's peers: they follow the longest branch, and
//! tell each other of every solution, so that one which reaches two of them is counted.
//!
//! Owns: one node's view of a development chain.
//! Never: knows a farm other than through the RPC.

mod acknowledgements;
mod archivist;
mod chain;
mod clock;
mod config;
mod history;
mod importing;
mod loading;
mod pause;
mod peers;
mod report_file;
mod rpc;
mod shared;
mod store;
mod subscribers;
mod tasks;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::server::ServerHandle;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use archivist::{Archivist, ArchivistError};
use chain::Chain;
use node::kzg_setup::KzgSetupError;
use report_file::ReportFile;
use shared::Shared;
use store::{Store, StoreError, now_ms};

pub use chain::{Reason, Report, SignatureCounts, SolutionCounts};
pub use config::{DevNodeConfig, KzgSource, RpcMethods};
pub use store::GenesisParameters;

/// How long connections have to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a node cannot run (any longer).
#[derive(Debug, thiserror::Error)]
pub enum DevNodeError {
    /// There is no KZG setup.
    #[error(transparent)]
    Kzg(#[from] KzgSetupError),
    /// The chain cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain cannot be archived.
    #[error(transparent)]
    Archivist(#[from] ArchivistError),
    /// A stored block does not continue the chain.
    #[error("{path}: {source}: delete the base path to begin a new chain", path = path.display())]
    Block {
        /// The base path.
        path: PathBuf,
        /// What is wrong.
        source: chain::BlockError,
    },
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
}

/// A node that listens; [`run`](Self::run) makes it go on.
#[derive(Debug)]
pub struct DevNode {
    shared: Arc<Shared>,
    archivist: Archivist,
    server: ServerHandle,
    address: SocketAddr,
    segment_every_slots: Option<u64>,
    report: Option<ReportFile>,
    peers: Vec<String>,
}

impl DevNode {
    /// Opens the chain, or makes it, which takes some ten seconds of a core a segment, and listens.
    pub async fn start(mut config: DevNodeConfig) -> Result<Self, DevNodeError> {
        begin_as_peers_did(&mut config).await;
        let prepare = move || prepare(&mut config).map(|(shared, archivist)| (config, shared, archivist));
        let (config, shared, archivist) = spawn_blocking(prepare).await.expect("preparing does not panic")?;
        let shared = Arc::new(shared);
        let report = config.report.clone().map(ReportFile::new);
        write_report(&shared, report.as_ref()).await;
        let (address, server) = rpc::serve(config.listen, Arc::clone(&shared))
            .await
            .map_err(|source| DevNodeError::Listen { address: config.listen, source })?;
        let (segments, height) = {
            let chain = shared.chain();
            (chain.headers().len(), chain.tip().height)
        };
        let genesis_hash = hex::encode(shared.store.genesis().hash());
        tracing::info!(%address, genesis_hash, segments, height, "development node listens");
        let DevNodeConfig { segment_every_slots, peers, .. } = config;
        Ok(Self { shared, archivist, server, address, segment_every_slots, report, peers })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hash of its chain's first block.
    pub fn genesis_hash(&self) -> [u8; 32] {
        self.shared.store.genesis().hash()
    }

    /// Number of its newest authored block, 0 when there is none.
    pub fn height(&self) -> u32 {
        self.shared.chain().tip().height
    }

    /// A view of its report that stays when the node [runs](Self::run).
    pub fn reports(&self) -> ReportReader {
        ReportReader(Arc::clone(&self.shared))
    }

    /// Runs until `shutdown` ends. What was stored by then is whole, whatever is underway.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Report, DevNodeError> {
        let shared = &self.shared;
        let mut links = JoinSet::new();
        for url in self.peers {
            links.spawn(peers::link::keep(Arc::clone(shared), url));
        }
        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            () = clock::begin_slots(shared) => Ok(()),
            () = tasks::forward_solutions(shared) => Ok(()),
            outcome = tasks::make_blocks(shared, self.segment_every_slots) => outcome.map_err(Into::into),
            outcome = tasks::archive(shared, self.archivist) => outcome.map_err(Into::into),
            () = tasks::report(shared, self.report.as_ref()) => Ok(()),
        };
        links.shutdown().await;
        // An error means that it is stopped already.
        let _ = self.server.stop();
        let _ = timeout(STOP_TIMEOUT, self.server.stopped()).await;
        write_report(shared, self.report.as_ref()).await;
        outcome.map(|()| shared.chain().report().clone())
    }
}

/// What became of all solutions, at any time.
#[derive(Debug, Clone)]
pub struct ReportReader(Arc<Shared>);

impl ReportReader {
    /// The report as it is now.
    pub fn now(&self) -> Report {
        self.0.chain().report().clone()
    }
}

async fn write_report(shared: &Shared, file: Option<&ReportFile>) {
    if let Some(file) = file {
        file.write(shared).await;
    }
}

/// A new chain begins when that of the first peer that answers did, unless the operator says when.
async fn begin_as_peers_did(config: &mut DevNodeConfig) {
    if Store::exists(&config.base_path) {
        return;
    }
    for url in &config.peers {
        if let Some(hello) = peers::link::hello(url).await {
            let parameters = &mut config.parameters;
            parameters.genesis_time_ms.get_or_insert(hello.genesis_time_ms);
            parameters.segments.get_or_insert(hello.segments_at_start);
            return;
        }
    }
}

/// Everything that takes time before anybody can connect.
fn prepare(config: &mut DevNodeConfig) -> Result<(Shared, Archivist), DevNodeError> {
    let kzg = config.kzg.load()?;
    config.parameters.kzg = *kzg.id();
    let (store, stored) = Store::open(&config.base_path, &config.parameters, &config.history)?;
    let store = Arc::new(store);
    let genesis = store.genesis();
    let parameters = genesis.parameters.clone();
    let node = shared::new_node_id();
    let mut chain =
        Chain::new(genesis.hash(), parameters, genesis.imported_in_block_0(), genesis.imported_size, node);
    let finals = loading::final_blocks(&stored);
    let block_error = |source| DevNodeError::Block { path: config.base_path.clone(), source };
    loading::load(&mut chain, &stored, finals).map_err(block_error)?;
    let (mut archivist, left) = Archivist::resume(Arc::clone(&store), kzg.clone(), &stored, finals)?;
    let left = archivist.fill(&mut chain, left)?;
    chain.pass_to(genesis.slot_at(now_ms()).unwrap_or(0));
    Ok((Shared::new(config, node, store, *kzg.verifier(), chain, left), archivist))
}
