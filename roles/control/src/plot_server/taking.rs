//! Whether this server does a job that the queue gave it.

use crate::ids::InstanceId;
use crate::messages::PlotJob;
use std::time::Duration;

/// Deliveries of a job after which a server makes a sector that another is said to hold.
pub const LEAVE_TO_HOLDER: u64 = 3;
/// Deliveries after which a server takes a job that wants others: those that there are have no place for it.
pub const LEAVE_FOR_AVOIDED: u64 = 20;
/// Deliveries after which a job goes back to its client: perhaps it ends each server that takes it.
pub const MAX_DELIVERIES: u64 = 64;
/// How soon a job comes again for which there was no room here.
pub const LEAVE_FOR: Duration = Duration::from_secs(10);
/// How soon a job comes again that wants others.
pub const LEAVE_AVOIDED_FOR: Duration = Duration::from_secs(2);
/// How long the server that left it looks at no job then: it would be the first to see that one again, before servers that look at this
/// queue only now and then.
pub const LOOK_AWAY_FOR: Duration = Duration::from_secs(4);
/// How soon a job comes again whose sector another server has: its own clock has run off by then, and it tells so.
pub const LEAVE_HELD_FOR: Duration = Duration::from_secs(30);

/// What the server knows when it takes a job.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Its own id.
    pub own: InstanceId,
    /// The plot-servers that are present; with or without itself.
    pub servers: &'a [InstanceId],
    /// How many times the queue has given the job to anybody, this one included.
    pub deliveries: u64,
    /// What room the sector has under its base path.
    pub room: Room,
}

/// What room a sector has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Enough.
    Enough,
    /// Enough once others are fetched: nothing else is to be taken before.
    NotNow,
    /// Never enough: the sector is larger than all that may be staged. Smaller ones may come after it.
    Never,
}

impl Room {
    /// For `needed_bytes`, where `free_bytes` of at most `limit_bytes` are free.
    pub fn of(needed_bytes: u64, free_bytes: u64, limit_bytes: u64) -> Self {
        if needed_bytes > limit_bytes {
            Self::Never
        } else if needed_bytes > free_bytes {
            Self::NotNow
        } else {
            Self::Enough
        }
    }
}

/// What becomes of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taking {
    /// It is done here.
    Here,
    /// It is given back to the queue for others.
    Leave {
        /// When it may come again.
        after: Duration,
        /// How long this server takes no job.
        look_away: Duration,
        /// Why.
        why: &'static str,
    },
    /// Its client is told so, and it is acknowledged.
    Fail(String),
}

/// Decides about a job whose sector is not here.
pub fn judge(job: &PlotJob, around: &Surroundings) -> Taking {
    let Surroundings { own, servers, deliveries, room } = *around;
    let is_held = job.staged_on.is_some_and(|holder| holder != own && servers.contains(&holder));
    let has_others = servers.iter().any(|server| *server != own && !job.avoid.contains(server));
    if deliveries > MAX_DELIVERIES {
        Taking::Fail(format!(
            "the queue gave the job to plot-servers {deliveries} times, and none finished it"
        ))
    } else if is_held && deliveries <= LEAVE_TO_HOLDER {
        Taking::Leave {
            after: LEAVE_HELD_FOR,
            look_away: Duration::ZERO,
            why: "another plot-server has it staged",
        }
    } else if room == Room::Never {
        Taking::Leave {
            after: LEAVE_FOR,
            look_away: LOOK_AWAY_FOR,
            why: "it is larger than all that may be staged here: is --staging-gib too small?",
        }
    } else if room == Room::NotNow {
        Taking::Leave {
            after: LEAVE_FOR,
            look_away: Duration::ZERO,
            why: "there is no room for another staged sector",
        }
    } else if job.avoid.contains(&own) && has_others && deliveries <= LEAVE_FOR_AVOIDED {
        Taking::Leave {
            after: LEAVE_AVOIDED_FOR,
            look_away: LOOK_AWAY_FOR,
            why: "this plot-server failed it lately",
        }
    } else {
        Taking::Here
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::FarmId;
    use crate::messages::{ProtocolInfo, SectorId};

    const OWN: InstanceId = InstanceId([1; 16]);
    const OTHER: InstanceId = InstanceId([2; 16]);

    fn job(staged_on: Option<InstanceId>, avoid: &[InstanceId]) -> PlotJob {
        PlotJob {
            sector: SectorId { farm: FarmId([7; 16]), sector_index: 3, history_size: 42 },
            public_key: [1; 32],
            pieces_in_sector: 10,
            protocol_info: ProtocolInfo {
                history_size: 42,
                max_pieces_in_sector: 10,
                recent_segments: 5,
                recent_history_fraction: (1, 10),
                min_sector_lifetime: 4,
            },
            client: InstanceId([9; 16]),
            staged_on,
            attempt: 1,
            avoid: avoid.to_vec(),
        }
    }

    /// Others look at this group's queue every half second.
    const _: () = assert!(LOOK_AWAY_FOR.as_secs() > LEAVE_AVOIDED_FOR.as_secs());

    fn is_here(job: &PlotJob, servers: &[InstanceId], deliveries: u64) -> bool {
        judge(job, &Surroundings { own: OWN, servers, deliveries, room: Room::Enough }) == Taking::Here
    }

    #[test]
    fn a_job_is_done_by_whoever_has_room() {
        assert!(is_here(&job(None, &[]), &[OWN, OTHER], 1));
        let full = Surroundings { own: OWN, servers: &[], deliveries: 1, room: Room::of(5, 4, 5) };
        let leaves_for_now = |around| {
            matches!(judge(&job(None, &[]), around), Taking::Leave { look_away: Duration::ZERO, .. })
        };
        assert!(leaves_for_now(&full));
        let small = Surroundings { room: Room::of(5, 4, 4), ..full };
        assert!(matches!(judge(&job(None, &[]), &small), Taking::Leave { look_away: LOOK_AWAY_FOR, .. }));
        assert_eq!(Room::of(4, 4, 4), Room::Enough);
    }

    #[test]
    fn a_holder_that_is_there_has_three_deliveries() {
        let held = job(Some(OTHER), &[]);
        assert!(!is_here(&held, &[OTHER], LEAVE_TO_HOLDER));
        assert!(is_here(&held, &[OTHER], LEAVE_TO_HOLDER + 1));
        assert!(is_here(&held, &[OWN], 1), "the holder is gone");
        assert!(is_here(&job(Some(OWN), &[]), &[OWN], 1), "itself");
    }

    #[test]
    fn a_server_that_failed_goes_last_and_alone_it_tries_again() {
        let avoided = job(None, &[OWN]);
        assert!(!is_here(&avoided, &[OWN, OTHER], LEAVE_FOR_AVOIDED));
        assert!(is_here(&avoided, &[OWN, OTHER], LEAVE_FOR_AVOIDED + 1), "the other has no place");
        assert!(is_here(&avoided, &[OWN], 1));
        assert!(is_here(&job(None, &[OWN, OTHER]), &[OWN, OTHER], 1), "all have failed");
        assert!(is_here(&job(None, &[OTHER]), &[OWN, OTHER], 1));
    }

    #[test]
    fn a_job_that_ends_its_servers_goes_back_to_its_client() {
        let around =
            Surroundings { own: OWN, servers: &[], deliveries: MAX_DELIVERIES + 1, room: Room::Enough };
        assert!(matches!(judge(&job(None, &[]), &around), Taking::Fail(_)));
    }
}
