//! The two caches: `sharded-cache` holds the pieces it owns in the epoch, `full-piece-sharded-cache` every piece it is given.
//!
//! ```text
//!   controller ── PutItem ─▶ hash checked ─▶ store on disk ─▶ Stored        plot-server ── GetItem ─▶ store ─▶ Item
//!                                         └ and some of it in memory ┘
//!   DIR/items.bin: the pieces       DIR/id: who the cache is, so that it owns them again after a restart; locked while it runs
//!   DIR/settings: what the cluster had agreed on, and so whose pieces these are
//! ```
//! What it should hold and does not it pulls from others, and lets go what is theirs ([`control::refill`]).
//!
//! Owns: the directory. Never: who owns a piece (the epoch), or whether a piece belongs to the history: controllers verify
//! pieces in full before they give them, from there on the hash does.

mod calls;
mod claim;
mod counting;
mod error;
mod fullness;
mod handler;
mod holdings;
mod hot;
mod in_memory;
mod mem_size;
mod parity;
mod patrol;
mod recheck;
mod refill;
mod room;
mod spec;

pub use error::CacheError;
pub use handler::Counters;
pub use in_memory::MemCounters;
pub use mem_size::{MemSize, MemSizeError};
pub use spec::{CacheSpec, SpecError};

use self::claim::Claim;
use self::handler::{CacheHandler, Parts};
use self::recheck::Losses;
use self::refill::Refilling;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::piece_store::{StoreConfig, StoreError};
use futures::FutureExt;
use futures::future::pending;
use tokio::sync::{Notify, oneshot, watch};

use crate::host::{Host, HostConfig};
use crate::recall::{self, Memory};
use crate::role::{RoleError, await_cluster};
use crate::shutdown::Shutdown;
use bus::SharedBus;
use bus::cluster::Cluster;
use bus::epochs::Epochs;
use control::messages::{ClusterInfo, Epoch, Role, subjects};
use control::refill::Kind;
use control::rendezvous::fingerprint;
use topology::checks::memory_available_bytes;

/// Time for requests in progress when the process ends.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);
/// How often the counters are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How to cache.
#[derive(Debug, Clone)]
pub struct Config {
    /// Place in the cluster; its role says which kind of cache. Id and capacity (in pieces) are set from the directory.
    pub host: HostConfig,
    /// Where, and how much.
    pub spec: CacheSpec,
    /// `--tmp`: items are written without waiting for the disk, and all are checked at the start; nothing is deleted.
    pub tmp: bool,
    /// The size is taken with what comes, not at once.
    pub grows: bool,
    /// Bytes a second that it pulls at most; none: half of what the link gives.
    pub refill_bytes_per_s: Option<u64>,
    /// A sharded cache hands over what it has, and ends.
    pub drain: bool,
    /// Memory for items that are asked for often, beside that of the host's slabs.
    pub mem_cache: MemSize,
}

impl Config {
    /// Durable, at the usual pace.
    pub fn new(host: HostConfig, spec: CacheSpec) -> Self {
        let (refill_bytes_per_s, mem_cache) = Default::default();
        Self { host, spec, tmp: false, grows: false, refill_bytes_per_s, drain: false, mem_cache }
    }
}

/// Caches until told to end.
pub async fn run(config: Config, bus: SharedBus, shutdown: Shutdown) -> Result<(), RoleError> {
    // Until the end.
    let claim = Claim::take(&config.spec.path)?;
    let (id, slots) = (claim.id, config.spec.slots().map_err(CacheError::from)?);
    let serving = config.host.slabs;
    let mem_slabs = config.mem_cache.slabs(serving, memory_available_bytes()).map_err(CacheError::from)?;
    claim.alone_on(&bus, config.host.liveness).await?;
    if mem_slabs > 0 {
        tracing::info!(pieces = mem_slabs, "takes memory for pieces, which may be a while");
    }
    let memory = Memory::new(&config.spec.path);
    let (known, is_known) = watch::channel(memory.read());
    let counters = Arc::<Counters>::default();
    let (opened, is_open) = oneshot::channel();
    // Only a size that was named is reserved: without one, the rest of the disk is shared with whoever needs it first.
    let (size_bytes, grows) = (config.spec.size_bytes, config.grows);
    let store = StoreConfig { size_bytes, grows, tmp: config.tmp };
    let directory = config.spec.path.clone();
    let (calls, to_make) = calls::channel();
    let (makers, wanted) = parity::channel();
    // Before anybody sees that the cache is there. It waits for no settings: those who are to write them may ask it what it has.
    let questions = bus.subscribe(&subjects::holdings(id)).await?;
    let complaints = bus.subscribe(subjects::INVALIDATION).await?;
    let count_questions = bus.subscribe(&subjects::cache_counters(id)).await?;
    // What it hands over it does not own any more.
    let capacity = if config.drain { 0 } else { slots };
    let host = HostConfig { id, capacity, slabs: serving + mem_slabs, ..config.host };
    let kind = if host.role == Role::FullPieceCache { Kind::Full } else { Kind::Sharded };
    let lost = Arc::<Notify>::default();
    let (counting, losing, is_draining) = (counters.clone(), lost.clone(), config.drain);
    let parts =
        Parts { counters: counting, lost: losing, is_draining, mem_slabs, opened, makers, calls: to_make };
    let host =
        Host::start(host, bus, move |local| CacheHandler::open(&local, directory, store, parts)).await?;
    let genesis_hash = || is_known.borrow().as_ref().map(|info| info.genesis_hash);
    let tell = || is_known.borrow().clone();
    let (epoch, in_epoch) = watch::channel(None);
    let losses = Losses { counters: counters.clone(), lost: lost.clone() };
    let refilling = Refilling {
        host: host.clone(),
        calls: calls.clone(),
        kind,
        lost,
        bandwidth_bytes_per_s: config.refill_bytes_per_s,
        drain: config.drain,
    };
    let outcome = tokio::select! {
        () = shutdown.requested() => Ok(()),
        outcome = serve(&host, &counters, is_open, &known, &epoch, config.spec.path) => outcome,
        () = refilling.run(is_known.clone(), in_epoch) => Ok(()),
        () = room::tell(&host, &calls, config.drain).then(|()| pending()) => Ok(()),
        () = holdings::answer(host.bus(), questions, &calls, genesis_hash) => Ok(()),
        () = patrol::walk(&calls, &losses) => Ok(()),
        () = recheck::follow(id, complaints, &calls, &losses) => Ok(()),
        outcome = parity::make(host.clone(), wanted) => outcome.map_err(Into::into),
        () = counting::answer(host.bus(), count_questions, &counters) => Ok(()),
        outcome = recall::tell(host.bus(), tell) => outcome.map_err(Into::into),
        () = memory.follow(is_known.clone()) => Ok(()),
    };
    host.shutdown(SHUTDOWN_LIMIT).await;
    outcome
}

/// Waits for the store, then follows the settings and the epochs and logs the counters.
async fn serve(
    host: &Host,
    counters: &Counters,
    is_open: oneshot::Receiver<Result<u64, StoreError>>,
    known: &watch::Sender<Option<ClusterInfo>>,
    current: &watch::Sender<Option<Epoch>>,
    path: PathBuf,
) -> Result<(), RoleError> {
    let items = is_open.await.unwrap_or(Err(StoreError::Closed)).map_err(CacheError::from)?;
    tracing::info!(items, "the cache is open");
    if known.borrow().is_none() {
        belongs(known, await_cluster(&**host.bus()).await?, items, &path)?;
    }
    let mut infos = Cluster::open(&**host.bus()).await?.watch_info().await?;
    let mut epochs = Epochs::open(&**host.bus()).await?.watch().await?;
    let mut log = tokio::time::interval_at(tokio::time::Instant::now() + LOG_INTERVAL, LOG_INTERVAL);
    loop {
        tokio::select! {
            info = infos.next() => belongs(known, info, items, &path)?,
            epoch = epochs.next() => {
                follow(host, counters, &epoch);
                current.send_replace(Some(epoch));
            }
            _ = log.tick() => counting::log(counters),
        }
    }
}

/// Learns what the cluster has agreed on. Pieces of one chain are not given out, nor told of, in the cluster of another.
fn belongs(
    known: &watch::Sender<Option<ClusterInfo>>,
    info: ClusterInfo,
    items: u64,
    path: &Path,
) -> Result<(), CacheError> {
    let before = known.borrow().as_ref().map(|info| info.genesis_hash);
    let cluster = info.genesis_hash;
    if let Some(pieces) = before.filter(|before| items > 0 && *before != cluster) {
        return Err(CacheError::OtherChain { path: path.to_owned(), pieces, cluster });
    }
    known.send_replace(Some(info));
    Ok(())
}

fn follow(host: &Host, counters: &Counters, epoch: &Epoch) {
    counters.fingerprint.store(fingerprint(epoch), Ordering::Release);
    counters.epoch.store(epoch.number, Ordering::Release);
    let weight = epoch.members.iter().find(|member| member.id == host.id()).map(|member| member.weight);
    let (members, copies) = (epoch.members.len(), epoch.copies.max(1));
    tracing::info!(epoch = epoch.number, members, copies, weight, "epoch");
}
