//! Why the chain on disk cannot be read or written.

use std::io;
use std::path::{Path, PathBuf};

use super::genesis::GenesisError;
use crate::history::HistoryError;

/// Why the chain cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process has the chain.
    #[error("{path} is in use by another process: end it or give another --base-path", path = path.display())]
    Locked {
        /// The base path.
        path: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{path} is damaged, {what}: delete the base path to begin a new chain", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The history cannot be imported.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The stored chain was made with something else.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
}

/// Adds what was tried on which file to an error of the system.
pub(super) fn at<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.into(), source }
}

/// What is wrong with a file.
pub(super) fn damaged(path: &Path, what: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged { path: path.into(), what: what.to_string() }
}
