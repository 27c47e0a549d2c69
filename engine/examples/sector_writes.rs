//! What a sector costs a storage host beside its way over the wire: written range by range and finished, with the processor's seconds
//! a GiB, and how long it takes.
//!
//! `sector_writes PIECES DIRECTORY`

use consensus::constants::{RECORD_CHUNKS, S_BUCKETS};
use consensus::sector::{Bitfield, RecordMetadata, SectorAssembler, SectorMetadata};
use engine::farm::{FARM_SCRATCH_BYTES, Farm, FarmConfig, FarmSize};
use engine::pool::{Pool, SLAB_BYTES};
use engine::{BLOCK_BYTES, Disk, Executors, ExecutorsConfig, Limits, Local};
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Why there are no figures.
type Failed = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy)]
enum Way {
    HashedAsWritten,
    VerifyWrites,
    /// As it was: each range against its hash, then all of it read back.
    RangesAndReadBack,
}

fn main() -> Result<(), Failed> {
    let usage = "usage: sector_writes PIECES DIRECTORY";
    let mut args = std::env::args().skip(1);
    let pieces = args.next().ok_or(usage)?.parse::<u16>().map_err(|_| usage)?;
    let dir = tempfile::tempdir_in(args.next().ok_or(usage)?)?;
    let pool = Pool::new(16, 8)?;
    let config = ExecutorsConfig { name: "writes".into(), cores: vec![None], ring_depth: 64 };
    let executors = Executors::start(&config, &pool)?;
    let path = dir.path().to_owned();
    executors.spawner(0).spawn(move |local| run(local, path, pieces)).wait()??;
    executors.shutdown(Duration::from_secs(5))?;
    Ok(())
}

/// A sector whose formats are right and whose chunks are all the same.
fn make(pieces: u16) -> (Vec<u8>, SectorMetadata) {
    let record = vec![[3; 32]; RECORD_CHUNKS];
    let mut bitfield = Bitfield::default();
    (0..S_BUCKETS as u32).step_by(2).for_each(|s_bucket| bitfield.set(s_bucket as u16));
    let records: Vec<_> = (0..pieces).map(|_| record.as_slice()).collect();
    let metadata = RecordMetadata { commitment: [1; 48], witness: [2; 48], piece_hash: [3; 32] };
    let metadata = vec![metadata; pieces.into()];
    let assembler = SectorAssembler::new(records, vec![bitfield; pieces.into()], &metadata);
    let metadata = assembler.sector_metadata(0, 5);
    (assembler.to_sector(), metadata)
}

async fn run(local: Local, dir: PathBuf, pieces: u16) -> Result<(), Failed> {
    let (bytes, metadata) = make(pieces);
    let config = FarmConfig {
        genesis_hash: [9; 32],
        max_pieces_in_sector: pieces,
        pieces_in_sector: pieces,
        size: FarmSize::Sectors(1),
        may_shrink: false,
    };
    let disk = Disk::new(local.ring().clone(), Limits::default());
    let scratch = local.pool().acquire().await?.narrow(..FARM_SCRATCH_BYTES);
    let (farm, _) = Farm::open(disk, scratch, &dir, &config).await?;
    for _ in 0..3 {
        for (name, way) in [
            ("hashed as written", Way::HashedAsWritten),
            ("--verify-writes", Way::VerifyWrites),
            ("ranges hashed, then all read back", Way::RangesAndReadBack),
        ] {
            write(&local, &farm, &bytes, &metadata, (name, way)).await?;
        }
    }
    Ok(())
}

async fn write(
    local: &Local,
    farm: &Farm,
    bytes: &[u8],
    metadata: &SectorMetadata,
    (name, way): (&str, Way),
) -> Result<(), Failed> {
    let writer = farm.write_sector(0).await?;
    if !matches!(way, Way::HashedAsWritten) {
        writer.verify_writes();
    }
    // Memory from before the clock, so that only what the ways differ in is seen: hashing, and reading back.
    let (mut cpu, mut took) = (Duration::ZERO, Duration::ZERO);
    for (n, range) in bytes.chunks(SLAB_BYTES).enumerate() {
        let mut slab = local.pool().acquire().await?.narrow(..range.len());
        slab.copy_from_slice(range);
        let (slab, started, cpu_started) = (slab.freeze(), Instant::now(), thread_time()?);
        if matches!(way, Way::RangesAndReadBack) {
            black_box(blake3::hash(&slab));
        }
        writer.write((n * SLAB_BYTES) as u64, &slab).await?;
        cpu += thread_time()? - cpu_started;
        took += started.elapsed();
    }
    let (started, cpu_started) = (Instant::now(), thread_time()?);
    writer.finish(metadata, bytes.last_chunk().expect("a sector ends with its checksum")).await?;
    cpu += thread_time()? - cpu_started;
    took += started.elapsed();
    let gib = bytes.len() as f64 / f64::from(1 << 30);
    println!(
        "{name}: {:.2} s of a core a GiB, {:.2} s in all a GiB",
        cpu.as_secs_f64() / gib,
        took.as_secs_f64() / gib
    );
    const { assert!(SLAB_BYTES.is_multiple_of(BLOCK_BYTES)) };
    Ok(())
}

/// Time that this thread has been on a processor.
fn thread_time() -> Result<Duration, Failed> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = stat.split(' ').next().ok_or("/proc/thread-self/schedstat is empty")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}
