//! `proof-server`.

use crate::nats_server::NatsServer;
use crate::process::{Process, development_cluster, joined};
use control::messages::Role;

#[tokio::test]
async fn it_joins_and_leaves() {
    let nats = NatsServer::start();
    let bus = development_cluster(&nats).await;
    let process = Process::start(&nats, &["proof-server", "--threads", "1"]);
    let entry = joined(&bus, Role::ProofServer).await;
    assert!(entry.addresses[0].starts_with("127.0.0.1:"), "{:?}", entry.addresses);
    assert_eq!((entry.capacity, &*entry.group), (1, "default"));
    assert!(process.terminate().success());
    let members = bus
        .bucket(&bus::BucketConfig {
            name: "members".into(),
            max_age: Some(std::time::Duration::from_secs(240)),
        })
        .await
        .unwrap();
    assert_eq!(members.entries("proof-server.*").await.unwrap(), []);
}
