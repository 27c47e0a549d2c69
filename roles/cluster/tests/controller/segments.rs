//! Segments on foul days: no cache there, the controller started anew, its spool damaged or refused by the disk, the store emptied.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use consensus::constants::SEGMENT_PIECES;
use control::messages::Epoch;
use tokio::task::JoinHandle;

use super::scripted_node::{Archived, ScriptedNode};
use super::*;

/// The segment of the chain that is kept beside the build.
pub async fn archived() -> Archived {
    let _alone = CHAIN.lock().await;
    let node = node().await;
    let client = NodeClient::new(&format!("ws://{}", node.address()));
    let (node_runs, node_ends) = Shutdown::new();
    let running = tokio::spawn(async move { node.run(node_ends.requested()).await.unwrap() });
    let connection = client.connected().await;
    let header = connection.segment_headers(0, 1).await.unwrap()[0];
    let mut pieces = Vec::new();
    for index in 0..SEGMENT_PIECES as u64 {
        pieces.push(connection.piece(index).await.unwrap().unwrap().into_bytes().into_vec());
    }
    drop(node_runs);
    within(running).await.unwrap();
    Archived { header, pieces }
}

struct House {
    local: LocalBus,
    bus: SharedBus,
    cluster: Cluster,
    node: ScriptedNode,
    url: String,
    spool: tempfile::TempDir,
}

/// A controller, and what keeps it running while it is there.
struct Running(Box<dyn std::any::Any>, JoinHandle<Result<(), cluster::role::RoleError>>);

impl House {
    fn controller(&self, copies: Option<u8>) -> Running {
        let (keep_running, shutdown) = Shutdown::new();
        let config = Config {
            host: HostConfig::new(Role::Controller),
            node_rpc_url: self.url.clone(),
            kzg_parameters: None,
            rebalance_after: Duration::from_secs(900),
            copies,
            workers: ThreadWorkers::unbound(2),
            counts: Arc::default(),
            spool: self.spool.path().to_owned(),
        };
        Running(Box::new(keep_running), tokio::spawn(controller::run(config, self.bus.clone(), shutdown)))
    }

    async fn history(&self) -> u64 {
        self.cluster.info().await.unwrap().map_or(0, |info| info.protocol_info.history_size)
    }

    /// The segments in the spool, and their files.
    fn spooled(&self) -> BTreeMap<u64, PathBuf> {
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "segment");
        let index = |path: &Path| path.file_stem()?.to_str()?.parse().ok();
        let files = files(self.spool.path()).into_iter().filter(is_segment);
        files.map(|path| (index(&path).unwrap(), path)).collect()
    }
}

impl Running {
    async fn stop(self) {
        drop(self.0);
        within(self.1).await.unwrap().unwrap();
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Makes the spool's file of a segment that of the first one, with one piece damaged. Only the head knows its segment.
fn damaged_first(other: &Path) {
    const HEAD_BYTES: usize = 8 + 8 + 48 + 256 * 32;
    let mut bytes = fs::read(other).unwrap();
    bytes[8..16].fill(0);
    let sum = blake3::hash(&bytes[..HEAD_BYTES]);
    bytes[HEAD_BYTES..][..32].copy_from_slice(sum.as_bytes());
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(other.with_file_name("0.segment"), bytes).unwrap();
}

#[tokio::test]
async fn no_segment_is_lost_on_a_foul_day() {
    let (node, address, _server) = ScriptedNode::start(archived().await).await;
    let local = LocalBus::new();
    let bus: SharedBus = Arc::new(local.clone());
    let cluster = Cluster::open(&*bus).await.unwrap();
    let (url, spool) = (format!("ws://{address}"), tempfile::tempdir().unwrap());
    let house = House { local, bus, cluster, node, url, spool };

    without_caches_segments_wait_on_the_disk(&house).await;
    let controller = house.controller(None);
    let (_cache, hashes) = cache::start(&house.bus, 3).await;
    after_a_restart_every_piece_is_placed(&house, &hashes).await;
    an_emptied_store_is_filled_again(&house).await;
    controller.stop().await;
    two_copies_wait_for_a_second_cache(&house, &hashes).await;
}

async fn without_caches_segments_wait_on_the_disk(house: &House) {
    // There is one segment to look at: the first comes later.
    house.node.set_first(false);
    let controller = house.controller(None);
    eventually(async || (house.node.subscribers() > 0).then_some(())).await;
    assert_eq!(house.history().await, 1);
    let lock = files(house.spool.path()).into_iter().find(|path| path.ends_with("lock")).unwrap();
    // The disk is full for the first who writes; whoever is refused takes away what he began.
    let full = lock.with_file_name("1.tmp");
    symlink("/dev/full", &full).unwrap();
    let index = house.node.archive();
    eventually(async || (!full.is_symlink()).then_some(())).await;
    assert_eq!(house.node.acknowledged(), Vec::<u64>::new(), "nobody holds it durably");
    eventually(async || house.node.acknowledged().contains(&index).then_some(())).await;
    assert!(house.spooled().contains_key(&index), "held before it is acknowledged");
    assert!(!house.cluster.is_placed(index).await.unwrap());
    assert_eq!(house.history().await, 1, "no history without caches");
    controller.stop().await;
    damaged_first(&house.spooled()[&index]);
    house.node.set_first(true);
}

/// The first segment, which every node has, is fetched again; the other is nowhere else.
async fn after_a_restart_every_piece_is_placed(house: &House, hashes: &cache::Hashes) {
    eventually(async || (house.history().await == 2).then_some(())).await;
    let has_all = || hashes.lock().unwrap().keys().copied().eq(0..2 * SEGMENT_PIECES as u64);
    eventually(async || has_all().then_some(())).await;
    eventually(async || house.cluster.is_placed(0).await.unwrap().then_some(())).await;
    eventually(async || house.spooled().is_empty().then_some(())).await;
}

async fn an_emptied_store_is_filled_again(house: &House) {
    let epochs = Epochs::open(&*house.bus).await.unwrap();
    let (Epoch { number, .. }, _) = epochs.current().await.unwrap().unwrap();
    house.local.lose_store();
    let is_back = async || {
        let mut has_all = house.history().await == 2;
        for index in [0, 1] {
            has_all &= house.cluster.is_placed(index).await.unwrap();
            has_all &= house.cluster.segment(index).await.unwrap().is_some();
        }
        has_all.then_some(())
    };
    eventually(is_back).await;
    let (Epoch { number: again, members, .. }, _) =
        eventually(async || epochs.current().await.unwrap()).await;
    assert!(again > number && members.len() == 1, "{again} after {number}");
}

/// What is placed already has one copy, and goes on being history: the caches' own loop is what brings the second.
async fn two_copies_wait_for_a_second_cache(house: &House, first: &cache::Hashes) {
    let controller = house.controller(Some(2));
    let epochs = Epochs::open(&*house.bus).await.unwrap();
    let has_two = async || epochs.current().await.unwrap().filter(|(epoch, _)| epoch.copies == 2);
    eventually(has_two).await;
    let index = house.node.archive();
    let pieces = (index + 1) * SEGMENT_PIECES as u64;
    eventually(async || (first.lock().unwrap().len() as u64 == pieces).then_some(())).await;
    assert!(!house.cluster.is_placed(index).await.unwrap(), "one cache has it");
    assert_eq!(house.history().await, index);
    let (_cache, second) = cache::start(&house.bus, 0).await;
    eventually(async || (house.history().await == index + 1).then_some(())).await;
    let its = second.lock().unwrap().keys().filter(|piece| **piece >= pieces - SEGMENT_PIECES as u64).count();
    assert_eq!(its, SEGMENT_PIECES);
    controller.stop().await;
}
