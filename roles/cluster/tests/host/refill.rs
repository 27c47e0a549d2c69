//! Caches that fill, move, mend and drain themselves: real ones, with pieces of bytes that mean nothing.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::house::{PATIENCE, get, liveness, put, start};
use crate::settings::settings;
use bus::SharedBus;
use bus::cluster::Cluster;
use bus::epochs::Epochs;
use bus::local::LocalBus;
use cluster::cache::{self, CacheSpec, Config, MemSize};
use cluster::host::{Host, HostConfig};
use cluster::role::RoleError;
use cluster::shutdown::{KeepRunning, Shutdown};
use cluster::tools::cache_benchmark::{self, FromMemory, Items};
use cluster::tools::reinitialize::{self, Options, Step};
use consensus::piece::PieceIndex;
use consensus::piece_set::PieceSet;
use control::ids::InstanceId;
use control::messages::{
    Control, Epoch, EpochMember, HoldingsAnswer, HoldingsRequest, Invalidation, ItemKind, Role, subjects,
};
use control::rendezvous::Owners;
use engine::piece_store::{ITEMS_FILE, SLOT_BYTES};
use tokio::task::JoinHandle;
use transport::message::Layout;

const CHAIN: [u8; 32] = [2; 32];
/// One segment.
const PIECES: u64 = 256;
/// Time for pieces to move, and for owners to be sure of them.
const MOVED: Duration = Duration::from_secs(90);

struct Cache {
    id: InstanceId,
    role: Role,
    folder: PathBuf,
    running: Option<(KeepRunning, JoinHandle<Result<(), RoleError>>)>,
}

/// Caches of one cluster, and a member that asks them.
struct Scene {
    bus: SharedBus,
    host: Host,
    folder: tempfile::TempDir,
    caches: Vec<Cache>,
    epoch: Epoch,
}

impl Scene {
    async fn new() -> Self {
        let bus: SharedBus = Arc::new(LocalBus::new());
        let host = start(&bus, Role::Controller).await;
        Cluster::open(&*bus).await.unwrap().put_info(&settings(CHAIN, 1)).await.unwrap();
        let (folder, epoch) = (tempfile::tempdir().unwrap(), Epoch::nobody());
        Self { bus, host, folder, caches: Vec::new(), epoch }
    }

    async fn add(&mut self, role: Role) {
        let folder = self.folder.path().join(self.caches.len().to_string());
        self.caches.push(Cache { id: InstanceId([0; 16]), role, folder, running: None });
        self.run(self.caches.len() - 1, false).await;
    }

    async fn run(&mut self, nth: usize, drain: bool) {
        let cache = &mut self.caches[nth];
        let (keep_running, shutdown) = Shutdown::new();
        let host = HostConfig { liveness: liveness(), ..HostConfig::new(cache.role) };
        let spec = CacheSpec { path: cache.folder.clone(), size_bytes: Some(300 * SLOT_BYTES as u64) };
        // Of 32 pieces.
        let mem_cache = MemSize(64 << 20);
        let config = Config { drain, mem_cache, ..Config::new(host, spec) };
        cache.running = Some((keep_running, tokio::spawn(cache::run(config, self.bus.clone(), shutdown))));
        let is_there = async {
            loop {
                let id = std::fs::read_to_string(cache.folder.join("id"))
                    .ok()
                    .and_then(|id| id.trim().parse().ok());
                if let Some(id) = id.filter(|id| self.host.present().borrow().contains_key(id)) {
                    return id;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        cache.id = tokio::time::timeout(PATIENCE, is_there).await.unwrap();
    }

    async fn stop(&mut self, nth: usize) {
        let (keep_running, running) = self.caches[nth].running.take().unwrap();
        drop(keep_running);
        tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
        let id = self.caches[nth].id;
        let is_gone = |now: &cluster::host::Present| !now.contains_key(&id);
        tokio::time::timeout(PATIENCE, self.host.present().wait_for(is_gone)).await.unwrap().unwrap();
    }

    /// A new epoch of the sharded caches with these weights.
    async fn begin(&mut self, weights: &[u64]) {
        let sharded = self.caches.iter().filter(|cache| cache.role == Role::ShardedCache);
        let members =
            sharded.zip(weights).map(|(cache, weight)| EpochMember { id: cache.id, weight: *weight });
        self.epoch = Epoch { number: self.epoch.number + 1, members: members.collect(), copies: 1 };
        let epochs = Epochs::open(&*self.bus).await.unwrap();
        let revision = epochs.current().await.unwrap().map(|(_, revision)| revision);
        epochs.replace(&self.epoch, revision).await.unwrap();
    }

    fn should(&self, nth: usize) -> BTreeSet<u64> {
        let (cache, owners) = (&self.caches[nth], Owners::new(&self.epoch));
        let is_its = |index: &u64| {
            cache.role == Role::FullPieceCache || owners.of(ItemKind::Piece, *index, 1) == [cache.id]
        };
        (0..PIECES).filter(is_its).collect()
    }

    async fn held(&self, nth: usize) -> BTreeSet<u64> {
        let request = HoldingsRequest { genesis_hash: CHAIN, from_segment: 0, segments: 1, lets_go_by: None };
        let subject = subjects::holdings(self.caches[nth].id);
        let answer = self.bus.request(&subject, request.to_bytes().unwrap(), PATIENCE).await.unwrap();
        let HoldingsAnswer::Held { pieces, .. } = HoldingsAnswer::from_bytes(&answer).unwrap() else {
            return BTreeSet::new();
        };
        let set = pieces.first().copied().map(PieceSet::from_bytes).unwrap_or_default();
        (0..PIECES).filter(|index| set.contains(PieceIndex(*index).position())).collect()
    }

    /// Until each cache that runs holds exactly what it should.
    async fn settle(&self) {
        let settled = async {
            loop {
                let mut is_settled = true;
                for (nth, cache) in self.caches.iter().enumerate() {
                    is_settled &= cache.running.is_none() || self.held(nth).await == self.should(nth);
                }
                if is_settled {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(MOVED, settled).await.is_err() {
            for nth in 0..self.caches.len() {
                let (held, should) = (self.held(nth).await, self.should(nth));
                println!("{nth}: holds {} of {}", held.intersection(&should).count(), should.len());
            }
            panic!("they do not settle");
        }
    }

    /// Whether a cache gives a piece as it was put.
    async fn gives(&self, nth: usize, index: u64) -> bool {
        let nothing = Layout::Run { phase: 0 };
        let reply = self.host.request(self.caches[nth].id, get(index), Vec::new(), nothing, PATIENCE).await;
        reply.is_ok_and(|reply| {
            let (slab, piece) = (reply.payload.unwrap(), crate::house::piece(self.host.pool(), index));
            slab[transport::tcp::PIECE_POINTS_AT..] == piece[transport::tcp::PIECE_POINTS_AT..slab.len()]
        })
    }
}

#[tokio::test]
async fn caches_fill_from_each_other_move_mend_and_drain() {
    let mut scene = Scene::new().await;
    scene.add(Role::FullPieceCache).await;
    for index in 0..PIECES {
        put(&scene.host, scene.caches[0].id, index).await;
    }
    for _ in 0..2 {
        scene.add(Role::ShardedCache).await;
    }
    scene.begin(&[300, 300]).await;
    scene.settle().await;

    // A third comes: its share moves to it, and then nobody else has that, not in memory either.
    let before = scene.should(1);
    for index in &before {
        assert!(scene.gives(1, *index).await);
    }
    scene.add(Role::ShardedCache).await;
    scene.begin(&[300, 300, 300]).await;
    scene.settle().await;
    for index in before.difference(&scene.should(1)) {
        assert!(!scene.gives(1, *index).await);
    }
    assert!((55..=115).contains(&scene.should(3).len()), "a third");

    // A damaged piece is noticed by whoever reads it, and comes back.
    let lost = *scene.should(3).first().unwrap();
    damage(&scene.caches[3].folder, lost);
    assert!(!scene.gives(3, lost).await);
    let comes_back = async {
        while !scene.gives(3, lost).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(MOVED, comes_back).await.unwrap();

    // One that another member found wrong is looked at, and comes back, though nobody reads it; what is whole stays.
    let lost = *scene.should(3).last().unwrap();
    damage(&scene.caches[3].folder, lost);
    for piece_index in [*scene.should(3).first().unwrap(), lost] {
        let complaint = Invalidation { kind: ItemKind::Piece, piece_index, holder: scene.caches[3].id };
        scene.bus.publish(subjects::INVALIDATION, complaint.to_bytes().unwrap()).await.unwrap();
    }
    let is_whole = async {
        while holds_damaged(&scene.caches[3].folder, lost) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(MOVED, is_whole).await.unwrap();
    scene.settle().await;

    // One hands over what it has, without a full-piece cache that could help.
    scene.stop(0).await;
    scene.stop(1).await;
    scene.run(1, true).await;
    scene.begin(&[0, 300, 300]).await;
    let (_keep_running, drained) = scene.caches[1].running.take().unwrap();
    tokio::time::timeout(MOVED, drained).await.unwrap().unwrap().unwrap();
    scene.settle().await;
    let all: BTreeSet<_> = scene.should(2).union(&scene.should(3)).copied().collect();
    assert_eq!(all.len() as u64, PIECES);

    // A full-piece cache comes late, and gets everything.
    scene.add(Role::FullPieceCache).await;
    scene.settle().await;
    for index in (0..PIECES).step_by(17) {
        assert!(scene.gives(4, index).await, "{index}");
    }
}

#[tokio::test]
async fn the_guides_tools_begin_an_epoch_and_measure() {
    let mut scene = Scene::new().await;
    let listing = Options { delay: Duration::ZERO, dry_run: true, wait: true };
    let nobody = reinitialize::run(&scene.bus, listing, |_| ()).await.unwrap_err();
    assert!(nobody.to_string().contains("start sharded-cache"), "{nobody}");
    scene.add(Role::FullPieceCache).await;
    for index in 0..PIECES {
        put(&scene.host, scene.caches[0].id, index).await;
    }
    for _ in 0..2 {
        scene.add(Role::ShardedCache).await;
    }
    let mut owned = 0;
    let count = |step: Step<'_>| {
        if let Step::Planned { number: 1, segments: 1, shares, absent: [], .. } = step {
            owned = shares.iter().map(|share| share.owns).sum();
        }
    };
    reinitialize::run(&scene.bus, listing, count).await.unwrap();
    let epochs = Epochs::open(&*scene.bus).await.unwrap();
    assert_eq!((owned, epochs.current().await.unwrap()), (PIECES, None), "nothing was written");

    // Two at once end as one.
    let options = Options { dry_run: false, ..listing };
    let both = [0, 1].map(|_| reinitialize::run(&scene.bus, options, |_| ()));
    for ended in futures::future::join_all(both).await {
        ended.unwrap();
    }
    scene.epoch = epochs.current().await.unwrap().unwrap().0;
    assert_eq!((scene.epoch.number, scene.epoch.members.len()), (1, 2));
    for nth in 0..3 {
        assert_eq!(scene.held(nth).await, scene.should(nth), "it was waited for");
    }

    let options = cache_benchmark::Options { items: Items::Piece, sectors: 3, epochs: 2, concurrency: 8 };
    let mut last = (0, 0);
    let report = cache_benchmark::run(&scene.bus, options, |done, of| last = (done, of)).await.unwrap();
    let of = 6 * u64::from(settings(CHAIN, 1).protocol_info.max_pieces_in_sector);
    assert_eq!((last, report.pieces), ((of, of), of));
    assert!(report.missing.is_empty() && report.times.is_sorted() && report.times.len() as u64 == of);
    assert!(report.givers.iter().all(|giver| giver.role == Role::ShardedCache), "{:?}", report.givers);
    // Of thirty pieces, each asked for twice and more.
    let FromMemory { hits, misses } = report.memory.unwrap();
    assert!(hits > 0 && hits + misses == of, "{hits} of {of}");
    let split = cache_benchmark::Options { items: Items::Split, epochs: 1, ..options };
    let report = cache_benchmark::run(&scene.bus, split, |_, _| ()).await.unwrap();
    assert!(report.missing.is_empty() && report.pieces == of / 2, "{report:?}");
    assert!(report.bytes() > of / 2 * 2 * 1024 * 1024);
    // Owners that are away are made up for; what nobody has is named.
    scene.stop(1).await;
    let report = cache_benchmark::run(&scene.bus, options, |_, _| ()).await.unwrap();
    let helped = report.givers.iter().filter(|giver| giver.role == Role::FullPieceCache);
    let helped: u64 = helped.map(|giver| giver.pieces).sum();
    assert!(report.missing.is_empty() && helped > 0, "{report:?}");
    let FromMemory { hits, misses } = report.memory.unwrap();
    assert!(
        hits >= helped / 2 && hits + misses >= helped,
        "each is asked for twice, the second time in memory"
    );
    scene.stop(0).await;
    let report = cache_benchmark::run(&scene.bus, options, |_, _| ()).await.unwrap();
    assert!(!report.missing.is_empty() && report.pieces < of);
}

/// What [`damage`] leaves in a piece.
const DAMAGE: [u8; 64] = [0xee; 64];

/// Whether the slot of a piece is damaged.
fn holds_damaged(folder: &std::path::Path, index: u64) -> bool {
    let mut bytes = [0; DAMAGE.len()];
    slot(folder, index).is_some_and(|(file, at)| {
        file.read_exact_at(&mut bytes, at + 9999).unwrap();
        bytes == DAMAGE
    })
}

/// Changes some bytes of a piece on disk.
fn damage(folder: &std::path::Path, index: u64) {
    let (file, at) = slot(folder, index).unwrap();
    file.write_all_at(&DAMAGE, at + 9999).unwrap();
}

/// The store's file, and where in it the slot of a piece begins.
fn slot(folder: &std::path::Path, index: u64) -> Option<(std::fs::File, u64)> {
    let file = OpenOptions::new().read(true).write(true).open(folder.join(ITEMS_FILE)).unwrap();
    let slots = file.metadata().unwrap().len() / SLOT_BYTES as u64;
    let of = |slot: u64| {
        let mut header = [0; 32];
        file.read_exact_at(&mut header, slot * SLOT_BYTES as u64).unwrap();
        (header.starts_with(b"ASFITEM1")).then(|| u64::from_le_bytes(header[16..24].try_into().unwrap()))
    };
    let slot = (0..slots).find(|slot| of(*slot) == Some(index))?;
    Some((file, slot * SLOT_BYTES as u64))
}
