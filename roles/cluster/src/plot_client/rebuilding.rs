//! Damaged sectors rebuilt of their pieces: carries out what [`control::rebuild::Rebuild`] decides.
//!
//! ```text
//!   damage that proving or a scrub has found ─▶ one sector at a time ─┬─ Fetch ──▶ caches ─▶ encoded on a thread in the background
//!                                                                      ├─ Compare, Search ─▶ the farm's disk, at the lowest class
//!                                                                      ├─ Write ──▶ farmed on; nothing is plotted
//!                                                                      └─ GiveUp ─▶ marked, and plotted again
//! ```
//! Until it is written the sector is farmed as it is: what is damaged of it wins nothing, and the rest does.
//!
//! Owns: how the pieces come to the sector, and what is told of it. Never: a mark while there is hope, or two sectors at once.

use super::counters::Counters;
use super::farms::{FarmGone, FarmHandle, OpenFarm, is_replaced};
use super::mended::tell_mended;
use crate::host::Host;
use crate::pieces::PieceSource;
use bus::BusError;
use control::ids::FarmId;
use control::messages::ClusterInfo;
use control::rebuild::{Action, Event, GivenUp, Limits, Rebuild as Decisions};
use engine::Class;
use engine::farm::{Damage, EncodedRecord, Mended, Rebuild, RebuildLook, SectorError, SectorStatus};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as TurnMutex, OnceCell, watch};
use tokio::time::Instant;

/// Sectors that wait for their turn, the one that has it included; what else is damaged is plotted again at once.
const MAX_WAITING: usize = 16;
/// Time for a cache to give a piece.
const PIECE_WITHIN: Duration = Duration::from_secs(10);
const CLASS: Class = Class::Scrub;

/// What has become of a damaged sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is whole again.
    Rebuilt,
    /// It is plotted again.
    Marked,
    /// It is another by now, or somebody else is at it.
    PassedOver,
    /// It could not even be marked.
    Left,
}

/// Why a sector is not rebuilt.
#[derive(Debug, thiserror::Error)]
enum NotRebuilt {
    #[error(transparent)]
    GivenUp(#[from] GivenUp),
    #[error("it could not be rebuilt of its pieces: {0}")]
    Sector(#[from] SectorError),
    #[error("too many sectors wait to be rebuilt of their pieces")]
    TooMany,
    #[error(transparent)]
    Gone(#[from] FarmGone),
}

/// Rebuilds sectors of this plot-client's farms.
pub struct Rebuilder {
    host: Host,
    /// Made when a piece is needed for the first time.
    pieces: OnceCell<PieceSource>,
    info: watch::Receiver<ClusterInfo>,
    limits: Limits,
    counters: Arc<Counters>,
    /// Held by the sector that is rebuilt.
    turn: TurnMutex<()>,
    under_way: Mutex<HashSet<(FarmId, u16)>>,
}

impl Rebuilder {
    /// Of pieces from the caches that `host` sees.
    pub fn new(
        host: Host,
        info: watch::Receiver<ClusterInfo>,
        limits: Limits,
        counters: Arc<Counters>,
    ) -> Self {
        let (pieces, turn, under_way) = (OnceCell::new(), TurnMutex::default(), Mutex::default());
        Self { host, pieces, info, limits, counters, turn, under_way }
    }

    /// Whether a sector is being rebuilt, or waits for that.
    pub fn is_under_way(&self, farm: &FarmHandle, sector: u16) -> bool {
        self.under_way().contains(&(farm.id(), sector))
    }

    /// Rebuilds a sector that was found damaged for `reason`, or marks it; says what has become of it. `chunk`: s-bucket and number of the chunk
    /// that could not be proved, if it was found so.
    pub async fn settle(
        &self,
        farm: &FarmHandle,
        damage: Damage,
        chunk: Option<(u16, usize)>,
        reason: &str,
    ) -> Settled {
        let sector = damage.sector;
        let waiting = {
            let mut under_way = self.under_way();
            if !under_way.insert((farm.id(), sector)) {
                return Settled::PassedOver;
            }
            under_way.len()
        };
        let _under_way = UnderWay { rebuilder: self, sector: (farm.id(), sector) };
        let rebuilt = if waiting > MAX_WAITING {
            Err(NotRebuilt::TooMany)
        } else {
            let _turn = self.turn.lock().await;
            self.rebuild(farm, damage, chunk).await
        };
        match rebuilt {
            Ok((pieces, bytes)) => {
                self.counters.rebuilt.increment();
                let dir = farm.dir().display();
                tracing::warn!(%dir, sector, pieces, bytes, "{reason}; the sector is rebuilt of its pieces, and farmed on");
                farm.changed().notify_one();
                Settled::Rebuilt
            }
            Err(NotRebuilt::Gone(_)) => Settled::PassedOver,
            Err(NotRebuilt::Sector(error)) if is_replaced(&error) && !is_marked(farm, sector).await => {
                Settled::PassedOver
            }
            Err(why) => self.mark(farm, damage, &format!("{reason}; {why}")).await,
        }
    }

    async fn mark(&self, farm: &FarmHandle, damage: Damage, reason: &str) -> Settled {
        let sector = damage.sector;
        if !is_marked(farm, sector).await {
            let mark = move |open: Rc<OpenFarm>| async move { open.farm.mark_damaged(CLASS, damage).await };
            match farm.run(CLASS, mark).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if is_replaced(&error) => return Settled::PassedOver,
                Err(_) => return Settled::PassedOver,
                Ok(Err(error)) => {
                    let dir = farm.dir().display();
                    tracing::warn!(%dir, sector, "{reason}; it could not be marked, and stays as it is: {error}");
                    return Settled::Left;
                }
            }
        }
        tell_mended(farm, sector, reason, Mended::Marked, &self.counters);
        Settled::Marked
    }

    /// Pieces that it took, and bytes that were wrong.
    async fn rebuild(
        &self,
        farm: &FarmHandle,
        damage: Damage,
        chunk: Option<(u16, usize)>,
    ) -> Result<(usize, usize), NotRebuilt> {
        let started = Instant::now();
        let begin = move |open: Rc<OpenFarm>| async move {
            let _turn = open.doubts.turn().await;
            open.farm.begin_rebuild(CLASS, damage).await
        };
        let mut sector = farm.run(CLASS, begin).await??;
        let named = chunk.and_then(|(s_bucket, number)| sector.record_at(s_bucket, number));
        let (mut decisions, mut action) =
            Decisions::begin(sector.records(), sector.suspects(), named, self.limits.clone(), Duration::ZERO);
        loop {
            if farm.is_leaving() || farm.is_stopped() {
                return Err(FarmGone.into());
            }
            let event;
            (sector, event) = match action {
                Action::Fetch { record, at } => {
                    tokio::time::sleep_until(started + at).await;
                    match self.encoded(&sector, damage, record).await {
                        Ok(encoded) => {
                            sector.add(record, encoded);
                            (sector, Event::Fetched)
                        }
                        Err(why) => (sector, Event::NotFetched(why)),
                    }
                }
                Action::Compare => look(farm, sector, None).await?,
                Action::Search(records) => look(farm, sector, Some(records)).await?,
                Action::Write => {
                    let bytes = sector.wrong_bytes();
                    let write = move |open: Rc<OpenFarm>| async move {
                        let _turn = open.doubts.turn().await;
                        open.farm.finish_rebuild(&sector).await
                    };
                    farm.run(CLASS, write).await??;
                    return Ok((decisions.pieces(), bytes));
                }
                Action::GiveUp(why) => return Err(why.into()),
            };
            action = decisions.on(event, started.elapsed());
        }
    }

    /// Fetches the piece of a record, and encodes it.
    async fn encoded(&self, sector: &Rebuild, damage: Damage, record: u16) -> Result<EncodedRecord, String> {
        let id = sector.id();
        let info = (&self.info.borrow().protocol_info).into();
        let index = id.piece_index(record, damage.history_size, &info);
        let pieces = self.pieces().await.map_err(|error| error.to_string())?;
        let given = pieces.from_caches(index, PIECE_WITHIN).await;
        let given = given.map_err(|error| format!("piece {index}: {error}"))?;
        match EncodedRecord::of(given.slab, id.evaluation_seed(record)).await {
            Ok(Some(encoded)) => Ok(encoded),
            Ok(None) => Err(format!("piece {index}: what {} gives is none", given.from)),
            Err(error) => Err(format!("piece {index} cannot be encoded: {error}")),
        }
    }

    async fn pieces(&self) -> Result<&PieceSource, BusError> {
        self.pieces.get_or_try_init(|| PieceSource::start(self.host.clone(), true)).await
    }

    fn under_way(&self) -> MutexGuard<'_, HashSet<(FarmId, u16)>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sector that is rebuilt, or waits for that, until this is dropped.
struct UnderWay<'a> {
    rebuilder: &'a Rebuilder,
    sector: (FarmId, u16),
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.rebuilder.under_way().remove(&self.sector);
    }
}

/// Reads the sector: compares it, or searches these records of it.
async fn look(
    farm: &FarmHandle,
    sector: Rebuild,
    records: Option<Vec<u16>>,
) -> Result<(Rebuild, Event), NotRebuilt> {
    let look = move |open: Rc<OpenFarm>| async move {
        let _turn = open.doubts.turn().await;
        match records {
            None => open.farm.compare_rebuild(CLASS, sector).await,
            Some(records) => open.farm.search_rebuild(CLASS, sector, records).await,
        }
    };
    let (sector, look) = farm.run(CLASS, look).await??;
    let event = match look {
        RebuildLook::Right => Event::Right,
        RebuildLook::Suspects(suspects) => Event::Suspects(suspects),
        RebuildLook::TooMuch => Event::TooMuch,
    };
    Ok((sector, event))
}

/// Whether it waits for replotting: writing it has failed after it was marked.
async fn is_marked(farm: &FarmHandle, sector: u16) -> bool {
    let status = farm.run(CLASS, move |open: Rc<OpenFarm>| async move { open.farm.status(sector) }).await;
    status == Ok(SectorStatus::Expired)
}
