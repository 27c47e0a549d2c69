//! KZG files that are missing, damaged, or of another setup.

use crate::cluster::{self, info};
use crate::farm::{cut, flip};
use crate::nats_server::NatsServer;
use crate::process::{contents, farmer, member, refused};
use bus::cluster::Cluster;
use consensus::kzg::{MAINNET_PARAMETERS_SHA256, PARAMETERS_SIZE, insecure};
use control::messages::ClusterInfo;
use jsonrpsee::core::RpcResult;
use jsonrpsee::server::{RpcModule, Server};
use serde_json::json;
use std::fs;
use std::path::Path;

const FILE: &str = "eth-public-parameters.bin";
/// Bytes of the ceremony's file.
const BYTES: u64 = PARAMETERS_SIZE as u64;

#[tokio::test]
async fn members_of_a_real_chain_need_the_ceremony() {
    let mainnet = ClusterInfo { is_dev: false, kzg_setup_sha256: MAINNET_PARAMETERS_SHA256, ..info() };
    let (nats, _bus) = cluster::start(&mainnet).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, farm) = (folder.path().join(FILE), folder.path().join("farm"));
    let with = |file: &Path| {
        let mut command = member(&nats.url(), &["proof-server", "--kzg-parameters"]);
        command.arg(file);
        command
    };
    let proof_server = || with(&file);
    // Neither named nor in the usual place.
    let farm_line = format!("path={},sectors=1", farm.display());
    let address = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
    let mut nowhere = member(&nats.url(), &["plot-client", "--reward-address", address, &farm_line]);
    let usual = folder.path().join("autonomys-farmer").join(FILE).display().to_string();
    refused(nowhere.env("XDG_DATA_HOME", folder.path()), &["--kzg-parameters", &usual]);
    assert!(!farm.exists(), "nothing is made");
    let name = file.display().to_string();
    refused(&mut proof_server(), &["cannot read KZG parameters", &name]);
    fs::write(&file, insecure::parameters()).unwrap();
    let other = hex::encode(insecure::PARAMETERS_SHA256);
    refused(&mut proof_server(), &[&name, &other, &hex::encode(MAINNET_PARAMETERS_SHA256), "fetch"]);
    flip(&file, BYTES / 2);
    refused(&mut proof_server(), &[&name]);
    cut(&file, BYTES - 48);
    refused(&mut proof_server(), &[&name, "bytes long"]);
    refused(&mut with(folder.path()), &[folder.path().to_str().unwrap()]);
}

#[tokio::test]
async fn members_with_another_setup_than_the_clusters_are_refused() {
    let (nats, _bus) = cluster::start(&ClusterInfo { kzg_setup_sha256: [7; 32], ..info() }).await;
    let words = [&"07".repeat(32), &hex::encode(insecure::PARAMETERS_SHA256), "one release"];
    refused(&mut member(&nats.url(), &["proof-server"]), &words);
}

#[test]
fn vectors_are_not_run_with_a_wrong_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    fs::write(&file, vec![1; BYTES as usize]).unwrap();
    let mut conformance = farmer();
    conformance.args(["util", "conformance"]).arg(folder.path()).arg("--kzg-parameters").arg(&file);
    refused(&mut conformance, &[FILE]);
}

/// A node that says of its chain what the network's nodes say: there is no word of a development setup.
async fn real_node() -> (String, jsonrpsee::server::ServerHandle) {
    let mut module = RpcModule::new(());
    let acknowledge = |_: jsonrpsee::types::Params<'_>, (): &(), _: &_| -> RpcResult<()> { Ok(()) };
    module.register_method("subspace_acknowledgeArchivedSegmentHeader", acknowledge).unwrap();
    let info = |_: jsonrpsee::types::Params<'_>, (): &(), _: &_| {
        json!({
            "genesisHash": "07".repeat(32), "dsnBootstrapNodes": [], "syncing": false,
            "farmingTimeout": {"secs": 4, "nanos": 0},
            "protocolInfo": {"historySize": 1, "maxPiecesInSector": 1000, "recentSegments": 5,
                "recentHistoryFraction": [1, 10], "minSectorLifetime": 4},
        })
    };
    module.register_method("subspace_getFarmerAppInfo", info).unwrap();
    let server = Server::builder().build("127.0.0.1:0").await.unwrap();
    (format!("ws://{}", server.local_addr().unwrap()), server.start(module))
}

#[tokio::test]
async fn a_controller_without_the_ceremony_tells_the_cluster_nothing() {
    let (nats, (node, _server)) = (NatsServer::start(), real_node().await);
    let bus = cluster::bus(&nats).await;
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join(FILE);
    fs::write(&wrong, insecure::parameters()).unwrap();
    let before = contents(folder.path());
    let refusal = tokio::task::spawn_blocking(move || {
        let controller = |file: &Path, words: &str| {
            let line = ["controller", "--node-rpc-url", &node, "--kzg-parameters", file.to_str().unwrap()];
            refused(&mut member(&nats.url(), &line), &[words, file.to_str().unwrap()]);
        };
        controller(Path::new("/no/such/file"), "cannot read KZG parameters");
        controller(&wrong, "those of the network have");
        nats
    });
    let _nats = refusal.await.unwrap();
    assert!(contents(folder.path()) == before);
    assert_eq!(Cluster::open(&*bus).await.unwrap().info().await.unwrap(), None);
}
