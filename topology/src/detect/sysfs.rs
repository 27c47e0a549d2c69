//! The machine as /sys tells it, for programs that must run where hwloc is not installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::MachineError;
use crate::cpus::Cpus;
use crate::machine::{Core, Cuda, Disk, Gpu, Machine, Nic, Node, Pci};

const NVIDIA: &str = "0x10de";
/// Beginning of PCI's class of displays.
const DISPLAY_CLASS: &str = "0x03";

/// The machine at hand, below `sys` (`/sys`). CPUs must be known; devices that cannot be read stay away.
pub(super) fn read(sys: &Path) -> Result<Machine, MachineError> {
    let online: Cpus = required(&sys.join("devices/system/cpu/online"))?.parse()?;
    let nodes = nodes(sys, &online);
    let mut cores: BTreeMap<u32, Core> = BTreeMap::new();
    for cpu in online.iter() {
        let first = siblings(sys, cpu).and(&online).iter().next().unwrap_or(cpu);
        let core = || Core {
            package: package(sys, cpu),
            node: nodes.iter().find(|(_, cpus)| cpus.contains(cpu)).map_or(0, |(node, _)| node.index),
            l3: l3(sys, cpu),
            cpus: Vec::new(),
        };
        cores.entry(first).or_insert_with(core).cpus.push(cpu);
    }
    let mut machine = Machine {
        source: "this machine".into(),
        nodes: nodes.into_iter().map(|(node, _)| node).collect(),
        cores: cores.into_values().collect(),
        gpus: Vec::new(),
        nics: Vec::new(),
        disks: Vec::new(),
        allowed: online,
        interrupts: Cpus::default(),
        doubts: Vec::new(),
    };
    let with_cores = machine.nodes_with_cores();
    for device in entries(&sys.join("bus/pci/devices")) {
        add_device(&mut machine, &device, &with_cores);
    }
    Ok(machine)
}

fn required(path: &Path) -> Result<String, MachineError> {
    fs::read_to_string(path).map_err(|source| MachineError::Read { path: path.into(), source })
}

fn word(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    word(path)?.parse().ok()
}

fn entries(folder: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Nodes with their CPUs; one with everything where the system knows of none.
fn nodes(sys: &Path, online: &Cpus) -> Vec<(Node, Cpus)> {
    let folder = sys.join("devices/system/node");
    let indices: Option<Cpus> = word(&folder.join("online")).and_then(|list| list.parse().ok());
    let node = |index: u32| {
        let folder = folder.join(format!("node{index}"));
        let cpus = word(&folder.join("cpulist")).and_then(|list| list.parse().ok()).unwrap_or_default();
        let meminfo = word(&folder.join("meminfo")).unwrap_or_default();
        let total = meminfo.lines().find_map(|line| line.split_once("MemTotal:").map(|(_, rest)| rest));
        let kib: Option<u64> = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
        (Node { index, memory_bytes: kib.and_then(|kib| kib.checked_mul(1024)) }, cpus)
    };
    match indices {
        Some(indices) => indices.iter().map(node).collect(),
        None => vec![(Node { index: 0, memory_bytes: None }, online.clone())],
    }
}

fn cpu_folder(sys: &Path, cpu: u32) -> PathBuf {
    sys.join(format!("devices/system/cpu/cpu{cpu}"))
}

/// The CPUs of the core of `cpu`.
fn siblings(sys: &Path, cpu: u32) -> Cpus {
    let list = word(&cpu_folder(sys, cpu).join("topology/thread_siblings_list"));
    list.and_then(|list| list.parse().ok()).unwrap_or_else(|| [cpu].into_iter().collect())
}

fn package(sys: &Path, cpu: u32) -> u32 {
    // Some virtual machines say -1.
    number(&cpu_folder(sys, cpu).join("topology/physical_package_id")).unwrap_or(0)
}

/// The first CPU that shares its L3 cache stands for the cache.
fn l3(sys: &Path, cpu: u32) -> Option<u32> {
    let caches = entries(&cpu_folder(sys, cpu).join("cache"));
    let cache = caches.into_iter().find(|cache| number::<u32>(&cache.join("level")) == Some(3))?;
    word(&cache.join("shared_cpu_list"))?.parse::<Cpus>().ok()?.iter().next()
}

fn add_device(machine: &mut Machine, device: &Path, nodes: &[u32]) {
    let near = match (number::<u32>(&device.join("numa_node")), nodes) {
        (Some(node), _) if nodes.contains(&node) => vec![node],
        (_, [only]) => vec![*only],
        _ => Vec::new(),
    };
    let pci = Pci { bus_id: name(device), near, bridges: bridges(device) };
    let is = |file: &str, begin: &str| word(&device.join(file)).is_some_and(|word| word.starts_with(begin));
    if is("vendor", NVIDIA) && is("class", DISPLAY_CLASS) {
        let model = word(&device.join("device")).unwrap_or_default();
        machine.gpus.push(Gpu { pci, model, uuid: None, cuda: Cuda::Unknown });
        return;
    }
    // A virtio device has its interface one folder further down.
    let below = entries(device).into_iter().filter(|path| name(path).starts_with("virtio"));
    let folders: Vec<_> = [device.to_path_buf()].into_iter().chain(below).collect();
    for interface in folders.iter().flat_map(|folder| entries(&folder.join("net"))) {
        machine.nics.push(Nic { pci: pci.clone(), name: name(&interface), addresses: Vec::new() });
    }
    let controllers = entries(&device.join("nvme"));
    let namespaces = controllers.iter().flat_map(|controller| entries(controller));
    let blocks = folders.iter().flat_map(|folder| entries(&folder.join("block")));
    for disk in namespaces
        .map(|path| name(&path))
        .filter_map(|name| namespace(&name))
        .chain(blocks.map(|path| name(&path)))
    {
        machine.disks.push(Disk { pci: pci.clone(), name: disk, mounts: Vec::new() });
    }
}

/// `nvme0n1` of `nvme0n1`, and of the path `nvme0c1n1` to it, which is what a controller has where the kernel joins several paths.
fn namespace(entry: &str) -> Option<String> {
    let rest = entry.strip_prefix("nvme")?;
    let (controller, number) = rest.split_once('n')?;
    let subsystem = controller.split('c').next()?;
    let are_numbers = [subsystem, number].iter().all(|part| part.parse::<u32>().is_ok());
    are_numbers.then(|| format!("nvme{subsystem}n{number}"))
}

/// The bridges above a device, from the folders that it lies in: `pci0000:00/0000:00:01.1/0000:03:00.0`.
fn bridges(device: &Path) -> Vec<u64> {
    let Ok(path) = fs::canonicalize(device) else { return Vec::new() };
    let parts = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let mut folders: Vec<String> = parts.skip_while(|part| !part.starts_with("pci")).collect();
    folders.pop();
    folders.iter().filter_map(|folder| bridge_number(folder)).collect()
}

/// One number for `pci0000:00` or `0000:00:01.1`, another for every other.
fn bridge_number(folder: &str) -> Option<u64> {
    let (is_host, digits) = folder.strip_prefix("pci").map_or((0, folder), |rest| (1, rest));
    let digits: String = digits.chars().filter(char::is_ascii_hexdigit).collect();
    Some(u64::from_str_radix(&digits, 16).ok()? << 1 | is_host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder with these files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn two_nodes_with_a_gpu_and_disks() {
        const ROOT: &str = "devices/pci0000:80/0000:80:01.1";
        let gpu = |file: &str| format!("{ROOT}/0000:81:00.0/{file}");
        let nvme = |file: &str| format!("{ROOT}/0000:82:00.0/{file}");
        let mut files: Vec<(String, String)> = vec![
            ("devices/system/cpu/online".into(), "0-3\n".into()),
            ("devices/system/node/online".into(), "0-1\n".into()),
            ("devices/system/node/node0/cpulist".into(), "0,2\n".into()),
            ("devices/system/node/node1/cpulist".into(), "1,3\n".into()),
            ("devices/system/node/node1/meminfo".into(), "Node 1 MemTotal:     1024 kB\n".into()),
            (gpu("vendor"), "0x10de\n".into()),
            (gpu("class"), "0x030200\n".into()),
            (gpu("device"), "0x2335\n".into()),
            (gpu("numa_node"), "1\n".into()),
            (nvme("numa_node"), "-1\n".into()),
            (nvme("nvme/nvme0/nvme0c0n1/size"), "1\n".into()),
            (nvme("nvme/nvme0/device/x"), "1\n".into()),
        ];
        for cpu in 0..4 {
            let siblings = if cpu % 2 == 0 { "0,2\n" } else { "1,3\n" };
            files.push((
                format!("devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"),
                siblings.into(),
            ));
        }
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let sys = tree(&files);
        fs::create_dir_all(sys.path().join("bus/pci/devices")).unwrap();
        for device in ["0000:81:00.0", "0000:82:00.0"] {
            let link = sys.path().join("bus/pci/devices").join(device);
            symlink(sys.path().join(ROOT).join(device), link).unwrap();
        }
        let machine = read(sys.path()).unwrap();
        assert_eq!(machine.nodes[1], Node { index: 1, memory_bytes: Some(1 << 20) });
        let cores: Vec<_> = machine.cores.iter().map(|core| (core.node, core.cpus.clone())).collect();
        assert_eq!(cores, [(0, vec![0, 2]), (1, vec![1, 3])]);
        let (gpu, disk) = (&machine.gpus[0], &machine.disks[0]);
        assert_eq!((gpu.pci.bus_id.as_str(), gpu.pci.node()), ("0000:81:00.0", Some(1)));
        assert_eq!((disk.name.as_str(), disk.pci.node()), ("nvme0n1", None));
        assert_eq!(gpu.pci.link(&disk.pci), crate::machine::Link::Pix);
    }

    #[test]
    fn a_system_without_cpus_is_an_error() {
        assert!(matches!(read(tree(&[]).path()), Err(MachineError::Read { .. })));
    }

    #[cfg(feature = "hwloc")]
    #[test]
    fn this_machine_is_the_same_as_by_hwloc() {
        let of = |mut machine: Machine| {
            machine.sort();
            let cores = machine.cores.into_iter().map(|core| (core.node, core.cpus)).collect::<Vec<_>>();
            (cores, machine.gpus.iter().map(|gpu| gpu.pci.bus_id.clone()).collect::<Vec<_>>())
        };
        let by_hwloc = super::super::hwloc::this_machine().unwrap();
        assert_eq!(of(read(Path::new("/sys")).unwrap()), of(by_hwloc));
    }
}
