//! Making one sector: pieces in, sector durable under the base path.
//!
//! ```text
//!   reserve space ─▶ session ─▶ pieces, some at a time ─▶ encoded as they come ─▶ slabs to disk ─▶ fdatasync ─▶ manifest
//! ```
//! Owns: this order. Never: the bus, or whether the sector is wanted; who wants it no longer drops the sender of `stop`.

use super::serve::StagingWriter;
use super::staging::{Staging, StagingError, Unfinished};
use async_trait::async_trait;
use consensus::constants::{POINT_SIZE, RECORD_SIZE};
use consensus::sector::ProtocolInfo;
use control::ids::InstanceId;
use control::messages::PlotJob;
use control::plot_server::Made;
use engine::pool::{AcquireError, Pool, Slab};
use engine::{BLOCK_BYTES, DirectFile, IoError};
use futures::join;
use futures::stream::{FuturesUnordered, TryStreamExt};
use gpu::{
    BeginError, EncodingSession, FinishError, FinishedSector, PieceError, PieceToEncode, SectorEncoder,
    SectorError, SectorPlan,
};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use transport::tcp::{PIECE_POINTS_AT, PIECE_RECORD_AT};

/// Times a piece that turns out damaged is fetched again before its sector is given up.
const PIECE_ATTEMPTS: usize = 4;
/// Slabs on their way to the disk at once, a sector.
const WRITES: usize = 2;
/// Slabs a sector takes beside its session's: those being written, and its last blocks.
pub const WRITING_SLABS: usize = WRITES + 1;

/// A piece as it lies in its slab ([`transport::message::Layout::Piece`]), and its BLAKE3 from whoever verified it.
pub type FetchedPiece = (Slab, [u8; 32]);

/// Why a piece will not come.
pub type PieceFailure = Box<dyn std::error::Error + Send + Sync>;

/// Where pieces come from.
#[async_trait]
pub trait Pieces: Send + Sync + 'static {
    /// The piece of this index of the history. Asks on when nobody has it, and notes that each time; dropping the future ends that.
    async fn get(&self, index: u64, missing: &Missing) -> Result<FetchedPiece, PieceFailure>;

    /// The parity chunks of its record, on a block, and who gave them, if somebody does at once.
    async fn parity(&self, _index: u64) -> Option<(Slab, InstanceId)> {
        None
    }

    /// What this member gave was not the record's parity.
    async fn parity_was_wrong(&self, _index: u64, _giver: InstanceId) {}
}

/// Why a sector was not made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// No space, or the disk failed.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The encoder took no sector.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// A piece did not come.
    #[error("piece {index} did not come: {reason}")]
    Fetch {
        /// Index in the history.
        index: u64,
        /// Why.
        reason: String,
    },
    /// A piece was not what it should be.
    #[error("piece {index} of the history: {reason}")]
    Piece {
        /// Index in the history.
        index: u64,
        /// Why.
        reason: PieceError,
    },
    /// The sector was not put together.
    #[error(transparent)]
    Finish(#[from] FinishError),
    /// The sector ended early.
    #[error(transparent)]
    Sector(#[from] SectorError),
    /// The sector could not be written.
    #[error(transparent)]
    Write(#[from] IoError),
    /// No memory for its last blocks.
    #[error(transparent)]
    Memory(#[from] AcquireError),
    /// Nobody wants it any more.
    #[error("the sector is not wanted any more")]
    Stopped,
    /// A thread of the process panicked.
    #[error("a task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// How far a sector is; numbers only grow, but for damaged pieces.
#[derive(Debug, Default)]
pub struct Progress {
    /// Pieces that have come.
    pub pieces: AtomicU16,
    /// Records that are encoded.
    pub records: AtomicU16,
    /// What nobody has.
    pub missing: Missing,
}

/// One of the pieces of a sector that nobody gave when all were asked last, if there is one.
#[derive(Debug, Default)]
pub struct Missing(Mutex<Option<(u64, String)>>);

impl Missing {
    /// Nobody has this piece, for this reason.
    pub fn note(&self, index: u64, reason: &str) {
        *self.lock() = Some((index, reason.to_owned()));
    }

    /// The piece has come.
    fn came(&self, index: u64) {
        self.lock().take_if(|(missing, _)| *missing == index);
    }

    /// In words.
    pub fn text(&self) -> Option<String> {
        let missing = self.lock();
        missing
            .as_ref()
            .map(|(index, reason)| format!("piece {index} did not come, nobody gives it: {reason}"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(u64, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What sectors are made with.
pub struct Workshop {
    /// Encodes.
    pub encoder: Arc<dyn SectorEncoder>,
    /// Gives pieces.
    pub pieces: Arc<dyn Pieces>,
    /// Whether records come with their parity, where somebody gives it.
    pub with_parity: bool,
    /// Keeps finished sectors.
    pub staging: Staging,
    /// Writes them.
    pub writer: StagingWriter,
    /// The memory of it all.
    pub pool: Pool,
}

impl Workshop {
    /// Makes the sector of `job` and stages it, unless the sender of `stop` is dropped before it is whole.
    pub async fn make(
        &self,
        job: &PlotJob,
        progress: &Progress,
        stop: oneshot::Receiver<()>,
    ) -> Result<Made, MakeError> {
        let (staging, of) = (self.staging.clone(), job.clone());
        // These two steps run to their ends, so that it is always known what is on the disk.
        let space = tokio::task::spawn_blocking(move || staging.reserve(&of)).await??;
        let (made, metadata) = tokio::select! {
            whole = self.make_in(&space, job, progress) => whole?,
            _ = stop => return Err(MakeError::Stopped),
        };
        tokio::task::spawn_blocking(move || space.commit(made, metadata)).await??;
        Ok(made)
    }

    /// Makes the sector and its encoded metadata, durable in the space.
    async fn make_in(
        &self,
        space: &Unfinished,
        job: &PlotJob,
        progress: &Progress,
    ) -> Result<(Made, Vec<u8>), MakeError> {
        let session = self.encoder.begin(plan(job)).await?;
        if let Err(error) = self.gather(&*session, job, progress).await {
            session.cancel().await;
            return Err(error);
        }
        let mut sector = session.finish().await?;
        let size_bytes = sector.size_bytes() as u64;
        let metadata = sector.metadata().encode();
        self.write(&mut sector, space.file()).await?;
        let checksum = sector.checksum().ok_or(MakeError::Stopped)?;
        self.writer.sync(space.file()).await?;
        Ok((Made { size_bytes, checksum }, metadata))
    }

    /// Brings every piece into the session and waits until all are encoded.
    async fn gather(
        &self,
        session: &dyn EncodingSession,
        job: &PlotJob,
        progress: &Progress,
    ) -> Result<(), MakeError> {
        let info = ProtocolInfo::from(&job.protocol_info);
        let (id, history_size) = (plan(job).sector_id(), job.sector.history_size);
        let pieces: FuturesUnordered<_> = (0..job.pieces_in_sector)
            .map(|offset| self.add(session, offset, id.piece_index(offset, history_size, &info), progress))
            .collect();
        pieces.try_collect().await
    }

    /// Fetches a piece and gives it to the session, again if it turns out damaged.
    async fn add(
        &self,
        session: &dyn EncodingSession,
        piece_offset: u16,
        index: u64,
        progress: &Progress,
    ) -> Result<(), MakeError> {
        let mut with_parity = self.with_parity;
        for attempt in 1.. {
            let (piece, giver) =
                self.fetch(session, (piece_offset, index), with_parity, &progress.missing).await?;
            progress.missing.came(index);
            progress.pieces.fetch_add(1, Ordering::Relaxed);
            match session.submit(piece).await {
                Ok(()) => break,
                Err(error @ PieceError::Hash { .. }) if attempt < PIECE_ATTEMPTS => {
                    tracing::warn!("piece {index}: {error}");
                    progress.pieces.fetch_sub(1, Ordering::Relaxed);
                }
                Err(error @ PieceError::Parity { .. }) if with_parity => {
                    tracing::warn!("piece {index}: {error}");
                    progress.pieces.fetch_sub(1, Ordering::Relaxed);
                    with_parity = false;
                    if let Some(giver) = giver {
                        self.pieces.parity_was_wrong(index, giver).await;
                    }
                }
                Err(reason) => return Err(MakeError::Piece { index, reason }),
            }
        }
        progress.records.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A piece for its place, as soon as the session has a credit for it, and who gave its parity.
    async fn fetch(
        &self,
        session: &dyn EncodingSession,
        (piece_offset, index): (u16, u64),
        with_parity: bool,
        missing: &Missing,
    ) -> Result<(PieceToEncode, Option<InstanceId>), MakeError> {
        let credit = session.credit().await;
        let failed = |error: PieceFailure| MakeError::Fetch { index, reason: error.to_string() };
        let parity = async { if with_parity { self.pieces.parity(index).await } else { None } };
        let (piece, parity) = join!(self.pieces.get(index, missing), parity);
        let (slab, hash) = piece.map_err(failed)?;
        let record = slab.slice(PIECE_RECORD_AT..PIECE_RECORD_AT + RECORD_SIZE);
        let (points, _) = slab[PIECE_POINTS_AT..PIECE_RECORD_AT].as_chunks::<POINT_SIZE>();
        let (commitment, witness) = (points[0], points[1]);
        let (parity, giver) = parity.unzip();
        Ok((PieceToEncode { piece_offset, record, parity, credit, commitment, witness, hash }, giver))
    }

    /// Writes the sector as it comes, filled up to whole blocks.
    async fn write(&self, sector: &mut FinishedSector, file: &Arc<DirectFile>) -> Result<(), MakeError> {
        let mut writes = FuturesUnordered::new();
        let mut offset = 0;
        while let Some(slab) = sector.next().await {
            let slab = slab?;
            let length = slab.len() as u64;
            if writes.len() == WRITES {
                writes.try_next().await?;
            }
            let blocks = self.whole_blocks(slab).await?;
            writes.push(self.writer.write(file, offset, blocks));
            offset += length;
        }
        writes.try_collect::<()>().await?;
        Ok(())
    }

    /// The bytes, followed by zeroes to the end of their last block.
    async fn whole_blocks(&self, bytes: Slab) -> Result<Slab, AcquireError> {
        if bytes.len().is_multiple_of(BLOCK_BYTES) {
            return Ok(bytes);
        }
        let length = bytes.len().next_multiple_of(BLOCK_BYTES);
        let mut blocks = self.pool.acquire().await?.narrow(..length);
        blocks[..bytes.len()].copy_from_slice(&bytes);
        blocks[bytes.len()..].fill(0);
        Ok(blocks.freeze())
    }
}

fn plan(job: &PlotJob) -> SectorPlan {
    SectorPlan {
        public_key: job.public_key,
        sector_index: job.sector.sector_index,
        history_size: job.sector.history_size,
        pieces_in_sector: job.pieces_in_sector,
    }
}
