//! The proof-server from its start to its end.

use crate::house::{PATIENCE, liveness, start};
use crate::settings::settings;
use bus::SharedBus;
use bus::cluster::Cluster;
use bus::local::LocalBus;
use cluster::cards::OpenCard;
use cluster::host::{Host, HostConfig, HostError};
use cluster::proof_server::{self, Config};
use cluster::shutdown::Shutdown;
use consensus::CpuLevel;
use consensus::constants::RECORD_SIZE;
use consensus::kzg::{Kzg, insecure};
use consensus::sector::{Bitfield, RecordDecoder, RecordEncoder, SectorId};
use control::ids::InstanceId;
use control::messages::{ClusterInfo, Role};
use engine::pool::{Pool, Slab};
use std::sync::Arc;
use std::time::Duration;
use transport::message::{Layout, PROVE_PAYLOAD_BYTES, RefusalCode, Request, Response};
use transport::tcp::ClientError;

const SECTOR: [u8; 32] = [3; 32];

fn info() -> ClusterInfo {
    ClusterInfo { kzg_setup_sha256: insecure::PARAMETERS_SHA256, ..settings([2; 32], 1) }
}

/// A record as the farm stores it, with its bitmap behind it.
fn stored_record(pool: &Pool) -> (Slab, Bitfield) {
    let mut slab = pool.try_acquire().unwrap().narrow(..PROVE_PAYLOAD_BYTES);
    let (record, bitmap) = slab.split_at_mut(RECORD_SIZE);
    let mut random = blake3::Hasher::new().finalize_xof();
    let chunks = record.as_chunks_mut::<32>().0;
    for chunk in chunks.iter_mut() {
        random.fill(&mut chunk[1..]);
        chunk[0] = 0;
    }
    let mut encoder = RecordEncoder::new(CpuLevel::detect());
    let bitfield = encoder.encode(&SectorId(SECTOR).evaluation_seed(1), chunks).unwrap();
    bitmap.copy_from_slice(bitfield.as_bytes());
    (slab.freeze(), bitfield)
}

async fn prove(
    host: &Host,
    peer: InstanceId,
    record: &Slab,
    s_bucket: u16,
    limit: Duration,
) -> Result<Response, HostError> {
    let blake3 = *blake3::hash(record).as_bytes();
    let request = Request::Prove { blake3, sector_id: SECTOR, piece_offset: 1, s_bucket };
    let layout = Layout::Run { phase: 0 };
    host.request(peer, request, vec![record.clone()], layout, limit).await.map(|reply| reply.response)
}

#[tokio::test]
async fn it_waits_for_the_cluster_proves_and_ends() {
    proves(Vec::new()).await;
}

#[cfg(feature = "kernel-shim")]
#[tokio::test]
async fn it_proves_with_gpus() {
    use gpu::device::shim::{ShimDevice, ShimOptions};
    let options = ShimOptions { k: 20, schedule_seed: None, os_threads: 2, memory_bytes: 1 << 30 };
    let device = Arc::new(ShimDevice::new(options).unwrap());
    proves(vec![OpenCard { device, pci_bus_id: None, feeder: None }]).await;
}

async fn proves(cards: Vec<OpenCard>) {
    let bus: SharedBus = Arc::new(LocalBus::new());
    let client = start(&bus, Role::PlotClient).await;
    let (keep_running, shutdown) = Shutdown::new();
    let host = HostConfig { liveness: liveness(), ..HostConfig::new(Role::ProofServer) };
    let (id, config) = (
        host.id,
        Config { host, threads: engine::threads::ThreadWorkers::unbound(1), cards, ..Config::new() },
    );
    let server = tokio::spawn(proof_server::run(config, bus.clone(), shutdown));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(client.members(Role::ProofServer).is_empty(), "nobody has said which chain this is");
    Cluster::open(&*bus).await.unwrap().put_info(&info()).await.unwrap();
    let mut present = client.present();
    tokio::time::timeout(PATIENCE, present.wait_for(|now| now.contains_key(&id))).await.unwrap().unwrap();

    let (record, bitfield) = stored_record(client.pool());
    let used = bitfield.used().next().unwrap().0;
    let kzg = Kzg::from_parameters(&insecure::parameters()).unwrap();
    let mut decoder = RecordDecoder::new(CpuLevel::detect());
    let chunks = record[..RECORD_SIZE].as_chunks::<32>().0;
    let seed = SectorId(SECTOR).evaluation_seed(1);
    let expected = decoder.prove(&seed, chunks, &bitfield, used, &kzg).unwrap();
    let Response::Proof { chunk, witness, proof_of_space } =
        prove(&client, id, &record, used, PATIENCE).await.unwrap()
    else {
        panic!("only a proof fits")
    };
    assert_eq!(
        (chunk, witness, proof_of_space),
        (expected.chunk, expected.chunk_witness, expected.proof_of_space)
    );

    let unused = (0..).find(|s_bucket| !bitfield.get(*s_bucket)).unwrap();
    let error = prove(&client, id, &record, unused, PATIENCE).await.unwrap_err();
    assert_eq!(error.refusal(), Some(RefusalCode::Damaged), "{error}");
    let error = prove(&client, id, &record, used, Duration::from_millis(30)).await.unwrap_err();
    let late = matches!(&error, HostError::Request { source: ClientError::TimedOut { .. }, .. });
    assert!(late || error.refusal() == Some(RefusalCode::DeadlinePassed), "{error}");

    drop(keep_running);
    tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap().unwrap();
    assert!(
        client.members(Role::ProofServer).is_empty()
            || present.wait_for(|now| !now.contains_key(&id)).await.is_ok()
    );
    client.shutdown(PATIENCE).await;
}
