//! Farms with plotted sectors, made by the engine itself.

use consensus::sector::SectorAssembler;
use engine::farm::{FARM_SCRATCH_BYTES, Farm, FarmConfig, FarmSize};
use engine::pool::Pool;
use engine::{BLOCK_BYTES, Executors, ExecutorsConfig, Limits};
use std::path::Path;
use std::time::Duration;

/// History size of the sectors.
const HISTORY_SIZE: u64 = 1;
/// A range that is written at once.
const RANGE_BYTES: usize = 1 << 20;

/// A farm of sectors of so many pieces.
pub fn config(genesis_hash: [u8; 32], pieces: u16, sectors: u16) -> FarmConfig {
    FarmConfig {
        genesis_hash,
        max_pieces_in_sector: pieces,
        pieces_in_sector: pieces,
        size: FarmSize::Sectors(sectors),
        may_shrink: false,
    }
}

/// Makes a farm in `dir`, and has it plotted.
pub fn make(dir: &Path, config: FarmConfig, plot: impl AsyncFnOnce(&Farm, &Pool) + Send + 'static) {
    let pool = Pool::new(4, 8).unwrap();
    let threads = ExecutorsConfig { name: "test".into(), cores: vec![None], ring_depth: 8 };
    let executors = Executors::start(&threads, &pool).unwrap();
    let path = dir.to_owned();
    let made = executors.spawner(0).spawn(move |local| async move {
        let disk = local.disk(&path, Limits::default()).unwrap();
        let scratch = local.pool().try_acquire().unwrap().narrow(..FARM_SCRATCH_BYTES);
        let (farm, _) = Farm::open(disk, scratch, &path, &config).await.unwrap();
        plot(&farm, local.pool()).await;
    });
    made.wait().unwrap();
    executors.shutdown(Duration::from_secs(10)).unwrap();
}

/// Plots a sector.
pub async fn store(farm: &Farm, pool: &Pool, sector: u16, assembler: SectorAssembler<'_>) {
    let metadata = assembler.sector_metadata(sector, HISTORY_SIZE);
    let (bytes, writer) = (assembler.to_sector(), farm.write_sector(sector).await.unwrap());
    let mut from = 0;
    while from < bytes.len() {
        let phase = (writer.file_offset() as usize + from) % BLOCK_BYTES;
        let length = (bytes.len() - from).min(RANGE_BYTES - phase);
        let mut slab = pool.acquire().await.unwrap().narrow(phase..phase + length);
        slab.copy_from_slice(&bytes[from..][..length]);
        writer.write(from as u64, &slab.freeze()).await.unwrap();
        from += length;
    }
    writer.finish(&metadata, bytes.last_chunk().unwrap()).await.unwrap();
}
