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

#[cfg(test)]
mod tests {
    use super::*;
    use bus::leases::SEGMENTS;
    use bus::local::LocalBus;
    use control::ids::InstanceId;
    use control::lease::{LAPSES_AFTER, RENEW_EVERY};
    use std::sync::Arc;
    use tokio::task::JoinHandle;

    fn start(bus: &SharedBus, n: u8) -> (watch::Receiver<Standing>, JoinHandle<()>) {
        let (sender, standing) = watch::channel(Standing::Unknown);
        let (bus, keeper) = (bus.clone(), LeaseKeeper::new(InstanceId([n; 16]), format!("host-{n}")));
        let keeping = tokio::spawn(async move {
            keep(&bus, SEGMENTS, keeper, &sender).await.unwrap();
        });
        (standing, keeping)
    }

    async fn becomes(standing: &mut watch::Receiver<Standing>, wanted: Standing) {
        let limit = LAPSES_AFTER + 3 * RENEW_EVERY;
        let wait = standing.wait_for(|standing| *standing == wanted);
        tokio::time::timeout(limit, wait).await.expect("in time").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_holder_is_followed_by_another_and_a_lost_store_by_one_alone() {
        let local = LocalBus::new();
        let bus: SharedBus = Arc::new(local.clone());
        let (mut one, first) = start(&bus, 1);
        becomes(&mut one, Standing::Mine).await;
        let (mut two, _second) = start(&bus, 2);
        becomes(&mut two, Standing::Theirs).await;
        first.abort();
        becomes(&mut two, Standing::Mine).await;
        local.lose_store();
        let (mut three, _third) = start(&bus, 3);
        tokio::time::sleep(LAPSES_AFTER * 2).await;
        let both = [*two.borrow_and_update(), *three.borrow_and_update()];
        assert_eq!(both.iter().filter(|standing| **standing == Standing::Mine).count(), 1, "{both:?}");
        local.set_store(false);
        tokio::time::sleep(LAPSES_AFTER * 2).await;
        assert_eq!([*two.borrow(), *three.borrow()], [Standing::Unknown; 2], "nobody can tell");
    }
}
