//! A farm whose plotting is paused for long: what plot-servers have staged for it keeps no room there. Never: blame, no attempt has failed.

use super::FarmJobs;
use super::events::Action;
use super::open::Open;
use crate::ids::InstanceId;
use crate::messages::{PlotPhase, SectorId};

/// What the servers are told.
const REASON: &str = "the farm's plotting is paused; it is ordered again when the farm goes on";

impl FarmJobs {
    /// Whether what is staged is given up.
    pub(super) fn is_dismissing(&self) -> bool {
        self.pause.dismisses_at().is_some_and(|at| at <= self.now)
    }

    /// Gives up what is staged and not being pulled.
    pub(super) fn dismiss_staged(&mut self, out: &mut Vec<Action>) {
        let pulled = self.pulling.map(|(sector, _)| sector.sector_index);
        let staged = self.open.iter().filter(|(sector, _)| Some(**sector) != pulled);
        let staged = staged.filter_map(|(_, job): (_, &Open)| job.staged.as_ref());
        for (sector, server) in staged.map(|staged| (staged.sector, staged.server)).collect::<Vec<_>>() {
            self.dismiss(sector, server, out);
        }
    }

    /// Tells a server to let go of a sector; its job is over, and nobody failed.
    pub(super) fn dismiss(&mut self, sector: SectorId, server: InstanceId, out: &mut Vec<Action>) {
        self.open.remove(&sector.sector_index);
        self.pause.note(sector.sector_index, server);
        out.push(self.tell(sector, server, PlotPhase::Refused { reason: REASON.to_owned() }));
    }
}
