//! A job that is open: offered, worked on, staged or pulled.

use crate::ids::InstanceId;
use crate::messages::SectorId;
use std::time::Duration;

/// Pulls of one staged sector that may fail before it is given up, some five minutes later: the way to that server may be broken
/// for good, and its disk is for others too.
pub const PULLS: u16 = 6;
/// How often a server that works on a sector is told that somebody wants it; it gives up much later.
pub const WANTED_EVERY: Duration = Duration::from_secs(20);
/// Silence of a job after which it is offered again; that is refused while it still waits or is worked on. An offer that was refused so is
/// made again sooner.
pub const OFFER_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// First pause after an offer that met the job in the queue while no server is at it, the same farm's job of before perhaps; doubles up to
/// [`OFFER_AGAIN_AFTER`].
const FIRST_MEETING_PAUSE: Duration = Duration::from_secs(1);
/// Silence of a server after which another one that has the sector too is pulled from.
pub const HOLDER_SILENT_AFTER: Duration = Duration::from_secs(30);

/// A job that is open.
#[derive(Debug, Clone)]
pub(super) struct Open {
    /// History size it was ordered for, or that of what is staged.
    pub history_size: u64,
    /// Which attempt in a row.
    pub attempt: u16,
    /// When it is offered (again), if nothing is heard before.
    pub offer_at: Duration,
    /// The server that was heard last to work on it.
    pub server: Option<InstanceId>,
    /// What is to be pulled.
    pub staged: Option<Staged>,
    /// Whom it was told last that the sector is wanted, and when.
    pub told: Option<(InstanceId, Duration)>,
    /// Pause after the next offer that meets the job in the queue.
    meeting_pause: Duration,
}

/// A sector that waits at a plot-server.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    pub sector: SectorId,
    pub server: InstanceId,
    pub checksum: [u8; 32],
    /// Pulls that failed.
    pub failures: u16,
    pub pull_at: Duration,
    pub heard_at: Duration,
    /// Why the server has it no more, said during a pull.
    pub lost: Option<String>,
}

impl Open {
    pub fn new(history_size: u64, attempt: u16, offer_at: Duration) -> Self {
        let meeting_pause = FIRST_MEETING_PAUSE;
        Self { history_size, attempt, offer_at, server: None, staged: None, told: None, meeting_pause }
    }

    /// How long after an offer that met the job in the queue it is offered again.
    pub fn meeting_pause(&mut self) -> Duration {
        let pause = self.meeting_pause;
        self.meeting_pause = (2 * pause).min(OFFER_AGAIN_AFTER);
        pause
    }

    /// Notes that a server has the sector, unless another one has it that does well.
    pub fn is_staged(&mut self, sector: SectorId, server: InstanceId, checksum: [u8; 32], now: Duration) {
        let (mut failures, mut pull_at) = (0, now);
        if let Some(known) = &mut self.staged {
            let is_quiet = now.saturating_sub(known.heard_at) >= HOLDER_SILENT_AFTER;
            if known.server != server && known.failures == 0 && !is_quiet {
                return;
            }
            if known.server == server {
                failures = known.failures;
            }
            // Whoever it is from, pulls keep their pauses.
            pull_at = known.pull_at;
        }
        self.history_size = sector.history_size;
        self.staged = Some(Staged { sector, server, checksum, failures, pull_at, heard_at: now, lost: None });
    }

    /// Whether the server is to be told now that the sector is wanted.
    pub fn is_to_tell(&mut self, server: InstanceId, now: Duration) -> bool {
        let is_told =
            |(whom, at): (InstanceId, Duration)| whom == server && now.saturating_sub(at) < WANTED_EVERY;
        let is_due = !self.told.is_some_and(is_told);
        if is_due {
            self.told = Some((server, now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot_jobs::troubles::pause;

    #[test]
    fn a_staged_sector_is_given_up_after_about_five_minutes() {
        let all: Duration = (1..PULLS).map(pause).sum();
        assert_eq!(all, Duration::from_secs(310));
    }
}
