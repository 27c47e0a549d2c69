//! A farm that wins: real pieces, a real sector, real proofs.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use consensus::identity::Identity;
use consensus::solution::Solution;
use devnet::{DevNodeConfig, Reason};
use node::kzg_setup;
use node::{SlotInfo, SolutionJson};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::chain::{RunningNode, config, copy_of_chain};
use super::client::Client;
use super::farm::Farm;

const SIGNATURES_WANTED: usize = 4;
const SLOTS_MAX: usize = 60;

/// Sends a solution. Says whether it was queued: a slow machine may be late.
async fn submit(client: &mut Client, slot: u64, solution: &Solution) -> bool {
    let solution = serde_json::to_value(SolutionJson::try_from(solution.clone()).unwrap()).unwrap();
    let params = json!([{ "slotNumber": slot, "solution": solution }]);
    let answer = client.answer("subspace_submitSolutionResponse", params).await;
    answer.get("result") == Some(&Value::Null)
}

/// Sends everything that a slot offers, each solution also in two damaged forms and once more. Gives how many were sent and how
/// many queued, good or not.
async fn answer_slot(client: &mut Client, mut farm: Farm, slot: SlotInfo) -> (Farm, u64, u64) {
    let solve = move || (farm.solve(&slot), farm);
    let (solutions, farm) = spawn_blocking(solve).await.unwrap();
    let (mut sent, mut queued) = (0, 0);
    for solution in solutions {
        let [a, b] = [solution.record_witness, solution.chunk_witness];
        for form in [
            Solution { chunk_witness: a, ..solution.clone() },
            Solution { record_witness: b, ..solution.clone() },
            solution.clone(),
            Solution { reward_address: [9; 32], ..solution },
        ] {
            sent += 1;
            queued += u64::from(submit(client, slot.slot_number, &form).await);
        }
    }
    (farm, sent, queued)
}

/// How long a hash is left unsigned, to see that no other is asked for meanwhile.
const HESITATION: Duration = Duration::from_millis(150);

/// Signs everything that is asked for, one after another, and says what that was.
async fn sign(address: SocketAddr, identity: Identity, hashes: mpsc::UnboundedSender<String>) {
    let mut client = Client::connect(address).await;
    let subscription = client.call("subspace_subscribeRewardSigning", json!([])).await;
    loop {
        let Some(notification) = client.notification_within(Duration::from_secs(100)).await else { return };
        let request = notification["params"]["result"].clone();
        let hash = request["hash"].as_str().unwrap().to_owned();
        let result = json!({ "hash": hash, "publicKey": hex::encode(identity.public_key()) });
        let params = json!({ "subscription": subscription, "result": result });
        let expected = json!({ "jsonrpc": "2.0", "method": "subspace_reward_signing", "params": params });
        assert_eq!(notification, expected);
        assert_eq!(client.notification_within(HESITATION).await, None, "signatures come one after another");
        let signature = identity.sign_reward_hash(&hex::decode(&hash).unwrap().try_into().unwrap());
        let params = json!([{ "hash": hash, "signature": hex::encode(signature) }]);
        assert_eq!(client.call("subspace_submitRewardSignature", params).await, Value::Null);
        hashes.send(hash).unwrap();
    }
}

#[tokio::test]
async fn real_solutions_are_accepted_and_nothing_else() {
    let folder = copy_of_chain();
    let config = DevNodeConfig {
        report: Some(folder.path().join("report.json")),
        ..config(&folder.path().join("base"))
    };
    let node = RunningNode::start(config.clone()).await;
    assert_eq!(node.height, 0);
    let genesis_hash = node.genesis_hash;
    let mut client = Client::connect(node.address).await;
    let mut farm = Farm::plot(&mut client, kzg_setup::insecure().unwrap(), 1).await;
    let (hashes_sender, mut hashes_signed) = mpsc::unbounded_channel();
    let signer = tokio::spawn(sign(node.address, farm.identity.clone(), hashes_sender));
    client.call("subspace_subscribeSlotInfo", json!([])).await;
    let (mut sent, mut queued, mut slots) = (0, 0, 0);
    while hashes_signed.len() < SIGNATURES_WANTED {
        let notification = client.newest_notification().await;
        slots += 1;
        assert!(slots < SLOTS_MAX, "{} signatures in {slots} slots", hashes_signed.len());
        let slot = serde_json::from_value(notification["params"]["result"].clone()).unwrap();
        let (sent_now, queued_now);
        (farm, sent_now, queued_now) = answer_slot(&mut client, farm, slot).await;
        (sent, queued) = (sent + sent_now, queued + queued_now);
    }
    // Let the last slots end, with nobody signing any more.
    signer.abort();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let report = node.stop().await;
    let mut hashes = HashSet::new();
    while let Ok(hash) = hashes_signed.try_recv() {
        assert!(hashes.insert(hash), "one request for each block and vote");
    }
    let signed = hashes.len() as u64;
    let solutions = report.solutions;
    assert_eq!((solutions.accepted, report.reward_signatures.valid), (signed, signed));
    // Of every solution that was looked at, one form is good, one the same again, and two are damaged.
    let rejected = |reason| solutions.rejected.get(&reason).copied().unwrap_or(0);
    let good = solutions.accepted + solutions.surplus + rejected(Reason::NotSigned);
    for reason in [Reason::Duplicate, Reason::InvalidChunkWitness, Reason::InvalidPiece] {
        assert!(
            rejected(reason) >= signed && rejected(reason).abs_diff(good) <= sent - queued,
            "{solutions:?}"
        );
    }
    assert_eq!(good + solutions.rejected.values().sum::<u64>() - rejected(Reason::NotSigned), sent);
    assert_eq!(report.reward_signatures.invalid, 0);

    let started = Instant::now();
    let node = RunningNode::start(config).await;
    assert!(started.elapsed() < Duration::from_secs(10), "the stored chain is used");
    assert_eq!(node.genesis_hash, genesis_hash);
    assert!(node.height >= 1, "blocks survive");
    let mut client = Client::connect(node.address).await;
    client.call("subspace_subscribeSlotInfo", json!([])).await;
    client.notification().await;
    assert_eq!(node.stop().await.solutions.accepted, 0);
}
