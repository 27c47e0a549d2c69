//! What encodes: GPUs, the CPU, or the CPU once no GPU is left; chosen by the operator, planned before any memory is taken.
//!
//! Owns: that choice, and how many sectors are made at once by what. Never: memory, or a GPU that nobody gave it.

use super::memory::{CardsMemory, MemoryPlan, TooLittleMemory, first_within};
use crate::cards::{NoCards, OpenCard};
use consensus::{CpuLevel, Workers};
use engine::threads::ThreadWorkers;
use gpu::card::{Budget, BudgetError, DEFAULT_CHECK_EVERY, EncodingDevice, Wanted};
use gpu::device::{Device, DeviceError};
use gpu::measure::{MeasureError, SweepOptions, best, sweep};
use std::str::FromStr;
use std::sync::Arc;

/// Sectors at once on the CPU: while one is encoded, the pieces of the other come.
const SECTORS_ON_CPU: usize = 2;
/// Sectors at once on each GPU: one is written, one is encoded, and the pieces of two come.
const SECTORS_ON_GPU: usize = 4;
/// Threads that check records, for each GPU: one alone would keep up with one record in 2000 at the highest speed.
const INSPECTORS_FOR_GPU: usize = 2;
/// Numbers of records in flight that are tried where the best is to be found; beyond these nothing was ever expected to be gained.
const TRIED: [usize; 8] = [1, 2, 4, 8, 12, 16, 24, 32];
/// Records that each of them is measured with: a part of a second on a fast card.
const TRIED_RECORDS: usize = 512;
/// Pieces of the sectors that are measured with: the number of records in flight does not depend on them, and memory does.
const TRIED_PIECES: u16 = 128;

/// What encodes.
#[derive(Debug, Clone)]
pub enum Encoding {
    /// The CPU.
    Cpu,
    /// These GPUs, one at least.
    Gpu {
        /// Where they are.
        cards: Vec<OpenCard>,
        /// How they are used.
        options: GpuOptions,
    },
}

/// How GPUs are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuOptions {
    /// Records in flight on each (`GPU_CONCURRENCY`).
    pub concurrency: Concurrency,
    /// The first record of each, and then one in so many, is compared with the CPU's.
    pub check_every: u64,
    /// Whether the CPU may encode where there is no GPU, or none is left.
    pub or_cpu: bool,
}

/// How many records are in flight on a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concurrency {
    /// As many as are of use and memory allows.
    Usual,
    /// So many, or it is an error.
    Count(usize),
    /// The least of `counts` that is as fast as any, as a measurement at the start finds it.
    Measured {
        /// What is tried.
        counts: Vec<usize>,
        /// Records that each is measured with.
        records: usize,
    },
}

impl FromStr for Concurrency {
    type Err = String;

    /// A number, or `auto`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Measured { counts: TRIED.into(), records: TRIED_RECORDS });
        }
        let count = text.parse().ok().filter(|count| *count > 0).map(Self::Count);
        count.ok_or_else(|| "records in flight are a number from 1, or auto".into())
    }
}

impl Default for GpuOptions {
    /// GPUs alone.
    fn default() -> Self {
        Self { concurrency: Concurrency::Usual, check_every: DEFAULT_CHECK_EVERY, or_cpu: false }
    }
}

/// Nothing may encode; the text is one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; or plot on the CPU: --cpu")]
pub struct NothingEncodes(#[from] pub NoCards);

/// Why a plot-server cannot work with what it was given.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The machine's memory does not do.
    #[error(transparent)]
    Memory(#[from] TooLittleMemory),
    /// The memory of no GPU does.
    #[error("no GPU: none of them can be used; {gpu}: {reason}; or plot on the CPU: --cpu")]
    Gpu {
        /// The last.
        gpu: String,
        /// What it lacks.
        reason: String,
    },
}

impl Encoding {
    /// On GPUs that were opened; where there is none, on the CPU if it may, which is said in one line.
    pub fn on(cards: Result<Vec<OpenCard>, NoCards>, options: GpuOptions) -> Result<Self, NothingEncodes> {
        match cards {
            Ok(cards) => Ok(Self::Gpu { cards, options }),
            Err(reason) if options.or_cpu => {
                tracing::info!("encodes on the CPU; {reason}");
                Ok(Self::Cpu)
            }
            Err(reason) => Err(NothingEncodes(reason)),
        }
    }

    /// Its GPUs.
    pub fn cards_mut(&mut self) -> &mut [OpenCard] {
        match self {
            Self::Cpu => &mut [],
            Self::Gpu { cards, .. } => cards,
        }
    }

    /// Plans for sectors of `wanted.pieces_in_sector`. GPUs whose memory does not do are left out, each with a line.
    pub(super) fn plan(&self, wanted: &WantedWork) -> Result<Plan, PlanError> {
        let Self::Gpu { cards, options } = self else { return Ok(wanted.on_cpu()?) };
        let mut last = None;
        let rooms = cards.iter().filter_map(|card| match wanted.budgets(&card.device, options) {
            Ok(budgets) => Some((card.clone(), budgets)),
            Err(reason) => {
                let device = &card.device;
                tracing::warn!("{} is left out: {reason}", device.name());
                last = Some((device.name().to_owned(), reason.to_string()));
                None
            }
        });
        let rooms: Vec<_> = rooms.collect();
        match last {
            Some(_) if rooms.is_empty() && options.or_cpu => {
                tracing::info!("encodes on the CPU: no GPU can be used");
                Ok(wanted.on_cpu()?)
            }
            Some((gpu, reason)) if rooms.is_empty() => Err(PlanError::Gpu { gpu, reason }),
            _ => Ok(wanted.on_cards(&rooms, options)?),
        }
    }
}

/// What is wanted, whatever encodes.
pub(super) struct WantedWork<'a> {
    /// Threads of the CPU.
    pub threads: &'a ThreadWorkers,
    /// Sectors at once, on each GPU if there are some; none: as many as keep it busy.
    pub sectors: Option<usize>,
    /// Pieces of the largest sector.
    pub pieces_in_sector: u16,
    /// Slabs that a piece takes on its way: 1, or 2 with its parity.
    pub piece_slabs: usize,
    /// Bytes that the process may take, if there is a limit.
    pub limit_bytes: Option<u64>,
}

/// What encodes, with its memory.
pub(super) struct Plan {
    /// Memory of the machine; zero threads where the CPU may not encode.
    pub memory: MemoryPlan,
    /// GPUs and their memory.
    pub cards: Vec<EncodingDevice>,
    /// One record in so many is compared with the CPU's.
    pub check_every: u64,
}

/// A GPU, and what it would do with each number of sectors at once, most first.
type Room = (OpenCard, Vec<Budget>);

/// Why a GPU cannot be used.
#[derive(Debug, thiserror::Error)]
enum NoRoom {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error(transparent)]
    Measure(#[from] MeasureError),
}

impl WantedWork<'_> {
    fn on_cpu(&self) -> Result<Plan, TooLittleMemory> {
        let sectors = self.sectors.unwrap_or(SECTORS_ON_CPU);
        let wanted = self.memory(self.threads.count(), sectors);
        let memory = first_within(wanted.and_less(), |plan| *plan, self.limit_bytes)?;
        Ok(Plan { memory, cards: Vec::new(), check_every: DEFAULT_CHECK_EVERY })
    }

    fn memory(&self, threads: usize, sectors: usize) -> MemoryPlan {
        MemoryPlan {
            piece_slabs: self.piece_slabs,
            ..MemoryPlan::cpu(threads, sectors, self.pieces_in_sector)
        }
    }

    fn budgets(&self, device: &Arc<dyn Device>, options: &GpuOptions) -> Result<Vec<Budget>, NoRoom> {
        let concurrency = match &options.concurrency {
            Concurrency::Usual => None,
            Concurrency::Count(count) => Some(*count),
            Concurrency::Measured { counts, records } => Some(self.measured(device, counts, *records)?),
        };
        let memory = device.memory()?;
        let most = self.sectors.unwrap_or(SECTORS_ON_GPU);
        let (pieces_in_sector, piece_slabs) = (self.pieces_in_sector, self.piece_slabs);
        let plan = |sessions| {
            let wanted = Wanted { concurrency, sessions, pieces_in_sector, piece_slabs };
            Budget::plan(device.layout(), memory, &wanted)
        };
        Ok((1..=most).rev().map(plan).collect::<Result<_, _>>()?)
    }

    /// The best number of records in flight; what was measured is told.
    fn measured(
        &self,
        device: &Arc<dyn Device>,
        counts: &[usize],
        records: usize,
    ) -> Result<usize, MeasureError> {
        let name = device.name();
        tracing::info!("{name}: measures which GPU_CONCURRENCY is best");
        let options = SweepOptions {
            pieces_in_sector: self.pieces_in_sector.min(TRIED_PIECES),
            threads: self.threads.clone().at_most(INSPECTORS_FOR_GPU),
            level: CpuLevel::current(),
        };
        let points = sweep(device, counts, records, &options)?;
        let speeds = points.iter().map(|point| format!("{}: {:.1}", point.concurrency, point.records_per_s));
        let best = best(&points);
        tracing::info!(
            "{name}: GPU_CONCURRENCY {best} of [{}] records/s",
            speeds.collect::<Vec<_>>().join(", ")
        );
        Ok(best)
    }

    /// The most sectors at once that the machine's memory allows, then the most threads of a CPU that may stand in.
    fn on_cards(&self, rooms: &[Room], options: &GpuOptions) -> Result<Plan, TooLittleMemory> {
        let budgets = |step: usize| rooms.iter().map(move |(_, budgets)| budgets[step]);
        let steps = rooms[0].1.len();
        let inspectors = self.threads.count().min(rooms.len() * INSPECTORS_FOR_GPU);
        let stand_in = if options.or_cpu { (self.threads.count(), 1) } else { (0, 0) };
        let plan = |step: usize| {
            let (threads, sectors) = stand_in;
            let cards = CardsMemory {
                count: rooms.len(),
                sectors: budgets(step).map(|budget| budget.sessions).sum(),
                slabs: budgets(step).map(|budget| budget.slabs()).sum(),
                inspectors,
            };
            (step, MemoryPlan { cards, ..self.memory(threads, sectors) })
        };
        let (last, least) = plan(steps - 1);
        let on_fewer_threads = least.on_fewer_threads().map(|plan| (last, plan));
        let plans = (0..steps).map(plan).chain(on_fewer_threads);
        let (step, memory) = first_within(plans, |(_, plan)| *plan, self.limit_bytes)?;
        let device = |((card, _), budget): (&Room, Budget)| {
            let OpenCard { device, feeder, .. } = card.clone();
            EncodingDevice { device, budget, feeder }
        };
        let cards = rooms.iter().zip(budgets(step)).map(device).collect();
        Ok(Plan { memory, cards, check_every: options.check_every })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrency_is_a_number_or_auto() {
        let parsed = |text: &str| text.parse::<Concurrency>().ok();
        assert!(matches!(parsed("auto"), Some(Concurrency::Measured { .. })));
        assert_eq!(parsed("8"), Some(Concurrency::Count(8)));
        for text in ["0", "", "-1", "many"] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }
}

#[cfg(test)]
#[cfg(feature = "kernel-shim")]
mod on_the_shim {
    use super::*;
    use gpu::device::cuda;
    use gpu::device::shim::{ShimDevice, ShimOptions};

    fn cards(memory_mib: &[usize]) -> Vec<OpenCard> {
        let card = |memory_mib: &usize| {
            let memory_bytes = memory_mib << 20;
            let options = ShimOptions { k: 20, schedule_seed: None, os_threads: 1, memory_bytes };
            OpenCard { device: Arc::new(ShimDevice::new(options).unwrap()), pci_bus_id: None, feeder: None }
        };
        memory_mib.iter().map(card).collect()
    }

    fn plan(memory_mib: &[usize], or_cpu: bool, limit_bytes: Option<u64>) -> Result<Plan, PlanError> {
        let options = GpuOptions { or_cpu, ..GpuOptions::default() };
        let threads = ThreadWorkers::unbound(8);
        let wanted = WantedWork {
            threads: &threads,
            sectors: None,
            pieces_in_sector: 1000,
            piece_slabs: 1,
            limit_bytes,
        };
        Encoding::on(Ok(cards(memory_mib)), options).unwrap().plan(&wanted)
    }

    #[test]
    fn where_no_gpu_is_the_cpu_must_be_allowed() {
        let on = |or_cpu| {
            Encoding::on(
                Err(NoCards::Driver(cuda::NoCards::NoDevice)),
                GpuOptions { or_cpu, ..GpuOptions::default() },
            )
        };
        assert!(matches!(on(true), Ok(Encoding::Cpu)));
        let text = on(false).unwrap_err().to_string();
        assert!(
            text.starts_with("no GPU: ") && text.ends_with("--cpu") && text.lines().count() == 1,
            "{text}"
        );
    }

    #[test]
    fn every_gpu_makes_as_many_sectors_as_its_memory_allows() {
        let both = plan(&[20_000, 4_000], false, None).unwrap();
        let sessions: Vec<_> = both.cards.iter().map(|card| card.budget.sessions).collect();
        assert!(sessions[0] == 4 && (1..4).contains(&sessions[1]), "{sessions:?}");
        assert_eq!((both.memory.at_once(), both.memory.threads), (sessions.iter().sum(), 0));
        assert_eq!(both.memory.cards.inspectors, 2 * INSPECTORS_FOR_GPU);
        let slabs: usize = both.cards.iter().map(|card| card.budget.slabs()).sum();
        assert_eq!(both.memory.cards.slabs, slabs);
        let one = plan(&[100, 4_000], false, None).unwrap();
        assert_eq!((one.cards.len(), one.memory.cards.count), (1, 1));
    }

    #[test]
    fn short_memory_of_the_machine_takes_sectors_and_then_threads_of_the_stand_in() {
        let wanted = plan(&[20_000], true, None).unwrap().memory;
        assert_eq!((wanted.at_once(), wanted.threads, wanted.sectors), (4, 8, 1));
        let less = plan(&[20_000], true, Some(wanted.bytes() - 1)).unwrap().memory;
        assert_eq!((less.at_once(), less.threads), (3, 8));
        let least = plan(&[20_000], true, Some(2 << 30)).unwrap().memory;
        assert!(least.bytes() <= 2 << 30 && least.at_once() == 1 && (1..8).contains(&least.threads));
        let alone = plan(&[20_000], false, Some(1 << 30)).unwrap().memory;
        assert!(alone.bytes() <= 1 << 30 && alone.threads == 0);
        assert!(matches!(plan(&[20_000], true, Some(1 << 30)), Err(PlanError::Memory(_))));
    }

    #[test]
    fn gpus_that_are_too_small_are_none() {
        let text = plan(&[100, 150], false, None).err().unwrap().to_string();
        assert!(
            text.starts_with("no GPU: ") && text.contains("150 MiB") && text.ends_with("--cpu"),
            "{text}"
        );
        let on_cpu = plan(&[100], true, None).unwrap();
        assert!(on_cpu.cards.is_empty() && on_cpu.memory == MemoryPlan::cpu(8, 2, 1000));
    }
}
