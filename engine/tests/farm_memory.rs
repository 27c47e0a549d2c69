//! What a process takes for the sectors of a farm, in both ways of keeping them: printed, and bounded.
//!
//! The farm is real but for its bytes: a thousand sectors of full size, whose records are written and whose `plot.bin` is a hole.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

use consensus::constants::{MAX_PIECES_IN_SECTOR, RECORD_CHUNKS, S_BUCKETS};
use consensus::identity::Identity;
use consensus::sector::SectorMetadata;
use engine::farm::{
    AuditMemory, FARM_SCRATCH_BYTES, Farm, FarmInfo, FarmSize, IDENTITY_FILE, INFO_FILE, Layout,
    METADATA_FILE, PLOT_FILE,
};
use engine::pool::Pool;
use engine::{Access, Disk, Executors, ExecutorsConfig, Limits};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const SECTORS: u16 = 1000;
const LIMIT: Duration = Duration::from_secs(60);

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

fn make(dir: &Path) {
    let identity = Identity::from_entropy([7; 32]);
    let allocated_bytes = FarmSize::Sectors(SECTORS).allocated_bytes(MAX_PIECES_IN_SECTOR);
    let info = FarmInfo {
        id: ulid::Ulid::from_parts(1, 2),
        genesis_hash: [9; 32],
        public_key: identity.public_key(),
        pieces_in_sector: MAX_PIECES_IN_SECTOR,
        allocated_bytes,
    };
    let layout = Layout::new(MAX_PIECES_IN_SECTOR, allocated_bytes).unwrap();
    fs::write(dir.join(INFO_FILE), info.to_json()).unwrap();
    fs::write(dir.join(IDENTITY_FILE), identity.to_file_bytes()).unwrap();
    File::create(dir.join(PLOT_FILE)).unwrap().set_len(layout.plot_bytes()).unwrap();
    let metadata = File::create(dir.join(METADATA_FILE)).unwrap();
    metadata.set_len(layout.metadata_bytes()).unwrap();
    let [low, high] = SECTORS.to_le_bytes();
    metadata.write_all_at(&[0, low, high], 0).unwrap();
    let mut record = SectorMetadata {
        sector_index: 0,
        pieces_in_sector: MAX_PIECES_IN_SECTOR,
        s_bucket_sizes: sizes(),
        history_size: 5,
    };
    for sector in 0..SECTORS {
        record.sector_index = sector;
        metadata.write_all_at(&record.encode(), layout.record_offset(sector)).unwrap();
    }
}

/// Bytes of this process that are in memory.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Bytes that a farm holds by its own count, and that the process has taken while it was opened.
fn open(executors: &Executors, dir: &Path, memory: AuditMemory) -> (u64, u64) {
    let dir = dir.to_owned();
    let opened = executors.spawner(0).spawn(move |local| async move {
        let before = resident_bytes();
        let disk = Disk::new(local.ring().clone(), Limits::default());
        let scratch = local.pool().acquire().await.unwrap().narrow(..FARM_SCRATCH_BYTES);
        let (farm, report) =
            Farm::open_existing_with(disk, scratch, &dir, Access::Read, memory).await.unwrap();
        assert_eq!((farm.count(), report.faults.len()), (SECTORS, 0));
        (farm.memory_bytes() as u64, resident_bytes().saturating_sub(before))
    });
    opened.wait().unwrap()
}

#[test]
fn memory_of_ten_thousand_sectors() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    let pool = Pool::new(8, 8).unwrap();
    let config = ExecutorsConfig { name: "farm".into(), cores: vec![None], ring_depth: 32 };
    let executors = Executors::start(&config, &pool).unwrap();
    for (memory, share_of_16) in [(AuditMemory::Lean, 17), (AuditMemory::Exact, 18)] {
        let (counted, taken) = open(&executors, dir.path(), memory);
        let of_10_000 = |bytes: u64| bytes * 10_000 / u64::from(SECTORS) >> 20;
        // Past the harness, which keeps what tests print to itself.
        let line = format!(
            "{memory:?}: 10000 sectors take {} MiB by count, {} MiB of the process\n",
            of_10_000(counted),
            of_10_000(taken)
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        let expected = u64::from(SECTORS) * memory.sector_bytes() as u64;
        assert!(counted * 16 <= expected * share_of_16, "{line}");
        // Buffers of the opening besides: few records at a time, whatever the number of sectors.
        assert!(taken <= expected * 5 / 4 + (12 << 20), "{line}");
    }
    executors.shutdown(LIMIT).unwrap();
}
