//! Half of a segment's pieces are deleted from every cache, by hand, and no node has them any more: they come back by themselves.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use cluster::cache::{self, CacheSpec};
use engine::piece_store::{ITEMS_FILE, SLOT_BYTES};
use tokio::task::JoinHandle;

use super::scripted_node::ScriptedNode;
use super::segments::archived;
use super::*;

const PIECES: u64 = 256;

/// A role, and what keeps it running while it is there.
struct Running(cluster::shutdown::KeepRunning, JoinHandle<Result<(), cluster::role::RoleError>>);

impl Running {
    async fn stop(self) {
        drop(self.0);
        within(self.1).await.unwrap().unwrap();
    }
}

fn cache(bus: &SharedBus, folder: &Path) -> Running {
    let (keep_running, shutdown) = Shutdown::new();
    let spec = CacheSpec { path: folder.to_owned(), size_bytes: Some(300 * SLOT_BYTES as u64) };
    let config = cache::Config::new(HostConfig::new(Role::ShardedCache), spec);
    Running(keep_running, tokio::spawn(cache::run(config, bus.clone(), shutdown)))
}

/// Zeroes the headers of the slots with pieces of these positions; how many there were.
fn delete(folder: &Path, is_deleted: impl Fn(u64) -> bool) -> usize {
    let file = OpenOptions::new().read(true).write(true).open(folder.join(ITEMS_FILE)).unwrap();
    let slots = file.metadata().unwrap().len() / SLOT_BYTES as u64;
    let of = |slot: u64| {
        let mut header = [0; 32];
        file.read_exact_at(&mut header, slot * SLOT_BYTES as u64).unwrap();
        header.starts_with(b"ASFITEM1").then(|| u64::from_le_bytes(header[16..24].try_into().unwrap()))
    };
    let slots = (0..slots).filter(|slot| of(*slot).is_some_and(&is_deleted));
    slots.map(|slot| file.write_all_at(&[0; 4096], slot * SLOT_BYTES as u64).unwrap()).count()
}

/// Hashes of the pieces that caches give, each asked for every piece; nothing while one lies with both of them, on its way.
async fn given(asker: &Host) -> std::collections::BTreeMap<u64, [u8; 32]> {
    let mut hashes = std::collections::BTreeMap::new();
    for cache in asker.members(Role::ShardedCache) {
        for index in 0..PIECES {
            let request = Request::GetItem { index, kind: ItemKind::Piece };
            let nothing = Layout::Run { phase: 0 };
            if let Ok(reply) = asker.request(cache.id, request, Vec::new(), nothing, PATIENCE).await
                && let Response::Item { blake3 } = reply.response
                && hashes.insert(index, blake3).is_some()
            {
                return std::collections::BTreeMap::new();
            }
        }
    }
    hashes
}

#[tokio::test]
async fn half_of_a_segment_comes_back_from_the_other_half() {
    let archived = archived().await;
    let hash = |piece: &Vec<u8>| *blake3::hash(piece).as_bytes();
    let all: std::collections::BTreeMap<_, _> = (0..).zip(archived.pieces.iter().map(hash)).collect();
    let (node, address, _server) = ScriptedNode::start(archived).await;
    let bus: SharedBus = Arc::new(LocalBus::new());
    let (folder, cluster) = (tempfile::tempdir().unwrap(), Cluster::open(&*bus).await.unwrap());
    let folders = ["a", "b"].map(|name| folder.path().join(name));
    let caches = folders.each_ref().map(|folder| cache(&bus, folder));
    let config = Config {
        host: HostConfig::new(Role::Controller),
        node_rpc_url: format!("ws://{address}"),
        kzg_parameters: None,
        rebalance_after: Duration::from_secs(900),
        copies: None,
        workers: ThreadWorkers::unbound(2),
        counts: Arc::default(),
        spool: folder.path().join("spool"),
    };
    let (keep_running, shutdown) = Shutdown::new();
    let controller = Running(keep_running, tokio::spawn(controller::run(config, bus.clone(), shutdown)));
    let config = HostConfig { capacity: 1, ..HostConfig::new(Role::TOOL) };
    let asker =
        Host::start(config, bus.clone(), |_| std::rc::Rc::new(cluster::host::ServesNothing)).await.unwrap();
    eventually(async || cluster.is_placed(0).await.unwrap().then_some(())).await;
    eventually(async || (given(&asker).await == all).then_some(())).await;

    for cache in caches {
        cache.stop().await;
    }
    node.set_first(false);
    // Every second source piece, and every second parity piece.
    let deleted = folders.each_ref().map(|folder| delete(folder, |index| index % 4 < 2));
    assert_eq!(deleted.iter().sum::<usize>(), 128);
    let caches = folders.each_ref().map(|folder| cache(&bus, folder));
    // Bit for bit, each with its owner alone.
    eventually(async || (given(&asker).await == all).then_some(())).await;

    for running in caches.into_iter().chain([controller]) {
        running.stop().await;
    }
}
