//! What a plot-server's word means for its farm.

use super::events::Action;
use super::open::{OFFER_AGAIN_AFTER, Open};
use super::troubles::Fault;
use super::{FarmJobs, MAX_FOLLOWED, plan};
use crate::ids::InstanceId;
use crate::messages::{PlotPhase, PlotProgress, SectorId};

impl FarmJobs {
    pub(super) fn on_heard(&mut self, progress: PlotProgress, out: &mut Vec<Action>) {
        let PlotProgress { sector, server, phase } = progress;
        // Before the first look nothing is known; a server says everything again.
        let Some(sectors) = self.sectors.as_ref().filter(|_| sector.farm == self.farm.id) else { return };
        let state = sectors.get(usize::from(sector.sector_index)).copied();
        let age = |size| self.age(sector.sector_index, size);
        let is_pulled = self.pulling.is_some_and(|(pulled, _)| pulled.sector_index == sector.sector_index);
        let is_of_use = state.is_some_and(|state| plan::is_of_use(state, sector.history_size, age));
        match phase {
            PlotPhase::Failed { reason } => self.on_failed(sector, server, reason, out),
            PlotPhase::Downloading { .. } | PlotPhase::Encoding { .. } | PlotPhase::Staged { .. }
                if is_pulled =>
            {
                self.on_word_while_pulled(sector, server);
            }
            PlotPhase::Downloading { .. } | PlotPhase::Encoding { .. } if is_of_use => {
                self.on_working(sector, server, out);
            }
            PlotPhase::Staged { sector_size_bytes, checksum } if is_of_use => {
                self.on_staged(sector, server, (sector_size_bytes, checksum), out);
            }
            PlotPhase::Downloading { .. } | PlotPhase::Encoding { .. } | PlotPhase::Staged { .. } => {
                let open = self.open.get(&sector.sector_index);
                if open.is_some_and(|job| job.history_size == sector.history_size) {
                    self.open.remove(&sector.sector_index);
                }
                out.push(self.tell(sector, server, PlotPhase::Stored));
            }
            // Words of plot-clients.
            PlotPhase::Stored | PlotPhase::Refused { .. } | PlotPhase::Wanted => {}
        }
    }

    /// Others will hear when the pull has ended.
    fn on_word_while_pulled(&mut self, sector: SectorId, server: InstanceId) {
        let Some(job) = self.open.get_mut(&sector.sector_index) else { return };
        job.offer_at = self.now + OFFER_AGAIN_AFTER;
        if let Some(staged) = job.staged.as_mut().filter(|staged| staged.server == server) {
            staged.heard_at = self.now;
        }
    }

    fn on_working(&mut self, sector: SectorId, server: InstanceId, out: &mut Vec<Action>) {
        let Some(job) = self.follow(sector) else { return };
        if job.history_size != sector.history_size {
            // An older order: it will be of use if it is staged first.
            return;
        }
        let is_lost = job.staged.as_ref().is_some_and(|staged| staged.server == server);
        if is_lost {
            job.staged = None;
        }
        self.note_heard(sector, server, out);
        self.pause.was_dismissed(sector.sector_index, server);
        self.troubles.is_made_anew(sector.sector_index, Some(server));
    }

    fn on_staged(
        &mut self,
        sector: SectorId,
        server: InstanceId,
        (sector_size_bytes, checksum): (u64, [u8; 32]),
        out: &mut Vec<Action>,
    ) {
        let index = sector.sector_index;
        if self.is_dismissing() {
            return self.dismiss(sector, server, out);
        }
        // It did not hear so, and the farm goes on.
        self.pause.was_dismissed(index, server);
        let is_at_it = self.open.get(&index).is_some_and(|job| job.server == Some(server));
        if !is_at_it && self.troubles.is_refused(index, server) {
            // It did not hear so.
            let reason = self.troubles.reason(index);
            return out.push(self.tell(sector, server, PlotPhase::Refused { reason }));
        }
        let now = self.now;
        let expected = self.farm.sector_bytes;
        let Some(job) = self.follow(sector) else { return };
        if sector_size_bytes != expected {
            let reason =
                format!("{sector_size_bytes} bytes are staged, a sector of this farm has {expected}");
            return self.refuse(sector, server, Fault::Wrong, &reason, out);
        }
        job.is_staged(sector, server, checksum, now);
        self.note_heard(sector, server, out);
    }

    fn on_failed(&mut self, sector: SectorId, server: InstanceId, reason: String, out: &mut Vec<Action>) {
        let index = sector.sector_index;
        let was_dismissed = self.pause.was_dismissed(index, server);
        let Some(job) = self.open.get_mut(&index) else { return };
        if was_dismissed {
            // As it was told. An offer made meanwhile may have met the old job in the queue.
            if job.server.is_none() {
                job.offer_at = self.now;
            }
            return;
        }
        let has_it = job.staged.as_ref().is_some_and(|staged| staged.server == server);
        let is_pulled = self.pulling.is_some_and(|(pulled, from)| pulled == sector && from == server);
        if is_pulled && let Some(staged) = &mut job.staged {
            // The pull ends by itself, perhaps well.
            staged.lost = Some(reason);
            return;
        }
        // A late word about an attempt that has ended is of one who was noted then; if it is not, it will be silent now.
        let is_at_it = match job.server {
            Some(at_it) => at_it == server,
            None => !self.troubles.was_failed_by(index, server),
        };
        let is_pulled = self.pulling.is_some_and(|(pulled, _)| pulled.sector_index == index);
        if job.history_size == sector.history_size && (is_at_it || has_it) && !is_pulled {
            self.fail(sector, server, Fault::Nothing, &reason, out);
        }
    }

    /// The open job of a sector that a server has begun; taken up if it was ordered by an earlier run, or was believed lost.
    fn follow(&mut self, sector: SectorId) -> Option<&mut Open> {
        let index = sector.sector_index;
        if !self.open.contains_key(&index) {
            if self.open.len() >= MAX_FOLLOWED {
                return None;
            }
            let attempt = self.troubles.failures(index).saturating_add(1);
            let job = Open::new(sector.history_size, attempt, self.now + OFFER_AGAIN_AFTER);
            self.open.insert(index, job);
        }
        self.open.get_mut(&index)
    }

    fn note_heard(&mut self, sector: SectorId, server: InstanceId, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(job) = self.open.get_mut(&sector.sector_index) else { return };
        job.offer_at = now + OFFER_AGAIN_AFTER;
        job.server = Some(server);
        if job.is_to_tell(server, now) {
            out.push(self.tell(sector, server, PlotPhase::Wanted));
        }
    }
}
