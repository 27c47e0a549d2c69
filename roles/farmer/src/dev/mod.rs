//! A whole cluster in one process, against a development node of its own: what a farmer does, from history to reward, on one
//! machine and with one command.
//!
//! ```text
//!   files ─▶ dev node ◀── WebSocket ── controller ─┐
//!                                                  ├─ bus of this process ── caches, plot-server, plot-client, proof-server
//!   BASE/{node, cache, full-piece-cache, staging, farm}
//! ```
//! The roles are the same as on their own machines: they listen, prove who they are by certificates, and send pieces and sectors
//! over TCP. Only the bus is another.
//!
//! Owns: the base path, and when the run is over. Never: anything that a role does.

mod members;
mod run;
mod summary;

use std::path::PathBuf;
use std::time::Duration;

use bus::BusError;
use cluster::cards::OpenCard;
use cluster::role::RoleError;
use cluster::shutdown::Shutdown;
use control::messages::Role;
use devnet::{DevNode, DevNodeConfig, DevNodeError, GenesisParameters};
use run::Run;

pub use members::DEFAULT_REWARD_ADDRESS;
pub use summary::{Audits, Summary};

/// Pieces in a sector of a new chain, unless told otherwise.
pub const DEFAULT_PIECES_IN_SECTOR: u16 = 32;
/// Sectors of the farm, unless told otherwise.
pub const DEFAULT_SECTORS: u16 = 4;

/// How often the state of the run is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Where the node listens: any port, this machine only.
const NODE_LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// How to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything is kept. What is there from an earlier run goes on.
    pub base_path: PathBuf,
    /// Whether nobody needs the base path after the run: the caches need not wait for the disk then.
    pub is_temporary: bool,
    /// Files and folders to make history of, if there is no chain yet.
    pub history: Vec<PathBuf>,
    /// Most pieces in a sector; none: what the chain has, [`DEFAULT_PIECES_IN_SECTOR`] for a new one.
    pub pieces_in_sector: Option<u16>,
    /// Sectors of the farm.
    pub sectors: u16,
    /// Accepted solutions after which the run ends; none: it goes on until told to end.
    pub until_solutions: Option<u64>,
    /// JSON file with the [`Summary`], renewed each second.
    pub report: Option<PathBuf>,
    /// GPUs that encode and prove; none: the CPU.
    pub cards: Vec<OpenCard>,
}

impl Config {
    /// Everything as by default.
    pub fn new(base_path: PathBuf) -> Self {
        Self {
            base_path,
            is_temporary: false,
            history: Vec::new(),
            pieces_in_sector: None,
            sectors: DEFAULT_SECTORS,
            until_solutions: None,
            report: None,
            cards: Vec::new(),
        }
    }

    /// Folder of the chain.
    fn node_path(&self) -> PathBuf {
        self.base_path.join("node")
    }

    /// Files that are made into a chain of the wanted rules; a chain that is there keeps its own.
    fn node(&self) -> DevNodeConfig {
        let is_new = !self.node_path().exists();
        let pieces = u64::from(self.pieces_in_sector.unwrap_or(DEFAULT_PIECES_IN_SECTOR));
        let parameters = GenesisParameters {
            max_pieces_in_sector: self.pieces_in_sector,
            expected_pieces: is_new.then_some(pieces * u64::from(self.sectors)),
            ..GenesisParameters::default()
        };
        let history = self.history.clone();
        // The caches are filled from the node alone, with segments older than any that a real one has at hand.
        let strict_pieces = false;
        DevNodeConfig {
            history,
            parameters,
            strict_pieces,
            ..DevNodeConfig::new(NODE_LISTEN.into(), self.node_path())
        }
    }
}

/// Why a run ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The base path cannot be used.
    #[error("cannot make the base path {}: {source}; choose another by --base-path", path.display())]
    BasePath {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The node failed.
    #[error(transparent)]
    Node(#[from] DevNodeError),
    /// A part of the run ended without being told to.
    #[error("{part} ended early; its last lines in the log say why")]
    Ended {
        /// Which.
        part: &'static str,
    },
    /// A role failed.
    #[error("{}: {source}", role.token())]
    Role {
        /// Which.
        role: Role,
        /// Why.
        source: RoleError,
    },
    /// What the cluster agreed on cannot be read.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A task ended by a panic, which is in the log.
    #[error("a task ended by a panic: {0}")]
    Panicked(#[from] tokio::task::JoinError),
    /// The report cannot be written.
    #[error("cannot write the report {}: {source}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// How far a run is.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Whether history is there; until then the node archives.
    pub is_archived: bool,
    /// Pieces that are in the caches, of those in [`Summary::pieces`].
    pub pieces_cached: u64,
    /// The numbers as they would stand at the end.
    pub summary: Summary,
}

/// Runs until enough solutions are accepted or `shutdown`. `tell` hears how it goes, several times a second.
pub async fn run(
    config: &Config,
    shutdown: &Shutdown,
    mut tell: impl FnMut(&Status),
) -> Result<Summary, DevError> {
    let path = &config.base_path;
    std::fs::create_dir_all(path).map_err(|source| DevError::BasePath { path: path.clone(), source })?;
    tell(&Status::default());
    let node = tokio::select! {
        node = DevNode::start(config.node()) => node?,
        () = shutdown.requested() => return Ok(Summary::default()),
    };
    Run::start(config, node).await?.watch(shutdown, tell).await
}
