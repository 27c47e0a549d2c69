//! What a cache answers to whoever asks what it has.
//!
//! ```text
//!   bus: HoldingsRequest ─▶ answer ─ Call ─▶ executor: the store's index ─▶ HoldingsAnswer
//! ```
//! Nothing is read from the disk, so an answer takes a moment.

use super::calls::{Call, Calls, refused};
use bus::{Message, SharedBus, Subscription};
use control::messages::{Control, HoldingsAnswer, HoldingsRequest};

/// Answers until the bus is closed. `genesis_hash` is of the chain whose pieces these are, as far as that is known.
pub async fn answer(
    bus: &SharedBus,
    mut questions: Subscription,
    calls: &Calls,
    genesis_hash: impl Fn() -> Option<[u8; 32]>,
) {
    while let Some(Message { payload, reply_to, .. }) = questions.next().await {
        let Some(reply_to) = reply_to else { continue };
        let answer = match HoldingsRequest::from_bytes(&payload) {
            Ok(request) if genesis_hash().is_some_and(|own| own != request.genesis_hash) => {
                refused("its pieces are of another chain")
            }
            Ok(request) => ask(calls, request).await,
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

async fn ask(calls: &Calls, request: HoldingsRequest) -> HoldingsAnswer {
    let answer = calls.try_make(|done| Call::Holdings(request, done)).await;
    answer.unwrap_or_else(|| refused("it has too much to do, or ends"))
}
