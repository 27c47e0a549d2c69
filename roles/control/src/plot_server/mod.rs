//! What becomes of one sector on this server: decisions alone, without clock, bus or disk.
//!
//! ```text
//!   taken, client there ──────▶ Making ── made ──▶ Staged ── stored ──▶ Over (acknowledged, staging deleted)
//!   taken, client not there ─▶ Asking │                ▲
//!              it is, after all ─▶┘ │ │                └─ found again after a restart, without the queue's message
//!                                   │ └─ failed, without progress for long, a piece that nobody has ─▶ Over (told why, acknowledged)
//!                                   └─ no answer ─▶ Over (acknowledged)
//!   any: stored elsewhere, client gone ─▶ Over (acknowledged)      Staged: unusable ─▶ Over (told why, acknowledged, deleted)
//! ```
//! Owns: when the queue's message is acknowledged, kept or given back, and when work and staging end. Messages may be lost or
//! come twice and the server may die anywhere; whatever happens, a sector ends stored, or with its job back in the queue, or
//! with its client, which offers it anew: it alone spaces attempts and says whom to try next ([`crate::plot_jobs`]).

mod taking;

pub use taking::{LEAVE_FOR_AVOIDED, LEAVE_TO_HOLDER, MAX_DELIVERIES, Room, Surroundings, Taking, judge};

use crate::messages::{PlotPhase, bounded_text};
use std::time::Duration;

/// A client that neither is present nor fetches nor says that it wants the sector for this long is given up.
pub const CLIENT_GONE_AFTER: Duration = Duration::from_secs(15 * 60);
/// A client that is not there when its job is taken has so long to answer; else nothing is made for it. It answers a word at once, and hears
/// several in this time.
pub const CLIENT_ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// Pieces that nobody gives hold a sector's place for so long after anything else of it has moved.
pub const MISSING_PIECES_AFTER: Duration = Duration::from_secs(60);
/// A sector of which nothing moves for this long is given up, whatever it waits for: a record takes seconds on the slowest CPU.
pub const STALLED_AFTER: Duration = Duration::from_secs(10 * 60);

/// What happens to a sector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its job came from the queue again.
    Delivered,
    /// How far the making is.
    Worked {
        /// Pieces that have come.
        pieces: u16,
        /// Records that are encoded.
        records: u16,
        /// A piece that nobody gave when all were asked last, in words.
        missing: Option<String>,
    },
    /// The sector is durable under the base path.
    Made(Made),
    /// It could not be made.
    MakingFailed(String),
    /// What is staged cannot be read, or the client found it bad.
    Unusable(String),
    /// The client has it on disk.
    Stored,
    /// The client is present, says that it wants the sector, or somebody fetches it.
    ClientAlive,
    /// Time has passed.
    Tick,
    /// The server ends.
    Shutdown,
}

/// A staged sector, as the client is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Bytes of the sector.
    pub size_bytes: u64,
    /// BLAKE3 of the sector's bytes before its last 32, which are this.
    pub checksum: [u8; 32],
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Begin to make the sector.
    Make,
    /// Break the making off; nothing of it may stay.
    StopMaking,
    /// Tell the cluster.
    Tell(PlotPhase),
    /// Tell the queue that the job goes on.
    KeepJob,
    /// The job is over for everybody.
    AckJob,
    /// Somebody else may do it.
    GiveJobBack,
    /// Delete what is staged.
    Discard,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Whether anybody wants it.
    Asking,
    Making(Making),
    Staged(Made),
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Making {
    pieces: u16,
    records: u16,
    missing: Option<String>,
    moved_at: Duration,
}

/// One sector's life on this server. Times are since the server's start.
#[derive(Debug)]
pub struct Life {
    phase: Phase,
    pieces_in_sector: u16,
    /// Whether the queue's message is ours to settle.
    has_job: bool,
    client_alive_at: Duration,
}

impl Life {
    /// A job taken from the queue for a sector that is not here. Nothing is made for a client that is not there, until it is.
    pub fn taken(pieces_in_sector: u16, client_is_present: bool, now: Duration) -> (Self, Vec<Action>) {
        let mut life = Self { phase: Phase::Asking, pieces_in_sector, has_job: true, client_alive_at: now };
        let actions = if client_is_present { life.begin(now) } else { life.tell().into_iter().collect() };
        (life, actions)
    }

    /// A sector that an earlier run of the server left staged.
    pub fn found(pieces_in_sector: u16, made: Made, now: Duration) -> (Self, Vec<Action>) {
        let life =
            Self { phase: Phase::Staged(made), pieces_in_sector, has_job: false, client_alive_at: now };
        let tell = life.tell();
        (life, tell.into_iter().collect())
    }

    /// Whether nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether it is being made, or may be at once: it takes one of the server's places.
    pub fn has_place(&self) -> bool {
        matches!(self.phase, Phase::Asking | Phase::Making(_))
    }

    /// Whether it is being made.
    pub fn is_making(&self) -> bool {
        matches!(self.phase, Phase::Making(_))
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        match (&mut self.phase, event) {
            // What was made may have been broken off too late to stop it.
            (Phase::Over, Event::Made(_)) => vec![Action::Discard],
            (Phase::Over, _) => Vec::new(),
            (_, Event::Delivered) => {
                self.has_job = true;
                self.tell().into_iter().collect()
            }
            (phase, Event::ClientAlive) => {
                let is_asking = *phase == Phase::Asking;
                self.client_alive_at = now;
                if is_asking { self.begin(now) } else { Vec::new() }
            }
            (_, Event::Tick) => self.tick(now),
            (_, Event::Stored) => self.end(),
            (Phase::Making(making), Event::Worked { pieces, records, missing }) => {
                if (pieces, records) != (making.pieces, making.records) {
                    making.moved_at = now;
                }
                (making.pieces, making.records, making.missing) = (pieces, records, missing);
                Vec::new()
            }
            (Phase::Making(_), Event::Made(made)) => {
                self.phase = Phase::Staged(made);
                // The client gets its full time from here on, however long the making took.
                self.client_alive_at = now;
                self.tell().into_iter().collect()
            }
            (Phase::Making(_), Event::MakingFailed(reason)) => {
                self.phase = Phase::Over;
                [Some(failed(&reason)), self.ack()].into_iter().flatten().collect()
            }
            (Phase::Asking | Phase::Making(_), Event::Shutdown) => {
                let stop = self.is_making().then_some(Action::StopMaking);
                self.phase = Phase::Over;
                stop.into_iter().chain([Action::GiveJobBack]).collect()
            }
            (_, Event::Unusable(reason)) => self.fail(&reason),
            // A staged sector waits for the server's next start; its job comes back when the queue has waited long enough. The rest are
            // words of a maker that has ended.
            _ => Vec::new(),
        }
    }

    fn begin(&mut self, now: Duration) -> Vec<Action> {
        let making = Making { pieces: 0, records: 0, missing: None, moved_at: now };
        self.phase = Phase::Making(making);
        [Action::Make].into_iter().chain(self.tell()).collect()
    }

    fn tick(&mut self, now: Duration) -> Vec<Action> {
        let silence = now.saturating_sub(self.client_alive_at);
        let patience = if self.phase == Phase::Asking { CLIENT_ANSWERS_WITHIN } else { CLIENT_GONE_AFTER };
        if silence >= patience {
            return self.end();
        }
        if let Some(reason) = self.stalled(now) {
            return self.fail(&reason);
        }
        let keep = self.has_job.then_some(Action::KeepJob);
        keep.into_iter().chain(self.tell()).collect()
    }

    /// Why the making has come to nothing, if it has.
    fn stalled(&self, now: Duration) -> Option<String> {
        let Phase::Making(Making { pieces, records, missing, moved_at }) = &self.phase else { return None };
        let quiet = now.saturating_sub(*moved_at);
        match missing {
            Some(missing) if quiet >= MISSING_PIECES_AFTER => Some(missing.clone()),
            _ if quiet >= STALLED_AFTER => Some(format!(
                "nothing moved for {} s, at {pieces} pieces and {records} records of {}",
                quiet.as_secs(),
                self.pieces_in_sector
            )),
            _ => None,
        }
    }

    /// The attempt is over, and whoever ordered it is told why.
    fn fail(&mut self, reason: &str) -> Vec<Action> {
        let (stop, discard) = match self.phase {
            Phase::Making(_) => (Some(Action::StopMaking), None),
            Phase::Staged(_) => (None, Some(Action::Discard)),
            Phase::Asking | Phase::Over => (None, None),
        };
        self.phase = Phase::Over;
        // Acknowledged before it is deleted: after a crash in between the staging is found, offered, and refused again.
        [stop, Some(failed(reason)), self.ack(), discard].into_iter().flatten().collect()
    }

    /// Nobody needs the sector from here any more.
    fn end(&mut self) -> Vec<Action> {
        let last = match self.phase {
            Phase::Asking => [self.ack(), None],
            Phase::Making(_) => [Some(Action::StopMaking), self.ack()],
            // Acknowledged first: after a crash in between the staging is found, offered, and answered with `Stored`.
            Phase::Staged(_) => [self.ack(), Some(Action::Discard)],
            Phase::Over => [None, None],
        };
        self.phase = Phase::Over;
        last.into_iter().flatten().collect()
    }

    fn ack(&self) -> Option<Action> {
        self.has_job.then_some(Action::AckJob)
    }

    /// Where it stands, for the cluster.
    fn tell(&self) -> Option<Action> {
        Some(Action::Tell(match &self.phase {
            Phase::Asking => PlotPhase::Downloading { pieces: 0 },
            Phase::Making(Making { pieces, .. }) if *pieces < self.pieces_in_sector => {
                PlotPhase::Downloading { pieces: *pieces }
            }
            Phase::Making(Making { records, .. }) => PlotPhase::Encoding { records: *records },
            Phase::Staged(Made { size_bytes, checksum }) => {
                PlotPhase::Staged { sector_size_bytes: *size_bytes, checksum: *checksum }
            }
            Phase::Over => return None,
        }))
    }
}

fn failed(reason: &str) -> Action {
    Action::Tell(PlotPhase::Failed { reason: bounded_text(reason) })
}

#[cfg(test)]
mod tests;
