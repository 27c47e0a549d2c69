//! The machine as hwloc sees it. The only place that knows hwloc's types.

use std::collections::BTreeMap;

use hwlocality::Topology;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::{ObjectAttributes, PCIDeviceAttributes};
use hwlocality::object::types::{OSDeviceType, ObjectType};
use hwlocality::topology::builder::{BuildFlags, TopologyBuilder, TypeFilter};

use super::MachineError;
use super::description::wrong;
use crate::cpus::Cpus;
use crate::machine::{Core, Cuda, Disk, Gpu, Machine, Nic, Node, Pci};

const NVIDIA: u16 = 0x10de;
/// PCI's class of displays, in the upper byte: VGA, 3D and other controllers.
const DISPLAY_CLASS: u16 = 0x03;

/// The machine at hand.
pub(super) fn this_machine() -> Result<Machine, MachineError> {
    let failed = |error: String| MachineError::Live(format!("hwloc: {error}"));
    let topology = build(Topology::builder()).map_err(failed)?;
    Ok(machine("this machine".into(), &topology))
}

/// The machine of a synthetic description; its size must have been looked at.
pub(super) fn from_synthetic(text: &str, hardware: &str) -> Result<Machine, MachineError> {
    let refused = |reason: String| wrong(text, format!("hwloc does not take it ({reason})"));
    let builder = Topology::builder().from_synthetic(hardware).map_err(|error| refused(error.to_string()))?;
    let topology = build(builder).map_err(refused)?;
    Ok(machine(text.trim().into(), &topology))
}

/// Builds with devices, and with what this process may not use: the node of a GPU matters even where its cores are not ours.
fn build(builder: TopologyBuilder) -> Result<Topology, String> {
    let builder = builder.with_flags(BuildFlags::INCLUDE_DISALLOWED).map_err(|error| error.to_string())?;
    let builder =
        builder.with_io_type_filter(TypeFilter::KeepImportant).map_err(|error| error.to_string())?;
    builder.build().map_err(|error| error.to_string())
}

fn machine(source: String, topology: &Topology) -> Machine {
    let cores = cores(topology);
    let mut machine = Machine {
        source,
        nodes: topology.objects_with_type(ObjectType::NUMANode).map(node).collect(),
        cores,
        gpus: Vec::new(),
        nics: Vec::new(),
        disks: Vec::new(),
        allowed: topology.allowed_cpuset().iter_set().filter_map(|cpu| small(usize::from(cpu))).collect(),
        interrupts: Cpus::default(),
        doubts: Vec::new(),
    };
    let nodes = machine.nodes_with_cores();
    for object in topology.objects_with_type(ObjectType::PCIDevice) {
        if let Some(ObjectAttributes::PCIDevice(attributes)) = object.attributes() {
            add_device(&mut machine, object, attributes, &nodes);
        }
    }
    machine
}

/// Numbers of CPUs and nodes are small; others cannot be meant, and the checks of the whole machine find them missing.
fn small(index: usize) -> Option<u32> {
    u32::try_from(index).ok()
}

fn node(object: &TopologyObject) -> Node {
    let memory_bytes = match object.attributes() {
        Some(ObjectAttributes::NUMANode(attributes)) => attributes.local_memory().map(Into::into),
        _ => None,
    };
    Node { index: object.os_index().and_then(small).unwrap_or_default(), memory_bytes }
}

/// Every PU, under the core that it belongs to, or as a core of its own where hwloc knows of no cores.
fn cores(topology: &Topology) -> Vec<Core> {
    let mut cores = BTreeMap::new();
    for pu in topology.objects_with_type(ObjectType::PU) {
        let Some(cpu) = pu.os_index().and_then(small) else { continue };
        let ancestor = |kind| pu.first_ancestor_with_type(kind);
        let logical = |kind| ancestor(kind).and_then(|object| small(object.logical_index()));
        let key = ancestor(ObjectType::Core).unwrap_or(pu).global_persistent_index();
        let core = cores.entry(key).or_insert_with(|| Core {
            package: logical(ObjectType::Package).unwrap_or_default(),
            // Memory of several kinds can be near; the system numbers the ordinary one first.
            node: nodes_of(pu).into_iter().min().unwrap_or_default(),
            l3: logical(ObjectType::L3Cache),
            cpus: Vec::new(),
        });
        core.cpus.push(cpu);
    }
    cores.into_values().collect()
}

/// The nodes that an object is near to.
fn nodes_of(object: &TopologyObject) -> Vec<u32> {
    let nodes = object.nodeset();
    nodes
        .map_or_else(Vec::new, |nodes| nodes.iter_set().filter_map(|node| small(usize::from(node))).collect())
}

fn add_device(
    machine: &mut Machine,
    object: &TopologyObject,
    attributes: &PCIDeviceAttributes,
    nodes: &[u32],
) {
    let pci = pci(object, attributes, nodes);
    if attributes.vendor_id() == NVIDIA && attributes.class_id() >> 8 == DISPLAY_CLASS {
        let model = text(object.name()).unwrap_or_else(|| format!("10de:{:04x}", attributes.device_id()));
        let uuid = object
            .io_children()
            .find_map(|child| text(child.info("NVIDIAUUID")).or(text(child.info("UUID"))));
        machine.gpus.push(Gpu { pci, model, uuid, cuda: Cuda::Unknown });
        return;
    }
    for child in object.io_children() {
        let Some(ObjectAttributes::OSDevice(device)) = child.attributes() else { continue };
        let Some(name) = text(child.name()) else { continue };
        match device.device_type() {
            OSDeviceType::Network => {
                machine.nics.push(Nic { pci: pci.clone(), name, addresses: Vec::new() });
            }
            OSDeviceType::Storage => {
                machine.disks.push(Disk { pci: pci.clone(), name, mounts: Vec::new() });
            }
            _ => {}
        }
    }
}

fn pci(object: &TopologyObject, attributes: &PCIDeviceAttributes, nodes: &[u32]) -> Pci {
    let mut bridges: Vec<u64> = object
        .ancestors()
        .filter(|ancestor| ancestor.object_type() == ObjectType::Bridge)
        .map(hwlocality::object::TopologyObject::global_persistent_index)
        .collect();
    bridges.reverse();
    let (domain, bus) = (attributes.domain(), attributes.bus_id());
    let (device, function) = (attributes.bus_device(), attributes.function());
    let near = object.first_non_io_ancestor().map_or_else(Vec::new, nodes_of);
    let bus_id = format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}");
    let mut pci = Pci { bus_id, near, bridges };
    pci.keep_near(nodes);
    pci
}

fn text(text: Option<&std::ffi::CStr>) -> Option<String> {
    text.map(|text| text.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
}

/// The machine of an XML text, to compare with; libhwloc does not survive every text.
#[cfg(test)]
pub(super) fn from_xml(source: &str, xml: &str) -> Result<Machine, String> {
    let builder = Topology::builder().from_xml(xml).map_err(|error| error.to_string())?;
    Ok(machine(source.into(), &build(builder)?))
}

/// The machine at hand as libhwloc writes it.
#[cfg(test)]
pub(super) fn this_machine_as_xml() -> String {
    use hwlocality::topology::export::xml::XMLExportFlags;
    let topology = build(Topology::builder()).unwrap();
    topology.export_xml(XMLExportFlags::default()).unwrap().to_string()
}
