//! The plan, as it is printed and written as JSON.

use serde::Serialize;

use super::Role;
use crate::cpus::Cpus;
use crate::machine::Gpu;

/// Who runs where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// One entry for each instance of a role, in the order of roles and numbers.
    pub plan: Vec<Assignment>,
    /// What an expert should look at.
    pub warnings: Vec<String>,
}

/// One instance of a role: a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assignment {
    /// Its role.
    pub role: Role,
    /// Which of those with the same role on this machine, from 0.
    pub instance: u32,
    /// The GPU it works with; of several the first.
    pub gpu: Option<PlannedGpu>,
    /// All of them where there are several, in the order of their feeders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<PlannedGpu>,
    /// Its threads.
    pub threads: Vec<Thread>,
}

/// A GPU, as the plan names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedGpu {
    /// `0000:83:00.0`.
    pub pci_bus_id: String,
    /// CUDA's ordinal, where it is certain.
    pub ordinal: Option<u32>,
    /// Its node, where it is known.
    pub numa_node: Option<u32>,
}

impl PlannedGpu {
    pub(super) fn of(gpu: &Gpu) -> Self {
        Self { pci_bus_id: gpu.pci.bus_id.clone(), ordinal: gpu.ordinal(), numa_node: gpu.pci.node() }
    }
}

/// A thread, or a pool of threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Thread {
    /// `executor-0`; unique in its instance.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// CPUs that it may run on: one for an executor or a feeder, as many as there are for a pool.
    pub pus: Cpus,
    /// The node of all of them, if it is one.
    pub numa_node: Option<u32>,
    /// Why there.
    pub reason: String,
}

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Brings work to a GPU and fetches its results.
    Feeder,
    /// Moves bytes between disks and wire.
    Executor,
    /// A pool of threads that compute.
    Compute,
    /// Bus, node, timers.
    Control,
}

impl Kind {
    /// As in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Feeder => "feeder",
            Self::Executor => "executor",
            Self::Compute => "compute",
            Self::Control => "control",
        }
    }
}
