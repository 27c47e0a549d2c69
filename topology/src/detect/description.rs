//! Descriptions of machines in a line of text: hwloc's synthetic topologies, and behind a bar what they cannot say.

use super::MachineError;
use crate::cpus::Cpus;
use crate::machine::{Cuda, Disk, Gpu, Machine, Nic, Pci};

/// Longest description.
const TEXT_LIMIT_BYTES: usize = 8192;
/// Most objects of one kind: hwloc would make as many as the text says, and the memory of the machine would not do.
const OBJECT_LIMIT: u64 = 4096;
/// Most devices.
const DEVICE_LIMIT: usize = 256;

/// A description, cut into its parts.
#[derive(Debug)]
pub(super) struct Description<'a> {
    /// What hwloc takes.
    pub(super) hardware: &'a str,
    devices: Vec<Device>,
    cpus: Option<Cpus>,
    interrupts: Cpus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gpu,
    Nic,
    Nvme,
}

#[derive(Debug)]
struct Device {
    kind: Kind,
    /// None: nobody knows.
    node: Option<u32>,
}

impl<'a> Description<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, MachineError> {
        if text.len() > TEXT_LIMIT_BYTES {
            return Err(wrong(text, format!("it is longer than {TEXT_LIMIT_BYTES} bytes")));
        }
        let (hardware, extras) = text.split_once('|').unwrap_or((text, ""));
        match objects(hardware) {
            Some(objects) if objects <= OBJECT_LIMIT => {}
            _ => return Err(wrong(text, format!("it has more than {OBJECT_LIMIT} CPUs"))),
        }
        let mut description =
            Self { hardware: hardware.trim(), devices: Vec::new(), cpus: None, interrupts: Cpus::default() };
        for word in extras.split_whitespace() {
            match word.split_once('=') {
                Some(("cpus", cpus)) => description.cpus = Some(cpus.parse()?),
                Some(("irqs", cpus)) => description.interrupts = cpus.parse()?,
                _ => description.devices.push(Device::parse(word).map_err(|why| wrong(text, why))?),
            }
        }
        if description.devices.len() > DEVICE_LIMIT {
            return Err(wrong(text, format!("it has more than {DEVICE_LIMIT} devices")));
        }
        Ok(description)
    }

    /// Adds devices and the CPUs that are allowed to the machine that hwloc made.
    pub(super) fn add_to(self, machine: &mut Machine, text: &str) -> Result<(), MachineError> {
        let nodes = machine.nodes_with_cores();
        let mut counts = [0_u32; 3];
        for (bus, device) in (1..).zip(&self.devices) {
            if let Some(node) = device.node.filter(|node| !nodes.contains(node)) {
                return Err(wrong(text, format!("a device is on node {node}, which has no cores")));
            }
            // Bus ids in the order of the text; where a machine has one node, every device is near it.
            let near = device.node.map_or_else(Vec::new, |node| vec![node]);
            let pci = Pci { bus_id: format!("0000:{bus:02x}:00.0"), near, bridges: Vec::new() };
            let number = counts[device.kind as usize];
            counts[device.kind as usize] += 1;
            match device.kind {
                Kind::Gpu => {
                    machine.gpus.push(Gpu { pci, model: "GPU".into(), uuid: None, cuda: Cuda::Unknown });
                }
                Kind::Nic => {
                    machine.nics.push(Nic { pci, name: format!("eth{number}"), addresses: Vec::new() });
                }
                Kind::Nvme => {
                    machine.disks.push(Disk { pci, name: format!("nvme{number}n1"), mounts: Vec::new() });
                }
            }
        }
        machine.interrupts = self.interrupts;
        if let Some(cpus) = self.cpus {
            let unknown = cpus.without(&machine.online());
            if !unknown.is_empty() {
                return Err(wrong(text, format!("it has no CPUs {unknown}")));
            }
            machine.allowed = cpus;
        }
        Ok(())
    }
}

impl Device {
    fn parse(word: &str) -> Result<Self, String> {
        let unclear =
            || format!("{word:?} is none of gpu@NODE, nic@NODE, nvme@NODE, cpus=LIST and irqs=LIST");
        let (kind, node) = word.split_once('@').ok_or_else(unclear)?;
        let kind = match kind {
            "gpu" => Kind::Gpu,
            "nic" => Kind::Nic,
            "nvme" => Kind::Nvme,
            _ => return Err(unclear()),
        };
        let node = if node == "?" { None } else { Some(node.parse().map_err(|_| unclear())?) };
        Ok(Self { kind, node })
    }
}

/// An upper bound for the objects that hwloc makes of a text: the product of all counts in it. None if it is no number that can be.
fn objects(hardware: &str) -> Option<u64> {
    // Attributes, in round brackets, are sizes and numbers; memory, in square ones, is counted like the rest.
    let mut depth = 0_i32;
    let plain: String = hardware
        .chars()
        .filter(|c| {
            depth += i32::from(*c == '(') - i32::from(*c == ')');
            depth <= 0 && *c != ')'
        })
        .map(|c| if matches!(c, '[' | ']') { ' ' } else { c })
        .collect();
    plain.split_whitespace().try_fold(1_u64, |objects, word| {
        let digits = word.rsplit_once(':').map_or(word, |(_, count)| count);
        if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            objects.checked_mul(digits.parse::<u64>().ok()?.max(1))
        } else {
            Some(objects)
        }
    })
}

/// Why `text` is not a description.
pub(super) fn wrong(text: &str, reason: impl Into<String>) -> MachineError {
    const SHOWN_CHARS: usize = 80;
    MachineError::Description { text: text.chars().take(SHOWN_CHARS).collect(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_counted_before_they_are_made() {
        assert_eq!(objects("pack:2 [numa(memory=68719476736)] l3:1 core:4 pu:2"), Some(16));
        assert_eq!(objects("2 3 4"), Some(24));
        assert_eq!(objects("pack:2 core:3 pu:2(indexes=0,6,1,7)"), Some(12));
        assert_eq!(objects("pack:99999 core:99999 pu:99999 numa:99999999"), None);
    }
}
