//! Items that others found wrong: read again, one after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bus::{Message, Subscription};
use control::ids::InstanceId;
use control::messages;
use engine::piece_store::{ItemId, ItemKind};
use tokio::sync::Notify;

use super::calls::{Call, Calls, Verdict};
use super::handler::Counters;
use crate::wrong::named;

/// How often it is told that an item is whole after all: anybody may say that it is not.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Who is told of a lost piece.
#[derive(Clone)]
pub struct Losses {
    /// Where it counts.
    pub counters: Arc<Counters>,
    /// The loop that fetches it anew.
    pub lost: Arc<Notify>,
}

impl Losses {
    /// A piece was lost.
    pub fn tell(&self, id: ItemId) {
        tracing::warn!("{id} was damaged on the disk, or could not be read: it is fetched anew");
        self.counters.damaged.fetch_add(1, Ordering::Relaxed);
        self.lost.notify_one();
    }
}

/// Rechecks what is said to be wrong, until the bus is closed. The queue of a subscription is bounded: whoever floods it costs one disk read
/// at a time.
pub async fn follow(me: InstanceId, mut said: Subscription, calls: &Calls, losses: &Losses) {
    let mut told: Option<Instant> = None;
    while let Some(Message { payload, .. }) = said.next().await {
        let Some((kind, index)) = named(&payload, me) else { continue };
        let kind = match kind {
            messages::ItemKind::Piece => ItemKind::Piece,
            messages::ItemKind::ParityPiece => ItemKind::Parity,
        };
        let id = ItemId { kind, index };
        match calls.make(|done| Call::Recheck(id, done)).await {
            Some(Verdict::Lost) => losses.tell(id),
            Some(Verdict::Whole) if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) => {
                told = Some(Instant::now());
                tracing::warn!(
                    "{id} came to another member damaged, and is whole on the disk: check this machine's memory and network"
                );
            }
            _ => {}
        }
    }
}
