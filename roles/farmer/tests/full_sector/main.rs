//! A sector of full size from the staging of a plot-server into the farm of a plot-client. The plot-server is a process of the
//! real binary; at half of the sector it is killed, and started again.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "shared with the tests of the bus")]
#[path = "../../../shared_tests/nats_server.rs"]
mod nats_server;
mod sector;
mod wire;

use crate::nats_server::NatsServer;
use crate::sector::{CHAIN, SECTOR_BYTES, checksum_in_plot, make_farm, stage};
use crate::wire::Wire;
use bus::SharedBus;
use bus::cluster::Cluster;
use bus::members::{Liveness, MemberEvent, MemberWatch};
use bus::nats::{NatsBus, NatsOptions};
use cluster::plot_client::{self, Config};
use cluster::shutdown::Shutdown;
use consensus::kzg::insecure;
use control::messages::{ClusterInfo, Control, PlotPhase, PlotProgress, Role, subjects};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tests share two cores with others.
const PATIENCE: Duration = Duration::from_secs(240);
/// How often sockets and folders are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A plot-server as operators start it; killed by SIGKILL when dropped.
struct PlotServer(Child);

impl PlotServer {
    fn start(nats: &NatsServer, base_path: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
        command.args(["cluster", "--nats-server", &nats.url(), "plot-server"]);
        // It need not encode.
        command.env("CUDA_VISIBLE_DEVICES", "");
        command.args(["--cpu", "--threads", "1", "--sector-concurrency", "1"]).arg(base_path);
        Self(command.spawn().unwrap())
    }
}

impl Drop for PlotServer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn cluster(nats: &NatsServer) -> SharedBus {
    let options = NatsOptions { patience: Some(PATIENCE), ..NatsOptions::new(vec![nats.url()], "test") };
    let bus: SharedBus = Arc::new(NatsBus::connect(&options).await.unwrap());
    let info = ClusterInfo {
        kzg_setup_sha256: insecure::PARAMETERS_SHA256,
        genesis_hash: [2; 32],
        protocol_info: CHAIN,
        is_dev: true,
        farming_timeout_ms: 4000,
    };
    Cluster::open(&*bus).await.unwrap().put_info(&info).await.unwrap();
    bus
}

/// Where the next plot-server that joins is reached.
async fn address_of_next(bus: &SharedBus) -> SocketAddr {
    let liveness = Liveness::default();
    let mut watch = MemberWatch::start(bus.clone(), Some(Role::PlotServer), liveness).await.unwrap();
    let joining = async {
        loop {
            if let Some(MemberEvent::Joined(entry)) = watch.next().await {
                return entry.addresses[0].parse().unwrap();
            }
        }
    };
    tokio::time::timeout(PATIENCE, joining).await.unwrap()
}

/// Kills the server when half of the sector has come from it.
async fn kill_at_half(server: PlotServer, address: SocketAddr) -> Wire {
    let killing = tokio::task::spawn_blocking(move || {
        let (mut wire, give_up_at) = (Wire::default(), Instant::now() + PATIENCE);
        while wire.received_bytes() < SECTOR_BYTES / 2 {
            assert!(Instant::now() < give_up_at, "{} bytes have come", wire.received_bytes());
            std::thread::sleep(LOOK_EVERY);
            wire.look(address);
        }
        drop(server);
        wire
    });
    killing.await.unwrap()
}

#[tokio::test]
async fn a_full_sector_survives_the_death_of_its_plot_server() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (base_path, farm) = (folder.path().join("base-path"), folder.path().join("farm"));
    let job = make_farm(&farm);
    let checksum = stage(&base_path, &job);
    let nats = NatsServer::start();
    let bus = cluster(&nats).await;
    let mut progress = bus.subscribe(subjects::PLOT_ANSWERS_OF_ALL).await.unwrap();
    let first = PlotServer::start(&nats, &base_path);
    let first_address = address_of_next(&bus).await;

    let spec = format!("path={},sectors=1", farm.display()).parse().unwrap();
    let config = Config::new(vec![spec], [8; 32]);
    let counters = config.counters.clone();
    let (keep_running, shutdown) = Shutdown::new();
    let client = tokio::spawn(plot_client::run(config, bus.clone(), shutdown));
    let mut wire = kill_at_half(first, first_address).await;
    assert_eq!(counters.plotted.get(), 0);

    let _second = PlotServer::start(&nats, &base_path);
    let second_address = address_of_next(&bus).await;
    let stored = async {
        loop {
            tokio::select! {
                message = progress.next() => {
                    let told = PlotProgress::from_bytes(&message.unwrap().payload).unwrap();
                    assert!(!matches!(told.phase, PlotPhase::Refused { .. }), "{told:?}");
                    if told.phase == PlotPhase::Stored {
                        return;
                    }
                }
                () = tokio::time::sleep(LOOK_EVERY) => wire.look(second_address),
            }
        }
    };
    tokio::time::timeout(PATIENCE, stored).await.unwrap();
    let emptied = async {
        while fs::read_dir(&base_path).unwrap().count() > 1 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, emptied).await.expect("only the lock stays of the staging");
    drop(keep_running);
    tokio::time::timeout(PATIENCE, client).await.unwrap().unwrap().unwrap();

    assert_eq!(counters.plotted.get(), 1);
    assert_eq!(checksum_in_plot(&farm), checksum);
    // All that came is counted, the words around the bytes of the sector too.
    let (connections, received) = (wire.connections(), wire.received_bytes());
    println!("{received} bytes came for {SECTOR_BYTES}, over {connections} connections");
    assert!(connections >= 2 && received >= SECTOR_BYTES);
    assert!((received - SECTOR_BYTES) * 100 <= SECTOR_BYTES * 2, "{received} bytes came");
}
