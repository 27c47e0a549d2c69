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

use std::collections::{BTreeMap, BTreeSet};
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
use futures::future::try_join_all;
use futures::{FutureExt, StreamExt, stream};
use tokio::time::{Instant, timeout};
use transport::message::{ItemKind, Layout, Request, Response};
use transport::tcp::{PIECE_POINTS_AT, PIECE_RECORD_AT};

use super::context::Context;
use super::segments::holdings_of;
use super::verifier::{Verified, Verifier};
use crate::host::{Host, HostError};
use crate::pieces::patience;
use crate::silence::Silences;

/// Pieces that make a segment.
const ENOUGH: usize = SEGMENT_PIECES / 2;
/// Pieces on their way at once.
const GATHERED_AT_ONCE: usize = 8;
/// How long what was rebuilt is kept after it was last asked for.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// So long after that another segment may take its place: whoever wants more of it asks every few seconds.
const ASKED_WITHIN: Duration = Duration::from_secs(30);
/// Time for one segment; what hangs is given up.
const REBUILT_WITHIN: Duration = Duration::from_secs(600);
/// Before a controller has run for so long it does not know who is there: a cache says so every two seconds, and a bit.
const HEARD_WITHIN: Duration = Duration::from_secs(6);
/// Pauses after a segment could not be rebuilt. They are over when a cache comes.
const FAILED_PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(900));
/// Segments of which it is remembered that they could not be; the one that may be tried again first is forgotten.
const FAILED_MAX: usize = 1024;

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
    /// Caches that are there do not say what they have.
    #[error(
        "segment {segment_index} is not rebuilt yet: {left} pieces of it are known, and {unanswered} of the present caches do not say what they have"
    )]
    Unanswered {
        /// Which.
        segment_index: u64,
        /// Pieces that other caches say they have.
        left: usize,
        /// Caches that did not answer.
        unanswered: usize,
    },
    /// It took too long.
    #[error("segment {segment_index} is not rebuilt: its pieces did not come in {} s", REBUILT_WITHIN.as_secs())]
    Late {
        /// Which.
        segment_index: u64,
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

/// The segment that is rebuilt, or was.
#[derive(Default)]
enum Present {
    #[default]
    Nothing,
    Underway {
        segment_index: u64,
    },
    Done {
        segment_index: u64,
        pieces: BTreeMap<u8, Verified>,
        asked_at: Instant,
    },
}

#[derive(Default)]
struct State {
    present: Present,
    /// Segments that could not be rebuilt.
    failed: BTreeMap<u64, Failed>,
}

/// A segment that could not be rebuilt.
struct Failed {
    /// Not before then it is tried again,
    not_before: Instant,
    /// which is after this pause,
    pause: Duration,
    /// unless others than these caches have come.
    caches: BTreeSet<InstanceId>,
}

/// What a rebuilder says about a piece.
pub enum Rebuilt {
    /// Here it is.
    Piece(Box<Verified>),
    /// It is being made: ask again.
    NotYet,
    /// Another segment is, or others still come for that: ask somebody else.
    Busy,
    /// It cannot be had this way now.
    Not,
}

/// The rebuilder of one controller; clones are handles to the same.
#[derive(Clone)]
pub struct Rebuilder(Arc<Inner>);

struct Inner {
    context: Arc<Context>,
    kzg: Arc<Kzg>,
    workers: ThreadWorkers,
    verifier: Verifier,
    started: Instant,
    state: Mutex<State>,
}

impl Rebuilder {
    pub fn new(context: Arc<Context>, kzg: Arc<Kzg>, workers: ThreadWorkers, verifier: Verifier) -> Self {
        let started = Instant::now();
        Self(Arc::new(Inner { context, kzg, workers, verifier, started, state: Mutex::default() }))
    }

    /// A piece that was rebuilt. If it was not, that begins now, unless another segment is being rebuilt, or this one just could not.
    pub fn piece(&self, index: PieceIndex) -> Rebuilt {
        let (segment_index, position, now) = (index.segment_index(), index.position(), Instant::now());
        if now < self.0.started + HEARD_WITHIN {
            return Rebuilt::Busy;
        }
        let caches = self.0.caches();
        let mut state = self.state();
        if state.failed.get(&segment_index).is_some_and(|failed| failed.holds(now, &caches)) {
            return Rebuilt::Not;
        }
        match &mut state.present {
            Present::Underway { segment_index: other } if *other != segment_index => return Rebuilt::Busy,
            Present::Underway { .. } => return Rebuilt::NotYet,
            Present::Done { segment_index: done, pieces, asked_at } => {
                if *done == segment_index
                    && let Some(piece) = pieces.get(&position)
                {
                    *asked_at = now;
                    return Rebuilt::Piece(Box::new(piece.clone()));
                }
                if now < *asked_at + ASKED_WITHIN {
                    return Rebuilt::Busy;
                }
            }
            Present::Nothing => {}
        }
        state.present = Present::Underway { segment_index };
        drop(state);
        tokio::spawn(self.clone().work(index, caches));
        Rebuilt::NotYet
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(self, index: PieceIndex, caches: BTreeSet<InstanceId>) {
        let (segment_index, began) = (index.segment_index(), Instant::now());
        let late = RebuildError::Late { segment_index };
        let rebuilt = timeout(REBUILT_WITHIN, self.0.rebuild(index)).await.unwrap_or(Err(late));
        if self.note(segment_index, began, rebuilt, caches) {
            self.forget_when_nobody_asks(segment_index).await;
        }
    }

    /// Notes what came of it; whether it was rebuilt.
    fn note(
        &self,
        segment_index: u64,
        began: Instant,
        rebuilt: Result<BTreeMap<u8, Verified>, RebuildError>,
        caches: BTreeSet<InstanceId>,
    ) -> bool {
        let (mut state, now) = (self.state(), Instant::now());
        match rebuilt {
            Ok(pieces) => {
                let seconds = began.elapsed().as_secs();
                tracing::info!(
                    segment_index,
                    pieces = pieces.len(),
                    seconds,
                    "pieces that no cache gave are rebuilt"
                );
                state.failed.remove(&segment_index);
                state.present = Present::Done { segment_index, pieces, asked_at: now };
                true
            }
            Err(error) => {
                tracing::error!("{error}");
                state.present = Present::Nothing;
                state.fail(segment_index, now, caches);
                false
            }
        }
    }

    /// Memory is given back when nobody wants it any more.
    async fn forget_when_nobody_asks(&self, segment_index: u64) {
        loop {
            tokio::time::sleep(KEPT_FOR).await;
            let mut state = self.state();
            match &state.present {
                Present::Done { segment_index: done, asked_at, .. } if *done == segment_index => {
                    if asked_at.elapsed() >= KEPT_FOR {
                        state.present = Present::Nothing;
                        return;
                    }
                }
                _ => return,
            }
        }
    }
}

impl State {
    fn fail(&mut self, segment_index: u64, now: Instant, caches: BTreeSet<InstanceId>) {
        let before = self.failed.get(&segment_index).filter(|failed| failed.knew(&caches));
        let pause = before.map_or(FAILED_PAUSE.0, |failed| failed.pause * 2).min(FAILED_PAUSE.1);
        self.failed.insert(segment_index, Failed { not_before: now + pause, pause, caches });
        if self.failed.len() > FAILED_MAX {
            let first = self.failed.iter().min_by_key(|(_, failed)| failed.not_before);
            first.map(|(index, _)| *index).and_then(|index| self.failed.remove(&index));
        }
    }
}

impl Failed {
    /// Whether it is not worth another try yet, with these caches.
    fn holds(&self, now: Instant, caches: &BTreeSet<InstanceId>) -> bool {
        now < self.not_before && self.knew(caches)
    }

    fn knew(&self, caches: &BTreeSet<InstanceId>) -> bool {
        caches.is_subset(&self.caches)
    }
}

impl Inner {
    /// The caches that are there.
    fn caches(&self) -> BTreeSet<InstanceId> {
        let of = |role| self.context.host.members(role);
        [Role::FullPieceCache, Role::ShardedCache].into_iter().flat_map(of).map(|cache| cache.id).collect()
    }

    /// The pieces of a segment that nobody has, and this one. Where somebody gives this one after all, it is that alone.
    async fn rebuild(&self, index: PieceIndex) -> Result<BTreeMap<u8, Verified>, RebuildError> {
        let (segment_index, wanted) = (index.segment_index(), index.position());
        let wrong = RebuildError::Wrong { segment_index };
        let commitment = self.context.history.commitment(segment_index).ok_or(wrong)?;
        let (mut holders, unanswered) = self.holders(segment_index).await;
        let its = holders.remove(&wanted).unwrap_or_default();
        if let Some(piece) = self.get(index, commitment, &its, &Silences::default()).await {
            return Ok([(wanted, piece)].into());
        }
        let left = holders.len();
        if left < ENOUGH {
            return Err(if unanswered > 0 {
                RebuildError::Unanswered { segment_index, left, unanswered }
            } else {
                RebuildError::Lost { segment_index, left }
            });
        }
        let missing: Vec<u8> = (0..=u8::MAX).filter(|position| !holders.contains_key(position)).collect();
        let gathered = self.gather(segment_index, commitment, holders).await?;
        let rebuilt = self.reconstruct(segment_index, commitment, gathered, missing.clone()).await?;
        // All of them at once: a batch costs hardly more than a piece.
        let verified = missing.into_iter().zip(rebuilt).map(async |(position, piece)| {
            let index = PieceIndex::new(segment_index, position).expect("a segment of the history");
            let verdict = self.verifier.verify(index, commitment, piece).await.ok_or(RebuildError::Ended)?;
            verdict.map(|piece| (position, piece)).map_err(|_| RebuildError::Wrong { segment_index })
        });
        Ok(try_join_all(verified).await?.into_iter().collect())
    }

    /// Who has which pieces of a segment, as they say, and how many do not say it.
    async fn holders(&self, segment_index: u64) -> (BTreeMap<u8, Vec<InstanceId>>, usize) {
        let genesis_hash = self.context.genesis_hash;
        let request =
            HoldingsRequest { genesis_hash, from_segment: segment_index, segments: 1, lets_go_by: None };
        let asks = self.caches().into_iter().map(|cache| holdings_of(&self.context, request, cache).boxed());
        let mut answers = stream::iter(asks).buffer_unordered(GATHERED_AT_ONCE);
        let (mut holders, mut unanswered) = (BTreeMap::<u8, Vec<_>>::new(), 0);
        while let Some((cache, answer)) = answers.next().await {
            let Ok(HoldingsAnswer::Held { pieces, .. }) = answer else {
                unanswered += 1;
                continue;
            };
            let set = pieces.first().copied().map(PieceSet::from_bytes).unwrap_or_default();
            for position in (0..=u8::MAX).filter(|position| set.contains(*position)) {
                holders.entry(position).or_default().push(cache);
            }
        }
        (holders, unanswered)
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
        let (mut gathered, silences) = (BTreeMap::new(), Silences::default());
        let silences = &silences;
        let mut pieces = stream::iter(order)
            .map(|(position, holders)| {
                async move {
                    let index = PieceIndex::new(segment_index, position)?;
                    let piece = self.get(index, commitment, &holders, silences).await?;
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
        silences: &Silences,
    ) -> Option<Verified> {
        for &cache in holders {
            if silences.is_silent(cache) {
                continue;
            }
            let asked = get(&self.context.host, cache, index).await;
            silences.note(cache, &asked);
            let piece = match asked {
                Ok(piece) => piece,
                Err(error) => {
                    tracing::debug!(index = index.0, "piece: {error}");
                    continue;
                }
            };
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

async fn get(host: &Host, cache: InstanceId, index: PieceIndex) -> Result<Piece, HostError> {
    let request = Request::GetItem { index: index.0, kind: ItemKind::Piece };
    let nothing = Layout::Run { phase: 0 };
    let reply = host.request(cache, request, Vec::new(), nothing, patience(&Role::ShardedCache)).await?;
    match (reply.response, reply.payload) {
        (Response::Item { .. }, Some(slab)) => Ok(from_slab(&slab.freeze())),
        _ => unreachable!("the transport gives only answers that fit their request"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_segment_is_tried_again_ever_later_or_when_a_cache_comes() {
        let caches = |ids: &[u8]| ids.iter().map(|id| InstanceId([*id; 16])).collect::<BTreeSet<_>>();
        let (mut state, began) = (State::default(), Instant::now());
        let is_held = |state: &State, after: u64, ids: &[u8]| {
            state.failed[&7].holds(began + Duration::from_secs(after), &caches(ids))
        };
        state.fail(7, began, caches(&[1, 2]));
        assert!(is_held(&state, 29, &[1, 2]) && is_held(&state, 29, &[2]), "who has gone brings nothing");
        assert!(!is_held(&state, 30, &[1, 2]) && !is_held(&state, 1, &[1, 2, 3]));
        state.fail(7, began, caches(&[1, 2]));
        assert!(is_held(&state, 59, &[1, 2]) && !is_held(&state, 60, &[1, 2]));
        state.fail(7, began, caches(&[1, 2, 3]));
        assert!(is_held(&state, 29, &[1, 2, 3]) && !is_held(&state, 30, &[1, 2, 3]), "anew");
        (0..2 * FAILED_MAX as u64).for_each(|segment| state.fail(segment, began, caches(&[1])));
        assert_eq!(state.failed.len(), FAILED_MAX);
    }
}
