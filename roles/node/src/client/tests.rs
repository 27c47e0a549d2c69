use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::StreamExt;
use jsonrpsee::core::RpcResult;
use jsonrpsee::server::{RpcModule, Server, ServerConfig, ServerHandle};
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::json;

use super::feed::Silence;
use super::*;
use crate::{ERROR_CODE, SOLUTION_IGNORED, SlotInfo, UNSAFE_ERROR, UNSAFE_ERROR_CODE};

const LIMIT: Duration = Duration::from_secs(20);
const SUBSCRIPTIONS_MAX: u32 = 2;

/// What a node's operator and chain decide.
#[derive(Debug, Default)]
struct Node {
    is_safe_only: AtomicBool,
    is_syncing: AtomicBool,
    slot: AtomicU64,
    /// How long it takes to accept a subscription.
    accepts_after_ms: AtomicU64,
}

fn refused(code: i32, text: &str) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, text, None::<()>)
}

/// A server that says, word for word, what the network's node says.
async fn serve(node: &Arc<Node>, address: SocketAddr) -> (SocketAddr, ServerHandle) {
    let mut module = RpcModule::new(Arc::clone(node));
    let acknowledge = |_: jsonrpsee::types::Params<'_>, node: &Arc<Node>, _: &_| -> RpcResult<()> {
        match node.is_safe_only.load(Ordering::Relaxed) {
            true => Err(refused(UNSAFE_ERROR_CODE, UNSAFE_ERROR)),
            false => Ok(()),
        }
    };
    module.register_method("subspace_acknowledgeArchivedSegmentHeader", acknowledge).unwrap();
    let info = |_: jsonrpsee::types::Params<'_>, node: &Arc<Node>, _: &_| {
        json!({
            "genesisHash": "07".repeat(32), "dsnBootstrapNodes": [], "syncing": node.is_syncing.load(Ordering::Relaxed),
            "farmingTimeout": {"secs": 4, "nanos": 0},
            "protocolInfo": {"historySize": 1, "maxPiecesInSector": 32, "recentSegments": 5,
                "recentHistoryFraction": [1, 10], "minSectorLifetime": 4},
        })
    };
    module.register_method("subspace_getFarmerAppInfo", info).unwrap();
    let submit = |_: jsonrpsee::types::Params<'_>, _: &Arc<Node>, _: &_| -> RpcResult<()> {
        Err(refused(ERROR_CODE, SOLUTION_IGNORED))
    };
    module.register_method("subspace_submitSolutionResponse", submit).unwrap();
    let piece = |_: jsonrpsee::types::Params<'_>, _: &Arc<Node>, _: &_| json!("00ff");
    module.register_method("subspace_piece", piece).unwrap();
    module
        .register_subscription(
            "subspace_subscribeSlotInfo",
            "subspace_slot_info",
            "subspace_unsubscribeSlotInfo",
            |_, pending, node, _| async move {
                sleep(Duration::from_millis(node.accepts_after_ms.load(Ordering::Relaxed))).await;
                let Ok(sink) = pending.accept().await else { return };
                let next = || {
                    let json = json!({"slotNumber": node.slot.fetch_add(1, Ordering::Relaxed), "globalChallenge": "01".repeat(32),
                        "solutionRange": u64::MAX, "votingSolutionRange": u64::MAX});
                    serde_json::value::to_raw_value(&json).unwrap()
                };
                while sink.send(next()).await.is_ok() {
                    sleep(Duration::from_millis(20)).await;
                }
            },
        )
        .unwrap();
    let server = loop {
        // A restarted server may find its address still held by the one before.
        let limits = ServerConfig::builder().max_subscriptions_per_connection(SUBSCRIPTIONS_MAX).build();
        match Server::builder().set_config(limits).build(address).await {
            Ok(server) => break server,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    };
    (server.local_addr().unwrap(), server.start(module))
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("in time")
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn solution() -> SolutionResponse {
    let solution = consensus::solution::Solution::from_bytes(&[1; 412]).unwrap();
    SolutionResponse { slot_number: 1, solution: solution.try_into().unwrap() }
}

#[tokio::test]
async fn feeds_go_on_over_a_restart_of_the_node() {
    let node = Arc::new(Node::default());
    let (address, server) = serve(&node, any()).await;
    let client = NodeClient::new(&format!("ws://{address}"));
    let mut slots = client.slots();
    assert_eq!(within(slots.next()).await, FeedEvent::Began);
    let FeedEvent::Item(first) = within(slots.next()).await else { panic!("a slot was due") };
    assert_eq!((first.slot_number, first.solution_range), (0, u64::MAX));

    let old = slots.connection().unwrap().clone();
    server.stop().unwrap();
    server.stopped().await;
    while client.connection().await.is_ok() {
        sleep(Duration::from_millis(20)).await;
    }
    let away = client.connection().await.unwrap_err();
    assert!(matches!(away, NodeError::Unreachable { .. }), "{away}");
    let unsent = old.submit_solution(solution()).await.unwrap_err();
    assert!(matches!(unsent, NodeError::NotSent { .. }) && unsent.is_certainly_not_done(), "{unsent}");
    let asked_at = std::time::Instant::now();
    assert_eq!(client.connection().await.unwrap_err(), away, "known without another try");
    assert!(asked_at.elapsed() < Backoff::FIRST);

    node.slot.store(100, Ordering::Relaxed);
    let (_, _server) = serve(&node, address).await;
    let (mut began, mut lost) = (0, 0);
    loop {
        match within(slots.next()).await {
            FeedEvent::Lost => {
                lost += 1;
                assert!(slots.connection().is_none());
            }
            FeedEvent::Began => {
                began += 1;
                assert!(slots.connection().is_some());
            }
            FeedEvent::Item(slot) if slot.slot_number >= 100 => break,
            FeedEvent::Item(_) => {}
        }
    }
    assert_eq!((lost, began), (1, 1), "who reads is told once that it may have missed something");
}

#[tokio::test]
async fn a_subscription_that_takes_long_is_made_beside_other_things() {
    let node = Arc::new(Node { accepts_after_ms: 300.into(), ..Node::default() });
    let (address, _server) = serve(&node, any()).await;
    let mut slots = pin!(NodeClient::new(&format!("ws://{address}")).slots().into_stream());
    let look = async {
        loop {
            // Something else comes up every few moments.
            if let Ok(event) = tokio::time::timeout(Duration::from_millis(50), slots.next()).await {
                return event;
            }
        }
    };
    let Some((FeedEvent::Began, Some(connection))) = within(look).await else { panic!("it begins") };
    assert!(connection.farmer_app_info().await.is_ok());
}

#[tokio::test]
async fn a_quiet_feed_is_heard_until_its_successor_stands() {
    let node = Arc::new(Node { accepts_after_ms: 300.into(), ..Node::default() });
    let (address, _server) = serve(&node, any()).await;
    let client = NodeClient::new(&format!("ws://{address}"));
    let silence = Silence::Renewed(Duration::from_millis(5));
    let mut slots: Feed<SlotInfo> = Feed::new(&client, "subspace_subscribeSlotInfo", silence, |client| {
        Box::pin(async move { client.subscribe_slot_info().await })
    });
    let (mut began, mut heard_between) = (0, 0);
    let listen = async {
        while began < 3 {
            match tokio::time::timeout(Duration::from_millis(3), slots.next()).await {
                Ok(FeedEvent::Began) => began += 1,
                Ok(FeedEvent::Item(_)) => heard_between += 1,
                Ok(FeedEvent::Lost) => panic!("it holds all the time"),
                Err(_) => {}
            }
        }
    };
    within(listen).await;
    assert!(heard_between > 2, "the old one goes on while the new one takes its time");
}

#[tokio::test]
async fn a_node_without_unsafe_methods_is_called_so_until_it_has_them() {
    let node = Arc::new(Node { is_safe_only: true.into(), ..Node::default() });
    let (address, _server) = serve(&node, any()).await;
    let client = NodeClient::new(&format!("ws://{address}"));
    let error = client.connection().await.unwrap_err();
    assert!(error.to_string().contains("--rpc-methods unsafe"), "{error}");
    node.is_safe_only.store(false, Ordering::Relaxed);
    let _connection = within(client.connected()).await;
}

#[tokio::test]
async fn a_feed_that_is_one_too_many_has_a_connection_of_its_own() {
    let node = Arc::new(Node::default());
    let (address, _server) = serve(&node, any()).await;
    let client = NodeClient::new(&format!("ws://{address}"));
    let mut feeds: Vec<_> = (0..=SUBSCRIPTIONS_MAX).map(|_| client.slots()).collect();
    for feed in &mut feeds {
        assert_eq!(within(feed.next()).await, FeedEvent::Began);
    }
    for feed in &mut feeds {
        assert!(matches!(within(feed.next()).await, FeedEvent::Item(_)), "all of them go on");
    }
}

#[tokio::test]
async fn a_syncing_node_is_waited_for() {
    let node = Arc::new(Node { is_syncing: true.into(), ..Node::default() });
    let (address, _server) = serve(&node, any()).await;
    let client = NodeClient::new(&format!("ws://{address}"));
    let early = tokio::time::timeout(Duration::from_millis(300), client.ready()).await;
    assert!(early.is_err(), "still syncing");
    node.is_syncing.store(false, Ordering::Relaxed);
    assert_eq!(within(client.ready()).await.genesis_hash, [7; 32]);
}

#[tokio::test]
async fn refusals_and_nonsense_are_told_apart() {
    let node = Arc::new(Node::default());
    let (address, _server) = serve(&node, any()).await;
    let connection = within(NodeClient::new(&format!("ws://{address}")).connected()).await;
    let ignored = connection.submit_solution(solution()).await.unwrap_err();
    assert!(matches!(ignored, NodeError::SolutionIgnored { .. }), "{ignored}");
    let short = connection.piece(0).await.unwrap_err();
    assert!(matches!(short, NodeError::BadAnswer { .. }), "{short}");
    let unknown = connection.segment_headers(0, 1).await.unwrap_err();
    assert!(matches!(unknown, NodeError::UnknownMethod { .. }), "{unknown}");
}
