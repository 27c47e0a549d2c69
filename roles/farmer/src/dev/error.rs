//! Why a run of `dev` fails.

use std::path::PathBuf;

use bus::BusError;
use cluster::role::RoleError;
use control::messages::Role;
use devnet::DevNodeError;

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
