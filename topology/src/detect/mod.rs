//! Finds out what a machine looks like: the one at hand, or one that a file or a text describes.

mod addresses;
#[cfg(feature = "hwloc")]
mod description;
mod error;
#[cfg(feature = "hwloc")]
mod hwloc;
mod hwloc_xml;
mod live;
#[cfg(any(test, not(feature = "hwloc")))]
mod sysfs;
mod xml;

pub use error::{MachineError, XML_LIMIT_BYTES};

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::cpus::CPU_LIMIT;
use crate::cuda::{self, CudaEnvironment};
use crate::machine::Machine;

/// The machine at hand: with the CPUs that this process was given, the ordinals that CUDA has for it, addresses and mount paths.
pub fn this_machine() -> Result<Machine, MachineError> {
    #[cfg(feature = "hwloc")]
    let mut machine = hwloc::this_machine()?;
    #[cfg(not(feature = "hwloc"))]
    let mut machine = sysfs::read(Path::new("/sys"))?;
    live::complete(&mut machine)?;
    finish(machine, &CudaEnvironment::of_process())
}

/// The machine of an XML file by hwloc (`lstopo FILE.xml`). All its CPUs that were allowed there are allowed; no GPU is hidden.
pub fn from_xml(path: &Path) -> Result<Machine, MachineError> {
    let unreadable = |source| MachineError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(XML_LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > XML_LIMIT_BYTES {
        return Err(MachineError::TooLarge { path: path.into() });
    }
    let refused = |reason: String| MachineError::NotXml { path: path.into(), reason };
    let text = String::from_utf8(bytes).map_err(|error| refused(error.to_string()))?;
    let machine = hwloc_xml::machine(path.display().to_string(), &text).map_err(refused)?;
    finish(machine, &CudaEnvironment::default())
}

/// The machine of a description, `pack:2 [numa] l3:2 core:4 pu:2 | gpu@0 nic@1 nvme@1 cpus=0-7`: before the bar as hwloc takes it
/// (`man hwloc`, synthetic topologies), after it devices with the number of their node (`?` where it is not known), the CPUs that
/// the process was given, and those that interrupts go to (`irqs=0`).
#[cfg(feature = "hwloc")]
pub fn from_description(text: &str) -> Result<Machine, MachineError> {
    let description = description::Description::parse(text)?;
    let mut machine = hwloc::from_synthetic(text, description.hardware)?;
    description.add_to(&mut machine, text)?;
    finish(machine, &CudaEnvironment::default())
}

/// Refused: only hwloc reads its descriptions.
#[cfg(not(feature = "hwloc"))]
pub fn from_description(_text: &str) -> Result<Machine, MachineError> {
    Err(MachineError::WithoutHwloc)
}

/// Sorts, numbers the GPUs, and makes sure of what [`Machine`] promises.
fn finish(mut machine: Machine, environment: &CudaEnvironment) -> Result<Machine, MachineError> {
    machine.sort();
    let doubt = cuda::set_ordinals(&mut machine.gpus, environment);
    machine.doubts.extend(doubt);
    let impossible =
        |reason: &str| Err(MachineError::Impossible { from: machine.source.clone(), reason: reason.into() });
    if machine.cores.is_empty() || machine.nodes.is_empty() {
        return impossible("there is no core");
    }
    let mut nodes: Vec<_> = machine.nodes.iter().map(|node| node.index).collect();
    nodes.dedup();
    if nodes.len() != machine.nodes.len()
        || machine.nodes_with_cores().iter().any(|node| !nodes.contains(node))
    {
        return impossible("a core has no NUMA node, or two nodes have one number");
    }
    let online = machine.online();
    if online.len() != machine.cores.iter().map(|core| core.cpus.len()).sum::<usize>() {
        return impossible("a CPU is in two cores");
    }
    if online.iter().next_back() >= Some(CPU_LIMIT) {
        return impossible("a CPU has a number that no system gives");
    }
    machine.allowed = machine.allowed.and(&online);
    if machine.allowed.is_empty() {
        return impossible("none of its CPUs may be used");
    }
    Ok(machine)
}
