//! The thread that keeps one device busy.
//!
//! ```text
//!   queue ─▶ lane 0: batch ─▶ device ─▶ verdict on each record ─▶ its session, or the inspectors
//!        └─▶ lane 1: batch ─▶ ...        in turn
//! ```
//! Owns: which records make a batch, and the verdict on each. Never: work of the CPU that takes longer than a batch does.

use super::card::Card;
use super::inspect::{Inspection, keep};
use super::pipeline::{Encoded, Encoding, Lane};
use super::place::Place;
use super::spans::SpanHasher;
use crate::PieceError;
use crate::device::DeviceError;
use crate::interface::{RESULT_OVERFLOW, RESULT_ZERO_CHUNK};
use crate::queue::{Closed, Queue};
use crate::session::{Counters, EncodeJob};
use blake3::hazmat::ChainingValue;
use consensus::bls::Scalar;
use consensus::constants::{POINT_SIZE, RECORD_CHUNKS};
use consensus::piece::PieceRef;
use consensus::sector::Bitfield;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// How often a feeder that waits for pieces looks after the batch that is under way.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// Inspections that may wait before records are no longer chosen by lot: a slow CPU must not hold up a device.
const MAX_WAITING_CHECKS: usize = 4;

/// Redone records go before checked ones.
pub(super) type Inspections = Queue<u8, Inspection>;
const REDO: u8 = 0;
const CHECK: u8 = 1;

/// Feeds one device.
pub(super) struct Feeder {
    pub card: Arc<Card>,
    pub lanes: Vec<Batches>,
    pub counters: Arc<Counters>,
    pub inspections: Arc<Inspections>,
    /// One record in so many is checked, the first one among them.
    pub check_every: u64,
    /// Records until the next check.
    pub until_check: u64,
}

/// A lane, and the pieces of the batch on it. The lane goes first.
pub(super) struct Batches {
    pub lane: Lane<Encoding>,
    pub jobs: Vec<EncodeJob<Place>>,
}

/// What is to be done with a record.
#[allow(clippy::large_enum_variant, reason = "short-lived, and mostly the large one")]
enum Verdict {
    Good(Bitfield),
    Refused(PieceError),
    ToBeRedone,
    /// The device told what is not so.
    Fault(&'static str),
}

impl Feeder {
    /// Works until the queue is closed, and then ends what is under way. However it ends, the queue is closed.
    pub fn run(mut self) {
        match catch_unwind(AssertUnwindSafe(|| self.feed())) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.card.retire(error),
            Err(_) => {
                self.card.retire("its thread panicked: please report the lines above");
            }
        }
        self.card.stop();
        // The lanes wait for the device before they let go of what it works on.
        drop(self.lanes);
        self.card.meter.end(0);
    }

    fn feed(&mut self) -> Result<(), DeviceError> {
        for turn in (0..self.lanes.len()).cycle() {
            self.complete(turn)?;
            match self.take(turn)? {
                Ok(jobs) if jobs.is_empty() => {}
                Ok(jobs) => self.start(turn, jobs)?,
                Err(Closed) => break,
            }
        }
        (0..self.lanes.len()).try_for_each(|lane| self.complete(lane))
    }

    /// Pieces for a lane: one at least, unless the next lane is done before one comes.
    fn take(&self, turn: usize) -> Result<Result<Vec<EncodeJob<Place>>, Closed>, DeviceError> {
        let queue = &self.card.queue;
        let next = &self.lanes[(turn + 1) % self.lanes.len()].lane;
        let mut jobs = Vec::new();
        if self.lanes.iter().any(|batches| batches.lane.is_busy()) {
            while jobs.is_empty() {
                match queue.pop_within(LOOK_EVERY) {
                    Ok(Some(job)) => jobs.push(job),
                    Ok(None) if next.is_done()? => return Ok(Ok(jobs)),
                    Ok(None) => {}
                    Err(Closed) => return Ok(Err(Closed)),
                }
            }
        } else {
            self.card.meter.end(0);
            match queue.pop() {
                Some(job) => jobs.push(job),
                None => return Ok(Err(Closed)),
            }
        }
        while jobs.len() < self.lanes[turn].lane.capacity()
            && let Ok(Some(job)) = queue.pop_within(Duration::ZERO)
        {
            jobs.push(job);
        }
        Ok(Ok(jobs))
    }

    fn start(&mut self, turn: usize, jobs: Vec<EncodeJob<Place>>) -> Result<(), DeviceError> {
        self.card.meter.begin();
        let encoding = |job: &EncodeJob<Place>| Encoding {
            seed: job.promise.seed(),
            record: job.piece.record.clone(),
            parity: job.piece.parity.clone(),
            place: job.room.clone(),
        };
        let batch = jobs.iter().map(encoding).collect();
        let Batches { lane, jobs: kept } = &mut self.lanes[turn];
        *kept = jobs;
        lane.start(batch)
    }

    /// Waits for the batch of a lane and gives its records on.
    fn complete(&mut self, turn: usize) -> Result<(), DeviceError> {
        let Batches { lane, jobs } = &mut self.lanes[turn];
        if !lane.is_busy() {
            return Ok(());
        }
        let encoded = lane.finish()?;
        let jobs = std::mem::take(jobs);
        self.card.meter.count(jobs.len() as u64);
        jobs.into_iter().zip(encoded).for_each(|(job, encoded)| self.give_on(job, encoded));
        Ok(())
    }

    fn give_on(&mut self, job: EncodeJob<Place>, encoded: Encoded) {
        match judge(&job, encoded) {
            Verdict::Good(bitfield) if self.is_to_be_checked() => self.inspect(CHECK, job, Some(bitfield)),
            Verdict::Good(bitfield) => keep(job, bitfield, &self.counters),
            Verdict::Refused(error) => {
                let EncodeJob { piece, room, promise } = job;
                drop((piece, room));
                promise.keep(Err(error), &self.counters);
            }
            Verdict::ToBeRedone => {
                tracing::warn!("{} could not do a record, the CPU does it", self.card.module.device.name());
                self.inspect(REDO, job, None);
            }
            Verdict::Fault(what) => self.card.retire(what),
        }
    }

    /// Whether the record is one to be compared with the CPU's.
    fn is_to_be_checked(&mut self) -> bool {
        if self.until_check > 0 {
            self.until_check -= 1;
            return false;
        }
        // Put off where the CPU has enough to do.
        if self.inspections.len() >= MAX_WAITING_CHECKS {
            return false;
        }
        self.until_check = self.check_every.saturating_sub(1);
        true
    }

    fn inspect(&self, urgency: u8, job: EncodeJob<Place>, theirs: Option<Bitfield>) {
        let inspection = Inspection { card: self.card.clone(), job, theirs };
        // Refused only when the encoder shuts down; the piece is dropped then.
        let _ = self.inspections.push(urgency, inspection);
    }
}

/// Judges a record by what the device says. Before a piece is called bad the CPU looks at it: it may be the device that is.
fn judge(job: &EncodeJob<Place>, Encoded { result, bitfield }: Encoded) -> Verdict {
    let piece = &job.piece;
    let piece_offset = piece.piece_offset;
    let chunks = piece.record.as_chunks().0;
    if piece_hash(&result.spans, &piece.commitment, &piece.witness) != piece.hash {
        let view = PieceRef { record: chunks, commitment: &piece.commitment, witness: &piece.witness };
        return if view.hash() == piece.hash {
            Verdict::Fault("it hashed a record wrongly")
        } else {
            Verdict::Refused(PieceError::Hash { piece_offset })
        };
    }
    if result.invalid != 0 {
        let chunk = RECORD_CHUNKS.wrapping_sub(result.invalid as usize);
        return match chunks.get(chunk).map(Scalar::from_bytes) {
            Some(Err(_)) => Verdict::Refused(PieceError::InvalidScalar { piece_offset, chunk }),
            Some(Ok(_)) | None => Verdict::Fault("it took a scalar for none"),
        };
    }
    if result.flags & (RESULT_OVERFLOW | RESULT_ZERO_CHUNK) != 0 {
        return Verdict::ToBeRedone;
    }
    match bitfield {
        Some(bitfield) if bitfield.count() == result.encoded_chunks as usize => Verdict::Good(bitfield),
        _ => Verdict::Fault("it counted the chunks of a record wrongly"),
    }
}

/// BLAKE3 of a piece, of whose record the spans are known.
fn piece_hash(
    spans: &[ChainingValue],
    commitment: &[u8; POINT_SIZE],
    witness: &[u8; POINT_SIZE],
) -> [u8; 32] {
    let mut hash = SpanHasher::default();
    spans.iter().for_each(|span| hash.push(*span));
    hash.finish([*commitment, *witness].as_flattened())
}
