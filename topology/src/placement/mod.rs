//! Which threads belong on which cores: a pure function of the machine, of what runs on it, and of what its operator overrules.
//!
//! ```text
//! Request ──▶ instances (one plot-server a GPU, …) ──▶ demands: threads and pools, each for a node, each with its reason
//!                                                               │ divide: the cores of a node among the instances on it
//!                                                               ▼
//!                                                             Plan: threads on CPUs, reasons, warnings
//! ```
//!
//! Rules, in the order in which they yield when cores run out:
//! 1. No thread leaves the CPUs that this process was given.
//! 2. A feeder runs on the node of its GPU, and what works for that GPU beside it.
//! 3. Executors and feeders have a core each, its other hyper-threads idle; pools have whole cores, of one node each. Cores that interrupts
//!    were told to go to are left to them, where they are few.
//! 4. Control has a core of its own; it yields first: to a hyper-thread beside an executor, or into its instance's pool.
//! 5. Where there are no more than two cores a process, pools share all of them.
//! 6. Then cores are split into hyper-threads, as many as must be, and at last threads share CPUs.

mod demand;
mod divide;
mod plan;
mod request;
mod room;
mod warnings;

pub use plan::{Assignment, Kind, Plan, PlannedGpu, Thread};
pub use request::{INSTANCE_LIMIT, Member, Overrides, Request, RequestError, Role, RoleCount};

use std::collections::BTreeMap;

use crate::cpus::Cpus;
use crate::machine::Machine;
use demand::Instance;
use room::Room;

/// Plans what is to run. The same arguments give the same plan, always.
pub fn plan(machine: &Machine, request: &Request) -> Result<Plan, RequestError> {
    let mut room = Room::new(machine, &request.overrides)?;
    let no_pin = request.overrides.no_pin;
    let left = leave_interrupts(machine, &mut room, no_pin);
    let instances = demand::instances(machine, &room, demand::to_run(machine, &request.roles));
    let mut warnings = machine.doubts.clone();
    warnings.extend(left);
    warnings.extend(warnings::of_instances(machine, &room, &instances));
    warnings.extend(warnings::of_gpus(machine, &instances));
    Ok(planned(machine, &room, instances, no_pin, warnings))
}

/// The CPUs that a process with these overrides may use, of those that `machine` was given.
pub fn usable(machine: &Machine, overrides: &Overrides) -> Result<Cpus, RequestError> {
    Ok(Room::new(machine, overrides)?.cpus())
}

/// Plans what runs. Members with the same CPUs divide them; those with fewer come first, and the others keep off their CPUs as far as
/// they have any besides. The order of `members` does not matter.
pub fn plan_members(machine: &Machine, members: &[Member]) -> Plan {
    let mut whole = Plan { plan: Vec::new(), warnings: machine.doubts.clone() };
    let mut taken = Cpus::default();
    for (cpus, group) in groups(members) {
        let (free, bound): (Vec<&Member>, Vec<&Member>) = group.into_iter().partition(|member| member.no_pin);
        let left = cpus.without(&taken);
        let shares = left.is_empty() && !bound.is_empty();
        for (members, cpus, no_pin) in
            [(free, &cpus, true), (bound, if shares { &cpus } else { &left }, false)]
        {
            // CPUs that have gone offline since leave a member nowhere to plan for: it stays where the system puts it.
            let Some(mut room) = Room::of(machine, cpus).filter(|_| !members.is_empty()) else { continue };
            let left = leave_interrupts(machine, &mut room, no_pin);
            let instances = demand::instances(machine, &room, demand::running(machine, &members));
            let warnings =
                left.into_iter().chain(warnings::of_instances(machine, &room, &instances)).collect();
            let part = planned(machine, &room, instances, no_pin, warnings);
            whole.plan.extend(part.plan);
            whole.warnings.extend(part.warnings);
            if !no_pin {
                taken.extend(room.cpus().iter());
            }
        }
        if shares {
            whole
                .warnings
                .push(format!("CPUs {cpus} are shared by processes that were given different sets of CPUs"));
        }
    }
    whole.plan.sort_by_key(|one| (one.role, one.instance));
    whole
}

/// Keeps threads that are bound off the CPUs that interrupts go to; what to tell of that.
fn leave_interrupts(machine: &Machine, room: &mut Room, no_pin: bool) -> Option<String> {
    let left = if no_pin { Cpus::default() } else { room.leave_interrupts(machine) };
    (!left.is_empty()).then(|| format!("CPUs {left} are left to interrupts, which go there (irqaffinity)"))
}

/// Members by the CPUs that they may use, the fewest first.
fn groups(members: &[Member]) -> Vec<(Cpus, Vec<&Member>)> {
    let mut groups: BTreeMap<(usize, Vec<u32>), Vec<&Member>> = BTreeMap::new();
    for member in members {
        groups.entry((member.cpus.len(), member.cpus.iter().collect())).or_default().push(member);
    }
    groups.into_iter().map(|((_, cpus), group)| (cpus.into_iter().collect(), group)).collect()
}

fn planned(
    machine: &Machine,
    room: &Room,
    instances: Vec<Instance>,
    no_pin: bool,
    mut warnings: Vec<String>,
) -> Plan {
    let threads = if no_pin {
        instances.iter().map(|instance| instance.unpinned(room)).collect()
    } else {
        divide::divide(room, &instances, &mut warnings)
    };
    let assignment = |(instance, threads): (Instance, Vec<Thread>)| {
        let gpus: Vec<_> = instance.gpus.iter().map(|&gpu| PlannedGpu::of(&machine.gpus[gpu])).collect();
        Assignment {
            role: instance.role,
            instance: instance.number,
            gpu: gpus.first().cloned(),
            gpus: if gpus.len() > 1 { gpus } else { Vec::new() },
            threads,
        }
    };
    Plan { plan: instances.into_iter().zip(threads).map(assignment).collect(), warnings }
}
