//! Attempts that failed: when a sector is tried again, who failed it, and why.
//!
//! Owns: the spacing of attempts, and which plot-servers are to be avoided. Never: whether a sector is wanted.

use crate::ids::InstanceId;
use crate::messages::{MAX_AVOIDED_SERVERS, bounded_text};
use std::collections::BTreeMap;
use std::time::Duration;

/// Pause after the first failure; it doubles with each.
pub const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Longest pause: whatever is broken, this many seconds after it works again the sector is tried.
pub const MAX_PAUSE: Duration = Duration::from_secs(600);
/// Sectors that may wait for their next attempt before no others are begun: when everything fails, a farm costs the cluster these
/// attempts in [`MAX_PAUSE`], and a few sectors of bad luck leave the rest alone.
pub const MAX_WAITING: usize = 16;
/// How long a plot-server that failed is avoided: a restart under another id, or an operator, is quicker.
pub const AVOID_FOR: Duration = Duration::from_secs(30 * 60);

/// Pause after so many failures in a row: 10 s doubling to 10 min.
pub fn pause(failures: u16) -> Duration {
    let doublings = u32::from(failures.saturating_sub(1)).min(16);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(MAX_PAUSE)
}

/// A sector whose attempts have failed.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// Failures in a row.
    pub failures: u16,
    /// When it may be tried again.
    pub retry_at: Duration,
    /// Why the last attempt failed.
    pub reason: String,
    failed_at: Duration,
    failed_by: Failed,
    /// Who was told that what it has staged is no good, and has not begun anew since as far as was heard.
    refused: Vec<InstanceId>,
}

/// Plot-servers that failed, and when; the latest last, at most [`MAX_AVOIDED_SERVERS`].
#[derive(Debug, Clone, Default)]
struct Failed(Vec<(InstanceId, Duration)>);

impl Failed {
    fn note(&mut self, server: InstanceId, now: Duration) {
        self.forget(server);
        self.0.push((server, now));
        let excess = self.0.len().saturating_sub(MAX_AVOIDED_SERVERS);
        self.0.drain(..excess);
    }

    fn forget(&mut self, server: InstanceId) {
        self.0.retain(|(known, _)| *known != server);
    }

    fn since(&self, then: Option<Duration>) -> impl Iterator<Item = InstanceId> {
        let is_recent = move |(_, at): &&(InstanceId, Duration)| then.is_none_or(|then| *at > then);
        self.0.iter().rev().filter(is_recent).map(|(server, _)| *server)
    }
}

/// What a plot-server did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It made nothing, or what it made could not be fetched.
    Nothing,
    /// It made something else than what was ordered: no sector of this farm is to come from it.
    Wrong,
}

/// All that a farm remembers of failures: of at most [`MAX_WAITING`] sectors and those under way.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    sectors: BTreeMap<u16, Trouble>,
    wrong: Failed,
}

impl Troubles {
    /// Notes a failed attempt; gives how many that are in a row, and the pause until the next.
    pub fn failed(
        &mut self,
        sector: u16,
        server: InstanceId,
        fault: Fault,
        reason: &str,
        now: Duration,
    ) -> (u16, Duration) {
        let none = || Trouble {
            failures: 0,
            retry_at: now,
            reason: String::new(),
            failed_at: now,
            failed_by: Failed::default(),
            refused: Vec::new(),
        };
        let trouble = self.sectors.entry(sector).or_insert_with(none);
        trouble.failures = trouble.failures.saturating_add(1);
        let pause = pause(trouble.failures);
        (trouble.failed_at, trouble.retry_at) = (now, now + pause);
        trouble.reason = bounded_text(reason);
        trouble.failed_by.note(server, now);
        if fault == Fault::Wrong {
            self.wrong.note(server, now);
        }
        (trouble.failures, pause)
    }

    /// Notes that `server` was told to let go of what it has staged of a sector in trouble.
    pub fn refused(&mut self, sector: u16, server: InstanceId) {
        let Some(trouble) = self.sectors.get_mut(&sector) else { return };
        trouble.refused.retain(|known| *known != server);
        trouble.refused.push(server);
        let excess = trouble.refused.len().saturating_sub(MAX_AVOIDED_SERVERS);
        trouble.refused.drain(..excess);
    }

    /// Whether what `server` has staged is known to be no good.
    pub fn is_refused(&self, sector: u16, server: InstanceId) -> bool {
        self.sectors.get(&sector).is_some_and(|trouble| trouble.refused.contains(&server))
    }

    /// `server`, or anybody, makes the sector: what it stages from now on is new.
    pub fn is_made_anew(&mut self, sector: u16, server: Option<InstanceId>) {
        if let Some(trouble) = self.sectors.get_mut(&sector) {
            trouble.refused.retain(|known| server.is_some_and(|server| *known != server));
        }
    }

    /// The sector came, from `server`.
    pub fn succeeded(&mut self, sector: u16, server: InstanceId) {
        self.sectors.remove(&sector);
        self.wrong.forget(server);
    }

    /// The sector is wanted no more.
    pub fn retain(&mut self, is_wanted: impl Fn(u16) -> bool) {
        self.sectors.retain(|sector, _| is_wanted(*sector));
    }

    /// A longer history: sectors are made of other pieces, so counting begins anew. The first pause is kept.
    pub fn history_grew(&mut self) {
        for trouble in self.sectors.values_mut() {
            trouble.failures = 0;
            trouble.retry_at = trouble.retry_at.min(trouble.failed_at + FIRST_PAUSE);
        }
    }

    /// Failures of the sector in a row, zero for one without trouble.
    pub fn failures(&self, sector: u16) -> u16 {
        self.sectors.get(&sector).map_or(0, |trouble| trouble.failures)
    }

    /// Why the last attempt failed.
    pub fn reason(&self, sector: u16) -> String {
        self.sectors.get(&sector).map(|trouble| trouble.reason.clone()).unwrap_or_default()
    }

    /// When the sector may be tried again; none = it has no trouble.
    pub fn retry_at(&self, sector: u16) -> Option<Duration> {
        self.sectors.get(&sector).map(|trouble| trouble.retry_at)
    }

    /// Whether this sector was failed by that server lately.
    pub fn was_failed_by(&self, sector: u16, server: InstanceId) -> bool {
        let trouble = self.sectors.get(&sector);
        trouble.is_some_and(|trouble| trouble.failed_by.since(None).any(|known| known == server))
    }

    /// Who is to be avoided for a sector, the latest to fail it first.
    pub fn avoid(&self, sector: u16, now: Duration) -> Vec<InstanceId> {
        let then = now.checked_sub(AVOID_FOR);
        let of_sector =
            self.sectors.get(&sector).into_iter().flat_map(|trouble| trouble.failed_by.since(then));
        let mut avoid = Vec::new();
        for server in of_sector.chain(self.wrong.since(then)) {
            if avoid.len() < MAX_AVOIDED_SERVERS && !avoid.contains(&server) {
                avoid.push(server);
            }
        }
        avoid
    }

    /// All of them, by sector.
    pub fn all(&self) -> impl Iterator<Item = (u16, &Trouble)> {
        self.sectors.iter().map(|(sector, trouble)| (*sector, trouble))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(10_000);

    fn server(number: u8) -> InstanceId {
        InstanceId([number; 16])
    }

    #[test]
    fn pauses_double_from_ten_seconds_to_ten_minutes() {
        let seconds = [1, 2, 3, 4, 5, 6, 7, 8, u16::MAX].map(|failures| pause(failures).as_secs());
        assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
    }

    #[test]
    fn who_fails_one_sector_is_avoided_there_and_who_makes_a_wrong_one_everywhere() {
        let mut troubles = Troubles::default();
        troubles.failed(1, server(1), Fault::Nothing, "no piece", NOW);
        troubles.failed(1, server(2), Fault::Wrong, "bad", NOW);
        assert_eq!(troubles.avoid(1, NOW), [server(2), server(1)]);
        assert_eq!(troubles.avoid(7, NOW), [server(2)]);
        assert_eq!(troubles.avoid(1, NOW + AVOID_FOR), []);
        troubles.succeeded(7, server(2));
        assert_eq!(troubles.avoid(7, NOW), []);
        for number in 0..100 {
            troubles.failed(2, server(number), Fault::Wrong, "bad", NOW);
            troubles.refused(2, server(number));
        }
        let latest = troubles.avoid(2, NOW);
        assert_eq!((latest.len(), latest[0]), (MAX_AVOIDED_SERVERS, server(99)));
        assert!(troubles.is_refused(2, server(99)) && !troubles.is_refused(2, server(0)));
    }

    #[test]
    fn a_longer_history_begins_to_count_anew_and_keeps_the_first_pause() {
        let mut troubles = Troubles::default();
        for _ in 0..5 {
            troubles.failed(1, server(1), Fault::Nothing, "no piece", NOW);
        }
        assert_eq!(troubles.retry_at(1), Some(NOW + Duration::from_secs(160)));
        troubles.history_grew();
        assert_eq!((troubles.retry_at(1), troubles.failures(1)), (Some(NOW + FIRST_PAUSE), 0));
    }
}
