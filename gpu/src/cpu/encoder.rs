//! Sectors made by threads.

use super::buffers::{Buffers, RECORDS_IN_SLAB, RecordBuffer};
use super::{StartError, assembly};
use crate::finished::{FinishedSector, OUTPUT_SLABS, Output};
use crate::session::{Counters, EncodeJob, EncodedRecord, Progress, SectorMemory, Session};
use crate::workers::WorkerSet;
use crate::{
    BeginError, EncoderStats, EncodingSession, FinishError, PieceError, PieceToEncode, SectorEncoder,
    SectorPlan,
};
use async_trait::async_trait;
use consensus::bls::InvalidScalarAt;
use consensus::erasure::ErasureError;
use consensus::piece::PieceRef;
use consensus::pos::Seed;
use consensus::sector::{RecordEncoder, RecordMetadata};
use consensus::{CpuLevel, Workers};
use engine::pool::{AcquireError, Pool};
use engine::threads::ThreadWorkers;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;

/// Credits of a session for each thread: one piece being encoded, one that has arrived, or is under way.
const CREDITS_PER_THREAD: usize = 2;

/// Of the records that come with their parity the first, and then one in so many, is extended all the same and compared: a fraction of a thousandth
/// of the work.
const CHECK_EVERY: u64 = 64;

/// Slabs that the session of one sector takes, at most: its records, pieces that arrive (one a credit), and its output.
/// With 2 threads 508 (1016 MiB) for 1000 pieces. A piece takes one slab on its way, or two with its parity.
pub fn session_slabs(pieces_in_sector: u16, threads: usize, piece_slabs: usize) -> usize {
    let pieces = usize::from(pieces_in_sector);
    pieces.div_ceil(RECORDS_IN_SLAB) + credits(threads) * piece_slabs + OUTPUT_SLABS
}

fn credits(threads: usize) -> usize {
    CREDITS_PER_THREAD * threads
}

/// What an encoder is made of.
#[derive(Debug, Clone)]
pub struct CpuEncoderOptions {
    /// Threads, and the cores they run on. Each takes [`super::WORKER_BYTES`].
    pub threads: ThreadWorkers,
    /// Instructions to use.
    pub level: CpuLevel,
    /// Where buffers come from.
    pub pool: Pool,
    /// Slabs that all sessions together may take, see [`session_slabs`]. Whoever else uses the pool must leave these.
    pub memory_slabs: usize,
    /// Slabs that a piece takes on its way: 1, or 2 with its parity.
    pub piece_slabs: usize,
}

/// Encodes with the CPU. Sessions share the threads, the oldest session first. Dropping it waits for the records that are
/// being encoded; what waits is dropped, and its sessions are lost.
pub struct CpuEncoder {
    workers: WorkerSet<u64, EncodeJob<RecordBuffer>>,
    threads: ThreadWorkers,
    pool: Pool,
    memory: Arc<Semaphore>,
    memory_slabs: usize,
    piece_slabs: usize,
    next_session: AtomicU64,
    counters: Arc<Counters>,
}

/// Where the records of one sector are.
struct SectorBuffers {
    buffers: Arc<Buffers>,
    /// For putting the sector together.
    threads: ThreadWorkers,
    /// For the finished bytes.
    pool: Pool,
}

#[async_trait]
impl SectorMemory for SectorBuffers {
    type Room = RecordBuffer;

    async fn room(&self, _: u16) -> Result<RecordBuffer, AcquireError> {
        self.buffers.take().await
    }

    async fn assemble(
        &self,
        plan: SectorPlan,
        records: Vec<EncodedRecord<RecordBuffer>>,
    ) -> Result<FinishedSector, FinishError> {
        let make = move |output: &mut Output| assembly::assemble(plan, &records, output);
        FinishedSector::start(&self.threads, &self.pool, make).await
    }
}

impl CpuEncoder {
    /// Starts the threads.
    pub fn new(options: CpuEncoderOptions) -> Result<Self, StartError> {
        let CpuEncoderOptions { threads, level, pool, memory_slabs, piece_slabs } = options;
        let available = pool.stats().total;
        if memory_slabs > available {
            return Err(StartError::Memory { wanted: memory_slabs, available });
        }
        let counters = Arc::<Counters>::default();
        // Every waiting job holds a credit, for which memory was promised, so there are never more: this limit is not met.
        let queue_limit = memory_slabs;
        let run = {
            let (counters, with_parity) = (counters.clone(), AtomicU64::new(0));
            move |encoder: &mut RecordEncoder, job| run(encoder, job, &with_parity, &counters)
        };
        let workers = WorkerSet::start(&threads, queue_limit, move || RecordEncoder::new(level), run)?;
        let memory = Arc::new(Semaphore::new(memory_slabs));
        let next_session = AtomicU64::new(0);
        Ok(Self { workers, threads, pool, memory, memory_slabs, piece_slabs, next_session, counters })
    }
}

#[async_trait]
impl SectorEncoder for CpuEncoder {
    async fn begin(&self, plan: SectorPlan) -> Result<Box<dyn EncodingSession>, BeginError> {
        plan.check()?;
        let pieces_in_sector = plan.pieces_in_sector;
        let needed = session_slabs(pieces_in_sector, self.threads.count(), self.piece_slabs);
        let limit = self.memory_slabs;
        if needed > limit {
            return Err(BeginError::Memory { pieces_in_sector, needed, limit });
        }
        let permits = u32::try_from(needed).expect("a sector takes hundreds of slabs");
        let promised =
            self.memory.clone().acquire_many_owned(permits).await.map_err(|_| BeginError::Stopped)?;
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        let session = Session {
            progress: Progress::new(plan),
            number,
            queue: self.workers.queue.clone(),
            memory: SectorBuffers {
                buffers: Buffers::new(self.pool.clone(), promised),
                threads: self.threads.clone(),
                pool: self.pool.clone(),
            },
            credits: Arc::new(Semaphore::new(credits(self.threads.count()))),
        };
        Ok(Box::new(session))
    }

    fn stats(&self) -> EncoderStats {
        EncoderStats {
            records_encoded: self.counters.encoded(),
            pieces_refused: self.counters.refused(),
            queued: self.workers.queue.len(),
            slabs_promised: self.memory_slabs - self.memory.available_permits(),
            workers: self.workers.stats(),
        }
    }
}

impl Drop for CpuEncoder {
    fn drop(&mut self) {
        self.memory.close();
    }
}

fn run(
    encoder: &mut RecordEncoder,
    job: EncodeJob<RecordBuffer>,
    with_parity: &AtomicU64,
    counters: &Counters,
) {
    let EncodeJob { piece, room, promise } = job;
    let is_checked =
        piece.parity.is_some() && with_parity.fetch_add(1, Ordering::Relaxed).is_multiple_of(CHECK_EVERY);
    let verdict = encode(encoder, &promise.seed(), piece, room, is_checked);
    promise.keep(verdict, counters);
}

fn encode(
    encoder: &mut RecordEncoder,
    seed: &Seed,
    piece: PieceToEncode,
    mut room: RecordBuffer,
    is_checked: bool,
) -> Result<EncodedRecord<RecordBuffer>, PieceError> {
    let PieceToEncode { piece_offset, record: arrived, parity, credit, commitment, witness, hash } = piece;
    room.chunks_mut().copy_from_slice(arrived.as_chunks().0);
    drop(arrived);
    // Of the copy: what is encoded is what was hashed.
    let view = PieceRef { record: room.chunks(), commitment: &commitment, witness: &witness };
    if view.hash() != hash {
        return Err(PieceError::Hash { piece_offset });
    }
    let bitfield = match parity {
        Some(parity) if is_checked => {
            let encoded = encoder.encode(seed, room.chunks_mut());
            if encoder.parity() != parity.as_chunks().0 {
                return Err(PieceError::Parity { piece_offset });
            }
            encoded.unwrap_or_else(|error| unreachable!("its chunks are scalars: {error}"))
        }
        Some(parity) => encoder.encode_with_parity(seed, room.chunks_mut(), parity.as_chunks().0),
        None => {
            // It holds back pieces, of which this one has been let go.
            drop(credit);
            let extended = encoder.encode(seed, room.chunks_mut());
            extended.map_err(|error| match error {
                ErasureError::InvalidScalar(InvalidScalarAt { index: chunk }) => {
                    PieceError::InvalidScalar { piece_offset, chunk }
                }
                other => unreachable!("a whole record of scalars can be extended: {other}"),
            })?
        }
    };
    let metadata = RecordMetadata { commitment, witness, piece_hash: hash };
    Ok(EncodedRecord { room, bitfield, metadata })
}
