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
//! 3. Executors and feeders have a core each, its other hyper-threads idle; pools have whole cores, of one node each.
//! 4. Control has a core of its own; it yields first: to a hyper-thread beside an executor, or into its instance's pool.
//! 5. Then cores are split into hyper-threads, as many as must be, and at last threads share CPUs.

mod demand;
mod divide;
mod plan;
mod request;
mod room;
mod warnings;

pub use plan::{Assignment, Kind, Plan, PlannedGpu, Thread};
pub use request::{INSTANCE_LIMIT, Overrides, Request, RequestError, Role, RoleCount};

use crate::machine::Machine;
use room::Room;

/// Plans. The same arguments give the same plan, always.
pub fn plan(machine: &Machine, request: &Request) -> Result<Plan, RequestError> {
    let room = Room::new(machine, &request.overrides)?;
    let instances = demand::instances(machine, &room, &request.roles);
    let mut warnings = warnings::of_instances(machine, &room, &instances);
    let threads = if request.overrides.no_pin {
        instances.iter().map(|instance| instance.unpinned(&room)).collect()
    } else {
        divide::divide(&room, &instances, &mut warnings)
    };
    let assignments = instances
        .into_iter()
        .zip(threads)
        .map(|(instance, threads)| Assignment {
            role: instance.role,
            instance: instance.number,
            gpu: instance.gpu.map(|gpu| PlannedGpu::of(&machine.gpus[gpu])),
            threads,
        })
        .collect();
    Ok(Plan { plan: assignments, warnings })
}
