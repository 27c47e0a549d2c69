//! One sector in the making, whatever backend makes it: which pieces are in, which are under way.

use crate::queue::Queue;
use crate::{Credit, EncodingSession, FinishError, FinishedSector, PieceError, PieceToEncode, SectorPlan};
use async_trait::async_trait;
use consensus::bls::are_scalars;
use consensus::constants::RECORD_SIZE;
use consensus::pos::Seed;
use consensus::sector::{Bitfield, RecordMetadata, SectorId};
use engine::pool::{AcquireError, Slab};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore, oneshot};

/// A record as it will lie in the sector.
pub(crate) struct EncodedRecord<R> {
    /// Where its chunks are.
    pub room: R,
    pub bitfield: Bitfield,
    pub metadata: RecordMetadata,
}

/// Where the records of one sector are, and how they leave: what backends differ in.
#[async_trait]
pub(crate) trait SectorMemory: Send + Sync + 'static {
    /// Room for one record. Dropping it gives it back.
    type Room: Send + Sync + 'static;

    /// Room for the record of a piece.
    async fn room(&self, piece_offset: u16) -> Result<Self::Room, AcquireError>;

    /// Begins to put the sector together.
    async fn assemble(
        &self,
        plan: SectorPlan,
        records: Vec<EncodedRecord<Self::Room>>,
    ) -> Result<FinishedSector, FinishError>;
}

/// The caller's side of a sector; workers hold its [`Progress`].
pub(crate) struct Session<M: SectorMemory> {
    pub progress: Arc<Progress<M::Room>>,
    /// Older sessions have smaller ones.
    pub number: u64,
    pub queue: Arc<Queue<u64, EncodeJob<M::Room>>>,
    pub memory: M,
    pub credits: Arc<Semaphore>,
}

/// What the sessions of an encoder count.
#[derive(Default)]
pub(crate) struct Counters {
    encoded: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    /// Records encoded.
    pub fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::Relaxed)
    }

    /// Pieces that were not what they should be.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// What the caller and the workers share.
pub(crate) struct Progress<R> {
    plan: SectorPlan,
    sector_id: SectorId,
    state: Mutex<State<R>>,
    /// Notified when the last piece under way is done.
    settled: Notify,
}

struct State<R> {
    places: Vec<Place<R>>,
    under_way: usize,
}

/// A place in the sector.
enum Place<R> {
    Empty,
    UnderWay,
    Encoded(Box<EncodedRecord<R>>),
}

#[async_trait]
impl<M: SectorMemory> EncodingSession for Session<M> {
    async fn credit(&self) -> Credit {
        Credit(self.credits.clone().acquire_owned().await.expect("credits are never closed"))
    }

    async fn submit(&self, piece: PieceToEncode) -> Result<(), PieceError> {
        let piece_offset = piece.piece_offset;
        let is_record = |slab: &Slab| slab.len() == RECORD_SIZE && slab.phase() == 0;
        if !is_record(&piece.record) {
            return Err(PieceError::Record { piece_offset });
        }
        // Else the extension sees to it, and says which chunk is none.
        let all_scalars = |slab: &Slab| is_record(slab) && are_scalars(slab.as_chunks().0);
        if piece.parity.as_ref().is_some_and(|parity| !all_scalars(parity) || !all_scalars(&piece.record)) {
            return Err(PieceError::Parity { piece_offset });
        }
        let claim = Progress::claim(&self.progress, piece_offset)?;
        let room = self.memory.room(piece_offset).await;
        let room = room.map_err(|source| PieceError::Pool { piece_offset, source })?;
        let (done, verdict) = oneshot::channel();
        let job = EncodeJob { piece, room, promise: Promise { claim, done } };
        self.queue.push(self.number, job).map_err(|_| PieceError::Dropped { piece_offset })?;
        verdict.await.unwrap_or(Err(PieceError::Dropped { piece_offset }))
    }

    async fn finish(self: Box<Self>) -> Result<FinishedSector, FinishError> {
        self.progress.settled().await;
        let records = self.progress.take_all()?;
        self.memory.assemble(self.progress.plan, records).await
    }

    async fn cancel(self: Box<Self>) {
        let progress = self.progress.clone();
        drop(self);
        progress.settled().await;
    }
}

impl<M: SectorMemory> Drop for Session<M> {
    fn drop(&mut self) {
        drop(self.queue.remove_all(self.number));
        // Records under way find no place any more, and go home when they are done.
        let places = std::mem::take(&mut self.progress.lock().places);
        drop(places);
    }
}

impl<R> Progress<R> {
    pub fn new(plan: SectorPlan) -> Arc<Self> {
        let places = (0..plan.pieces_in_sector).map(|_| Place::Empty).collect();
        let state = Mutex::new(State { places, under_way: 0 });
        Arc::new(Self { plan, sector_id: plan.sector_id(), state, settled: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().expect("nothing panics while it holds a session's lock")
    }

    fn claim(progress: &Arc<Self>, piece_offset: u16) -> Result<Claim<R>, PieceError> {
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
    fn take_all(&self) -> Result<Vec<EncodedRecord<R>>, FinishError> {
        let mut state = self.lock();
        let empty = |(_, place): &(usize, &Place<R>)| !matches!(place, Place::Encoded(_));
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
struct Claim<R> {
    progress: Arc<Progress<R>>,
    piece_offset: u16,
    encoded: Option<Box<EncodedRecord<R>>>,
}

impl<R> Drop for Claim<R> {
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
pub(crate) struct EncodeJob<R> {
    pub piece: PieceToEncode,
    pub room: R,
    pub promise: Promise<R>,
}

/// What is owed to whoever submitted a piece. Dropped unkept, the place in the sector is free and the caller is told, in this order.
pub(crate) struct Promise<R> {
    claim: Claim<R>,
    done: oneshot::Sender<Result<(), PieceError>>,
}

impl<R> Promise<R> {
    /// Seed of the piece's table.
    pub fn seed(&self) -> Seed {
        self.claim.progress.sector_id.evaluation_seed(self.claim.piece_offset)
    }

    /// Puts the record into its place, or tells why not.
    pub fn keep(self, verdict: Result<EncodedRecord<R>, PieceError>, counters: &Counters) {
        let Self { mut claim, done } = self;
        let counter = if verdict.is_ok() { &counters.encoded } else { &counters.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        let verdict = verdict.map(|encoded| claim.encoded = Some(Box::new(encoded)));
        drop(claim);
        // A caller that left does not mind.
        let _ = done.send(verdict);
    }
}
