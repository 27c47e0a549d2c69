//! The machine of a file in hwloc's XML. It is read here and not by libhwloc, which ends the process (assertions, wild pointers, seen in
//! 2.9 with a few changed bytes) on files that do not hang together; a file may come from anywhere.

use std::collections::BTreeMap;

use super::xml::{self, Element};
use crate::cpus::{CPU_LIMIT, Cpus};
use crate::machine::{Core, Cuda, Disk, Gpu, Machine, Nic, Node, Pci};

/// PCI's class of displays, and NVIDIA, as `pci_type` writes them: `0302 [10de:26b1] …`.
const DISPLAY_CLASS: &str = "03";
const NVIDIA: &str = "[10de:";
/// Numbers of `osdev_type` in version 2 of the format.
const STORAGE: &str = "0";
const NETWORK: &str = "2";

/// The machine of the text of a file.
pub(super) fn machine(source: String, text: &str) -> Result<Machine, String> {
    let root = xml::parse(text)?;
    let version = root.get("version").unwrap_or("none");
    if root.name != "topology" || !version.starts_with("2.") {
        return Err(format!("its format is {} {version}, not topology 2.x", root.name));
    }
    let mut reader = Reader {
        cores: BTreeMap::new(),
        machine: Machine {
            source,
            nodes: Vec::new(),
            cores: Vec::new(),
            gpus: Vec::new(),
            nics: Vec::new(),
            disks: Vec::new(),
            allowed: Cpus::default(),
            interrupts: Cpus::default(),
            doubts: Vec::new(),
        },
        numbers: 0,
    };
    reader.read_children(&root, &Place::default())?;
    Ok(reader.finish())
}

/// Where in the tree an object is.
#[derive(Debug, Clone, Default)]
struct Place {
    package: u32,
    l3: Option<u32>,
    /// Number of the core.
    core: Option<u64>,
    /// Nodes that it is near to.
    nodes: Cpus,
    /// Numbers of the bridges above it.
    bridges: Vec<u64>,
}

struct Reader {
    machine: Machine,
    cores: BTreeMap<u64, Core>,
    /// Objects so far.
    numbers: u64,
}

impl Reader {
    fn read_children(&mut self, parent: &Element, place: &Place) -> Result<(), String> {
        parent
            .children
            .iter()
            .filter(|child| child.name == "object")
            .try_for_each(|child| self.read(child, place))
    }

    fn read(&mut self, object: &Element, above: &Place) -> Result<(), String> {
        self.numbers += 1;
        let mut place = above.clone();
        if object.get("nodeset").is_some() {
            place.nodes = set(object, "nodeset")?;
        }
        match object.get("type").unwrap_or_default() {
            "Machine" => self.machine.allowed = set(object, "allowed_cpuset")?,
            "Package" => place.package = self.small_number(),
            "L3Cache" => place.l3 = Some(self.small_number()),
            "Core" => place.core = Some(self.numbers),
            "PU" => self.add_cpu(object, &place)?,
            "NUMANode" => {
                let memory_bytes = object.get("local_memory").and_then(|bytes| bytes.parse().ok());
                self.machine.nodes.push(Node { index: os_index(object)?, memory_bytes });
            }
            "Bridge" => place.bridges.push(self.numbers),
            "PCIDev" => self.add_device(object, &place)?,
            _ => {}
        }
        self.read_children(object, &place)
    }

    /// A number of its own for the object that is read.
    fn small_number(&self) -> u32 {
        // A file has no room for 2^32 objects.
        u32::try_from(self.numbers).unwrap_or(u32::MAX)
    }

    fn add_cpu(&mut self, object: &Element, place: &Place) -> Result<(), String> {
        let core = self.cores.entry(place.core.unwrap_or(self.numbers)).or_insert_with(|| Core {
            package: place.package,
            // Memory of several kinds can be near; the system numbers the ordinary one first.
            node: place.nodes.iter().next().unwrap_or_default(),
            l3: place.l3,
            cpus: Vec::new(),
        });
        core.cpus.push(os_index(object)?);
        Ok(())
    }

    fn add_device(&mut self, object: &Element, place: &Place) -> Result<(), String> {
        let bus_id = object.get("pci_busid").unwrap_or_default();
        if bus_id.is_empty() || !bus_id.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.')) {
            return Err(format!("{bus_id:?} is no address of a PCI device"));
        }
        let near = place.nodes.iter().collect();
        let pci = Pci { bus_id: bus_id.into(), near, bridges: place.bridges.clone() };
        let kind = object.get("pci_type").unwrap_or_default();
        let inside = || object.children.iter().filter(|child| child.get("type") == Some("OSDev"));
        if kind.starts_with(DISPLAY_CLASS) && kind.contains(NVIDIA) {
            let model = object.get("name").unwrap_or(kind).to_owned();
            let uuid = inside()
                .flat_map(|child| &child.children)
                .find(|info| info.get("name") == Some("NVIDIAUUID"));
            let uuid = uuid.and_then(|info| info.get("value")).map(str::to_owned);
            self.machine.gpus.push(Gpu { pci, model, uuid, cuda: Cuda::Unknown });
            return Ok(());
        }
        for child in inside() {
            let (pci, name) = (pci.clone(), child.get("name").unwrap_or_default().to_owned());
            match child.get("osdev_type") {
                Some(STORAGE) => self.machine.disks.push(Disk { pci, name, mounts: Vec::new() }),
                Some(NETWORK) => self.machine.nics.push(Nic { pci, name, addresses: Vec::new() }),
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(self) -> Machine {
        let mut machine = Machine { cores: self.cores.into_values().collect(), ..self.machine };
        renumber(&mut machine);
        let nodes = machine.nodes_with_cores();
        let gpus = machine.gpus.iter_mut().map(|gpu| &mut gpu.pci);
        let nics = machine.nics.iter_mut().map(|nic| &mut nic.pci);
        let disks = machine.disks.iter_mut().map(|disk| &mut disk.pci);
        gpus.chain(nics).chain(disks).for_each(|pci| pci.keep_near(&nodes));
        machine
    }
}

/// Packages and L3 caches counted from 0, in the order of the file.
fn renumber(machine: &mut Machine) {
    let mut numbers = |of: &mut dyn FnMut(&mut Core) -> Option<&mut u32>| {
        let mut seen = BTreeMap::new();
        let found: Vec<u32> =
            machine.cores.iter_mut().filter_map(|core| of(core).map(|number| *number)).collect();
        found.into_iter().for_each(|number| _ = seen.insert(number, 0));
        seen.values_mut().zip(0..).for_each(|(new, number)| *new = number);
        machine.cores.iter_mut().filter_map(of).for_each(|number| *number = seen[number]);
    };
    numbers(&mut |core| Some(&mut core.package));
    numbers(&mut |core| core.l3.as_mut());
}

fn os_index(object: &Element) -> Result<u32, String> {
    let index = object.get("os_index").and_then(|index| index.parse().ok());
    index.filter(|&index| index < CPU_LIMIT).ok_or_else(|| {
        format!("a {} has no os_index below {CPU_LIMIT}", object.get("type").unwrap_or_default())
    })
}

/// A set of numbers as hwloc writes it: `0x0000ffff,0xffffffff`, words of 32 bits, the highest first.
fn set(object: &Element, attribute: &str) -> Result<Cpus, String> {
    let text = object.get(attribute).ok_or_else(|| format!("an object has no {attribute}"))?;
    let wrong = || format!("{attribute} is no set of numbers below {CPU_LIMIT}");
    let mut numbers = Cpus::default();
    for (position, word) in (0_u32..).step_by(32).zip(text.rsplit(',')) {
        let digits = word.trim_start_matches("0x");
        let bits =
            if digits.is_empty() { 0 } else { u32::from_str_radix(digits, 16).map_err(|_| wrong())? };
        if bits != 0 && position >= CPU_LIMIT {
            return Err(wrong());
        }
        numbers.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| position + bit));
    }
    Ok(numbers)
}

#[cfg(all(test, feature = "hwloc"))]
mod tests {
    use super::super::hwloc;
    use super::*;
    use std::path::Path;

    /// All of it, bridges by the order that they are in: they have numbers of hwloc's own.
    fn comparable(mut machine: Machine) -> Machine {
        machine.sort();
        let mut bridges: Vec<u64> = Vec::new();
        let gpus = machine.gpus.iter_mut().map(|gpu| &mut gpu.pci);
        let nics = machine.nics.iter_mut().map(|nic| &mut nic.pci);
        let disks = machine.disks.iter_mut().map(|disk| &mut disk.pci);
        for number in gpus.chain(nics).chain(disks).flat_map(|pci| &mut pci.bridges) {
            let known = bridges.iter().position(|bridge| bridge == number);
            let index = known.unwrap_or_else(|| {
                bridges.push(*number);
                bridges.len() - 1
            });
            *number = index as u64;
        }
        machine
    }

    #[test]
    fn files_are_read_as_libhwloc_reads_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "xml")) {
            let text = std::fs::read_to_string(&path).unwrap();
            let ours = machine("file".into(), &text).unwrap();
            let theirs = hwloc::from_xml("file", &text).unwrap();
            assert_eq!(comparable(ours), comparable(theirs), "{}", path.display());
        }
    }

    /// What libhwloc finds here and writes is read as the same.
    #[test]
    fn this_machine_comes_back_from_its_file() {
        let text = hwloc::this_machine_as_xml();
        let ours = machine("this machine".into(), &text).unwrap();
        assert_eq!(comparable(ours), comparable(hwloc::this_machine().unwrap()));
    }

    #[test]
    fn sets_are_words_of_32_bits() {
        let of = |text: &str| {
            let attributes = [("s".to_owned(), text.to_owned())].into_iter().collect();
            set(&Element { attributes, ..Element::default() }, "s").map(|set| set.to_string())
        };
        assert_eq!(of("0x00000001,,0x80000003").as_deref(), Ok("0-1,31,64"));
        assert_eq!(of("0x0").as_deref(), Ok(""));
        for text in ["0xf...f", "0x100000000", "x", &format!("0x1{}", ",0x0".repeat(512))] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
