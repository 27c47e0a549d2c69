//! Pieces from the own node, verified in full, and those that wait here until the caches have them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use consensus::kzg::PointBytes;
use consensus::piece::{Piece, PieceIndex};
use consensus::piece_verify::InvalidPiece;
use engine::pool::{AcquireError, Pool, Slab};
use futures::future::try_join_all;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use transport::tcp::{PIECE_POINTS_AT, PIECE_RECORD_AT};

use super::history::History;
use super::spool::{Spool, SpoolError};
use super::verifier::{Verified, Verifier};
use node::PIECES_IN_FLIGHT_MAX;
use node::client::{NodeClient, NodeError};

/// Why a piece cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    /// No such segment yet.
    #[error("piece {0} is not part of history yet")]
    Future(u64),
    /// The node gives out only its newest and its first segment.
    #[error("the node has not piece {0} at hand")]
    NotAtHand(u64),
    /// Another segment is being rebuilt.
    #[error("piece {0} is not here, and another segment is being rebuilt")]
    Busy(u64),
    /// It is being rebuilt.
    #[error("piece {0} is being rebuilt from others of its segment")]
    NotYet(u64),
    /// The node failed.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The node's piece is wrong.
    #[error("the node's piece {index} is damaged: {error}")]
    Invalid {
        /// Which.
        index: u64,
        /// What is wrong.
        error: InvalidPiece,
    },
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// No memory for it.
    #[error(transparent)]
    Memory(#[from] AcquireError),
    /// The controller ends.
    #[error("this controller ends")]
    Ended,
}

/// The 256 pieces of a segment, in order.
pub type Segment = Arc<Vec<Verified>>;

/// Gets pieces; at most [`PIECES_IN_FLIGHT_MAX`] at a time.
pub struct Pieces {
    node: NodeClient,
    history: Arc<History>,
    verifier: Verifier,
    permits: Semaphore,
    spool: Arc<Spool>,
    /// The segment that is on its way to the spool, or that no disk takes.
    in_memory: Mutex<Option<(u64, Segment)>>,
    /// Whether the last write to the spool failed.
    is_refused: AtomicBool,
}

impl Pieces {
    pub fn new(node: NodeClient, history: Arc<History>, verifier: Verifier, spool: Arc<Spool>) -> Self {
        let permits = Semaphore::new(PIECES_IN_FLIGHT_MAX);
        Self {
            node,
            history,
            verifier,
            permits,
            spool,
            in_memory: Mutex::default(),
            is_refused: AtomicBool::new(false),
        }
    }

    /// Gets all pieces of a segment from the node. They stay in memory until [`Self::let_go`].
    pub async fn fetch_segment(&self, segment_index: u64) -> Result<(), PieceError> {
        // The first alone: where it is not at hand, nothing of its segment is.
        let (index, first) = self.at(segment_index, 0).await?;
        let mut pieces = vec![self.verify(index, first).await?];
        let rest = stream::iter(1..=u8::MAX).map(|position| self.at(segment_index, position).boxed());
        let rest = rest.buffered(PIECES_IN_FLIGHT_MAX).try_collect::<Vec<_>>().await?;
        // All of them at once: a batch costs hardly more than a piece.
        pieces.extend(try_join_all(rest.into_iter().map(|(index, piece)| self.verify(index, piece))).await?);
        *self.in_memory() = Some((segment_index, Arc::new(pieces)));
        Ok(())
    }

    /// Makes the segment in memory durable in the spool, and forgets it here.
    pub async fn spool_segment(&self, segment_index: u64) -> Result<(), PieceError> {
        let commitment = self.history.commitment(segment_index).ok_or(PieceError::Future(segment_index))?;
        let segment = self.segment_in_memory(segment_index).ok_or(PieceError::NotAtHand(segment_index))?;
        self.blocking(move |spool| spool.write(segment_index, &commitment, &segment)).await?;
        self.let_go(segment_index);
        Ok(())
    }

    /// Notes whether the spool's disk refused the last write, and gives what was noted before: so that it is told once.
    pub fn disk_refuses(&self, is_refused: bool) -> bool {
        self.is_refused.swap(is_refused, Ordering::Relaxed)
    }

    /// Removes a segment from the spool.
    pub async fn delete_segment(&self, segment_index: u64) -> Result<(), PieceError> {
        self.blocking(move |spool| spool.delete(segment_index)).await
    }

    /// Forgets the segment in memory.
    pub fn let_go(&self, segment_index: u64) {
        self.in_memory().take_if(|(index, _)| *index == segment_index);
    }

    /// A piece that is here: in memory, or in the spool. None also while it is not known what its segment commits to.
    pub async fn held(&self, index: PieceIndex) -> Result<Option<Verified>, PieceError> {
        let (segment_index, position) = (index.segment_index(), index.position());
        if let Some(segment) = self.segment_in_memory(segment_index) {
            return Ok(Some(segment[usize::from(position)].clone()));
        }
        let Some(commitment) = self.history.commitment(segment_index) else { return Ok(None) };
        self.blocking(move |spool| {
            spool.has(segment_index).then(|| spool.read(segment_index, &commitment, position)).transpose()
        })
        .await
    }

    /// A piece in memory of `pool`, laid out as a piece, and its hash.
    pub async fn piece(&self, index: u64, pool: &Pool) -> Result<(Slab, [u8; 32]), PieceError> {
        let index = PieceIndex(index);
        match self.held(index).await {
            Ok(Some(verified)) => into_slab(&verified, pool).await,
            // A bad disk here is no reason not to ask the node.
            Ok(None) | Err(PieceError::Spool(_)) => into_slab(&self.fetch(index).await?, pool).await,
            Err(error) => Err(error),
        }
    }

    fn in_memory(&self) -> MutexGuard<'_, Option<(u64, Segment)>> {
        self.in_memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment_in_memory(&self, segment_index: u64) -> Option<Segment> {
        let held = self.in_memory();
        held.as_ref().filter(|(index, _)| *index == segment_index).map(|(_, segment)| segment.clone())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Spool) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, PieceError> {
        let spool = self.spool.clone();
        let done = tokio::task::spawn_blocking(move || work(&spool)).await;
        done.map_err(|_| PieceError::Ended)?.map_err(Into::into)
    }

    /// A piece of the node's, verified.
    async fn fetch(&self, index: PieceIndex) -> Result<Verified, PieceError> {
        // Not worth asking for where it could not be verified.
        self.commitment_of(index)?;
        self.verify(index, self.ask_node(index).await?).await
    }

    /// A piece of a segment, as the node has it.
    async fn at(&self, segment_index: u64, position: u8) -> Result<(PieceIndex, Piece), PieceError> {
        let index = PieceIndex::new(segment_index, position).ok_or(PieceError::Future(u64::MAX))?;
        // Not worth asking for where it could not be verified.
        self.commitment_of(index)?;
        Ok((index, self.ask_node(index).await?))
    }

    /// A piece as the node has it.
    async fn ask_node(&self, index: PieceIndex) -> Result<Piece, PieceError> {
        let _permit = self.permits.acquire().await.expect("never closed");
        let piece = self.node.connection().await?.piece(index.0).await?;
        piece.ok_or(PieceError::NotAtHand(index.0))
    }

    async fn verify(&self, index: PieceIndex, piece: Piece) -> Result<Verified, PieceError> {
        let commitment = self.commitment_of(index)?;
        let verdict = self.verifier.verify(index, commitment, piece).await.ok_or(PieceError::Ended)?;
        verdict.map_err(|error| PieceError::Invalid { index: index.0, error })
    }

    fn commitment_of(&self, index: PieceIndex) -> Result<PointBytes, PieceError> {
        self.history.commitment(index.segment_index()).ok_or(PieceError::Future(index.0))
    }
}

/// Copies a piece to where transport and disks want it.
pub async fn into_slab(verified: &Verified, pool: &Pool) -> Result<(Slab, [u8; 32]), PieceError> {
    let (piece, hash) = verified;
    let piece = piece.view();
    let mut slab = pool.acquire().await?;
    let (points, record) = slab.split_at_mut(PIECE_RECORD_AT);
    let (commitment, witness) = points[PIECE_POINTS_AT..].split_at_mut(piece.commitment.len());
    commitment.copy_from_slice(piece.commitment);
    witness.copy_from_slice(piece.witness);
    let record_bytes = piece.record.as_flattened();
    record[..record_bytes.len()].copy_from_slice(record_bytes);
    Ok((slab.narrow(..PIECE_RECORD_AT + record_bytes.len()).freeze(), *hash))
}
