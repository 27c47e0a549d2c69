//! What of a device's memory goes where, planned before any is taken.
//!
//! Owns: the numbers of records in flight and of sessions. Never: memory.

use super::area::AreaLayout;
use super::pipeline::{LANES, MAX_LANE_RECORDS, RECORD_CONTROL_BYTES};
use crate::device::DeviceMemory;
use crate::finished::OUTPUT_SLABS;
use crate::interface::Layout;
use consensus::constants::RECORD_SIZE;
use std::fmt;

/// Records in flight where memory allows and nobody says otherwise: enough blocks to fill the largest devices several times over.
const DEFAULT_CONCURRENCY: usize = 16;
/// A second session is worth having only where it leaves room for as many records in flight.
const CONCURRENCY_BEFORE_SESSIONS: usize = 4;
/// Most records in flight on one device.
pub(super) const MAX_CONCURRENCY: usize = LANES * MAX_LANE_RECORDS;
/// Pieces that a session may hold for each record in flight: one there, two that have arrived or are under way.
const CREDITS_PER_RECORD: usize = 3;
/// Left to the driver, and to whatever else draws on the device.
const RESERVE_BYTES: usize = 192 << 20;
const MIB: usize = 1 << 20;

/// How the memory of one device is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Records in flight (`GPU_CONCURRENCY`): in two batches, of which one is computed while the other is brought up or done.
    pub concurrency: usize,
    /// Sectors in the making at once.
    pub sessions: usize,
    /// Device memory of a record in flight.
    pub record_bytes: usize,
    /// Device memory of a session, its two windows of the finished sector included.
    pub session_bytes: usize,
    /// Device memory free when the plan was made.
    pub free_bytes: usize,
    /// Slabs of the pool that a piece takes on its way: 1, or 2 with its parity.
    pub piece_slabs: usize,
}

/// What the operator wants of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Records in flight; none: as many as are of use.
    pub concurrency: Option<usize>,
    /// Sectors in the making at once, fewer where memory is short.
    pub sessions: usize,
    /// Pieces of the largest sector.
    pub pieces_in_sector: u16,
    /// Slabs of the pool that a piece takes on its way: 1, or 2 with its parity.
    pub piece_slabs: usize,
}

/// The memory of a device does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// Not enough for any work.
    #[error(
        "{free_mib} MiB of GPU memory are free, and one sector of {pieces_in_sector} pieces with {concurrency} records in flight takes \
         {needed_mib} MiB: lower GPU_CONCURRENCY, stop what else uses the GPU, or plot on another"
    )]
    TooLittle {
        /// Free, in MiB.
        free_mib: usize,
        /// Needed, in MiB.
        needed_mib: usize,
        /// Pieces of the largest sector.
        pieces_in_sector: u16,
        /// Records in flight that were asked for, or one.
        concurrency: usize,
    },
    /// Nobody can have so many.
    #[error("GPU_CONCURRENCY is {0}: between 1 and {MAX_CONCURRENCY} are possible")]
    Concurrency(usize),
}

impl Budget {
    /// A plan for a device with so much memory.
    pub fn plan(layout: &Layout, memory: DeviceMemory, wanted: &Wanted) -> Result<Self, BudgetError> {
        if let Some(concurrency) = wanted.concurrency.filter(|count| !(1..=MAX_CONCURRENCY).contains(count)) {
            return Err(BudgetError::Concurrency(concurrency));
        }
        let plan = |sessions, concurrency| Self {
            concurrency,
            sessions,
            record_bytes: record_bytes(layout),
            session_bytes: AreaLayout::new(wanted.pieces_in_sector).bytes(),
            free_bytes: memory.free_bytes,
            piece_slabs: wanted.piece_slabs,
        };
        let shared = layout.roots_bytes + RESERVE_BYTES;
        let fits = |plan: &Self| plan.bytes() + shared <= memory.free_bytes;
        let counts = match wanted.concurrency {
            Some(concurrency) => vec![concurrency],
            None => (1..=DEFAULT_CONCURRENCY).rev().collect(),
        };
        let least = if wanted.concurrency.is_some() { 1 } else { CONCURRENCY_BEFORE_SESSIONS };
        let several = (2..=wanted.sessions).rev().map(|sessions| (sessions, least));
        let fitting = several.chain([(1, 1)]).find_map(|(sessions, least)| {
            let counts = counts.iter().filter(|count| **count >= least);
            counts.map(|count| plan(sessions, *count)).find(fits)
        });
        let concurrency = wanted.concurrency.unwrap_or(1);
        fitting.ok_or_else(|| BudgetError::TooLittle {
            free_mib: memory.free_bytes / MIB,
            needed_mib: (plan(1, concurrency).bytes() + shared).div_ceil(MIB),
            pieces_in_sector: wanted.pieces_in_sector,
            concurrency,
        })
    }

    /// Device memory that it takes.
    pub fn bytes(&self) -> usize {
        self.concurrency * self.record_bytes + self.sessions * self.session_bytes
    }

    /// Pieces that a session may hold at once.
    pub fn credits(&self) -> usize {
        self.concurrency * CREDITS_PER_RECORD
    }

    /// Slabs of the pool that one session takes at most: pieces that arrive, and its output.
    pub fn session_slabs(&self) -> usize {
        self.credits() * self.piece_slabs + OUTPUT_SLABS
    }

    /// Slabs of the pool that the device's sessions take at most.
    pub fn slabs(&self) -> usize {
        self.sessions * self.session_slabs()
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} MiB of {} free: {} records in flight (GPU_CONCURRENCY) of {} MiB, {} sectors at once of {} MiB",
            self.bytes() / MIB,
            self.free_bytes / MIB,
            self.concurrency,
            self.record_bytes / MIB,
            self.sessions,
            self.session_bytes / MIB,
        )
    }
}

/// A record in flight: its slot, and what is said of it.
fn record_bytes(layout: &Layout) -> usize {
    layout.slot_bytes + RECORD_CONTROL_BYTES
}

/// How many requests a prover may have in flight on a device with so much memory, `wanted` at most.
pub(super) fn proving_records(
    layout: &Layout,
    memory: DeviceMemory,
    wanted: usize,
) -> Result<usize, BudgetError> {
    let each = record_bytes(layout) + RECORD_SIZE;
    let shared = layout.roots_bytes + RESERVE_BYTES;
    match memory.free_bytes.saturating_sub(shared) / each {
        0 => Err(BudgetError::TooLittle {
            free_mib: memory.free_bytes / MIB,
            needed_mib: (each + shared).div_ceil(MIB),
            pieces_in_sector: 0,
            concurrency: 1,
        }),
        fitting => Ok(fitting.min(wanted).clamp(1, MAX_LANE_RECORDS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::Kernel;
    use proptest::prelude::*;

    const GIB: usize = 1 << 30;

    fn layout() -> Layout {
        Layout {
            k: 20,
            slot_bytes: 100 << 20,
            source_at: 0,
            parity_at: 1 << 20,
            roots_bytes: 1 << 20,
            grids: [(1, 32); Kernel::ALL.len()],
        }
    }

    fn memory(free_bytes: usize) -> DeviceMemory {
        DeviceMemory { free_bytes, total_bytes: free_bytes }
    }

    fn wanted(concurrency: Option<usize>) -> Wanted {
        Wanted { concurrency, sessions: 2, pieces_in_sector: 1000, piece_slabs: 1 }
    }

    #[test]
    fn cards_of_all_sizes() {
        let plan = |gib: usize| {
            let plan = Budget::plan(&layout(), memory(gib * GIB), &wanted(None)).ok()?;
            Some((plan.sessions, plan.concurrency))
        };
        assert_eq!((plan(80), plan(8), plan(5)), (Some((2, 16)), Some((2, 16)), Some((2, 16))));
        assert_eq!((plan(3), plan(2), plan(1)), (Some((2, 7)), Some((1, 8)), None));
    }

    #[test]
    fn what_is_asked_for_is_had_or_refused() {
        let plan = |free, concurrency| Budget::plan(&layout(), memory(free), &wanted(Some(concurrency)));
        assert_eq!(plan(80 * GIB, 7).unwrap().concurrency, 7);
        let error = plan(4 * GIB, 100).unwrap_err();
        let BudgetError::TooLittle { needed_mib, .. } = error else { panic!("{error}") };
        assert_eq!(plan(needed_mib * MIB, 100).unwrap().sessions, 1);
        assert!(error.to_string().contains("100 records"), "{error}");
        assert_eq!(plan(GIB, 0), Err(BudgetError::Concurrency(0)));
        assert_eq!(plan(GIB, 1000), Err(BudgetError::Concurrency(1000)));
    }

    #[test]
    fn the_line_for_operators() {
        let plan = Budget::plan(&layout(), memory(8 * GIB), &wanted(None)).unwrap().to_string();
        assert!(plan.contains("of 8192 free: 16 records") && plan.contains("2 sectors"), "{plan}");
    }

    proptest! {
        #[test]
        fn a_plan_fits(free in 0usize..20 << 30, concurrency in prop::option::of(1usize..40), pieces in 1u16..=1000) {
            let wanted = Wanted { concurrency, sessions: 2, pieces_in_sector: pieces, piece_slabs: 1 };
            match Budget::plan(&layout(), memory(free), &wanted) {
                Ok(plan) => {
                    prop_assert!(plan.bytes() + RESERVE_BYTES + layout().roots_bytes <= free);
                    prop_assert!(plan.sessions >= 1 && concurrency.is_none_or(|count| count == plan.concurrency));
                }
                Err(BudgetError::TooLittle { needed_mib, .. }) => prop_assert!(needed_mib * MIB > free),
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }
}
