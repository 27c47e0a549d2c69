//! Which instances run here, and what threads each of them wants, on which node and why. How many cores there are to give is not
//! decided here.

use std::collections::BTreeMap;
use std::path::Path;

use super::plan::{Kind, Thread};
use super::request::{Member, Role, RoleCount};
use super::room::Room;
use crate::machine::{Cuda, Disk, Machine, Nic};

/// A node's cores for each executor of a plot-client, at least: more executors than that leave no core for anything else.
const CORES_PER_DISK_EXECUTOR: usize = 4;
/// The same for the other roles, whose executors have less to do.
const CORES_PER_SERVER_EXECUTOR: usize = 8;
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
    /// Indices of its GPUs in the machine.
    pub gpus: Vec<usize>,
    /// Where its control runs.
    pub home: u32,
    /// Threads and pools, control not among them.
    pub demands: Vec<Demand>,
}

/// A thread or a pool that is wanted on a node.
#[derive(Debug, Clone)]
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

/// An instance that has no place yet.
#[derive(Debug)]
pub(super) struct Wanted {
    pub role: Role,
    pub number: u32,
    /// Indices of its GPUs in the machine.
    pub gpus: Vec<usize>,
    /// Indices of the disks that its files are on, if known.
    pub disks: Vec<usize>,
    /// How many have its role.
    pub peers: u32,
    /// How many executors it has, where that is settled.
    pub executors: Option<usize>,
}

/// An instance that has a place but no threads yet.
struct Seat {
    role: Role,
    number: u32,
    gpus: Vec<usize>,
    disks: Vec<usize>,
    home: u32,
    /// Nodes that it computes on: always its home, unless it computes nothing.
    span: Vec<u32>,
    peers: u32,
    executors: Option<usize>,
}

/// All instances, in the order of roles and numbers.
pub(super) fn instances(machine: &Machine, room: &Room, wanted: Vec<Wanted>) -> Vec<Instance> {
    let mut seats: Vec<_> = wanted.into_iter().map(|wanted| seat(machine, room, wanted)).collect();
    seats.sort_by_key(|seat| (seat.role, seat.number));
    let crowd =
        |node: u32| seats.iter().filter(|seat| seat.home == node || seat.span.contains(&node)).count();
    seats
        .iter()
        .map(|seat| Instance {
            role: seat.role,
            number: seat.number,
            gpus: seat.gpus.clone(),
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

/// What is to run where nobody runs yet.
pub(super) fn to_run(machine: &Machine, roles: &[RoleCount]) -> Vec<Wanted> {
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
    let mut wanted = Vec::new();
    for (role, count) in counts {
        let peers = count.unwrap_or(usual_count(role));
        for number in 0..peers {
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
            let gpus = slot.map(|slot| gpus[slot]).into_iter().collect();
            wanted.push(Wanted { role, number, gpus, disks: Vec::new(), peers, executors: None });
        }
    }
    wanted
}

/// What runs.
pub(super) fn running(machine: &Machine, members: &[&Member]) -> Vec<Wanted> {
    let wanted = |member: &&Member| {
        let gpu = |bus_id: &String| machine.gpus.iter().position(|gpu| gpu.pci.bus_id == *bus_id);
        let disk = |name: &String| machine.disks.iter().position(|disk| disk.name == *name);
        let peers = members.iter().filter(|other| other.role == member.role).count();
        Wanted {
            role: member.role,
            number: member.number,
            gpus: member.gpus.iter().filter_map(gpu).collect(),
            disks: member.disks.iter().filter_map(disk).collect(),
            peers: u32::try_from(peers).unwrap_or(u32::MAX),
            executors: member.executors.map(|executors| executors as usize),
        }
    };
    members.iter().map(wanted).collect()
}

fn seat(machine: &Machine, room: &Room, wanted: Wanted) -> Seat {
    let Wanted { role, number, gpus, disks, peers, executors } = wanted;
    let all: Vec<u32> = room.nodes.iter().map(|node| node.node).collect();
    let near_nic = nics(machine).first().map_or(&[][..], |nic| &nic.pci.near);
    let mut of_gpus: Vec<u32> = gpus.iter().map(|&gpu| node_of_gpu(machine, room, gpu)).collect();
    let home = match (role, of_gpus.first()) {
        (_, Some(&node)) => node,
        (Role::ShardedCache | Role::FullPieceShardedCache, _) => match disks.first() {
            Some(&disk) => room.nearest(machine, &machine.disks[disk].pci.near),
            None => cache_node(machine, room, number),
        },
        _ if peers > 1 => all[number as usize % all.len()],
        _ => room.nearest(machine, near_nic),
    };
    of_gpus.sort_unstable();
    of_gpus.dedup();
    let span = match role {
        Role::ShardedCache | Role::FullPieceShardedCache => Vec::new(),
        _ if !of_gpus.is_empty() => of_gpus,
        Role::ProofServer | Role::PlotClient | Role::PlotServer if peers == 1 => all,
        _ => vec![home],
    };
    Seat { role, number, gpus, disks, home, span, peers, executors }
}

fn node_of_gpu(machine: &Machine, room: &Room, gpu: usize) -> u32 {
    room.nearest(machine, &machine.gpus[gpu].pci.near)
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
    let most = |node: u32, each: usize| (cores(node) / (each * crowd(node).max(1))).max(1);
    let mut demands = feeders(machine, room, seat);
    let mut executors = Vec::new();
    let disks = if seat.role == Role::PlotClient { farm_disks(machine, seat) } else { Vec::new() };
    if disks.is_empty() {
        let (wanted, each) = match seat.role {
            Role::Controller | Role::ProofServer => (1, CORES_PER_SERVER_EXECUTOR),
            Role::PlotClient => (DISKLESS_EXECUTORS, CORES_PER_DISK_EXECUTOR),
            _ => (SERVER_EXECUTORS, CORES_PER_SERVER_EXECUTOR),
        };
        let reason = executor_reason(machine, seat);
        executors.extend((0..wanted.min(most(seat.home, each))).map(|_| executor(seat.home, reason.clone())));
    } else {
        executors.extend(disk_executors(machine, room, &disks, &|node| most(node, CORES_PER_DISK_EXECUTOR)));
    }
    let count = seat.executors.unwrap_or(executors.len());
    let numbered = executors.iter().cycle().take(count).cloned().enumerate();
    demands
        .extend(numbered.map(|(number, executor)| Demand { name: format!("executor-{number}"), ..executor }));
    demands.extend(seat.span.iter().map(|&node| pool(seat, node)));
    demands
}

/// A feeder for each of its GPUs.
fn feeders(machine: &Machine, room: &Room, seat: &Seat) -> Vec<Demand> {
    let name = |number| if seat.gpus.len() == 1 { "feeder".into() } else { format!("feeder-{number}") };
    let gpus = seat.gpus.iter().enumerate();
    gpus.map(|(number, &gpu)| feeder(machine, name(number), node_of_gpu(machine, room, gpu), gpu)).collect()
}

fn feeder(machine: &Machine, name: String, node: u32, gpu: usize) -> Demand {
    let gpu = &machine.gpus[gpu];
    let reason = match gpu.pci.near.first() {
        None => format!("{} says no node", gpu.label()),
        Some(_) if gpu.pci.is_near(node) => format!("{} is on node {node}", gpu.label()),
        Some(far) => format!("{} is on node {far}, which has no CPU to use", gpu.label()),
    };
    Demand { kind: Kind::Feeder, name, node, reason, weight: 0 }
}

fn executor(node: u32, reason: String) -> Demand {
    Demand { kind: Kind::Executor, name: String::new(), node, reason, weight: 0 }
}

fn executor_reason(machine: &Machine, seat: &Seat) -> String {
    let nic = nics(machine).into_iter().find(|nic| nic.pci.is_near(seat.home));
    let is_cache = matches!(seat.role, Role::ShardedCache | Role::FullPieceShardedCache);
    let own = seat.disks.iter().map(|&disk| &machine.disks[disk]);
    let disk = own.chain(&machine.disks).find(|disk| is_cache && disk.pci.is_near(seat.home));
    match (disk, nic, seat.gpus.first()) {
        (Some(disk), Some(nic), _) => format!("near {} and {}", disk.name, nic.name),
        (Some(disk), None, _) => format!("near {}", disk.name),
        (None, Some(nic), _) => format!("near {}", nic.name),
        (None, None, Some(_)) => {
            format!("beside the GPU's buffers; no network interface is known on node {}", seat.home)
        }
        (None, None, None) => "no network interface or NVMe is known to be nearer".into(),
    }
}

/// Disks that a plot-client's farms are on, or else can be on: all but the system's, if there are others. Several plot-clients take them in turn.
fn farm_disks<'a>(machine: &'a Machine, seat: &Seat) -> Vec<&'a Disk> {
    if !seat.disks.is_empty() {
        return seat.disks.iter().map(|&disk| &machine.disks[disk]).collect();
    }
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
