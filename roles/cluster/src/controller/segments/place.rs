//! The pieces of a segment into the caches: to their owners, or those that would be, and to every full-piece cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use consensus::constants::SEGMENT_PIECES;
use consensus::piece::PieceIndex;
use consensus::piece_set::PieceSet;
use control::ids::InstanceId;
use control::messages::{self, Epoch, HoldingsAnswer, HoldingsRequest, MemberEntry, Role};
use control::rendezvous::{OWNERS_TRIED, Owners, fingerprint};
use engine::pool::Slab;
use futures::{FutureExt, StreamExt, stream};
use tokio::time::timeout;
use transport::message::{Blake3Hash, ItemKind, Layout, Request, Response};

use super::super::context::Context;
use super::super::pieces::{PieceError, into_slab};
use super::super::spool::SpoolError;
use super::look::holdings_of;

/// Caches asked at once what they have.
const ASKED_AT_ONCE: usize = 16;
/// Pieces on their way to caches at once.
const PUTS_IN_FLIGHT: usize = 8;
/// A cache writes to its disk before it answers.
const PUT_TIMEOUT: Duration = Duration::from_secs(15);
/// Time to bring a segment into the caches; what is not there then is tried again.
const PLACE_LIMIT: Duration = Duration::from_secs(300);
/// Tries with a cache that refuses: it may be busy, or still looking at its disk.
const TRIES: u32 = 3;
/// Pause between them.
const TRY_PAUSE: Duration = Duration::from_millis(500);
/// A cache that did not answer so often is left out for this time: what hangs costs only itself.
const SILENCES_MAX: u32 = 4;

/// What placing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// Each piece is durable in as many caches as the epoch says.
    All,
    /// Not each.
    NotAll,
    /// Each is, except for those of which the spool's copy is damaged: that copy is of no more use, and was dropped.
    Damaged,
}

/// What became of one piece.
enum Piece {
    Taken,
    NotTaken,
    Damaged,
}

/// Segments of which it was told that they wait for caches.
#[derive(Default)]
pub struct Told(Mutex<BTreeSet<u64>>);

impl Told {
    fn segments(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment waits. Whether that is to be told.
    fn waits(&self, index: u64) -> bool {
        self.segments().insert(index)
    }

    /// It waits no longer.
    fn over(&self, index: u64) {
        self.segments().remove(&index);
    }
}

/// One segment on its way.
struct Placing<'a> {
    context: &'a Context,
    segment_index: u64,
    owners: Owners,
    /// Caches that must have each piece.
    copies: usize,
    /// What each cache has of it already: it is not brought again.
    held: BTreeMap<InstanceId, PieceSet>,
    /// How often each cache did not answer.
    silences: Mutex<BTreeMap<InstanceId, u32>>,
}

/// Brings all pieces of a segment that is here to their owners in `epoch` and to all full-piece caches.
pub async fn place(context: &Context, index: u64, epoch: Option<Epoch>, told: &Told) -> Placed {
    let epoch = epoch.unwrap_or_else(Epoch::nobody);
    let (owners, copies) = (Owners::new(&epoch), usize::from(epoch.copies.max(1)));
    let held = held(context, index, fingerprint(&epoch)).await;
    let placing = Placing { context, segment_index: index, owners, copies, held, silences: Mutex::default() };
    let (mut taken, mut damaged) = (0, 0);
    let all = async {
        let mut pieces = stream::iter(0..=u8::MAX)
            .map(|position| placing.place(position).boxed())
            .buffer_unordered(PUTS_IN_FLIGHT);
        while let Some(piece) = pieces.next().await {
            match piece {
                Piece::Taken => taken += 1,
                Piece::NotTaken => {}
                Piece::Damaged => damaged += 1,
            }
        }
    };
    let is_late = timeout(PLACE_LIMIT, all).await.is_err();
    if taken == SEGMENT_PIECES {
        told.over(index);
        return Placed::All;
    }
    if damaged > 0 && taken + damaged == SEGMENT_PIECES {
        tracing::error!(
            segment_index = index,
            damaged,
            "pieces are damaged in the spool, the others are in the caches"
        );
        // What cannot be removed is overwritten by the next fetch.
        let _ = context.pieces.delete_segment(index).await;
        return Placed::Damaged;
    }
    let (caches, waiting) = (context.caches(), SEGMENT_PIECES - taken);
    let missing = match copies {
        1 => "no cache that takes them".to_owned(),
        copies => format!("fewer than {copies} caches that take them (--copies)"),
    };
    if told.waits(index) {
        tracing::warn!(
            caches,
            damaged,
            is_late,
            "segment {index} waits: {waiting} of {SEGMENT_PIECES} pieces found {missing}; sectors are made without it until caches have room"
        );
    } else {
        tracing::debug!(
            segment_index = index,
            waiting,
            damaged,
            caches,
            is_late,
            "it still waits for caches"
        );
    }
    Placed::NotAll
}

/// What the present caches have of a segment; one that does not say has nothing. Asked as by one who lets go, since the spool's copy is
/// deleted for it: what they only found a header of does not count.
async fn held(context: &Context, from_segment: u64, epoch: u64) -> BTreeMap<InstanceId, PieceSet> {
    let (genesis_hash, lets_go_by) = (context.genesis_hash, Some(epoch));
    let request = HoldingsRequest { genesis_hash, from_segment, segments: 1, lets_go_by };
    let roles = [Role::ShardedCache, Role::FullPieceCache].into_iter();
    let caches = roles.flat_map(|role| context.host.members(role));
    let asks = caches.map(|cache| holdings_of(context, request, cache.id).boxed());
    let answers = stream::iter(asks).buffer_unordered(ASKED_AT_ONCE);
    let set = |(cache, answer)| match answer {
        Ok(HoldingsAnswer::Held { pieces, .. }) => Some((cache, PieceSet::from_bytes(*pieces.first()?))),
        _ => None,
    };
    answers.filter_map(async |answer| set(answer)).collect().await
}

impl Placing<'_> {
    async fn place(&self, position: u8) -> Piece {
        let Some(index) = PieceIndex::new(self.segment_index, position) else { return Piece::NotTaken };
        match self.place_piece(index).await {
            Ok(true) => Piece::Taken,
            Ok(false) => Piece::NotTaken,
            Err(PieceError::Spool(error @ SpoolError::Damaged { .. })) => {
                tracing::debug!("{error}");
                Piece::Damaged
            }
            Err(error) => {
                tracing::debug!(index = index.0, "piece not placed: {error}");
                Piece::NotTaken
            }
        }
    }

    /// Gives a piece to its owners, or to the next ones, and to all full-piece caches. Whether enough caches that readers ask have it.
    async fn place_piece(&self, index: PieceIndex) -> Result<bool, PieceError> {
        let host = &self.context.host;
        let full = host.members(Role::FullPieceCache);
        let shards = host.members(Role::ShardedCache);
        let owners = self.owners.of(messages::ItemKind::Piece, index.0, OWNERS_TRIED);
        let owners: Vec<_> =
            owners.iter().filter_map(|owner| shards.iter().find(|shard| shard.id == *owner)).collect();
        let has_it =
            |cache: &MemberEntry| self.held.get(&cache.id).is_some_and(|set| set.contains(index.position()));
        // Whoever misses it at its owners asks a full-piece cache.
        let (mut in_full, mut in_shards) = (0, owners.iter().filter(|cache| has_it(cache)).count());
        let mut takers = owners.into_iter().filter(|cache| !has_it(cache) && !cache.is_full);
        let is_everywhere = full.iter().all(&has_it) && in_shards >= self.copies;
        if is_everywhere {
            return Ok(true);
        }
        let Some(piece) = self.context.pieces.held(index).await? else { return Ok(false) };
        let (slab, blake3) = into_slab(&piece, host.pool()).await?;
        drop(piece);
        for cache in &full {
            let is_here = has_it(cache) || (!cache.is_full && self.put(cache.id, index, &slab, blake3).await);
            in_full += usize::from(is_here);
        }
        while in_shards < self.copies
            && let Some(cache) = takers.next()
        {
            in_shards += usize::from(self.put(cache.id, index, &slab, blake3).await);
        }
        Ok(in_full + in_shards >= self.copies)
    }

    /// Whether `peer` has taken the piece.
    async fn put(&self, peer: InstanceId, index: PieceIndex, slab: &Slab, blake3: Blake3Hash) -> bool {
        for round in 0..TRIES {
            if self.silences().get(&peer).is_some_and(|count| *count >= SILENCES_MAX) {
                return false;
            }
            if round > 0 {
                tokio::time::sleep(TRY_PAUSE).await;
            }
            let request = Request::PutItem { index: index.0, kind: ItemKind::Piece, blake3 };
            let payload = vec![slab.clone()];
            let asked = self.context.host.request(peer, request, payload, Layout::Piece, PUT_TIMEOUT);
            match asked.await {
                Ok(reply) => return reply.response == Response::Stored,
                Err(error) => {
                    tracing::debug!(index = index.0, "piece not taken: {error}");
                    if error.refusal().is_none() {
                        *self.silences().entry(peer).or_default() += 1;
                        return false;
                    }
                }
            }
        }
        false
    }

    fn silences(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceId, u32>> {
        self.silences.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_waits_is_told_once() {
        let told = Told::default();
        assert_eq!([3, 3, 4, 3].map(|index| told.waits(index)), [true, false, true, false]);
        told.over(3);
        assert_eq!([3, 4].map(|index| told.waits(index)), [true, false]);
    }
}
