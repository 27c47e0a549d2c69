//! Farms of one and two pieces a sector, with made-up contents.

mod bad_input;
mod corruption;
mod counting;
mod crash;
mod damage;
mod depth;
mod healing;
mod killed;
mod life;
mod looking;
mod meddled;
mod memory;
mod plotting;
mod power;
mod progress;
mod rebuilding;
mod refusing;
mod scrubbing;
mod shrinking;
mod sizes;
mod switching;
mod unreadable;

use super::*;
use crate::disk::{Class, Disk};
pub use crate::on_disk::on_disk;
use crate::pool::{Pool, Slab, SlabMut};
use crate::{BLOCK_BYTES, task};
use consensus::constants::{PIECE_SIZE, RECORD_CHUNKS, S_BUCKETS};
use consensus::sector::{Bitfield, ContentsMap, RecordMetadata, SectorAssembler, SectorMetadata};
use std::fs;

pub const GENESIS: [u8; 32] = [9; 32];

pub fn config(pieces_in_sector: u16, sectors: u16) -> FarmConfig {
    FarmConfig {
        genesis_hash: GENESIS,
        max_pieces_in_sector: 10,
        pieces_in_sector,
        size: FarmSize::Sectors(sectors),
        may_shrink: true,
    }
}

pub fn scratch(pool: &Pool) -> SlabMut {
    pool.try_acquire().unwrap().narrow(..FARM_SCRATCH_BYTES)
}

pub async fn open(
    disk: &Disk,
    pool: &Pool,
    dir: &Path,
    config: &FarmConfig,
) -> Result<(Farm, OpenReport), FarmError> {
    Farm::open(disk.clone(), scratch(pool), dir, config).await
}

pub fn options(target: Target, dry_run: bool) -> ScrubOptions {
    ScrubOptions { target, dry_run, mark_unreadable: false }
}

/// Opens a farm in which nothing may be wrong.
pub async fn open_clean(disk: &Disk, pool: &Pool, dir: &Path, config: &FarmConfig) -> Farm {
    let (farm, report) = open(disk, pool, dir, config).await.unwrap();
    assert_eq!(report, OpenReport::default());
    farm
}

/// Looks into all sectors of doubt, as a plot-client does a moment after opening; those that were rebuilt.
pub async fn heal_all(farm: &Farm) -> Vec<u16> {
    let mut rebuilt = Vec::new();
    for (sector, _) in farm.doubtful() {
        if farm.heal(Class::Scrub, sector).await.unwrap() == Some(Mended::Rebuilt) {
            rebuilt.push(sector);
        }
    }
    assert_eq!(farm.doubtful(), []);
    rebuilt
}

/// A sector with contents made of a seed. Records do not decode to pieces, but all its formats are right.
pub struct Made {
    pub records: Vec<Vec<[u8; 32]>>,
    pub map: ContentsMap,
    pub record_metadata: Vec<RecordMetadata>,
    pub bytes: Vec<u8>,
    pub metadata: SectorMetadata,
}

impl Made {
    pub fn new(pieces: u16, sector: u16, history_size: u64, seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(&sector.to_le_bytes());
        let mut random = hasher.finalize_xof();
        let mut draw = |bytes: &mut [u8]| random.fill(bytes);
        let (mut records, mut bitfields, mut record_metadata) = (Vec::new(), Vec::new(), Vec::new());
        for piece in 0..pieces {
            let mut record = vec![[0; 32]; RECORD_CHUNKS];
            draw(record.as_flattened_mut());
            let mut bits = vec![0; S_BUCKETS];
            draw(&mut bits);
            // Every third record has too few proofs, and so unencoded chunks.
            let (share, most) = if piece % 3 == 1 { (100, 20_000) } else { (150, RECORD_CHUNKS) };
            let mut bitfield = Bitfield::default();
            let set = (0..=u16::MAX).zip(bits).filter(|&(_, bit)| bit < share).take(most);
            set.for_each(|(s_bucket, _)| bitfield.set(s_bucket));
            records.push(record);
            bitfields.push(bitfield);
            let hash = *blake3::hash(&[piece as u8]).as_bytes();
            record_metadata.push(RecordMetadata { commitment: [1; 48], witness: [2; 48], piece_hash: hash });
        }
        let map = ContentsMap::new(bitfields.clone());
        let slices = records.iter().map(Vec::as_slice).collect();
        let assembler = SectorAssembler::new(slices, bitfields, &record_metadata);
        let metadata = assembler.sector_metadata(sector, history_size);
        let bytes = assembler.to_sector();
        assert!(bytes.len() > PIECE_SIZE * usize::from(pieces));
        Self { records, map, record_metadata, bytes, metadata }
    }

    pub fn checksum(&self) -> [u8; 32] {
        *self.bytes.last_chunk().unwrap()
    }

    /// The sector's bytes as ranges cut where 64 KiB of the file end, with the file's phase: offset in the sector, length.
    pub fn ranges(&self, file_offset: u64) -> Vec<(usize, usize)> {
        let (step, mut from) = (64 * 1024, 0);
        let mut ranges = Vec::new();
        while from < self.bytes.len() {
            let at = file_offset as usize + from;
            let to = ((at / step + 1) * step - file_offset as usize).min(self.bytes.len());
            ranges.push((from, to - from));
            from = to;
        }
        ranges
    }

    pub fn slab(&self, pool: &Pool, file_offset: u64, (from, bytes): (usize, usize)) -> Slab {
        let phase = (file_offset as usize + from) % BLOCK_BYTES;
        let mut slab = pool.try_acquire().unwrap().narrow(phase..phase + bytes);
        slab.copy_from_slice(&self.bytes[from..from + bytes]);
        slab.freeze()
    }

    /// Writes the sector into a farm, range by range from the last to the first.
    pub async fn write(&self, farm: &Farm) -> SectorWriter {
        let writer = farm.write_sector(self.metadata.sector_index).await.unwrap();
        for range in self.ranges(writer.file_offset()).into_iter().rev() {
            let slab = self.slab(&farm.0.files.pool, writer.file_offset(), range);
            writer.write(range.0 as u64, &slab).await.unwrap();
        }
        writer
    }

    pub async fn plot(&self, farm: &Farm) {
        self.write(farm).await.finish(&self.metadata, &self.checksum()).await.unwrap();
    }

    pub async fn check_in(&self, farm: &Farm) {
        let sector = self.metadata.sector_index;
        let history_size = self.metadata.history_size;
        assert_eq!(farm.status(sector), SectorStatus::Plotted { history_size });
        assert_eq!(farm.check_sector(Class::Scrub, sector).await.unwrap(), None);
        let file = fs::read(farm.dir().join(PLOT_FILE)).unwrap();
        let start = farm.layout().sector_offset(sector) as usize;
        assert!(file[start..][..self.bytes.len()] == self.bytes, "bytes of sector {sector}");
    }
}
