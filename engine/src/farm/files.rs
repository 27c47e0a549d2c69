//! The two large files of a farm, and the formats of header and records in `metadata.bin`.

use super::blocks::Source;
use super::sizes::Sizes;
use super::state::State;
use super::{AuditMemory, Layout, METADATA_FILE, PLOT_FILE, RecordFault, SectorError};
use crate::BLOCK_BYTES;
use crate::disk::{Class, Disk, FileWriter, SCRATCH_BYTES};
use crate::error::IoError;
use crate::file::{Access, DirectFile};
use crate::parts::Parts;
use crate::pool::{Pool, SlabMut};
use consensus::constants::{HASH_SIZE, RECORD_CHUNKS, S_BUCKETS, SECTOR_METADATA_SIZE, contents_map_size};
use consensus::sector::{ContentsMap, SectorMetadata};
use std::path::Path;
use std::sync::Arc;

/// Memory that an open farm keeps for merging edge blocks: one block a file.
pub const FARM_SCRATCH_BYTES: usize = 2 * SCRATCH_BYTES;
/// Bytes of the header: version u8, count u16 LE.
pub(super) const HEADER_BYTES: usize = 3;
/// The only version of `metadata.bin`.
pub(super) const METADATA_VERSION: u8 = 0;
/// Blocks that a record lies in at most, as bytes.
pub(super) const RECORD_PART_BYTES: usize =
    (SECTOR_METADATA_SIZE + BLOCK_BYTES - 1).next_multiple_of(BLOCK_BYTES);

/// History size of the record that marks a sector for replotting: so old that it is expired.
const EXPIRED_HISTORY_SIZE: u64 = 1;

/// A record that was read and is wrong.
pub(super) struct WrongRecord {
    pub fault: RecordFault,
    /// What stands where the history size is: that part of it may be right.
    pub history_size: u64,
    /// Nothing was ever written there, or it was wiped.
    pub is_zeroes: bool,
}

/// The open files and where things lie in them.
pub(super) struct Files {
    pub disk: Disk,
    pub pool: Pool,
    pub layout: Layout,
    pub plot: FileWriter,
    pub metadata: FileWriter,
    /// What is kept of each sector's record.
    pub memory: AuditMemory,
}

/// The two files, open.
#[derive(Clone)]
pub(super) struct Both {
    pub plot: Arc<DirectFile>,
    pub metadata: Arc<DirectFile>,
}

impl Both {
    /// Opens them. Blocks.
    pub fn open(dir: &Path, access: Access) -> Result<Self, IoError> {
        let open = |name| DirectFile::open(&dir.join(name), access);
        Ok(Self { plot: open(PLOT_FILE)?, metadata: open(METADATA_FILE)? })
    }
}

impl Files {
    /// Of a farm whose files are open; `scratch` is [`FARM_SCRATCH_BYTES`] of memory that starts at a block.
    pub fn new(disk: Disk, mut scratch: SlabMut, both: Both, layout: Layout, memory: AuditMemory) -> Self {
        let pool = scratch.pool().clone();
        let second = scratch.split_off(SCRATCH_BYTES);
        let plot = FileWriter::new(disk.clone(), both.plot, scratch);
        let metadata = FileWriter::new(disk.clone(), both.metadata, second);
        Self { disk, pool, layout, plot, metadata, memory }
    }

    /// `plot.bin` to read.
    pub fn plot(&self, class: Class) -> Source<'_> {
        Source { disk: &self.disk, class, file: self.plot.file() }
    }

    /// `metadata.bin` to read.
    pub fn metadata(&self, class: Class) -> Source<'_> {
        Source { disk: &self.disk, class, file: self.metadata.file() }
    }

    /// Version and count.
    pub async fn read_header(&self, class: Class, parts: &Parts) -> Result<(u8, u16), SectorError> {
        let header = self.metadata(class).read_to_vec(0, HEADER_BYTES as u64, parts).await?;
        Ok((header[0], u16::from_le_bytes([header[1], header[2]])))
    }

    /// Writes the count; not durable before [`Files::sync_metadata`].
    pub async fn write_count(&self, class: Class, count: u16) -> Result<(), SectorError> {
        let [low, high] = count.to_le_bytes();
        self.write_metadata(class, 0, &[METADATA_VERSION, low, high]).await
    }

    /// Writes the record of a sector; not durable before [`Files::sync_metadata`].
    pub async fn write_record(&self, class: Class, metadata: &SectorMetadata) -> Result<(), SectorError> {
        let offset = self.layout.record_offset(metadata.sector_index);
        self.write_metadata(class, offset, &metadata.encode()).await
    }

    /// Writes the record that marks a sector for replotting.
    pub async fn write_mark(&self, class: Class, sector: u16) -> Result<(), SectorError> {
        self.write_record(class, &expired(sector, self.layout.pieces_in_sector())).await
    }

    /// Makes header and records durable.
    pub async fn sync_metadata(&self, class: Class) -> Result<(), SectorError> {
        Ok(self.metadata.sync(class).await?)
    }

    async fn write_metadata(&self, class: Class, offset: u64, bytes: &[u8]) -> Result<(), SectorError> {
        let phase = (offset % BLOCK_BYTES as u64) as usize;
        let mut buf = self.pool.acquire().await?.narrow(phase..phase + bytes.len());
        buf.copy_from_slice(bytes);
        Ok(self.metadata.write(class, offset, &buf.freeze()).await?)
    }

    /// Reads and checks the record of a sector.
    pub async fn read_record(
        &self,
        class: Class,
        sector: u16,
        parts: &Parts,
    ) -> Result<Result<SectorMetadata, WrongRecord>, SectorError> {
        let offset = self.layout.record_offset(sector);
        let bytes = self.metadata(class).read_to_vec(offset, SECTOR_METADATA_SIZE as u64, parts).await?;
        let checked = SectorMetadata::decode(&bytes)
            .map_err(RecordFault::from)
            .and_then(|metadata| check_record(&self.layout, sector, &metadata).map(|()| metadata));
        Ok(checked.map_err(|fault| {
            let before_hash = &bytes[..SECTOR_METADATA_SIZE - HASH_SIZE];
            let history_size = *before_hash.last_chunk().expect("a record is longer than a history size");
            let is_zeroes = bytes.iter().all(|byte| *byte == 0);
            WrongRecord { fault, history_size: u64::from_le_bytes(history_size), is_zeroes }
        }))
    }

    /// What a checked record means.
    pub fn state_of(&self, metadata: &SectorMetadata) -> State {
        if is_expired(metadata) {
            return State::Expired;
        }
        let sizes = Sizes::new(self.memory, &metadata.s_bucket_sizes);
        State::Plotted { history_size: metadata.history_size, sizes }
    }

    /// Whether a sector begins with the contents map that its record, which is good, is of.
    pub async fn has_contents_map_of(
        &self,
        class: Class,
        sector: u16,
        metadata: &SectorMetadata,
        parts: &Parts,
    ) -> Result<bool, SectorError> {
        let pieces = self.layout.pieces_in_sector();
        let (offset, bytes) = (self.layout.sector_offset(sector), contents_map_size(pieces) as u64);
        let bytes = self.plot(class).read_to_vec(offset, bytes, parts).await?;
        let map = ContentsMap::decode(&bytes, pieces);
        Ok(map.is_ok_and(|map| map.s_bucket_sizes() == metadata.s_bucket_sizes))
    }

    /// A file's size.
    pub fn plot_file(&self) -> &Arc<DirectFile> {
        self.plot.file()
    }
}

/// The record of a sector that must be plotted again.
pub(super) fn expired(sector_index: u16, pieces_in_sector: u16) -> SectorMetadata {
    let s_bucket_sizes = vec![0; S_BUCKETS];
    SectorMetadata { sector_index, pieces_in_sector, s_bucket_sizes, history_size: EXPIRED_HISTORY_SIZE }
}

/// Whether it is the record of a sector that must be plotted again.
pub(super) fn is_expired(metadata: &SectorMetadata) -> bool {
    metadata.history_size == EXPIRED_HISTORY_SIZE && metadata.s_bucket_sizes.iter().all(|&size| size == 0)
}

/// Whether the record is one that this sector of this farm can have.
pub(super) fn check_record(
    layout: &Layout,
    sector: u16,
    metadata: &SectorMetadata,
) -> Result<(), RecordFault> {
    let pieces = layout.pieces_in_sector();
    if metadata.sector_index != sector {
        return Err(RecordFault::OtherSector(metadata.sector_index));
    }
    if metadata.pieces_in_sector != pieces {
        return Err(RecordFault::OtherPieces(metadata.pieces_in_sector));
    }
    let sizes = (0..=u16::MAX).zip(&metadata.s_bucket_sizes);
    if let Some((s_bucket, _)) = sizes.into_iter().find(|(_, size)| **size > pieces) {
        return Err(RecordFault::TooManyChunks(s_bucket));
    }
    let chunks: u32 = metadata.s_bucket_sizes.iter().map(|&size| u32::from(size)).sum();
    let expected = u32::from(pieces) * RECORD_CHUNKS as u32;
    if chunks == expected || is_expired(metadata) { Ok(()) } else { Err(RecordFault::Chunks(chunks)) }
}
