//! What is done for the sectors of a farm beside farming them: damaged records are made anew of whole sectors, and all are scrubbed where an
//! operator asks for it.
//!
//! ```text
//!   doubtful sectors: at the opening, and once a minute ─┐
//!                                                        ├─▶ one sector at a time, Class::Scrub ─▶ mended │ rebuilt │ marked, and plotted again │ left
//!   the next sector of a scrub that was asked for ───────┘
//! ```
//! The disk gives this what farming and plotting leave of it. A sick disk is waited for.
//!
//! Owns: the task of a farm in which that is done. Never: two sectors at once, or a mark without bytes that were read and are wrong.

use super::counters::Counters;
use super::farms::{FarmHandle, OpenFarm, is_replaced};
use super::mended::tell_mended;
use super::rebuilding::{Rebuilder, Settled};
use super::scrubbing::Looked;
use engine::Class;
use engine::farm::{Depth, Mended, SectorError, SectorFault, SectorStatus};
use futures::channel::oneshot;
use futures::future::{Either, select};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How often it is looked for doubtful sectors.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether a sick disk is well again.
const LOOK_AT_DISK_EVERY: Duration = Duration::from_secs(1);

/// Looks after the sectors of a farm until it is dropped; then what it does ends, too.
pub async fn keep_up(farm: FarmHandle, counters: Arc<Counters>, rebuilder: Arc<Rebuilder>) {
    while !farm.is_stopped() && !farm.is_closed() {
        heal(&farm, &counters).await;
        if farm.scrub().is_running() {
            scrub(&farm, &counters, &rebuilder).await;
        }
        // Over by the one or by the other.
        let _ = timeout(LOOK_EVERY, farm.scrub().wanted()).await;
    }
}

/// Looks into the sectors whose record is wrong. What cannot be looked into now is left for the next time.
async fn heal(farm: &FarmHandle, counters: &Counters) {
    let doubtful = look(farm, async |open| open.farm.doubtful()).await.unwrap_or_default();
    for (sector, fault) in doubtful {
        well_again(farm).await;
        let healed = look(farm, async move |open| {
            let _turn = open.doubts.turn().await;
            open.farm.heal(Class::Scrub, sector).await
        });
        match healed.await {
            Some(Ok(Some(mended))) => tell_mended(farm, sector, &fault.to_string(), mended, counters),
            Some(Ok(None)) => {}
            Some(Err(error)) if is_replaced(&error) => {}
            Some(Err(error)) => {
                let dir = farm.dir().display();
                tracing::warn!(%dir, sector, "{fault}; it cannot be looked into now, and stays as it is: {error}");
            }
            None => return,
        }
    }
}

/// Looks at the sectors one after another until all were, or it is stopped.
async fn scrub(farm: &FarmHandle, counters: &Counters, rebuilder: &Rebuilder) {
    let (dir, mut healed) = (farm.dir().display(), Instant::now());
    tracing::info!(%dir, "scrubbing begins, beside farming");
    while let Some(sectors) = look(farm, async |open| sectors_of(&open)).await
        && let Some(sector) = farm.scrub().next(sectors)
    {
        // A scrub may take days, and some sectors may be given again meanwhile.
        if healed.elapsed() >= LOOK_EVERY {
            heal(farm, counters).await;
            healed = Instant::now();
        }
        well_again(farm).await;
        let found = look(farm, async move |open| {
            let _turn = open.doubts.turn().await;
            match open.farm.status(sector) {
                SectorStatus::Plotted { .. } => {
                    let found = open.farm.check_and_mend(Class::Scrub, sector, Depth::Whole).await;
                    Some(found)
                }
                _ => None,
            }
        });
        let Some(found) = found.await else { return };
        let looked = judge(farm, sector, found, counters, rebuilder).await;
        farm.scrub().looked(sector, looked);
    }
    tracing::info!(%dir, "scrubbing: {}", farm.scrub().told(None));
}

/// Sectors up to the last one that is counted or plotted: one that the disk does not give holds the count back.
fn sectors_of(open: &OpenFarm) -> u16 {
    let is_plotted = |status: &SectorStatus| matches!(status, SectorStatus::Plotted { .. });
    let plotted = open.farm.statuses().iter().rposition(is_plotted).map_or(0, |last| last as u16 + 1);
    plotted.max(open.farm.count())
}

/// What a look at a sector has come to; tells what an operator is to know.
async fn judge(
    farm: &FarmHandle,
    sector: u16,
    found: Option<Result<Option<(SectorFault, Mended)>, SectorError>>,
    counters: &Counters,
    rebuilder: &Rebuilder,
) -> Looked {
    match found {
        None => Looked::PassedOver,
        Some(Ok(None)) => Looked::Whole,
        Some(Ok(Some((fault, mended)))) => {
            let reason = format!("scrubbing: {fault}");
            tell_mended(farm, sector, &reason, mended, counters);
            match mended {
                Mended::Rebuilt => Looked::Mended,
                Mended::Marked => Looked::Marked,
                Mended::Left => Looked::Left,
                Mended::Damaged(damage) => match rebuilder.settle(farm, damage, None, &reason).await {
                    Settled::Rebuilt => Looked::Rebuilt,
                    Settled::Marked => Looked::Marked,
                    Settled::PassedOver => Looked::PassedOver,
                    Settled::Left => Looked::Left,
                },
            }
        }
        Some(Err(error)) if is_replaced(&error) => Looked::PassedOver,
        Some(Err(error)) => {
            let dir = farm.dir().display();
            tracing::warn!(%dir, sector, "scrubbing: {error}; the sector stays as it is");
            Looked::Unreadable
        }
    }
}

/// Ready when the farm's disk is not sick; says once that it waits.
async fn well_again(farm: &FarmHandle) {
    let Some(trouble) = farm.disk_trouble() else { return };
    let dir = farm.dir().display();
    tracing::warn!(%dir, "{trouble}: damaged records and scrubbing wait until it is well again");
    while farm.is_paused() {
        sleep(LOOK_AT_DISK_EVERY).await;
    }
    tracing::info!(%dir, "damaged records and scrubbing are looked after again");
}

/// Does something on the farm's executor, which ends when nobody waits for it any more. None when the farm is gone.
async fn look<T: Send + 'static>(
    farm: &FarmHandle,
    work: impl AsyncFnOnce(Rc<OpenFarm>) -> T + Send + 'static,
) -> Option<T> {
    let (_is_wanted, given_up) = oneshot::channel::<()>();
    let work = move |open: Rc<OpenFarm>| async move {
        match select(pin!(work(open)), given_up).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    };
    farm.run(Class::Scrub, work).await.ok().flatten()
}
