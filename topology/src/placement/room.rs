//! The cores that may be used, by node.

use super::request::{Overrides, RequestError};
use crate::cpus::Cpus;
use crate::machine::{Core, Machine};

/// A node's cores for each core that interrupts may have alone: with fewer, it cannot do without those.
const CORES_PER_INTERRUPTS: usize = 4;

/// Cores that may be used.
#[derive(Debug)]
pub(super) struct Room {
    /// Nodes with at least one such core, ascending.
    pub nodes: Vec<NodeRoom>,
}

/// A core, with the CPUs of it that may be used: at least one.
#[derive(Debug, Clone)]
pub(super) struct RoomCore {
    /// Its L3 cache.
    pub l3: Option<u32>,
    /// Its CPUs.
    pub cpus: Vec<u32>,
}

/// Those of a node.
#[derive(Debug)]
pub(super) struct NodeRoom {
    /// The node.
    pub node: u32,
    /// Its package.
    pub package: Option<u32>,
    /// Cores, neighbours in an L3 cache side by side.
    pub cores: Vec<RoomCore>,
}

impl Room {
    pub(super) fn new(machine: &Machine, overrides: &Overrides) -> Result<Self, RequestError> {
        let usable = usable(machine, overrides)?;
        let is_chosen = |node: &u32| overrides.nodes.is_empty() || overrides.nodes.contains(node);
        let mut room = Self::with(machine, &usable);
        room.nodes.retain(|room| is_chosen(&room.node));
        if room.nodes.is_empty() {
            return Err(RequestError::NothingLeft { allowed: machine.allowed.clone() });
        }
        Ok(room)
    }

    /// The cores of these CPUs; none where none of them is online.
    pub(super) fn of(machine: &Machine, cpus: &Cpus) -> Option<Self> {
        Some(Self::with(machine, cpus)).filter(|room| !room.nodes.is_empty())
    }

    fn with(machine: &Machine, usable: &Cpus) -> Self {
        let node_room = |node| {
            let usable = |core: &Core| RoomCore {
                l3: core.l3,
                cpus: core.cpus.iter().copied().filter(|&cpu| usable.contains(cpu)).collect(),
            };
            let cores: Vec<_> =
                machine.cores_of_node(node).map(usable).filter(|core| !core.cpus.is_empty()).collect();
            NodeRoom { node, package: machine.package_of_node(node), cores }
        };
        let mut nodes: Vec<_> = machine.nodes_with_cores().into_iter().map(node_room).collect();
        nodes.retain(|node| !node.cores.is_empty());
        Self { nodes }
    }

    /// Leaves the cores that interrupts go to, where they are few, to them: these CPUs.
    pub(super) fn leave_interrupts(&mut self, machine: &Machine) -> Cpus {
        let mut left = Cpus::default();
        for node in &mut self.nodes {
            let (taken, free): (Vec<_>, Vec<_>) = node
                .cores
                .iter()
                .cloned()
                .partition(|core| core.cpus.iter().any(|&cpu| machine.interrupts.contains(cpu)));
            if taken.len() * CORES_PER_INTERRUPTS <= node.cores.len() {
                left.extend(taken.iter().flat_map(|core| core.cpus.iter().copied()));
                node.cores = free;
            }
        }
        left
    }

    /// Every CPU in it.
    pub(super) fn cpus(&self) -> Cpus {
        self.nodes
            .iter()
            .flat_map(|node| node.cores.iter().flat_map(|core| core.cpus.iter().copied()))
            .collect()
    }

    /// Whether there is a core on `node`.
    pub(super) fn has(&self, node: u32) -> bool {
        self.nodes.iter().any(|room| room.node == node)
    }

    /// Where to be for the sake of something near to `near`: on the first of these nodes with a core; else in the same package; else on
    /// the node with the most cores.
    pub(super) fn nearest(&self, machine: &Machine, near: &[u32]) -> u32 {
        if let Some(&node) = near.iter().find(|&&node| self.has(node)) {
            return node;
        }
        let packages: Vec<_> = near.iter().filter_map(|&node| machine.package_of_node(node)).collect();
        let shares_package =
            |room: &NodeRoom| room.package.is_some_and(|package| packages.contains(&package));
        let best = self.nodes.iter().rev().max_by_key(|room| (shares_package(room), room.cores.len()));
        best.expect("a room has a node").node
    }
}

/// The CPUs that may be used.
fn usable(machine: &Machine, overrides: &Overrides) -> Result<Cpus, RequestError> {
    let nodes = machine.nodes_with_cores();
    if let Some(&node) = overrides.nodes.iter().find(|node| !nodes.contains(node)) {
        return Err(RequestError::NoSuchNode { node, nodes });
    }
    let Some(cpus) = &overrides.cpus else { return Ok(machine.allowed.clone()) };
    let online = machine.online();
    let missing = cpus.without(&online);
    if !missing.is_empty() {
        return Err(RequestError::NoSuchCpus { missing, online });
    }
    let denied = cpus.without(&machine.allowed);
    if !denied.is_empty() {
        return Err(RequestError::DeniedCpus { denied, allowed: machine.allowed.clone() });
    }
    Ok(cpus.clone())
}
