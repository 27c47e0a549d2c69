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

mod config;
mod error;
mod members;
mod run;
mod summary;

use cluster::shutdown::Shutdown;
use devnet::DevNode;
use run::Run;

pub use config::{Config, DEFAULT_PIECES_IN_SECTOR, DEFAULT_SECTORS};
pub use error::DevError;
pub use members::DEFAULT_REWARD_ADDRESS;
pub use run::Status;
pub use summary::{Audits, Summary};

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
