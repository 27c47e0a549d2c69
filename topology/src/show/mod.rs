//! Machine and plan for people's eyes: as text, and as a drawing.

mod svg;
mod table;

pub use svg::svg;
pub use table::table;

use crate::cpus::Cpus;
use crate::machine::{Machine, Pci};

/// A device that has a row in the table and a sign in the drawing.
struct Device<'a> {
    /// `GPU0`, `eth0`, `nvme0n1`.
    name: String,
    pci: &'a Pci,
    /// What else there is to say.
    about: String,
}

/// All devices: GPUs, interfaces, disks.
fn devices(machine: &Machine) -> Vec<Device<'_>> {
    let gpus = machine.gpus.iter().enumerate().map(|(index, gpu)| Device {
        name: gpu.ordinal().map_or_else(|| format!("GPU#{index}"), |ordinal| format!("GPU{ordinal}")),
        pci: &gpu.pci,
        about: match gpu.cuda {
            crate::machine::Cuda::Hidden => format!("{}, hidden from CUDA", gpu.model),
            _ => gpu.model.clone(),
        },
    });
    let nics = machine.nics.iter().map(|nic| {
        let addresses: Vec<_> = nic.addresses.iter().map(ToString::to_string).collect();
        Device { name: nic.name.clone(), pci: &nic.pci, about: addresses.join(" ") }
    });
    let disks = machine.disks.iter().map(|disk| {
        let mounts: Vec<_> = disk.mounts.iter().map(|path| path.display().to_string()).collect();
        Device { name: disk.name.clone(), pci: &disk.pci, about: mounts.join(" ") }
    });
    gpus.chain(nics).chain(disks).collect()
}

/// `2 packages, 2 NUMA nodes, 12 L3 caches, 96 cores, 192 CPUs`.
fn summary(machine: &Machine) -> String {
    let counted =
        |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    [
        counted(machine.packages().len(), "package", "packages"),
        counted(machine.nodes.len(), "NUMA node", "NUMA nodes"),
        counted(machine.l3_count(), "L3 cache", "L3 caches"),
        counted(machine.cores.len(), "core", "cores"),
        counted(machine.online().len(), "CPU", "CPUs"),
    ]
    .join(", ")
}

/// The CPUs that were given, and whether these are all.
fn given(machine: &Machine) -> String {
    let all: Cpus = machine.online();
    if machine.allowed == all { format!("{all} (all)") } else { format!("{} of {all}", machine.allowed) }
}

/// `256 GiB`.
fn memory(bytes: Option<u64>) -> String {
    const GIB: u64 = 1 << 30;
    match bytes {
        None => "?".into(),
        Some(bytes) if bytes < GIB => format!("{} MiB", bytes >> 20),
        Some(bytes) => format!("{} GiB", bytes.saturating_add(GIB / 2) / GIB),
    }
}
