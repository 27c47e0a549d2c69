//! The pieces of a segment into the caches.

use std::collections::BTreeSet;
use std::time::Duration;

use consensus::constants::SEGMENT_PIECES;
use consensus::piece::PieceIndex;
use control::ids::InstanceId;
use control::messages::{self, Epoch, Role};
use control::rendezvous::Owners;
use engine::pool::Slab;
use futures::{FutureExt, StreamExt, stream};
use tokio::time::timeout;
use transport::message::{Blake3Hash, ItemKind, Layout, Request, Response};

use super::super::context::Context;
use super::super::pieces::{PieceError, into_slab};

/// Pieces on their way to caches at once.
const PUTS_IN_FLIGHT: usize = 8;
/// A cache writes to its disk before it answers.
const PUT_TIMEOUT: Duration = Duration::from_secs(15);
/// Time to bring a segment into the caches; what is not there then is tried again.
const PLACE_LIMIT: Duration = Duration::from_secs(75);
/// Owners tried: the owner, and those who would be. Readers ask them in the same order.
const OWNERS_TRIED: usize = 3;

/// What placing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// Each piece is durable in a cache.
    All,
    /// Not each.
    NotAll,
    /// The spool's copy cannot be used, and was dropped.
    Damaged,
}

/// Brings all pieces of a segment that is here to their owners in `epoch` and to all full-piece caches.
pub async fn place(context: &Context, index: u64, epoch: Option<Epoch>) -> Placed {
    let owners = Owners::new(&epoch.unwrap_or(Epoch { number: 0, members: Vec::new() }));
    let placing = async {
        let mut puts = stream::iter(0..=u8::MAX)
            .map(|position| place_piece(context, index, position, &owners).boxed())
            .buffer_unordered(PUTS_IN_FLIGHT);
        let mut taken = 0;
        while let Some(put) = puts.next().await {
            taken += usize::from(put?);
        }
        Ok(taken)
    };
    match timeout(PLACE_LIMIT, placing).await {
        Ok(Ok(SEGMENT_PIECES)) => Placed::All,
        Ok(Err(PieceError::Spool(error))) => {
            tracing::error!(segment_index = index, "{error}");
            // What cannot be removed is overwritten by the next fetch.
            let _ = context.pieces.delete_segment(index).await;
            Placed::Damaged
        }
        outcome => {
            let placed = outcome.map_or(0, |taken: Result<usize, PieceError>| taken.unwrap_or(0));
            let caches = context.caches();
            tracing::info!(segment_index = index, placed, caches, "not all pieces found a cache");
            Placed::NotAll
        }
    }
}

/// Gives a piece to its owner, or to the next one, and to all full-piece caches. Whether one of those who are asked for it first has it.
async fn place_piece(
    context: &Context,
    segment_index: u64,
    position: u8,
    owners: &Owners,
) -> Result<bool, PieceError> {
    let host = &context.host;
    let index = PieceIndex::new(segment_index, position).expect("the segment is part of history");
    let Some(piece) = context.pieces.held(index).await? else { return Ok(false) };
    let (slab, blake3) = into_slab(&piece, host.pool()).await?;
    let mut in_full = false;
    for cache in host.members(Role::FullPieceCache) {
        in_full |= put(context, cache.id, index, &slab, blake3).await;
    }
    let owners = owners.of(messages::ItemKind::Piece, index.0, OWNERS_TRIED);
    let present: BTreeSet<_> = host.members(Role::ShardedCache).iter().map(|entry| entry.id).collect();
    let mut present = owners.into_iter().filter(|owner| present.contains(owner)).peekable();
    // Without an owner that is there a full-piece cache will do: whoever misses the piece elsewhere asks it.
    if present.peek().is_none() {
        return Ok(in_full);
    }
    for owner in present {
        if put(context, owner, index, &slab, blake3).await {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `peer` has taken the piece.
async fn put(
    context: &Context,
    peer: InstanceId,
    index: PieceIndex,
    slab: &Slab,
    blake3: Blake3Hash,
) -> bool {
    let request = Request::PutItem { index: index.0, kind: ItemKind::Piece, blake3 };
    let payload = vec![slab.clone()];
    match context.host.request(peer, request, payload, Layout::Piece, PUT_TIMEOUT).await {
        Ok(reply) => reply.response == Response::Stored,
        Err(error) => {
            tracing::debug!(index = index.0, "piece not taken: {error}");
            false
        }
    }
}
