//! What of the machine an expert would not leave as it is.

use super::demand::{Instance, nics, visible_gpus};
use super::request::Role;
use super::room::Room;
use crate::machine::Machine;

/// What there is to say about the ways to the instances' GPUs.
pub(super) fn of_instances(machine: &Machine, room: &Room, instances: &[Instance]) -> Vec<String> {
    let of_instance = |instance: &Instance| {
        let gpus = instance.gpus.iter();
        gpus.flat_map(|&gpu| of_gpu(machine, room, instance, gpu)).collect::<Vec<_>>()
    };
    instances.iter().flat_map(of_instance).collect()
}

/// What there is to say about GPUs that nobody or more than one instance uses.
pub(super) fn of_gpus(machine: &Machine, instances: &[Instance]) -> Vec<String> {
    let with_gpus = |instance: &&Instance| matches!(instance.role, Role::PlotServer | Role::ProofServer);
    let users: Vec<_> = instances.iter().filter(with_gpus).collect();
    let visible = visible_gpus(machine);
    let mut warnings = Vec::new();
    if users.is_empty() {
        return warnings;
    }
    if visible.is_empty() && !machine.gpus.is_empty() {
        warnings.push(
            "CUDA_VISIBLE_DEVICES hides every GPU: plot-servers and proof-servers compute on CPUs".into(),
        );
    }
    for gpu in visible {
        let label = machine.gpus[gpu].label();
        let its: Vec<_> =
            users.iter().filter(|user| user.gpus.contains(&gpu)).map(|user| user.label()).collect();
        match its.len() {
            0 => warnings.push(format!("{label} is not used: there are fewer plot-servers than GPUs")),
            1 => {}
            _ => warnings.push(format!("{label} is shared by {}", its.join(" and "))),
        }
    }
    warnings
}

/// What there is to say about the way to a GPU of an instance.
fn of_gpu(machine: &Machine, room: &Room, instance: &Instance, gpu: usize) -> Vec<String> {
    let gpu = &machine.gpus[gpu];
    let (label, who) = (gpu.label(), instance.label());
    let Some(node) = gpu.pci.near.first() else {
        let several = machine.nodes_with_cores().len() > 1;
        let warning = || {
            format!("{label}: nobody says which node it is on (numa_node in /sys); {who} may be far from it")
        };
        return several.then(warning).into_iter().collect();
    };
    let mut warnings = Vec::new();
    if !gpu.pci.near.iter().any(|&node| room.has(node)) {
        warnings.push(format!(
            "{label} is on node {node}, of which no CPU may be used (CPUs given: {}): {who} runs on node {}, and all it does crosses nodes",
            machine.allowed, instance.home
        ));
    }
    let nics: Vec<_> = nics(machine).into_iter().filter(|nic| !nic.pci.near.is_empty()).collect();
    let is_far =
        !nics.is_empty() && !nics.iter().any(|nic| gpu.pci.near.iter().any(|&node| nic.pci.is_near(node)));
    if is_far && instance.role == Role::PlotServer {
        let names: Vec<_> = nics.iter().map(|nic| nic.name.as_str()).collect();
        warnings.push(format!(
            "{label} is on node {node}, far from the network ({}): pieces and sectors of {who} cross nodes",
            names.join(", ")
        ));
    }
    warnings
}
