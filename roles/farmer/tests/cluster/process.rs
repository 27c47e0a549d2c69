//! A process of the binary that ends with its test.

use bus::SharedBus;
use bus::cluster::Cluster;
use bus::members::{Liveness, MemberEvent, MemberWatch};
use bus::nats::{NatsBus, NatsOptions};
use control::messages::{ClusterInfo, MemberEntry, ProtocolInfo, Role};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::nats_server::NatsServer;

pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Process(Child);

impl Process {
    /// `autonomys-farmer cluster --nats-server URL LINE`, where no GPU is shown.
    pub fn start(nats: &NatsServer, line: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
        command.args(["cluster", "--nats-server", &nats.url()]).args(line);
        command.env("CUDA_VISIBLE_DEVICES", "");
        Self(command.spawn().unwrap())
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let asked = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(asked.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The bus of a cluster on a development chain, as a controller leaves it.
pub async fn development_cluster(nats: &NatsServer) -> SharedBus {
    let options = NatsOptions { patience: Some(PATIENCE), ..NatsOptions::new(vec![nats.url()], "test") };
    let bus = Arc::new(NatsBus::connect(&options).await.unwrap());
    let protocol_info = ProtocolInfo {
        history_size: 1,
        max_pieces_in_sector: 10,
        recent_segments: 5,
        recent_history_fraction: (1, 10),
        min_sector_lifetime: 4,
    };
    let info = ClusterInfo {
        kzg_setup_sha256: consensus::kzg::insecure::PARAMETERS_SHA256,
        genesis_hash: [2; 32],
        protocol_info,
        is_dev: true,
        farming_timeout_ms: 4000,
    };
    Cluster::open(&*bus).await.unwrap().put_info(&info).await.unwrap();
    bus
}

/// Waits for the next member of a role.
pub async fn joined(bus: &SharedBus, role: Role) -> MemberEntry {
    let mut watch = MemberWatch::start(bus.clone(), Some(role), Liveness::default()).await.unwrap();
    let joining = async {
        loop {
            if let Some(MemberEvent::Joined(entry)) = watch.next().await {
                return entry;
            }
        }
    };
    tokio::time::timeout(PATIENCE, joining).await.unwrap()
}
