//! Slots, one after the other or at their times.

use super::super::cpu_time::{cpu_since, cpu_time};
use super::super::farms::Looked;
use super::super::latencies::Latencies;
use super::options::{Options, challenge};
use cluster::plot_client::{AuditBuffers, Audited, audit_sectors};
use control::ids::InstanceId;
use control::messages::SlotInfo;
use engine::task;
use std::time::{Duration, Instant};

/// So narrow that hardly a chunk comes close enough: what a candidate costs is a proof, and not measured here.
const SOLUTION_RANGE: u64 = 1 << 20;

/// What the audits of a number of slots came to.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    /// How long each slot took.
    pub times: Latencies,
    /// Slots that came while the audit before still ran.
    pub missed: u64,
    /// Sectors that were audited.
    pub sectors: u64,
    /// Reads: not every s-bucket that is hit holds anything.
    pub reads: u64,
    /// Bytes of them.
    pub read_bytes: u64,
    /// Chunks hashed.
    pub chunks: u64,
    /// Time spent auditing.
    pub busy: Duration,
    /// What the farm's thread took of a core for all of it.
    pub cpu: Option<Duration>,
    /// Time from beginning to end.
    pub took: Duration,
    /// Sectors that could not be read.
    pub errors: u64,
    /// The first error.
    pub error: Option<String>,
}

impl Slots {
    fn add(&mut self, audited: &Audited) {
        self.reads += audited.reads;
        self.read_bytes += audited.read_bytes;
        self.chunks += audited.chunks;
        self.errors += audited.errors;
        if self.error.is_none() {
            self.error.clone_from(&audited.error);
        }
    }
}

/// Audits until the time or the slots are over, at least once. On the farm's executor.
pub async fn audit_slots(
    looked: &Looked,
    buffers: &AuditBuffers,
    at_once: usize,
    options: &Options,
) -> Slots {
    let (mut slots, mut number, mut challenges) = (Slots::default(), 0, 0);
    let plotted = looked.plotted.len() as u64;
    let wanted = options.as_sectors.unwrap_or(plotted);
    let (started, cpu) = (Instant::now(), cpu_time());
    loop {
        let begun = Instant::now();
        let mut left = wanted;
        while left > 0 {
            let (slot, count) = (slot(options, challenges), left.min(plotted));
            let sectors = looked.plotted.iter().map(|&(sector, _)| sector).take(count as usize);
            slots.add(&audit_sectors(&looked.farm, sectors, 0, buffers, at_once, &slot, options.level).await);
            (left, challenges) = (left - count, challenges + 1);
        }
        slots.times.add(begun.elapsed());
        slots.busy += begun.elapsed();
        slots.sectors += wanted;
        number += 1;
        if let Some(interval) = options.interval {
            let due = next_due(number, interval, started.elapsed());
            slots.missed += due - number;
            number = due;
            task::sleep(
                (interval * u32::try_from(due).unwrap_or(u32::MAX)).saturating_sub(started.elapsed()),
            )
            .await;
        }
        slots.took = started.elapsed();
        let is_over = match options.slots {
            Some(wanted) => number >= u64::from(wanted),
            None => slots.took >= options.limit,
        };
        if is_over {
            slots.cpu = cpu_since(cpu);
            return slots;
        }
    }
}

/// The slot that can be audited next, when `next` would be and so much time has passed: those whose time went by are missed.
fn next_due(next: u64, interval: Duration, passed: Duration) -> u64 {
    let begun = passed.as_nanos().div_ceil(interval.as_nanos().max(1));
    next.max(u64::try_from(begun).unwrap_or(u64::MAX))
}

fn slot(options: &Options, number: u64) -> SlotInfo {
    let number = options.challenges.map_or(number, |challenges| number % challenges.max(1));
    SlotInfo {
        slot: number,
        global_challenge: challenge(options.seed, number),
        solution_range: SOLUTION_RANGE,
        voting_solution_range: SOLUTION_RANGE,
        controller: InstanceId([0; 16]),
        announced_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_whose_time_went_by_are_missed() {
        let ms = Duration::from_millis;
        for (next, passed_ms, due) in
            [(1, 0, 1), (1, 999, 1), (1, 1000, 1), (1, 1001, 2), (1, 3500, 4), (5, 3500, 5)]
        {
            assert_eq!(next_due(next, ms(1000), ms(passed_ms)), due, "{next} after {passed_ms} ms");
        }
    }
}
