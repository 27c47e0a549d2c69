//! New segments into the caches, then the acknowledgement, then the word that history has grown.

use std::collections::BTreeSet;
use std::future::ready;
use std::time::Duration;

use consensus::constants::SEGMENT_PIECES;
use consensus::piece::PieceIndex;
use consensus::segment::SegmentHeader;
use engine::pool::Slab;
use futures::{FutureExt, StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use transport::message::{Blake3Hash, ItemKind, Layout, Request, Response};

use super::history::HistoryError;
use super::pieces::{PieceError, Segment, into_slab};
use super::todo::Todo;
use super::{Context, RoleError};
use bus::BusError;
use bus::epochs::Epochs;
use control::ids::InstanceId;
use control::messages::{self, Epoch, Role};
use control::rendezvous::Owners;
use node::SegmentHeaderJson;
use node::client::FeedEvent;

/// How often it is looked whether there is something to do.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause before the node is asked for headers again.
const HEADERS_PAUSE: Duration = Duration::from_secs(1);
/// Pieces on their way to caches at once.
const PUTS_IN_FLIGHT: usize = 8;
/// A cache writes to its disk before it answers.
const PUT_TIMEOUT: Duration = Duration::from_secs(15);
/// Time to bring a segment into the caches: the node waits two minutes for its acknowledgement.
const PLACE_LIMIT: Duration = Duration::from_secs(75);
/// Owners tried: the owner, and those who would be. Readers ask them in the same order.
const OWNERS_TRIED: usize = 3;

/// Follows the node's segments until the bus is closed or the node changes its chain.
pub async fn follow(context: &Context) -> Result<(), RoleError> {
    let mut work = Work {
        context,
        epochs: Epochs::open(&**context.bus()).await?,
        todo: Todo::default(),
        owed: BTreeSet::new(),
    };
    let mut headers = context.node.archived_segment_headers();
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Whatever the node announced goes before what is left from earlier.
            biased;
            event = headers.next() => work.on_event(event).await?,
            _ = ticks.tick() => work.step().await,
        }
    }
}

struct Work<'a> {
    context: &'a Context,
    epochs: Epochs,
    todo: Todo,
    /// Segments for which the present subscription owes an acknowledgement.
    owed: BTreeSet<u64>,
}

impl Work<'_> {
    async fn on_event(&mut self, event: FeedEvent<SegmentHeaderJson>) -> Result<(), RoleError> {
        let known = self.context.history.segments();
        self.catch_up().await?;
        let now = Instant::now();
        match event {
            FeedEvent::Lost => {}
            FeedEvent::Began => self.owed.clear(),
            FeedEvent::Item(header) => {
                let SegmentHeader { segment_index, .. } = header.into();
                tracing::info!(segment_index, "the node archived a segment");
                self.owed.insert(segment_index);
                self.todo.add(segment_index, now);
            }
        }
        (known..self.context.history.segments()).for_each(|index| self.todo.add(index, now));
        Ok(())
    }

    /// Reads new headers and tells the cluster of their commitments, however long node and bus take.
    async fn catch_up(&self) -> Result<(), RoleError> {
        loop {
            let connection = self.context.node.connected().await;
            match self.context.history.catch_up(&connection).await {
                Ok(()) => match self.tell_commitments().await {
                    Ok(()) => return Ok(()),
                    Err(error) => tracing::warn!("the cluster does not hear of new segments now: {error}"),
                },
                Err(HistoryError::Broken(broken)) => return Err(RoleError::own(broken)),
                Err(HistoryError::Node(error)) => tracing::warn!("{error}"),
            }
            sleep(HEADERS_PAUSE).await;
        }
    }

    /// Writes the commitments that the cluster has not. All write them in order, so what is missing is at the end.
    async fn tell_commitments(&self) -> Result<(), BusError> {
        let segments = self.context.history.segments();
        let mut first = segments;
        while first > 0 && self.context.cluster.segment(first - 1).await?.is_none() {
            first -= 1;
        }
        for index in first..segments {
            let commitment = self.context.history.commitment(index).expect("below the number of segments");
            self.context.cluster.put_segment(index, &commitment).await?;
        }
        Ok(())
    }

    /// Does one segment, if one is due.
    async fn step(&mut self) {
        let now = Instant::now();
        // Without caches only what the node is about to forget is worth its memory.
        let has_caches = [Role::ShardedCache, Role::FullPieceCache]
            .iter()
            .any(|role| !self.context.host.members(*role).is_empty());
        let due = self.todo.next(now).filter(|index| has_caches || self.owed.contains(index));
        let Some(index) = due else { return };
        match self.bring(index).await {
            Ok(true) => self.todo.done(index),
            Ok(false) => self.todo.failed(index, Instant::now()),
            Err(error) => {
                // Old segments are seldom at hand, and the caches have them from elsewhere.
                match error {
                    StepError::Piece(PieceError::NotAtHand(_)) => {
                        tracing::debug!(segment_index = index, "{error}");
                    }
                    _ => tracing::warn!(segment_index = index, "a segment is not in the caches yet: {error}"),
                }
                self.todo.failed(index, Instant::now());
            }
        }
        self.acknowledge(index).await;
        if let Err(error) = self.context.tell_history(index + 1).await {
            tracing::warn!("the cluster does not hear of new segments now: {error}");
        }
    }

    /// Brings a segment into the caches; whether it is there.
    async fn bring(&self, index: u64) -> Result<bool, StepError> {
        let Context { cluster, pieces, host, .. } = self.context;
        if cluster.is_placed(index).await? {
            return Ok(true);
        }
        let segment = pieces.segment(index).await?;
        let epoch = self.epochs.current().await?.map(|(epoch, _)| epoch);
        let epoch = epoch.unwrap_or(Epoch { number: 0, members: Vec::new() });
        let placed = timeout(PLACE_LIMIT, self.place(index, &segment, &Owners::new(&epoch))).await;
        let placed = placed.unwrap_or(0);
        if placed < SEGMENT_PIECES {
            let caches = host.members(Role::ShardedCache).len() + host.members(Role::FullPieceCache).len();
            tracing::info!(segment_index = index, placed, caches, "not all pieces found a cache");
            return Ok(false);
        }
        cluster.put_placed(index, epoch.number).await?;
        pieces.let_go(index);
        tracing::info!(segment_index = index, epoch = epoch.number, "segment is in the caches");
        Ok(true)
    }

    /// How many pieces of the segment a cache has taken.
    async fn place(&self, index: u64, segment: &Segment, owners: &Owners) -> usize {
        let puts = stream::iter(0..=u8::MAX)
            .map(|position| self.place_piece(index, position, segment, owners).boxed())
            .buffer_unordered(PUTS_IN_FLIGHT);
        puts.fold(0, |taken, is_taken| ready(taken + usize::from(is_taken))).await
    }

    /// Gives a piece to its owner, or to the next one, and to all full-piece caches. Whether those who are asked for it first have it.
    async fn place_piece(
        &self,
        segment_index: u64,
        position: u8,
        segment: &Segment,
        owners: &Owners,
    ) -> bool {
        let Context { host, .. } = self.context;
        let index = PieceIndex::new(segment_index, position).expect("the segment is part of history");
        let slab = into_slab(&segment[usize::from(position)], host.pool()).await;
        let Ok((slab, blake3)) = slab else { return false };
        let mut in_full = false;
        for cache in host.members(Role::FullPieceCache) {
            in_full |= self.put(cache.id, index, &slab, blake3).await;
        }
        let owners = owners.of(messages::ItemKind::Piece, index.0, OWNERS_TRIED);
        if owners.is_empty() {
            return in_full;
        }
        let present: BTreeSet<_> = host.members(Role::ShardedCache).iter().map(|entry| entry.id).collect();
        for owner in owners.into_iter().filter(|owner| present.contains(owner)) {
            if self.put(owner, index, &slab, blake3).await {
                return true;
            }
        }
        false
    }

    /// Whether `peer` has taken the piece.
    async fn put(&self, peer: InstanceId, index: PieceIndex, slab: &Slab, blake3: Blake3Hash) -> bool {
        let request = Request::PutItem { index: index.0, kind: ItemKind::Piece, blake3 };
        let payload = vec![slab.clone()];
        match self.context.host.request(peer, request, payload, Layout::Piece, PUT_TIMEOUT).await {
            Ok(reply) => reply.response == Response::Stored,
            Err(error) => {
                tracing::debug!(index = index.0, "piece not taken: {error}");
                false
            }
        }
    }

    /// Tells the own node that a segment is dealt with, if it waits for that.
    async fn acknowledge(&mut self, index: u64) {
        if !self.owed.remove(&index) {
            return;
        }
        let answer = match self.context.node.connection().await {
            Ok(connection) => connection.acknowledge_archived_segment_header(index).await,
            Err(error) => Err(error),
        };
        if let Err(error) = answer {
            tracing::warn!(
                segment_index = index,
                "a segment is not acknowledged, the node will wait: {error}"
            );
        }
    }
}

/// Why a segment is not in the caches.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Piece(#[from] PieceError),
}
