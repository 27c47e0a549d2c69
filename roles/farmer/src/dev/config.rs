//! How a run of `dev` goes: the base path, the farm, the chain.

use std::path::PathBuf;

use cluster::cards::OpenCard;
use devnet::{DevNodeConfig, GenesisParameters};

/// Pieces in a sector of a new chain, unless told otherwise.
pub const DEFAULT_PIECES_IN_SECTOR: u16 = 32;
/// Sectors of the farm, unless told otherwise.
pub const DEFAULT_SECTORS: u16 = 4;
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
    /// JSON file with the [`super::Summary`], renewed each second.
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
    pub(super) fn node(&self) -> DevNodeConfig {
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
