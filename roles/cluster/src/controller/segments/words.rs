//! What the store is told of segments.

use bus::cluster::Cluster;
use control::segments::{Event, Tell};

use super::super::context::Context;
use super::super::settings::Known;

/// Tells the store a word; without a store it is told later. History is the settings' affair: their answer is what they agree on.
pub async fn tell(context: &Context, store: Option<Cluster>, known: &Known, word: Tell) -> Option<Event> {
    let Some(store) = store else { return Some(Event::NotTold(word)) };
    let me = context.host.id();
    let told = match word {
        Tell::Held(index) => store.put_held(index, me).await,
        Tell::NotHeld(index) => store.withdraw_held(index, me).await,
        Tell::Placed(index) => {
            let epoch = context.epoch_number();
            let placed = store.put_placed(index, epoch).await;
            if placed.is_ok() {
                tracing::info!(segment_index = index, epoch, "segment is in the caches");
            }
            placed
        }
        Tell::History(segments) => {
            known.placed.send_if_modified(|placed| {
                let is_longer = segments > *placed;
                *placed = (*placed).max(segments);
                is_longer
            });
            let mut agreed = known.agreed.clone();
            let is_told = agreed.wait_for(|info| {
                info.as_ref().is_some_and(|info| info.protocol_info.history_size >= segments)
            });
            let is_told = tokio::time::timeout(std::time::Duration::from_secs(10), is_told).await;
            return Some(if matches!(is_told, Ok(Ok(_))) { Event::Told(word) } else { Event::NotTold(word) });
        }
    };
    Some(match told {
        Ok(()) => Event::Told(word),
        Err(error) => {
            tracing::debug!(?word, "the store is told later: {error}");
            Event::NotTold(word)
        }
    })
}
