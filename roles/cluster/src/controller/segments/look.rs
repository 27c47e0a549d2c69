//! Which segments the caches have, asked of each of them.

use std::time::Duration;

use control::holdings::Survey;
use control::ids::InstanceId;
use control::messages::{Control, Epoch, HoldingsAnswer, HoldingsRequest, Role, subjects};
use control::segments::{Event, Stretch};
use futures::{FutureExt, StreamExt, stream};

use super::super::context::Context;

/// Caches asked at once.
const ASKED_AT_ONCE: usize = 16;
/// An answer takes no look at a disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the present caches for a stretch of segments. One that does not answer, or answers nonsense, has nothing, as has one of a
/// release that does not know the question.
pub async fn look(context: &Context, stretch: Stretch, epoch: Option<Epoch>) -> Event {
    let Stretch { from_segment, segments } = stretch;
    let request =
        HoldingsRequest { genesis_hash: context.genesis_hash, from_segment, segments, lets_go_by: None };
    let ids = |role| context.host.members(role).into_iter().map(|entry| entry.id);
    let epoch = epoch.unwrap_or_else(Epoch::nobody);
    let mut survey = Survey::new(request, &epoch, ids(Role::ShardedCache), ids(Role::FullPieceCache));
    let asks = survey.caches().into_iter().map(|cache| holdings_of(context, request, cache).boxed());
    let mut answers = stream::iter(asks).buffer_unordered(ASKED_AT_ONCE);
    while let Some((cache, answer)) = answers.next().await {
        let told = answer.and_then(|answer| match answer {
            HoldingsAnswer::Refused { reason } => Err(reason),
            held if survey.answered(cache, &held) => Ok(()),
            _ => Err("it answers another question".to_owned()),
        });
        if let Err(reason) = told {
            tracing::debug!(%cache, from_segment, "a cache does not say what it has: {reason}");
        }
    }
    let placed = survey.placed();
    if !placed.is_empty() {
        let (found, of) = (placed.len(), segments);
        tracing::info!(from_segment, of, found, "segments that nobody knew to be placed are in the caches");
    }
    Event::Seen { stretch, placed }
}

/// What one cache says.
pub async fn holdings_of(
    context: &Context,
    request: HoldingsRequest,
    cache: InstanceId,
) -> (InstanceId, Result<HoldingsAnswer, String>) {
    let asked = async {
        let bytes = request.to_bytes().map_err(|error| error.to_string())?;
        let subject = subjects::holdings(cache);
        let answer = context.bus().request(&subject, bytes, ANSWER_TIMEOUT).await;
        let answer = answer.map_err(|error| error.to_string())?;
        HoldingsAnswer::from_bytes(&answer).map_err(|error| error.to_string())
    };
    (cache, asked.await)
}
