//! The encoder of a plot-server: GPUs, the CPU, or the CPU once no GPU is left.
//!
//! Owns: when the CPU takes over, and what is told of the GPUs. Never: a sector that began on a GPU; who wants it makes it again.

use super::encoding::Plan;
use async_trait::async_trait;
use consensus::{CpuLevel, Workers};
use engine::pool::Pool;
use engine::threads::ThreadWorkers;
use gpu::card::{CardEncoder, CardEncoderOptions, StartError};
use gpu::cpu::{self, CpuEncoder, CpuEncoderOptions};
use gpu::{BeginError, CardStats, EncoderStats, EncodingSession, SectorEncoder, SectorPlan};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

/// How often it is looked whether a GPU is left.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is told what GPUs did.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Nothing is left that encodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "every GPU is out of service (the lines above say why), and its jobs are left to other plot-servers: start again once a GPU works, or with \
     --cpu to plot on the CPU as long as none does"
)]
pub struct GpusLost;

/// Makes sectors.
pub(super) struct Encoder {
    cards: Option<CardEncoder>,
    cpu: Option<Cpu>,
}

/// The CPU's encoder, made when it is needed.
struct Cpu {
    options: CpuEncoderOptions,
    encoder: OnceCell<CpuEncoder>,
}

/// Why there is no encoder.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncoderError {
    #[error(transparent)]
    Gpu(#[from] StartError),
    #[error(transparent)]
    Cpu(#[from] cpu::StartError),
}

impl Encoder {
    /// As planned, on these threads; all memory of GPUs is taken now.
    pub fn new(plan: Plan, threads: &ThreadWorkers, pool: &Pool) -> Result<Self, EncoderError> {
        let Plan { memory, cards, check_every } = plan;
        let level = CpuLevel::current();
        let options = CpuEncoderOptions {
            threads: threads.clone().at_most(memory.threads),
            level,
            pool: pool.clone(),
            memory_slabs: memory.cpu_slabs(),
            piece_slabs: memory.piece_slabs,
        };
        if cards.is_empty() {
            let encoder = OnceCell::new_with(Some(CpuEncoder::new(options.clone())?));
            return Ok(Self { cards: None, cpu: Some(Cpu { options, encoder }) });
        }
        let cards = CardEncoder::new(CardEncoderOptions {
            devices: cards,
            pieces_in_sector: memory.pieces_in_sector,
            threads: threads.clone().at_most(memory.cards.inspectors),
            level,
            pool: pool.clone(),
            memory_slabs: memory.cards.slabs,
            check_every,
        })?;
        let may_stand_in = memory.threads > 0;
        let cpu = may_stand_in.then(|| Cpu { options, encoder: OnceCell::new() });
        Ok(Self { cards: Some(cards), cpu })
    }

    /// Whether nothing is left that encodes.
    pub fn is_lost(&self) -> bool {
        self.cpu.is_none() && !self.cards().iter().any(|card| card.in_service)
    }

    /// Numbers of each GPU since the start.
    pub fn cards(&self) -> Vec<CardStats> {
        self.cards.as_ref().map(CardEncoder::cards).unwrap_or_default()
    }

    /// Tells what each GPU does, once a minute, until nothing is left that encodes.
    pub async fn watch(&self) {
        let (mut told, mut told_at) = (self.cards(), Instant::now());
        while !self.is_lost() {
            sleep(LOOK_EVERY).await;
            if told_at.elapsed() < TELL_EVERY {
                continue;
            }
            let now = self.cards();
            for (before, now) in told.iter().zip(&now).filter(|(_, now)| now.in_service) {
                GpuWork::between(before, now).tell(&now.name);
            }
            (told, told_at) = (now, Instant::now());
        }
    }
}

#[async_trait]
impl SectorEncoder for Encoder {
    async fn begin(&self, plan: SectorPlan) -> Result<Box<dyn EncodingSession>, BeginError> {
        if let Some(cards) = &self.cards {
            match cards.begin(plan).await {
                Err(BeginError::OutOfService) => {}
                begun => return begun,
            }
        }
        let cpu = self.cpu.as_ref().ok_or(BeginError::OutOfService)?;
        cpu.encoder().await?.begin(plan).await
    }

    /// Workers are the GPUs, and after them the threads.
    fn stats(&self) -> EncoderStats {
        let cpu = self.cpu.as_ref().and_then(|cpu| cpu.encoder.get()).map(SectorEncoder::stats);
        let cards = self.cards.as_ref().map(SectorEncoder::stats);
        let each: Vec<_> = cards.into_iter().chain(cpu).collect();
        EncoderStats {
            records_encoded: each.iter().map(|stats| stats.records_encoded).sum(),
            pieces_refused: each.iter().map(|stats| stats.pieces_refused).sum(),
            queued: each.iter().map(|stats| stats.queued).sum(),
            slabs_promised: each.iter().map(|stats| stats.slabs_promised).sum(),
            workers: each.into_iter().flat_map(|stats| stats.workers).collect(),
        }
    }
}

impl Cpu {
    async fn encoder(&self) -> Result<&CpuEncoder, BeginError> {
        let make = async || {
            let threads = self.options.threads.count();
            tracing::warn!(
                threads,
                "no GPU is left: the CPU encodes now, until the process is started again"
            );
            CpuEncoder::new(self.options.clone()).map_err(|error| {
                tracing::error!("the CPU cannot encode: {error}");
                BeginError::OutOfService
            })
        };
        self.encoder.get_or_try_init(make).await
    }
}

/// What one GPU did in some time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct GpuWork {
    /// Part of the time in which it had nothing to do, 0 to 1.
    idle_share: f64,
    records_per_s: f64,
    sectors: u64,
}

impl GpuWork {
    fn between(before: &CardStats, now: &CardStats) -> Self {
        let seconds = |of: fn(&CardStats) -> Duration| of(now).saturating_sub(of(before)).as_secs_f64();
        let (busy_s, idle_s) = (seconds(|card| card.worker.busy), seconds(|card| card.worker.idle));
        // Never by zero: a GPU of which nothing was heard did nothing.
        let total_s = (busy_s + idle_s).max(f64::MIN_POSITIVE);
        Self {
            idle_share: idle_s / total_s,
            records_per_s: (now.worker.jobs - before.worker.jobs) as f64 / total_s,
            sectors: now.sectors - before.sectors,
        }
    }

    fn tell(&self, name: &str) {
        let Self { idle_share, records_per_s, sectors } = *self;
        let (idle_percent, records_per_s) =
            (format!("{:.1}", 100.0 * idle_share), format!("{records_per_s:.1}"));
        tracing::info!(idle_percent, records_per_s, sectors, "{name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpu::WorkerStats;

    #[test]
    fn what_a_gpu_did_is_the_difference_of_its_numbers() {
        let card = |jobs, busy_s, idle_s, sectors| CardStats {
            name: "GPU".into(),
            in_service: true,
            sectors,
            worker: WorkerStats {
                jobs,
                busy: Duration::from_secs(busy_s),
                idle: Duration::from_secs(idle_s),
            },
        };
        let work = GpuWork::between(&card(1000, 50, 10, 1), &card(4000, 95, 25, 4));
        assert_eq!(work, GpuWork { idle_share: 0.25, records_per_s: 50.0, sectors: 3 });
        let none = GpuWork::between(&card(1, 1, 1, 1), &card(1, 1, 1, 1));
        assert_eq!(none, GpuWork { idle_share: 0.0, records_per_s: 0.0, sectors: 0 });
    }
}
