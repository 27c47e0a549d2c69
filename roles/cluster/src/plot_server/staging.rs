//! Finished sectors under the server's base path, until their plot-clients have them.
//!
//! ```text
//!   lock                        one server a base path
//!   FARM.SECTOR.HISTORY.sector  the sector's bytes, filled up with zeroes to a multiple of 4096
//!   FARM.SECTOR.HISTORY.staged  the manifest: there only when the bytes beside it are whole and durable
//! ```
//! A sector is written in this order: space reserved, bytes, fdatasync, manifest (written beside, fdatasync, renamed, folder
//! synced); and deleted manifest first. So after any crash a manifest means a whole sector, and bytes without one are rubbish.
//!
//! Owns: these files, and the limit on their sum. Never: other files of the folder; reading and writing the bytes, which the
//! executor does ([`super::serve`]). The calls here block.

use super::manifest::{self, Manifest};
use consensus::constants::sector_size;
use control::ids::FarmId;
use control::messages::PlotJob;
use control::plot_server::Made;
use engine::files;
use engine::{Access, BLOCK_BYTES, DirectFile, IoError, lock_exclusive, sync_directory};
use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

const LOCK_FILE: &str = "lock";
const SECTOR_SUFFIX: &str = "sector";
const MANIFEST_SUFFIX: &str = "staged";

/// Name of a staged sector on the transport: [`control::messages::SectorId::staging`].
pub type StagingId = [u8; 16];

/// Why a sector cannot be staged.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// The base path cannot be used.
    #[error(
        "{}: cannot be used to stage sectors: {source}; it must be a folder that the user this runs as may write to", path.display()
    )]
    BasePath {
        /// The folder or a file in it.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another server uses the base path.
    #[error("{}: another plot-server uses this base path: give each its own", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The limit on staged bytes is reached.
    #[error(
        "staging is full: {used_bytes} of {limit_bytes} bytes are taken and the sector needs {needed_bytes}; plot-clients \
         must fetch what is staged first, or the limit must be raised"
    )]
    NoRoom {
        /// Bytes taken.
        used_bytes: u64,
        /// Bytes that may be taken.
        limit_bytes: u64,
        /// Bytes of the sector.
        needed_bytes: u64,
    },
    /// The sector is being made or staged already.
    #[error("sector {sector} is staged already")]
    Duplicate {
        /// Its id.
        sector: String,
    },
    /// The sector's file.
    #[error(transparent)]
    File(#[from] IoError),
    /// The manifest.
    #[error("{}: cannot write: {source}; is the disk full or failing?", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// A sector that waits to be fetched.
#[derive(Debug)]
pub struct StagedSector {
    /// What it was made for.
    pub job: PlotJob,
    /// Its bytes, of which [`Made::size_bytes`] count.
    pub file: Arc<DirectFile>,
    /// Length and checksum.
    pub made: Made,
    /// Encoded metadata (PROTOCOL 5.4).
    pub metadata: Vec<u8>,
    /// Grows with each request for it.
    pub fetches: AtomicU64,
    /// Why it cannot be read, once a read has failed.
    pub unreadable: OnceLock<String>,
}

/// The base path of a running server; clones are handles to the same one.
#[derive(Clone)]
pub struct Staging(Arc<Inner>);

struct Inner {
    root: PathBuf,
    limit_bytes: u64,
    shelf: Mutex<Shelf>,
    /// Held as long as the server lives; the system frees it after a crash.
    _lock: File,
}

#[derive(Default)]
struct Shelf {
    /// Everything that takes space: staged, or none while it is being made.
    sectors: HashMap<StagingId, (u64, Option<Arc<StagedSector>>)>,
}

impl Shelf {
    fn used_bytes(&self) -> u64 {
        self.sectors.values().map(|(bytes, _)| bytes).sum()
    }
}

impl Staging {
    /// Takes the base path, made if it is not there, and clears away what an earlier run left half done.
    pub fn open(root: &Path, limit_bytes: u64) -> Result<Self, StagingError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StagingError::BasePath { path, source }
        };
        fs::create_dir_all(root).map_err(failed(root))?;
        let lock_path = root.join(LOCK_FILE);
        let lock = File::create(&lock_path).map_err(failed(&lock_path))?;
        lock_exclusive(&lock).map_err(|error| match error {
            TryLockError::WouldBlock => StagingError::InUse { path: root.to_owned() },
            TryLockError::Error(source) => failed(&lock_path)(source),
        })?;
        let mut shelf = Shelf::default();
        for path in files_of(root, MANIFEST_SUFFIX).map_err(failed(root))? {
            match found(&path) {
                Ok(sector) => {
                    let id = sector.job.sector.staging();
                    shelf.sectors.insert(id, (file_bytes(sector.made.size_bytes), Some(Arc::new(sector))));
                }
                Err(reason) => {
                    tracing::warn!("{}: not a staged sector, removed: {reason}", path.display());
                    fs::remove_file(&path).map_err(failed(&path))?;
                }
            }
        }
        for path in files_of(root, SECTOR_SUFFIX).map_err(failed(root))? {
            if !path.with_extension(MANIFEST_SUFFIX).exists() {
                fs::remove_file(&path).map_err(failed(&path))?;
            }
        }
        let (root, shelf) = (root.to_owned(), Mutex::new(shelf));
        Ok(Self(Arc::new(Inner { root, limit_bytes, shelf, _lock: lock })))
    }

    /// The folder it lies in.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// All sectors that are staged.
    pub fn all(&self) -> Vec<Arc<StagedSector>> {
        self.shelf().sectors.values().filter_map(|(_, sector)| sector.clone()).collect()
    }

    /// The sector staged under this name.
    pub fn find(&self, id: &StagingId) -> Option<Arc<StagedSector>> {
        self.shelf().sectors.get(id)?.1.clone()
    }

    /// Bytes that may be taken in all.
    pub fn limit_bytes(&self) -> u64 {
        self.0.limit_bytes
    }

    /// Bytes that may still be taken.
    pub fn free_bytes(&self) -> u64 {
        self.0.limit_bytes.saturating_sub(self.shelf().used_bytes())
    }

    /// Reserves the space of a sector, on the disk too: a full disk shows before the work and not after it.
    pub fn reserve(&self, job: &PlotJob) -> Result<Unfinished, StagingError> {
        let (id, needed_bytes) = (job.sector.staging(), needed_bytes(job));
        {
            let mut shelf = self.shelf();
            let (used_bytes, limit_bytes) = (shelf.used_bytes(), self.0.limit_bytes);
            if shelf.sectors.contains_key(&id) {
                return Err(StagingError::Duplicate { sector: job.sector.to_string() });
            }
            if used_bytes.saturating_add(needed_bytes) > limit_bytes {
                return Err(StagingError::NoRoom { used_bytes, limit_bytes, needed_bytes });
            }
            shelf.sectors.insert(id, (needed_bytes, None));
        }
        let path = self.path(job, SECTOR_SUFFIX);
        match DirectFile::create(&path, needed_bytes) {
            Ok(file) => Ok(Unfinished { staging: self.clone(), job: job.clone(), file, is_staged: false }),
            Err(error) => {
                self.shelf().sectors.remove(&id);
                Err(error.into())
            }
        }
    }

    /// Deletes a staged sector. Whoever reads it now reads to the end.
    pub fn discard(&self, job: &PlotJob) -> Result<(), StagingError> {
        for suffix in [MANIFEST_SUFFIX, SECTOR_SUFFIX] {
            let path = self.path(job, suffix);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(StagingError::BasePath { path, source });
                }
                _ => sync_directory(&path)?,
            }
        }
        self.shelf().sectors.remove(&job.sector.staging());
        Ok(())
    }

    fn path(&self, job: &PlotJob, suffix: &str) -> PathBuf {
        self.0.root.join(format!("{}.{suffix}", job.sector))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Space reserved for a sector that is being made; dropped unfinished, nothing of it stays.
pub struct Unfinished {
    staging: Staging,
    job: PlotJob,
    file: Arc<DirectFile>,
    is_staged: bool,
}

impl Unfinished {
    /// The file its bytes go into.
    pub fn file(&self) -> &Arc<DirectFile> {
        &self.file
    }

    /// Stages the sector, whose bytes must be durable in the file.
    pub fn commit(mut self, made: Made, metadata: Vec<u8>) -> Result<Arc<StagedSector>, StagingError> {
        let path = self.staging.path(&self.job, MANIFEST_SUFFIX);
        let manifest = Manifest { job: self.job.clone(), made, metadata };
        files::replace(&path, &manifest.encode())
            .map_err(|source| StagingError::Manifest { path, source })?;
        let sector = Arc::new(manifest.into_staged(self.file.clone()));
        let mut shelf = self.staging.shelf();
        if let Some(entry) = shelf.sectors.get_mut(&self.job.sector.staging()) {
            entry.1 = Some(sector.clone());
        }
        drop(shelf);
        self.is_staged = true;
        Ok(sector)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.is_staged {
            return;
        }
        if let Err(error) = self.staging.discard(&self.job) {
            tracing::error!("space of an unfinished sector is not freed: {error}");
        }
    }
}

impl Manifest {
    fn into_staged(self, file: Arc<DirectFile>) -> StagedSector {
        let (fetches, unreadable) = (AtomicU64::new(0), OnceLock::new());
        StagedSector { job: self.job, file, made: self.made, metadata: self.metadata, fetches, unreadable }
    }
}

impl StagedSector {
    /// Notes a request for it.
    pub fn note_fetch(&self) {
        self.fetches.fetch_add(1, Ordering::Relaxed);
    }
}

/// Bytes that the sector of a job takes on disk.
pub fn needed_bytes(job: &PlotJob) -> u64 {
    file_bytes(sector_size(job.pieces_in_sector) as u64)
}

fn file_bytes(sector_bytes: u64) -> u64 {
    sector_bytes.next_multiple_of(BLOCK_BYTES as u64)
}

/// The server's files of this suffix; those of a write that was cut off are removed on the way.
fn files_of(root: &Path, suffix: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parts: Vec<_> = name.split('.').collect();
        match parts[..] {
            [farm, _, _, last] if last == suffix && farm.parse::<FarmId>().is_ok() => paths.push(path),
            [farm, _, _, last, "tmp"] if last == suffix && farm.parse::<FarmId>().is_ok() => {
                fs::remove_file(path)?;
            }
            _ => {}
        }
    }
    Ok(paths)
}

/// The sector of a manifest found at the start.
fn found(path: &Path) -> Result<StagedSector, Box<dyn std::error::Error>> {
    let manifest = manifest::read(path)?;
    if path.file_stem() != Some(std::ffi::OsStr::new(&manifest.job.sector.to_string())) {
        return Err("it is named after another sector".into());
    }
    let file = DirectFile::open(&path.with_extension(SECTOR_SUFFIX), Access::Read)?;
    if file.size_bytes()? != file_bytes(manifest.made.size_bytes) {
        return Err("the sector beside it has another length".into());
    }
    Ok(manifest.into_staged(file))
}

#[cfg(test)]
#[path = "staging_tests.rs"]
mod tests;
