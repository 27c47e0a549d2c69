//! The machine as placement sees it. Plain data: who found it out, and how, is not known here.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::cpus::Cpus;

/// A machine: what it has, and which of its CPUs this process may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Where this was learned, for people: `this machine`, a file's name, a description.
    pub source: String,
    /// NUMA nodes, by number; at least one. Nodes without cores have memory alone.
    pub nodes: Vec<Node>,
    /// Cores that are online, ordered by node, L3 cache and CPU number; at least one.
    pub cores: Vec<Core>,
    /// NVIDIA GPUs, by PCI bus id.
    pub gpus: Vec<Gpu>,
    /// Network interfaces on PCI, by PCI bus id.
    pub nics: Vec<Nic>,
    /// Disks on PCI, by PCI bus id.
    pub disks: Vec<Disk>,
    /// CPUs that this process was given (cgroup's cpuset, taskset, numactl); some of those of `cores`, at least one.
    pub allowed: Cpus,
    /// CPUs that interrupts go to unless told otherwise (the kernel's `irqaffinity=`); empty where that is not known.
    pub interrupts: Cpus,
    /// What was unclear about the machine.
    pub doubts: Vec<String>,
}

/// A NUMA node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The system's number.
    pub index: u32,
    /// Memory, if known.
    pub memory_bytes: Option<u64>,
}

/// A core, with its hyper-threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Core {
    /// The package (socket), counted from 0.
    pub package: u32,
    /// The NUMA node nearest to it.
    pub node: u32,
    /// The L3 cache, counted from 0 over the machine; none where there is none or it is not known.
    pub l3: Option<u32>,
    /// Its CPUs, ascending: one, or as many as it has hyper-threads online.
    pub cpus: Vec<u32>,
}

/// Where on PCI a device is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pci {
    /// `0000:83:00.0`.
    pub bus_id: String,
    /// Nodes with cores that it is near to: one, several where a package has several nodes, none where nobody knows.
    pub near: Vec<u32>,
    /// Bridges above it, from the host's downwards, by numbers that are the same for the same bridge.
    pub bridges: Vec<u64>,
}

/// What CUDA calls a GPU in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cuda {
    /// Its ordinal.
    Ordinal(u32),
    /// `CUDA_VISIBLE_DEVICES` hides it.
    Hidden,
    /// The documented rules do not tell.
    Unknown,
}

/// An NVIDIA GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Where.
    pub pci: Pci,
    /// Its model, as a name or as PCI ids. GPUs with the same text are the same.
    pub model: String,
    /// `GPU-8932f937-…`, if known.
    pub uuid: Option<String>,
    /// What CUDA calls it.
    pub cuda: Cuda,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Where.
    pub pci: Pci,
    /// `eth0`.
    pub name: String,
    /// Its addresses, or those of the bond it belongs to; none where the machine is not this one.
    pub addresses: Vec<IpAddr>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Where.
    pub pci: Pci,
    /// `nvme0n1`.
    pub name: String,
    /// Where its file systems are mounted; none where the machine is not this one.
    pub mounts: Vec<PathBuf>,
}

/// How two devices reach each other, in the words of `nvidia-smi topo -m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// Over at most a single PCI bridge.
    Pix,
    /// Over several PCI bridges, not over the host's.
    Pxb,
    /// Over the host's bridge.
    Phb,
    /// Within a NUMA node, over the connection of host bridges.
    Node,
    /// Over the connection of NUMA nodes.
    Sys,
    /// Nobody knows.
    Unknown,
}

impl Link {
    /// As `nvidia-smi` writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pix => "PIX",
            Self::Pxb => "PXB",
            Self::Phb => "PHB",
            Self::Node => "NODE",
            Self::Sys => "SYS",
            Self::Unknown => "?",
        }
    }
}

impl Pci {
    /// The one node it is on, if there is one.
    pub fn node(&self) -> Option<u32> {
        if let [node] = self.near[..] { Some(node) } else { None }
    }

    /// Whether it is near to `node`.
    pub fn is_near(&self, node: u32) -> bool {
        self.near.contains(&node)
    }

    /// Keeps of `near` those of `nodes`, which are all nodes with cores. Near to each of several means that the firmware did not say.
    pub(crate) fn keep_near(&mut self, nodes: &[u32]) {
        self.near.retain(|node| nodes.contains(node));
        if nodes.len() > 1 && self.near.len() == nodes.len() {
            self.near.clear();
        }
    }

    /// How it and `other` reach each other.
    pub fn link(&self, other: &Self) -> Link {
        let shared = self.bridges.iter().zip(&other.bridges).take_while(|(a, b)| a == b).count();
        match shared {
            0 if self.near.is_empty() || other.near.is_empty() => Link::Unknown,
            0 if self.near.iter().any(|node| other.is_near(*node)) => Link::Node,
            0 => Link::Sys,
            1 => Link::Phb,
            _ if shared == self.bridges.len() && shared == other.bridges.len() => Link::Pix,
            _ => Link::Pxb,
        }
    }
}

impl Gpu {
    /// The ordinal, where it is certain.
    pub fn ordinal(&self) -> Option<u32> {
        if let Cuda::Ordinal(ordinal) = self.cuda { Some(ordinal) } else { None }
    }

    /// For people: `GPU 2 (0000:83:00.0)`.
    pub fn label(&self) -> String {
        match self.ordinal() {
            Some(ordinal) => format!("GPU {ordinal} ({})", self.pci.bus_id),
            None => format!("GPU {}", self.pci.bus_id),
        }
    }
}

impl Machine {
    /// All CPUs that are online.
    pub fn online(&self) -> Cpus {
        self.cores.iter().flat_map(|core| core.cpus.iter().copied()).collect()
    }

    /// The CPUs of a node.
    pub fn cpus_of_node(&self, node: u32) -> Cpus {
        self.cores_of_node(node).flat_map(|core| core.cpus.iter().copied()).collect()
    }

    /// The cores of a node.
    pub fn cores_of_node(&self, node: u32) -> impl Iterator<Item = &Core> {
        self.cores.iter().filter(move |core| core.node == node)
    }

    /// Nodes that have cores, ascending.
    pub fn nodes_with_cores(&self) -> Vec<u32> {
        let nodes: BTreeSet<u32> = self.cores.iter().map(|core| core.node).collect();
        nodes.into_iter().collect()
    }

    /// Packages, ascending.
    pub fn packages(&self) -> Vec<u32> {
        let packages: BTreeSet<u32> = self.cores.iter().map(|core| core.package).collect();
        packages.into_iter().collect()
    }

    /// The package of a node; none if it has no cores.
    pub fn package_of_node(&self, node: u32) -> Option<u32> {
        self.cores_of_node(node).map(|core| core.package).next()
    }

    /// L3 caches, counted.
    pub fn l3_count(&self) -> usize {
        self.cores.iter().filter_map(|core| core.l3).collect::<BTreeSet<_>>().len()
    }

    /// Puts everything into the order that the fields promise, whatever the order it was found in.
    pub(crate) fn sort(&mut self) {
        self.nodes.sort_by_key(|node| node.index);
        self.cores.iter_mut().for_each(|core| core.cpus.sort_unstable());
        self.cores.sort_by_key(|core| (core.node, core.l3, core.cpus.first().copied()));
        self.gpus.sort_by(|a, b| a.pci.bus_id.cmp(&b.pci.bus_id));
        self.nics.sort_by(|a, b| (&a.pci.bus_id, &a.name).cmp(&(&b.pci.bus_id, &b.name)));
        self.disks.sort_by(|a, b| (&a.pci.bus_id, &a.name).cmp(&(&b.pci.bus_id, &b.name)));
    }
}
