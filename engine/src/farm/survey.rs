//! What a farm's directory holds, looked at from outside: without its lock, also while a process farms it, and without changing anything.
//!
//! Reads each record of `metadata.bin` and, of what the network's farmer keeps beside its sectors, so many elements as take seconds.

use super::files::{HEADER_BYTES, METADATA_VERSION, check_record, is_expired};
use super::format::{DEPTH_FILE, KNOWN_PEERS_FILE, PIECE_CACHE_FILE};
use super::info::{read_identity, read_info};
use super::making::size;
use super::open::found_layout;
use super::{
    FarmError, FarmInfo, IDENTITY_FILE, INFO_FILE, Layout, METADATA_FILE, PLOT_FILE, PROGRESS_FILE,
    RecordFault,
};
use crate::disk::touched_blocks;
use crate::error::{Action, IoError};
use crate::file::check_regular;
use consensus::constants::{HASH_SIZE, PIECE_SIZE, SECTOR_METADATA_SIZE};
use consensus::sector::SectorMetadata;
use serde::Serialize;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An element of a cache of the network's farmer (PROTOCOL 7): piece index u64 LE, piece, hash of both.
const ELEMENT_BYTES: u64 = (8 + PIECE_SIZE + HASH_SIZE) as u64;
/// Elements whose hash is looked at, of each of the two caches.
const MOST_ELEMENTS: u64 = 128;

/// What there is of a farm.
#[derive(Debug)]
pub struct Survey {
    /// Who it is.
    pub info: FarmInfo,
    /// What is wrong with its identity.
    pub identity: Result<(), FarmError>,
    /// Whether a process has it; none where the file system does not tell.
    pub is_in_use: Option<bool>,
    /// Files of the network's format that are there, and their bytes.
    pub files: Vec<(&'static str, u64)>,
    /// Where its sectors lie, by the sizes of its files.
    pub layout: Layout,
    /// Its sectors; or why nothing can be said of them.
    pub sectors: Result<SectorCounts, FarmError>,
    /// `piece_cache.bin` of the network's farmer.
    pub piece_cache: Elements,
    /// What the network's farmer keeps in the not yet plotted end of `plot.bin`.
    pub plot_cache: Elements,
}

/// Sectors by what is known of them. They add up to the sectors there is room for.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct SectorCounts {
    /// Those that `metadata.bin` counts.
    pub counted: u16,
    /// To be farmed.
    pub plotted: u16,
    /// Never plotted.
    pub not_plotted: u16,
    /// Marked for replotting.
    pub marked: u16,
    /// Their record is damaged or of another sector.
    pub damaged: u16,
    /// `plot.bin` ends before they do.
    pub cut_off: u16,
    /// The disk does not give their record.
    pub unreadable: u16,
    /// Lowest and highest segments of history of the plotted ones.
    pub history_sizes: Option<(u64, u64)>,
}

/// Elements of a cache of the network's farmer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Elements {
    /// Room for so many.
    pub capacity: u64,
    /// So many were looked at.
    pub looked_at: u64,
    /// So many of these hold a piece whose hash is right.
    pub valid: u64,
}

impl Survey {
    /// Looks at the farm in `dir`. Errs when not even its `single_disk_farm.json` can be read.
    pub fn of(dir: &Path) -> Result<Self, FarmError> {
        let path = dir.join(INFO_FILE);
        if !path.try_exists().map_err(|error| IoError::open(&path, error))? {
            return Err(FarmError::NoFarm { path });
        }
        let info = read_info(dir)?;
        let layout = found_layout(dir, &info)?;
        let sectors = count(dir, &layout);
        let plotted_bytes = sectors.as_ref().map_or(u64::MAX, |counts| layout.sector_offset(counts.counted));
        Ok(Self {
            identity: read_identity(dir, &info).map(drop),
            is_in_use: is_locked(&path)?,
            files: file_sizes(dir)?,
            piece_cache: piece_cache(&dir.join(PIECE_CACHE_FILE))?,
            plot_cache: plot_cache(&dir.join(PLOT_FILE), &layout, plotted_bytes)?,
            info,
            layout,
            sectors,
        })
    }
}

fn file_sizes(dir: &Path) -> Result<Vec<(&'static str, u64)>, IoError> {
    let names = [
        INFO_FILE,
        IDENTITY_FILE,
        METADATA_FILE,
        PLOT_FILE,
        PIECE_CACHE_FILE,
        KNOWN_PEERS_FILE,
        PROGRESS_FILE,
        DEPTH_FILE,
    ];
    let mut files = Vec::new();
    for name in names {
        let path = dir.join(name);
        if path.try_exists().map_err(|error| IoError::open(&path, error))? {
            files.push((name, size(&path)?));
        }
    }
    Ok(files)
}

/// Whether a process has locked the file. The lock that is tried is shared and given up at once.
fn is_locked(path: &Path) -> Result<Option<bool>, IoError> {
    check_regular(path)?;
    let file = File::open(path).map_err(|error| IoError::open(path, error))?;
    Ok(match file.try_lock_shared() {
        Ok(()) => Some(false),
        Err(TryLockError::WouldBlock) => Some(true),
        Err(TryLockError::Error(_)) => None,
    })
}

/// Reads header and records.
fn count(dir: &Path, layout: &Layout) -> Result<SectorCounts, FarmError> {
    let path = dir.join(METADATA_FILE);
    let advice = "restore it from a backup";
    if size(&path)? == 0 {
        return Err(FarmError::Missing { path, other: INFO_FILE, advice });
    }
    let file = open(&path)?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0)
        .map_err(|error| IoError::refused(Action::Read, &path, 0, HEADER_BYTES as u64, error))?;
    let [version, count @ ..] = header;
    if version != METADATA_VERSION {
        return Err(FarmError::MetadataVersion { path, version });
    }
    let (counted, plot_bytes) = (u16::from_le_bytes(count), size(&dir.join(PLOT_FILE))?);
    let mut counts = SectorCounts { counted: counted.min(layout.sectors()), ..SectorCounts::default() };
    counts.not_plotted = layout.sectors() - counts.counted;
    let mut bytes = vec![0; SECTOR_METADATA_SIZE];
    for sector in 0..counts.counted {
        let end = touched_blocks(layout.sector_offset(sector), layout.sector_bytes() as usize).end;
        match read_record(&file, layout, sector, &mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => counts.damaged += 1,
            Err(_) => counts.unreadable += 1,
            Ok(Err(_)) => counts.damaged += 1,
            Ok(Ok(record)) if is_expired(&record) => counts.marked += 1,
            Ok(Ok(_)) if end > plot_bytes => counts.cut_off += 1,
            Ok(Ok(record)) => {
                let history = record.history_size;
                let (low, high) = counts.history_sizes.unwrap_or((history, history));
                counts.history_sizes = Some((low.min(history), high.max(history)));
                counts.plotted += 1;
            }
        }
    }
    Ok(counts)
}

/// The record of a sector. One that is wrong is read once more: whoever farms may be writing it.
fn read_record(
    file: &File,
    layout: &Layout,
    sector: u16,
    bytes: &mut [u8],
) -> io::Result<Result<SectorMetadata, RecordFault>> {
    let mut read = || {
        file.read_exact_at(bytes, layout.record_offset(sector))?;
        let record = SectorMetadata::decode(bytes).map_err(RecordFault::from);
        Ok(record.and_then(|record| check_record(layout, sector, &record).map(|()| record)))
    };
    match read()? {
        Ok(record) => Ok(Ok(record)),
        Err(_) => read(),
    }
}

/// A sample of the elements, spread over the whole file.
fn piece_cache(path: &Path) -> Result<Elements, IoError> {
    let capacity = size(path)? / ELEMENT_BYTES;
    if capacity == 0 {
        return Ok(Elements::default());
    }
    let (file, looked_at) = (open(path)?, capacity.min(MOST_ELEMENTS));
    let valid = (0..looked_at).filter(|index| is_valid(&file, index * capacity / looked_at)).count() as u64;
    Ok(Elements { capacity, looked_at, valid })
}

/// The elements from the end of `plot.bin` downwards to the first that is none, as the network's farmer looks for them.
fn plot_cache(path: &Path, layout: &Layout, plotted_bytes: u64) -> Result<Elements, IoError> {
    let sectors_bytes = layout.sector_offset(layout.sectors());
    let all = sectors_bytes.min(size(path)?) / ELEMENT_BYTES;
    let first = plotted_bytes.div_ceil(ELEMENT_BYTES).min(all);
    let mut elements = Elements { capacity: all - first, ..Elements::default() };
    if elements.capacity == 0 {
        return Ok(elements);
    }
    let file = open(path)?;
    for index in (first..all).rev().take(MOST_ELEMENTS as usize) {
        elements.looked_at += 1;
        if !is_valid(&file, index) {
            break;
        }
        elements.valid += 1;
    }
    Ok(elements)
}

fn is_valid(file: &File, index: u64) -> bool {
    let mut element = vec![0; ELEMENT_BYTES as usize];
    let read = file.read_exact_at(&mut element, index * ELEMENT_BYTES);
    let (piece, hash) = element.split_at(element.len() - HASH_SIZE);
    read.is_ok()
        && blake3::hash(piece) == *<&[u8; HASH_SIZE]>::try_from(hash).expect("the hash is at the end")
}

fn open(path: &Path) -> Result<File, IoError> {
    check_regular(path)?;
    File::open(path).map_err(|error| IoError::open(path, error))
}
