//! What plotting does to a farm, behind a seam: the real one on its disk, and those of tests.

use super::farms::FarmHandle;
use super::pull::{Pull, PullError};
use crate::host::Host;
use async_trait::async_trait;
use control::ids::InstanceId;
use control::messages::SectorId;
use control::plot_jobs::{Farm, Note, PullEnd, SectorState};
use engine::Class;
use engine::farm::SectorStatus;
use futures::future::{BoxFuture, FutureExt, pending};

/// A farm to be plotted.
#[async_trait]
pub trait Ground: Send + Sync + 'static {
    /// What it is.
    fn farm(&self) -> Farm;

    /// Where it is, for people.
    fn place(&self) -> String;

    /// Whether it belongs to another plot-client: then nothing more is done with it.
    fn is_stopped(&self) -> bool;

    /// Ready when a sector is not what it was, by something else than plotting. It keeps nothing of the farm open.
    fn changed(&self) -> BoxFuture<'static, ()> {
        pending().boxed()
    }

    /// Whether nothing is to be begun with it at present: its jobs wait.
    fn is_paused(&self) -> bool;

    /// Hears what is told of its plotting.
    fn note(&self, _note: &Note) {}

    /// Every sector in order.
    async fn look(&self) -> Result<Vec<SectorState>, String>;

    /// Fetches a sector that `server` has staged into its place.
    async fn pull(&self, sector: SectorId, server: InstanceId, checksum: [u8; 32]) -> PullEnd;

    /// After a pull that panicked: nothing of it is under way any more.
    async fn drop_pull(&self, sector: SectorId);
}

/// A farm on a disk of this plot-client.
pub struct OnDisk {
    /// This member.
    pub host: Host,
    /// The farm.
    pub farm: FarmHandle,
    /// Whether what is written is read back before it counts.
    pub verify_writes: bool,
}

#[async_trait]
impl Ground for OnDisk {
    fn farm(&self) -> Farm {
        let layout = self.farm.layout();
        Farm {
            id: self.farm.id(),
            public_key: self.farm.identity().public_key(),
            client: self.host.id(),
            pieces_in_sector: layout.pieces_in_sector(),
            sector_bytes: layout.sector_bytes(),
        }
    }

    fn place(&self) -> String {
        self.farm.dir().display().to_string()
    }

    fn is_stopped(&self) -> bool {
        self.farm.is_stopped()
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        let changed = self.farm.changed().clone();
        async move { changed.notified().await }.boxed()
    }

    fn is_paused(&self) -> bool {
        self.farm.is_plotting_paused() || self.farm.is_paused()
    }

    fn note(&self, note: &Note) {
        self.farm.failing().note(note);
    }

    async fn look(&self) -> Result<Vec<SectorState>, String> {
        let looked = self.farm.run(Class::Scrub, |open| async move { open.farm.statuses() });
        let statuses = looked.await.map_err(|error| error.to_string())?;
        Ok(statuses.into_iter().map(state).collect())
    }

    async fn pull(&self, sector: SectorId, server: InstanceId, checksum: [u8; 32]) -> PullEnd {
        let (host, farm, verify_writes) = (self.host.clone(), self.farm.clone(), self.verify_writes);
        let pull = Pull { host, farm, sector, server, checksum, verify_writes };
        match pull.run().await {
            Ok(()) => PullEnd::Stored,
            Err(PullError::Refused(reason)) => PullEnd::Wrong(reason),
            Err(error) => PullEnd::Failed(error.to_string()),
        }
    }

    async fn drop_pull(&self, sector: SectorId) {
        let index = sector.sector_index;
        let dropped = self.farm.run(Class::SectorWrite, move |open| async move {
            drop(open.writers.borrow_mut().remove(&index));
        });
        if let Err(error) = dropped.await {
            tracing::warn!(%sector, "{error}");
        }
    }
}

fn state(status: SectorStatus) -> SectorState {
    match status {
        SectorStatus::NotPlotted => SectorState::NotPlotted,
        SectorStatus::Expired => SectorState::Damaged,
        // Either may be whole.
        SectorStatus::Unreadable | SectorStatus::Doubtful => SectorState::Unreadable,
        SectorStatus::BeingWritten => SectorState::BeingWritten,
        SectorStatus::Plotted { history_size } => SectorState::Plotted { history_size },
    }
}
