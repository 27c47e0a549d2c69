//! Files opened for direct I/O: no page cache between the disk and the pool's slabs.
//!
//! Owns: the descriptor, the path for errors, the advisory lock. Never: reading or writing, which goes through
//! [`crate::Disk`]. The calls here block (open, reserve, lock) and belong to a role's start.

use crate::BLOCK_BYTES;
use crate::error::{Action, IoError};
use rustix::fs::{AtFlags, FallocateFlags, OFlags, StatxFlags, fallocate, statx};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

/// Attempts to take a lock.
const LOCK_TRIES: usize = 20;
/// Pause between two of them.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading only, through the page cache: to compare with reading past it.
    ReadCached,
    /// Reading and writing.
    ReadWrite,
}

/// An open file; operations under way keep it open.
#[derive(Debug)]
pub struct DirectFile {
    file: File,
    path: PathBuf,
    direct: bool,
    needs_thread: bool,
    /// Closed after this one.
    held: OnceLock<Arc<DirectFile>>,
}

impl DirectFile {
    /// Opens an existing file.
    pub fn open(path: &Path, access: Access) -> Result<Arc<Self>, IoError> {
        check_regular(path)?;
        Self::open_with(path, access, false)
    }

    /// Opens what is there, also what is no file. For tests: a pipe that nobody writes to is a disk that never answers.
    #[doc(hidden)]
    pub fn open_anything(path: &Path, access: Access) -> Result<Arc<Self>, IoError> {
        Self::open_with(path, access, false)
    }

    /// Creates a file of `size_bytes` (a multiple of 4096) with its space reserved, durably, or leaves nothing behind.
    pub fn create(path: &Path, size_bytes: u64) -> Result<Arc<Self>, IoError> {
        let file = Self::open_with(path, Access::ReadWrite, true)?;
        match file.set_size(size_bytes).and_then(|()| sync_directory(path)) {
            Ok(()) => Ok(file),
            Err(error) => {
                // The first error is the one to tell; a file that stays behind is found at the next start.
                let _ = std::fs::remove_file(path);
                Err(error)
            }
        }
    }

    /// Creates a file in the directory, with space reserved, that has no name: it ends with this handle, also after `kill -9`.
    pub fn create_unnamed(directory: &Path, size_bytes: u64) -> Result<Arc<Self>, IoError> {
        let path = directory.join(format!(".benchmark-{}", std::process::id()));
        let file = Self::open_with(&path, Access::ReadWrite, true)?;
        std::fs::remove_file(&path).map_err(|error| IoError::open(&path, error))?;
        file.set_size(size_bytes)?;
        Ok(file)
    }

    fn open_with(path: &Path, access: Access, create: bool) -> Result<Arc<Self>, IoError> {
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::ReadWrite).create_new(create);
        if access == Access::ReadCached {
            let file = options.open(path).map_err(|error| IoError::open(path, error))?;
            return Ok(Self::of(file, path, false));
        }
        let direct_flag = i32::try_from(OFlags::DIRECT.bits()).expect("open's flags are a C int");
        let (opened, direct) = match options.custom_flags(direct_flag).open(path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                tracing::warn!(
                    "{}: this file system has no direct I/O (tmpfs?): using the page cache, which is slower and takes memory",
                    path.display()
                );
                // `create_new` may have made the file before the flag was refused.
                let retry = options.custom_flags(0).create_new(false).create(create);
                (retry.open(path), false)
            }
            opened => (opened, true),
        };
        let file = opened.map_err(|error| IoError::open(path, error))?;
        match alignment(&file).filter(|_| direct) {
            Some(needed_bytes) if !(BLOCK_BYTES as u32).is_multiple_of(needed_bytes.max(1)) => {
                Err(IoError::LargeBlocks { path: path.to_owned(), needed_bytes })
            }
            // Opened for it, but each transfer would be refused.
            Some(0) => {
                let file = options.custom_flags(0).create_new(false).open(path);
                let file = file.map_err(|error| IoError::open(path, error))?;
                Ok(Self::of(file, path, false))
            }
            _ => Ok(Self::of(file, path, direct)),
        }
    }

    fn of(file: File, path: &Path, direct: bool) -> Arc<Self> {
        let needs_thread = !honours_nowait(&file);
        Arc::new(Self { file, path: path.to_owned(), direct, needs_thread, held: OnceLock::new() })
    }

    /// Whether the kernel would wait for the disk in the call that hands it a transfer, so that it must be given to a thread of its own.
    pub(crate) fn needs_thread(&self) -> bool {
        self.needs_thread
    }

    /// Grows the file with space reserved, or cuts it, to `size_bytes` (a multiple of 4096), and syncs it.
    pub fn set_size(&self, size_bytes: u64) -> Result<(), IoError> {
        let (action, path) = (Action::Allocate, &self.path);
        if !size_bytes.is_multiple_of(BLOCK_BYTES as u64) {
            let path = path.clone();
            return Err(IoError::Misaligned { action, path, offset: 0, wanted: size_bytes, phase: 0 });
        }
        let refused = |error: io::Error| IoError::refused(action, path, 0, size_bytes, error);
        let now = self.size_bytes()?;
        if size_bytes < now {
            self.file.set_len(size_bytes).map_err(refused)?;
        } else if size_bytes > now && !self.reserve(now, size_bytes).map_err(refused)? {
            let path = path.display();
            tracing::warn!("{path}: this file system cannot reserve space: the disk may fill up later");
            self.file.set_len(size_bytes).map_err(refused)?;
        }
        self.file.sync_all().map_err(refused)
    }

    /// Reserves the space up to `size_bytes` for a file that is shorter, which then has that size, not durably before
    /// [`DirectFile::set_size`]; false where the file system cannot reserve. To do it in steps: some file systems write zeros for long.
    pub fn reserve_up_to(&self, size_bytes: u64) -> Result<bool, IoError> {
        let reserved = self.reserve(self.size_bytes()?, size_bytes);
        reserved.map_err(|error| IoError::refused(Action::Allocate, &self.path, 0, size_bytes, error))
    }

    /// Puts the file back to a length that it had, whatever that was, durably.
    pub fn cut_back(&self, size_bytes: u64) -> Result<(), IoError> {
        let done = self.file.set_len(size_bytes).and_then(|()| self.file.sync_all());
        done.map_err(|error| IoError::refused(Action::Allocate, &self.path, 0, size_bytes, error))
    }

    /// Reserves the space from where the file ends; false where the file system cannot.
    fn reserve(&self, from: u64, size_bytes: u64) -> io::Result<bool> {
        loop {
            match fallocate(&self.file, FallocateFlags::empty(), from, size_bytes - from) {
                Err(rustix::io::Errno::OPNOTSUPP) => return Ok(false),
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other.map(|()| true)?),
            }
        }
    }

    /// Takes the exclusive advisory lock (flock), see [`lock_exclusive`]. It ends with the file, also after `kill -9`.
    pub fn lock_exclusive(&self) -> Result<(), IoError> {
        match lock_exclusive(&self.file) {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(IoError::Locked { path: self.path.clone() }),
            Err(TryLockError::Error(error)) => Err(IoError::open(&self.path, error)),
        }
    }

    /// Keeps another file open, and so its lock held, as long as this one is: also by what the kernel is still to do. Only the first counts.
    pub fn hold(&self, other: &Arc<DirectFile>) {
        self.held.get_or_init(|| other.clone());
    }

    /// Length now.
    pub fn size_bytes(&self) -> Result<u64, IoError> {
        let metadata = self.file.metadata().map_err(|error| IoError::open(&self.path, error))?;
        Ok(metadata.len())
    }

    /// Its number in the file system: another file, also a copy of this one in its place, has another.
    pub fn inode(&self) -> Result<u64, IoError> {
        let metadata = self.file.metadata().map_err(|error| IoError::open(&self.path, error))?;
        Ok(metadata.ino())
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether transfers bypass the page cache, and so must be whole blocks.
    pub fn is_direct(&self) -> bool {
        self.direct
    }
}

/// Whether transfers of this file are begun without waiting for the disk: so it is on file systems over block devices, and not over a network
/// or a process (FUSE), where one that hangs would stop the thread that submits.
fn honours_nowait(file: &File) -> bool {
    const EXT4: i64 = 0xEF53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683E;
    const F2FS: i64 = 0xF2F5_2010;
    const TMPFS: i64 = 0x0102_1994;
    let is_block = |kind: i64| [EXT4, XFS, BTRFS, F2FS, TMPFS].contains(&kind);
    rustix::fs::fstatfs(file).is_ok_and(|about| is_block(about.f_type))
}

/// Alignment of direct transfers that the file system asks for, in file and memory; 0 where it has none, nothing where it does
/// not say (Linux before 6.1, many file systems), and then 4096 is what all are known to take.
fn alignment(file: &File) -> Option<u32> {
    let asked = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let is_told = asked.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    let (memory, offset) = (asked.stx_dio_mem_align, asked.stx_dio_offset_align);
    is_told.then(|| if memory == 0 || offset == 0 { 0 } else { memory.max(offset) })
}

/// Errs for what is there and no file: a pipe would keep whoever opens it waiting for ever.
pub(crate) fn check_regular(path: &Path) -> Result<(), IoError> {
    let kind = std::fs::metadata(path).map_err(|error| IoError::open(path, error))?.file_type();
    let is = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a pipe",
        _ => "a device or socket",
    };
    let advice =
        format!("it is {is} and not a file: put it out of the way, and restore the file if there was one");
    Err(IoError::open(path, io::Error::other(advice)))
}

/// Takes the exclusive advisory lock (flock) of a file. Waits two seconds for it: a process that was killed, and is
/// started again at once, still holds it while the system frees its memory.
pub fn lock_exclusive(file: &File) -> Result<(), TryLockError> {
    for _ in 1..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            taken => return taken,
        }
    }
    file.try_lock()
}

impl AsFd for DirectFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Makes the directory entry of a created, renamed or removed file durable.
pub fn sync_directory(path: &Path) -> Result<(), IoError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or_else(|| Path::new("."));
    #[cfg(test)]
    tests::check_sync(directory)?;
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| IoError::open(directory, error))
}

#[cfg(test)]
#[path = "file_tests.rs"]
pub(crate) mod tests;
