//! What members do with each other's help and without the bus: pieces into caches and out of them, sectors from servers to farms.

use super::disk::Disk;
use super::keeping::{CURRENT, EPOCHS};
use super::member::{Id, Input, Output, ReplyTo};
use super::world::{Happening, Process, World};
use consensus::piece_set::PieceSet;
use control::ids::InstanceId;
use control::messages::{Control, Epoch, HoldingsAnswer, HoldingsRequest, ItemKind};
use control::rendezvous::{OWNERS_TRIED, Owners};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How long a request to somebody who does not answer takes.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Pieces of a segment.
const PIECES: u64 = 256;

impl World {
    pub(super) fn act_with_others(&mut self, member: usize, run: u64, output: Output) {
        let is_small = matches!(output, Output::PullPiece { .. });
        let takes = if is_small { self.random.millis(5, 60) } else { self.random.millis(300, 2500) };
        self.plan(takes, Happening::Exchange { member, run, output: Box::new(output) });
    }

    /// It has taken its time: this is what came of it.
    pub(super) fn exchange(&mut self, member: usize, run: u64, output: Output) {
        let process = &self.processes[member];
        if process.run != run || process.member.is_none() {
            if let Output::Place { segment, epoch, full, sharded, .. } = output {
                // It was killed while it brought them.
                let pieces = self.random.below(PIECES) as u8;
                self.place(segment, 0..=pieces, &epoch, &full, &sharded);
            }
            return;
        }
        let (id, is_good) = match output {
            Output::Place { id, segment, epoch, full, sharded } => {
                (id, self.place(segment, 0..=u8::MAX, &epoch, &full, &sharded))
            }
            Output::PullPiece { id, index, from } => (id, self.pull(member, index, &from)),
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
    fn place(
        &mut self,
        segment: u64,
        positions: RangeInclusive<u8>,
        epoch: &Epoch,
        full: &[InstanceId],
        sharded: &[InstanceId],
    ) -> bool {
        let (owners, mut is_placed) = (Owners::new(epoch), true);
        let full: Vec<_> = full.iter().filter_map(|id| self.reachable(*id)).collect();
        let reachable: BTreeMap<_, _> =
            sharded.iter().filter_map(|id| Some((*id, self.reachable(*id)?))).collect();
        for position in positions {
            for &cache in &full {
                self.processes[cache].disk.pieces.entry(segment).or_default().insert(position);
            }
            let owners = owners.of(ItemKind::Piece, segment * PIECES + u64::from(position), OWNERS_TRIED);
            let takers: Vec<_> = owners.iter().filter_map(|owner| reachable.get(owner)).collect();
            let takers = &takers[..takers.len().min(epoch.copies.max(1).into())];
            for &&cache in takers {
                self.processes[cache].disk.pieces.entry(segment).or_default().insert(position);
            }
            is_placed &= takers.len() + full.len() >= usize::from(epoch.copies.max(1));
        }
        is_placed
    }

    /// A piece comes from the first that has it and answers: a cache, or a controller that has its segment in the spool.
    fn pull(&mut self, member: usize, index: u64, from: &[InstanceId]) -> bool {
        let (segment, position) = (index / PIECES, (index % PIECES) as u8);
        let has_it = |disk: &Disk| {
            let in_store = disk.pieces.get(&segment).is_some_and(|set| set.contains(position));
            in_store || disk.spool.contains(&segment)
        };
        let is_given =
            from.iter().any(|id| self.reachable(*id).is_some_and(|it| has_it(&self.processes[it].disk)));
        if is_given {
            self.processes[member].disk.pieces.entry(segment).or_default().insert(position);
        }
        is_given
    }

    /// A cache lets a piece go: another must have it.
    pub(super) fn remove_piece(&mut self, member: usize, index: u64) {
        let (segment, position) = (index / PIECES, (index % PIECES) as u8);
        if let Some(set) = self.processes[member].disk.pieces.get_mut(&segment) {
            set.remove(position);
        }
        let has_it =
            |process: &Process| process.disk.pieces.get(&segment).is_some_and(|set| set.contains(position));
        let is_kept = self.processes.iter().any(has_it);
        self.ledger.check(is_kept, || format!("the last copy of piece {index} was let go"));
    }

    /// What caches do not hold and should, or hold and should not, by the epoch that the store has.
    pub fn misplaced(&mut self, history: u64) -> Vec<String> {
        let epoch = self.jetstream.bucket(EPOCHS).get(CURRENT, false);
        let Some(epoch) = epoch.and_then(|(value, _)| Epoch::from_bytes(&value).ok()) else {
            return Vec::new();
        };
        let (owners, mut wrong) = (Owners::new(&epoch), Vec::new());
        for process in self.processes.iter().filter(|it| it.member.is_some() && it.name.contains("cache")) {
            let is_full = process.name.contains("full");
            let held = |segment, position| {
                process.disk.pieces.get(&segment).is_some_and(|set: &PieceSet| set.contains(position))
            };
            let is_wrong = |index: &u64| {
                let is_its = is_full || owners.of_piece(*index).contains(&process.id);
                is_its != held(index / PIECES, (index % PIECES) as u8)
            };
            let count = (0..history * PIECES).filter(is_wrong).count();
            if count > 0 {
                wrong.push(format!("{} holds {count} pieces too few or too many", process.name));
            }
        }
        wrong
    }

    /// A cache says what it has.
    pub(super) fn tell_holdings(&mut self, member: usize, to: ReplyTo, request: &HoldingsRequest) {
        let held = &self.processes[member].disk.pieces;
        let highest = held.last_key_value().map(|(segment, _)| *segment);
        let segments = (request.from_segment..).take(request.segments.into());
        let pieces = segments.map(|it| held.get(&it).copied().unwrap_or_default().to_bytes()).collect();
        let answer = HoldingsAnswer::Held { highest, pieces };
        self.reply(member, to, answer.to_bytes().unwrap());
    }

    /// Whether all pieces of a segment can be read now, from caches or a spool.
    fn can_read(&self, segment: u64) -> bool {
        let answering =
            || self.processes.iter().filter(|process| process.member.is_some() && !process.paused);
        let in_spool = answering().any(|process| process.disk.spool.contains(&segment));
        in_spool || all_pieces(answering(), segment).is_full()
    }

    /// Whether all pieces of a segment are durable in caches, whether they run or not.
    pub fn is_placed(&self, segment: u64) -> bool {
        all_pieces(self.processes.iter(), segment).is_full()
    }

    /// Whether somebody durable holds a segment.
    pub fn is_held(&self, segment: u64) -> bool {
        self.is_placed(segment) || self.processes.iter().any(|process| process.disk.spool.contains(&segment))
    }
}

/// The pieces of a segment that some of these have.
fn all_pieces<'a>(of: impl Iterator<Item = &'a Process>, segment: u64) -> PieceSet {
    let sets = of.filter_map(|process| process.disk.pieces.get(&segment));
    sets.fold(PieceSet::EMPTY, |all, set| all.union(set))
}
