//! `autonomys-farmer cluster --nats-server URL ROLE …`: one role of a cluster in this process.

mod cache;
mod controller;
mod plot_client;
mod plot_server;
mod proof_server;

use std::net::IpAddr;
use std::sync::Arc;

use clap::{Args, Subcommand};
use roles::bus::messages::Role;
use roles::bus::nats::{NatsBus, NatsOptions, local_address};
use roles::bus::{BusError, SharedBus};
use roles::host::HostConfig;
use roles::role::RoleError;
use roles::shutdown::Shutdown;

use super::CommandResult;

#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(flatten)]
    nats: NatsArgs,
    #[command(subcommand)]
    role: ClusterRole,
}

/// Where the cluster's control bus is.
#[derive(Debug, Args)]
pub struct NatsArgs {
    /// NATS server, as nats://HOST:4222; repeat it for each server of the NATS cluster
    #[arg(long = "nats-server", alias = "nats-servers", value_name = "URL", global = true)]
    servers: Vec<String>,
    /// Copies of streams and buckets created now: 3 on a NATS cluster of three
    #[arg(long = "nats-replicas", value_name = "N", default_value_t = 1, global = true,
        value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,
}

impl NatsArgs {
    /// Connects, trying for as long as no server answers.
    async fn connect(&self, name: &str) -> Result<SharedBus, BusError> {
        let replicas = usize::from(self.replicas);
        let options = NatsOptions { replicas, ..NatsOptions::new(self.servers.clone(), name) };
        Ok(Arc::new(NatsBus::connect(&options).await?))
    }
}

/// How a member is reached by the others.
#[derive(Debug, Args)]
pub struct MemberArgs {
    /// Port for other members; 0 = any that is free
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    listen_port: u16,
    /// Address at which other members reach this one; repeatable, best first [default: the one NATS is reached from]
    #[arg(long, value_name = "ADDR")]
    advertise: Vec<IpAddr>,
    /// Group of members that lie near each other
    #[arg(long, alias = "cache-group", value_name = "NAME", default_value = "default", value_parser = parse_group)]
    group: String,
}

impl MemberArgs {
    /// `host` with what the operator said.
    async fn apply(self, host: HostConfig, nats: &NatsArgs) -> Result<HostConfig, BusError> {
        let advertise = match self.advertise {
            none if none.is_empty() => vec![local_address(&nats.servers).await?],
            named => named,
        };
        Ok(HostConfig { listen_port: self.listen_port, advertise, group: self.group, ..host })
    }
}

fn parse_group(text: &str) -> Result<String, String> {
    if roles::bus::valid_token(text) {
        Ok(text.to_owned())
    } else {
        Err("a group is named by letters, digits, - and _".into())
    }
}

#[derive(Debug, Subcommand)]
enum ClusterRole {
    /// Connect the cluster with a node
    Controller(controller::ControllerArgs),
    /// Farm the disks of this machine
    PlotClient(plot_client::PlotClientArgs),
    /// Make sectors for plot-clients
    PlotServer(plot_server::PlotServerArgs),
    /// Keep the pieces that this cache owns
    ShardedCache(cache::CacheArgs),
    /// Keep every piece
    FullPieceShardedCache(cache::CacheArgs),
    /// Prove for plot-clients
    ProofServer(proof_server::ProofServerArgs),
}

impl ClusterRole {
    fn role(&self) -> Role {
        match self {
            Self::Controller(_) => Role::Controller,
            Self::PlotClient(_) => Role::PlotClient,
            Self::PlotServer(_) => Role::PlotServer,
            Self::ShardedCache(_) => Role::ShardedCache,
            Self::FullPieceShardedCache(_) => Role::FullPieceCache,
            Self::ProofServer(_) => Role::ProofServer,
        }
    }
}

impl ClusterArgs {
    pub fn run(self) -> CommandResult {
        if self.nats.servers.is_empty() {
            return Err("a cluster needs NATS: name its servers by --nats-server nats://HOST:4222".into());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(self.run_role())?)
    }

    async fn run_role(self) -> Result<(), RoleError> {
        let shutdown = Shutdown::on_signals().map_err(RoleError::own)?;
        let role = self.role.role();
        let bus = tokio::select! {
            bus = self.nats.connect(role.token()) => bus?,
            () = shutdown.requested() => return Ok(()),
        };
        match self.role {
            ClusterRole::Controller(args) => args.run(&self.nats, bus, shutdown).await,
            ClusterRole::PlotClient(args) => args.run(&self.nats, bus, shutdown).await,
            ClusterRole::PlotServer(args) => args.run(&self.nats, bus, shutdown).await,
            ClusterRole::ShardedCache(args) | ClusterRole::FullPieceShardedCache(args) => {
                args.run(role, &self.nats, bus, shutdown).await
            }
            ClusterRole::ProofServer(args) => args.run(&self.nats, bus, shutdown).await,
        }
    }
}
