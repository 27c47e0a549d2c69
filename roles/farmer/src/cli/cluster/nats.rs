//! Flags that say where the cluster's control bus is.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bus::nats::{NatsBus, NatsOptions};
use bus::{BusError, SharedBus};
use clap::Args;
use control::envelope::ClusterName;

/// What is said where no server is named.
pub(in crate::cli) const NO_SERVERS: &str =
    "a cluster needs NATS: name its servers by --nats-server nats://HOST:4222";
/// How long a command that is to end waits for a server.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the cluster's control bus is.
#[derive(Debug, Args)]
pub(in crate::cli) struct NatsArgs {
    /// NATS server, as nats://HOST:4222; repeat it for each server of the NATS cluster
    #[arg(
        long = "nats-server",
        alias = "nats-servers",
        value_name = "URL",
        value_delimiter = ',',
        global = true
    )]
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
    pub(in crate::cli) fn servers(&self) -> &[String] {
        &self.servers
    }

    /// Connects for a command that is to end: an error where no server answers.
    pub(in crate::cli) async fn connect_now(&self, name: &str) -> Result<SharedBus, Box<dyn Error>> {
        if self.servers.is_empty() {
            return Err(NO_SERVERS.into());
        }
        let options = NatsOptions { patience: Some(PATIENCE), ..self.options(name) };
        Ok(Arc::new(NatsBus::connect(&options).await?))
    }

    /// Connects, trying for as long as no server answers.
    pub(in crate::cli) async fn connect(&self, name: &str) -> Result<SharedBus, BusError> {
        Ok(Arc::new(NatsBus::connect(&self.options(name)).await?))
    }

    fn options(&self, name: &str) -> NatsOptions {
        let replicas = self.replicas.map(usize::from);
        NatsOptions {
            replicas,
            cluster: self.cluster.clone(),
            ..NatsOptions::new(self.servers.clone(), name)
        }
    }
}
