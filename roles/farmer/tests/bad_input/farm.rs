//! A farm with plotted sectors of made-up contents: their formats are right, which is all that farms look at.

use crate::cluster::GENESIS;
use consensus::constants::{RECORD_CHUNKS, sector_size};
use consensus::sector::{Bitfield, RecordMetadata, SectorAssembler};
use engine::farm::{FARM_SCRATCH_BYTES, Farm, FarmConfig, FarmSize, PLOT_FILE};
use engine::pool::Pool;
use engine::{BLOCK_BYTES, Executors, ExecutorsConfig, Limits};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

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
    let pool = Pool::new(4, 8).unwrap();
    let config = ExecutorsConfig { name: "test".into(), cores: vec![None], ring_depth: 8 };
    let executors = Executors::start(&config, &pool).unwrap();
    let path = dir.to_owned();
    let made = executors.spawner(0).spawn(move |local| async move {
        let disk = local.disk(&path, Limits::default()).unwrap();
        let scratch = local.pool().try_acquire().unwrap().narrow(..FARM_SCRATCH_BYTES);
        let config = FarmConfig {
            genesis_hash: GENESIS,
            max_pieces_in_sector: PIECES,
            pieces_in_sector: PIECES,
            size: FarmSize::Sectors(SECTORS),
            may_shrink: false,
        };
        let (farm, _) = Farm::open(disk, scratch, &path, &config).await.unwrap();
        for sector in 0..PLOTTED {
            plot(&farm, local.pool(), sector).await;
        }
    });
    made.wait().unwrap();
    executors.shutdown(Duration::from_secs(10)).unwrap();
}

async fn plot(farm: &Farm, pool: &Pool, sector: u16) {
    let record = (0..RECORD_CHUNKS).map(|chunk| [chunk as u8 ^ sector as u8; 32]).collect::<Vec<_>>();
    let mut bitfield = Bitfield::default();
    (0..RECORD_CHUNKS as u16).for_each(|chunk| bitfield.set(2 * chunk));
    let metadata = RecordMetadata { commitment: [1; 48], witness: [2; 48], piece_hash: [3; 32] };
    let (records, bitfields, metadata) =
        (vec![&record[..]; 2], vec![bitfield.clone(), bitfield], [metadata; 2]);
    let assembler = SectorAssembler::new(records, bitfields, &metadata);
    let metadata = assembler.sector_metadata(sector, 1);
    let (bytes, writer) = (assembler.to_sector(), farm.write_sector(sector).await.unwrap());
    let mut from = 0;
    while from < bytes.len() {
        let phase = (writer.file_offset() as usize + from) % BLOCK_BYTES;
        let length = (bytes.len() - from).min((1 << 20) - phase);
        let mut slab = pool.acquire().await.unwrap().narrow(phase..phase + length);
        slab.copy_from_slice(&bytes[from..][..length]);
        writer.write(from as u64, &slab.freeze()).await.unwrap();
        from += length;
    }
    let checksum = bytes.last_chunk().unwrap();
    writer.finish(&metadata, checksum).await.unwrap();
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
