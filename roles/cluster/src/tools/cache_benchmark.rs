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
use consensus::constants::PIECE_SIZE;
use consensus::sector::{ProtocolInfo, SectorId};
use control::ids::InstanceId;
use control::messages::{ClusterInfo, Role};
use futures::{FutureExt, StreamExt, stream};
use tokio::time::{Instant, sleep, timeout};

use super::presence;
use crate::host::{Host, HostConfig, HostError, ServesNothing};
use crate::pieces::{Given, PieceSource};

/// Slabs beside those of the pieces on their way.
const SPARE_SLABS: usize = 16;
/// How long the caches may take to be seen.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// How long the epoch may take to be known.
const EPOCH_WITHIN: Duration = Duration::from_secs(3);
/// Rounds in which a piece is asked for, and the pauses between them.
const ROUNDS: u32 = 3;
const ROUND_PAUSE: Duration = Duration::from_millis(500);
/// Time for what is under way to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// What to download.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Sectors whose pieces are drawn.
    pub sectors: u32,
    /// How often all of them are downloaded.
    pub epochs: u32,
    /// Pieces on their way at once.
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
    /// Pieces it gave.
    pub pieces: u64,
}

/// The figures.
#[derive(Debug, Clone)]
pub struct Report {
    /// Segments of history that the lists were drawn from.
    pub segments: u64,
    /// Pieces of a sector.
    pub pieces_in_sector: u16,
    /// Pieces that came.
    pub pieces: u64,
    /// How long it took.
    pub took: Duration,
    /// Time from asking for a piece until it is here, sorted.
    pub times: Vec<Duration>,
    /// Who gave how many, most first.
    pub givers: Vec<Giver>,
    /// Members that were asked in vain for a piece that another gave.
    pub in_vain: u64,
    /// Pieces that came only in a later round.
    pub retried: u64,
    /// Pieces that nobody gave, each once, and what the last answer was.
    pub missing: BTreeMap<u64, String>,
}

impl Report {
    /// Bytes of the pieces that came.
    pub fn bytes(&self) -> u64 {
        self.pieces * PIECE_SIZE as u64
    }

    /// Within which so many per cent of the pieces came; none if none did.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let last = self.times.len().checked_sub(1)?;
        self.times.get(last * percent / 100).copied()
    }
}

/// Downloads, and tells `progress` how many pieces of how many are done.
pub async fn run(
    bus: &SharedBus,
    options: Options,
    progress: impl FnMut(u64, u64),
) -> Result<Report, BenchmarkError> {
    let name = || bus.cluster().to_string();
    let info = presence::info(bus).await?.ok_or_else(|| BenchmarkError::NoCluster(name()))?;
    let slabs = options.concurrency + SPARE_SLABS;
    let config = HostConfig { slabs, ..HostConfig::new(Role::TOOL) };
    let host = Host::start(config, bus.clone(), |_| Rc::new(ServesNothing)).await?;
    let is_cache = |role| matches!(role, Role::ShardedCache | Role::FullPieceCache);
    let mut present = host.present();
    let seen = present.wait_for(|present| present.values().any(|entry| is_cache(entry.role)));
    let is_seen = matches!(timeout(SEEN_WITHIN, seen).await, Ok(Ok(_)));
    let result = if is_seen {
        let source = PieceSource::start(host.clone(), false).await?;
        // Where there is no epoch, everything is asked of full-piece caches.
        let mut owners = source.owners();
        let _ = timeout(EPOCH_WITHIN, owners.wait_for(|owners| !owners.is_empty())).await;
        Ok(download(&host, &source, &info, options, progress).await)
    } else {
        Err(BenchmarkError::NoCaches(name()))
    };
    host.shutdown(SHUTDOWN_LIMIT).await;
    result
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
        segments,
        pieces_in_sector,
        pieces: 0,
        took: Duration::ZERO,
        times,
        givers: Vec::new(),
        in_vain: 0,
        retried: 0,
        missing,
    };
    let mut pieces =
        stream::iter(all).map(|index| get(source, index).boxed()).buffer_unordered(options.concurrency);
    while let Some(got) = pieces.next().await {
        done += 1;
        report.retried += u64::from(got.rounds > 1 && got.piece.is_ok());
        match got.piece {
            Ok(given) => {
                report.pieces += 1;
                report.times.push(got.took);
                report.in_vain += u64::from(given.in_vain);
                *givers.entry(given.from).or_default() += 1;
            }
            Err(reason) => drop(report.missing.insert(got.index, reason)),
        }
        progress(done, of);
    }
    drop(pieces);
    report.took = began.elapsed();
    report.times.sort_unstable();
    report.givers = describe(host, givers);
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

/// One piece, or why it could not be had.
struct Got {
    index: u64,
    piece: Result<Given, String>,
    took: Duration,
    rounds: u32,
}

async fn get(source: &PieceSource, index: u64) -> Got {
    let began = Instant::now();
    let mut rounds = 1;
    loop {
        let piece = source.once(index).await;
        if piece.is_ok() || rounds == ROUNDS {
            let piece = piece.map_err(|error| error.to_string());
            return Got { index, piece, took: began.elapsed(), rounds };
        }
        rounds += 1;
        sleep(ROUND_PAUSE).await;
    }
}
