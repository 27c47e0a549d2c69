//! What members do with each other's help and without the bus: pieces into caches and out of them, sectors from servers to farms.

use super::disk::QUARTERS;
use super::member::{Id, Input, Output};
use super::world::{Happening, World};
use control::ids::InstanceId;
use control::messages::{Epoch, ItemKind};
use control::rendezvous::{OWNERS_TRIED, Owners};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a request to somebody who does not answer takes.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Pieces of a segment.
const PIECES: u64 = 256;

impl World {
    pub(super) fn act_with_others(&mut self, member: usize, run: u64, output: Output) {
        let takes = self.random.millis(300, 2500);
        self.plan(takes, Happening::Exchange { member, run, output: Box::new(output) });
    }

    /// It has taken its time: this is what came of it.
    pub(super) fn exchange(&mut self, member: usize, run: u64, output: Output) {
        let process = &self.processes[member];
        if process.run != run || process.member.is_none() {
            return;
        }
        let (id, is_good) = match output {
            Output::Place { id, segment, epoch, full, sharded } => {
                (id, self.place(segment, &epoch, &full, &sharded))
            }
            Output::Gather { id, sector } => {
                let is_good = (0..sector.history_size).all(|segment| self.can_read(segment));
                let disturbed_at = self.processes[member].disturbed_at;
                self.ledger.gather((member, run), sector, is_good, disturbed_at, self.now);
                (id, is_good)
            }
            Output::Copy { id, server, sector } => {
                let has_it = |server: usize| self.processes[server].disk.staged.contains(&sector);
                (id, self.reachable(server).is_some_and(has_it))
            }
            _ => return,
        };
        self.answer_exchange(member, run, id, is_good);
    }

    fn answer_exchange(&mut self, member: usize, run: u64, id: Id, is_good: bool) {
        let input = if is_good { Input::Done { id } } else { Input::Failed { id } };
        let after = if is_good { Duration::ZERO } else { REQUEST_LIMIT };
        self.plan(after, Happening::Hear { member, run, input });
    }

    /// The process with this id, if it answers requests now.
    fn reachable(&self, id: InstanceId) -> Option<usize> {
        let answers =
            |process: &super::world::Process| process.id == id && process.member.is_some() && !process.paused;
        self.processes.iter().position(answers)
    }

    /// Each piece to its owner or the next one, and to all full caches. Whether each is durable with one that is asked for it first.
    fn place(&mut self, segment: u64, epoch: &Epoch, full: &[InstanceId], sharded: &[InstanceId]) -> bool {
        let owners = Owners::new(epoch);
        let mut is_placed = true;
        for quarter in 0..QUARTERS {
            let mut in_full = false;
            for cache in full.iter().filter_map(|id| self.reachable(*id)).collect::<Vec<_>>() {
                self.processes[cache].disk.pieces.insert((segment, quarter));
                in_full = true;
            }
            let index = segment * PIECES + u64::from(quarter) * (PIECES / u64::from(QUARTERS));
            let owners = owners.of(ItemKind::Piece, index, OWNERS_TRIED);
            let present: Vec<_> = owners.into_iter().filter(|owner| sharded.contains(owner)).collect();
            let taker = present.iter().find_map(|owner| self.reachable(*owner));
            if let Some(cache) = taker {
                self.processes[cache].disk.pieces.insert((segment, quarter));
            }
            is_placed &= if present.is_empty() { in_full } else { taker.is_some() };
        }
        is_placed
    }

    /// Whether all pieces of a segment can be read now, from caches or a spool.
    fn can_read(&self, segment: u64) -> bool {
        let answering =
            || self.processes.iter().filter(|process| process.member.is_some() && !process.paused);
        let in_spool = answering().any(|process| process.disk.spool.contains(&segment));
        let in_cache = |quarter| answering().any(|process| process.disk.pieces.contains(&(segment, quarter)));
        in_spool || (0..QUARTERS).all(in_cache)
    }

    /// Whether all pieces of a segment are durable in caches, whether they run or not.
    pub fn is_placed(&self, segment: u64) -> bool {
        let quarters = self.processes.iter().flat_map(|process| {
            process.disk.pieces.range((segment, 0)..(segment + 1, 0)).map(|(_, quarter)| *quarter)
        });
        quarters.collect::<BTreeSet<_>>().len() == usize::from(QUARTERS)
    }

    /// Whether somebody durable holds a segment.
    pub fn is_held(&self, segment: u64) -> bool {
        self.is_placed(segment) || self.processes.iter().any(|process| process.disk.spool.contains(&segment))
    }
}
