//! What a process takes for the sectors of a farm, in both ways of keeping them: printed, and bounded.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

mod made_farm;

use engine::farm::{AuditMemory, FARM_SCRATCH_BYTES, Farm};
use engine::pool::Pool;
use engine::{Access, Disk, Executors, ExecutorsConfig, Limits};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

const SECTORS: u16 = 1000;
const LIMIT: Duration = Duration::from_secs(60);

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
    made_farm::make(dir.path(), SECTORS);
    let pool = Pool::new(8, 8).unwrap();
    let config = ExecutorsConfig { name: "farm".into(), cores: vec![None], ring_depth: 32 };
    let executors = Executors::start(&config, &pool).unwrap();
    for (memory, share_of_16) in [(AuditMemory::Lean, 17), (AuditMemory::Exact, 18)] {
        let (counted, taken) = open(&executors, dir.path(), memory);
        let of_10_000 = |bytes: u64| (bytes * 10_000 / u64::from(SECTORS)) >> 20;
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
