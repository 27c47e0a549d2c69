//! What can go wrong with a file, said so that the operator knows what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What was being done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// Making written bytes durable.
    Sync,
    /// Reserving space.
    Allocate,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Allocate => "reserve space for",
        })
    }
}

/// Why work on a file failed. Offsets and lengths are bytes.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// The file could not be opened or created.
    #[error("{}: cannot open: {source}{}", path.display(), open_hint(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process works on this file.
    #[error("{}: already locked by a process: is this farm or cache in use by another member on this host?", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// No room on the file system.
    #[error("{}: disk full: cannot {action} {wanted} bytes at offset {offset}; free space or give a smaller size", path.display())]
    DiskFull {
        /// What was tried.
        action: Action,
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How much.
        wanted: u64,
    },
    /// The system refused.
    #[error("{}: cannot {action} {wanted} bytes at offset {offset}: {source}{}", path.display(), failed_hint(source))]
    Failed {
        /// What was tried.
        action: Action,
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How much.
        wanted: u64,
        /// The system's answer.
        source: io::Error,
    },
    /// The file ended, or the disk took no more.
    #[error("{}: {action} of {wanted} bytes at offset {offset} stopped after {got}: the file is shorter than expected", path.display())]
    Short {
        /// What was tried.
        action: Action,
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How much.
        wanted: u64,
        /// How much was done.
        got: u64,
    },
    /// Direct I/O moves whole blocks only: a bug of the caller.
    #[error("{}: {action} of {wanted} bytes at offset {offset}, memory phase {phase}: direct I/O needs multiples of 4096", path.display())]
    Misaligned {
        /// What was tried.
        action: Action,
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How much.
        wanted: u64,
        /// Address of the memory modulo 4096.
        phase: usize,
    },
    /// Not done in time; the system still works on it, or will when the disk answers again.
    #[error(
        "{}: {action} of {wanted} bytes at offset {offset} ({class}) was not done within {limit:?}: the disk is overloaded or \
         does not answer (dmesg)", path.display()
    )]
    Late {
        /// What was tried.
        action: Action,
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How much.
        wanted: u64,
        /// What for.
        class: &'static str,
        /// The time it had.
        limit: Duration,
    },
    /// Not begun: it may not be on its way together with an earlier one, and the disk has not ended that.
    #[error(
        "{}: {action} of {wanted} bytes at offset {offset} ({class}) was not begun: for {limit:?} it waited for an earlier one \
         beside it, which the disk has not ended; if it is so for long, that place of the disk is bad (dmesg)", path.display()
    )]
    HeldBack {
        /// What was to be done.
        action: Action,
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How much.
        wanted: u64,
        /// What for.
        class: &'static str,
        /// The time it waited.
        limit: Duration,
    },
    /// Refused at once: the disk does not answer at present.
    #[error("{}: cannot {action}: its disk does not answer at present; it is asked again by itself (dmesg)", path.display())]
    Sick {
        /// What was tried.
        action: Action,
        /// The file.
        path: PathBuf,
    },
    /// The file system asks for more than transfers have here.
    #[error(
        "{}: direct I/O needs multiples of {needed_bytes} bytes on this file system, 4096 is what this program has: use a file \
         system or a device with blocks of at most 4096 bytes", path.display()
    )]
    LargeBlocks {
        /// The file.
        path: PathBuf,
        /// Alignment that is needed.
        needed_bytes: u32,
    },
    /// The ring is shut down.
    #[error("{}: cannot {action}: the executor is shutting down", path.display())]
    Closed {
        /// What was tried.
        action: Action,
        /// The file.
        path: PathBuf,
    },
}

impl IoError {
    /// The error of a refused call, with a full disk told apart.
    pub(crate) fn refused(action: Action, path: &Path, offset: u64, wanted: u64, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { action, path, offset, wanted }
            }
            _ => Self::Failed { action, path, offset, wanted, source },
        }
    }

    /// Whether it says nothing of what lies on the disk: it was not asked, or has not answered. Later it may be as good as ever.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Late { .. } | Self::HeldBack { .. } | Self::Sick { .. })
    }

    /// The number of the system's error, if the system refused.
    pub(crate) fn refused_with(&self) -> Option<i32> {
        match self {
            Self::Failed { source, .. } => source.raw_os_error(),
            Self::DiskFull { .. } => Some(libc::ENOSPC),
            _ => None,
        }
    }

    /// The same once more, for another who waits for it.
    pub(crate) fn again(&self) -> Self {
        let same = |source: &io::Error| {
            source.raw_os_error().map_or_else(|| source.kind().into(), io::Error::from_raw_os_error)
        };
        match self {
            Self::Open { path, source } => Self::Open { path: path.clone(), source: same(source) },
            Self::Locked { path } => Self::Locked { path: path.clone() },
            &Self::DiskFull { action, ref path, offset, wanted } => {
                Self::DiskFull { action, path: path.clone(), offset, wanted }
            }
            &Self::Failed { action, ref path, offset, wanted, ref source } => {
                Self::Failed { action, path: path.clone(), offset, wanted, source: same(source) }
            }
            &Self::Short { action, ref path, offset, wanted, got } => {
                Self::Short { action, path: path.clone(), offset, wanted, got }
            }
            &Self::Misaligned { action, ref path, offset, wanted, phase } => {
                Self::Misaligned { action, path: path.clone(), offset, wanted, phase }
            }
            &Self::Late { action, ref path, offset, wanted, class, limit } => {
                Self::Late { action, path: path.clone(), offset, wanted, class, limit }
            }
            &Self::HeldBack { action, ref path, offset, wanted, class, limit } => {
                Self::HeldBack { action, path: path.clone(), offset, wanted, class, limit }
            }
            &Self::Sick { action, ref path } => Self::Sick { action, path: path.clone() },
            &Self::LargeBlocks { ref path, needed_bytes } => {
                Self::LargeBlocks { path: path.clone(), needed_bytes }
            }
            &Self::Closed { action, ref path } => Self::Closed { action, path: path.clone() },
        }
    }

    pub(crate) fn open(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Open { path: path.to_owned(), source: source.into() }
    }
}

fn failed_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::FileTooLarge => {
            "; files of this length are not allowed here: by a limit (ulimit -f) or by the file system; give a smaller size"
        }
        _ => "",
    }
}

fn open_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; check its owner and mode for the user this runs as",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; the file system is mounted read-only, often after a disk error (dmesg)"
        }
        io::ErrorKind::NotFound => "; check the path, and that the disk is mounted",
        io::ErrorKind::StorageFull => "; the disk is full",
        _ => "",
    }
}
