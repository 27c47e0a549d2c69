//! What a cache answers to whoever asks what it has.
//!
//! ```text
//!   bus: HoldingsRequest ─▶ answer ─ Ask ─▶ executor: the store's index ─▶ HoldingsAnswer
//! ```
//! Nothing is read from the disk, so an answer takes a moment.

use bus::{Message, SharedBus, Subscription};
use consensus::piece_set::PieceSet;
use control::messages::{Control, HoldingsAnswer, HoldingsRequest};
use engine::piece_store::PieceStore;
use tokio::sync::{mpsc, oneshot};

/// Questions that wait for the executor; whoever asks one more asks again later.
const ASKS_MAX: usize = 16;

/// A question to the executor that has the store.
pub struct Ask {
    request: HoldingsRequest,
    done: oneshot::Sender<HoldingsAnswer>,
}

/// Both ends.
pub fn channel() -> (mpsc::Sender<Ask>, mpsc::Receiver<Ask>) {
    mpsc::channel(ASKS_MAX)
}

impl Ask {
    /// Answers from the store, if it is open yet.
    pub fn answer(self, store: Option<&PieceStore>) {
        let answer =
            store.map_or_else(|| refused("it still reads what it has"), |it| held(it, &self.request));
        // Whoever asked may have gone.
        let _ = self.done.send(answer);
    }
}

fn held(store: &PieceStore, request: &HoldingsRequest) -> HoldingsAnswer {
    let segments = (request.from_segment..).take(usize::from(request.segments));
    let mut sets: Vec<_> = segments.map(|segment| store.pieces(segment)).collect();
    let last = sets.iter().rposition(|set| !set.is_empty()).map_or(0, |last| last + 1);
    sets.truncate(last);
    let pieces = sets.into_iter().map(PieceSet::to_bytes).collect();
    HoldingsAnswer::Held { highest: store.last_segment(), pieces }
}

fn refused(reason: &str) -> HoldingsAnswer {
    HoldingsAnswer::Refused { reason: reason.to_owned() }
}

/// Answers until the bus is closed. `genesis_hash` is of the chain whose pieces these are, as far as that is known.
pub async fn answer(
    bus: &SharedBus,
    mut questions: Subscription,
    asks: &mpsc::Sender<Ask>,
    genesis_hash: impl Fn() -> Option<[u8; 32]>,
) {
    while let Some(Message { payload, reply_to, .. }) = questions.next().await {
        let Some(reply_to) = reply_to else { continue };
        let answer = match HoldingsRequest::from_bytes(&payload) {
            Ok(request) if genesis_hash().is_some_and(|own| own != request.genesis_hash) => {
                refused("its pieces are of another chain")
            }
            Ok(request) => ask(asks, request).await,
            Err(error) => {
                tracing::debug!("a question that cannot be read: {error}");
                refused("the question cannot be read")
            }
        };
        let sent = match answer.to_bytes() {
            Ok(bytes) => bus.publish(&reply_to, bytes).await,
            Err(error) => return tracing::error!("{error}"),
        };
        if let Err(error) = sent {
            tracing::debug!("what is held could not be told: {error}");
        }
    }
}

async fn ask(asks: &mpsc::Sender<Ask>, request: HoldingsRequest) -> HoldingsAnswer {
    let (done, answer) = oneshot::channel();
    if asks.try_send(Ask { request, done }).is_err() {
        return refused("it has too much to do");
    }
    answer.await.unwrap_or_else(|_| refused("it ends"))
}
