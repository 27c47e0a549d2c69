//! What all parts of a running controller use.

use std::sync::Arc;

use bus::SharedBus;
use consensus::kzg::insecure;
use control::messages::{Epoch, Role};
use node::client::NodeClient;
use tokio::sync::watch;

use super::history::History;
use super::pieces::Pieces;
use super::solutions::Counts;
use crate::host::Host;

/// A node that does not belong to this cluster.
#[derive(Debug, thiserror::Error)]
pub enum WrongNode {
    #[error(
        "node {url} follows the chain with genesis hash {node}, this cluster that with {cluster}: \
         connect to another node, or give this cluster its own NATS account or another --cluster",
        node = hex::encode(node), cluster = hex::encode(cluster)
    )]
    OtherChain { url: String, node: [u8; 32], cluster: [u8; 32] },
    #[error(
        "node {url} is of a development chain with KZG setup `{name}`, this release knows `{}` only",
        insecure::NAME
    )]
    UnknownSetup { url: String, name: String },
}

/// What all parts of a running controller use.
pub struct Context {
    pub node: NodeClient,
    pub host: Host,
    /// Of the chain.
    pub genesis_hash: [u8; 32],
    pub epoch: watch::Receiver<Option<Epoch>>,
    pub history: Arc<History>,
    pub pieces: Arc<Pieces>,
    pub counts: Arc<Counts>,
}

impl Context {
    pub fn bus(&self) -> &SharedBus {
        self.host.bus()
    }

    /// Number of the epoch, 0 before it is known.
    pub fn epoch_number(&self) -> u64 {
        self.epoch.borrow().as_ref().map_or(0, |epoch| epoch.number)
    }

    /// How many caches are present.
    pub fn caches(&self) -> usize {
        let count = |role| self.host.members(role).len();
        count(Role::ShardedCache) + count(Role::FullPieceCache)
    }
}
