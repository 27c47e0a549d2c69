//! Why files cannot become history, and how long it may be.

use std::io;
use std::path::PathBuf;

use consensus::constants::SEGMENT_SIZE;

/// Most imported bytes of a chain: 32 segments, 8.6 GB of pieces.
pub const IMPORTED_SIZE_MAX: u64 = 32 * SEGMENT_SIZE as u64;

/// Why files cannot become history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A file or folder cannot be read.
    #[error("cannot read {path} for the history: {source}", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Nothing to import below the paths given.
    #[error("no file to make history of in {paths}: name files, or folders with files that git tracks")]
    Empty {
        /// The paths given.
        paths: String,
    },
    /// Too many bytes.
    #[error(
        "history would have {size} bytes, at most {IMPORTED_SIZE_MAX} can be imported: name fewer files by --history"
    )]
    TooLong {
        /// Bytes that were to be imported.
        size: u64,
    },
    /// A path too long to be imported.
    #[error("path {path} has more than 65535 bytes", path = path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The imported bytes cannot be written.
    #[error("cannot write the imported history: {0}")]
    Write(io::Error),
}
