//! What becomes of one sector on this server: decisions alone, without clock, bus or disk.
//!
//! ```text
//!   taken ─▶ Making ── made ──▶ Staged ── stored ──▶ Over (acknowledged, staging deleted)
//!              │  ▲                │ ▲
//!              │  └── refused ─────┘ └─ found again after a restart, without the queue's message
//!              ├─ failed ─────────────▶ Over (given back to the queue)
//!              └─ stored elsewhere, client gone ─▶ Over (acknowledged)
//! ```
//! Owns: when the queue's message is acknowledged, kept or given back, and when work and staging end. Messages may be lost or
//! come twice and the server may die anywhere; whatever happens, a sector ends stored, or with its job back in the
//! queue, or forgotten with a client that is gone (which offers it anew when it is back).

use crate::messages::PlotPhase;
use std::time::Duration;

/// A client that neither is present nor fetches for this long is given up.
pub const CLIENT_GONE_AFTER: Duration = Duration::from_secs(15 * 60);
/// How soon a job that failed here may be tried again, here or elsewhere.
pub const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What happens to a sector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its job came from the queue again.
    Delivered,
    /// Pieces that have come, records that are encoded.
    Worked {
        /// Pieces.
        pieces: u16,
        /// Records.
        records: u16,
    },
    /// The sector is durable under the base path.
    Made(Made),
    /// It could not be made.
    MakingFailed(String),
    /// What is staged cannot be read, or the client found it bad.
    Unusable(String),
    /// The client has it on disk.
    Stored,
    /// The client is present, or somebody fetches the sector.
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
    /// Somebody may try again, after this time.
    GiveJobBack(Duration),
    /// Delete what is staged.
    Discard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Making { pieces: u16, records: u16 },
    Staged(Made),
    Over,
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
    /// A job taken from the queue for a sector that is not here.
    pub fn taken(pieces_in_sector: u16, now: Duration) -> (Self, Vec<Action>) {
        let phase = Phase::Making { pieces: 0, records: 0 };
        let life = Self { phase, pieces_in_sector, has_job: true, client_alive_at: now };
        let tell = life.tell();
        (life, [Action::Make].into_iter().chain(tell).collect())
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

    /// Whether it is being made.
    pub fn is_making(&self) -> bool {
        matches!(self.phase, Phase::Making { .. })
    }

    /// What follows from `event`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        if self.is_over() {
            // What was made may have been broken off too late to stop it.
            let is_left_over = matches!(event, Event::Made(_));
            return is_left_over.then_some(Action::Discard).into_iter().collect();
        }
        match (self.phase, event) {
            (_, Event::Delivered) => {
                self.has_job = true;
                self.tell().into_iter().collect()
            }
            (_, Event::ClientAlive) => {
                self.client_alive_at = now;
                Vec::new()
            }
            (_, Event::Tick) => self.tick(now),
            (_, Event::Stored) => self.end(),
            (Phase::Making { .. }, Event::Worked { pieces, records }) => {
                self.phase = Phase::Making { pieces, records };
                Vec::new()
            }
            (Phase::Making { .. }, Event::Made(made)) => {
                self.phase = Phase::Staged(made);
                // The client gets its full time from here on, however long the making took.
                self.client_alive_at = now;
                self.tell().into_iter().collect()
            }
            (Phase::Making { .. }, Event::MakingFailed(reason)) => {
                self.phase = Phase::Over;
                vec![Action::Tell(PlotPhase::Failed { reason }), Action::GiveJobBack(RETRY_AFTER)]
            }
            (Phase::Making { .. }, Event::Shutdown) => {
                self.phase = Phase::Over;
                vec![Action::StopMaking, Action::GiveJobBack(Duration::ZERO)]
            }
            (Phase::Staged(_), Event::Unusable(reason)) => self.begin_anew(reason),
            // A staged sector waits for the server's next start; its job comes back when the queue has waited long enough. The rest are
            // words of a maker or a reader that has ended.
            _ => Vec::new(),
        }
    }

    fn tick(&mut self, now: Duration) -> Vec<Action> {
        if now.saturating_sub(self.client_alive_at) >= CLIENT_GONE_AFTER {
            return self.end();
        }
        let keep = self.has_job.then_some(Action::KeepJob);
        keep.into_iter().chain(self.tell()).collect()
    }

    /// Nobody needs the sector from here any more.
    fn end(&mut self) -> Vec<Action> {
        let last = match self.phase {
            Phase::Making { .. } => [Some(Action::StopMaking), self.ack()],
            // Acknowledged first: after a crash in between the staging is found, offered, and answered with `Stored`.
            Phase::Staged(_) => [self.ack(), Some(Action::Discard)],
            Phase::Over => [None, None],
        };
        self.phase = Phase::Over;
        last.into_iter().flatten().collect()
    }

    fn begin_anew(&mut self, reason: String) -> Vec<Action> {
        let tell = Action::Tell(PlotPhase::Failed { reason });
        if self.has_job {
            self.phase = Phase::Making { pieces: 0, records: 0 };
            vec![tell, Action::Discard, Action::Make]
        } else {
            self.phase = Phase::Over;
            vec![tell, Action::Discard]
        }
    }

    fn ack(&self) -> Option<Action> {
        self.has_job.then_some(Action::AckJob)
    }

    /// Where it stands, for the cluster.
    fn tell(&self) -> Option<Action> {
        Some(Action::Tell(match self.phase {
            Phase::Making { pieces, .. } if pieces < self.pieces_in_sector => {
                PlotPhase::Downloading { pieces }
            }
            Phase::Making { records, .. } => PlotPhase::Encoding { records },
            Phase::Staged(Made { size_bytes, checksum }) => {
                PlotPhase::Staged { sector_size_bytes: size_bytes, checksum }
            }
            Phase::Over => return None,
        }))
    }
}

#[cfg(test)]
mod tests;
