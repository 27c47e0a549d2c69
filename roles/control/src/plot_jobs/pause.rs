//! Since when a farm's plotting is paused, and which servers were told to let go of sectors for that reason alone.

use crate::ids::InstanceId;
use std::time::Duration;

/// Pause after which staged sectors are given up: a disk that was sick for a moment, or an operator who looks at something, costs no
/// sector. A plot-server has room for few, and would make none for other farms until it believed the plot-client gone.
pub const DISMISS_AFTER: Duration = Duration::from_secs(180);
/// Servers that are remembered: more than a farm follows at once, several times over.
const MAX_DISMISSED: usize = 128;

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

    /// This server was told to let go of the sector.
    pub fn note(&mut self, sector: u16, server: InstanceId) {
        self.was_dismissed(sector, server);
        self.dismissed.push((sector, server));
        let excess = self.dismissed.len().saturating_sub(MAX_DISMISSED);
        self.dismissed.drain(..excess);
    }
}
