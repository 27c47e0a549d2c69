//! What a cache did, told: a line in the log now and then, and an answer to whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};

use super::handler::Counters;
use bus::{SharedBus, Subscription};
use control::messages::{CacheCounters, Control};

/// Answers until the bus is closed.
pub async fn answer(bus: &SharedBus, mut questions: Subscription, counters: &Counters) {
    while let Some(question) = questions.next().await {
        let Some(reply_to) = question.reply_to else { continue };
        let sent = match counters.now().to_bytes() {
            Ok(bytes) => bus.publish(&reply_to, bytes).await,
            Err(error) => return tracing::error!("{error}"),
        };
        if let Err(error) = sent {
            tracing::debug!("counters could not be told: {error}");
        }
    }
}

/// A line of log; of memory only where there is some.
pub fn log(counters: &Counters) {
    let CacheCounters { hits, misses, stored, damaged, mem_capacity, mem_items, mem_hits, mem_misses } =
        counters.now();
    let parity_made = counters.made.load(Ordering::Relaxed);
    if mem_capacity == 0 {
        tracing::info!(hits, misses, stored, damaged, parity_made, "cache");
    } else {
        tracing::info!(hits, misses, stored, damaged, parity_made, mem_items, mem_hits, mem_misses, "cache");
    }
}

impl Counters {
    fn now(&self) -> CacheCounters {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheCounters {
            hits: count(&self.hits),
            misses: count(&self.misses),
            stored: count(&self.stored),
            damaged: count(&self.damaged),
            mem_capacity: count(&self.memory.capacity),
            mem_items: count(&self.memory.items),
            mem_hits: count(&self.memory.hits),
            mem_misses: count(&self.memory.misses),
        }
    }
}
