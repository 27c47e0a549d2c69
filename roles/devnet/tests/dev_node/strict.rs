//! A node that has only the pieces that the network's node would have.

use std::time::Duration;

use devnet::DevNodeConfig;
use serde_json::{Value, json};

use super::chain::{RunningNode, config, copy_of_chain};
use super::client::Client;

/// Archiving a segment on a slow and busy machine.
const ARCHIVING: Duration = Duration::from_secs(300);

async fn has(client: &mut Client, piece_index: u64) -> bool {
    client.call("subspace_piece", json!([piece_index])).await != Value::Null
}

#[tokio::test]
async fn newest_segment_until_all_have_acknowledged() {
    let folder = copy_of_chain();
    let config = DevNodeConfig { segment_every_slots: Some(2), ..config(&folder.path().join("base")) };
    let node = RunningNode::start(config).await;
    let (mut one, mut other) = (Client::connect(node.address).await, Client::connect(node.address).await);
    assert!(has(&mut one, 0).await);
    let subscription = one.call("subspace_subscribeArchivedSegmentHeader", json!([])).await;
    other.call("subspace_subscribeArchivedSegmentHeader", json!([])).await;

    let notification = one.notification_within(ARCHIVING).await.expect("a new segment");
    let header = &notification["params"]["result"];
    assert_eq!(notification["method"], json!("subspace_archived_segment_header"));
    assert_eq!(notification["params"]["subscription"], subscription);
    assert_eq!(header["v0"]["segmentIndex"], json!(1));
    assert_eq!(other.notification().await["params"]["result"], *header);
    assert_eq!(one.call("subspace_lastSegmentHeaders", json!([1])).await, json!([header]));
    let both = one.call("subspace_lastSegmentHeaders", json!([2])).await;
    assert_eq!(both[1], *header, "oldest first");
    let info = one.call("subspace_getFarmerAppInfo", json!([])).await;
    assert_eq!(info["protocolInfo"]["historySize"], json!(2));

    // Held: the new segment and nothing else. A wrong index acknowledges nothing.
    assert!(has(&mut one, 256).await && has(&mut one, 511).await && !has(&mut one, 0).await);
    for index in [0, 1, 2] {
        let null = one.call("subspace_acknowledgeArchivedSegmentHeader", json!([index])).await;
        assert_eq!(null, Value::Null);
        assert!(has(&mut other, 256).await && !has(&mut other, 0).await, "one has not acknowledged yet");
    }
    other.call("subspace_acknowledgeArchivedSegmentHeader", json!([1])).await;
    assert!(has(&mut one, 0).await && !has(&mut one, 256).await);
    node.stop().await;
}
