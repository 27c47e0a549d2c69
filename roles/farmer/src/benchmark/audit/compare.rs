//! What audits are compared with: hashing alone, and the plain way, chunk by chunk.

use super::super::cpu_time::{cpu_since, cpu_time};
use super::super::farms::{FarmFailed, Looked};
use super::options::{Options, challenge};
use cluster::plot_client::AuditBuffers;
use consensus::challenge::{SectorSlotChallenge, chunk_distance};
use consensus::{CpuLevel, audit};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Hashes that are taken alone.
const HASHES: u32 = 2_000_000;
/// Chunks of an s-bucket of a sector of full size, about.
const CHUNKS: usize = 600;
/// How long the plain way is measured.
const PLAIN_LIMIT: Duration = Duration::from_millis(500);

/// Nanoseconds of a core that a chunk takes, in memory that the core has at hand.
#[derive(Debug, Clone, Copy, Default)]
pub struct HashNs {
    /// By `blake3::keyed_hash`, one after the other.
    pub one: f64,
    /// As audits do it.
    pub audit: f64,
}

impl HashNs {
    /// Measures both on this thread, which nothing else should use.
    pub fn measure(level: CpuLevel) -> Self {
        let (key, mut chunk) = ([7; 32], [0; 32]);
        let one = ns_each(HASHES, || {
            for number in 0..HASHES {
                chunk[..4].copy_from_slice(&number.to_le_bytes());
                black_box(blake3::keyed_hash(black_box(&key), black_box(&chunk)));
            }
        });
        let (chunks, global) = (vec![[3; 32]; CHUNKS], [7; 32]);
        let challenge = SectorSlotChallenge([9; 32]);
        let audit = ns_each(HASHES, || {
            for _ in 0..HASHES as usize / CHUNKS {
                black_box(audit::audit(level, &global, &challenge, 1 << 20, black_box(&chunks)));
            }
        });
        Self { one, audit }
    }
}

fn ns_each(count: u32, work: impl FnOnce()) -> f64 {
    let (started, cpu) = (Instant::now(), cpu_time());
    work();
    cpu_since(cpu).unwrap_or(started.elapsed()).as_secs_f64() * 1e9 / f64::from(count)
}

/// Nanoseconds of a core that a chunk takes when s-buckets are read one after the other and their chunks hashed one after the other:
/// what there would be without many reads at once and many lanes. None when there are no chunks.
pub async fn plain_ns(
    looked: &Looked,
    buffers: &AuditBuffers,
    options: &Options,
) -> Result<Option<f64>, FarmFailed> {
    let (started, cpu, mut chunks) = (Instant::now(), cpu_time(), 0u64);
    let challenges = options.challenges.unwrap_or(u64::MAX).max(1);
    for number in 0..challenges {
        let global = challenge(options.seed, number);
        for &(sector, history_size) in &looked.plotted {
            let challenge = SectorSlotChallenge::new(&looked.farm.sector_id(sector, history_size), &global);
            let read = looked.farm.read_s_bucket(sector, challenge.s_bucket(), buffers.take().await?).await?;
            for chunk in read.chunks() {
                black_box(chunk_distance(&global, &challenge, chunk));
            }
            chunks += read.chunks().len() as u64;
            buffers.give(read.into_buf());
        }
        if started.elapsed() >= PLAIN_LIMIT {
            break;
        }
    }
    let took = cpu_since(cpu).unwrap_or(started.elapsed());
    Ok((chunks > 0).then(|| took.as_secs_f64() * 1e9 / chunks as f64))
}
