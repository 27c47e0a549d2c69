//! Pieces from the own node, verified in full, kept while the caches do not have them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use consensus::constants::SEGMENT_PIECES;
use consensus::piece::PieceIndex;
use consensus::piece_verify::InvalidPiece;
use engine::pool::{AcquireError, Pool, Slab};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use transport::tcp::{PIECE_POINTS_AT, PIECE_RECORD_AT};

use super::history::History;
use super::verifier::{Verified, Verifier};
use node::PIECES_IN_FLIGHT_MAX;
use node::client::{NodeClient, NodeError};

/// Whole segments kept in memory, 256 MiB each.
const KEPT_MAX: usize = 2;

/// Why a piece cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
    /// No such segment yet.
    #[error("piece {0} is not part of history yet")]
    Future(u64),
    /// The node gives out only its newest and its first segment.
    #[error("the node has not piece {0} at hand")]
    NotAtHand(u64),
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
    kept: Mutex<BTreeMap<u64, Segment>>,
}

impl Pieces {
    pub fn new(node: NodeClient, history: Arc<History>, verifier: Verifier) -> Self {
        let permits = Semaphore::new(PIECES_IN_FLIGHT_MAX);
        Self { node, history, verifier, permits, kept: Mutex::default() }
    }

    /// All pieces of a segment. They are kept until [`Self::let_go`], or until there are too many.
    pub async fn segment(&self, segment_index: u64) -> Result<Segment, PieceError> {
        if let Some(kept) = self.kept_segment(segment_index) {
            return Ok(kept);
        }
        // The first alone: where it is not at hand, nothing of its segment is.
        let mut pieces = vec![self.fetch_at(segment_index, 0).await?];
        let rest = stream::iter(1..=u8::MAX).map(|position| self.fetch_at(segment_index, position).boxed());
        // More than are fetched at a time, since they wait for their batch as well.
        pieces.extend(rest.buffered(SEGMENT_PIECES).try_collect::<Vec<_>>().await?);
        let segment = Arc::new(pieces);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(segment_index, segment.clone());
        while kept.len() > KEPT_MAX {
            kept.pop_first();
        }
        Ok(segment)
    }

    /// The caches have the segment.
    pub fn let_go(&self, segment_index: u64) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&segment_index);
    }

    /// A piece in memory of `pool`, laid out as a piece, and its hash.
    pub async fn piece(&self, index: u64, pool: &Pool) -> Result<(Slab, [u8; 32]), PieceError> {
        let index = PieceIndex(index);
        match self.kept_segment(index.segment_index()) {
            Some(kept) => into_slab(&kept[usize::from(index.position())], pool).await,
            None => into_slab(&self.fetch(index).await?, pool).await,
        }
    }

    fn kept_segment(&self, segment_index: u64) -> Option<Segment> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&segment_index).cloned()
    }

    async fn fetch_at(&self, segment_index: u64, position: u8) -> Result<Verified, PieceError> {
        let index = PieceIndex::new(segment_index, position).ok_or(PieceError::Future(u64::MAX))?;
        self.fetch(index).await
    }

    async fn fetch(&self, index: PieceIndex) -> Result<Verified, PieceError> {
        let commitment = self.history.commitment(index.segment_index()).ok_or(PieceError::Future(index.0))?;
        let permit = self.permits.acquire().await.expect("never closed");
        let piece = self.node.connection().await?.piece(index.0).await?;
        drop(permit);
        let piece = piece.ok_or(PieceError::NotAtHand(index.0))?;
        let verdict = self.verifier.verify(index, commitment, piece).await.ok_or(PieceError::Ended)?;
        verdict.map_err(|error| PieceError::Invalid { index: index.0, error })
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
