//! A run from the start of the roles to the end of everything.

use std::sync::Arc;
use std::time::Duration;

use consensus::constants::SEGMENT_PIECES;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::config::Config;
use super::error::DevError;
use super::members::{self, Parts};
use super::summary::{Audits, Summary, in_ms};
use bus::cluster::Cluster;
use bus::local::LocalBus;
use bus::{BusError, SharedBus};
use cluster::plot_client::Counters;
use cluster::shutdown::{KeepRunning, Shutdown};
use devnet::{DevNode, ReportReader};
use engine::files;

/// How often the state of the run is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How far a run is.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Whether history is there; until then the node archives.
    pub is_archived: bool,
    /// Pieces that are in the caches, of those in [`Summary::pieces`].
    pub pieces_cached: u64,
    /// The numbers as they would stand at the end.
    pub summary: Summary,
}

/// Everything that runs.
pub struct Run<'a> {
    config: &'a Config,
    /// Until it is dropped, node and roles go on.
    keep_running: Option<KeepRunning>,
    parts: Parts,
    reports: ReportReader,
    cluster: Cluster,
    counters: Arc<Counters>,
    status: Status,
    started_at: Instant,
}

impl<'a> Run<'a> {
    /// Starts the roles against a node that listens already.
    pub async fn start(config: &'a Config, node: DevNode) -> Result<Self, DevError> {
        let (keep_running, shutdown) = Shutdown::new();
        let bus: SharedBus = Arc::new(LocalBus::new());
        let cluster = Cluster::open(&*bus).await?;
        let (address, reports) = (node.address(), node.reports());
        let segments = reports.now().segments;
        let counters = Arc::default();
        let mut parts = Parts::new();
        let until_shutdown = shutdown.clone();
        parts.spawn(async move {
            let ended = node.run(async move { until_shutdown.requested().await }).await;
            ("node", ended.map(drop).map_err(DevError::Node))
        });
        members::start(&mut parts, config, address, segments, &shutdown, &counters, &bus);
        let status = Status { is_archived: true, ..Status::default() };
        let started_at = Instant::now();
        let keep_running = Some(keep_running);
        Ok(Self { config, keep_running, parts, reports, cluster, counters, status, started_at })
    }

    /// Looks on until there are enough solutions, or `shutdown`, or a part fails; then ends everything.
    pub async fn watch(
        mut self,
        shutdown: &Shutdown,
        mut tell: impl FnMut(&Status),
    ) -> Result<Summary, DevError> {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outcome = loop {
            tokio::select! {
                _ = looks.tick() => match self.look().await {
                    Ok(()) => tell(&self.status),
                    Err(error) => break Err(error),
                },
                Some(ended) = self.parts.join_next() => break match ended {
                    Ok((part, Ok(()))) => Err(DevError::Ended { part }),
                    Ok((_, Err(error))) => Err(error),
                    Err(panicked) => Err(panicked.into()),
                },
                () = shutdown.requested() => break Ok(()),
            }
            if self.is_enough() {
                break Ok(());
            }
        };
        let ended = self.end().await;
        outcome.and(ended)
    }

    fn is_enough(&self) -> bool {
        let accepted = self.status.summary.node.solutions.accepted;
        self.config.until_solutions.is_some_and(|wanted| accepted >= wanted)
    }

    /// Ends node and roles in the same moment: no solution is late or unsigned for that reason.
    async fn end(mut self) -> Result<Summary, DevError> {
        self.keep_running = None;
        let mut outcome = Ok(());
        while let Some(ended) = self.parts.join_next().await {
            outcome = outcome.and(ended.map_err(DevError::from).and_then(|(_, ended)| ended));
        }
        self.look().await?;
        outcome.map(|()| self.status.summary)
    }

    /// Brings the status up to date, and the report.
    async fn look(&mut self) -> Result<(), DevError> {
        let node = self.reports.now();
        let pieces = node.segments * SEGMENT_PIECES as u64;
        while self.status.pieces_cached < pieces && self.is_next_segment_cached().await? {
            self.status.pieces_cached += SEGMENT_PIECES as u64;
        }
        let (old, plotted) = (&self.status.summary, self.counters.plotted.get());
        let seconds_a_sector = if plotted > old.sectors_plotted {
            Some(self.started_at.elapsed().as_secs_f64() / plotted as f64)
        } else {
            old.seconds_a_sector
        };
        let percentile = |percent| self.counters.audit_time(percent).map(in_ms);
        self.status.summary = Summary {
            node,
            pieces,
            sectors_found: self.counters.found_plotted.get(),
            sectors_plotted: plotted,
            seconds_a_sector,
            audits: Audits {
                count: self.counters.slots.get(),
                p50_ms: percentile(50),
                p99_ms: percentile(99),
            },
            candidates: self.counters.found.get(),
            solutions_sent: self.counters.sent(),
        };
        self.write_report()
    }

    async fn is_next_segment_cached(&self) -> Result<bool, BusError> {
        self.cluster.is_placed(self.status.pieces_cached / SEGMENT_PIECES as u64).await
    }

    /// A few hundred bytes that are not forced to disk: nobody waits for them.
    fn write_report(&self) -> Result<(), DevError> {
        let Some(path) = &self.config.report else { return Ok(()) };
        let json = serde_json::to_vec_pretty(&self.status.summary).expect("numbers make JSON");
        files::publish(path, &json).map_err(|source| DevError::Report { path: path.clone(), source })
    }
}
