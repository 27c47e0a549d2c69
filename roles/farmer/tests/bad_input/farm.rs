//! A farm with plotted sectors of made-up contents: their formats are right, which is all that farms look at.

use crate::cluster::GENESIS;
use crate::plotted;
use consensus::constants::{RECORD_CHUNKS, sector_size};
use consensus::sector::{Bitfield, RecordMetadata, SectorAssembler};
use engine::farm::{Farm, PLOT_FILE};
use engine::pool::Pool;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Pieces in each sector.
pub const PIECES: u16 = 2;
/// Sectors that a farm has room for.
pub const SECTORS: u16 = 3;
/// Sectors that are plotted.
pub const PLOTTED: u16 = 2;
/// Bytes of a sector.
pub const SECTOR_BYTES: u64 = sector_size(PIECES) as u64;
/// Where the records of sectors lie in `metadata.bin`, and their bytes.
pub const RECORDS_AT: u64 = 1_048_576;
pub const RECORD_BYTES: u64 = 131_116;

/// Makes a farm in `dir`.
pub fn make(dir: &Path) {
    plotted::make(dir, plotted::config(GENESIS, PIECES, SECTORS), async |farm, pool| {
        for sector in 0..PLOTTED {
            plot(farm, pool, sector).await;
        }
    });
}

async fn plot(farm: &Farm, pool: &Pool, sector: u16) {
    let record = (0..RECORD_CHUNKS).map(|chunk| [chunk as u8 ^ sector as u8; 32]).collect::<Vec<_>>();
    let mut bitfield = Bitfield::default();
    (0..RECORD_CHUNKS as u16).for_each(|chunk| bitfield.set(2 * chunk));
    let metadata = [RecordMetadata { commitment: [1; 48], witness: [2; 48], piece_hash: [3; 32] }; 2];
    let (records, bitfields) = (vec![&record[..]; 2], vec![bitfield.clone(), bitfield]);
    plotted::store(farm, pool, sector, SectorAssembler::new(records, bitfields, &metadata)).await;
}

/// Changes one byte of a file.
pub fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

pub fn cut(path: &Path, bytes: u64) {
    File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

/// Bytes of a plotted sector.
pub fn sector(dir: &Path, sector: u64) -> Vec<u8> {
    let from = (sector * SECTOR_BYTES) as usize;
    fs::read(dir.join(PLOT_FILE)).unwrap()[from..from + SECTOR_BYTES as usize].to_vec()
}
