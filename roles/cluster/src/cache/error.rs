//! Why a cache does not start.

use std::path::PathBuf;

use control::ids::{BadId, InstanceId};
use engine::piece_store::StoreError;

use super::mem_size::MemSizeError;
use super::spec::SpecError;
use crate::role::RoleError;

/// Why a cache does not start.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The directory cannot be used.
    #[error("{}: {source}; check that the disk is mounted and has room, and the owner of the directory", path.display())]
    Directory {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The id is not one.
    #[error("{}: {source}; remove the file: the cache is then a new one, to which its pieces are brought again", path.display())]
    Id {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BadId,
    },
    /// A process has the directory.
    #[error("{}: a process uses this cache already: name another directory, or stop that process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Another directory has the same id.
    #[error(
        "the cache in {path} on host {host} has the same id ({id}) as one that runs on host {other_host} ({other_addresses}): a copy would \
         answer for pieces that the other one has, and not be missed when it lacks them. Remove {path}/id: this cache is then one of its \
         own; or stop the other one",
        path = path.display()
    )]
    Copied {
        /// The directory.
        path: PathBuf,
        /// This host.
        host: String,
        /// The id.
        id: InstanceId,
        /// The other's host.
        other_host: String,
        /// Where the other one listens.
        other_addresses: String,
    },
    /// The pieces are of another chain.
    #[error(
        "{path}: the pieces in it are of the chain with genesis hash {pieces}, this cluster follows that with {cluster}: \
         name another directory, or remove this one",
        path = path.display(), pieces = hex::encode(pieces), cluster = hex::encode(cluster)
    )]
    OtherChain {
        /// The directory.
        path: PathBuf,
        /// Genesis hash of the chain whose pieces they are.
        pieces: [u8; 32],
        /// Genesis hash of the cluster's chain.
        cluster: [u8; 32],
    },
    /// No room.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Not as much memory.
    #[error(transparent)]
    Memory(#[from] MemSizeError),
    /// The pieces cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CacheError> for RoleError {
    fn from(error: CacheError) -> Self {
        Self::own(error)
    }
}
