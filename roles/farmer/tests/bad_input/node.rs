//! Nodes that are away, restarting, syncing, of another chain, or do not allow what farmers need.

use crate::chain::{RunningNode, config, copy_of_chain};
use crate::cluster;
use crate::nats_server::NatsServer;
use crate::process::{PATIENCE, Running, member, refused};
use bus::cluster::Cluster;
use bus::{SharedBus, Subscription};
use control::messages::{Control, SlotInfo, subjects};
use devnet::{DevNodeConfig, RpcMethods};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// An address where nobody listens now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn controller(nats: &NatsServer, node: SocketAddr) -> Command {
    member(&nats.url(), &["controller", "--tmp", "--node-rpc-url", &format!("ws://{node}")])
}

fn at(address: SocketAddr, chain: &Path) -> DevNodeConfig {
    DevNodeConfig { listen: address, ..config(&chain.join("base")) }
}

/// A node needs the thread on which the test waits for the controller's words.
async fn hear(controller: Running, parts: &'static [&str]) -> Running {
    let hearing = tokio::task::spawn_blocking(move || {
        let mut controller = controller;
        controller.hear(parts);
        controller
    });
    hearing.await.unwrap()
}

async fn slot(slots: &mut Subscription) -> u64 {
    let message = tokio::time::timeout(PATIENCE, slots.next()).await.unwrap().unwrap();
    SlotInfo::from_bytes(&message.payload).unwrap().slot
}

async fn is_agreed(bus: &SharedBus) -> bool {
    Cluster::open(&**bus).await.unwrap().info().await.unwrap().is_some()
}

#[tokio::test]
async fn a_node_that_is_away_or_restarts_is_waited_for() {
    let (nats, chain, address) = (NatsServer::start(), copy_of_chain(), free_address());
    let bus = cluster::bus(&nats).await;
    let mut slots = bus.subscribe(subjects::SLOT).await.unwrap();
    let mut running = Running::start(&mut controller(&nats, address));
    running.hear(&["not reachable", "it may be restarting", &address.to_string()]);
    assert!(!is_agreed(&bus).await);
    let node = RunningNode::start(at(address, chain.path())).await;
    let before = slot(&mut slots).await;
    node.stop().await;
    let running = hear(running, &["not reachable", "it may be restarting"]).await;
    let node = RunningNode::start(at(address, chain.path())).await;
    let running = hear(running, &["connected to the node"]).await;
    while slot(&mut slots).await <= before {}
    tokio::task::spawn_blocking(|| running.terminate()).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_node_without_unsafe_methods_is_told_what_it_lacks() {
    let (nats, chain) = (NatsServer::start(), copy_of_chain());
    let bus = cluster::bus(&nats).await;
    let safe = DevNodeConfig { rpc_methods: RpcMethods::Safe, ..at(free_address(), chain.path()) };
    let node = RunningNode::start(safe).await;
    let address = node.address;
    let running = Running::start(&mut controller(&nats, address));
    let running = hear(running, &["does not allow the RPC methods", "--rpc-methods unsafe"]).await;
    assert!(!is_agreed(&bus).await);
    // The operator starts it anew as it says.
    node.stop().await;
    let node = RunningNode::start(at(address, chain.path())).await;
    let mut slots = bus.subscribe(subjects::SLOT).await.unwrap();
    slot(&mut slots).await;
    tokio::task::spawn_blocking(|| running.terminate()).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_syncing_node_is_waited_for() {
    let (nats, chain) = (NatsServer::start(), copy_of_chain());
    let bus = cluster::bus(&nats).await;
    let mut slots = bus.subscribe(subjects::SLOT).await.unwrap();
    let syncing_for = Duration::from_secs(8);
    let node = RunningNode::start(DevNodeConfig { syncing_for, ..at(free_address(), chain.path()) }).await;
    let running = Running::start(&mut controller(&nats, node.address));
    let running = hear(running, &["the node is syncing, waiting for it"]).await;
    slot(&mut slots).await;
    assert!(is_agreed(&bus).await);
    tokio::task::spawn_blocking(|| running.terminate()).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_node_of_another_chain_is_refused_and_the_cluster_stays_as_it_is() {
    let (chain, (nats, bus)) = (copy_of_chain(), cluster::start(&cluster::info()).await);
    let node = RunningNode::start(at(free_address(), chain.path())).await;
    let (ours, theirs) = ("02".repeat(32), hex::encode(node.genesis_hash));
    let address = node.address;
    let refusal = tokio::task::spawn_blocking(move || {
        let address_text = address.to_string();
        let words = [address_text.as_str(), &ours, &theirs, "connect to another node"];
        refused(&mut controller(&nats, address), &words);
        nats
    });
    let _nats = refusal.await.unwrap();
    let known = Cluster::open(&*bus).await.unwrap().info().await.unwrap();
    assert_eq!(known, Some(cluster::info()));
    node.stop().await;
}

#[test]
fn what_is_no_node_is_told_with_its_address() {
    let nats = NatsServer::start();
    let elsewhere = nats.url().replace("nats", "ws");
    let mut running = Running::start(&mut member(&nats.url(), &["controller", "--node-rpc-url", &elsewhere]));
    running.hear(&["not reachable", &elsewhere]);
    running.terminate();
}
