//! What a plot-server takes of the machine's memory, planned before it takes any.
//!
//! Owns: the numbers of threads and sectors that fit a limit. Never: memory.

use super::serve::SERVING_SLABS;
use super::work::WRITING_SLABS;
use engine::pool::SLAB_BYTES;
use gpu::cpu::{WORKER_BYTES, session_slabs};
use std::fmt;

/// The process itself: its code, executors, connections, and what is known of staged sectors.
const BASE_BYTES: u64 = 96 << 20;
/// Beside its slabs a sector takes, for each piece, the place of each chunk (8 KiB; twice more while the sector's contents map is
/// written) and the piece's metadata.
const SECTOR_PIECE_BYTES: u64 = 32 << 10;
/// Limits are told and taken in these.
const MIB: u64 = 1 << 20;

/// How many sectors are made at once by what, and the memory for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemoryPlan {
    /// Threads that encode; none where the CPU may not.
    pub threads: usize,
    /// Sectors that these make at once; with GPUs, once the last of them is lost.
    pub sectors: usize,
    /// Pieces of the largest sector.
    pub pieces_in_sector: u16,
    /// Slabs that a piece takes on its way: 1, or 2 with its parity.
    pub piece_slabs: usize,
    /// What GPUs take beside that: what a lost one may still write to is nobody else's any more.
    pub cards: CardsMemory,
}

/// The part of GPUs, all together; zeroes where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CardsMemory {
    /// GPUs.
    pub count: usize,
    /// Sectors made at once.
    pub sectors: usize,
    /// Slabs of these.
    pub slabs: usize,
    /// Threads that check records.
    pub inspectors: usize,
}

/// The limit is too low for any work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLittleMemory {
    /// The limit, in whole MiB.
    pub limit_mib: u64,
    /// What the least of all plans takes, in MiB, rounded up.
    pub needed_mib: u64,
    /// Pieces of the cluster's sectors.
    pub pieces_in_sector: u16,
    /// GPUs that would be used.
    pub gpus: usize,
}

impl std::error::Error for TooLittleMemory {}

impl fmt::Display for TooLittleMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit_mib, needed_mib, pieces_in_sector, gpus } = self;
        write!(f, "{limit_mib} MiB are not enough memory: one sector of {pieces_in_sector} pieces on ")?;
        match gpus {
            0 => f.write_str("one thread")?,
            _ => write!(f, "each of {gpus} GPUs")?,
        }
        write!(
            f,
            " takes {needed_mib} MiB; raise --max-memory (or the limit of its cgroup) to that or plot on another machine"
        )?;
        if *gpus > 1 { f.write_str(", or use fewer GPUs here (--gpu)") } else { Ok(()) }
    }
}

impl MemoryPlan {
    /// A plan for the CPU alone, of pieces that come without parity.
    pub fn cpu(threads: usize, sectors: usize, pieces_in_sector: u16) -> Self {
        Self { threads, sectors, pieces_in_sector, piece_slabs: 1, cards: CardsMemory::default() }
    }

    /// This plan of the CPU, and then what is left of it where memory is short: fewer sectors at once first, since a second one only
    /// hides the time in which pieces come, and fewer threads when one sector is left.
    pub fn and_less(self) -> impl Iterator<Item = Self> {
        let fewer_sectors = (1..=self.sectors).rev().map(move |sectors| Self { sectors, ..self });
        fewer_sectors.chain(self.on_fewer_threads())
    }

    /// The same with fewer threads, and one sector that they make.
    pub fn on_fewer_threads(self) -> impl Iterator<Item = Self> {
        (1..self.threads).rev().map(move |threads| Self { threads, sectors: 1, ..self })
    }

    /// Whether it stays within the limit.
    pub fn check(&self, limit_bytes: u64) -> Result<(), TooLittleMemory> {
        if self.bytes() <= limit_bytes {
            return Ok(());
        }
        Err(TooLittleMemory {
            limit_mib: limit_bytes / MIB,
            needed_mib: self.mebibytes(),
            pieces_in_sector: self.pieces_in_sector,
            gpus: self.cards.count,
        })
    }

    /// Sectors in the making at once.
    pub fn at_once(&self) -> usize {
        if self.cards.count > 0 { self.cards.sectors } else { self.sectors }
    }

    /// Slabs of the CPU's encoder: sectors in the making.
    pub fn cpu_slabs(&self) -> usize {
        self.sectors * session_slabs(self.pieces_in_sector, self.threads, self.piece_slabs)
    }

    /// Slabs of the pool: sectors in the making, their writes, and what is served.
    pub fn slabs(&self) -> usize {
        self.cards.slabs + self.cpu_slabs() + self.all_sectors() * WRITING_SLABS + SERVING_SLABS
    }

    /// What the process takes, at most.
    pub fn bytes(&self) -> u64 {
        let pieces = self.all_sectors() as u64 * u64::from(self.pieces_in_sector);
        let workers = (self.threads + self.cards.inspectors) as u64 * WORKER_BYTES as u64;
        BASE_BYTES + workers + self.slabs() as u64 * SLAB_BYTES as u64 + pieces * SECTOR_PIECE_BYTES
    }

    /// [`Self::bytes`] in MiB, rounded up.
    pub fn mebibytes(&self) -> u64 {
        self.bytes().div_ceil(MIB)
    }

    fn all_sectors(&self) -> usize {
        self.sectors + self.cards.sectors
    }
}

/// The first of `plans` that stays within the limit; none: of any size. The last of them is the least.
pub(super) fn first_within<P>(
    plans: impl IntoIterator<Item = P>,
    memory: impl Fn(&P) -> MemoryPlan,
    limit_bytes: Option<u64>,
) -> Result<P, TooLittleMemory> {
    let limit_bytes = limit_bytes.unwrap_or(u64::MAX);
    let mut refused = None;
    for plan in plans {
        match memory(&plan).check(limit_bytes) {
            Ok(()) => return Ok(plan),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.expect("there is a least plan"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(threads: usize, sectors: usize) -> MemoryPlan {
        MemoryPlan::cpu(threads, sectors, 1000)
    }

    fn within(wanted: MemoryPlan, limit_bytes: u64) -> Result<MemoryPlan, TooLittleMemory> {
        first_within(wanted.and_less(), |plan| *plan, Some(limit_bytes))
    }

    #[test]
    fn the_parts_are_added_up() {
        let pages = 500 + 2 * 2 + 4;
        let slabs = 2 * (pages + 3) + 32;
        assert_eq!((plan(2, 2).cpu_slabs(), plan(2, 2).slabs()), (2 * pages, slabs));
        let bytes = (96 + 2 * 128 + 2 * slabs as u64) * MIB + 2 * 1000 * (32 << 10);
        assert_eq!(plan(2, 2).bytes(), bytes);
        // 2469.5 MiB.
        assert_eq!(plan(2, 2).mebibytes(), bytes / MIB + 1);
    }

    #[test]
    fn sectors_go_before_threads() {
        let wanted = plan(4, 3);
        for (fits, less) in [
            (plan(4, 3), plan(4, 2)),
            (plan(4, 2), plan(4, 1)),
            (plan(4, 1), plan(3, 1)),
            (plan(3, 1), plan(2, 1)),
            (plan(2, 1), plan(1, 1)),
        ] {
            assert_eq!(within(wanted, fits.bytes()), Ok(fits));
            assert_eq!(within(wanted, fits.bytes() - 1), Ok(less));
        }
        assert_eq!(within(wanted, u64::MAX), Ok(wanted));
    }

    #[test]
    fn too_little_says_what_is_needed() {
        let least = plan(1, 1);
        let error = within(plan(8, 2), least.bytes() - 1).unwrap_err();
        assert_eq!(error.needed_mib, least.mebibytes());
        let text = error.to_string();
        assert!(
            text.contains("1000 pieces") && text.contains(&format!("{} MiB", least.mebibytes())),
            "{text}"
        );
        // What it asks for is enough.
        assert_eq!(within(plan(8, 2), error.needed_mib * MIB), Ok(least));
        assert_eq!(within(least, least.bytes()), Ok(least));
    }

    #[test]
    fn gpus_and_the_cpu_that_stands_in_for_them_are_added_up() {
        let cards = CardsMemory { count: 2, sectors: 8, slabs: 400, inspectors: 4 };
        let alone = MemoryPlan { cards, ..MemoryPlan::cpu(0, 0, 1000) };
        assert_eq!((alone.at_once(), alone.cpu_slabs(), alone.slabs()), (8, 0, 400 + 8 * 3 + 32));
        assert_eq!(alone.bytes(), (96 + 4 * 128 + 2 * 456) * MIB + 8 * 1000 * (32 << 10));
        let with_cpu = MemoryPlan { threads: 2, sectors: 1, ..alone };
        assert_eq!(with_cpu.at_once(), 8);
        assert_eq!(with_cpu.bytes() - alone.bytes(), plan(2, 1).bytes() - (96 + 2 * 32) * MIB);
        let text = alone.check(1 << 30).unwrap_err().to_string();
        assert!(text.contains("each of 2 GPUs") && text.contains("(--gpu)"), "{text}");
    }

    proptest! {
        #[test]
        fn a_plan_fits_and_the_next_larger_would_not(
            threads in 1usize..300, sectors in 1usize..20, pieces_in_sector in 1u16..2000, limit in 0u64..1 << 38
        ) {
            let wanted = MemoryPlan::cpu(threads, sectors, pieces_in_sector);
            match within(wanted, limit) {
                Ok(plan) => {
                    prop_assert!(plan.bytes() <= limit && (plan.threads == threads || plan.sectors == 1));
                    let larger = if plan.threads < threads {
                        MemoryPlan { threads: plan.threads + 1, ..plan }
                    } else {
                        MemoryPlan { sectors: plan.sectors + 1, ..plan }
                    };
                    prop_assert!(plan == wanted || larger.bytes() > limit);
                }
                Err(error) => prop_assert!(error.needed_mib * MIB > limit),
            }
        }
    }
}
