//! A controller between a development node and a cluster on the in-process bus. The first run on a machine archives a segment,
//! which takes a while; its chain is kept beside the build.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cache;
mod rebuild;
mod scripted_node;
mod segments;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bus::SharedBus;
use bus::cluster::Cluster;
use bus::epochs::Epochs;
use bus::local::LocalBus;
use cluster::controller::{self, Config, Counts, Outcome};
use cluster::host::{Host, HostConfig};
use cluster::shutdown::Shutdown;
use consensus::solution::Solution;
use control::ids::{FarmId, InstanceId};
use control::messages::{Control, EpochMember, Role, SlotInfo, SolutionAnswer, SolutionFound, subjects};
use devnet::{DevNode, DevNodeConfig, GenesisParameters};
use engine::threads::ThreadWorkers;
use node::client::NodeClient;
use transport::message::{ItemKind, Layout, RefusalCode, Request, Response};

const PATIENCE: Duration = Duration::from_secs(120);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// Looks until `look` has found it.
async fn eventually<T>(look: impl AsyncFn() -> Option<T>) -> T {
    within(async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Held by the one whose node has the chain that is kept beside the build.
static CHAIN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn node() -> DevNode {
    let base_path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("controller-chain");
    let parameters = GenesisParameters { slot_ms: Some(500), ..GenesisParameters::default() };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = DevNodeConfig { parameters, ..DevNodeConfig::new(listen, base_path.clone()) };
    if let Ok(node) = DevNode::start(config.clone()).await {
        return node;
    }
    // A chain of another version is not worth a failure.
    std::fs::remove_dir_all(base_path).unwrap();
    DevNode::start(config).await.unwrap()
}

struct Cast {
    bus: SharedBus,
    cluster: Cluster,
    counts: Arc<Counts>,
    node: NodeClient,
    genesis_hash: [u8; 32],
}

#[tokio::test]
async fn node_and_cluster_meet() {
    let _alone = CHAIN.lock().await;
    let node = node().await;
    let (address, genesis_hash) = (node.address(), node.genesis_hash());
    let (node_runs, node_ends) = Shutdown::new();
    let running_node = tokio::spawn(async move { node.run(node_ends.requested()).await.unwrap() });
    let bus: SharedBus = Arc::new(LocalBus::new());
    let (cache, hashes) = cache::start(&bus, 3).await;
    let (keep_running, shutdown) = Shutdown::new();
    let counts = Arc::new(Counts::default());
    let spool = tempfile::tempdir().unwrap();
    let config = Config {
        host: HostConfig::new(Role::Controller),
        node_rpc_url: format!("ws://{address}"),
        kzg_parameters: None,
        rebalance_after: Duration::from_secs(900),
        copies: None,
        workers: ThreadWorkers::unbound(2),
        counts: counts.clone(),
        spool: spool.path().to_owned(),
    };
    let cluster = Cluster::open(&*bus).await.unwrap();
    let running = tokio::spawn(controller::run(config, bus.clone(), shutdown));
    let node = NodeClient::new(&format!("ws://{address}"));
    let cast = Cast { bus, cluster, counts, node, genesis_hash };

    the_cluster_learns_of_the_chain(&cast, &cache).await;
    solutions_go_to_the_node_and_are_booked(&cast).await;
    pieces_come_into_the_caches(&cast, &hashes).await;
    pieces_are_given_to_who_asks(&cast, &cache).await;

    drop(keep_running);
    within(running).await.unwrap().unwrap();
    drop(node_runs);
    within(running_node).await.unwrap();
    eventually(async || cache.members(Role::Controller).is_empty().then_some(())).await;
}

async fn the_cluster_learns_of_the_chain(cast: &Cast, cache: &Host) {
    let info = eventually(async || cast.cluster.info().await.unwrap()).await;
    assert_eq!((info.genesis_hash, info.is_dev), (cast.genesis_hash, true));
    assert_eq!((info.protocol_info.history_size, info.farming_timeout_ms), (1, 2000));
    let epochs = Epochs::open(&*cast.bus).await.unwrap();
    let (epoch, _) = eventually(async || epochs.current().await.unwrap()).await;
    assert_eq!(epoch.members, [EpochMember { id: cache.id(), weight: 1000 }]);
    let header = cast.node.connected().await.segment_headers(0, 1).await.unwrap()[0];
    let commitment = eventually(async || cast.cluster.segment(0).await.unwrap()).await;
    assert_eq!(commitment, header.segment_commitment);
}

async fn solutions_go_to_the_node_and_are_booked(cast: &Cast) {
    let mut slots = cast.bus.subscribe(subjects::SLOT).await.unwrap();
    let slot = SlotInfo::from_bytes(&within(slots.next()).await.unwrap().payload).unwrap();
    let solution: [u8; 412] = std::array::from_fn(|at| at as u8);
    assert!(Solution::from_bytes(&solution).is_ok());
    let SlotInfo { slot, global_challenge, controller, .. } = slot;
    let ask = async |slot, global_challenge| {
        let (finder, farm) = (InstanceId([7; 16]), FarmId([8; 16]));
        let found = SolutionFound { slot, global_challenge, finder, farm, solution };
        let subject = subjects::solution(controller);
        let answer = cast.bus.request(&subject, found.to_bytes().unwrap(), PATIENCE).await.unwrap();
        SolutionAnswer::from_bytes(&answer).unwrap()
    };
    let is_not_sent = |answer| matches!(answer, SolutionAnswer::NotSent { .. });
    assert!(is_not_sent(ask(0, global_challenge).await), "a slot that the node has not announced");
    assert!(is_not_sent(ask(slot, [1; 32]).await), "a challenge that it has not");
    for _ in 0..2 {
        assert_eq!(ask(slot, global_challenge).await, SolutionAnswer::Queued);
    }
    let count = |outcome| cast.counts.of(outcome);
    assert_eq!((count(Outcome::Queued), count(Outcome::NotSent)), (1, 2));
    assert_eq!(count(Outcome::Repeated), 1, "the double was not sent");
}

async fn pieces_come_into_the_caches(cast: &Cast, hashes: &cache::Hashes) {
    eventually(async || cast.cluster.is_placed(0).await.unwrap().then_some(())).await;
    assert!(hashes.lock().unwrap().keys().copied().eq(0..256));
    let piece = cast.node.connected().await.piece(5).await.unwrap().unwrap();
    assert_eq!(hashes.lock().unwrap()[&5], *blake3::hash(piece.as_bytes()).as_bytes());
}

async fn pieces_are_given_to_who_asks(cast: &Cast, cache: &Host) {
    let controller = cache.members(Role::Controller)[0].id;
    let ask = |index| {
        let request = Request::GetItem { index, kind: ItemKind::Piece };
        cache.request(controller, request, Vec::new(), Layout::Run { phase: 0 }, PATIENCE)
    };
    let reply = ask(77).await.unwrap();
    let piece = cast.node.connected().await.piece(77).await.unwrap().unwrap();
    let blake3 = *blake3::hash(piece.as_bytes()).as_bytes();
    assert_eq!(reply.response, Response::Item { blake3 });
    let future = ask(256).await.unwrap_err();
    assert_eq!(future.refusal(), Some(RefusalCode::NotFound), "{future}");
}
