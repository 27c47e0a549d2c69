//! A cluster as its first controller leaves it: NATS, and what is known of the chain.

use crate::nats_server::NatsServer;
use crate::process::PATIENCE;
use bus::SharedBus;
use bus::cluster::Cluster;
use bus::nats::{NatsBus, NatsOptions};
use consensus::kzg::insecure;
use control::messages::{ClusterInfo, ProtocolInfo};
use std::sync::Arc;

/// Genesis hash of the chain.
pub const GENESIS: [u8; 32] = [2; 32];

/// What a controller on a development chain of small sectors writes.
pub fn info() -> ClusterInfo {
    let protocol_info = ProtocolInfo {
        history_size: 1,
        max_pieces_in_sector: 2,
        recent_segments: 5,
        recent_history_fraction: (1, 10),
        min_sector_lifetime: 4,
    };
    ClusterInfo {
        kzg_setup_sha256: insecure::PARAMETERS_SHA256,
        genesis_hash: GENESIS,
        protocol_info,
        is_dev: true,
        farming_timeout_ms: 4000,
    }
}

pub async fn bus(nats: &NatsServer) -> SharedBus {
    let options = NatsOptions { patience: Some(PATIENCE), ..NatsOptions::new(vec![nats.url()], "test") };
    Arc::new(NatsBus::connect(&options).await.unwrap())
}

/// A NATS server of a cluster that agreed on this.
pub async fn start(info: &ClusterInfo) -> (NatsServer, SharedBus) {
    let nats = NatsServer::start();
    let bus = bus(&nats).await;
    Cluster::open(&*bus).await.unwrap().put_info(info).await.unwrap();
    (nats, bus)
}
