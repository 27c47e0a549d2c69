//! Farms that are looked at while they are measured: opened for reading as they are, also beside the process that farms them.

use cluster::plot_client::AuditBuffers;
use engine::executor::{RemoteError, StartError};
use engine::farm::{FARM_SCRATCH_BYTES, Farm, FarmError, SectorError, SectorStatus};
use engine::pool::{AcquireError, PoolError};
use engine::{Access, Disk, IoError, Local};
use std::path::Path;

/// Slabs that an open farm takes: its own, and one while its records are read.
pub const FARM_SLABS: usize = 2;

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum FarmsError {
    /// No memory for buffers.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// No executors.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No thread that proves.
    #[error("no thread for proofs: {0}")]
    Prover(String),
}

/// Why one farm has no figures.
#[derive(Debug, thiserror::Error)]
pub enum FarmFailed {
    /// The farm itself.
    #[error(transparent)]
    Farm(#[from] FarmError),
    /// One of its sectors.
    #[error(transparent)]
    Sector(#[from] SectorError),
    /// A file beside it.
    #[error(transparent)]
    Io(#[from] IoError),
    /// No memory.
    #[error(transparent)]
    Buffers(#[from] AcquireError),
    /// Its executor ended.
    #[error("stopped: {0}")]
    Remote(#[from] RemoteError),
    /// There is nothing to look at.
    #[error("no sector is plotted yet: there is nothing to measure")]
    Empty,
}

/// A farm to look at.
pub struct Looked {
    /// The farm.
    pub farm: Farm,
    /// Its plotted sectors and their history sizes.
    pub plotted: Vec<(u16, u64)>,
    /// Sectors with something wrong: they are left out.
    pub faults: usize,
}

impl Looked {
    /// Opens the farm in `dir` on its executor.
    pub async fn open(local: &Local, disk: &Disk, dir: &Path, access: Access) -> Result<Self, FarmFailed> {
        let scratch = local.pool().acquire().await?.narrow(..FARM_SCRATCH_BYTES);
        let (farm, report) = Farm::open_to_look(disk.clone(), scratch, dir, access).await?;
        let plotted = |(sector, status)| match status {
            SectorStatus::Plotted { history_size } => Some((sector, history_size)),
            _ => None,
        };
        let plotted: Vec<_> = (0..).zip(farm.statuses()).filter_map(plotted).collect();
        if plotted.is_empty() {
            return Err(FarmFailed::Empty);
        }
        Ok(Self { farm, plotted, faults: report.faults.len() })
    }

    /// Memory for its audits, so many `reads` at once.
    pub async fn audit_buffers(&self, local: &Local, reads: usize) -> Result<AuditBuffers, FarmFailed> {
        Ok(AuditBuffers::new(local.pool(), self.farm.layout().pieces_in_sector(), reads).await?)
    }
}
