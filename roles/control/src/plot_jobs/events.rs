//! What happens to a farm, and what is to be done.

use super::plan::{Reason, SectorState};
use crate::ids::{FarmId, InstanceId};
use crate::messages::{PlotJob, PlotProgress, ProtocolInfo, SectorId};
use std::time::Duration;

/// A farm, as far as plotting needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farm {
    /// Its name in the cluster.
    pub id: FarmId,
    /// Its public key.
    pub public_key: [u8; 32],
    /// The plot-client that serves it now.
    pub client: InstanceId,
    /// Pieces in each sector.
    pub pieces_in_sector: u16,
    /// Bytes of each sector.
    pub sector_bytes: u64,
}

/// What happens to a farm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The network's settings changed.
    Settings(ProtocolInfo),
    /// The farm was looked over, as [`Action::Look`] asked: every sector in order.
    Looked(Vec<SectorState>),
    /// Its sectors are not what they were: it is looked over at once.
    Changed,
    /// What a segment commits to, as [`Action::AskSegment`] asked.
    Segment {
        /// Its index.
        index: u64,
        /// Compressed point.
        commitment: [u8; 48],
    },
    /// The end of an [`Action::Offer`].
    Offered {
        /// Of which sector.
        sector: SectorId,
        /// What the queue said.
        answer: OfferAnswer,
    },
    /// A plot-server's word, or anybody's who says so.
    Heard(PlotProgress),
    /// The end of an [`Action::Pull`].
    Pulled {
        /// Of which sector.
        sector: SectorId,
        /// From whom.
        server: InstanceId,
        /// How it ended.
        end: PullEnd,
    },
    /// Nothing is to be begun from now on, or again: jobs wait, and keep what they have come to
    /// for [`super::pause::DISMISS_AFTER`].
    Paused(bool),
    /// The queue was made anew, or the bus is there again: jobs may be gone.
    QueueAnew,
    /// Time has passed.
    Tick,
}

/// What became of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfferAnswer {
    /// The job waits for a server now.
    Queued,
    /// It waits or is worked on already.
    AlreadyThere,
    /// The queue did not take it, as far as is known.
    Failed(String),
}

/// How a pull ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEnd {
    /// The sector is durable in the farm.
    Stored,
    /// What is staged is not what was ordered.
    Wrong(String),
    /// It did not come, could not be written, or the task panicked.
    Failed(String),
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Look the farm over; answer with [`Event::Looked`].
    Look,
    /// Read what a segment commits to; answer with [`Event::Segment`], or not at all.
    AskSegment(u64),
    /// Offer a job to the farm's group; answer with [`Event::Offered`].
    Offer(PlotJob),
    /// Fetch a staged sector into its place; answer with [`Event::Pulled`] whatever happens.
    Pull {
        /// Which.
        sector: SectorId,
        /// Who has it.
        server: InstanceId,
        /// The sector's last 32 bytes.
        checksum: [u8; 32],
    },
    /// Tell the plot-server that is named in it.
    Tell(PlotProgress),
    /// Tell people.
    Note(Note),
}

/// What people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A sector is offered.
    Offered {
        /// Which.
        sector: SectorId,
        /// Why it is to be plotted.
        reason: Reason,
        /// Which attempt in a row, from 1.
        attempt: u16,
    },
    /// The queue did not take an offer.
    NotOffered {
        /// Of which sector.
        sector: SectorId,
        /// Why.
        reason: String,
    },
    /// An attempt failed.
    Failed {
        /// Of which sector.
        sector: SectorId,
        /// By whom.
        server: InstanceId,
        /// Failures in a row.
        failures: u16,
        /// Why.
        reason: String,
        /// Pause until the next attempt.
        pause: Duration,
    },
    /// A pull failed, and is tried again.
    PullFailed {
        /// Of which sector.
        sector: SectorId,
        /// From whom.
        server: InstanceId,
        /// Why.
        reason: String,
        /// Pause until the next one.
        pause: Duration,
    },
    /// A sector is on disk.
    Stored {
        /// Which.
        sector: SectorId,
    },
}
