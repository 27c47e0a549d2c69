//! A farm whose plotting is paused for long: what plot-servers have staged for it keeps no room there.
//!
//! Owns: since when it is paused, and who was told to let go for that reason alone. Never: blame, no attempt has failed.

use super::events::Action;
use super::open::Open;
use super::{FarmJobs, MAX_FOLLOWED};
use crate::ids::InstanceId;
use crate::messages::{PlotPhase, SectorId};
use std::time::Duration;

/// Pause after which staged sectors are given up: a disk that was sick for a moment, or an operator who looks at something, costs no
/// sector. A plot-server has room for few, and would make none for other farms until it believed the plot-client gone.
pub const DISMISS_AFTER: Duration = Duration::from_secs(180);
/// What the servers are told.
const REASON: &str = "the farm's plotting is paused; it is ordered again when the farm goes on";
/// Servers that are remembered: all that the farm follows, more than once.
const MAX_DISMISSED: usize = 8 * MAX_FOLLOWED;

/// Whether the farm is paused.
#[derive(Debug, Default)]
pub(super) struct Pause {
    since: Option<Duration>,
    /// Who was told to let go of which sector, and has not said yet that it did, the latest last.
    dismissed: Vec<(u16, InstanceId)>,
}

impl Pause {
    pub fn set(&mut self, is_paused: bool, now: Duration) {
        self.since = is_paused.then(|| self.since.unwrap_or(now));
    }

    pub fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// When staged sectors are given up.
    pub fn dismisses_at(&self) -> Option<Duration> {
        Some(self.since?.saturating_add(DISMISS_AFTER))
    }

    /// Whether this server was told to let go of the sector; it is remembered no more.
    pub fn was_dismissed(&mut self, sector: u16, server: InstanceId) -> bool {
        let before = self.dismissed.len();
        self.dismissed.retain(|known| *known != (sector, server));
        self.dismissed.len() < before
    }

    fn note(&mut self, sector: u16, server: InstanceId) {
        self.was_dismissed(sector, server);
        self.dismissed.push((sector, server));
        let excess = self.dismissed.len().saturating_sub(MAX_DISMISSED);
        self.dismissed.drain(..excess);
    }
}

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
