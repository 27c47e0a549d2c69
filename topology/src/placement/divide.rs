//! Divides the cores of each node among the instances on it, and each instance's among its threads.
//!
//! A *unit* is what one thread gets: a core, or, where there are more threads than cores, a hyper-thread. An instance has neighbouring
//! units, so that it shares L3 caches with itself rather than with others.

use std::collections::BTreeSet;
use std::ops::Range;

use super::demand::{Demand, Instance};
use super::plan::{Kind, Thread};
use super::room::{NodeRoom, Room, RoomCore};

/// Cores that are left on a node for each control that gets one: it has little to do, and pools can use them.
const CORES_PER_CONTROL: usize = 8;
/// Up to so many cores for each instance there is nothing to divide: a pool of a core or two loses more than it gains by having them alone.
const FEW_CORES: usize = 2;

/// What an instance wants on one node.
struct Share<'a> {
    instance: usize,
    /// Feeders and executors: one unit each.
    fixed: Vec<&'a Demand>,
    /// At least one unit, and its part of what is left.
    pool: Option<&'a Demand>,
    /// Whether its control runs on this node.
    has_control: bool,
    /// Whether there is a core for it.
    control_has_core: bool,
}

impl Share<'_> {
    /// Units without which threads of it share.
    fn least(&self) -> usize {
        let threads = self.fixed.len() + usize::from(self.pool.is_some());
        threads + usize::from(self.control_has_core)
    }

    fn weight(&self) -> usize {
        self.pool.map_or(0, |pool| pool.weight)
    }
}

/// The threads of each instance.
pub(super) fn divide(room: &Room, instances: &[Instance], warnings: &mut Vec<String>) -> Vec<Vec<Thread>> {
    let mut threads: Vec<Vec<Thread>> = instances.iter().map(|_| Vec::new()).collect();
    for node in &room.nodes {
        let shares = shares(node, instances);
        if shares.is_empty() {
            let cores = node.cores.len();
            warnings.push(format!("node {}: nothing here has work for its {cores} cores", node.node));
            continue;
        }
        let units = units(&node.cores, shares.iter().map(Share::least).sum());
        let ranges = ranges(units.len(), &shares);
        warnings.extend(shortage(node, &units, &shares));
        let are_few = are_few(node, &units, &shares);
        for (share, range) in shares.iter().zip(ranges) {
            let mut placed = place(node.node, share, &units[range]);
            if are_few {
                placed.iter_mut().for_each(|thread| free(node, thread));
            }
            threads[share.instance].extend(placed);
        }
    }
    // A node at a time is not how people read it.
    threads.iter_mut().for_each(|threads| threads.sort_by_key(|thread| thread.kind));
    threads
}

/// Those who want something on this node, the biggest first: their ranges then begin where L3 caches do.
fn shares<'a>(node: &NodeRoom, instances: &'a [Instance]) -> Vec<Share<'a>> {
    let share = |(index, instance): (usize, &'a Instance)| {
        let here = || instance.demands.iter().filter(|demand| demand.node == node.node);
        Share {
            instance: index,
            fixed: here().filter(|demand| demand.kind != Kind::Compute).collect(),
            pool: here().find(|demand| demand.kind == Kind::Compute),
            has_control: instance.home == node.node,
            control_has_core: false,
        }
    };
    let is_here = |share: &Share| !share.fixed.is_empty() || share.pool.is_some();
    let mut shares: Vec<_> = instances.iter().enumerate().map(share).filter(is_here).collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.weight()));
    let least: usize = shares.iter().map(Share::least).sum();
    let left = node.cores.len().saturating_sub(least);
    let is_wanted = shares.iter().any(|share| share.pool.is_some());
    let with_core = if is_wanted { left / CORES_PER_CONTROL } else { left };
    let wanting = shares.iter_mut().filter(|share| share.has_control);
    wanting.take(with_core).for_each(|share| share.control_has_core = true);
    shares
}

/// The cores as units; as many of them split into hyper-threads, from the last, as it takes to have `wanted`.
fn units(cores: &[RoomCore], wanted: usize) -> Vec<RoomCore> {
    let mut missing = wanted.saturating_sub(cores.len());
    let mut reversed = Vec::new();
    for core in cores.iter().rev() {
        if missing == 0 || core.cpus.len() == 1 {
            reversed.push(core.clone());
        } else {
            missing = missing.saturating_sub(core.cpus.len() - 1);
            reversed.extend(core.cpus.iter().rev().map(|&cpu| RoomCore { l3: core.l3, cpus: vec![cpu] }));
        }
    }
    reversed.reverse();
    reversed
}

/// Neighbouring units for each share: what it must have, and what is left by weight. Where there are too few, ranges overlap.
fn ranges(units: usize, shares: &[Share]) -> Vec<Range<usize>> {
    let least: usize = shares.iter().map(Share::least).sum();
    let mut begin = 0;
    let mut next = |sizes: (usize, usize)| {
        let from = begin;
        begin += sizes.0;
        from..from + sizes.1
    };
    if units < least {
        return shares
            .iter()
            .map(|share| {
                let wanted = next((share.least(), share.least()));
                let from = wanted.start * units / least;
                from..(wanted.end * units / least).max(from + 1)
            })
            .collect();
    }
    let extras = by_weight(units - least, shares);
    shares
        .iter()
        .zip(extras)
        .map(|(share, extra)| next((share.least() + extra, share.least() + extra)))
        .collect()
}

/// Parts of `count` in proportion to weights; all of it, unless all weights are 0.
fn by_weight(count: usize, shares: &[Share]) -> Vec<usize> {
    let total: usize = shares.iter().map(Share::weight).sum();
    if total == 0 {
        return vec![0; shares.len()];
    }
    let mut passed = 0;
    let part = |share: &Share| {
        let from = passed * count / total;
        passed += share.weight();
        passed * count / total - from
    };
    shares.iter().map(part).collect()
}

/// Whether pools share the node rather than to have a part of it each.
fn are_few(node: &NodeRoom, units: &[RoomCore], shares: &[Share]) -> bool {
    let threads: usize = shares.iter().map(Share::least).sum();
    units.len() < threads || node.cores.len() <= FEW_CORES * shares.len()
}

/// Gives a pool, or control, all of the node.
fn free(node: &NodeRoom, thread: &mut Thread) {
    if matches!(thread.kind, Kind::Compute | Kind::Control) {
        thread.pus = node.cores.iter().flat_map(|core| core.cpus.iter().copied()).collect();
        thread.reason = format!("cores are few: all of node {}", node.node);
    }
}

/// What to tell where cores did not suffice.
fn shortage(node: &NodeRoom, units: &[RoomCore], shares: &[Share]) -> Option<String> {
    let threads: usize = shares.iter().map(Share::least).sum();
    let (number, cores) = (node.node, node.cores.len());
    if units.len() < threads {
        let cpus = if units.len() == 1 { "one CPU".into() } else { format!("{} CPUs", units.len()) };
        return Some(format!(
            "node {number}: {threads} threads and pools share {cpus}; run fewer roles here"
        ));
    }
    if are_few(node, units, shares) {
        return Some(format!(
            "node {number}: {threads} threads and pools on {cores} cores: pools may use all of them"
        ));
    }
    (units.len() > cores).then(|| {
        format!("node {number}: {threads} threads and pools on {cores} cores: some have a hyper-thread instead of a core")
    })
}

/// An instance's threads on its units of a node.
fn place(node: u32, share: &Share, units: &[RoomCore]) -> Vec<Thread> {
    let pools = usize::from(share.pool.is_some());
    let is_short = units.len() < share.least();
    // A pool keeps the last unit to itself as long as there are two.
    let for_fixed = if is_short { units.len().saturating_sub(pools).max(1) } else { share.fixed.len() };
    let thread = |kind, name: &str, cpus: &[u32], reason: String| Thread {
        name: name.into(),
        kind,
        pus: cpus.iter().copied().collect(),
        numa_node: Some(node),
        reason,
    };
    let mut threads: Vec<Thread> = share
        .fixed
        .iter()
        .enumerate()
        .map(|(index, demand)| {
            let unit = &units[index % for_fixed];
            let reason =
                format!("{}{}", demand.reason, if is_short { "; CPUs ran out, it shares one" } else { "" });
            thread(demand.kind, &demand.name, &unit.cpus[..1], reason)
        })
        .collect();
    let control_unit = (share.control_has_core && !is_short).then(|| &units[share.fixed.len()]);
    let rest = if is_short {
        units.len() - 1..units.len()
    } else {
        share.fixed.len() + usize::from(control_unit.is_some())..units.len()
    };
    if let Some(pool) = share.pool {
        let cpus: Vec<u32> = units[rest.clone()].iter().flat_map(|unit| unit.cpus.iter().copied()).collect();
        threads.push(thread(Kind::Compute, &pool.name, &cpus, pool_reason(node, &units[rest])));
    }
    if share.has_control {
        let (cpus, reason) = match control_unit {
            Some(unit) => (vec![unit.cpus[0]], format!("a core of node {node} that is left")),
            None => beside(share, &threads, units),
        };
        threads.push(thread(Kind::Control, "control", &cpus, reason));
    }
    threads
}

/// Control without a core: on an idle hyper-thread beside an executor, else within the pool, else with the first thread.
fn beside(share: &Share, threads: &[Thread], units: &[RoomCore]) -> (Vec<u32>, String) {
    let beside = units.iter().zip(&share.fixed).find(|(unit, _)| unit.cpus.len() > 1);
    if let Some((unit, demand)) = beside {
        return (
            unit.cpus[1..2].to_vec(),
            format!("no core is left: the hyper-thread beside {}", demand.name),
        );
    }
    let pool = threads.iter().find(|thread| thread.kind == Kind::Compute);
    let host = pool.or(threads.first()).expect("an instance has threads where its control is");
    (host.pus.iter().collect(), format!("no core is left: with {}", host.name))
}

fn pool_reason(node: u32, units: &[RoomCore]) -> String {
    let caches: BTreeSet<_> = units.iter().filter_map(|unit| unit.l3).collect();
    let of_caches = match caches.len() {
        0 => String::new(),
        1 => ", in one L3 cache".into(),
        caches => format!(", in {caches} L3 caches"),
    };
    format!(
        "{} of node {node}{of_caches}",
        if units.len() == 1 { "one core".into() } else { format!("{} cores", units.len()) }
    )
}
