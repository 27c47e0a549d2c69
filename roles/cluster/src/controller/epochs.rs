//! Keeps the epoch as the caches are, by [`control::epochs`].

use std::time::Duration;

use bus::epochs::Epochs;
use bus::{BusError, SharedBus};
use control::epochs::{Action, LOOK_EVERY};
use control::messages::{Epoch, Role};
use control::store::{Found, Wrote};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::host::Host;

/// Looks at the caches and writes epochs, for ever. Of several controllers one writes, the others see it. `current` gets the epoch.
pub async fn keep(
    bus: &SharedBus,
    host: &Host,
    rebalance_after: Duration,
    copies: Option<u8>,
    current: &watch::Sender<Option<Epoch>>,
) -> Result<(), BusError> {
    let (epochs, start) = (Epochs::open(&**bus).await?, Instant::now());
    let mut machine = control::epochs::Epochs::new(rebalance_after, copies);
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_told = false;
    loop {
        ticks.tick().await;
        let found = match epochs.find().await {
            Ok(found) => found,
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!("the epoch is not kept up to date now: {error}");
                }
                continue;
            }
        };
        is_told = false;
        if let Found::Value(epoch, _) = &found {
            current.send_if_modified(|known| {
                let is_new = known.as_ref() != Some(epoch);
                *known = Some(epoch.clone());
                is_new
            });
        }
        let present =
            host.members(Role::ShardedCache).iter().map(|entry| (entry.id, entry.capacity)).collect();
        let Some(Action::Write { epoch, expect }) = machine.looked(&found, &present, start.elapsed()) else {
            continue;
        };
        if let Ok(Wrote::Done(_)) = epochs.write(&epoch, expect).await {
            machine.wrote();
            let (caches, copies) = (epoch.members.len(), epoch.copies.max(1));
            tracing::info!(epoch = epoch.number, caches, copies, "a new epoch begins");
            if let Found::Value(before, _) = &found
                && before.copies.max(1) != copies
            {
                let before = before.copies.max(1);
                tracing::warn!(
                    "each piece is to have {copies} copies from now on, and had {before}: this controller was started with --copies {copies}; \
                     start all controllers with the same"
                );
            }
        }
    }
}
