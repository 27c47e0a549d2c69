//! How to run a development node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use consensus::kzg::{Kzg, insecure};
use node::kzg_setup::{self, KzgSetupError};

use super::store::GenesisParameters;

/// Which methods a node lets its callers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RpcMethods {
    /// Those that only read, pieces excepted.
    Safe,
    /// All of them.
    #[default]
    Unsafe,
}

/// Where the chain's KZG setup comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KzgSource {
    /// The setup `insecure-v1`.
    #[default]
    Insecure,
    /// The ceremony's setup, in this file.
    Ceremony(PathBuf),
}

impl KzgSource {
    /// The name under which a node tells farmers of an insecure setup.
    pub(crate) fn dev_name(&self) -> Option<&'static str> {
        (*self == Self::Insecure).then_some(insecure::NAME)
    }

    pub(crate) fn load(&self) -> Result<Kzg, KzgSetupError> {
        match self {
            Self::Insecure => kzg_setup::insecure(),
            Self::Ceremony(path) => kzg_setup::ceremony(Some(path)),
        }
    }
}

/// How to run a node.
#[derive(Debug, Clone)]
pub struct DevNodeConfig {
    /// Address for the WebSocket.
    pub listen: SocketAddr,
    /// Folder of the chain.
    pub base_path: PathBuf,
    /// Files and folders to make history of when there is no chain yet.
    pub history: Vec<PathBuf>,
    /// What the chain is made with.
    pub parameters: GenesisParameters,
    /// Where its KZG setup comes from.
    pub kzg: KzgSource,
    /// Archive a segment of made-up blocks every so many slots.
    pub segment_every_slots: Option<u64>,
    /// Which methods callers may use.
    pub rpc_methods: RpcMethods,
    /// Give out only the pieces that the network's node would have at hand, which is the default; else all of history.
    pub strict_pieces: bool,
    /// How long to pretend to be syncing; no slot begins until then.
    pub syncing_for: Duration,
    /// Where to write the [`crate::Report`] after every slot.
    pub report: Option<PathBuf>,
    /// Nodes of the same chain, `ws://HOST:PORT`.
    pub peers: Vec<String>,
}

impl DevNodeConfig {
    /// Everything as by default, for a chain in `base_path`.
    pub fn new(listen: SocketAddr, base_path: PathBuf) -> Self {
        Self {
            listen,
            base_path,
            history: Vec::new(),
            parameters: GenesisParameters::default(),
            kzg: KzgSource::default(),
            segment_every_slots: None,
            rpc_methods: RpcMethods::default(),
            strict_pieces: true,
            syncing_for: Duration::ZERO,
            report: None,
            peers: Vec::new(),
        }
    }
}
