//! Making the two large files of a farm, and growing them: step by step, and in threads, so that nobody waits.

use super::begun::{Begun, Taken};
use super::files::HEADER_BYTES;
use super::format::PIECE_CACHE_FILE;
use super::{FarmError, INFO_FILE, Layout, METADATA_FILE, METADATA_RESERVED_BYTES, PLOT_FILE};
use crate::BLOCK_BYTES;
use crate::error::{Action, IoError};
use crate::file::{Access, DirectFile, check_regular};
use consensus::constants::{HASH_SIZE, SECTOR_METADATA_SIZE, contents_map_size};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Space that is reserved at once: the wish to stop is looked for in between.
const GROW_STEP_BYTES: u64 = if cfg!(test) { 1 << 20 } else { 1 << 30 };
const LOST_METADATA: &str =
    "restore it from a backup; without it the sectors are lost: then delete plot.bin too to plot anew";

/// Sees that both files are there, and makes them if the farm is new. The metadata comes first: without it, nothing is
/// known of the plot.
pub(super) async fn ensure_files(begun: &mut Begun, layout: Layout) -> Result<(), FarmError> {
    if begun.apart(move |dir, _| is_new(dir, &layout)).await? {
        make(begun, METADATA_FILE, layout.metadata_bytes()).await?;
        make(begun, PLOT_FILE, layout.plot_bytes()).await?;
    }
    begun.apart(|dir, _| check_files(dir)).await
}

/// Whether nothing was ever in the files, if they are there at all. Blocks.
fn is_new(dir: &Path, layout: &Layout) -> Result<bool, FarmError> {
    let (metadata, plot) = (dir.join(METADATA_FILE), dir.join(PLOT_FILE));
    let is_blank = is_blank(&metadata)?;
    if is_blank && size(&plot)? == 0 {
        return Ok(true);
    }
    if is_blank && holds_sector(&plot, layout)? {
        return Err(FarmError::Missing { path: metadata, other: PLOT_FILE, advice: LOST_METADATA });
    }
    Ok(false)
}

/// Errs if one of the files is missing, or so short that nothing can be said of the farm.
pub(super) fn check_files(dir: &Path) -> Result<(), FarmError> {
    let (metadata, plot) = (dir.join(METADATA_FILE), dir.join(PLOT_FILE));
    if size(&metadata)? < BLOCK_BYTES as u64 {
        let (path, other) = (metadata, if size(&plot)? > 0 { PLOT_FILE } else { INFO_FILE });
        return Err(FarmError::Missing { path, other, advice: LOST_METADATA });
    }
    if size(&plot)? == 0 {
        let advice = "restore it from a backup; without it the sectors are lost: then delete metadata.bin too to plot anew";
        return Err(FarmError::Missing { path: plot, other: METADATA_FILE, advice });
    }
    Ok(())
}

/// A file of this size, which may be there already from a start that was broken off.
async fn make(begun: &mut Begun, name: &'static str, bytes: u64) -> Result<(), FarmError> {
    let open = move |dir: &Path, taken: &mut Taken| {
        let path = &dir.join(name);
        let file = if path.try_exists().map_err(|error| IoError::open(path, error))? {
            DirectFile::open(path, Access::ReadWrite)?
        } else {
            let file = DirectFile::create(path, 0)?;
            taken.undo.made(path);
            file
        };
        taken.undo.will_grow(&file)?;
        Ok(file)
    };
    let file = begun.apart(open).await?;
    grow(begun, &file, bytes).await
}

/// Broken off, the file has any size between.
pub(super) async fn grow(begun: &mut Begun, file: &Arc<DirectFile>, bytes: u64) -> Result<(), FarmError> {
    let mut is_grown = false;
    while !is_grown {
        let file = file.clone();
        let step = move |dir: &Path, _: &mut Taken| {
            grow_a_step(&file, bytes).map_err(|error| beside_cache(dir, error))
        };
        is_grown = begun.apart(step).await?;
    }
    Ok(())
}

/// Whether the file has its size, durably. Blocks.
fn grow_a_step(file: &DirectFile, bytes: u64) -> Result<bool, IoError> {
    let now = file.size_bytes()?;
    if now >= bytes {
        return Ok(true);
    }
    let next = now.saturating_add(GROW_STEP_BYTES);
    if next < bytes && file.reserve_up_to(next)? {
        return Ok(false);
    }
    // The rest, and a sync.
    file.set_size(bytes)?;
    Ok(true)
}

/// What there is to say where a disk is full, and the network's farmer has left something on it.
fn beside_cache(dir: &Path, error: IoError) -> FarmError {
    let cache = dir.join(PIECE_CACHE_FILE);
    match size(&cache) {
        Ok(cache_bytes) if cache_bytes > 0 && matches!(error, IoError::DiskFull { .. }) => {
            let (source, dir) = (Box::new(error), dir.to_owned());
            FarmError::FullBesideCache { source, cache, cache_bytes, dir }
        }
        _ => error.into(),
    }
}

/// The file's size; zero if there is none.
pub(super) fn size(path: &Path) -> Result<u64, IoError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(IoError::open(path, error)),
    }
}

/// Whether `metadata.bin` counts no sector, and has no record of the first one either: then there has never been any.
fn is_blank(path: &Path) -> Result<bool, IoError> {
    if size(path)? == 0 {
        return Ok(true);
    }
    check_regular(path)?;
    let file = File::open(path).map_err(|error| IoError::open(path, error))?;
    let (mut header, mut record) = ([0; HEADER_BYTES], vec![0; SECTOR_METADATA_SIZE]);
    let read = read_what_is_there(&file, &mut header, 0)
        .and_then(|()| read_what_is_there(&file, &mut record, METADATA_RESERVED_BYTES));
    read.map_err(|error| IoError::refused(Action::Read, path, 0, SECTOR_METADATA_SIZE as u64, error))?;
    Ok(header.iter().chain(&record).all(|byte| *byte == 0))
}

/// Whether `plot.bin` begins with a contents map that its hash fits (PROTOCOL 5.3).
fn holds_sector(path: &Path, layout: &Layout) -> Result<bool, IoError> {
    check_regular(path)?;
    let file = File::open(path).map_err(|error| IoError::open(path, error))?;
    let (mut map, mut hash) = (vec![0; contents_map_size(layout.pieces_in_sector())], [0; HASH_SIZE]);
    map.truncate(map.len() - HASH_SIZE);
    let bytes = map.len() as u64;
    read_what_is_there(&file, &mut map, 0)
        .and_then(|()| read_what_is_there(&file, &mut hash, bytes))
        .map_err(|error| IoError::refused(Action::Read, path, 0, bytes, error))?;
    Ok(blake3::hash(&map) == hash)
}

/// Bytes beyond the end of the file stay as they are.
fn read_what_is_there(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    match file.read_exact_at(bytes, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        read => read,
    }
}
