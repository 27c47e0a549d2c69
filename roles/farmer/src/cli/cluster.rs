//! `autonomys-farmer cluster --nats-server URL ROLE …`: one role of a cluster in this process.

mod cache;
mod controller;
mod plot_client;
mod plot_server;
mod proof_server;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bus::nats::{NatsBus, NatsOptions, local_address};
use bus::{BusError, SharedBus};
use clap::{Args, Subcommand};
use cluster::host::HostConfig;
use cluster::placement::Placement;
use cluster::role::RoleError;
use cluster::shutdown::Shutdown;
use control::envelope::ClusterName;
use control::messages::Role;

use topology::Cpus;
use topology::placement::{Overrides, RequestError};

use super::CommandResult;

/// Executors that a server has use for: one serves, both ask.
const SERVER_EXECUTORS: usize = 2;

#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    placement: PlacementArgs,
    #[command(subcommand)]
    role: ClusterRole,
}

/// Where the cluster's control bus is.
#[derive(Debug, Args)]
pub struct NatsArgs {
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
    /// Connects, trying for as long as no server answers.
    async fn connect(&self, name: &str) -> Result<SharedBus, BusError> {
        let replicas = self.replicas.map(usize::from);
        let options = NatsOptions {
            replicas,
            cluster: self.cluster.clone(),
            ..NatsOptions::new(self.servers.clone(), name)
        };
        Ok(Arc::new(NatsBus::connect(&options).await?))
    }
}

/// Where the process's threads run.
#[derive(Debug, Args)]
struct PlacementArgs {
    /// CPUs that the process may use, as 0-47,96-143 [default: those it was given]
    #[arg(long, value_name = "LIST", global = true)]
    cpu_cores: Option<Cpus>,
    /// NUMA node whose CPUs the process may use; repeatable [default: all]
    #[arg(long = "numa-node", value_name = "NODE", global = true)]
    numa_nodes: Vec<u32>,
    /// Bind no thread to CPUs of its own: the system places them
    #[arg(long, global = true)]
    no_pin: bool,
    /// Folder in which the processes of this host find each other, to divide its CPUs; containers share it [default: /run/lock/autonomys-farmer]
    #[arg(long, env = "FARMER_ROSTER", value_name = "DIR", global = true)]
    roster: Option<PathBuf>,
}

impl PlacementArgs {
    fn join(self, role: Role) -> Result<Placement, RequestError> {
        let overrides = Overrides { cpus: self.cpu_cores, nodes: self.numa_nodes, no_pin: self.no_pin };
        Placement::join(placed_role(role), &overrides, self.roster.as_deref())
    }
}

/// The role as plans name it.
fn placed_role(role: Role) -> topology::Role {
    use topology::Role as Placed;
    match role {
        Role::Controller => Placed::Controller,
        Role::ShardedCache => Placed::ShardedCache,
        Role::FullPieceCache => Placed::FullPieceShardedCache,
        Role::ProofServer => Placed::ProofServer,
        // No command starts another role.
        Role::PlotClient | Role::Other(_) => Placed::PlotClient,
        Role::PlotServer => Placed::PlotServer,
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
    /// `host` with what the operator said, on the executors of the placement, which is settled.
    async fn apply(self, host: HostConfig, start: &Start<'_>) -> Result<HostConfig, BusError> {
        let advertise = match self.advertise {
            none if none.is_empty() => vec![local_address(&start.nats.servers).await?],
            named => named,
        };
        let cores = start.placement.executors();
        Ok(HostConfig { listen_port: self.listen_port, advertise, group: self.group, cores, ..host })
    }
}

fn parse_group(text: &str) -> Result<String, String> {
    if control::names::valid_token(text) {
        Ok(text.to_owned())
    } else {
        Err("a group is named by letters, digits, - and _".into())
    }
}

/// What every role starts with.
struct Start<'a> {
    nats: &'a NatsArgs,
    placement: &'a Placement,
    bus: SharedBus,
    shutdown: Shutdown,
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
        let Self { nats, placement, role } = self;
        let placement = placement.join(role.role())?;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().thread_name("control");
        if let Some(control) = placement.control() {
            runtime.on_thread_start(move || control.enter());
        }
        Ok(runtime.build()?.block_on(async {
            tokio::select! {
                result = role.run(nats, &placement) => result,
                never = placement.follow() => match never {},
            }
        })?)
    }
}

impl ClusterRole {
    async fn run(self, nats: NatsArgs, placement: &Placement) -> Result<(), RoleError> {
        let shutdown = Shutdown::on_signals().map_err(RoleError::own)?;
        let role = self.role();
        let bus = tokio::select! {
            bus = nats.connect(role.token()) => bus?,
            () = shutdown.requested() => return Ok(()),
        };
        let start = Start { nats: &nats, placement, bus, shutdown };
        match self {
            Self::Controller(args) => args.run(start).await,
            Self::PlotClient(args) => args.run(start).await,
            Self::PlotServer(args) => args.run(start).await,
            Self::ShardedCache(args) | Self::FullPieceShardedCache(args) => args.run(role, start).await,
            Self::ProofServer(args) => args.run(start).await,
        }
    }
}
