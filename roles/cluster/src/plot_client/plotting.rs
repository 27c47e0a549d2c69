//! Keeps farms plotted: offers jobs for what is missing or expires, and fetches what plot-servers have staged.
//!
//! ```text
//!   statuses, history ─▶ planner ─▶ PlotJobs::offer          at most two open a farm; offered again after a silence
//!   PlotProgress Staged ─▶ planner ─▶ Pull ─▶ Stored         or Refused, or Stored at once if it is of no use
//! ```
//! Messages may be lost: a plot-server repeats `Staged` until it is answered, so nothing here is remembered over a restart but what
//! the farms say themselves.

use super::counters::Counters;
use super::farms::{FarmGone, FarmHandle};
use super::planner::{Life, OnStaged, next_jobs, on_staged};
use super::pull::{Pull, PullError};
use crate::host::Host;
use bus::cluster::Cluster;
use bus::jobs::PlotJobs;
use bus::{BusError, Subscription};
use consensus::sector::{expiration_check_history_size, public_key_hash};
use control::ids::InstanceId;
use control::messages::{
    ClusterInfo, Control, MAX_TEXT_BYTES, PlotJob, PlotPhase, PlotProgress, SectorId, subjects,
};
use engine::Class;
use engine::farm::SectorStatus;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often every farm is looked over without a reason.
const PLAN_INTERVAL: Duration = Duration::from_secs(10);
/// Silence of a job after which it is offered again; that is refused while it still waits or is worked on.
const OFFER_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Segment commitments asked for in one look over a farm: the rest follows in the next.
const MAX_COMMITMENTS: usize = 512;

/// What plotting needs.
pub struct Plotting {
    host: Host,
    group: String,
    cluster: Cluster,
    jobs: PlotJobs,
    farms: Vec<PlottedFarm>,
    info: watch::Receiver<ClusterInfo>,
    counters: Arc<Counters>,
    /// Commitments of the segments that decide when sectors expire, by index.
    commitments: HashMap<u64, [u8; 48]>,
    pulls: JoinSet<(usize, SectorId, InstanceId, Result<(), PullError>)>,
}

struct PlottedFarm {
    handle: FarmHandle,
    key_hash: [u8; 32],
    open: BTreeMap<u16, OpenJob>,
    /// The sector being fetched: one at a time, the disk is no faster with more.
    pulling: Option<u16>,
}

struct OpenJob {
    history_size: u64,
    heard_at: Instant,
    server: Option<InstanceId>,
}

/// Why a farm is not plotted now.
#[derive(Debug, thiserror::Error)]
enum PlotError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Gone(#[from] FarmGone),
}

impl Plotting {
    /// For the farms given, by jobs offered to plot-servers of `group`.
    pub async fn new(
        host: Host,
        group: String,
        farms: &[FarmHandle],
        info: watch::Receiver<ClusterInfo>,
        counters: Arc<Counters>,
    ) -> Result<Self, BusError> {
        let (cluster, jobs) = (Cluster::open(&**host.bus()).await?, PlotJobs::open(&**host.bus()).await?);
        let farm = |handle: &FarmHandle| PlottedFarm {
            handle: handle.clone(),
            key_hash: public_key_hash(&handle.identity().public_key()),
            open: BTreeMap::new(),
            pulling: None,
        };
        let farms = farms.iter().map(farm).collect();
        let (commitments, pulls) = (HashMap::new(), JoinSet::new());
        Ok(Self { host, group, cluster, jobs, farms, info, counters, commitments, pulls })
    }

    /// Plots until the bus is closed.
    pub async fn run(mut self, mut progress: Subscription) {
        let mut plan_at = tokio::time::interval(PLAN_INTERVAL);
        loop {
            tokio::select! {
                message = progress.next() => {
                    let Some(message) = message else { return };
                    match PlotProgress::from_bytes(&message.payload) {
                        Ok(progress) => self.on_progress(progress).await,
                        Err(error) => tracing::warn!("plot progress that cannot be read: {error}"),
                    }
                }
                Some(done) = self.pulls.join_next() => match done {
                    Ok((farm, sector, server, result)) => self.on_pulled(farm, sector, server, result).await,
                    Err(error) => tracing::error!("fetching a sector ended early: {error}"),
                },
                _ = plan_at.tick() => self.plan_all().await,
                Ok(()) = self.info.changed() => self.plan_all().await,
            }
        }
    }

    async fn plan_all(&mut self) {
        for farm in 0..self.farms.len() {
            self.plan(farm).await;
        }
    }

    /// Looks a farm over and offers what is to be plotted. Trouble is told; the next look may do better.
    async fn plan(&mut self, farm: usize) {
        if self.farms[farm].handle.is_stopped() {
            return;
        }
        if let Err(error) = self.try_plan(farm).await {
            tracing::warn!(dir = %self.farms[farm].handle.dir().display(), "plotting waits: {error}");
        }
    }

    async fn try_plan(&mut self, farm: usize) -> Result<(), PlotError> {
        let statuses = self.farms[farm].handle.run(Class::Scrub, |open| async move { open.farm.statuses() });
        let statuses = statuses.await?;
        let info = self.info.borrow_and_update().clone();
        let ordered = self.farms[farm].open.values();
        let ordered = ordered.map(|job| SectorStatus::Plotted { history_size: job.history_size });
        let all: Vec<_> = statuses.iter().copied().chain(ordered).collect();
        self.learn_commitments(&all, &info).await?;
        self.forget_useless(farm, &info);
        let now = Instant::now();
        let silent = |job: &OpenJob| now - job.heard_at >= OFFER_AGAIN_AFTER;
        let open = &self.farms[farm].open;
        let mut offers: Vec<_> = open
            .iter()
            .filter(|(_, job)| silent(job))
            .map(|(sector, job)| (*sector, job.history_size, job.server))
            .collect();
        let key_hash = &self.farms[farm].key_hash;
        for (sector, reason) in
            next_jobs(&statuses, open, |sector, size| self.life(key_hash, sector, size, &info))
        {
            tracing::info!(dir = %self.farms[farm].handle.dir().display(), sector, ?reason, "to be plotted");
            offers.push((sector, info.protocol_info.history_size, None));
        }
        for (sector_index, history_size, server) in offers {
            let job = self.job(farm, sector_index, history_size, server, &info);
            self.jobs.offer(&self.group, &job).await?;
            let open = OpenJob { history_size, heard_at: now, server };
            self.farms[farm].open.insert(sector_index, open);
        }
        Ok(())
    }

    /// A job ordered so long ago that its sector would have to be replaced at once is no longer waited for.
    fn forget_useless(&mut self, farm: usize, info: &ClusterInfo) {
        let mut open = std::mem::take(&mut self.farms[farm].open);
        let key_hash = &self.farms[farm].key_hash;
        open.retain(|&sector, job| self.life(key_hash, sector, job.history_size, info) == Life::Good);
        self.farms[farm].open = open;
    }

    fn job(
        &self,
        farm: usize,
        sector_index: u16,
        history_size: u64,
        staged_on: Option<InstanceId>,
        info: &ClusterInfo,
    ) -> PlotJob {
        let handle = &self.farms[farm].handle;
        PlotJob {
            sector: SectorId { farm: handle.id(), sector_index, history_size },
            public_key: handle.identity().public_key(),
            pieces_in_sector: handle.layout().pieces_in_sector(),
            protocol_info: info.protocol_info.clone(),
            client: self.host.id(),
            staged_on,
        }
    }

    /// Asks for the commitments that decide about these sectors, once each.
    async fn learn_commitments(
        &mut self,
        statuses: &[SectorStatus],
        info: &ClusterInfo,
    ) -> Result<(), BusError> {
        let size = |status: &SectorStatus| match status {
            SectorStatus::Plotted { history_size } => Some(*history_size),
            _ => None,
        };
        let sizes: BTreeSet<_> = statuses.iter().filter_map(size).collect();
        let unknown: Vec<_> = sizes
            .into_iter()
            .filter_map(|size| deciding_segment(size, info))
            .filter(|segment| !self.commitments.contains_key(segment))
            .take(MAX_COMMITMENTS)
            .collect();
        for segment in unknown {
            if let Some(commitment) = self.cluster.segment(segment).await? {
                self.commitments.insert(segment, commitment);
            }
        }
        Ok(())
    }

    /// How long a sector lives that was plotted at `history_size`.
    fn life(&self, key_hash: &[u8; 32], sector: u16, history_size: u64, info: &ClusterInfo) -> Life {
        let commitment =
            deciding_segment(history_size, info).and_then(|segment| self.commitments.get(&segment));
        let Some(commitment) = commitment else { return Life::Good };
        let id = consensus::sector::SectorId::new(key_hash, sector, history_size);
        let lifetime = info.protocol_info.min_sector_lifetime;
        let expires_at = id.expiration_history_size(history_size, lifetime, commitment);
        Life::of(expires_at, info.protocol_info.history_size)
    }

    async fn on_progress(&mut self, progress: PlotProgress) {
        let PlotProgress { sector, server, phase } = progress;
        if matches!(phase, PlotPhase::Stored | PlotPhase::Refused { .. }) {
            return;
        }
        let is_here = |farm: &PlottedFarm| farm.handle.id() == sector.farm && !farm.handle.is_stopped();
        let Some(farm) = self.farms.iter().position(is_here) else { return };
        if let Some(job) = self.farms[farm].open.get_mut(&sector.sector_index) {
            (job.heard_at, job.server) = (Instant::now(), Some(server));
        }
        match (self.judge(farm, sector).await, phase) {
            (Ok(OnStaged::LetGo), _) => {
                let open = &mut self.farms[farm].open;
                if open.get(&sector.sector_index).is_some_and(|job| job.history_size == sector.history_size) {
                    open.remove(&sector.sector_index);
                }
                self.answer(sector, server, PlotPhase::Stored).await;
            }
            (Ok(OnStaged::Pull), PlotPhase::Staged { sector_size_bytes, checksum }) => {
                self.pull(farm, sector, server, sector_size_bytes, checksum).await;
            }
            (Ok(_), _) => {}
            (Err(error), _) => tracing::warn!(%sector, "{error}"),
        }
    }

    async fn judge(&mut self, farm: usize, sector: SectorId) -> Result<OnStaged, PlotError> {
        let handle = &self.farms[farm].handle;
        if sector.sector_index >= handle.layout().sectors() {
            return Ok(OnStaged::LetGo);
        }
        let index = sector.sector_index;
        let status =
            handle.run(Class::SectorWrite, move |open| async move { open.farm.status(index) }).await?;
        let info = self.info.borrow().clone();
        let staged = SectorStatus::Plotted { history_size: sector.history_size };
        self.learn_commitments(&[status, staged], &info).await?;
        let key_hash = &self.farms[farm].key_hash;
        Ok(on_staged(status, sector.history_size, |size| self.life(key_hash, index, size, &info)))
    }

    /// Begins to fetch, unless the farm fetches already: the server will say again that the sector waits.
    async fn pull(
        &mut self,
        farm: usize,
        sector: SectorId,
        server: InstanceId,
        bytes: u64,
        checksum: [u8; 32],
    ) {
        let handle = self.farms[farm].handle.clone();
        let expected = handle.layout().sector_bytes();
        if bytes != expected {
            let reason = format!("{bytes} bytes are staged, a sector of this farm has {expected}");
            return self.answer(sector, server, PlotPhase::Refused { reason }).await;
        }
        if self.farms[farm].pulling.is_some() {
            return;
        }
        self.farms[farm].pulling = Some(sector.sector_index);
        let pull = Pull { host: self.host.clone(), farm: handle, sector, server, checksum };
        self.pulls.spawn(async move { (farm, sector, server, pull.run().await) });
    }

    async fn on_pulled(
        &mut self,
        farm: usize,
        sector: SectorId,
        server: InstanceId,
        result: Result<(), PullError>,
    ) {
        self.farms[farm].pulling = None;
        match result {
            Ok(()) => {
                self.counters.plotted.increment();
                tracing::info!(%sector, "sector stored");
                self.farms[farm].open.remove(&sector.sector_index);
                self.answer(sector, server, PlotPhase::Stored).await;
            }
            Err(PullError::Refused(reason)) => {
                tracing::error!(%sector, %server, "the staged sector is no good: {reason}");
                self.answer(sector, server, PlotPhase::Refused { reason }).await;
            }
            Err(error) => tracing::warn!(%sector, %server, "fetching a sector will be tried again: {error}"),
        }
        self.plan(farm).await;
    }

    /// Tells the server. A message that is lost is asked for again.
    async fn answer(&self, sector: SectorId, server: InstanceId, mut phase: PlotPhase) {
        if let PlotPhase::Refused { reason } = &mut phase {
            let end = (0..=MAX_TEXT_BYTES.min(reason.len())).rev().find(|&at| reason.is_char_boundary(at));
            reason.truncate(end.unwrap_or(0));
        }
        let told = match (PlotProgress { sector, server, phase }).to_bytes() {
            Ok(bytes) => self.host.bus().publish(subjects::PLOT_PROGRESS, bytes).await,
            Err(error) => return tracing::error!(%sector, "{error}"),
        };
        if let Err(error) = told {
            tracing::warn!(%sector, "{error}");
        }
    }
}

/// Index of the segment that decides when a sector plotted at `history_size` expires, once it exists.
fn deciding_segment(history_size: u64, info: &ClusterInfo) -> Option<u64> {
    let check_size = expiration_check_history_size(history_size, info.protocol_info.min_sector_lifetime)?;
    (check_size <= info.protocol_info.history_size).then(|| check_size.saturating_sub(1))
}
