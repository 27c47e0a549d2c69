//! `util sharded-cache-benchmark`: the pieces of sectors, downloaded from the caches as a plot-server downloads them.
//!
//! ```text
//!   settings ─▶ piece lists of so many sectors at the present history ─▶ each piece from its owner, else the next ─▶ figures
//! ```
//! Owns: the lists, and what is counted. Never: what becomes of a piece (its hash is checked, and it is dropped).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bus::{BusError, SharedBus};
use bytes::Bytes;
use consensus::constants::{PIECE_SIZE, RECORD_SIZE};
use consensus::sector::{ProtocolInfo, SectorId};
use control::ids::InstanceId;
use control::messages::{CacheCounters, ClusterInfo, Control, Role, subjects};
use futures::{FutureExt, StreamExt, future, join, stream};
use tokio::time::{Instant, sleep, timeout};

use super::presence;
use crate::host::{Host, HostConfig, HostError, ServesNothing};
use crate::pieces::PieceSource;

/// Slabs beside those of the pieces on their way.
const SPARE_SLABS: usize = 16;
/// How long the caches may take to be seen.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// How long the epoch may take to be known.
const EPOCH_WITHIN: Duration = Duration::from_secs(3);
/// How long a cache may take to say what it has counted.
const COUNTERS_TIMEOUT: Duration = Duration::from_secs(3);
/// Rounds in which a piece is asked for, and the pauses between them.
const ROUNDS: u32 = 3;
const ROUND_PAUSE: Duration = Duration::from_millis(500);
/// Time for what is under way to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// Items of a record that a plot-server may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Items {
    /// Its piece.
    Piece,
    /// The parity of its record.
    Parity,
    /// Both, side by side.
    Split,
}

impl Items {
    /// Bytes of one.
    pub fn size_bytes(self) -> u64 {
        match self {
            Self::Piece => PIECE_SIZE as u64,
            Self::Parity => RECORD_SIZE as u64,
            Self::Split => (PIECE_SIZE + RECORD_SIZE) as u64,
        }
    }

    /// Buffers that one takes.
    fn slabs(self) -> usize {
        if self == Self::Split { 2 } else { 1 }
    }
}

/// What to download.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Of each piece.
    pub items: Items,
    /// Sectors whose pieces are drawn.
    pub sectors: u32,
    /// How often all of them are downloaded.
    pub epochs: u32,
    /// Items on their way at once.
    pub concurrency: usize,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchmarkError {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The member could not start.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No controller has been there.
    #[error("no controller has been in cluster `{0}` yet: start one, or correct --cluster")]
    NoCluster(String),
    /// Nobody to download from.
    #[error(
        "no cache is seen in cluster `{0}`: start sharded-cache or full-piece-sharded-cache, or correct --cluster"
    )]
    NoCaches(String),
}

/// What one member gave.
#[derive(Debug, Clone)]
pub struct Giver {
    /// Which.
    pub id: InstanceId,
    /// Its role.
    pub role: Role,
    /// Its host.
    pub host: String,
    /// Pieces it gave, and parities.
    pub pieces: u64,
}

/// The figures.
#[derive(Debug, Clone)]
pub struct Report {
    /// Of each piece.
    pub items: Items,
    /// Segments of history that the lists were drawn from.
    pub segments: u64,
    /// Pieces of a sector.
    pub pieces_in_sector: u16,
    /// Items that came.
    pub pieces: u64,
    /// How long it took.
    pub took: Duration,
    /// Time from asking for an item until all of it is here, sorted.
    pub times: Vec<Duration>,
    /// Who gave how many, most first.
    pub givers: Vec<Giver>,
    /// Members that were asked in vain for a piece that another gave.
    pub in_vain: u64,
    /// Pieces that no cache gave, and a controller did: from its spool or node, or rebuilt.
    pub by_controllers: u64,
    /// Items that came only in a later round.
    pub retried: u64,
    /// Items that nobody gave, each once, and what the last answer was.
    pub missing: BTreeMap<u64, String>,
    /// What caches with memory for items did meanwhile, for all who asked; none where there is no such cache.
    pub memory: Option<FromMemory>,
}

/// Of the pieces that caches gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FromMemory {
    /// Those that lay in memory.
    pub hits: u64,
    /// Those that had to be read from disk.
    pub misses: u64,
}

impl Report {
    /// Bytes of the items that came.
    pub fn bytes(&self) -> u64 {
        self.pieces * self.items.size_bytes()
    }

    /// Within which so many per cent of the items came; none if none did.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let last = self.times.len().checked_sub(1)?;
        self.times.get(last * percent / 100).copied()
    }
}

/// Downloads, and tells `progress` how many items of how many are done.
pub async fn run(
    bus: &SharedBus,
    options: Options,
    progress: impl FnMut(u64, u64),
) -> Result<Report, BenchmarkError> {
    let name = || bus.cluster().to_string();
    let info = presence::info(bus).await?.ok_or_else(|| BenchmarkError::NoCluster(name()))?;
    let slabs = options.concurrency * options.items.slabs() + SPARE_SLABS;
    let config = HostConfig { slabs, ..HostConfig::new(Role::TOOL) };
    let host = Host::start(config, bus.clone(), |_| Rc::new(ServesNothing)).await?;
    let mut present = host.present();
    let seen = present.wait_for(|present| present.values().any(|entry| is_cache(entry.role)));
    let is_seen = matches!(timeout(SEEN_WITHIN, seen).await, Ok(Ok(_)));
    let result = if is_seen {
        let source = PieceSource::start(host.clone(), false).await?;
        // Where there is no epoch, everything is asked of full-piece caches.
        let mut owners = source.owners();
        let _ = timeout(EPOCH_WITHIN, owners.wait_for(|owners| !owners.is_empty())).await;
        let before = memory_counters(&host).await;
        let mut report = download(&host, &source, &info, options, progress).await;
        report.memory = since(&before, &memory_counters(&host).await);
        Ok(report)
    } else {
        Err(BenchmarkError::NoCaches(name()))
    };
    host.shutdown(SHUTDOWN_LIMIT).await;
    result
}

fn is_cache(role: Role) -> bool {
    matches!(role, Role::ShardedCache | Role::FullPieceCache)
}

/// What each cache has counted that has memory for items. One of an earlier release does not answer.
async fn memory_counters(host: &Host) -> BTreeMap<InstanceId, CacheCounters> {
    let present = host.present().borrow().clone();
    let caches = present.values().filter(|entry| is_cache(entry.role)).map(|entry| entry.id);
    let asked = caches.map(|id| async move {
        let answer = host.bus().request(&subjects::cache_counters(id), Bytes::new(), COUNTERS_TIMEOUT).await;
        Some((id, CacheCounters::from_bytes(&answer.ok()?).ok()?))
    });
    let answers = future::join_all(asked).await;
    answers.into_iter().flatten().filter(|(_, counters)| counters.mem_capacity > 0).collect()
}

/// What was counted between two looks. A cache that began meanwhile, anew or for the first time, began at nothing.
fn since(
    before: &BTreeMap<InstanceId, CacheCounters>,
    after: &BTreeMap<InstanceId, CacheCounters>,
) -> Option<FromMemory> {
    let counted = after.iter().map(|(id, after)| {
        let before = before.get(id).filter(|before| before.hits <= after.hits);
        let (hits, misses) = before.map_or((0, 0), |before| (before.mem_hits, before.mem_misses));
        FromMemory {
            hits: after.mem_hits.saturating_sub(hits),
            misses: after.mem_misses.saturating_sub(misses),
        }
    });
    counted.reduce(|a, b| FromMemory {
        hits: a.hits.saturating_add(b.hits),
        misses: a.misses.saturating_add(b.misses),
    })
}

/// The pieces of sectors that nobody will plot, in the order in which a plot-server would ask for them.
fn lists(info: &ClusterInfo, sectors: u32) -> impl Iterator<Item = u64> + Clone + use<> {
    let protocol = ProtocolInfo::from(&info.protocol_info);
    (0..sectors).flat_map(move |sector| {
        let farm = *blake3::hash(&sector.to_le_bytes()).as_bytes();
        let id = SectorId::new(&farm, (sector % 1000) as u16, protocol.history_size);
        (0..protocol.max_pieces_in_sector)
            .map(move |offset| id.piece_index(offset, protocol.history_size, &protocol))
    })
}

async fn download(
    host: &Host,
    source: &PieceSource,
    info: &ClusterInfo,
    options: Options,
    mut progress: impl FnMut(u64, u64),
) -> Report {
    let pieces_in_sector = info.protocol_info.max_pieces_in_sector;
    let of = u64::from(options.epochs) * u64::from(options.sectors) * u64::from(pieces_in_sector);
    let all = (0..options.epochs).flat_map(|_| lists(info, options.sectors));
    let (mut givers, began, mut done) = (BTreeMap::<_, u64>::new(), Instant::now(), 0);
    let segments = info.protocol_info.history_size;
    let (times, missing) = Default::default();
    let mut report = Report {
        items: options.items,
        segments,
        pieces_in_sector,
        pieces: 0,
        took: Duration::ZERO,
        times,
        givers: Vec::new(),
        in_vain: 0,
        by_controllers: 0,
        retried: 0,
        missing,
        memory: None,
    };
    let mut pieces = stream::iter(all)
        .map(|index| get(source, options.items, index).boxed())
        .buffer_unordered(options.concurrency);
    while let Some(got) = pieces.next().await {
        done += 1;
        report.retried += u64::from(got.rounds > 1 && got.came.is_ok());
        match got.came {
            Ok(Came { from, in_vain }) => {
                report.pieces += 1;
                report.times.push(got.took);
                report.in_vain += u64::from(in_vain);
                from.into_iter().for_each(|id| *givers.entry(id).or_default() += 1);
            }
            Err(reason) => drop(report.missing.insert(got.index, reason)),
        }
        progress(done, of);
    }
    drop(pieces);
    report.took = began.elapsed();
    report.times.sort_unstable();
    report.givers = describe(host, givers);
    let controllers = report.givers.iter().filter(|giver| giver.role == Role::Controller);
    report.by_controllers = controllers.map(|giver| giver.pieces).sum();
    report
}

fn describe(host: &Host, givers: BTreeMap<InstanceId, u64>) -> Vec<Giver> {
    let present = host.present();
    let present = present.borrow();
    let giver = |(id, pieces): (InstanceId, u64)| {
        let entry = present.get(&id);
        let (role, host) = entry.map_or((Role::TOOL, "gone"), |entry| (entry.role, entry.host.as_str()));
        Giver { id, role, host: host.to_owned(), pieces }
    };
    let mut givers: Vec<_> = givers.into_iter().map(giver).collect();
    givers.sort_by_key(|giver| std::cmp::Reverse(giver.pieces));
    givers
}

/// One item, or why it could not be had.
struct Got {
    index: u64,
    came: Result<Came, String>,
    took: Duration,
    rounds: u32,
}

/// Who gave its parts, and how many were asked in vain before.
struct Came {
    from: Vec<InstanceId>,
    in_vain: u32,
}

async fn get(source: &PieceSource, items: Items, index: u64) -> Got {
    let began = Instant::now();
    let mut rounds = 1;
    loop {
        let came = once(source, items, index).await;
        if came.is_ok() || rounds == ROUNDS {
            return Got { index, came, took: began.elapsed(), rounds };
        }
        rounds += 1;
        sleep(ROUND_PAUSE).await;
    }
}

async fn once(source: &PieceSource, items: Items, index: u64) -> Result<Came, String> {
    let piece = async { if items == Items::Parity { None } else { Some(source.once(index).await) } };
    let parity = async { if items == Items::Piece { None } else { Some(source.parity(index).await) } };
    let (piece, parity) = join!(piece, parity);
    let mut came = Came { from: Vec::new(), in_vain: 0 };
    if let Some(piece) = piece {
        let given = piece.map_err(|error| error.to_string())?;
        came = Came { from: vec![given.from], in_vain: given.in_vain };
    }
    if let Some(parity) = parity {
        let (_, _, from) = parity.ok_or("no cache gave its parity")?;
        came.from.push(from);
    }
    Ok(came)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_caches_count_anew_is_counted_from_nothing() {
        let of = |hits, mem_hits, mem_misses| {
            let (misses, stored, damaged, mem_capacity, mem_items) = (0, 0, 0, 1, 0);
            CacheCounters { hits, misses, stored, damaged, mem_capacity, mem_items, mem_hits, mem_misses }
        };
        let id = |number| InstanceId([number; 16]);
        let before = [(id(1), of(100, 60, 40)), (id(2), of(100, 60, 40)), (id(3), of(9, 9, 0))].into();
        // The second was started again, the third has left, the fourth has come.
        let after = [(id(1), of(110, 67, 43)), (id(2), of(5, 3, 2)), (id(4), of(1, 0, 1))].into();
        assert_eq!(since(&before, &after), Some(FromMemory { hits: 10, misses: 6 }));
        assert_eq!(since(&before, &BTreeMap::new()), None);
    }
}
