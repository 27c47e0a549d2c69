//! One sector in the making: which pieces are in, which are under way.

use super::assembly;
use super::buffers::{Buffers, RecordBuffer};
use super::encoder::Counters;
use super::queue::Queue;
use crate::{Credit, EncodingSession, FinishError, FinishedSector, PieceError, PieceToEncode, SectorPlan};
use async_trait::async_trait;
use consensus::bls::InvalidScalarAt;
use consensus::constants::RECORD_SIZE;
use consensus::erasure::ErasureError;
use consensus::piece::PieceRef;
use consensus::sector::{Bitfield, RecordEncoder, RecordMetadata, SectorId};
use engine::pool::Pool;
use engine::threads::ThreadWorkers;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore, oneshot};

/// A record as it will lie in the sector.
pub(super) struct EncodedRecord {
    pub record: RecordBuffer,
    pub bitfield: Bitfield,
    pub metadata: RecordMetadata,
}

/// The caller's side of a sector; workers hold its [`Progress`].
pub(super) struct Session {
    pub progress: Arc<Progress>,
    /// Older sessions have smaller ones.
    pub number: u64,
    pub queue: Arc<Queue<u64, EncodeJob>>,
    pub buffers: Arc<Buffers>,
    pub credits: Arc<Semaphore>,
    /// For putting the sector together.
    pub threads: ThreadWorkers,
    /// For the finished bytes.
    pub pool: Pool,
}

/// What the caller and the workers share.
pub(super) struct Progress {
    plan: SectorPlan,
    sector_id: SectorId,
    state: Mutex<State>,
    /// Notified when the last piece under way is done.
    settled: Notify,
}

struct State {
    places: Vec<Place>,
    under_way: usize,
}

/// A place in the sector.
enum Place {
    Empty,
    UnderWay,
    Encoded(Box<EncodedRecord>),
}

#[async_trait]
impl EncodingSession for Session {
    async fn credit(&self) -> Credit {
        Credit(self.credits.clone().acquire_owned().await.expect("credits are never closed"))
    }

    async fn submit(&self, piece: PieceToEncode) -> Result<(), PieceError> {
        let piece_offset = piece.piece_offset;
        if piece.record.len() != RECORD_SIZE || piece.record.phase() != 0 {
            return Err(PieceError::Record { piece_offset });
        }
        let claim = Progress::claim(&self.progress, piece_offset)?;
        let buffer = self.buffers.take().await.map_err(|source| PieceError::Pool { piece_offset, source })?;
        let (done, verdict) = oneshot::channel();
        let job = EncodeJob { piece, buffer, claim, done };
        self.queue.push(self.number, job).map_err(|_| PieceError::Dropped { piece_offset })?;
        verdict.await.unwrap_or(Err(PieceError::Dropped { piece_offset }))
    }

    async fn finish(self: Box<Self>) -> Result<FinishedSector, FinishError> {
        self.progress.settled().await;
        let records = self.progress.take_all()?;
        assembly::start(self.progress.plan, records, &self.threads, &self.pool).await
    }

    async fn cancel(self: Box<Self>) {
        let progress = self.progress.clone();
        drop(self);
        progress.settled().await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.queue.remove_all(self.number));
        // Records under way find no place any more, and go home when they are done.
        let places = std::mem::take(&mut self.progress.lock().places);
        drop(places);
    }
}

impl Progress {
    pub fn new(plan: SectorPlan) -> Arc<Self> {
        let places = (0..plan.pieces_in_sector).map(|_| Place::Empty).collect();
        let state = Mutex::new(State { places, under_way: 0 });
        Arc::new(Self { plan, sector_id: plan.sector_id(), state, settled: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds a session's lock")
    }

    fn claim(progress: &Arc<Self>, piece_offset: u16) -> Result<Claim, PieceError> {
        let mut state = progress.lock();
        let pieces_in_sector = progress.plan.pieces_in_sector;
        let place = state.places.get_mut(usize::from(piece_offset));
        let place = place.ok_or(PieceError::Offset { piece_offset, pieces_in_sector })?;
        if !matches!(place, Place::Empty) {
            return Err(PieceError::Duplicate { piece_offset });
        }
        *place = Place::UnderWay;
        state.under_way += 1;
        Ok(Claim { progress: progress.clone(), piece_offset, encoded: None })
    }

    async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.lock().under_way == 0 {
                return;
            }
            settled.await;
        }
    }

    /// All records in order, if all are there.
    fn take_all(&self) -> Result<Vec<EncodedRecord>, FinishError> {
        let mut state = self.lock();
        let empty = |(_, place): &(usize, &Place)| !matches!(place, Place::Encoded(_));
        let mut lacking = state.places.iter().enumerate().filter(empty).map(|(offset, _)| offset);
        if let Some(first) = lacking.next() {
            let first = u16::try_from(first).expect("a sector has at most 1000 pieces");
            return Err(FinishError::Missing { missing: 1 + lacking.count(), first });
        }
        let records = state.places.drain(..).filter_map(|place| match place {
            Place::Encoded(record) => Some(*record),
            Place::Empty | Place::UnderWay => None,
        });
        Ok(records.collect())
    }
}

/// A place that a piece is under way to. Dropped without a record it is free again.
struct Claim {
    progress: Arc<Progress>,
    piece_offset: u16,
    encoded: Option<Box<EncodedRecord>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let place = self.encoded.take().map_or(Place::Empty, Place::Encoded);
        let mut state = self.progress.lock();
        // No place is left once the session is over; the record goes home without the lock.
        let late = match state.places.get_mut(usize::from(self.piece_offset)) {
            Some(free) => std::mem::replace(free, place),
            None => place,
        };
        drop(state);
        drop(late);
        // Only now: whoever waits may count on the memory being back.
        let mut state = self.progress.lock();
        state.under_way -= 1;
        if state.under_way == 0 {
            self.progress.settled.notify_waiters();
        }
    }
}

/// A piece that waits for a worker. Wherever it is dropped, its memory goes home, its place is free and its caller is told, in this order.
pub(super) struct EncodeJob {
    piece: PieceToEncode,
    buffer: RecordBuffer,
    claim: Claim,
    done: oneshot::Sender<Result<(), PieceError>>,
}

impl EncodeJob {
    pub fn run(self, encoder: &mut RecordEncoder, counters: &Counters) {
        let Self { piece, buffer, mut claim, done } = self;
        let verdict = encode(encoder, &claim.progress.sector_id, piece, buffer);
        let counter = if verdict.is_ok() { &counters.encoded } else { &counters.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        let verdict = verdict.map(|encoded| claim.encoded = Some(Box::new(encoded)));
        drop(claim);
        // A caller that left does not mind.
        let _ = done.send(verdict);
    }
}

fn encode(
    encoder: &mut RecordEncoder,
    sector_id: &SectorId,
    piece: PieceToEncode,
    mut record: RecordBuffer,
) -> Result<EncodedRecord, PieceError> {
    let PieceToEncode { piece_offset, record: arrived, credit, commitment, witness, hash } = piece;
    record.chunks_mut().copy_from_slice(arrived.as_chunks().0);
    drop(arrived);
    drop(credit);
    // Of the copy: what is encoded is what was hashed.
    let view = PieceRef { record: record.chunks(), commitment: &commitment, witness: &witness };
    if view.hash() != hash {
        return Err(PieceError::Hash { piece_offset });
    }
    let seed = sector_id.evaluation_seed(piece_offset);
    let bitfield = encoder.encode(&seed, record.chunks_mut()).map_err(|error| match error {
        ErasureError::InvalidScalar(InvalidScalarAt { index: chunk }) => {
            PieceError::InvalidScalar { piece_offset, chunk }
        }
        other => unreachable!("a whole record of scalars can be extended: {other}"),
    })?;
    let metadata = RecordMetadata { commitment, witness, piece_hash: hash };
    Ok(EncodedRecord { record, bitfield, metadata })
}
