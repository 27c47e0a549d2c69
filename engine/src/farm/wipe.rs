//! Removing a farm, or what the network's farmer keeps beside it.
//!
//! The order is such that whatever a kill or a loss of power leaves is no farm with sectors that are not there: first, durably, the
//! metadata, without which no sector counts; then the space; the identity; and last `single_disk_farm.json`, whose lock keeps others out
//! until all is gone, and by which a wipe that was broken off is begun again. Never: a file that is not of a farm.

use super::format::{DEPTH_FILE, KNOWN_PEERS_FILE, PIECE_CACHE_FILE};
use super::info::Lock;
use super::{FarmError, IDENTITY_FILE, INFO_FILE, METADATA_FILE, PLOT_FILE, PROGRESS_FILE};
use crate::error::IoError;
use crate::file::sync_directory;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Removes the farm in `dir`, which nobody may have open, whatever state it is in; `others` are names of further files that are of the farm
/// and of no use without it. The directory stays, and all else in it. `told` hears of each file that is gone, with its bytes.
pub fn wipe(dir: &Path, others: &[&str], mut told: impl FnMut(&Path, u64)) -> Result<(), FarmError> {
    let lock = Lock::of(dir)?;
    let mut stages = vec![vec![dir.join(METADATA_FILE)], vec![dir.join(PLOT_FILE)]];
    let of_farm = [PIECE_CACHE_FILE, KNOWN_PEERS_FILE, PROGRESS_FILE, DEPTH_FILE];
    let with_names = of_farm.iter().chain(others).map(|name| dir.join(name));
    stages.push(leftovers(dir)?.into_iter().chain(with_names).collect());
    stages.push(vec![dir.join(IDENTITY_FILE)]);
    stages.push(vec![dir.join(INFO_FILE)]);
    for stage in stages {
        for path in &stage {
            if let Some(bytes) = remove(path)? {
                told(path, bytes);
            }
        }
        sync_directory(&dir.join(INFO_FILE))?;
    }
    drop(lock);
    Ok(())
}

/// Removes `piece_cache.bin` of the farm in `dir`, which nobody may have open; its bytes, or none if there is none.
pub fn wipe_cache(dir: &Path) -> Result<Option<u64>, FarmError> {
    let _lock = Lock::of(dir)?;
    let path = dir.join(PIECE_CACHE_FILE);
    let bytes = remove(&path)?;
    sync_directory(&path)?;
    Ok(bytes)
}

/// Progress of sectors as earlier releases noted it, and small files that were not yet renamed.
fn leftovers(dir: &Path) -> Result<Vec<PathBuf>, IoError> {
    let of_dir = |error| IoError::open(dir, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(of_dir)? {
        let entry = entry.map_err(of_dir)?;
        if is_leftover(&entry.file_name()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn is_leftover(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let sector = name.strip_prefix("writing-").and_then(|rest| rest.strip_suffix(".bin"));
    let is_new = |of: &str| name.strip_suffix(".new") == Some(of);
    sector.is_some_and(|sector| sector.parse::<u16>().is_ok())
        || [INFO_FILE, IDENTITY_FILE, DEPTH_FILE].into_iter().any(is_new)
}

/// Removes a file, and where it is a link what that leads to; its bytes, if there was one.
fn remove(path: &Path) -> Result<Option<u64>, IoError> {
    let refused = |error| IoError::open(path, error);
    let is_link = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.is_symlink(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(error)),
    };
    let mut bytes = 0;
    match fs::canonicalize(path) {
        // A device that somebody has linked there is not the farm's.
        Ok(there) if !is_link || there.is_file() => {
            bytes = fs::metadata(&there).map_err(|error| IoError::open(&there, error))?.len();
            // The link comes last: a wipe that is broken off finds it again.
            fs::remove_file(&there).map_err(|error| IoError::open(&there, error))?;
            sync_directory(&there)?;
        }
        Ok(_) => {}
        // It leads nowhere.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error)),
    }
    if is_link {
        fs::remove_file(path).map_err(refused)?;
    }
    Ok(Some(bytes))
}
