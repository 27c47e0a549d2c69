//! Which segment comes next: to be written, placed, looked for, fetched.

use std::time::Duration;

use super::looks::Stretch;
use super::{FETCH_PATIENCE, FETCH_PATIENCE_ALONE, Live, PLACE_PATIENCE, Segments, Stage};
use crate::lease::Standing;

impl Segments {
    /// The segment in memory that the disk may take now.
    pub(super) fn next_write(&mut self) -> Option<u64> {
        let (now, placing) = (self.now, self.placing);
        let (index, live) = self.live.iter_mut().find(|(index, live)| {
            live.stage == Stage::InMemory && live.retry.due <= now && placing != Some(**index)
        })?;
        live.stage = Stage::Writing;
        Some(*index)
    }

    /// The lowest segment that is to be placed now: history grows from below.
    pub(super) fn next_place(&mut self) -> Option<u64> {
        if self.placing.is_some() || self.caches == 0 {
            return None;
        }
        let index =
            self.live.iter().find(|(index, live)| self.is_to_place(**index, live)).map(|(index, _)| *index);
        self.placing = index;
        index
    }

    fn is_to_place(&self, index: u64, live: &Live) -> bool {
        let is_here = matches!(live.stage, Stage::Spooled | Stage::InMemory);
        let is_mine = self.lease == Standing::Mine
            || !self.held_by_others.contains_key(&index)
            || self.now.saturating_sub(live.since) >= PLACE_PATIENCE;
        is_here && is_mine && live.place.due <= self.now && !self.placed.contains(index)
    }

    /// Whether the caches may be asked now.
    fn may_look(&self) -> bool {
        self.is_store_read && self.lease == Standing::Mine && self.caches > 0
    }

    /// Segments that may be in the caches although nobody knows it.
    pub(super) fn next_look(&mut self) -> Option<Stretch> {
        if !self.may_look() {
            return None;
        }
        let (placed, live, held) = (&self.placed, &self.live, &self.held_by_others);
        // What the node announced is fetched; where that has failed, perhaps since the caches have had it for long, they are asked.
        let is_sought = |index| {
            live.get(&index)
                .is_none_or(|it| it.stage == Stage::Wanted && (!it.is_announced || it.retry.has_failed()))
        };
        let missing_below = |below| {
            let mut index = placed.gap_below(below)?;
            while held.contains_key(&index) || !is_sought(index) {
                index = placed.gap_below(index)?;
            }
            Some(index)
        };
        self.looks.next(self.history?, missing_below, self.now)
    }

    /// What the caches say of a stretch.
    pub(super) fn seen(&mut self, stretch: Stretch, placed: &[u64]) {
        if !self.looks.seen(stretch, self.now) {
            return;
        }
        for &index in placed.iter().filter(|index| stretch.contains(**index)) {
            self.placed.insert(index);
            self.held_by_others.remove(&index);
        }
    }

    /// The segment that is to be fetched now: the newest first, whose pieces are the ones that vanish.
    pub(super) fn next_fetch(&mut self) -> Option<u64> {
        if self.live.values().any(Live::is_in_memory) || !self.has_room() {
            return None;
        }
        let wanted = self.live.iter().rev().find(|(index, live)| self.is_to_fetch(**index, live));
        let index = wanted.map(|(index, _)| *index).or_else(|| self.next_old())?;
        if let Some(live) = self.live.get_mut(&index) {
            live.stage = Stage::Fetching;
        }
        Some(index)
    }

    fn is_to_fetch(&self, index: u64, live: &Live) -> bool {
        let is_held = self.held_by_others.contains_key(&index) && !live.is_distrustful;
        let is_turn = self.now.saturating_sub(live.since) >= self.fetch_patience(index, live);
        // Without its commitment nothing can be verified.
        let is_known = self.history.is_some_and(|history| index < history);
        let is_due = is_turn && live.retry.due <= self.now;
        let is_looked_for = !self.may_look() || self.is_in_no_cache(index, live);
        live.stage == Stage::Wanted && is_known && !is_held && is_due && is_looked_for
    }

    pub(super) fn fetch_patience(&self, index: u64, live: &Live) -> Duration {
        match self.lease {
            _ if live.is_distrustful || live.is_old => Duration::ZERO,
            Standing::Mine if self.is_store_read && self.is_in_no_cache(index, live) => Duration::ZERO,
            Standing::Theirs => FETCH_PATIENCE,
            Standing::Mine | Standing::Unknown => FETCH_PATIENCE_ALONE,
        }
    }

    /// Whether a segment is new, or the caches were asked for it. One that was not announced to this controller has been there for a
    /// while.
    fn is_in_no_cache(&self, index: u64, live: &Live) -> bool {
        live.is_announced || live.is_distrustful || self.looks.has_looked_for(index)
    }

    /// A segment of the backlog, while there is nothing better to do.
    fn next_old(&mut self) -> Option<u64> {
        let is_idle = self.live.iter().all(|(index, live)| self.is_waiting(*index, live));
        // What the caches have already is not fetched for them.
        if !self.may_look() || !self.looks.has_looked() || !is_idle {
            return None;
        }
        let (live, held) = (&self.live, &self.held_by_others);
        let is_skipped = |index| live.contains_key(&index) || held.contains_key(&index);
        let index = self.backlog.next(self.history?, &self.placed, is_skipped, self.now)?;
        self.live.insert(index, Live::new(Stage::Wanted, true, self.now));
        Some(index)
    }

    /// Whether nothing can be done for a segment now.
    fn is_waiting(&self, index: u64, live: &Live) -> bool {
        live.stage == Stage::Wanted && (live.retry.due > self.now || self.held_by_others.contains_key(&index))
    }

    pub(super) fn has_room(&self) -> bool {
        let spooled = self.live.values().filter(|live| live.stage == Stage::Spooled).count();
        spooled < self.spool_max
    }
}
