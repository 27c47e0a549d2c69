//! Records that the CPU encodes, too: some to see whether a device can be trusted, and those that a device cannot do.
//!
//! Owns: the comparison, bit for bit. Never: which records are inspected.

use super::card::Card;
use super::place::Place;
use crate::PieceError;
use crate::device::DeviceError;
use crate::session::{Counters, EncodeJob, EncodedRecord};
use consensus::sector::{Bitfield, RecordEncoder, RecordMetadata};
use std::sync::Arc;

/// A record that waits for the CPU.
pub(super) struct Inspection {
    pub card: Arc<Card>,
    pub job: EncodeJob<Place>,
    /// What the device made of it; none: it could not, and the CPU is to do it.
    pub theirs: Option<Bitfield>,
}

/// Why a device cannot be trusted.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("self-check: it encoded a record wrongly ({0})")]
    Wrong(&'static str),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl Inspection {
    /// Puts the record into its place if all is well; else the device goes out of service, and the piece is dropped.
    pub fn run(self, encoder: &mut RecordEncoder, counters: &Counters) {
        match self.inspect(encoder) {
            Ok(bitfield) => keep(self.job, bitfield, counters),
            // The device went by what it was given.
            Err(_) if self.has_wrong_parity(encoder) => {
                let EncodeJob { piece, room, promise } = self.job;
                let piece_offset = piece.piece_offset;
                drop((piece, room));
                promise.keep(Err(PieceError::Parity { piece_offset }), counters);
            }
            Err(fault) => self.card.retire(fault),
        }
    }

    /// Whether its parity came with the record that was just encoded, and is another's.
    fn has_wrong_parity(&self, encoder: &RecordEncoder) -> bool {
        let parity = self.job.piece.parity.as_ref();
        parity.is_some_and(|parity| parity.as_chunks().0 != encoder.parity())
    }

    fn inspect(&self, encoder: &mut RecordEncoder) -> Result<Bitfield, Fault> {
        let mut ours = self.job.piece.record.as_chunks().0.to_vec();
        let encoded = encoder.encode(&self.job.promise.seed(), &mut ours);
        let bitfield = encoded.map_err(|_| Fault::Wrong("it took a chunk for a scalar that is none"))?;
        let mut access = self.card.access.lock().expect("nothing panics while it accesses a record");
        let Some(theirs) = &self.theirs else {
            access.write(&self.job.room, &ours, &bitfield)?;
            return Ok(bitfield);
        };
        if *theirs != bitfield {
            return Err(Fault::Wrong("other s-buckets"));
        }
        let same = access.read(&self.job.room)? == ours;
        same.then_some(bitfield).ok_or(Fault::Wrong("other chunks"))
    }
}

/// Puts a record into its place.
pub(super) fn keep(job: EncodeJob<Place>, bitfield: Bitfield, counters: &Counters) {
    let EncodeJob { piece, room, promise } = job;
    let metadata =
        RecordMetadata { commitment: piece.commitment, witness: piece.witness, piece_hash: piece.hash };
    drop(piece);
    promise.keep(Ok(EncodedRecord { room, bitfield, metadata }), counters);
}
