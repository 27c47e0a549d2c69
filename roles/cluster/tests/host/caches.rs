//! A cache says what it has, and remembers what the cluster had agreed on.

use std::path::Path;
use std::sync::Arc;

use crate::house::{PATIENCE, get, liveness, piece, put, start};
use crate::settings::settings;
use bus::SharedBus;
use bus::cluster::Cluster;
use bus::epochs::Epochs;
use bus::local::LocalBus;
use cluster::cache::{self, CacheSpec, Config, MemSize};
use cluster::host::{Host, HostConfig};
use cluster::pieces::PieceSource;
use cluster::role::RoleError;
use cluster::shutdown::Shutdown;
use consensus::CpuLevel;
use consensus::constants::{RECORD_CHUNKS, RECORD_SIZE};
use consensus::erasure::Extender;
use consensus::piece_set::PieceSet;
use control::ids::InstanceId;
use control::messages::{
    CacheCounters, ClusterInfo, Control, Epoch, EpochMember, HoldingsAnswer, HoldingsRequest, Role,
    SettingsWanted, subjects,
};
use engine::piece_store::{ITEMS_FILE, RECORD_AT, SLOT_BYTES};
use std::os::unix::fs::FileExt;
use tokio::task::JoinHandle;
use transport::message::{ItemKind, Layout, RefusalCode, Request};
use transport::payload::PayloadBuf;
use transport::tcp::{PIECE_POINTS_AT, SlabPayload};

const CHAIN: [u8; 32] = [2; 32];

/// A cache, and what keeps it running while it is there.
struct Running(Box<dyn std::any::Any>, JoinHandle<Result<(), RoleError>>);

impl Running {
    async fn stop(self) {
        drop(self.0);
        tokio::time::timeout(PATIENCE, self.1).await.unwrap().unwrap().unwrap();
    }
}

/// Starts the cache in a directory, and waits until `host` sees it.
async fn cache(bus: &SharedBus, path: &Path, host: &Host) -> (Running, InstanceId) {
    start_cache(config(path), bus, host).await
}

fn config(path: &Path) -> Config {
    Config::new(
        HostConfig { slabs: 8, liveness: liveness(), ..HostConfig::new(Role::ShardedCache) },
        CacheSpec { path: path.to_owned(), size_bytes: Some(4 * SLOT_BYTES as u64) },
    )
}

async fn start_cache(config: Config, bus: &SharedBus, host: &Host) -> (Running, InstanceId) {
    let (keep_running, shutdown) = Shutdown::new();
    let mut running = tokio::spawn(cache::run(config, bus.clone(), shutdown));
    let mut present = host.present();
    let of_role = |now: &cluster::host::Present| now.values().any(|it| it.role == Role::ShardedCache);
    tokio::select! {
        seen = tokio::time::timeout(PATIENCE, present.wait_for(of_role)) => drop(seen.unwrap().unwrap()),
        ended = &mut running => panic!("it ended: {ended:?}"),
    }
    (Running(Box::new(keep_running), running), host.members(Role::ShardedCache)[0].id)
}

async fn ask(bus: &SharedBus, cache: InstanceId, genesis_hash: [u8; 32], segments: u16) -> HoldingsAnswer {
    let request = HoldingsRequest { genesis_hash, from_segment: 1, segments, lets_go_by: None };
    let bytes = request.to_bytes().unwrap();
    let answer = bus.request(&subjects::holdings(cache), bytes, PATIENCE).await.unwrap();
    HoldingsAnswer::from_bytes(&answer).unwrap()
}

/// Asks until the store is open.
async fn held(bus: &SharedBus, cache: InstanceId, segments: u16) -> HoldingsAnswer {
    loop {
        match ask(bus, cache, CHAIN, segments).await {
            HoldingsAnswer::Refused { reason } if reason.contains("reads") => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            answer => return answer,
        }
    }
}

/// What somebody tells of the settings.
async fn told(bus: &SharedBus) -> ClusterInfo {
    let controller = InstanceId([7; 16]);
    let mut known = bus.subscribe(&subjects::settings_known(controller)).await.unwrap();
    let asking = async {
        loop {
            let wanted = SettingsWanted { controller }.to_bytes().unwrap();
            bus.publish(subjects::SETTINGS_WANTED, wanted).await.unwrap();
            let answer = tokio::time::timeout(std::time::Duration::from_millis(50), known.next()).await;
            if let Ok(Some(message)) = answer {
                return ClusterInfo::from_bytes(&message.payload).unwrap();
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap()
}

#[tokio::test]
async fn a_cache_says_what_it_has_and_whose_pieces_they_are() {
    let local = LocalBus::new();
    let bus: SharedBus = Arc::new(local.clone());
    let host = start(&bus, Role::Controller).await;
    let folder = tempfile::tempdir().unwrap();

    // There are no settings yet, and it is there all the same.
    let (running, id) = cache(&bus, folder.path(), &host).await;
    let nothing = HoldingsAnswer::Held { highest: None, pieces: vec![] };
    assert_eq!(held(&bus, id, 2).await, nothing);
    for index in [256 + 3, 2 * 256 + 255, 4 * 256] {
        put(&host, id, index).await;
    }
    let sets = [[3].as_slice(), &[255], &[], &[0]];
    let sets = sets.map(|positions| positions.iter().copied().collect::<PieceSet>().to_bytes());
    let all = HoldingsAnswer::Held { highest: Some(4), pieces: sets.to_vec() };
    assert_eq!(held(&bus, id, 512).await, all);
    let some = HoldingsAnswer::Held { highest: Some(4), pieces: sets[..2].to_vec() };
    assert_eq!(held(&bus, id, 3).await, some, "not more than was asked for");
    let garbage = bus.request(&subjects::holdings(id), "garbage".into(), PATIENCE).await.unwrap();
    assert!(matches!(HoldingsAnswer::from_bytes(&garbage), Ok(HoldingsAnswer::Refused { .. })));

    let cluster = Cluster::open(&*bus).await.unwrap();
    cluster.put_info(&settings(CHAIN, 5)).await.unwrap();
    assert_eq!(told(&bus).await, settings(CHAIN, 5));
    let foreign = ask(&bus, id, [9; 32], 2).await;
    assert!(
        matches!(&foreign, HoldingsAnswer::Refused { reason } if reason.contains("chain")),
        "{foreign:?}"
    );
    let is_kept = async {
        while !folder.path().join("settings").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_kept).await.unwrap();
    running.stop().await;

    // The store is lost, and whoever knew it.
    local.lose_store();
    let elsewhere: SharedBus = Arc::new(LocalBus::new());
    let asker = start(&elsewhere, Role::Controller).await;
    let (running, again) = cache(&elsewhere, folder.path(), &asker).await;
    assert_eq!((again, held(&elsewhere, again, 512).await), (id, all));
    assert_eq!(told(&elsewhere).await, settings(CHAIN, 5));

    // Its pieces are of no use to another chain.
    Cluster::open(&*elsewhere).await.unwrap().put_info(&settings([9; 32], 1)).await.unwrap();
    let Running(_keep_running, running) = running;
    let error = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap_err().to_string();
    for named in [&"09".repeat(32), &"02".repeat(32), folder.path().to_str().unwrap()] {
        assert!(error.contains(named), "{error}");
    }
    host.shutdown(PATIENCE).await;
    asker.shutdown(PATIENCE).await;
}

/// Slots whose headers name parity.
fn parities(folder: &Path) -> usize {
    let file = std::fs::File::open(folder.join(ITEMS_FILE)).unwrap();
    let is_parity = |slot: &u64| {
        let mut header = [0; 9];
        file.read_exact_at(&mut header, slot * SLOT_BYTES as u64).unwrap();
        header == *b"ASFITEM1\x02"
    };
    (0..4).filter(is_parity).count()
}

/// The parity that a cache gives is that of the piece.
async fn gives_parity(host: &Host, source: &PieceSource, index: u64) {
    let (given, blake3, _) = source.parity(index).await.expect("a cache gives it");
    let piece = piece(host.pool(), index);
    let mut parity = vec![[0; 32]; RECORD_CHUNKS];
    let mut extender = Extender::new(CpuLevel::current(), RECORD_CHUNKS).unwrap();
    let record = piece[RECORD_AT..][..RECORD_SIZE].as_chunks().0;
    extender.extend_record(record, &mut parity).unwrap();
    assert!(given[..] == *parity.as_flattened(), "parity of {index}");
    assert_eq!(blake3, *blake3::hash(&given).as_bytes());
}

/// Its first owner makes it once and keeps it while there is room; any piece goes before it.
#[tokio::test]
async fn parity_is_made_when_it_is_asked_for_and_gives_way_to_pieces() {
    let bus: SharedBus = Arc::new(LocalBus::new());
    let host = start(&bus, Role::Controller).await;
    let folder = tempfile::tempdir().unwrap();
    let (running, id) = cache(&bus, folder.path(), &host).await;
    held(&bus, id, 1).await;
    let members = vec![EpochMember { id, weight: 4 }];
    let epoch = Epoch { number: 1, members, copies: 1 };
    Epochs::open(&*bus).await.unwrap().replace(&epoch, None).await.unwrap();
    let source = PieceSource::start(host.clone(), false).await.unwrap();
    source.owners().wait_for(|owners| !owners.is_empty()).await.unwrap();
    assert!(source.parity(0).await.is_none(), "nobody has its piece");
    put(&host, id, 0).await;
    put(&host, id, 1).await;
    let are_kept = async |count| {
        loop {
            for index in [0, 1] {
                gives_parity(&host, &source, index).await;
            }
            // The cache may hear of the epoch later than we do.
            if parities(folder.path()) == count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, are_kept(2)).await.unwrap();
    put(&host, id, 2).await;
    assert_eq!(parities(folder.path()), 1, "all four slots were taken");
    tokio::time::timeout(PATIENCE, are_kept(1)).await.unwrap();
    // Said to be wrong it is dropped, and its giver not asked for any for a while.
    for index in [0, 1] {
        source.parity_was_wrong(index, id).await;
    }
    let are_dropped = async {
        while parities(folder.path()) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, are_dropped).await.unwrap();
    assert!(source.parity(0).await.is_none());
    let source = PieceSource::start(host.clone(), false).await.unwrap();
    source.owners().wait_for(|owners| !owners.is_empty()).await.unwrap();
    tokio::time::timeout(PATIENCE, async {
        while parities(folder.path()) == 0 {
            gives_parity(&host, &source, 0).await;
        }
    })
    .await
    .unwrap();
    running.stop().await;
    // Started again it knows what there is, and what gives way.
    let (running, id) = cache(&bus, folder.path(), &host).await;
    held(&bus, id, 1).await;
    put(&host, id, 3).await;
    assert_eq!(parities(folder.path()), 0);
    gives_parity(&host, &source, 3).await;
    assert_eq!(parities(folder.path()), 0, "no room");
    running.stop().await;
}

async fn counters(bus: &SharedBus, cache: InstanceId) -> CacheCounters {
    let answer = bus.request(&subjects::cache_counters(cache), "".into(), PATIENCE).await.unwrap();
    CacheCounters::from_bytes(&answer).unwrap()
}

/// Which of the pieces it is that the cache gives under this index.
async fn given(host: &Host, cache: InstanceId, index: u64, of: &[u64]) -> Option<u64> {
    let nothing = Layout::Run { phase: 0 };
    let slab = match host.request(cache, get(index), vec![], nothing, PATIENCE).await {
        Ok(reply) => reply.payload.unwrap(),
        Err(error) => {
            assert_eq!(error.refusal(), Some(RefusalCode::NotFound), "{error}");
            return None;
        }
    };
    let is = |other: &u64| slab[PIECE_POINTS_AT..] == piece(host.pool(), *other)[PIECE_POINTS_AT..slab.len()];
    Some(of.iter().copied().find(is).unwrap())
}

#[tokio::test]
async fn what_was_asked_for_comes_from_memory_while_it_is_on_the_disk() {
    let bus: SharedBus = Arc::new(LocalBus::new());
    let host = start(&bus, Role::Controller).await;
    let folder = tempfile::tempdir().unwrap();
    let with_memory = || Config { mem_cache: MemSize(6 << 20), ..config(folder.path()) };
    let (running, id) = start_cache(with_memory(), &bus, &host).await;
    assert_eq!(held(&bus, id, 1).await, HoldingsAnswer::Held { highest: None, pieces: vec![] });
    put(&host, id, 7).await;
    for mem_hits in 1..=2 {
        assert_eq!(given(&host, id, 7, &[7]).await, Some(7));
        let now = counters(&bus, id).await;
        assert_eq!((now.hits, now.mem_capacity, now.mem_items), (mem_hits, 3, 1));
        assert_eq!((now.mem_hits, now.mem_misses), (mem_hits, 0), "not even the first time");
    }
    running.stop().await;

    // After a restart it is read once.
    let (running, id) = start_cache(with_memory(), &bus, &host).await;
    held(&bus, id, 1).await;
    for mem_hits in 0..=2 {
        assert_eq!(given(&host, id, 7, &[7]).await, Some(7));
        let now = counters(&bus, id).await;
        assert_eq!((now.hits, now.mem_hits, now.mem_misses), (mem_hits + 1, mem_hits, 1));
    }
    // Another in its place is given from then on.
    let other = piece(host.pool(), 8);
    let request =
        Request::PutItem { index: 7, kind: ItemKind::Piece, blake3: SlabPayload::piece(&other).blake3() };
    host.request(id, request, vec![other], Layout::Piece, PATIENCE).await.unwrap();
    assert_eq!(given(&host, id, 7, &[7, 8]).await, Some(8));
    running.stop().await;

    // Damage that is found takes it out of memory as well: it is nowhere.
    let (running, id) = start_cache(with_memory(), &bus, &host).await;
    held(&bus, id, 1).await;
    let items = folder.path().join(engine::piece_store::ITEMS_FILE);
    let mut bytes = std::fs::read(&items).unwrap();
    bytes.chunks_mut(SLOT_BYTES).for_each(|slot| slot[9999] ^= 1);
    std::fs::write(&items, bytes).unwrap();
    assert_eq!(given(&host, id, 7, &[]).await, None);
    assert_eq!(given(&host, id, 7, &[]).await, None);
    let now = counters(&bus, id).await;
    assert_eq!((now.damaged, now.mem_items, now.mem_hits), (1, 0, 0));
    running.stop().await;

    // More than there is.
    let (_keep_running, shutdown) = Shutdown::new();
    let config = Config { mem_cache: MemSize(1 << 50), ..config(folder.path()) };
    let error = cache::run(config, bus.clone(), shutdown).await.unwrap_err().to_string();
    assert!(error.contains("--mem-cache") && error.contains("at most"), "{error}");
    host.shutdown(PATIENCE).await;
}
