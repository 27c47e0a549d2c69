//! `autonomys-farmer cluster --nats-server URL ROLE …`: one role of a cluster in this process, or a look at its farms.

mod cache;
mod controller;
mod farms;
mod member;
mod nats;
mod plot_client;
mod plot_server;
mod proof_server;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use cluster::placement::Placement;
use cluster::role::RoleError;
use cluster::shutdown::Shutdown;
use control::messages::Role;

use topology::Cpus;
use topology::placement::{Overrides, RequestError};

use self::member::{MemberArgs, SERVER_EXECUTORS, Start};
use self::nats::NO_SERVERS;
pub(super) use self::nats::NatsArgs;
use super::CommandResult;

/// Time for threads that read files or look up names, once the role has ended.
const THREADS_END_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    placement: PlacementArgs,
    #[command(subcommand)]
    asked: Asked,
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

#[derive(Debug, Subcommand)]
enum Asked {
    #[command(flatten)]
    Role(ClusterRole),
    /// Show, add, remove and pause farms of the plot-clients that run
    Farms(farms::FarmsArgs),
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
    ShardedCache(cache::ShardedCacheArgs),
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
        if self.nats.servers().is_empty() {
            return Err(NO_SERVERS.into());
        }
        let Self { nats, placement, asked } = self;
        let role = match asked {
            Asked::Role(role) => role,
            Asked::Farms(args) => return args.run(&nats),
        };
        let placement = Arc::new(placement.join(role.role())?);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().thread_name("control");
        if let Some(control) = placement.control() {
            runtime.on_thread_start(move || control.enter());
        }
        let runtime = runtime.build()?;
        let result = runtime.block_on(async {
            tokio::select! {
                result = role.run(nats, &placement) => result,
                never = placement.follow() => match never {},
            }
        });
        // A thread that hangs in a disk or in a name's lookup would be waited for without end.
        runtime.shutdown_timeout(THREADS_END_WITHIN);
        Ok(result?)
    }
}

impl ClusterRole {
    async fn run(self, nats: NatsArgs, placement: &Arc<Placement>) -> Result<(), RoleError> {
        let shutdown = Shutdown::on_signals().map_err(RoleError::own)?;
        let role = self.role();
        let bus = tokio::select! {
            bus = nats.connect(role.token()) => bus?,
            () = shutdown.requested() => return Ok(()),
        };
        let start = Start { nats: &nats, placement, bus, shutdown: shutdown.clone() };
        let running = async {
            match self {
                Self::Controller(args) => args.run(start).await,
                Self::PlotClient(args) => args.run(start).await,
                Self::PlotServer(args) => args.run(start).await,
                Self::ShardedCache(args) => args.run(start).await,
                Self::FullPieceShardedCache(args) => args.run(start).await,
                Self::ProofServer(args) => args.run(start).await,
            }
        };
        shutdown.bound(running).await.map_err(RoleError::own)?
    }
}
