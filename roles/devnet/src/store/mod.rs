//! The chain on disk.
//!
//! ```text
//! base path/
//!   lock                 flocked by the process that has the chain
//!   imported.bin         the imported bytes (see `history`), never changed
//!   manifest.bin         SCALE of the manifest over them
//!   genesis.json         what the chain was made with; last to be written, and without it there is no chain
//!   segments/N.bin       the 256 pieces of segment N, by position
//!   segment_headers.log  a record a segment: SCALE of its header; a segment counts once its header is in
//!   blocks.log           a record a block behind block 0: SCALE of the block; its end is replaced when the chain follows another branch
//! ```
//!
//! Data is forced to disk before the record that makes it count, so a kill at any moment loses nothing that counted.
//!
//! Owns: these files.
//! Never: the rules of the chain ([`super::chain`]).

mod error;
mod genesis;
mod record_log;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use consensus::archiver::NewArchivedSegment;
use consensus::archiver::extend_first_block;
use consensus::constants::{PIECE_SIZE, SEGMENT_PIECES};
use consensus::piece::PieceIndex;
use consensus::segment::{HeaderError, SegmentHeader};
use parity_scale_codec::{Decode, Encode};
use rustix::fs::{FlockOperation, flock};

use super::chain::{BODY_SIZE_MAX, Block, Body};
use super::history::{self, HistoryFile};
use engine::files;

pub use error::StoreError;
use error::{at, damaged};
pub use genesis::{Genesis, GenesisParameters, now_ms};
use record_log::RecordLog;

const LOCK_FILE: &str = "lock";
const IMPORTED_FILE: &str = "imported.bin";
const MANIFEST_FILE: &str = "manifest.bin";
const GENESIS_FILE: &str = "genesis.json";
const SEGMENTS_FOLDER: &str = "segments";
const HEADERS_FILE: &str = "segment_headers.log";
const BLOCKS_FILE: &str = "blocks.log";

/// Bytes of a segment's file.
const SEGMENT_FILE_SIZE: u64 = (SEGMENT_PIECES * PIECE_SIZE) as u64;

/// The files of a chain, locked against other processes.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    genesis: Genesis,
    imported: File,
    headers: Mutex<RecordLog>,
    blocks: Mutex<RecordLog>,
    _lock: File,
}

/// What was stored before.
#[derive(Debug)]
pub struct Stored {
    /// Headers of all segments.
    pub headers: Vec<SegmentHeader>,
    /// All blocks behind block 0.
    pub blocks: Vec<Block>,
}

impl Store {
    /// Opens the chain in `folder`, or begins one there with `parameters` and the files of `history`. Neither is looked at when
    /// there is a chain, but explicit parameters that differ from its own are an error.
    pub fn open(
        folder: &Path,
        parameters: &GenesisParameters,
        history: &[PathBuf],
    ) -> Result<(Self, Stored), StoreError> {
        let segments = folder.join(SEGMENTS_FOLDER);
        fs::create_dir_all(&segments).map_err(at("create", &segments))?;
        let lock = lock(folder)?;
        let genesis_path = folder.join(GENESIS_FILE);
        let genesis = match fs::read(&genesis_path) {
            Ok(bytes) => {
                let genesis = Genesis::decode(&bytes).map_err(|what| damaged(&genesis_path, what))?;
                genesis.check(parameters)?;
                genesis
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(folder, parameters, history)?,
            Err(error) => return Err(at("read", &genesis_path)(error)),
        };
        Self::open_created(folder, genesis, lock)
    }

    fn open_created(folder: &Path, genesis: Genesis, lock: File) -> Result<(Self, Stored), StoreError> {
        let imported_path = folder.join(IMPORTED_FILE);
        let imported = File::open(&imported_path).map_err(at("open", &imported_path))?;
        let size = imported.metadata().map_err(at("read", &imported_path))?.len();
        if size != genesis.imported_size {
            let what = format!("it has {size} bytes instead of {}", genesis.imported_size);
            return Err(damaged(&imported_path, what));
        }
        let (headers_log, header_records) = RecordLog::open(&folder.join(HEADERS_FILE))?;
        let (blocks_log, block_records) = RecordLog::open(&folder.join(BLOCKS_FILE))?;
        let headers = decode_headers(&headers_log, &header_records)?;
        for index in 0..headers.len() as u64 {
            let path = segment_path(folder, index);
            let size = fs::metadata(&path).map_err(at("read", &path))?.len();
            if size != SEGMENT_FILE_SIZE {
                return Err(damaged(&path, format!("it has {size} bytes instead of {SEGMENT_FILE_SIZE}")));
            }
        }
        let blocks = decode_blocks(&blocks_log, &block_records)?;
        let store = Self {
            folder: folder.into(),
            genesis,
            imported,
            headers: Mutex::new(headers_log),
            blocks: Mutex::new(blocks_log),
            _lock: lock,
        };
        Ok((store, Stored { headers, blocks }))
    }

    /// What the chain was made with.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Puts `blocks` behind the first `kept` ones, in place of all that were there; when this returns they are safe. After a crash
    /// in between, some of those that were there may be missing.
    pub fn put_blocks(&self, kept: usize, blocks: &[Block]) -> Result<(), StoreError> {
        let mut log = self.blocks.lock().expect("appending does not panic");
        log.truncate(kept)?;
        log.append(blocks.iter().map(Encode::encode))
    }

    /// At most `count` blocks behind the first `before` ones.
    pub fn read_blocks(&self, before: usize, count: usize) -> Result<Vec<Block>, StoreError> {
        let log = self.blocks.lock().expect("appending does not panic");
        decode_blocks(&log, &log.read(before, count)?)
    }

    /// Whether a chain is in `folder`.
    pub fn exists(folder: &Path) -> bool {
        folder.join(GENESIS_FILE).exists()
    }

    /// Adds the next segment; when this returns it is safe and counts.
    pub fn add_segment(&self, segment: &NewArchivedSegment) -> Result<(), StoreError> {
        let path = segment_path(&self.folder, segment.header.segment_index);
        self.write_segment(&path, segment).map_err(at("write", &path))?;
        let mut log = self.headers.lock().expect("appending does not panic");
        log.append([segment.header.encode()])
    }

    fn write_segment(&self, path: &Path, segment: &NewArchivedSegment) -> io::Result<()> {
        let mut file = File::create(path)?;
        segment.pieces.iter().try_for_each(|piece| file.write_all(piece.as_bytes()))?;
        file.sync_data()?;
        files::sync_parent(path)
    }

    /// Reads a piece of a segment that counts.
    pub fn read_piece(&self, index: PieceIndex) -> Result<Vec<u8>, StoreError> {
        let path = segment_path(&self.folder, index.segment_index());
        let mut piece = vec![0; PIECE_SIZE];
        File::open(&path)
            .and_then(|file| file.read_exact_at(&mut piece, u64::from(index.position()) * PIECE_SIZE as u64))
            .map_err(at("read", &path))?;
        Ok(piece)
    }

    /// Block 0, as it is archived.
    pub fn block_0(&self) -> Result<Vec<u8>, StoreError> {
        let path = self.folder.join(IMPORTED_FILE);
        let imported = File::open(&path).map_err(at("open", &path))?;
        history::block_0(imported, &self.genesis.manifest_hash).map_err(at("read", &path))
    }

    /// The block at `position` (1 for the one behind block 0), as it is archived.
    pub fn block_bytes(&self, position: u32, block: &Block) -> Result<Vec<u8>, StoreError> {
        let mut bytes = block.encode();
        let start = bytes.len();
        match block.body() {
            Some(Body { offset, size }) => {
                bytes.resize(start + size as usize, 0);
                let read = self.imported.read_exact_at(&mut bytes[start..], offset);
                read.map_err(at("read", &self.folder.join(IMPORTED_FILE)))?;
            }
            None => {
                bytes.resize(start + BODY_SIZE_MAX as usize, 0);
                let mut hasher = blake3::Hasher::new();
                hasher.update(&self.genesis.hash()).update(&position.to_le_bytes());
                extend_first_block(hasher.finalize().as_bytes(), &mut bytes[start..]);
            }
        }
        Ok(bytes)
    }
}

fn segment_path(folder: &Path, index: u64) -> PathBuf {
    folder.join(SEGMENTS_FOLDER).join(format!("{index}.bin"))
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(LOCK_FILE);
    let file = File::create(&path).map_err(at("create", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked { path: folder.into() }),
        Err(error) => Err(at("lock", &path)(error.into())),
    }
}

/// Imports the history and writes the genesis. What an earlier attempt has left behind is overwritten.
fn create(folder: &Path, parameters: &GenesisParameters, history: &[PathBuf]) -> Result<Genesis, StoreError> {
    let files = history::find(history)?;
    let imported_path = folder.join(IMPORTED_FILE);
    let mut imported = BufWriter::new(File::create(&imported_path).map_err(at("create", &imported_path))?);
    let manifest = history::import(&files, &mut imported)?;
    let imported = imported.into_inner().map_err(|error| at("write", &imported_path)(error.into_error()))?;
    imported.sync_data().map_err(at("write", &imported_path))?;
    let imported_size = imported.metadata().map_err(at("read", &imported_path))?.len();
    let manifest_path = folder.join(MANIFEST_FILE);
    files::replace(&manifest_path, &manifest.encode()).map_err(at("write", &manifest_path))?;
    for name in [HEADERS_FILE, BLOCKS_FILE] {
        let path = folder.join(name);
        File::create(&path).map_err(at("create", &path))?;
    }
    let genesis = Genesis::new(parameters, manifest.hash(), imported_size)?;
    let genesis_path = folder.join(GENESIS_FILE);
    files::replace(&genesis_path, &genesis.encode()).map_err(at("write", &genesis_path))?;
    log_import(&files, imported_size);
    Ok(genesis)
}

fn log_import(files: &[HistoryFile], imported_size: u64) {
    if files.is_empty() {
        tracing::info!("no files to make history of: a built-in text is used");
    } else {
        tracing::info!(files = files.len(), bytes = imported_size, "history imported");
    }
}

fn decode_blocks(log: &RecordLog, records: &[Vec<u8>]) -> Result<Vec<Block>, StoreError> {
    let blocks = records.iter().map(|record| Block::decode(&mut &record[..]));
    blocks.collect::<Result<_, _>>().map_err(|what| damaged(log.path(), what))
}

fn decode_headers(log: &RecordLog, records: &[Vec<u8>]) -> Result<Vec<SegmentHeader>, StoreError> {
    let decoded: Result<Vec<_>, HeaderError> =
        records.iter().map(|record| SegmentHeader::decode(record)).collect();
    let headers = decoded.map_err(|what| damaged(log.path(), what))?;
    for (index, header) in (0..).zip(&headers) {
        if header.segment_index != index {
            let what = format!("segment {} is where segment {index} should be", header.segment_index);
            return Err(damaged(log.path(), what));
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
