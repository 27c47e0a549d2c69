//! How the disks under the open farms are doing, counted; several farms may be on one.
//!
//! Owns: the counts, which go on when a disk is closed and opened anew. Never: what an illness means.

use engine::Action;
use engine::disk::{Health, HealthCell};
use std::sync::Arc;

/// All that can be late or fail.
const ACTIONS: [Action; 4] = [Action::Read, Action::Write, Action::Sync, Action::Allocate];

/// Disks of a plot-client, or one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// That answer in time.
    pub healthy: usize,
    /// That err now and then, or come late.
    pub slow: usize,
    /// That hang or err on most they are asked.
    pub sick: usize,
    /// That the system does not have any more.
    pub gone: usize,
    /// Changes of health since the start, as seen once a second.
    pub changes: u64,
    /// Operations since the start that were not done in their time.
    pub late: u64,
    /// That the system refused.
    pub failed: u64,
    /// That were refused at once since the disk was sick or gone.
    pub refused: u64,
}

/// Disks that are watched.
#[derive(Debug, Default)]
pub struct Disks {
    open: Vec<Seen>,
    /// What was counted of those that are closed.
    past: DiskCounts,
}

#[derive(Debug)]
struct Seen {
    cell: Arc<HealthCell>,
    health: Health,
    changes: u64,
}

impl Seen {
    fn counts(&self) -> DiskCounts {
        let sum = |of: &dyn Fn(Action) -> u64| ACTIONS.map(of).iter().sum();
        DiskCounts {
            changes: self.changes,
            late: sum(&|action| self.cell.late(action)),
            failed: sum(&|action| self.cell.failed(action)),
            refused: self.cell.refused(),
            ..DiskCounts::default()
        }
    }
}

impl Disks {
    /// Looks at the disks of all farms that are open now.
    pub fn look<'a>(&mut self, cells: impl Iterator<Item = &'a Arc<HealthCell>>) {
        let cells: Vec<_> = cells.collect();
        for cell in &cells {
            if !self.open.iter().any(|seen| Arc::ptr_eq(&seen.cell, cell)) {
                self.open.push(Seen { cell: (*cell).clone(), health: Health::Healthy, changes: 0 });
            }
        }
        for seen in &mut self.open {
            let health = seen.cell.get();
            seen.changes += u64::from(std::mem::replace(&mut seen.health, health) != health);
        }
        let is_open = |seen: &Seen| cells.iter().any(|cell| Arc::ptr_eq(&seen.cell, cell));
        for closed in self.open.extract_if(.., |seen| !is_open(seen)) {
            self.past.add(&closed.counts());
        }
    }

    /// All of them.
    pub fn counts(&self) -> DiskCounts {
        let mut counts = self.past;
        for seen in &self.open {
            counts.add(&seen.counts());
            match seen.health {
                Health::Healthy => counts.healthy += 1,
                Health::Slow => counts.slow += 1,
                Health::Sick => counts.sick += 1,
                Health::Gone => counts.gone += 1,
            }
        }
        counts
    }

    /// What is counted of one, without how it is doing.
    pub fn of(&self, cell: &Arc<HealthCell>) -> DiskCounts {
        let seen = self.open.iter().find(|seen| Arc::ptr_eq(&seen.cell, cell));
        seen.map(Seen::counts).unwrap_or_default()
    }
}

impl DiskCounts {
    fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.late += other.late;
        self.failed += other.failed;
        self.refused += other.refused;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn farms_on_one_disk_have_one_and_what_was_counted_of_it_stays() {
        let [first, second] = [(); 2].map(|()| Arc::<HealthCell>::default());
        let mut disks = Disks::default();
        disks.look([&first, &first, &second].into_iter());
        assert_eq!(disks.counts(), DiskCounts { healthy: 2, ..DiskCounts::default() });
        disks.open[0].health = Health::Sick;
        disks.look([&first, &second].into_iter());
        assert_eq!(disks.counts(), DiskCounts { healthy: 2, changes: 1, ..DiskCounts::default() });
        assert_eq!((disks.of(&first).changes, disks.of(&second).changes), (1, 0));
        disks.look([&second].into_iter());
        assert_eq!(disks.counts(), DiskCounts { healthy: 1, changes: 1, ..DiskCounts::default() });
        disks.look(std::iter::empty());
        assert_eq!(disks.counts(), DiskCounts { changes: 1, ..DiskCounts::default() });
    }
}
