//! Keeps a lease, or watches it, by [`control::lease`].

use std::collections::VecDeque;

use bus::leases::Leases;
use bus::{BusError, SharedBus};
use control::lease::{Action, Event, LeaseKeeper, Standing};
use control::store::Wrote;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Tells for ever whose the lease `key` is.
pub async fn keep(
    bus: &SharedBus,
    key: &str,
    mut keeper: LeaseKeeper,
    standing: &watch::Sender<Standing>,
) -> Result<(), BusError> {
    let (leases, start) = (Leases::open(&**bus).await?, Instant::now());
    let mut actions = VecDeque::from(keeper.on(Event::Tick, start.elapsed()));
    loop {
        while let Some(action) = actions.pop_front() {
            let event = match action {
                Action::Read => leases.find(key).await.map_or(Event::NotRead, Event::Read),
                Action::Write { lease, expect } => {
                    Event::Wrote(leases.write(key, &lease, expect).await.unwrap_or(Wrote::Unknown))
                }
            };
            actions.extend(keeper.on(event, start.elapsed()));
        }
        let now = start.elapsed();
        let is_new =
            |known: &mut Standing| std::mem::replace(known, keeper.standing(now)) != keeper.standing(now);
        if standing.send_if_modified(is_new) {
            tracing::info!(lease = key, standing = ?keeper.standing(now), "lease");
        }
        // A standing lapses by itself, so it is looked at between reads as well.
        sleep(keeper.wake_at().map_or(control::lease::RENEW_EVERY, |at| at.saturating_sub(now))).await;
        actions.extend(keeper.on(Event::Tick, start.elapsed()));
    }
}
