//! Machine and plan as text: how devices reach each other as `nvidia-smi topo -m` shows it, and the plan below.

use std::fmt::Write as _;

use super::{Device, devices, given, memory, summary};
use crate::machine::Machine;
use crate::placement::Plan;

const LEGEND: &str = "\
X self, PIX over one PCI bridge, PXB over several, PHB over the host's bridge, NODE within a NUMA node, SYS between NUMA nodes,
? nobody knows
";

/// What is known of `machine` and what is planned for it.
pub fn table(machine: &Machine, plan: &Plan) -> String {
    let mut text = format!("{}: {}\n", machine.source, summary(machine));
    let _ = writeln!(text, "CPUs given to this process: {}\n", given(machine));
    let devices = devices(machine);
    text += &align(&nodes(machine, &devices));
    if !devices.is_empty() {
        text += "\n";
        text += &align(&links(machine, &devices));
        text += LEGEND;
    }
    text += "\n";
    text += &align(&threads(plan));
    if !plan.warnings.is_empty() {
        text += "\nto look at:\n";
        plan.warnings.iter().for_each(|warning| _ = writeln!(text, "- {warning}"));
    }
    text
}

fn nodes(machine: &Machine, devices: &[Device]) -> Vec<Vec<String>> {
    let mut rows =
        vec![["node", "package", "memory", "cores", "CPUs", "near to it"].map(String::from).to_vec()];
    for node in &machine.nodes {
        let near = devices.iter().filter(|device| device.pci.is_near(node.index));
        let near: Vec<_> = near.map(|device| device.name.as_str()).collect();
        let package = machine.package_of_node(node.index);
        rows.push(vec![
            node.index.to_string(),
            package.map_or_else(|| "-".into(), |package| package.to_string()),
            memory(node.memory_bytes),
            machine.cores_of_node(node.index).count().to_string(),
            dash(machine.cpus_of_node(node.index).to_string()),
            dash(near.join(" ")),
        ]);
    }
    rows
}

fn links(machine: &Machine, devices: &[Device]) -> Vec<Vec<String>> {
    let names = devices.iter().map(|device| device.name.clone());
    let heads = ["node", "CPUs", "PCI", ""].map(String::from);
    let mut rows: Vec<Vec<String>> = vec![[String::new()].into_iter().chain(names).chain(heads).collect()];
    for (index, device) in devices.iter().enumerate() {
        let link = |(other_index, other): (usize, &Device)| {
            if other_index == index { "X".into() } else { device.pci.link(other.pci).word().to_owned() }
        };
        let nodes: Vec<_> = device.pci.near.iter().map(ToString::to_string).collect();
        let mut row = vec![device.name.clone()];
        row.extend(devices.iter().enumerate().map(link));
        row.push(if nodes.is_empty() { "?".into() } else { nodes.join(",") });
        row.push(match device.pci.near[..] {
            [node] => machine.cpus_of_node(node).to_string(),
            _ => "?".into(),
        });
        row.push(device.pci.bus_id.clone());
        row.push(device.about.clone());
        rows.push(row);
    }
    rows
}

fn threads(plan: &Plan) -> Vec<Vec<String>> {
    let mut rows = vec![["plan", "thread", "node", "CPUs", "why"].map(String::from).to_vec()];
    for assignment in &plan.plan {
        let mut label = format!("{} {}", assignment.role, assignment.instance);
        for thread in &assignment.threads {
            rows.push(vec![
                std::mem::take(&mut label),
                thread.name.clone(),
                thread.numa_node.map_or_else(|| "any".into(), |node| node.to_string()),
                thread.pus.to_string(),
                thread.reason.clone(),
            ]);
        }
    }
    rows
}

fn dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

/// Columns two blanks apart, as wide as their widest cell.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
