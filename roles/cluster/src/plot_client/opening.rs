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

use super::audit::sectors_at_once;
use super::audit_memory::Settling;
use super::doubts::Doubts;
use super::expected::{Found, find};
use super::farms::{AuditBuffers, FarmHandle, OpenFarm, WeakFarmHandle, tell_faults};
use super::sent::SentSolutions;
use super::signatures::{SCRATCH_BYTES, SignatureError, SignatureStore};
use super::spec::FarmSpec;
use crate::host::Host;
use crate::placement::device_of;
use control::fleet::Passes;
use control::ids::FarmId;
use control::messages::ClusterInfo;
use engine::executor::RemoteError;
use engine::farm::{AuditMemory, FARM_SCRATCH_BYTES, Farm, FarmConfig, FarmError, OpenReport, SectorError};
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

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
    /// The farm that was open there is not.
    #[error(
        "{}: farm {farm} was open here and is not there: is its disk mounted? It is waited for, and no other is made in its place: for a \
         new one remove it, and add it again", path.display()
    )]
    Away {
        /// Its folder.
        path: PathBuf,
        /// Which one is waited for.
        farm: FarmId,
    },
    /// The file system of the farm that was open there has no device any more.
    #[error(
        "{}: the disk of farm {farm} is gone, and its file system still mounted: unmount it, and mount the disk anew: the farm is waited for",
        path.display()
    )]
    Dead {
        /// Its folder.
        path: PathBuf,
        /// Which one is waited for.
        farm: FarmId,
    },
    /// Another farm lies where one was open.
    #[error(
        "{}: farm {farm} was open here, and farm {found} is there now: is this the right disk? Nothing is read from it or written to it: to \
         farm that one remove this one, and add it again", path.display()
    )]
    Other {
        /// Its folder.
        path: PathBuf,
        /// Which one is waited for.
        farm: FarmId,
        /// Which one is there.
        found: FarmId,
    },
    /// No memory for its work.
    #[error("{0}: give this plot-client more buffers")]
    Memory(#[from] AcquireError),
    /// As many farms are open as there is memory for.
    #[error("{}: this plot-client has buffers for {farms} farms: remove one, or start it again to give it more", path.display())]
    TooMany {
        /// Its folder.
        path: PathBuf,
        /// How many may be open.
        farms: usize,
    },
    /// What it signs must be remembered.
    #[error("{}: {source}", path.display())]
    Signatures {
        /// Its folder.
        path: PathBuf,
        /// What is wrong with their file.
        source: SignatureError,
    },
    /// Its disk cannot be given a ring.
    #[error("{}: {reason}", path.display())]
    Ring {
        /// Its folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Nobody wants it any more.
    #[error("{}: it is not wanted any more", path.display())]
    GivenUp {
        /// Its folder.
        path: PathBuf,
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
    pub fn passes(&self) -> Passes {
        match self {
            Self::NotThere { .. } | Self::Away { .. } | Self::Dead { .. } | Self::Other { .. } => {
                Passes::Soon
            }
            // A farm that cannot sign earns nothing, and whoever looks must see that.
            Self::Memory(_)
            | Self::Signatures { .. }
            | Self::Ring { .. }
            | Self::TooMany { .. }
            | Self::Farm(FarmError::Sector(SectorError::Buffers(_)) | FarmError::Random(_)) => Passes::Maybe,
            Self::Farm(FarmError::Io(error) | FarmError::Sector(SectorError::Io(error))) => io_passes(error),
            Self::Farm(FarmError::FullBesideCache { .. }) => Passes::Slowly,
            Self::Farm(_) | Self::GivenUp { .. } | Self::Executor { .. } => Passes::Never,
        }
    }
}

fn io_passes(error: &IoError) -> Passes {
    let is_lasting = |source: &io::Error| {
        matches!(
            source.kind(),
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
        )
    };
    match error {
        IoError::Open { source, .. } | IoError::Failed { source, .. } if is_lasting(source) => Passes::Never,
        IoError::Short { .. } => Passes::Never,
        IoError::DiskFull { .. } => Passes::Slowly,
        _ => Passes::Maybe,
    }
}

/// Opens farms of one chain on the executors of a host.
pub struct Opener {
    host: Host,
    executors: usize,
    near: Near,
    terms: Terms,
    memory: Settling,
    farms_max: usize,
    /// One for each farm that is open or being opened.
    places: Arc<Semaphore>,
    devices: SyncMutex<BTreeMap<Option<u64>, Arc<Device>>>,
}

/// What every farm must fit.
#[derive(Debug, Clone, Copy)]
struct Terms {
    genesis_hash: [u8; 32],
    max_pieces_in_sector: u16,
    /// Whether a farm that is not there is made.
    create: bool,
}

/// A farm that is being opened.
#[derive(Clone)]
struct Opening {
    spec: FarmSpec,
    /// The farm that was open there before: it and no other.
    expected: Option<FarmId>,
    terms: Terms,
    /// What is kept of each sector.
    memory: AuditMemory,
    place: Arc<OwnedSemaphorePermit>,
    given_up: watch::Receiver<()>,
}

/// A device with farms.
struct Device {
    executor: usize,
    /// Those that were opened; held by the one that opens another.
    farms: Mutex<Vec<WeakFarmHandle>>,
}

impl Opener {
    /// For at most `farms_max` farms at once on the first `executors` executors of `host`. `create`: a farm that is not there is made.
    pub fn new(
        host: Host,
        executors: usize,
        near: Near,
        info: &ClusterInfo,
        create: bool,
        memory: Settling,
        farms_max: usize,
    ) -> Self {
        let (genesis_hash, max_pieces_in_sector) =
            (info.genesis_hash, info.protocol_info.max_pieces_in_sector);
        let terms = Terms { genesis_hash, max_pieces_in_sector, create };
        let places = Arc::new(Semaphore::new(farms_max));
        Self { host, executors, near, terms, memory, farms_max, places, devices: SyncMutex::default() }
    }

    /// Opens a farm; if one is `expected` there, it and no other, and none is made. Given up by the end of what sends to `given_up`, it
    /// gives back what it took.
    pub async fn open(
        &self,
        spec: FarmSpec,
        expected: Option<FarmId>,
        given_up: watch::Receiver<()>,
    ) -> Result<FarmHandle, OpenError> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return Err(OpenError::TooMany { path: spec.path, farms: self.farms_max });
        };
        let gone = OpenError::Executor { path: spec.path.clone() };
        let (near, path) = (self.near.clone(), spec.path.clone());
        let looked = tokio::task::spawn_blocking(move || (device_of(&path), near.of(&path))).await;
        let Ok((number, near)) = looked else { return Err(gone) };
        let device = self.device(number, &near);
        // Another farm of that disk may hang.
        let mut farms = tokio::select! {
            farms = device.farms.lock() => farms,
            () = ended(given_up.clone()) => return Err(OpenError::GivenUp { path: spec.path }),
        };
        farms.retain(|farm| farm.upgrade().is_some_and(|farm| !farm.is_closed()));
        let (memory, _promised) = self.memory.of(&spec);
        let (terms, place) = (self.terms, Arc::new(place));
        let opening = Opening { spec, expected, terms, memory, place, given_up };
        // One that leaves may do so since its disk is gone.
        let is_staying = |farm: &FarmHandle| !farm.is_stopped() && !farm.is_leaving();
        let beside = farms.iter().filter_map(WeakFarmHandle::upgrade).find(is_staying);
        let opened = match beside {
            Some(beside) => {
                let opening = opening.clone();
                let open = move |there: Rc<OpenFarm>| async move {
                    let (local, disk) = (there.local.clone(), there.disk.clone());
                    // It may be closed while the other one is opened.
                    drop(there);
                    open_on(&local, &disk, opening).await
                };
                beside.run(Class::Serving, open).await.ok()
            }
            None => None,
        };
        let opened = match opened {
            Some(opened) => opened?,
            None => {
                let open = move |local: Local| async move {
                    let path = opening.spec.path.clone();
                    let disk = local
                        .disk(&path, Limits::default())
                        .map_err(|error| OpenError::Ring { path, reason: error.to_string() })?;
                    open_on(&local, &disk, opening).await
                };
                match self.host.spawner(device.executor).spawn(open).await {
                    Ok(opened) => opened?,
                    Err(RemoteError::Gone | RemoteError::Full) => return Err(gone),
                }
            }
        };
        farms.push(opened.downgrade());
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

/// Ready when what sends is gone: nothing is ever sent.
async fn ended(mut receiver: watch::Receiver<()>) {
    while receiver.changed().await.is_ok() {}
}

async fn open_on(local: &Local, disk: &Disk, opening: Opening) -> Result<FarmHandle, OpenError> {
    let Opening { spec, expected, terms, memory, place, given_up } = opening;
    let Terms { genesis_hash, max_pieces_in_sector, create } = terms;
    check_there(&spec.path, create, expected).await?;
    let pieces_in_sector = max_pieces_in_sector;
    let FarmSpec { size, may_shrink, .. } = spec;
    let config = FarmConfig { genesis_hash, max_pieces_in_sector, pieces_in_sector, size, may_shrink };
    let mut scratch = local.pool().acquire().await?;
    let signing = scratch.split_off(FARM_SCRATCH_BYTES).narrow(..SCRATCH_BYTES);
    let opened = pin!(Farm::open_with(disk.clone(), scratch, &spec.path, &config, memory));
    // Dropped half-way, it gives back what it took.
    let (stopping, given_up) = (pin!(local.stopping()), pin!(ended(given_up)));
    let (farm, report) = match select(opened, select(stopping, given_up)).await {
        Either::Left((opened, _)) => opened?,
        Either::Right((Either::Left(_), _)) => return Err(OpenError::Executor { path: spec.path.clone() }),
        Either::Right((Either::Right(_), _)) => return Err(OpenError::GivenUp { path: spec.path.clone() }),
    };
    tell(&spec.path, &report);
    let (pieces_in_sector, identity) = (farm.layout().pieces_in_sector(), farm.identity().clone());
    farm.settle_depth().await;
    let at_once = sectors_at_once(disk.depth());
    let audit_buffers = Mutex::new(AuditBuffers::new(local.pool(), pieces_in_sector, at_once).await?);
    let (key, lock) = (identity.public_key(), farm.lock_file());
    let sent = SentSolutions::open_apart(&spec.path, key, genesis_hash, lock.clone()).await;
    let signatures =
        SignatureStore::open(disk.clone(), signing, &spec.path, identity, Some(lock.clone())).await;
    let refused = |source| OpenError::Signatures { path: spec.path.clone(), source };
    let signatures = Mutex::new(signatures.map_err(refused)?);
    let open = OpenFarm {
        local: local.clone(),
        disk: disk.clone(),
        farm,
        audit_buffers,
        writers: RefCell::default(),
        doubts: Doubts::default(),
        reads: Rc::default(),
        signatures,
        place,
        is_open: watch::Sender::new(()),
    };
    Ok(FarmHandle::serve(&spec.path, open, sent, !report.unreadable.is_empty()))
}

/// Errs where a farm would be made that must not be, or one taken for the farm that is `expected`.
async fn check_there(path: &Path, create: bool, expected: Option<FarmId>) -> Result<(), OpenError> {
    if create && expected.is_none() {
        return Ok(());
    }
    let (dir, path) = (path.to_owned(), path.to_owned());
    let found = off_executor("farm-open", move || find(&dir)).await.unwrap_or(Found::Unclear);
    match (found, expected) {
        (Found::Nothing, Some(farm)) => Err(OpenError::Away { path, farm }),
        (Found::Dead, Some(farm)) => Err(OpenError::Dead { path, farm }),
        (Found::Nothing, None) => Err(OpenError::NotThere { path }),
        (Found::Farm(found), Some(farm)) if found != farm => Err(OpenError::Other { path, farm, found }),
        // What is wrong there, opening it tells.
        (Found::Farm(_) | Found::Dead | Found::Unclear, _) => Ok(()),
    }
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
        let full =
            IoError::DiskFull { action: engine::Action::Write, path: path.clone(), offset: 0, wanted: 1 };
        let damaged = FarmError::Info { path: path.clone(), reason: "cut off".into() };
        for (error, passes) in [
            (io(io::ErrorKind::NotFound), Passes::Maybe),
            (io(io::ErrorKind::PermissionDenied), Passes::Maybe),
            (io(io::ErrorKind::FileTooLarge), Passes::Never),
            (locked, Passes::Maybe),
            (OpenError::from(FarmError::Io(full)), Passes::Slowly),
            (OpenError::NotThere { path: path.clone() }, Passes::Soon),
            (damaged.into(), Passes::Never),
            (OpenError::TooMany { path, farms: 1 }, Passes::Maybe),
        ] {
            assert_eq!(error.passes(), passes, "{error}");
        }
    }
}
