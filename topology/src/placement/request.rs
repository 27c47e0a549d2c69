//! What is to be planned.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::cpus::Cpus;

/// Most instances of one role on a machine.
pub const INSTANCE_LIMIT: u32 = 64;

/// A role of the cluster, as it is named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Connects the cluster with a node.
    Controller,
    /// Keeps pieces of its own.
    ShardedCache,
    /// Keeps every piece.
    FullPieceShardedCache,
    /// Proves.
    ProofServer,
    /// Farms disks.
    PlotClient,
    /// Makes sectors.
    PlotServer,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Controller,
        Self::ShardedCache,
        Self::FullPieceShardedCache,
        Self::ProofServer,
        Self::PlotClient,
        Self::PlotServer,
    ];

    /// As on the command line.
    pub fn token(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::ShardedCache => "sharded-cache",
            Self::FullPieceShardedCache => "full-piece-sharded-cache",
            Self::ProofServer => "proof-server",
            Self::PlotClient => "plot-client",
            Self::PlotServer => "plot-server",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.token())
    }
}

/// A role and how many of it run here, written `plot-server` or `plot-server=2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleCount {
    /// The role.
    pub role: Role,
    /// How many; none: as usual, which is one plot-server for each GPU, and one of every other role.
    pub count: Option<u32>,
}

impl From<Role> for RoleCount {
    fn from(role: Role) -> Self {
        Self { role, count: None }
    }
}

impl FromStr for RoleCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, count) = text.split_once('=').map_or((text, None), |(name, count)| (name, Some(count)));
        let role = Role::ALL.into_iter().find(|role| role.token() == name);
        let role = role.ok_or_else(|| format!("there is no such role; roles are {}", tokens()))?;
        let count = match count.map(str::parse) {
            None => None,
            Some(Ok(count)) if (1..=INSTANCE_LIMIT).contains(&count) => Some(count),
            Some(_) => return Err(format!("write ROLE=N with N from 1 to {INSTANCE_LIMIT}")),
        };
        Ok(Self { role, count })
    }
}

fn tokens() -> String {
    Role::ALL.map(Role::token).join(", ")
}

/// What the operator overrules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Use these CPUs alone.
    pub cpus: Option<Cpus>,
    /// Use the CPUs of these nodes alone; empty: of all.
    pub nodes: Vec<u32>,
    /// Bind nothing: the system places threads, within the CPUs that may be used.
    pub no_pin: bool,
}

/// What runs here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Roles, in any order; of one that is named twice the last counts. Empty: plot-servers where there are GPUs, else a plot-client.
    pub roles: Vec<RoleCount>,
    /// What the operator overrules.
    pub overrides: Overrides,
}

/// A process that runs here, as the others know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its role.
    pub role: Role,
    /// Which of those with this role on the machine.
    pub number: u32,
    /// PCI bus ids of its GPUs; those that the machine has not are left out.
    pub gpus: Vec<String>,
    /// Disks that its files are on (`nvme0n1`), of a cache or a plot-client; empty where that is not known.
    pub disks: Vec<String>,
    /// How many executors it has; none: as many as would be planned.
    pub executors: Option<u32>,
    /// CPUs that it may use, those that it was given and its operator left.
    pub cpus: Cpus,
    /// Whether the system places its threads.
    pub no_pin: bool,
}

/// What cannot be planned.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RequestError {
    /// CPUs that are not there.
    #[error("--cpu-cores: this machine has no CPUs {missing}; those online are {online}")]
    NoSuchCpus {
        /// Those.
        missing: Cpus,
        /// All.
        online: Cpus,
    },
    /// CPUs that the process was not given.
    #[error(
        "--cpu-cores: {denied} are outside of the CPUs that this process was given ({allowed}) by cgroup, taskset or numactl"
    )]
    DeniedCpus {
        /// Those.
        denied: Cpus,
        /// Those given.
        allowed: Cpus,
    },
    /// A node that is not there, or has no cores.
    #[error("--numa-node: there is no node {node} with cores; those are {nodes:?}")]
    NoSuchNode {
        /// That.
        node: u32,
        /// Those that have cores.
        nodes: Vec<u32>,
    },
    /// Nothing is left.
    #[error(
        "no CPU is left to run on: --cpu-cores and --numa-node together leave none of {allowed}, the CPUs that this process was given"
    )]
    NothingLeft {
        /// Those given.
        allowed: Cpus,
    },
}
