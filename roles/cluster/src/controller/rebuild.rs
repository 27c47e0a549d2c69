//! Pieces that nobody has any more, made again from any 128 of their segment, and verified in full like pieces from outside.
//!
//! ```text
//!   asked for a piece ─▶ rebuilt just now? ─ yes ─▶ given
//!                          │ no: being rebuilt from now on, and not there yet
//!                          ▼
//!   who has what ─▶ gather 128, each verified ─▶ reconstruct what nobody has ─▶ verify ─▶ kept for a while ─▶ caches pull it
//!                     └─ fewer are left: told which segment is lost
//! ```
//! Owns: one rebuilt segment at a time, in memory. Never: where its pieces go (each cache pulls what is its own).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use consensus::constants::SEGMENT_PIECES;
use consensus::kzg::{Kzg, PointBytes};
use consensus::piece::{Piece, PieceIndex};
use consensus::piece_set::PieceSet;
use consensus::reconstruct::{ReconstructError, reconstruct_pieces};
use control::ids::InstanceId;
use control::messages::{HoldingsAnswer, HoldingsRequest, Role};
use engine::pool::Slab;
use engine::threads::ThreadWorkers;
use futures::{FutureExt, StreamExt, stream};
use tokio::time::Instant;
use transport::message::{ItemKind, Layout, Request, Response};
use transport::tcp::{PIECE_POINTS_AT, PIECE_RECORD_AT};

use super::context::Context;
use super::segments::holdings_of;
use super::verifier::{Verified, Verifier};
use crate::host::Host;
use crate::pieces::patience;

/// Pieces that make a segment.
const ENOUGH: usize = SEGMENT_PIECES / 2;
/// Pieces on their way at once.
const GATHERED_AT_ONCE: usize = 8;
/// How long what was rebuilt is kept after it was last asked for.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// Pause after a segment could not be rebuilt.
const FAILED_PAUSE: Duration = Duration::from_secs(30);

/// Why a segment cannot be rebuilt now.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// Too few of its pieces are left.
    #[error(
        "segment {segment_index} is lost: of its {SEGMENT_PIECES} pieces {left} are left in the present caches, and {ENOUGH} are needed; \
         start the caches that are away, or connect a controller to a node that still has its blocks (a development node: --all-pieces)"
    )]
    Lost {
        /// Which.
        segment_index: u64,
        /// Pieces that caches say they have.
        left: usize,
    },
    /// Caches that said they have pieces did not give enough of them.
    #[error("segment {segment_index} is not rebuilt: only {gathered} good pieces could be had")]
    Gathered {
        /// Which.
        segment_index: u64,
        /// Pieces that came and are good.
        gathered: usize,
    },
    /// They do not fit each other.
    #[error("segment {segment_index} is not rebuilt: {source}")]
    Reconstruct {
        /// Which.
        segment_index: u64,
        /// Why.
        source: ReconstructError,
    },
    /// What came of it is not what the chain has.
    #[error(
        "segment {segment_index} is not rebuilt: what comes of its pieces is not what the chain commits to"
    )]
    Wrong {
        /// Which.
        segment_index: u64,
    },
    /// The controller ends.
    #[error("this controller ends")]
    Ended,
}

/// What is known of a segment.
#[derive(Default)]
enum State {
    #[default]
    Nothing,
    Underway,
    Done {
        segment_index: u64,
        pieces: BTreeMap<u8, Verified>,
        asked_at: Instant,
    },
    Failed {
        segment_index: u64,
        at: Instant,
    },
}

/// The rebuilder of one controller; clones are handles to the same.
#[derive(Clone)]
pub struct Rebuilder(Arc<Inner>);

struct Inner {
    context: Arc<Context>,
    kzg: Arc<Kzg>,
    workers: ThreadWorkers,
    verifier: Verifier,
    state: Mutex<State>,
}

impl Rebuilder {
    pub fn new(context: Arc<Context>, kzg: Arc<Kzg>, workers: ThreadWorkers, verifier: Verifier) -> Self {
        Self(Arc::new(Inner { context, kzg, workers, verifier, state: Mutex::default() }))
    }

    /// A piece that was rebuilt. If it was not, that begins now, unless another segment is being rebuilt, or this one just could not.
    pub fn piece(&self, index: PieceIndex) -> Option<Verified> {
        let (segment_index, position, now) = (index.segment_index(), index.position(), Instant::now());
        let mut state = self.state();
        match &mut *state {
            State::Underway => return None,
            State::Failed { segment_index: failed, at }
                if *failed == segment_index && now < *at + FAILED_PAUSE =>
            {
                return None;
            }
            State::Done { segment_index: done, pieces, asked_at } if *done == segment_index => {
                if let Some(piece) = pieces.get(&position) {
                    *asked_at = now;
                    return Some(piece.clone());
                }
            }
            // Those who ask for it come again and again until they have it.
            State::Done { asked_at, .. } if now < *asked_at + FAILED_PAUSE => return None,
            _ => {}
        }
        *state = State::Underway;
        drop(state);
        tokio::spawn(self.clone().work(index));
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(self, index: PieceIndex) {
        let segment_index = index.segment_index();
        let began = Instant::now();
        let rebuilt = self.0.rebuild(index).await;
        let now = Instant::now();
        *self.state() = match rebuilt {
            Ok(pieces) => {
                let seconds = began.elapsed().as_secs();
                tracing::info!(
                    segment_index,
                    pieces = pieces.len(),
                    seconds,
                    "pieces that no cache had are rebuilt"
                );
                State::Done { segment_index, pieces, asked_at: now }
            }
            Err(error) => {
                tracing::error!("{error}");
                State::Failed { segment_index, at: now }
            }
        };
        // Memory is given back when nobody wants it any more.
        loop {
            tokio::time::sleep(KEPT_FOR).await;
            let mut state = self.state();
            match &*state {
                State::Done { segment_index: done, asked_at, .. } if *done == segment_index => {
                    if asked_at.elapsed() >= KEPT_FOR {
                        *state = State::Nothing;
                        return;
                    }
                }
                _ => return,
            }
        }
    }
}

impl Inner {
    /// The pieces of a segment that nobody has, and this one.
    async fn rebuild(&self, index: PieceIndex) -> Result<BTreeMap<u8, Verified>, RebuildError> {
        let segment_index = index.segment_index();
        let wrong = RebuildError::Wrong { segment_index };
        let commitment = self.context.history.commitment(segment_index).ok_or(wrong)?;
        let holders = self.holders(segment_index, index.position()).await;
        let left = holders.values().filter(|holders| !holders.is_empty()).count();
        if left < ENOUGH {
            return Err(RebuildError::Lost { segment_index, left });
        }
        let missing: Vec<u8> = (0..=u8::MAX).filter(|position| !holders.contains_key(position)).collect();
        let gathered = self.gather(segment_index, commitment, holders).await?;
        let rebuilt = self.reconstruct(segment_index, commitment, gathered, missing.clone()).await?;
        let mut pieces = BTreeMap::new();
        for (position, piece) in missing.into_iter().zip(rebuilt) {
            let index = PieceIndex::new(segment_index, position).expect("a segment of the history");
            let verdict = self.verifier.verify(index, commitment, piece).await.ok_or(RebuildError::Ended)?;
            pieces.insert(position, verdict.map_err(|_| RebuildError::Wrong { segment_index })?);
        }
        Ok(pieces)
    }

    /// Who has which pieces of a segment, as they say; `wanted` nobody has, since it could not be had.
    async fn holders(&self, segment_index: u64, wanted: u8) -> BTreeMap<u8, Vec<InstanceId>> {
        let genesis_hash = self.context.genesis_hash;
        let request = HoldingsRequest { genesis_hash, from_segment: segment_index, segments: 1 };
        let caches = [Role::FullPieceCache, Role::ShardedCache].map(|role| self.context.host.members(role));
        let asks =
            caches.into_iter().flatten().map(|cache| holdings_of(&self.context, request, cache.id).boxed());
        let mut answers = stream::iter(asks).buffer_unordered(GATHERED_AT_ONCE);
        let mut holders = BTreeMap::<u8, Vec<_>>::new();
        while let Some((cache, answer)) = answers.next().await {
            let Ok(HoldingsAnswer::Held { pieces, .. }) = answer else { continue };
            let Some(set) = pieces.first().copied().map(PieceSet::from_bytes) else { continue };
            for position in (0..=u8::MAX).filter(|position| set.contains(*position) && *position != wanted) {
                holders.entry(position).or_default().push(cache);
            }
        }
        holders
    }

    /// Any 128 pieces, each verified in full. Source pieces first: with them the work is less.
    async fn gather(
        &self,
        segment_index: u64,
        commitment: PointBytes,
        holders: BTreeMap<u8, Vec<InstanceId>>,
    ) -> Result<BTreeMap<u8, Verified>, RebuildError> {
        let mut order: Vec<_> = holders.into_iter().collect();
        order.sort_by_key(|(position, _)| (position % 2, *position));
        let mut gathered = BTreeMap::new();
        let mut pieces = stream::iter(order)
            .map(|(position, holders)| {
                async move {
                    let index = PieceIndex::new(segment_index, position)?;
                    let piece = self.get(index, commitment, &holders).await?;
                    Some((position, piece))
                }
                .boxed()
            })
            .buffer_unordered(GATHERED_AT_ONCE);
        while gathered.len() < ENOUGH
            && let Some(piece) = pieces.next().await
        {
            gathered.extend(piece);
        }
        let count = gathered.len();
        if count < ENOUGH {
            Err(RebuildError::Gathered { segment_index, gathered: count })
        } else {
            Ok(gathered)
        }
    }

    /// A good piece of the first that has one.
    async fn get(
        &self,
        index: PieceIndex,
        commitment: PointBytes,
        holders: &[InstanceId],
    ) -> Option<Verified> {
        for &cache in holders {
            let Some(piece) = get(&self.context.host, cache, index).await else { continue };
            match self.verifier.verify(index, commitment, piece).await? {
                Ok(verified) => return Some(verified),
                Err(error) => {
                    tracing::error!(%cache, "piece {} of this cache is not what the chain has: {error}", index.0);
                }
            }
        }
        None
    }

    async fn reconstruct(
        &self,
        segment_index: u64,
        commitment: PointBytes,
        gathered: BTreeMap<u8, Verified>,
        missing: Vec<u8>,
    ) -> Result<Vec<Piece>, RebuildError> {
        let (kzg, workers) = (self.kzg.clone(), self.workers.clone());
        let work = move || {
            let at = |position: u8| gathered.get(&position).map(|(piece, _)| piece.view());
            let pieces: Vec<_> = (0..=u8::MAX).map(at).collect();
            reconstruct_pieces(&kzg, &workers, &pieces, &missing)
        };
        let done = tokio::task::spawn_blocking(work).await.map_err(|_| RebuildError::Ended)?;
        let rebuilt = done.map_err(|source| RebuildError::Reconstruct { segment_index, source })?;
        let is_right = rebuilt.segment_commitment == commitment;
        if is_right { Ok(rebuilt.pieces) } else { Err(RebuildError::Wrong { segment_index }) }
    }
}

async fn get(host: &Host, cache: InstanceId, index: PieceIndex) -> Option<Piece> {
    let request = Request::GetItem { index: index.0, kind: ItemKind::Piece };
    let nothing = Layout::Run { phase: 0 };
    match host.request(cache, request, Vec::new(), nothing, patience(&Role::ShardedCache)).await {
        Ok(reply) => match (reply.response, reply.payload) {
            (Response::Item { .. }, Some(slab)) => Some(from_slab(&slab.freeze())),
            _ => None,
        },
        Err(error) => {
            tracing::debug!(index = index.0, "piece: {error}");
            None
        }
    }
}

/// A piece as it lies in a slab.
fn from_slab(slab: &Slab) -> Piece {
    let mut piece = Piece::zeroed();
    let (points, record) = slab.split_at(PIECE_RECORD_AT);
    let points = &points[PIECE_POINTS_AT..];
    let record_bytes = piece.record_mut().as_flattened_mut();
    record_bytes.copy_from_slice(&record[..record_bytes.len()]);
    let (commitment, witness) = points.split_at(points.len() / 2);
    piece.set_commitment(commitment.try_into().expect("two points end the block"));
    piece.set_witness(witness.try_into().expect("two points end the block"));
    piece
}
