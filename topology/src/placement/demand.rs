//! Which instances run here, and what threads each of them wants, on which node and why. How many cores there are to give is not
//! decided here.

use std::collections::BTreeMap;
use std::path::Path;

use super::plan::{Kind, Thread};
use super::request::{Role, RoleCount};
use super::room::Room;
use crate::machine::{Cuda, Disk, Machine, Nic};

/// A node's cores for each executor of an instance, at least: more executors than that leave no core for anything else.
const CORES_PER_EXECUTOR: usize = 4;
/// Executors of a server or cache: one moves more than two 10-Gbit links bring, a second one keeps TLS off the first.
const SERVER_EXECUTORS: usize = 2;
/// Executors of a plot-client whose disks are not known.
const DISKLESS_EXECUTORS: usize = 4;

/// A process to be.
#[derive(Debug)]
pub(super) struct Instance {
    pub role: Role,
    /// Among those with its role.
    pub number: u32,
    /// Index of its GPU in the machine.
    pub gpu: Option<usize>,
    /// Where its control runs.
    pub home: u32,
    /// Threads and pools, control not among them.
    pub demands: Vec<Demand>,
}

/// A thread or a pool that is wanted on a node.
#[derive(Debug)]
pub(super) struct Demand {
    pub kind: Kind,
    pub name: String,
    pub node: u32,
    pub reason: String,
    /// Share of a pool in the cores that are left; others: 0.
    pub weight: usize,
}

impl Instance {
    /// For people: `plot-server 2`.
    pub(super) fn label(&self) -> String {
        format!("{} {}", self.role, self.number)
    }

    /// Its threads where nothing is bound.
    pub(super) fn unpinned(&self, room: &Room) -> Vec<Thread> {
        let numa_node = if let [node] = &room.nodes[..] { Some(node.node) } else { None };
        let thread = |(kind, name): (Kind, &str)| Thread {
            name: name.into(),
            kind,
            pus: room.cpus(),
            numa_node,
            reason: "not bound (--no-pin): the system places it".into(),
        };
        let demands = self.demands.iter().map(|demand| (demand.kind, demand.name.as_str()));
        demands.chain([(Kind::Control, "control")]).map(thread).collect()
    }
}

/// An instance that has a place but no threads yet.
struct Seat {
    role: Role,
    number: u32,
    gpu: Option<usize>,
    home: u32,
    /// Nodes that it computes on: always its home, unless it computes nothing.
    span: Vec<u32>,
    /// How many have its role.
    peers: u32,
}

/// All instances, in the order of roles and numbers.
pub(super) fn instances(machine: &Machine, room: &Room, roles: &[RoleCount]) -> Vec<Instance> {
    let seats = seats(machine, room, roles);
    let crowd =
        |node: u32| seats.iter().filter(|seat| seat.home == node || seat.span.contains(&node)).count();
    seats
        .iter()
        .map(|seat| Instance {
            role: seat.role,
            number: seat.number,
            gpu: seat.gpu,
            home: seat.home,
            demands: demands(machine, room, seat, &crowd),
        })
        .collect()
}

/// GPUs that may be used, by ordinal where there is one.
pub(super) fn visible_gpus(machine: &Machine) -> Vec<usize> {
    let gpus = machine.gpus.iter().enumerate().filter(|(_, gpu)| gpu.cuda != Cuda::Hidden);
    let mut gpus: Vec<_> = gpus.map(|(index, gpu)| (gpu.ordinal().unwrap_or(u32::MAX), index)).collect();
    gpus.sort_unstable();
    gpus.into_iter().map(|(_, index)| index).collect()
}

fn seats(machine: &Machine, room: &Room, roles: &[RoleCount]) -> Vec<Seat> {
    let gpus = visible_gpus(machine);
    let usual = if gpus.is_empty() { Role::PlotClient } else { Role::PlotServer };
    let mut counts: BTreeMap<Role, Option<u32>> =
        roles.iter().map(|role_count| (role_count.role, role_count.count)).collect();
    if counts.is_empty() {
        counts.insert(usual, None);
    }
    let usual_count = |role| match role {
        Role::PlotServer => u32::try_from(gpus.len()).unwrap_or(u32::MAX).max(1),
        _ => 1,
    };
    // Plot-servers take GPUs in their order; a proof-server takes the one with the fewest of them.
    let plot_servers =
        counts.get(&Role::PlotServer).map_or(0, |count| count.unwrap_or(usual_count(Role::PlotServer)));
    let mut users = vec![0_usize; gpus.len()];
    (0..plot_servers as usize)
        .filter(|_| !gpus.is_empty())
        .for_each(|number| users[number % gpus.len()] += 1);
    let mut seats = Vec::new();
    for (role, count) in counts {
        let count = count.unwrap_or(usual_count(role));
        for number in 0..count {
            let slot = match role {
                _ if gpus.is_empty() => None,
                Role::PlotServer => Some(number as usize % gpus.len()),
                Role::ProofServer => {
                    let slot = (0..gpus.len()).min_by_key(|&slot| users[slot]).expect("there is a GPU");
                    users[slot] += 1;
                    Some(slot)
                }
                _ => None,
            };
            seats.push(seat(machine, room, role, number, slot.map(|slot| gpus[slot]), count));
        }
    }
    seats
}

fn seat(machine: &Machine, room: &Room, role: Role, number: u32, gpu: Option<usize>, count: u32) -> Seat {
    let all: Vec<u32> = room.nodes.iter().map(|node| node.node).collect();
    let near_nic = nics(machine).first().map_or(&[][..], |nic| &nic.pci.near);
    let home = match (role, gpu) {
        (_, Some(gpu)) => room.nearest(machine, &machine.gpus[gpu].pci.near),
        (Role::ShardedCache | Role::FullPieceShardedCache, _) => cache_node(machine, room, number),
        _ if count > 1 => all[number as usize % all.len()],
        _ => room.nearest(machine, near_nic),
    };
    let spans_all = count == 1 && gpu.is_none();
    let span = match role {
        Role::ShardedCache | Role::FullPieceShardedCache => Vec::new(),
        Role::ProofServer | Role::PlotClient | Role::PlotServer if spans_all => all,
        _ => vec![home],
    };
    Seat { role, number, gpu, home, span, peers: count }
}

/// The node of a cache: one with NVMe and network, caches of one role on such nodes in turn.
fn cache_node(machine: &Machine, room: &Room, number: u32) -> u32 {
    let score = |node: u32| {
        let disks = machine.disks.iter().filter(|disk| disk.pci.is_near(node)).count();
        let has_nic = nics(machine).iter().any(|nic| nic.pci.is_near(node));
        (disks > 0 && has_nic, disks > 0, has_nic)
    };
    let best = room.nodes.iter().map(|node| score(node.node)).max();
    let nodes: Vec<u32> =
        room.nodes.iter().map(|node| node.node).filter(|&node| Some(score(node)) == best).collect();
    nodes[number as usize % nodes.len()]
}

/// Interfaces that are in use: those with addresses, or all where no address is known.
pub(super) fn nics(machine: &Machine) -> Vec<&Nic> {
    let in_use: Vec<_> = machine.nics.iter().filter(|nic| !nic.addresses.is_empty()).collect();
    if in_use.is_empty() { machine.nics.iter().collect() } else { in_use }
}

fn demands(machine: &Machine, room: &Room, seat: &Seat, crowd: &dyn Fn(u32) -> usize) -> Vec<Demand> {
    let cores = |node: u32| {
        let here = room.nodes.iter().find(|room| room.node == node);
        here.map_or(1, |here| here.cores.len())
    };
    let most = |node: u32| (cores(node) / (CORES_PER_EXECUTOR * crowd(node).max(1))).max(1);
    let mut demands: Vec<_> = seat.gpu.map(|gpu| feeder(machine, seat.home, gpu)).into_iter().collect();
    let disks = if seat.role == Role::PlotClient { farm_disks(machine, seat) } else { Vec::new() };
    if disks.is_empty() {
        let wanted = match seat.role {
            Role::Controller | Role::ProofServer => 1,
            Role::PlotClient => DISKLESS_EXECUTORS,
            _ => SERVER_EXECUTORS,
        };
        let reason = executor_reason(machine, seat);
        demands.extend((0..wanted.min(most(seat.home))).map(|_| executor(seat.home, reason.clone())));
    } else {
        demands.extend(disk_executors(machine, room, &disks, &most));
    }
    let executors = demands.iter_mut().filter(|demand| demand.kind == Kind::Executor);
    executors.enumerate().for_each(|(number, executor)| executor.name = format!("executor-{number}"));
    demands.extend(seat.span.iter().map(|&node| pool(seat, node)));
    demands
}

fn feeder(machine: &Machine, node: u32, gpu: usize) -> Demand {
    let gpu = &machine.gpus[gpu];
    let reason = match gpu.pci.near.first() {
        None => format!("{} says no node", gpu.label()),
        Some(_) if gpu.pci.is_near(node) => format!("{} is on node {node}", gpu.label()),
        Some(far) => format!("{} is on node {far}, which has no CPU to use", gpu.label()),
    };
    Demand { kind: Kind::Feeder, name: "feeder".into(), node, reason, weight: 0 }
}

fn executor(node: u32, reason: String) -> Demand {
    Demand { kind: Kind::Executor, name: String::new(), node, reason, weight: 0 }
}

fn executor_reason(machine: &Machine, seat: &Seat) -> String {
    let nic = nics(machine).into_iter().find(|nic| nic.pci.is_near(seat.home));
    let is_cache = matches!(seat.role, Role::ShardedCache | Role::FullPieceShardedCache);
    let disk = machine.disks.iter().find(|disk| is_cache && disk.pci.is_near(seat.home));
    match (disk, nic, seat.gpu) {
        (Some(disk), Some(nic), _) => format!("near {} and {}", disk.name, nic.name),
        (Some(disk), None, _) => format!("near {}", disk.name),
        (None, Some(nic), _) => format!("near {}", nic.name),
        (None, None, Some(_)) => {
            format!("beside the GPU's buffers; no network interface is known on node {}", seat.home)
        }
        (None, None, None) => "no network interface or NVMe is known to be nearer".into(),
    }
}

/// Disks that a plot-client's farms can be on: all but the system's, if there are others. Several plot-clients take them in turn.
fn farm_disks<'a>(machine: &'a Machine, seat: &Seat) -> Vec<&'a Disk> {
    let is_system = |disk: &Disk| disk.mounts.iter().any(|path| path == Path::new("/"));
    let others: Vec<_> = machine.disks.iter().filter(|disk| !is_system(disk)).collect();
    let all = if others.is_empty() { machine.disks.iter().collect() } else { others };
    all.into_iter().skip(seat.number as usize).step_by(seat.peers as usize).collect()
}

/// One executor a disk, on the disk's node; several disks to an executor where there are too few cores.
fn disk_executors(
    machine: &Machine,
    room: &Room,
    disks: &[&Disk],
    most: &dyn Fn(u32) -> usize,
) -> Vec<Demand> {
    let mut by_node: BTreeMap<u32, Vec<&Disk>> = BTreeMap::new();
    for disk in disks {
        by_node.entry(room.nearest(machine, &disk.pci.near)).or_default().push(disk);
    }
    let on_node = |(node, disks): (u32, Vec<&Disk>)| {
        let executors = disks.len().min(most(node));
        let reason = move |number: usize| {
            let its: Vec<_> =
                disks.iter().skip(number).step_by(executors).map(|disk| disk_label(disk)).collect();
            let are_near = disks.iter().all(|disk| disk.pci.is_near(node));
            format!("{} {}", if are_near { "near" } else { "as near as may be to" }, its.join(", "))
        };
        (0..executors).map(move |number| executor(node, reason(number))).collect::<Vec<_>>()
    };
    by_node.into_iter().flat_map(on_node).collect()
}

fn disk_label(disk: &Disk) -> String {
    match disk.mounts.first() {
        Some(path) => format!("{} ({})", disk.name, path.display()),
        None => disk.name.clone(),
    }
}

/// A pool on a node of an instance. What does the cluster's heaviest work gets the most of what is left.
fn pool(seat: &Seat, node: u32) -> Demand {
    let weight = match seat.role {
        Role::PlotServer => 4,
        Role::PlotClient | Role::ProofServer => 2,
        _ => 1,
    };
    let name = if seat.span.len() > 1 { format!("compute-node{node}") } else { "compute".into() };
    Demand { kind: Kind::Compute, name, node, reason: String::new(), weight }
}
