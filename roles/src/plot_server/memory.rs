//! What a plot-server takes of the machine's memory, planned before it takes any.
//!
//! Owns: the numbers of threads and sectors that fit a limit. Never: memory.

use super::serve::SERVING_SLABS;
use super::work::WRITING_SLABS;
use engine::pool::SLAB_BYTES;
use gpu::cpu::{WORKER_BYTES, session_slabs};

/// The process itself: its code, executors, connections, and what is known of staged sectors.
const BASE_BYTES: u64 = 96 << 20;
/// Beside its slabs a sector takes, for each piece, the place of each chunk (8 KiB; twice more while the sector's contents map is
/// written) and the piece's metadata.
const SECTOR_PIECE_BYTES: u64 = 32 << 10;
/// Limits are told and taken in these.
const MIB: u64 = 1 << 20;

/// How many sectors are made at once by how many threads, and the memory for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemoryPlan {
    /// Threads that encode, one at least.
    pub threads: usize,
    /// Sectors made at once, one at least.
    pub sectors: usize,
    /// Pieces of the largest sector.
    pub pieces_in_sector: u16,
}

/// The limit is too low for any work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{limit_mib} MiB are not enough memory: one sector of {pieces_in_sector} pieces on one thread takes {needed_mib} MiB; \
     raise --max-memory to that or plot on another machine"
)]
pub struct TooLittleMemory {
    /// The limit, in whole MiB.
    pub limit_mib: u64,
    /// What the least of all plans takes, in MiB, rounded up.
    pub needed_mib: u64,
    /// Pieces of the cluster's sectors.
    pub pieces_in_sector: u16,
}

impl MemoryPlan {
    /// This plan, or what of it `limit_bytes` allows: fewer sectors at once first, since a second one only hides the time in which
    /// pieces come, and fewer threads when one sector is left.
    pub fn within(self, limit_bytes: u64) -> Result<Self, TooLittleMemory> {
        let fewer_sectors = (1..=self.sectors).rev().map(|sectors| Self { sectors, ..self });
        let fewer_threads = (1..self.threads).rev().map(|threads| Self { threads, sectors: 1, ..self });
        let fits = |plan: &Self| plan.bytes() <= limit_bytes;
        let least = Self { threads: 1, sectors: 1, ..self };
        fewer_sectors.chain(fewer_threads).find(fits).ok_or(TooLittleMemory {
            limit_mib: limit_bytes / MIB,
            needed_mib: least.mebibytes(),
            pieces_in_sector: self.pieces_in_sector,
        })
    }

    /// Slabs of the encoder: sectors in the making.
    pub fn encoder_slabs(&self) -> usize {
        self.sectors * session_slabs(self.pieces_in_sector, self.threads)
    }

    /// Slabs of the pool: sectors in the making, their writes, and what is served.
    pub fn slabs(&self) -> usize {
        self.encoder_slabs() + self.sectors * WRITING_SLABS + SERVING_SLABS
    }

    /// What the process takes, at most.
    pub fn bytes(&self) -> u64 {
        let pieces = self.sectors as u64 * u64::from(self.pieces_in_sector);
        let workers = self.threads as u64 * WORKER_BYTES as u64;
        BASE_BYTES + workers + self.slabs() as u64 * SLAB_BYTES as u64 + pieces * SECTOR_PIECE_BYTES
    }

    /// [`Self::bytes`] in MiB, rounded up.
    pub fn mebibytes(&self) -> u64 {
        self.bytes().div_ceil(MIB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(threads: usize, sectors: usize) -> MemoryPlan {
        MemoryPlan { threads, sectors, pieces_in_sector: 1000 }
    }

    #[test]
    fn the_parts_are_added_up() {
        let pages = 500 + 2 * 2 + 4;
        let slabs = 2 * (pages + 3) + 32;
        assert_eq!((plan(2, 2).encoder_slabs(), plan(2, 2).slabs()), (2 * pages, slabs));
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
            assert_eq!(wanted.within(fits.bytes()), Ok(fits));
            assert_eq!(wanted.within(fits.bytes() - 1), Ok(less));
        }
        assert_eq!(wanted.within(u64::MAX), Ok(wanted));
    }

    #[test]
    fn too_little_says_what_is_needed() {
        let least = plan(1, 1);
        let error = plan(8, 2).within(least.bytes() - 1).unwrap_err();
        assert_eq!(error.needed_mib, least.mebibytes());
        let text = error.to_string();
        assert!(
            text.contains("1000 pieces") && text.contains(&format!("{} MiB", least.mebibytes())),
            "{text}"
        );
        // What it asks for is enough.
        assert_eq!(plan(8, 2).within(error.needed_mib * MIB), Ok(least));
        assert_eq!(least.within(least.bytes()), Ok(least));
    }

    proptest! {
        #[test]
        fn a_plan_fits_and_the_next_larger_would_not(
            threads in 1usize..300, sectors in 1usize..20, pieces_in_sector in 1u16..2000, limit in 0u64..1 << 38
        ) {
            let wanted = MemoryPlan { threads, sectors, pieces_in_sector };
            match wanted.within(limit) {
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
