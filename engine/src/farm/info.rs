//! Who a farm is: `single_disk_farm.json` with the lock on it, and `identity.bin` (PROTOCOL 7).
//!
//! Both are small and written once, whole: into a file beside, synced, then renamed. An identity is never overwritten: the
//! farm's sectors are bound to it.

use super::undo::Undo;
use super::{FarmError, FarmSize, IDENTITY_FILE, INFO_FILE, Layout};
use crate::error::{Action, IoError};
use crate::file::{Access, DirectFile, check_regular, sync_directory};
use consensus::identity::{IDENTITY_FILE_SIZE, Identity};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use ulid::Ulid;

/// Largest `single_disk_farm.json` that is read.
const MAX_INFO_BYTES: u64 = 64 * 1024;
/// How often the lock is tried: the file may be replaced meanwhile.
const LOCK_TRIES: usize = 5;
/// Pause between tries.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What a farm is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FarmConfig {
    /// Of the chain.
    pub genesis_hash: [u8; 32],
    /// The chain's maximum: an existing farm may have fewer, not more.
    pub max_pieces_in_sector: u16,
    /// Pieces in a sector, should the farm be made now.
    pub pieces_in_sector: u16,
    /// Space. What is noted already, or the number of sectors that the farm has, changes nothing; a farm made smaller loses the sectors
    /// that do not fit any more.
    pub size: FarmSize,
    /// Whether plotted sectors may go by that; else a size that costs any is refused.
    pub may_shrink: bool,
}

/// What `single_disk_farm.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarmInfo {
    /// Names the farm in the cluster.
    pub id: Ulid,
    /// Of the network it was plotted for.
    pub genesis_hash: [u8; 32],
    /// Of its identity.
    pub public_key: [u8; 32],
    /// Pieces in each of its sectors: fixed for the farm's life.
    pub pieces_in_sector: u16,
    /// Bytes given to it.
    pub allocated_bytes: u64,
}

/// The file's own form.
#[derive(Serialize, Deserialize)]
enum InfoFile {
    #[serde(rename = "v0", rename_all = "camelCase")]
    V0 {
        id: String,
        #[serde(with = "hex::serde")]
        genesis_hash: [u8; 32],
        #[serde(with = "hex::serde")]
        public_key: [u8; 32],
        pieces_in_sector: u16,
        allocated_space: u64,
    },
}

impl FarmInfo {
    /// The file's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let file = InfoFile::V0 {
            id: self.id.to_string(),
            genesis_hash: self.genesis_hash,
            public_key: self.public_key,
            pieces_in_sector: self.pieces_in_sector,
            allocated_space: self.allocated_bytes,
        };
        serde_json::to_vec(&file).expect("strings and numbers are always JSON")
    }

    /// Reads the file's bytes; errs with what is wrong with them.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let InfoFile::V0 { id, genesis_hash, public_key, pieces_in_sector, allocated_space } =
            serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let id = id.parse().map_err(|error| format!("id '{id}' is no ULID: {error}"))?;
        let info = Self { id, genesis_hash, public_key, pieces_in_sector, allocated_bytes: allocated_space };
        Layout::check_noted(pieces_in_sector, allocated_space).map_err(|error| error.to_string())?;
        Ok(info)
    }
}

/// The farm is this process's as long as this lives; or it only looks.
pub(super) struct Lock {
    file: Arc<DirectFile>,
    /// By another process, when this one began to look.
    is_in_use: bool,
}

/// A farm's small files, read and checked, and its lock.
pub(super) struct Opened {
    pub info: FarmInfo,
    pub identity: Identity,
    pub lock: Lock,
}

impl Opened {
    /// The farm in `dir`, whatever its network.
    pub fn existing(dir: &Path) -> Result<Self, FarmError> {
        Self::read(dir, Lock::of)
    }

    /// The same to be looked at only, also while another process has it, or takes it.
    pub fn to_look(dir: &Path) -> Result<Self, FarmError> {
        Self::read(dir, Lock::none)
    }

    fn read(dir: &Path, lock: impl Fn(&Path) -> Result<Lock, FarmError>) -> Result<Self, FarmError> {
        let lock = lock(dir)?;
        let info = read_info(dir)?;
        let identity = read_identity(dir, &info)?;
        Ok(Self { info, identity, lock })
    }

    /// The farm in `dir`, made if there is none, and fit for the chain of `config`; what is made goes again with `undo`, but for small files
    /// that another process may have taken up before they were locked.
    pub fn or_create(dir: &Path, config: &FarmConfig, undo: &mut Undo) -> Result<Self, FarmError> {
        if !exists(dir)? {
            fs::create_dir_all(dir).map_err(|error| IoError::open(dir, error))?;
            undo.made_directory(dir);
        }
        let path = dir.join(INFO_FILE);
        let made = if exists(&path)? { None } else { Some(create(dir, config)?) };
        let opened = Self::existing(dir)?;
        if let Some(made) = made.filter(|made| made.id == opened.info.id) {
            if made.is_new_identity {
                undo.made(&dir.join(IDENTITY_FILE));
            }
            undo.made(&path);
        }
        let info = &opened.info;
        if info.genesis_hash != config.genesis_hash {
            let (farm, chain) = (hex::encode(info.genesis_hash), hex::encode(config.genesis_hash));
            return Err(FarmError::OtherGenesis { path, farm, chain });
        }
        if info.pieces_in_sector > config.max_pieces_in_sector {
            let (farm, chain) = (info.pieces_in_sector, config.max_pieces_in_sector);
            return Err(FarmError::MorePieces { path, farm, chain });
        }
        Ok(opened)
    }

    /// Notes another size, and keeps the lock over the change. Not durable before [`sync_directory`].
    pub fn set_allocated(&mut self, dir: &Path, allocated_bytes: u64) -> Result<(), FarmError> {
        let info = FarmInfo { allocated_bytes, ..self.info.clone() };
        let path = dir.join(INFO_FILE);
        let new = write_beside(&path, &info.to_json(), 0o644)?;
        let renamed = || {
            let lock = DirectFile::open(&new, Access::Read)?;
            lock.lock_exclusive()?;
            fs::rename(&new, &path).map_err(|error| IoError::open(&path, error))?;
            Ok::<_, IoError>(lock)
        };
        let lock = renamed().inspect_err(|_| drop(fs::remove_file(&new)))?;
        (self.info, self.lock) = (info, Lock { file: lock, is_in_use: false });
        Ok(())
    }
}

/// What `single_disk_farm.json` says.
pub(super) fn read_info(dir: &Path) -> Result<FarmInfo, FarmError> {
    let path = dir.join(INFO_FILE);
    let bytes = read_bounded(&path, MAX_INFO_BYTES)?;
    FarmInfo::from_json(&bytes).map_err(|reason| FarmError::Info { path, reason })
}

/// The identity that belongs to it.
pub(super) fn read_identity(dir: &Path, info: &FarmInfo) -> Result<Identity, FarmError> {
    let path = dir.join(IDENTITY_FILE);
    let identity = load_identity(&path)?.ok_or_else(|| FarmError::Missing {
        path: path.clone(),
        other: INFO_FILE,
        advice: "restore it from a backup, since the farm's sectors are bound to it",
    })?;
    if identity.public_key() != info.public_key {
        let (identity, info) = (hex::encode(identity.public_key()), hex::encode(info.public_key));
        return Err(FarmError::OtherIdentity { path, identity, info });
    }
    Ok(identity)
}

impl Lock {
    /// The lock of the farm in `dir`.
    pub fn of(dir: &Path) -> Result<Self, FarmError> {
        let path = dir.join(INFO_FILE);
        if !exists(&path)? {
            return Err(FarmError::NoFarm { path });
        }
        Self::take(&path).map_err(|error| match error {
            IoError::Open { path, source } if is_unsupported(&source) => FarmError::NoLocks { path, source },
            error => error.into(),
        })
    }

    /// Locks the file that has this name, not one that had it before.
    fn take(path: &Path) -> Result<Self, IoError> {
        for _ in 0..LOCK_TRIES {
            let file = DirectFile::open(path, Access::Read)?;
            match file.lock_exclusive() {
                Ok(()) if has_name(&file, path)? => return Ok(Self { file, is_in_use: false }),
                Ok(()) => std::thread::sleep(LOCK_PAUSE),
                Err(error) => return Err(error),
            }
        }
        Err(IoError::Locked { path: path.to_owned() })
    }

    /// Locks nothing, and looks whether another process has locked the farm in `dir`.
    fn none(dir: &Path) -> Result<Self, FarmError> {
        let path = dir.join(INFO_FILE);
        if !exists(&path)? {
            return Err(FarmError::NoFarm { path });
        }
        let file = DirectFile::open(&path, Access::Read)?;
        let is_free = flock(&file, FlockOperation::NonBlockingLockShared).is_ok();
        if is_free {
            // Fails for no file that was just locked.
            let _ = flock(&file, FlockOperation::Unlock);
        }
        Ok(Self { file, is_in_use: !is_free })
    }

    /// Whether another process had it when this one looked.
    pub fn is_in_use(&self) -> bool {
        self.is_in_use
    }

    /// The locked file.
    pub fn file(&self) -> &Arc<DirectFile> {
        &self.file
    }
}

/// Whether the system says so of something that a file system cannot do, such as locks.
fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let unsupported = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS];
    error.raw_os_error().is_some_and(|code| unsupported.contains(&Errno::from_raw_os_error(code)))
}

/// Whether the open file is the one that has this name now.
fn has_name(file: &DirectFile, path: &Path) -> Result<bool, IoError> {
    let ours = rustix::fs::fstat(file).map_err(|error| IoError::open(path, error))?;
    let named = fs::metadata(path).map_err(|error| IoError::open(path, error))?;
    Ok((ours.st_dev, ours.st_ino) == (named.dev(), named.ino()))
}

/// Small files of a farm that were made just now.
struct Made {
    id: Ulid,
    /// There was none before.
    is_new_identity: bool,
}

/// Makes identity and JSON, in this order: the JSON names the key.
fn create(dir: &Path, config: &FarmConfig) -> Result<Made, FarmError> {
    Layout::new(config.pieces_in_sector, config.size)?;
    for file in [super::PLOT_FILE, super::METADATA_FILE] {
        if exists(&dir.join(file))? {
            return Err(FarmError::Missing {
                path: dir.join(INFO_FILE),
                other: file,
                advice: "restore it from a backup, or clear the directory to plot anew",
            });
        }
    }
    let (identity, is_new_identity) = load_or_create_identity(&dir.join(IDENTITY_FILE))?;
    let millis = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_millis() as u64);
    let info = FarmInfo {
        id: Ulid::from_parts(millis, u128::from_le_bytes(random()?)),
        genesis_hash: config.genesis_hash,
        public_key: identity.public_key(),
        pieces_in_sector: config.pieces_in_sector,
        allocated_bytes: config.size.allocated_bytes(config.pieces_in_sector),
    };
    write_new(&dir.join(INFO_FILE), &info.to_json(), 0o644)?;
    Ok(Made { id: info.id, is_new_identity })
}

/// The identity, and whether it was made now.
fn load_or_create_identity(path: &Path) -> Result<(Identity, bool), FarmError> {
    if let Some(identity) = load_identity(path)? {
        return Ok((identity, false));
    }
    let identity = Identity::from_entropy(random()?);
    write_new(path, &identity.to_file_bytes(), 0o600)?;
    Ok((identity, true))
}

/// The identity in the file, if there is one.
fn load_identity(path: &Path) -> Result<Option<Identity>, FarmError> {
    if !exists(path)? {
        return Ok(None);
    }
    let bytes = read_bounded(path, IDENTITY_FILE_SIZE as u64 + 1)?;
    let identity = Identity::from_file_bytes(&bytes);
    identity.map(Some).map_err(|source| FarmError::Identity { path: path.to_owned(), source })
}

fn random<const N: usize>() -> Result<[u8; N], FarmError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(FarmError::Random)?;
    Ok(bytes)
}

fn exists(path: &Path) -> Result<bool, IoError> {
    path.try_exists().map_err(|error| IoError::open(path, error))
}

/// The file's bytes, at most `limit` of them.
fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, IoError> {
    check_regular(path)?;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| IoError::open(path, error))?;
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| IoError::refused(Action::Read, path, 0, limit, error))?;
    Ok(bytes)
}

/// Makes a file that must not exist, durably: it is there whole, or not at all.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IoError> {
    let new = write_beside(path, bytes, mode)?;
    let renamed = match renameat_with(CWD, &new, CWD, path, RenameFlags::NOREPLACE) {
        // This file system cannot promise it; the caller has just looked.
        Err(rustix::io::Errno::INVAL) => fs::rename(&new, path),
        renamed => renamed.map_err(io::Error::from),
    };
    renamed.inspect_err(|_| drop(fs::remove_file(&new))).map_err(|error| IoError::open(path, error))?;
    sync_directory(path)
}

/// Writes and syncs `PATH.new`.
fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> Result<PathBuf, IoError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // What a crash left behind may have another mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(IoError::open(&new, error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .map_err(|error| IoError::open(&new, error))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .inspect_err(|_| drop(fs::remove_file(&new)))
        .map_err(|error| IoError::refused(Action::Write, &new, 0, bytes.len() as u64, error))?;
    Ok(new)
}
