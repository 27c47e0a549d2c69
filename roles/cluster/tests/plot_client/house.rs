//! A cluster of a development chain, and a plot-client in it.

use bus::SharedBus;
use bus::cluster::Cluster;
use bus::local::LocalBus;
use bus::members::Liveness;
use cluster::host::HostConfig;
use cluster::plot_client::{Config, Counters, FarmSpec, run};
use cluster::role::RoleError;
use cluster::shutdown::{KeepRunning, Shutdown};
use consensus::kzg::{Kzg, insecure};
use control::messages::{ClusterInfo, Control, ProtocolInfo, Role};
use control::rebuild::Limits;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Tests share two cores with others.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// One that is told to end waits so long for solutions that no controller takes.
const FARMING_TIMEOUT: Duration = Duration::from_secs(20);
pub const PIECES: u16 = 2;
pub const REWARD_ADDRESS: [u8; 32] = [8; 32];

pub fn kzg() -> Kzg {
    Kzg::from_parameters(&insecure::parameters()).unwrap()
}

/// Fast heartbeats; nobody is taken for dead by a slow machine.
pub fn host_config(role: Role) -> HostConfig {
    let liveness = Liveness {
        interval: Duration::from_millis(50),
        suspect_after: PATIENCE,
        gone_after: 2 * PATIENCE,
        ..Liveness::default()
    };
    HostConfig { liveness, ..HostConfig::new(role) }
}

pub async fn cluster() -> SharedBus {
    let bus: SharedBus = Arc::new(LocalBus::new());
    let protocol_info = ProtocolInfo {
        history_size: 9,
        max_pieces_in_sector: PIECES,
        recent_segments: 5,
        recent_history_fraction: (1, 10),
        min_sector_lifetime: 4,
    };
    let info = ClusterInfo {
        kzg_setup_sha256: insecure::PARAMETERS_SHA256,
        genesis_hash: [2; 32],
        protocol_info,
        is_dev: true,
        farming_timeout_ms: FARMING_TIMEOUT.as_millis() as u32,
    };
    Cluster::open(&*bus).await.unwrap().put_info(&info).await.unwrap();
    bus
}

/// A plot-client that runs until it is stopped.
pub struct Client {
    pub counters: Arc<Counters>,
    keep_running: KeepRunning,
    ended: JoinHandle<Result<(), RoleError>>,
}

impl Client {
    pub fn start(bus: &SharedBus, farms: Vec<FarmSpec>) -> Self {
        Self::with(bus, Config { host: host_config(Role::PlotClient), ..Config::new(farms, REWARD_ADDRESS) })
    }

    pub fn with(bus: &SharedBus, config: Config) -> Self {
        // Few have caches here.
        let rebuild = Limits { patience: Duration::from_secs(1), pace: Duration::ZERO, ..Limits::default() };
        let config = Config { rebuild, ..config };
        let counters = config.counters.clone();
        let (keep_running, shutdown) = Shutdown::new();
        let ended = tokio::spawn(run(config, bus.clone(), shutdown));
        Self { counters, keep_running, ended }
    }

    pub async fn stop(self) {
        drop(self.keep_running);
        tokio::time::timeout(PATIENCE, self.ended).await.unwrap().unwrap().unwrap();
    }

    /// How it ends by itself.
    pub async fn ended(self) -> Result<(), RoleError> {
        let ended = tokio::time::timeout(PATIENCE, self.ended).await.unwrap().unwrap();
        drop(self.keep_running);
        ended
    }
}

pub async fn publish(bus: &SharedBus, subject: &str, message: &impl Control) {
    bus.publish(subject, message.to_bytes().unwrap()).await.unwrap();
}

/// The next message of a subscription.
pub async fn next<M: Control>(messages: &mut bus::Subscription) -> M {
    let message = tokio::time::timeout(PATIENCE, messages.next()).await.unwrap().unwrap();
    M::from_bytes(&message.payload).unwrap()
}
