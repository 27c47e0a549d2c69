//! What an encoding thread takes, as the system counts it. Alone in its process, since that is what is counted.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

use consensus::CpuLevel;
use consensus::constants::RECORD_CHUNKS;
use consensus::sector::RecordEncoder;
use gpu::cpu::WORKER_BYTES;

/// Bytes of memory that the process has: now (`RssAnon`).
fn memory_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn a_worker_takes_no_more_than_is_planned_for_it() {
    for level in CpuLevel::available() {
        let mut record = vec![[1; 32]; RECORD_CHUNKS];
        let before = memory_bytes();
        let mut encoder = RecordEncoder::new(level);
        let mut taken = 0;
        for seed in 0..2 {
            encoder.encode(&[seed; 32], &mut record).unwrap();
            taken = memory_bytes().saturating_sub(before);
            println!("{}: {taken} bytes", level.name());
            record.iter_mut().for_each(|chunk| chunk[0] = 0);
        }
        assert!(taken <= WORKER_BYTES, "{}: {taken} bytes, {WORKER_BYTES} are planned", level.name());
        // A plan that is far too large would leave out threads that there is memory for.
        assert!(taken > WORKER_BYTES / 2, "{}: {taken} bytes are not those of an encoder", level.name());
    }
}
