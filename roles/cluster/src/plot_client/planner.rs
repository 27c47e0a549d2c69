//! Which sectors a farm is to plot, and what to say of a sector that a plot-server has staged. Pure decisions.

use engine::farm::SectorStatus;
use std::collections::BTreeMap;

/// Jobs that a farm has open at most.
pub const MAX_OPEN_JOBS: usize = 2;

/// Why a sector is to be plotted; the first most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Nothing is there.
    NotPlotted,
    /// It cannot be read, or was marked for replotting.
    Damaged,
    /// The chain takes no solutions of it any more.
    Expired,
    /// It expires with the next segment.
    AboutToExpire,
}

/// How long a plotted sector lives, at the present history size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It does not expire yet, or the segment that decides it does not exist.
    Good,
    /// It expires with the next segment.
    AboutToExpire,
    /// It has expired.
    Expired,
}

impl Life {
    /// Of a sector that expires at history size `expires_at` (PROTOCOL 5.1; none = arithmetic overflow, which no valid sector has),
    /// when the history has `history_size` segments (PROTOCOL 7, expiry handling).
    pub fn of(expires_at: Option<u64>, history_size: u64) -> Self {
        match expires_at {
            None => Self::Expired,
            Some(at) if at <= history_size => Self::Expired,
            Some(at) if at <= history_size.saturating_add(1) => Self::AboutToExpire,
            Some(_) => Self::Good,
        }
    }
}

/// What is to become of a sector, if anything.
pub fn reason(status: SectorStatus, life: impl FnOnce(u64) -> Life) -> Option<Reason> {
    match status {
        SectorStatus::NotPlotted => Some(Reason::NotPlotted),
        SectorStatus::Expired => Some(Reason::Damaged),
        SectorStatus::BeingWritten => None,
        SectorStatus::Plotted { history_size } => match life(history_size) {
            Life::Good => None,
            Life::AboutToExpire => Some(Reason::AboutToExpire),
            Life::Expired => Some(Reason::Expired),
        },
    }
}

/// The sectors to offer now, most urgent first, so that the farm has at most [`MAX_OPEN_JOBS`] open. `life` judges a plotted sector
/// by its number and history size.
pub fn next_jobs<V>(
    statuses: &[SectorStatus],
    open: &BTreeMap<u16, V>,
    life: impl Fn(u16, u64) -> Life,
) -> Vec<(u16, Reason)> {
    let room = MAX_OPEN_JOBS.saturating_sub(open.len());
    let of = |(sector, status): (u16, &SectorStatus)| {
        reason(*status, |history_size| life(sector, history_size)).map(|reason| (sector, reason))
    };
    let mut wanted: Vec<_> =
        (0..).zip(statuses).filter(|(sector, _)| !open.contains_key(sector)).filter_map(of).collect();
    wanted.sort_by_key(|&(sector, reason)| (reason, sector));
    wanted.truncate(room);
    wanted
}

/// What to do about a sector that a plot-server has staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStaged {
    /// Fetch it.
    Pull,
    /// It is of no use (any more): the server may let it go.
    LetGo,
    /// Another plotting of this sector is being written: the server will say so again.
    Later,
}

/// Decides about a sector of `staged` history size; `life` judges a history size.
pub fn on_staged(status: SectorStatus, staged: u64, life: impl Fn(u64) -> Life) -> OnStaged {
    if life(staged) != Life::Good {
        return OnStaged::LetGo;
    }
    match status {
        SectorStatus::BeingWritten => OnStaged::Later,
        SectorStatus::Plotted { history_size } if life(history_size) == Life::Good => OnStaged::LetGo,
        _ => OnStaged::Pull,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SectorStatus::{BeingWritten, Expired, NotPlotted};

    fn plotted(history_size: u64) -> SectorStatus {
        SectorStatus::Plotted { history_size }
    }

    /// Sectors live 10 segments, the history has 20.
    fn life(history_size: u64) -> Life {
        Life::of(Some(history_size + 10), 20)
    }

    fn next(statuses: &[SectorStatus], open: &[u16]) -> Vec<(u16, Reason)> {
        let open = open.iter().map(|&sector| (sector, ())).collect();
        next_jobs(statuses, &open, |_, history_size| life(history_size))
    }

    #[test]
    fn expiry_follows_the_protocol() {
        assert_eq!(Life::of(Some(20), 20), Life::Expired);
        assert_eq!(Life::of(Some(19), 20), Life::Expired);
        assert_eq!(Life::of(Some(21), 20), Life::AboutToExpire);
        assert_eq!(Life::of(Some(22), 20), Life::Good);
        assert_eq!(Life::of(None, 1), Life::Expired);
        assert_eq!(Life::of(Some(u64::MAX), u64::MAX), Life::Expired);
    }

    #[test]
    fn two_jobs_are_open_and_the_most_urgent_come_first() {
        let statuses = [plotted(11), plotted(15), plotted(3), Expired, NotPlotted, NotPlotted];
        assert_eq!(next(&statuses, &[]), [(4, Reason::NotPlotted), (5, Reason::NotPlotted)]);
        assert_eq!(next(&statuses, &[4]), [(5, Reason::NotPlotted)]);
        assert_eq!(next(&statuses, &[4, 5]), []);
        assert_eq!(next(&statuses[..4], &[]), [(3, Reason::Damaged), (2, Reason::Expired)]);
        assert_eq!(next(&statuses[..3], &[]), [(2, Reason::Expired), (0, Reason::AboutToExpire)]);
        assert_eq!(next(&[plotted(15), BeingWritten], &[]), []);
    }

    #[test]
    fn a_staged_sector_is_fetched_only_when_it_is_of_use() {
        for status in [NotPlotted, Expired, plotted(3), plotted(11)] {
            assert_eq!(on_staged(status, 20, life), OnStaged::Pull, "{status:?}");
            assert_eq!(on_staged(status, 11, life), OnStaged::LetGo, "too old");
        }
        assert_eq!(on_staged(plotted(15), 20, life), OnStaged::LetGo, "good already");
        assert_eq!(on_staged(plotted(20), 20, life), OnStaged::LetGo, "this very one");
        assert_eq!(on_staged(BeingWritten, 20, life), OnStaged::Later);
    }
}
