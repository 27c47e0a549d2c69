//! What fails at present when a farm's sectors are plotted, for operators: a sector is named until it is stored.
//!
//! Owns: the last failure of each sector that is not stored since. Never: when a sector is tried again, or by whom.

use control::plot_jobs::Note;
use std::collections::BTreeMap;

/// Sectors that are remembered: a farm begins no others when a quarter of these wait for their next attempt.
const MAX_SECTORS: usize = 64;

/// Failures of one farm.
#[derive(Debug, Default)]
pub struct Failing {
    sectors: BTreeMap<u16, String>,
    /// The sector that failed last.
    last: Option<u16>,
}

impl Failing {
    /// Takes in what is told of plotting.
    pub fn note(&mut self, note: &Note) {
        match note {
            Note::Failed { sector, server, failures, reason, .. } => {
                self.failed(sector.sector_index, format!("{failures} times, last by {server}: {reason}"));
            }
            Note::PullFailed { sector, server, reason, .. } => {
                self.failed(sector.sector_index, format!("fetching it from {server}: {reason}"));
            }
            Note::NotOffered { sector, reason } => self.failed(sector.sector_index, reason.clone()),
            Note::Stored { sector } => {
                self.sectors.remove(&sector.sector_index);
                self.last = self.last.filter(|last| *last != sector.sector_index);
            }
            Note::Offered { .. } => {}
        }
    }

    fn failed(&mut self, sector: u16, reason: String) {
        self.sectors.insert(sector, reason);
        self.last = Some(sector);
        while self.sectors.len() > MAX_SECTORS {
            let Some(other) = self.sectors.keys().copied().find(|other| *other != sector) else { return };
            self.sectors.remove(&other);
        }
    }

    /// Sectors that fail.
    pub fn count(&self) -> usize {
        self.sectors.len()
    }

    /// The sector that failed last, or else the first, with the reason; empty where none fails.
    pub fn reason(&self) -> String {
        let sector = self.last.or_else(|| self.sectors.keys().next().copied());
        let reason = sector.and_then(|sector| Some((sector, self.sectors.get(&sector)?)));
        reason.map(|(sector, reason)| format!("sector {sector}: {reason}")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::ids::{FarmId, InstanceId};
    use control::messages::SectorId;
    use std::time::Duration;

    fn sector(sector_index: u16) -> SectorId {
        SectorId { farm: FarmId([1; 16]), sector_index, history_size: 1 }
    }

    fn failed(index: u16, reason: &str) -> Note {
        let (server, pause) = (InstanceId([2; 16]), Duration::from_secs(1));
        Note::Failed { sector: sector(index), server, failures: 3, reason: reason.into(), pause }
    }

    #[test]
    fn a_sector_fails_until_it_is_stored_and_the_last_reason_is_told() {
        let mut failing = Failing::default();
        assert_eq!((failing.count(), failing.reason()), (0, String::new()));
        failing.note(&failed(1, "no piece"));
        failing.note(&failed(2, "no room"));
        failing.note(&failed(2, "no memory"));
        assert_eq!(failing.count(), 2);
        let reason = failing.reason();
        assert!(reason.starts_with("sector 2: 3 times") && reason.ends_with("no memory"), "{reason}");
        failing.note(&Note::Stored { sector: sector(2) });
        assert!(failing.count() == 1 && failing.reason().ends_with("no piece"));
        failing.note(&Note::Stored { sector: sector(1) });
        assert_eq!((failing.count(), failing.reason()), (0, String::new()));
        (0..1000).for_each(|index| failing.note(&failed(index, "nobody")));
        assert!(failing.count() == MAX_SECTORS && failing.reason().starts_with("sector 999: "));
    }
}
