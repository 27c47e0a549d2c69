//! Flags that say where the cluster's control bus is.

use std::sync::Arc;

use bus::nats::{NatsBus, NatsOptions};
use bus::{BusError, SharedBus};
use clap::Args;
use control::envelope::ClusterName;

/// Where the cluster's control bus is.
#[derive(Debug, Args)]
pub(super) struct NatsArgs {
    /// NATS server, as nats://HOST:4222; repeat it for each server of the NATS cluster
    #[arg(long = "nats-server", alias = "nats-servers", value_name = "URL", global = true)]
    servers: Vec<String>,
    /// Copies of streams and buckets [default: 3 in a NATS cluster that has three servers or more, else 1]
    #[arg(long = "nats-replicas", value_name = "N", global = true, value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: Option<u8>,
    /// Name of the farming cluster; clusters of different names share NATS servers and hear nothing of each other
    #[arg(long = "cluster", value_name = "NAME", default_value_t, global = true)]
    cluster: ClusterName,
}

impl NatsArgs {
    /// The servers, as the operator named them.
    pub(super) fn servers(&self) -> &[String] {
        &self.servers
    }

    /// Connects, trying for as long as no server answers.
    pub(super) async fn connect(&self, name: &str) -> Result<SharedBus, BusError> {
        let replicas = self.replicas.map(usize::from);
        let options = NatsOptions {
            replicas,
            cluster: self.cluster.clone(),
            ..NatsOptions::new(self.servers.clone(), name)
        };
        Ok(Arc::new(NatsBus::connect(&options).await?))
    }
}
