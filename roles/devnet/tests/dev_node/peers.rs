//! Nodes of one chain: they agree on blocks, and see solutions that reach two of them.

use std::collections::HashSet;
use std::time::Duration;

use consensus::identity::Identity;
use consensus::solution::Solution;
use devnet::DevNodeConfig;
use node::{SlotInfo, SolutionJson, kzg_setup};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::task::{JoinHandle, spawn_blocking};

use super::chain::{RunningNode, config, copy_of_chain};
use super::client::Client;
use super::farm::Farm;
use super::fast::{Fast, eventually, fast_chain, fast_config};
use super::methods::{submission, worthless};

const SUBMIT: &str = "subspace_submitSolutionResponse";
/// Archiving on two nodes at once on a slow and busy machine.
const ARCHIVING: Duration = Duration::from_secs(600);

async fn tip(client: &mut Client) -> Value {
    client.call("devnet_hello", json!([])).await["tipHash"].take()
}

async fn until_tips_agree(one: &mut Client, other: &mut Client) {
    eventually("the same branch", async || (tip(one).await == tip(other).await).then_some(())).await;
}

/// Signs every hash that a node asks for.
async fn sign_all(mut client: Client, identity: Identity) {
    client.call("subspace_subscribeRewardSigning", json!([])).await;
    while let Some(notification) = client.notification_within(Duration::from_secs(100)).await {
        let hash = notification["params"]["result"]["hash"].as_str().unwrap().to_owned();
        let signature = identity.sign_reward_hash(&hex::decode(&hash).unwrap().try_into().unwrap());
        let params = json!([{ "hash": hash, "signature": hex::encode(signature) }]);
        client.call("subspace_submitRewardSignature", params).await;
    }
}

/// The solutions of the newest slot that the client has heard of.
async fn solve(client: &mut Client, mut farm: Farm) -> (Farm, u64, Vec<Solution>) {
    let notification = client.newest_notification().await;
    let slot: SlotInfo = serde_json::from_value(notification["params"]["result"].clone()).unwrap();
    let (solutions, farm) = spawn_blocking(move || (farm.solve(&slot), farm)).await.unwrap();
    (farm, slot.slot_number, solutions)
}

/// Farms until `done`; each slot's solutions go to another one of the clients.
async fn farm_until(clients: &mut [Client], mut farm: Farm, mut done: impl AsyncFnMut() -> bool) -> Farm {
    let mut last = 0;
    for turn in 0..200 {
        if done().await {
            return farm;
        }
        let client = &mut clients[turn % 2];
        let (slot, solutions);
        (farm, slot, solutions) = solve(client, farm).await;
        // Every slot's solutions go to one node alone.
        if slot <= last {
            continue;
        }
        last = slot;
        for solution in solutions {
            let solution = serde_json::to_value(SolutionJson::try_from(solution).unwrap()).unwrap();
            client.answer(SUBMIT, submission(slot, &solution)).await;
        }
    }
    panic!("200 slots were not enough");
}

/// Clients that hear the slots of two nodes.
async fn listeners(nodes: [&RunningNode; 2]) -> [Client; 2] {
    let mut clients = [Client::connect(nodes[0].address).await, Client::connect(nodes[1].address).await];
    for client in &mut clients {
        client.call("subspace_subscribeSlotInfo", json!([])).await;
    }
    clients
}

/// Farms on both nodes, all of whose hashes are signed, until `done`.
async fn farm_on(nodes: [&RunningNode; 2], farm: Farm, done: impl AsyncFnMut() -> bool) -> Farm {
    let signers = nodes.map(|node| {
        let (address, identity) = (node.address, farm.identity.clone());
        tokio::spawn(async move { sign_all(Client::connect(address).await, identity).await })
    });
    let farm = farm_until(&mut listeners(nodes).await, farm, done).await;
    signers.iter().for_each(JoinHandle::abort);
    farm
}

/// A node, its peer, and how to start the latter once more.
struct Pair {
    one: RunningNode,
    other: RunningNode,
    other_config: DevNodeConfig,
}

impl Pair {
    async fn clients(&self) -> (Client, Client) {
        (Client::connect(self.one.address).await, Client::connect(self.other.address).await)
    }

    async fn restart(self, other_config: DevNodeConfig) -> Self {
        assert_eq!(self.other.stop().await.equivocations, 0);
        let other = RunningNode::start(other_config).await;
        Self { other, ..self }
    }
}

#[tokio::test]
async fn peers_agree_on_blocks_forks_and_segments() {
    let (folder, other_folder) = (copy_of_chain(), copy_of_chain());
    let one = RunningNode::start(config(&folder.path().join("base"))).await;
    let peers = vec![format!("ws://{}", one.address)];
    let other_config = DevNodeConfig { peers, ..config(&other_folder.path().join("base")) };
    let other = RunningNode::start(other_config.clone()).await;
    let farm = Farm::plot(&mut Client::connect(one.address).await, kzg_setup::insecure().unwrap(), 1).await;
    let pair = Pair { one, other, other_config: other_config.clone() };

    let farm = both_follow_each_other(&pair, farm).await;
    let pair = pair.restart(DevNodeConfig { peers: Vec::new(), ..other_config }).await;
    both_leave_each_other(&pair, farm).await;
    // It makes a segment when it is back, which the other takes over and archives itself.
    let config =
        DevNodeConfig { segment_every_slots: Some(3), strict_pieces: false, ..pair.other_config.clone() };
    let pair = pair.restart(config).await;
    both_archive_the_same(&pair).await;

    let reports = [pair.one.stop().await, pair.other.stop().await];
    for report in &reports {
        assert_eq!((report.equivocations, report.reward_signatures.invalid), (0, 0), "{report:?}");
    }
    let reorganisations: u64 = reports.iter().map(|report| report.reorganisations).sum();
    assert!(reorganisations > 0, "one of both gave up its branch: {reports:?}");
}

async fn both_follow_each_other(pair: &Pair, farm: Farm) -> Farm {
    let (mut to_one, mut to_other) = pair.clients().await;
    let mut tips = HashSet::new();
    let done = async || {
        tips.insert(tip(&mut to_one).await.to_string());
        tips.len() > 3
    };
    let farm = farm_on([&pair.one, &pair.other], farm, done).await;
    until_tips_agree(&mut to_one, &mut to_other).await;
    farm
}

async fn both_leave_each_other(pair: &Pair, farm: Farm) {
    let (mut to_one, mut to_other) = pair.clients().await;
    let before = tip(&mut to_one).await;
    assert_eq!(tip(&mut to_other).await, before, "blocks survive");
    let done = async || tip(&mut to_one).await != before && tip(&mut to_other).await != before;
    farm_on([&pair.one, &pair.other], farm, done).await;
    assert_ne!(tip(&mut to_one).await, tip(&mut to_other).await);
}

async fn both_archive_the_same(pair: &Pair) {
    let (mut to_one, mut to_other) = pair.clients().await;
    for client in [&mut to_one, &mut to_other] {
        client.call("subspace_subscribeArchivedSegmentHeader", json!([])).await;
    }
    until_tips_agree(&mut to_one, &mut to_other).await;
    let header = to_one.notification_within(ARCHIVING).await.unwrap();
    let other_header = to_other.notification_within(ARCHIVING).await.unwrap();
    assert_eq!(header["params"]["result"]["v0"]["segmentIndex"], 1);
    assert_eq!(header["params"]["result"], other_header["params"]["result"]);
    // Not strict: it has everything at hand, and not the newest segment alone.
    for index in [0, 256, 511] {
        assert!(to_other.call("subspace_piece", json!([index])).await.is_string());
    }
}

#[tokio::test]
async fn a_solution_at_two_nodes_is_counted_once_by_all() {
    let mut one = Fast::start(&[]).await;
    let mut other = Fast::start(&[&one]).await;
    // Knows of the first only by the second.
    let mut third = Fast::start(&[&other]).await;
    for fast in [&mut one, &mut other] {
        fast.client.call("subspace_subscribeSlotInfo", json!([])).await;
    }
    let queued = async |fast: &mut Fast, slot: u64, number| {
        fast.client.answer(SUBMIT, submission(slot, &worthless(number))).await.get("result").is_some()
    };
    let sent_twice = async || {
        let slot = one.next_slot().await;
        (other.next_slot().await <= slot).then_some(())?;
        // One alone, one at both, and that one twice at one of them.
        let at_one = queued(&mut one, slot, 1).await && queued(&mut one, slot, 2).await;
        (at_one && queued(&mut other, slot, 2).await && queued(&mut other, slot, 2).await).then_some(())
    };
    eventually("a solution at two nodes", sent_twice).await;
    for fast in [&mut one, &mut other, &mut third] {
        let seen = async || (fast.report().await["equivocations"].as_u64().unwrap() > 0).then_some(());
        eventually("the equivocation", seen).await;
    }
    // Who comes later hears of it as well.
    let mut late = Fast::start(&[&third]).await;
    eventually("an old one", async || (late.report().await["equivocations"] == 1).then_some(())).await;
    for fast in [one, other, third, late] {
        let report = fast.node.stop().await;
        assert_eq!(report.equivocations, 1);
    }
}

#[tokio::test]
async fn garbage_of_peers_is_an_error_and_nothing_else() {
    let mut fast = Fast::start(&[]).await;
    for (garbage, code) in [
        (json!(["zz"]), -32602),
        (json!([7]), -32602),
        (json!([""]), 9001),
        (json!(["ff"]), 9001),
        // Blocks: a length without bytes; one that continues nothing.
        (json!(["0003ffffffff"]), 9001),
        (json!([format!("000400{}{}00", "07".repeat(32), "00".repeat(8))]), 9002),
        // One of a slot far ahead.
        (json!([format!("000400{}{}00", "07".repeat(32), "ff".repeat(8))]), 9001),
        (json!(["00".repeat(300 << 10)]), 9001),
    ] {
        assert_eq!(fast.client.error("devnet_tell", garbage.clone()).await.0, code, "{garbage:.40}");
    }
    for (method, params) in [("devnet_blocks", json!([u32::MAX, u32::MAX])), ("devnet_seen", json!([]))] {
        fast.client.call(method, params).await;
    }
    fast.client.call("subspace_subscribeSlotInfo", json!([])).await;
    fast.next_slot().await;
    fast.node.stop().await;
}

#[tokio::test]
async fn peers_that_are_none_stop_nobody() {
    // One that is not there, one that talks nonsense, one of another chain, and the node's double.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nonsense = listener.local_addr().unwrap();
    let talker = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(&[0xaa; 4096]).await;
        }
    });
    let stranger_folder = copy_of_chain();
    let stranger = RunningNode::start(config(&stranger_folder.path().join("base"))).await;
    let folder = fast_chain();
    let mut config = fast_config(&folder, &[&stranger]);
    config.peers.extend([format!("ws://{nonsense}"), "ws://127.0.0.1:1".to_owned()]);
    let node = RunningNode::start(config).await;
    let mut client = Client::connect(node.address).await;
    client.call("subspace_subscribeSlotInfo", json!([])).await;
    client.notification().await;
    assert_ne!(tip(&mut client).await, tip(&mut Client::connect(stranger.address).await).await);
    node.stop().await;
    stranger.stop().await;
    talker.abort();
}
