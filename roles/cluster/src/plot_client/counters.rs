//! What became of slots and solutions: no reward is lost silently.

use super::disks::DiskCounts;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Audits that the percentiles look back on.
const AUDITS_KEPT: usize = 512;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many until now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of a plot-client since its start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Slots worked on.
    pub slots: Counter,
    /// Slots not worked on since they came too late.
    pub refused_slots: Counter,
    /// Slots that a farm did not audit since it was still busy with the one before.
    pub skipped: Counter,
    /// Slots that a farm took no part in since its disk is sick.
    pub paused_slots: Counter,
    /// Sectors that could not be audited.
    pub audit_errors: Counter,
    /// Candidates found by audits.
    pub found: Counter,
    /// Candidates that cannot win: their chunk is not encoded.
    pub not_encoded: Counter,
    /// Candidates proved: solutions. Each of them ends in one of `queued`, `refused`, `not_sent`, `unknown`, `proved_late` and `known`.
    pub proved: Counter,
    /// Candidates that could not be read or proved, or whose proof is wrong.
    pub failed: Counter,
    /// Candidates dropped because their slot's time was over before they were proved.
    pub expired: Counter,
    /// Solutions that a node queued.
    pub queued: Counter,
    /// Solutions that a node would not have.
    pub refused: Counter,
    /// Solutions that certainly no node got.
    pub not_sent: Counter,
    /// Solutions that a node got, or not: nobody said.
    pub unknown: Counter,
    /// Solutions whose slot's time was over when they were proved.
    pub proved_late: Counter,
    /// Solutions found a second time, and not sent again.
    pub known: Counter,
    /// Solutions that left though they could not be written down before: after a restart they would be forgotten.
    pub unremembered: Counter,
    /// Reward hashes signed.
    pub signed: Counter,
    /// Sectors that the farms had when they were opened.
    pub found_plotted: Counter,
    /// Sectors in which farming or scrubbing found damage that could not be rebuilt of pieces, so that they are plotted again.
    pub damaged: Counter,
    /// Whole sectors whose damaged record was made anew.
    pub mended: Counter,
    /// Damaged sectors that were rebuilt of their pieces.
    pub rebuilt: Counter,
    /// Sectors stored.
    pub plotted: Counter,
    audits: AuditTimes,
    farms: Mutex<FarmCounts>,
}

/// Farms by what becomes of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FarmCounts {
    /// That the plot-client is to have.
    pub named: usize,
    /// That take part in slots.
    pub open: usize,
    /// That take no part yet: it is not known whether they are this plot-client's alone.
    pub claimed: usize,
    /// That take no part for now, since their disk is sick.
    pub paused: usize,
    /// That could not be opened, or could not go on.
    pub failed: usize,
    /// Whose plotting an operator has paused, open or not.
    pub plotting_paused: usize,
    /// The disks of those that are open, and what was counted of all.
    pub disks: DiskCounts,
    /// Of those that take no part each with the reason, for people.
    pub troubles: String,
}

impl Counters {
    /// What becomes of the farms at present.
    pub fn farms(&self) -> FarmCounts {
        self.farms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It has changed, or not.
    pub fn set_farms(&self, counts: FarmCounts) {
        *self.farms.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    /// A farm has audited a slot.
    pub fn audited(&self, took: Duration) {
        self.audits.add(took);
    }

    /// Solutions that a node got, or may have got.
    pub fn sent(&self) -> u64 {
        self.queued.get() + self.refused.get() + self.unknown.get()
    }

    /// Solutions that have their outcome.
    pub fn ended(&self) -> u64 {
        self.sent() + self.not_sent.get() + self.proved_late.get() + self.known.get()
    }

    /// Time that the share `percent` of the last audits stayed within; none before the first.
    pub fn audit_time(&self, percent: u32) -> Option<Duration> {
        self.audits.percentile(percent)
    }
}

/// The last audits' times.
#[derive(Debug, Default)]
struct AuditTimes(Mutex<VecDeque<Duration>>);

impl AuditTimes {
    fn add(&self, took: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() == AUDITS_KEPT {
            times.pop_front();
        }
        times.push_back(took);
    }

    fn percentile(&self, percent: u32) -> Option<Duration> {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<_> = times.iter().copied().collect();
        drop(times);
        sorted.sort_unstable();
        let rank = (sorted.len() * percent as usize).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_the_last_audits() {
        let counters = Counters::default();
        assert_eq!(counters.audit_time(50), None);
        let ms = Duration::from_millis;
        (1..=100).rev().for_each(|n| counters.audited(ms(n)));
        assert_eq!(
            [1, 50, 99, 100].map(|percent| counters.audit_time(percent).unwrap()),
            [ms(1), ms(50), ms(99), ms(100)]
        );
        (0..AUDITS_KEPT).for_each(|_| counters.audited(ms(7)));
        assert_eq!([1, 100].map(|percent| counters.audit_time(percent).unwrap()), [ms(7); 2]);
    }
}
