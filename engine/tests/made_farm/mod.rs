//! A farm that is real but for its bytes: sectors of full size, whose records are written and whose `plot.bin` is a hole.

use consensus::constants::{MAX_PIECES_IN_SECTOR, RECORD_CHUNKS, S_BUCKETS};
use consensus::identity::Identity;
use consensus::sector::SectorMetadata;
use engine::farm::{FarmInfo, FarmSize, IDENTITY_FILE, INFO_FILE, Layout, METADATA_FILE, PLOT_FILE};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Sizes as in a sector of 1000 pieces: about 607, none in the last sixth, and together all of its chunks.
fn sizes() -> Vec<u16> {
    let spread = |at: usize| -> u16 {
        blake3::hash(&at.to_le_bytes()).as_bytes()[..16].iter().map(|byte| u16::from(byte % 16)).sum()
    };
    let used = 54_000;
    let mut sizes: Vec<u16> = (0..S_BUCKETS).map(|at| if at < used { 487 + spread(at) } else { 0 }).collect();
    let mut surplus = sizes.iter().map(|&size| i64::from(size)).sum::<i64>()
        - i64::from(MAX_PIECES_IN_SECTOR) * RECORD_CHUNKS as i64;
    for at in (0..used).cycle() {
        match surplus.signum() {
            0 => break,
            1 => sizes[at] -= 1,
            _ => sizes[at] += 1,
        }
        surplus -= surplus.signum();
    }
    sizes
}

/// Makes it in an empty directory.
pub fn make(dir: &Path, sectors: u16) {
    let identity = Identity::from_entropy([7; 32]);
    let allocated_bytes = FarmSize::Sectors(sectors).allocated_bytes(MAX_PIECES_IN_SECTOR);
    let info = FarmInfo {
        id: ulid::Ulid::from_parts(1, 2),
        genesis_hash: [9; 32],
        public_key: identity.public_key(),
        pieces_in_sector: MAX_PIECES_IN_SECTOR,
        allocated_bytes,
    };
    let layout = Layout::new(MAX_PIECES_IN_SECTOR, FarmSize::Allocated(allocated_bytes)).unwrap();
    fs::write(dir.join(INFO_FILE), info.to_json()).unwrap();
    fs::write(dir.join(IDENTITY_FILE), identity.to_file_bytes()).unwrap();
    File::create(dir.join(PLOT_FILE)).unwrap().set_len(layout.plot_bytes()).unwrap();
    let metadata = File::create(dir.join(METADATA_FILE)).unwrap();
    metadata.set_len(layout.metadata_bytes()).unwrap();
    let [low, high] = sectors.to_le_bytes();
    metadata.write_all_at(&[0, low, high], 0).unwrap();
    let mut record = SectorMetadata {
        sector_index: 0,
        pieces_in_sector: MAX_PIECES_IN_SECTOR,
        s_bucket_sizes: sizes(),
        history_size: 5,
    };
    for sector in 0..sectors {
        record.sector_index = sector;
        metadata.write_all_at(&record.encode(), layout.record_offset(sector)).unwrap();
    }
}
