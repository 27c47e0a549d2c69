//! Audits of a farm whose sectors are a hole, so that no device is in the way, in both ways of keeping sectors in memory, on one core; beside
//! what one-at-a-time `blake3::keyed_hash` of as many chunks takes.
//!
//! `audits SECTORS [DIRECTORY]`

#[allow(clippy::unwrap_used, reason = "as the tests make it")]
#[path = "../tests/made_farm/mod.rs"]
mod made_farm;

use consensus::challenge::SectorSlotChallenge;
use consensus::{CpuLevel, audit};
use engine::farm::{AuditMemory, FARM_SCRATCH_BYTES, Farm, SectorStatus, s_bucket_buf_bytes};
use engine::pool::Pool;
use engine::{Access, Disk, Executors, ExecutorsConfig, Limits, Local};
use futures::{StreamExt, TryStreamExt, stream};
use std::cell::RefCell;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Why there are no figures.
type Failed = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: u64 = 9;
/// As plot-clients do.
const READS_AT_ONCE: usize = 128;

fn main() -> Result<(), Failed> {
    let usage = "usage: audits SECTORS [DIRECTORY]";
    let mut args = std::env::args().skip(1);
    let sectors = args.next().ok_or(usage)?.parse::<u16>().map_err(|_| usage)?;
    let dir = match args.next() {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    made_farm::make(dir.path(), sectors);
    let pool = Pool::new(8, 8)?;
    let config = ExecutorsConfig { name: "audits".into(), cores: vec![None], ring_depth: 128 };
    let executors = Executors::start(&config, &pool)?;
    for memory in [AuditMemory::Exact, AuditMemory::Lean] {
        let path = dir.path().to_owned();
        let (chunks, best) = executors.spawner(0).spawn(move |local| run(local, path, memory)).wait()??;
        let one_by_one = keyed_hashes(chunks);
        println!(
            "{memory:?}: {sectors} sectors in {:.2} ms, {:.1} million chunks/s, {:.1} x keyed_hash one at a time",
            best.as_secs_f64() * 1e3,
            chunks as f64 / best.as_secs_f64() / 1e6,
            one_by_one.as_secs_f64() / best.as_secs_f64()
        );
    }
    executors.shutdown(Duration::from_secs(5))?;
    Ok(())
}

/// Chunks of one slot's audit, and the best time of several.
async fn run(local: Local, dir: PathBuf, memory: AuditMemory) -> Result<(u64, Duration), Failed> {
    let disk = Disk::new(local.ring().clone(), Limits { depth: 128, ..Limits::default() });
    let scratch = local.pool().acquire().await?.narrow(..FARM_SCRATCH_BYTES);
    let (farm, _) = Farm::open_existing_with(disk, scratch, &dir, Access::Read, memory).await?;
    let part_bytes = s_bucket_buf_bytes(farm.layout().pieces_in_sector());
    let parts = local.pool().acquire().await?.split_into(part_bytes);
    let parts = RefCell::new(parts);
    let (mut chunks, mut best) = (0, Duration::MAX);
    for round in 0..ROUNDS {
        let global = *blake3::hash(&round.to_le_bytes()).as_bytes();
        let audit = |sector| {
            let (farm, parts) = (&farm, &parts);
            async move {
                let SectorStatus::Plotted { history_size } = farm.status(sector) else { return Ok(0) };
                let challenge = SectorSlotChallenge::new(&farm.sector_id(sector, history_size), &global);
                let part = parts.borrow_mut().pop().expect("no more reads at once than parts");
                let read = farm.read_s_bucket(sector, challenge.s_bucket(), part).await?;
                black_box(audit::audit(CpuLevel::current(), &global, &challenge, 1 << 40, read.chunks()));
                let chunks = read.chunks().len() as u64;
                parts.borrow_mut().push(read.into_buf());
                Ok::<_, Failed>(chunks)
            }
        };
        let at_once = READS_AT_ONCE.min(engine::pool::SLAB_BYTES / part_bytes);
        let started = Instant::now();
        let audits = stream::iter(0..farm.count()).map(audit).buffer_unordered(at_once);
        let audited: u64 = audits.try_fold(0, |sum, chunks| async move { Ok(sum + chunks) }).await?;
        (chunks, best) = (audited, best.min(started.elapsed()));
    }
    Ok((chunks, best))
}

fn keyed_hashes(chunks: u64) -> Duration {
    let (mut chunk, started) = ([7; 32], Instant::now());
    for _ in 0..chunks {
        chunk = black_box(*blake3::keyed_hash(&[9; 32], black_box(&chunk)).as_bytes());
    }
    started.elapsed()
}
