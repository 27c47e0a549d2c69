//! Reading sectors: an s-bucket for an audit, a record for a proof or a piece.
//!
//! What is read is judged only when the sector is the same as before: bytes of two sectors would look like damage. An error of the
//! disk stays one ([`SectorError::Io`]), and says nothing of the bytes.

use super::files::RECORD_PART_BYTES;
use super::gather::{GATHER_BYTES, ReadCost, gather, plan};
use super::sizes::{GROUP_BYTES, Group, Place, Sizes, first_difference};
use super::{Farm, RecordFault, SectorError};
use crate::BLOCK_BYTES;
use crate::disk::{Class, touched_blocks};
use crate::parts::Parts;
use crate::pool::SlabMut;
use consensus::constants::{
    RECORD_CHUNKS, RECORD_METADATA_SIZE, RECORD_SIZE, SCALAR_BYTES, contents_map_size,
};
use consensus::sector::{Bitfield, ContentsMap, RecordMetadata};
use std::ops::Range;

/// Part of a slab for one read of a contents map.
const MAP_PART_BYTES: usize = 512 * 1024;

/// Memory that [`Farm::read_s_bucket`] needs for sectors of so many pieces: whole blocks.
pub const fn s_bucket_buf_bytes(pieces_in_sector: u16) -> usize {
    (SCALAR_BYTES * pieces_in_sector as usize + BLOCK_BYTES - 1).next_multiple_of(BLOCK_BYTES)
}

// A group's sizes fit the same memory, in two blocks where they lie across an edge.
const _: () = assert!(s_bucket_buf_bytes(1) >= (GROUP_BYTES + BLOCK_BYTES - 1).next_multiple_of(BLOCK_BYTES));

/// An s-bucket as stored.
#[derive(Debug)]
pub struct SBucket {
    buf: SlabMut,
    from: usize,
    chunks: usize,
}

impl SBucket {
    /// Its chunks, in order of piece offset.
    pub fn chunks(&self) -> &[[u8; SCALAR_BYTES]] {
        self.buf[self.from..][..self.chunks * SCALAR_BYTES].as_chunks().0
    }

    /// Bytes that were read for them: whole blocks.
    pub fn read_bytes(&self) -> usize {
        if self.chunks == 0 {
            0
        } else {
            (self.from + self.chunks * SCALAR_BYTES).next_multiple_of(BLOCK_BYTES)
        }
    }

    /// The memory that was given, whole, for the next read.
    pub fn into_buf(self) -> SlabMut {
        self.buf
    }
}

/// A record as stored: what a proof, or reading its piece back, starts from.
#[derive(Debug)]
pub struct StoredRecord {
    /// 1 MiB at a block's start: the encoded chunks in s-bucket order, then the unencoded ones in s-bucket order.
    pub chunks: SlabMut,
    /// Which s-buckets the encoded ones are of.
    pub bitfield: Bitfield,
}

/// What reading a record took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordReads {
    /// Reads of chunks.
    pub reads: usize,
    /// Bytes of them.
    pub bytes: u64,
}

impl Farm {
    /// The chunks of an s-bucket: one small read, or two, one after the other, where the farm keeps as little as
    /// [`super::AuditMemory::Lean`] does. `buf` holds at least [`s_bucket_buf_bytes`] and starts at a block.
    pub async fn read_s_bucket(
        &self,
        sector: u16,
        s_bucket: u16,
        buf: SlabMut,
    ) -> Result<SBucket, SectorError> {
        let (place, generation) = self.place(sector, s_bucket)?;
        let (chunks, buf) = match place {
            Place::Known(chunks) => (chunks, buf),
            Place::InGroup(group) => self.look_up(sector, generation, &group, buf).await?,
        };
        if chunks.len() > usize::from(self.layout().pieces_in_sector()) {
            let source = RecordFault::TooManyChunks(s_bucket);
            return Err(SectorError::Metadata { sector, source });
        }
        let (offset, bytes) = (self.chunk_offset(sector, chunks.start), SCALAR_BYTES * chunks.len());
        let blocks = touched_blocks(offset, bytes);
        let from = (offset - blocks.start) as usize;
        if chunks.is_empty() {
            return Ok(SBucket { buf, from: 0, chunks: 0 });
        }
        let (files, wide) = (&self.0.files, (blocks.end - blocks.start) as usize);
        let buf = files.disk.read(Class::AuditRead, files.plot_file(), blocks.start, buf, 0..wide).await?;
        self.check_unchanged(sector, generation)?;
        Ok(SBucket { buf, from, chunks: chunks.len() })
    }

    /// Reads the sizes of a group of s-buckets from the sector's record, and finds the chunks of the one that is wanted.
    async fn look_up(
        &self,
        sector: u16,
        generation: u32,
        group: &Group,
        buf: SlabMut,
    ) -> Result<(Range<u32>, SlabMut), SectorError> {
        let files = &self.0.files;
        let offset = files.layout.record_offset(sector) + group.offset_in_record();
        let blocks = touched_blocks(offset, GROUP_BYTES);
        let wide = (blocks.end - blocks.start) as usize;
        let file = files.metadata.file();
        let buf = files.disk.read(Class::AuditRead, file, blocks.start, buf, 0..wide).await?;
        // A record that was replaced meanwhile is no damaged one.
        self.check_unchanged(sector, generation)?;
        let sizes = buf[(offset - blocks.start) as usize..].first_chunk().expect("all of the group was read");
        let chunks = group.find(sizes, self.layout().pieces_in_sector());
        Ok((chunks.map_err(|source| SectorError::Metadata { sector, source })?, buf))
    }

    /// Chunks in each of a plotted sector's s-buckets: from memory, or from its whole record, checked.
    pub(super) async fn s_bucket_sizes(&self, class: Class, sector: u16) -> Result<Vec<u16>, SectorError> {
        let (sizes, generation) = self.look(sector, |_, sizes| sizes.clone())?;
        let ends = match sizes {
            Sizes::Exact(sizes) => return Ok(sizes.to_vec()),
            Sizes::Lean(ends) => ends,
        };
        let parts = Parts::new(&self.0.files.pool, RECORD_PART_BYTES);
        let record = self.0.files.read_record(class, sector, &parts).await?;
        self.check_unchanged(sector, generation)?;
        let record = record.map_err(|wrong| wrong.fault);
        let checked =
            record.and_then(|record| ends.check(&record.s_bucket_sizes).map(|()| record.s_bucket_sizes));
        checked.map_err(|source| SectorError::Metadata { sector, source })
    }

    /// Which s-buckets each record of a sector uses.
    pub async fn read_contents_map(&self, class: Class, sector: u16) -> Result<ContentsMap, SectorError> {
        let (_, generation) = self.plotted(sector)?;
        let map = self.contents_map(class, sector, &Parts::new(&self.0.files.pool, MAP_PART_BYTES)).await;
        self.check_unchanged(sector, generation)?;
        map
    }

    /// Commitment, witness and hash of a record's piece.
    pub async fn read_record_metadata(
        &self,
        class: Class,
        sector: u16,
        piece_offset: u16,
    ) -> Result<RecordMetadata, SectorError> {
        let (_, generation) = self.plotted(sector)?;
        self.check_record_exists(piece_offset)?;
        let metadata = self.record_metadata(class, sector, piece_offset).await;
        self.check_unchanged(sector, generation)?;
        metadata
    }

    /// The same, whatever is known of the sector otherwise.
    pub(super) async fn record_metadata(
        &self,
        class: Class,
        sector: u16,
        piece_offset: u16,
    ) -> Result<RecordMetadata, SectorError> {
        let pieces = self.layout().pieces_in_sector();
        let before = contents_map_size(pieces)
            + usize::from(pieces) * RECORD_SIZE
            + usize::from(piece_offset) * RECORD_METADATA_SIZE;
        let offset = self.layout().sector_offset(sector) + before as u64;
        let parts = Parts::new(&self.0.files.pool, 2 * BLOCK_BYTES);
        let plot = self.0.files.plot(class);
        let bytes = plot.read_to_vec(offset, RECORD_METADATA_SIZE as u64, &parts).await?;
        let bytes = bytes.as_array().expect("as many bytes as asked for");
        Ok(RecordMetadata::from_bytes(bytes))
    }

    /// A record's stored chunks. They are scattered over the whole sector: all of it is read, or only the blocks that hold
    /// them, or some of what lies between, whichever this device does soonest.
    pub async fn read_record(
        &self,
        class: Class,
        sector: u16,
        piece_offset: u16,
    ) -> Result<StoredRecord, SectorError> {
        let cost = self.read_cost(class, sector).await?;
        Ok(self.read_record_at(class, sector, piece_offset, cost).await?.0)
    }

    /// What reading costs on this farm's device: measured on a sector's bytes, or not long ago.
    pub async fn read_cost(&self, class: Class, sector: u16) -> Result<ReadCost, SectorError> {
        self.plotted(sector)?;
        let chunks = u32::from(self.layout().pieces_in_sector()) * RECORD_CHUNKS as u32;
        let first = touched_blocks(self.chunk_offset(sector, 0), SCALAR_BYTES);
        let last = touched_blocks(self.chunk_offset(sector, chunks - 1), SCALAR_BYTES);
        let (files, blocks) = (&self.0.files, first.start..last.end);
        Ok(self.0.read_cost.get(&files.plot(class), &files.pool, blocks).await?)
    }

    /// [`Farm::read_record`] by the reads that are best at this cost, whatever the device is like; and how many reads and bytes
    /// that took, without the contents map.
    pub async fn read_record_at(
        &self,
        class: Class,
        sector: u16,
        piece_offset: u16,
        cost: ReadCost,
    ) -> Result<(StoredRecord, RecordReads), SectorError> {
        let (_, generation) = self.plotted(sector)?;
        self.check_record_exists(piece_offset)?;
        let sizes = self.s_bucket_sizes(class, sector).await?;
        // Memory after memory: a task that holds some must not wait for more.
        let map = self.contents_map(class, sector, &Parts::new(&self.0.files.pool, MAP_PART_BYTES)).await;
        self.check_unchanged(sector, generation)?;
        let record = self.stored_record(class, sector, piece_offset, (&map?, &sizes), cost).await;
        self.check_unchanged(sector, generation)?;
        record
    }

    /// A record's chunks where map and sizes say, whatever is known of the sector otherwise.
    pub(super) async fn stored_record(
        &self,
        class: Class,
        sector: u16,
        piece_offset: u16,
        (map, sizes): (&ContentsMap, &[u16]),
        cost: ReadCost,
    ) -> Result<(StoredRecord, RecordReads), SectorError> {
        let wanted = self.locate(sector, piece_offset, map, sizes)?;
        let mut chunks = self.0.files.pool.acquire().await?;
        let memory = chunks.split_off(RECORD_SIZE).narrow(..GATHER_BYTES);
        let plan = plan(&wanted, cost);
        let reads = RecordReads { reads: plan.runs.len(), bytes: plan.bytes() };
        let chunks = gather(&self.0.files.plot(class), &wanted, plan, memory, chunks).await?;
        Ok((StoredRecord { chunks, bitfield: map.records()[usize::from(piece_offset)].clone() }, reads))
    }

    /// The map of a sector, checked, whatever is known of the sector otherwise.
    pub(super) async fn contents_map(
        &self,
        class: Class,
        sector: u16,
        parts: &Parts,
    ) -> Result<ContentsMap, SectorError> {
        let pieces = self.layout().pieces_in_sector();
        let (offset, bytes) = (self.layout().sector_offset(sector), contents_map_size(pieces) as u64);
        let bytes = self.0.files.plot(class).read_to_vec(offset, bytes, parts).await?;
        ContentsMap::decode(&bytes, pieces).map_err(|source| SectorError::ContentsMap { sector, source })
    }

    /// Where the chunks of a record are: offsets in the file with their places in the record, ascending.
    fn locate(
        &self,
        sector: u16,
        piece_offset: u16,
        map: &ContentsMap,
        sizes: &[u16],
    ) -> Result<Vec<(u64, usize)>, SectorError> {
        let locations = map.chunk_locations(piece_offset, sizes);
        let locations = locations.expect("the record was checked to exist");
        let total: u32 = sizes.iter().map(|&size| u32::from(size)).sum();
        if locations.iter().any(|&location| location >= total) {
            let s_bucket = first_difference(sizes, &map.s_bucket_sizes()).unwrap_or_default();
            return Err(SectorError::Metadata { sector, source: RecordFault::SBucketSize(s_bucket) });
        }
        let place = |(place, location)| (self.chunk_offset(sector, location), place);
        let mut wanted: Vec<_> = (0..).zip(locations).map(place).collect();
        wanted.sort_unstable();
        Ok(wanted)
    }

    /// Where a chunk lies in `plot.bin`.
    pub(super) fn chunk_offset(&self, sector: u16, chunk: u32) -> u64 {
        let layout = self.layout();
        let before = contents_map_size(layout.pieces_in_sector()) as u64;
        layout.sector_offset(sector) + before + u64::from(chunk) * SCALAR_BYTES as u64
    }

    fn check_record_exists(&self, piece_offset: u16) -> Result<(), SectorError> {
        let pieces_in_sector = self.layout().pieces_in_sector();
        if piece_offset < pieces_in_sector {
            return Ok(());
        }
        Err(SectorError::NoSuchRecord { piece_offset, pieces_in_sector })
    }
}
