//! Bringing a record's chunks, which are scattered over its whole sector, by the reads that are cheapest on this device.
//!
//! ```text
//!   wanted chunks ──▶ plan, by what a read and a byte cost here ──▶ runs ──▶ disk, as many at once as the memory holds
//! ```
//! A drive with heads reads the whole sector in order sooner than it finds half of its blocks; an NVMe drive brings the
//! blocks that are wanted, and those between only where they lie close. What it costs is measured at the first record that is
//! read ([`measure`], some hundred milliseconds at most, on what lies on the disk already) and again after [`KEPT_FOR`].
//!
//! Owns: the order and length of the reads. Never: where chunks lie, or what they mean.

use super::SectorError;
use super::blocks::Source;
use crate::BLOCK_BYTES;
use crate::disk::touched_blocks;
use crate::parts::Parts;
use crate::pool::{AcquireError, Pool, SlabMut};
use consensus::constants::SCALAR_BYTES;
use futures::lock::Mutex;
use futures::{StreamExt, TryStreamExt, future, stream};
use std::cell::RefCell;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Memory that the reads of one record share.
pub(super) const GATHER_BYTES: usize = 1 << 20;
/// Bounds of the longest single read: as many are under way as fit the memory.
const RUN_BYTES: Range<usize> = 16 * 1024..256 * 1024;
/// A read may be so many times longer than what it costs to begin one.
const RUN_TO_WORTH: u64 = 4;

/// What is read to measure a device: single blocks at random, then long reads in order.
const PROBE_READS: usize = 128;
const PROBE_DEPTH: usize = 32;
const PROBE_RUNS: usize = 16;
/// Nothing is begun later than this, for each of the two; what is under way is waited for.
const PROBE_LIMIT: Duration = Duration::from_millis(100);
/// A device may have been busy, or another, when it was measured.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// What reading costs on a device with many reads under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadCost {
    /// Microseconds that each further read of one block takes.
    pub read_us: f64,
    /// Bytes that a microsecond brings by long reads; as a figure, MB/s.
    pub bytes_per_us: f64,
}

impl ReadCost {
    /// Of a device that could not be measured: a drive without heads.
    pub const USUAL: Self = Self { read_us: 10.0, bytes_per_us: 1638.4 };
    /// A read costs nothing: only what is wanted is read.
    pub const CHUNKS: Self = Self { read_us: 0.0, bytes_per_us: 1.0 };
    /// A byte costs nothing: all between the first and the last chunk is read, in order.
    pub const WHOLE: Self = Self { read_us: f64::INFINITY, bytes_per_us: 1.0 };

    /// Bytes that can be read on in the time that another read takes.
    pub fn worth_bytes(&self) -> u64 {
        // As a cast does it: what is no number is 0, and what is too large is the largest.
        (self.read_us * self.bytes_per_us) as u64
    }

    /// Longest single read.
    fn run_bytes(&self) -> usize {
        let wanted = usize::try_from(self.worth_bytes().saturating_mul(RUN_TO_WORTH)).unwrap_or(usize::MAX);
        wanted.clamp(RUN_BYTES.start, RUN_BYTES.end).next_power_of_two()
    }
}

/// One read, and which of the wanted chunks it brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub blocks: Range<u64>,
    pub wanted: Range<usize>,
}

/// Reads, none longer than `run_bytes`, that bring all wanted chunks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub run_bytes: usize,
    pub runs: Vec<Run>,
}

impl Plan {
    /// Bytes that are read.
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.blocks.end - run.blocks.start).sum()
    }
}

/// The cheapest reads for the wanted chunks, whose offsets ascend: a read goes on over a gap that costs less than another read.
pub(super) fn plan(wanted: &[(u64, usize)], cost: ReadCost) -> Plan {
    let (worth, run_bytes) = (cost.worth_bytes(), cost.run_bytes());
    let mut runs: Vec<Run> = Vec::new();
    for (n, &(offset, _)) in wanted.iter().enumerate() {
        let blocks = touched_blocks(offset, SCALAR_BYTES);
        match runs.last_mut() {
            Some(run)
                if blocks.start <= run.blocks.end.saturating_add(worth)
                    && blocks.end <= run.blocks.start + run_bytes as u64 =>
            {
                run.blocks.end = blocks.end;
                run.wanted.end = n + 1;
            }
            _ => runs.push(Run { blocks, wanted: n..n + 1 }),
        }
    }
    Plan { run_bytes, runs }
}

/// Copies the wanted chunks to their places in `chunks`, by reads into `memory`.
pub(super) async fn gather(
    plot: &Source<'_>,
    wanted: &[(u64, usize)],
    plan: Plan,
    memory: SlabMut,
    chunks: SlabMut,
) -> Result<SlabMut, SectorError> {
    let at_once = memory.len() / plan.run_bytes;
    let (parts, chunks) = (Parts::of(memory, plan.run_bytes), RefCell::new(chunks));
    let bring = |run: Run| {
        let (parts, chunks) = (&parts, &chunks);
        async move {
            let length = (run.blocks.end - run.blocks.start) as usize;
            let buf = parts.take().await?;
            let buf = plot.disk.read(plot.class, plot.file, run.blocks.start, buf, 0..length).await?;
            let mut chunks = chunks.borrow_mut();
            for &(offset, place) in &wanted[run.wanted] {
                let from = (offset - run.blocks.start) as usize;
                chunks[place * SCALAR_BYTES..][..SCALAR_BYTES]
                    .copy_from_slice(&buf[from..from + SCALAR_BYTES]);
            }
            parts.give(buf);
            Ok(())
        }
    };
    let runs = stream::iter(plan.runs).map(Ok::<_, SectorError>);
    runs.try_for_each_concurrent(at_once, bring).await?;
    Ok(chunks.into_inner())
}

/// What was measured, and when.
#[derive(Default)]
pub(super) struct Measured(Mutex<Option<(Instant, ReadCost)>>);

impl Measured {
    /// What reading costs: as measured before, or now by reads of `blocks`, which hold data. A device that does not give them
    /// counts as a usual one until the next time. The caller holds no memory of the pool.
    pub async fn get(
        &self,
        plot: &Source<'_>,
        pool: &Pool,
        blocks: Range<u64>,
    ) -> Result<ReadCost, AcquireError> {
        let mut kept = self.0.lock().await;
        match *kept {
            Some((at, cost)) if at.elapsed() < KEPT_FOR => return Ok(cost),
            _ => {}
        }
        match measure(plot, pool, blocks).await {
            Ok(cost) => {
                *kept = Some((Instant::now(), cost));
                tracing::debug!(
                    file = %plot.file.path().display(),
                    "a read takes {:.0} us, {:.0} MB/s: gaps up to {} bytes are read over",
                    cost.read_us, cost.bytes_per_us, cost.worth_bytes(),
                );
                Ok(cost)
            }
            Err(SectorError::Buffers(error)) => Err(error),
            Err(_) => Ok(ReadCost::USUAL),
        }
    }
}

/// Reads within `blocks` and takes the time.
async fn measure(plot: &Source<'_>, pool: &Pool, blocks: Range<u64>) -> Result<ReadCost, SectorError> {
    let count = ((blocks.end - blocks.start) / BLOCK_BYTES as u64).max(1);
    let mut state = blocks.start | 1;
    let at_random = std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        blocks.start + (state >> 32) % count * BLOCK_BYTES as u64
    });
    let single_us = time(plot, pool, at_random.take(PROBE_READS), BLOCK_BYTES, PROBE_DEPTH).await?;
    let run_bytes = RUN_BYTES.end.min((count as usize).saturating_mul(BLOCK_BYTES));
    let in_order = (blocks.start..=blocks.end - run_bytes as u64).step_by(run_bytes).take(PROBE_RUNS);
    let run_us = time(plot, pool, in_order, run_bytes, GATHER_BYTES / RUN_BYTES.end).await?;
    Ok(ReadCost { read_us: single_us, bytes_per_us: run_bytes as f64 / run_us })
}

/// Microseconds that each read of `bytes` at these offsets takes.
async fn time(
    plot: &Source<'_>,
    pool: &Pool,
    offsets: impl Iterator<Item = u64>,
    bytes: usize,
    at_once: usize,
) -> Result<f64, SectorError> {
    let (parts, started) = (Parts::new(pool, bytes), Instant::now());
    let read = |offset| {
        let parts = &parts;
        async move {
            let buf = parts.take().await?;
            let buf = plot.disk.read(plot.class, plot.file, offset, buf, 0..bytes).await?;
            parts.give(buf);
            Ok::<_, SectorError>(())
        }
    };
    let in_time = stream::iter(offsets).take_while(|_| future::ready(started.elapsed() < PROBE_LIMIT));
    let reads = in_time.map(read).buffer_unordered(at_once);
    let reads = reads.try_fold(0u32, |done, ()| future::ready(Ok(done + 1))).await?;
    // A clock that does not move within a read would make it cost nothing at all.
    let took_us = started.elapsed().as_secs_f64().max(1e-6) * 1e6;
    Ok(took_us / f64::from(reads).max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A drive with heads, and an NVMe drive.
    const DISK: ReadCost = ReadCost { read_us: 5000.0, bytes_per_us: 220.0 };
    const NVME: ReadCost = ReadCost { read_us: 2.0, bytes_per_us: 3000.0 };

    fn at(offsets: &[u64]) -> Vec<(u64, usize)> {
        offsets.iter().copied().zip(0..).collect()
    }

    #[test]
    fn near_chunks_share_a_read_and_far_ones_do_not() {
        let wanted = at(&[0, 32, 4096, 24_000, 32_768, 50_000, 200_000]);
        let runs = |cost| {
            plan(&wanted, cost).runs.into_iter().map(|run| (run.blocks, run.wanted)).collect::<Vec<_>>()
        };
        assert_eq!(runs(ReadCost::USUAL), [(0..53_248, 0..6), (196_608..200_704, 6..7)]);
        assert_eq!(
            runs(ReadCost::CHUNKS),
            [
                (0..8192, 0..3),
                (20_480..24_576, 3..4),
                (32_768..36_864, 4..5),
                (49_152..53_248, 5..6),
                (196_608..200_704, 6..7)
            ]
        );
        assert_eq!(runs(ReadCost::WHOLE), [(0..200_704, 0..7)]);
        assert!(plan(&[], NVME).runs.is_empty());
    }

    #[test]
    fn what_cannot_be_a_cost_makes_a_plan_all_the_same() {
        for (read_us, bytes_per_us) in
            [(f64::NAN, 1.0), (-1.0, 1.0), (f64::INFINITY, f64::INFINITY), (f64::INFINITY, 0.0)]
        {
            let made = plan(&at(&[0, 1 << 30]), ReadCost { read_us, bytes_per_us });
            assert_eq!(made.runs.len(), 2);
        }
    }

    /// A record of a sector of 1000 pieces has a chunk in each 32 KB or so.
    #[test]
    fn a_drive_with_heads_reads_the_sector_and_an_nvme_drive_the_chunks() {
        let offsets: Vec<u64> = (0..32_768).map(|n| n * 32_160 / 32 * 32).collect();
        let wanted = at(&offsets);
        let span = offsets[offsets.len() - 1];
        assert!(plan(&wanted, DISK).bytes() > span * 8 / 10 && plan(&wanted, DISK).runs.len() < 5000);
        assert_eq!(plan(&wanted, NVME).bytes(), 32_768 * BLOCK_BYTES as u64);
    }

    fn cost() -> impl Strategy<Value = ReadCost> {
        let measured = (0.0..20_000.0f64, 0.1..20_000.0f64)
            .prop_map(|(read_us, bytes_per_us)| ReadCost { read_us, bytes_per_us });
        prop_oneof![measured, Just(ReadCost::CHUNKS), Just(ReadCost::WHOLE), Just(NVME), Just(DISK)]
    }

    /// Microseconds that a plan takes by the model.
    fn takes_us(plan: &Plan, cost: ReadCost) -> f64 {
        plan.runs.len() as f64 * cost.read_us + plan.bytes() as f64 / cost.bytes_per_us
    }

    proptest! {
        #[test]
        fn every_chunk_is_brought_once_within_the_memory(
            gaps in prop::collection::vec(prop_oneof![1u64..8, 1u64..4000, 1u64..100_000], 0..300),
            cost in cost(),
        ) {
            // Chunks lie at multiples of their size, as those of every sector do.
            let chunk = SCALAR_BYTES as u64;
            let offsets: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap * chunk; Some(*at) }).collect();
            let wanted = at(&offsets);
            let plan = plan(&wanted, cost);
            prop_assert!(plan.run_bytes <= RUN_BYTES.end && GATHER_BYTES.is_multiple_of(plan.run_bytes));
            let (mut next, mut end) = (0, 0);
            for run in &plan.runs {
                prop_assert!(run.wanted.start == next && run.wanted.end > next && run.blocks.start >= end);
                prop_assert!(run.blocks.end - run.blocks.start <= plan.run_bytes as u64);
                for edge in [run.blocks.start, run.blocks.end] {
                    prop_assert!(edge.is_multiple_of(BLOCK_BYTES as u64));
                }
                for &(offset, _) in &wanted[run.wanted.clone()] {
                    prop_assert!(run.blocks.start <= offset && offset + chunk <= run.blocks.end);
                }
                (next, end) = (run.wanted.end, run.blocks.end);
            }
            prop_assert_eq!(next, wanted.len());
        }

        /// By its own model no plan is worse than the others, but for what the length of a read costs.
        #[test]
        fn the_plan_for_a_cost_is_the_cheapest(
            gaps in prop::collection::vec(1u64..4000, 1..300),
            (read_us, bytes_per_us) in (0.1..20_000.0f64, 0.1..20_000.0f64),
        ) {
            let offsets: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap * 32; Some(*at) }).collect();
            let (wanted, cost) = (at(&offsets), ReadCost { read_us, bytes_per_us });
            let own = takes_us(&plan(&wanted, cost), cost);
            for other in [ReadCost::CHUNKS, ReadCost::WHOLE, ReadCost::USUAL, NVME, DISK] {
                let other = plan(&wanted, other);
                let cut = 2 * plan(&wanted, cost).bytes() / plan(&wanted, cost).run_bytes as u64 + 1;
                prop_assert!(own <= takes_us(&other, cost) + cut as f64 * read_us + 1e-6);
            }
        }
    }
}
