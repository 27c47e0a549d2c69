//! Opens farms, each on the executor that has the others of its device.
//!
//! ```text
//!   FarmSpec ─▶ its device ─┬─ a farm of it is open: beside that one, through its disk
//!                           └─ none is: on the executor near it that has the fewest devices, with a disk of its own
//! ```
//! Farms on one device share its executor and its scheduler, so that urgent reads of one go before slow writes of the other. They are opened
//! one after another: a device that hangs holds up its own farms alone.
//!
//! Owns: which device is on which executor. Never: when a farm is opened, or tried again.

use super::doubts::Doubts;
use super::farms::{AuditBuffers, DiskTrouble, FarmHandle, OpenFarm, tell_faults};
use super::sent::SentSolutions;
use super::signatures::{SCRATCH_BYTES, SignatureStore};
use super::spec::FarmSpec;
use crate::host::Host;
use crate::placement::device_of;
use control::messages::ClusterInfo;
use engine::disk::Health;
use engine::executor::RemoteError;
use engine::farm::{
    AuditMemory, FARM_SCRATCH_BYTES, Farm, FarmConfig, FarmError, INFO_FILE, OpenReport, SectorError,
};
use engine::pool::AcquireError;
use engine::task::off_executor;
use engine::{Class, Disk, IoError, Limits, Local};
use futures::future::{Either, select};
use futures::lock::Mutex;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use tokio::sync::watch;

type Look = dyn Fn(&Path) -> Vec<usize> + Send + Sync;

/// Executors near the disk that a path is on; none where that is not known.
#[derive(Clone, Default)]
pub struct Near(Option<Arc<Look>>);

impl Near {
    /// As `near` says, which may look at the disk.
    pub fn by(near: impl Fn(&Path) -> Vec<usize> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(near)))
    }

    fn of(&self, path: &Path) -> Vec<usize> {
        self.0.as_ref().map(|near| near(path)).unwrap_or_default()
    }
}

impl std::fmt::Debug for Near {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "known" } else { "not known" })
    }
}

/// Why a farm takes no part.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The farm itself.
    #[error(transparent)]
    Farm(#[from] FarmError),
    /// It is not there, and must not be made.
    #[error(
        "{}: there is no farm here, and by --create false none is made: is its disk mounted?", path.display()
    )]
    NotThere {
        /// Its folder.
        path: PathBuf,
    },
    /// No memory for its work.
    #[error("{0}: give this plot-client more buffers")]
    Memory(#[from] AcquireError),
    /// As many farms are open as there is memory for.
    #[error("{}: this plot-client has buffers for {farms} farms: start it again to give it more", path.display())]
    TooMany {
        /// Its folder.
        path: PathBuf,
        /// How many may be open.
        farms: usize,
    },
    /// Its disk cannot be given a ring.
    #[error("{}: {reason}", path.display())]
    Ring {
        /// Its folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The executor has ended.
    #[error("{}: its executor has ended or is overloaded: this plot-client must be started again", path.display())]
    Executor {
        /// Its folder.
        path: PathBuf,
    },
}

impl OpenError {
    /// Whether it may pass without anybody changing the farm or this process's flags: a disk that is not there, a lock, an error of the
    /// disk, a full disk.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NotThere { .. }
            | Self::Memory(_)
            | Self::Ring { .. }
            | Self::Farm(FarmError::Sector(SectorError::Buffers(_)) | FarmError::Random(_)) => true,
            Self::Farm(FarmError::Io(error) | FarmError::Sector(SectorError::Io(error))) => {
                io_may_pass(error)
            }
            Self::Farm(_) | Self::TooMany { .. } | Self::Executor { .. } => false,
        }
    }
}

fn io_may_pass(error: &IoError) -> bool {
    match error {
        IoError::Open { source, .. } | IoError::Failed { source, .. } => !matches!(
            source.kind(),
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
        ),
        IoError::Short { .. } => false,
        _ => true,
    }
}

/// Opens farms of one chain on the executors of a host.
pub struct Opener {
    host: Host,
    executors: usize,
    near: Near,
    terms: Terms,
    farms_max: usize,
    devices: SyncMutex<BTreeMap<Option<u64>, Arc<Device>>>,
}

/// What every farm must fit.
#[derive(Debug, Clone, Copy)]
struct Terms {
    genesis_hash: [u8; 32],
    max_pieces_in_sector: u16,
    /// Whether a farm that is not there is made.
    create: bool,
    /// What is kept of each sector.
    memory: AuditMemory,
}

/// A device with farms.
struct Device {
    executor: usize,
    /// Those that were opened; held by the one that opens another.
    farms: Mutex<Vec<FarmHandle>>,
}

impl Opener {
    /// For at most `farms_max` farms at once on the first `executors` executors of `host`. `create`: a farm that is not there is made.
    pub fn new(
        host: Host,
        executors: usize,
        near: Near,
        info: &ClusterInfo,
        (create, memory): (bool, AuditMemory),
        farms_max: usize,
    ) -> Self {
        let (genesis_hash, max_pieces_in_sector) =
            (info.genesis_hash, info.protocol_info.max_pieces_in_sector);
        let terms = Terms { genesis_hash, max_pieces_in_sector, create, memory };
        Self { host, executors, near, terms, farms_max, devices: SyncMutex::default() }
    }

    /// Opens a farm, when `open` others are.
    pub async fn open(&self, spec: FarmSpec, open: usize) -> Result<FarmHandle, OpenError> {
        if open >= self.farms_max {
            return Err(OpenError::TooMany { path: spec.path, farms: self.farms_max });
        }
        let gone = OpenError::Executor { path: spec.path.clone() };
        let (near, path) = (self.near.clone(), spec.path.clone());
        let looked = tokio::task::spawn_blocking(move || (device_of(&path), near.of(&path))).await;
        let Ok((number, near)) = looked else { return Err(gone) };
        let device = self.device(number, &near);
        let mut farms = device.farms.lock().await;
        farms.retain(|farm| !farm.is_closed());
        let terms = self.terms;
        let opened = match farms.iter().find(|farm| !farm.is_stopped()) {
            Some(beside) => {
                let spec = spec.clone();
                let open = move |there: Rc<OpenFarm>| async move {
                    open_on(&there.local, &there.disk, &spec, terms).await
                };
                beside.run(Class::Serving, open).await.ok()
            }
            None => None,
        };
        let opened = match opened {
            Some(opened) => opened?,
            None => {
                let open = move |local: Local| async move {
                    let disk = local.disk(&spec.path, Limits::default()).map_err(|error| {
                        OpenError::Ring { path: spec.path.clone(), reason: error.to_string() }
                    })?;
                    open_on(&local, &disk, &spec, terms).await
                };
                match self.host.spawner(device.executor).spawn(open).await {
                    Ok(opened) => opened?,
                    Err(RemoteError::Gone | RemoteError::Full) => return Err(gone),
                }
            }
        };
        farms.push(opened.clone());
        Ok(opened)
    }

    fn device(&self, number: Option<u64>, near: &[usize]) -> Arc<Device> {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<_> = devices.values().map(|device| device.executor).collect();
        let new = || Device { executor: choose(near, &taken, self.executors), farms: Mutex::default() };
        devices.entry(number).or_insert_with(|| Arc::new(new())).clone()
    }
}

/// An executor for one more device: of those near it, else of all, the first that has the fewest. `taken` has one for each device.
fn choose(near: &[usize], taken: &[usize], executors: usize) -> usize {
    let all: Vec<usize> = (0..executors).collect();
    let candidates = if near.is_empty() { &all } else { near };
    let devices = |executor: &&usize| taken.iter().filter(|other| other == executor).count();
    *candidates.iter().min_by_key(devices).expect("there is an executor")
}

async fn open_on(local: &Local, disk: &Disk, spec: &FarmSpec, terms: Terms) -> Result<FarmHandle, OpenError> {
    let Terms { genesis_hash, max_pieces_in_sector, create, memory } = terms;
    let info = spec.path.join(INFO_FILE);
    if !create && !off_executor("farm-open", move || info.exists()).await.unwrap_or(false) {
        return Err(OpenError::NotThere { path: spec.path.clone() });
    }
    let pieces_in_sector = max_pieces_in_sector;
    let config = FarmConfig { genesis_hash, max_pieces_in_sector, pieces_in_sector, size: spec.size };
    let mut scratch = local.pool().acquire().await?;
    let signing = scratch.split_off(FARM_SCRATCH_BYTES).narrow(..SCRATCH_BYTES);
    let opened = pin!(Farm::open_with(disk.clone(), scratch, &spec.path, &config, memory));
    // Dropped half-way, it gives back what it took.
    let (farm, report) = match select(opened, pin!(local.stopping())).await {
        Either::Left((opened, _)) => opened?,
        Either::Right(_) => return Err(OpenError::Executor { path: spec.path.clone() }),
    };
    tell(&spec.path, &report);
    let (pieces_in_sector, identity) = (farm.layout().pieces_in_sector(), farm.identity().clone());
    let audit_buffers = Mutex::new(AuditBuffers::new(local.pool(), pieces_in_sector).await?);
    let (key, lock) = (identity.public_key(), farm.lock_file());
    let sent = SentSolutions::open_apart(&spec.path, key, genesis_hash, lock.clone()).await;
    let signatures =
        SignatureStore::open(disk.clone(), signing, &spec.path, identity, Some(lock.clone())).await;
    let signatures = signatures.map_err(|error| tracing::error!("{error}")).ok().map(Mutex::new);
    let open = OpenFarm {
        local: local.clone(),
        disk: disk.clone(),
        farm,
        audit_buffers,
        writers: RefCell::default(),
        doubts: Doubts::default(),
        reads: Rc::default(),
        signatures,
        is_open: watch::Sender::new(()),
    };
    Ok(FarmHandle::serve(&spec.path, open, sent, trouble_of(disk), !report.unreadable.is_empty()))
}

/// Why farms on the disk take no part at present.
fn trouble_of(disk: &Disk) -> DiskTrouble {
    let health = disk.health_cell();
    Arc::new(move || match health.get() {
        Health::Healthy | Health::Slow => None,
        Health::Sick => Some("its disk is sick"),
        Health::Gone => Some("its disk is gone"),
    })
}

fn tell(dir: &Path, report: &OpenReport) {
    tell_faults(dir, &report.faults);
    let dir = dir.display();
    if let Some(error) = &report.unreadable.error {
        let sectors = report.unreadable.sectors.len();
        tracing::error!(
            %dir, sectors,
            "the disk does not give the metadata of these sectors: they are left as they are and looked at again; first: {error}"
        );
    }
    if !report.adopted.is_empty() {
        tracing::info!(%dir, sectors = ?report.adopted, "whole sectors that were not counted yet are used again");
    }
    if report.dropped > 0 {
        tracing::warn!(%dir, sectors = report.dropped, "the farm was made smaller: sectors beyond its size are gone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_spread_over_the_executors_near_them() {
        let spread = |near: &[&[usize]], executors| {
            near.iter().fold(Vec::new(), |taken, near| {
                let executor = choose(near, &taken, executors);
                [taken, vec![executor]].concat()
            })
        };
        assert_eq!(spread(&[&[], &[], &[], &[]], 3), [0, 1, 2, 0]);
        assert_eq!(spread(&[&[2, 3], &[2, 3], &[0], &[2, 3], &[]], 4), [2, 3, 0, 2, 1]);
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        let path = PathBuf::from("/mnt/farm/plot.bin");
        let io = |kind| {
            let source = io::Error::from(kind);
            OpenError::from(FarmError::Io(IoError::Open { path: path.clone(), source }))
        };
        let locked = OpenError::from(FarmError::Io(IoError::Locked { path: path.clone() }));
        let damaged = FarmError::Info { path: path.clone(), reason: "cut off".into() };
        for (error, may_pass) in [
            (io(io::ErrorKind::NotFound), true),
            (io(io::ErrorKind::PermissionDenied), true),
            (io(io::ErrorKind::FileTooLarge), false),
            (locked, true),
            (OpenError::NotThere { path: path.clone() }, true),
            (damaged.into(), false),
            (OpenError::TooMany { path, farms: 1 }, false),
        ] {
            assert_eq!(error.may_pass(), may_pass, "{error}");
        }
    }
}
