//! Every method and subscription: the exact JSON, and the errors.

use std::time::Duration;

use devnet::{DevNodeConfig, Reason, RpcMethods};
use serde_json::{Value, json};

use super::chain::{RunningNode, SLOT_MS, config, copy_of_chain};
use super::client::Client;

/// A solution of the right shape that proves nothing, for farm `number`.
pub fn worthless(number: u8) -> Value {
    json!({
        "publicKey": hex::encode([number; 32]),
        "rewardAddress": "02".repeat(32),
        "sectorIndex": 0,
        "historySize": 1,
        "pieceOffset": 0,
        "recordCommitment": "03".repeat(48),
        "recordWitness": "04".repeat(48),
        "chunk": vec![5; 32],
        "chunkWitness": "06".repeat(48),
        "proofOfSpace": "07".repeat(160),
    })
}

pub fn submission(slot: u64, solution: &Value) -> Value {
    json!([{ "slotNumber": slot, "solution": solution }])
}

const IGNORED: (i64, &str) = (9001, "Solution was ignored");

fn same((code, text): &(i64, String), expected: (i64, &str)) -> bool {
    (*code, text.as_str()) == expected
}

#[tokio::test]
async fn farmer_app_info() {
    let folder = copy_of_chain();
    let node = RunningNode::start(config(&folder.path().join("base"))).await;
    let mut client = Client::connect(node.address).await;
    let info = client.call("subspace_getFarmerAppInfo", json!([])).await;
    let expected = json!({
        "genesisHash": hex::encode(node.genesis_hash),
        "dsnBootstrapNodes": [],
        "syncing": false,
        "farmingTimeout": { "secs": 4, "nanos": 0 },
        "protocolInfo": {
            "historySize": 1,
            "maxPiecesInSector": 2,
            "recentSegments": 5,
            "recentHistoryFraction": [1, 10],
            "minSectorLifetime": 4,
        },
        "devKzg": "insecure-v1",
    });
    assert_eq!(info, expected);
    assert_eq!(client.error("subspace_unknown", json!([])).await.0, -32601);
    node.stop().await;
}

#[tokio::test]
async fn segment_headers_and_pieces() {
    let folder = copy_of_chain();
    let node = RunningNode::start(config(&folder.path().join("base"))).await;
    let mut client = Client::connect(node.address).await;
    let headers = client.call("subspace_segmentHeaders", json!([[5, 0, u64::MAX, 0]])).await;
    let header = &headers[1];
    assert_eq!(headers, json!([null, header, null, header]));
    let expected = json!({ "v0": {
        "segmentIndex": 0,
        "segmentCommitment": header["v0"]["segmentCommitment"],
        "prevSegmentHeaderHash": "00".repeat(32),
        "lastArchivedBlock": { "number": 0, "archivedProgress": { "partial": 130_023_424 - 6 } },
    }});
    assert_eq!(*header, expected);
    assert_eq!(header["v0"]["segmentCommitment"].as_str().unwrap().len(), 96);
    for limit in [1, 2, 1000] {
        assert_eq!(client.call("subspace_lastSegmentHeaders", json!([limit])).await, json!([header]));
    }
    assert_eq!(client.call("subspace_lastSegmentHeaders", json!([0])).await, json!([]));
    let (code, text) = client.error("subspace_segmentHeaders", json!([vec![0; 1001]])).await;
    assert!(code == 9001 && text.contains("1000"), "{text}");
    let (code, text) = client.error("subspace_lastSegmentHeaders", json!([1001])).await;
    assert!(code == 9001 && text.contains("1000"), "{text}");

    let piece = client.call("subspace_piece", json!([3])).await;
    assert_eq!(piece.as_str().unwrap().len(), 2 * 1_048_672);
    for unknown in [256, u64::MAX] {
        assert_eq!(client.call("subspace_piece", json!([unknown])).await, Value::Null);
    }
    for index in [json!([0]), json!([7])] {
        assert_eq!(client.call("subspace_acknowledgeArchivedSegmentHeader", index).await, Value::Null);
    }
    node.stop().await;
}

#[tokio::test]
async fn slots_and_their_solutions() {
    let folder = copy_of_chain();
    let report_path = folder.path().join("report.json");
    let base_path = folder.path().join("base");
    let node =
        RunningNode::start(DevNodeConfig { report: Some(report_path.clone()), ..config(&base_path) }).await;
    let mut client = Client::connect(node.address).await;
    let subscription = client.call("subspace_subscribeSlotInfo", json!([])).await;
    let first = client.notification().await;
    let result = &first["params"]["result"];
    let slot = result["slotNumber"].as_u64().unwrap();
    // Divided left to right, so a little less than 2^63.
    let range = u64::MAX / 2 / 32_768 * 65_536 / 2;
    let expected = json!({
        "jsonrpc": "2.0",
        "method": "subspace_slot_info",
        "params": { "subscription": subscription, "result": {
            "slotNumber": slot,
            "globalChallenge": result["globalChallenge"],
            "solutionRange": range,
            "votingSolutionRange": range * 2,
        }},
    });
    assert_eq!(first, expected);
    assert_eq!(result["globalChallenge"].as_str().unwrap().len(), 64);

    let submit = "subspace_submitSolutionResponse";
    for unknown in [slot - 1, slot + 20] {
        assert!(same(&client.error(submit, submission(unknown, &worthless(1))).await, IGNORED));
    }
    // Ten are queued, whatever they are worth; the eleventh counts as queued, too, and is dropped without a word.
    for number in 0..10 {
        assert_eq!(client.call(submit, submission(slot, &worthless(number))).await, Value::Null);
    }
    assert_eq!(client.call(submit, submission(slot, &worthless(11))).await, Value::Null);
    let mut hex_chunk = worthless(1);
    hex_chunk["chunk"] = json!("05".repeat(32));
    assert_eq!(client.error(submit, submission(slot, &hex_chunk)).await.0, -32602);

    for next in slot + 1..slot + 6 {
        let notification = client.notification().await;
        assert_eq!(
            notification["params"]["result"]["slotNumber"],
            json!(next),
            "slots follow each other, nothing else"
        );
    }
    assert!(same(&client.error(submit, submission(slot, &worthless(1))).await, IGNORED));
    assert_eq!(client.call("subspace_unsubscribeSlotInfo", json!([subscription])).await, json!(true));
    assert_eq!(client.notification_within(Duration::from_millis(2 * SLOT_MS)).await, None);

    let report = node.stop().await;
    let rejected = |reason| report.solutions.rejected.get(&reason).copied();
    assert_eq!(rejected(Reason::InvalidProofOfSpace), Some(10));
    assert_eq!((rejected(Reason::QueueFull), rejected(Reason::Dropped)), (None, Some(1)));
    assert_eq!(rejected(Reason::NotAnnounced), Some(1));
    assert_eq!(rejected(Reason::Late), Some(2));
    assert_eq!((report.solutions.accepted, report.segments), (0, 1));
    // Those that were heard; how many more began meanwhile is a matter of time.
    assert!(report.slots >= 6, "{}", report.slots);
    let written: Value = serde_json::from_slice(&std::fs::read(report_path).unwrap()).unwrap();
    assert_eq!(written, serde_json::to_value(&report).unwrap());
}

#[tokio::test]
async fn an_empty_answer_is_no_signature_and_no_error() {
    let folder = copy_of_chain();
    let node = RunningNode::start(config(&folder.path().join("base"))).await;
    let mut client = Client::connect(node.address).await;
    let submit = "subspace_submitRewardSignature";
    let hash = "00".repeat(32);
    let empty = json!([{ "hash": hash, "signature": null }]);
    assert_eq!(client.call(submit, empty).await, Value::Null);
    let signature = json!([{ "hash": hash, "signature": "00".repeat(64) }]);
    assert_eq!(client.call(submit, signature).await, Value::Null, "nobody asked for it, which is not told");
    for bad in [json!("00"), json!(7), json!("zz".repeat(64))] {
        let params = json!([{ "hash": hash, "signature": bad }]);
        assert_eq!(client.error(submit, params).await.0, -32602);
    }
    assert_eq!(node.stop().await.reward_signatures.invalid, 0);
}

#[tokio::test]
async fn without_unsafe_methods() {
    let folder = copy_of_chain();
    let base_path = folder.path().join("base");
    let node =
        RunningNode::start(DevNodeConfig { rpc_methods: RpcMethods::Safe, ..config(&base_path) }).await;
    let mut client = Client::connect(node.address).await;
    client.call("subspace_subscribeSlotInfo", json!([])).await;
    client.call("subspace_subscribeArchivedSegmentHeader", json!([])).await;
    let slot = client.notification().await["params"]["result"]["slotNumber"].as_u64().unwrap();
    let signature = json!([{ "hash": "00".repeat(32), "signature": "00".repeat(64) }]);
    for (method, params) in [
        ("subspace_submitSolutionResponse", submission(slot, &worthless(1))),
        ("subspace_submitRewardSignature", signature),
        ("subspace_acknowledgeArchivedSegmentHeader", json!([0])),
        ("subspace_piece", json!([0])),
    ] {
        let error = client.error(method, params).await;
        assert!(same(&error, (-32601, "RPC call is unsafe to be called externally")), "{method}: {error:?}");
    }
    assert_eq!(client.error("subspace_subscribeRewardSigning", json!([])).await.0, -32603);
    client.call("subspace_getFarmerAppInfo", json!([])).await;
    client.call("subspace_lastSegmentHeaders", json!([1])).await;
    node.stop().await;
}

#[tokio::test]
async fn syncing_begins_no_slot() {
    let folder = copy_of_chain();
    let base_path = folder.path().join("base");
    let syncing_for = Duration::from_millis(3 * SLOT_MS);
    let node = RunningNode::start(DevNodeConfig { syncing_for, ..config(&base_path) }).await;
    let mut client = Client::connect(node.address).await;
    client.call("subspace_subscribeSlotInfo", json!([])).await;
    assert_eq!(client.call("subspace_getFarmerAppInfo", json!([])).await["syncing"], json!(true));
    assert_eq!(client.notification_within(Duration::from_millis(SLOT_MS)).await, None);
    client.notification().await;
    assert_eq!(client.call("subspace_getFarmerAppInfo", json!([])).await["syncing"], json!(false));
    node.stop().await;
}
