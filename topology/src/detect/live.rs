//! What only the running system knows: the CPUs that this process was given, addresses, mount paths, UUIDs of GPUs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{MachineError, addresses};
use crate::cpus::{CPU_LIMIT, Cpus};
use crate::machine::{Disk, Machine, Nic};

/// Block devices stand on one another (partitions, RAID, LVM, encryption); more floors than this nobody builds.
const DEVICE_FLOORS: usize = 8;

/// Adds to `machine`, which is this one. Only the CPUs must be known; what else cannot be read stays away.
pub(super) fn complete(machine: &mut Machine) -> Result<(), MachineError> {
    let path = Path::new("/proc/self/status");
    let status =
        fs::read_to_string(path).map_err(|source| MachineError::Read { path: path.into(), source })?;
    machine.allowed = machine.allowed.and(&allowed_cpus(&status)?);
    for gpu in &mut machine.gpus {
        gpu.uuid = gpu.uuid.take().or_else(|| uuid_of_gpu(&gpu.pci.bus_id));
    }
    set_addresses(&mut machine.nics);
    set_mounts(&mut machine.disks);
    let interrupts = fs::read_to_string("/proc/irq/default_smp_affinity").ok();
    machine.interrupts = interrupts.and_then(|mask| cpus_of_mask(&mask)).unwrap_or_default();
    Ok(())
}

/// The CPUs that a process may use by cgroup, taskset and numactl, from its `/proc/PID/status`: of any size of machine, where
/// `sched_getaffinity` takes a mask of a size that the caller guesses.
fn allowed_cpus(status: &str) -> Result<Cpus, MachineError> {
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let missing = || MachineError::Live("/proc/self/status has no Cpus_allowed_list".into());
    Ok(line.ok_or_else(missing)?.parse()?)
}

/// The CPUs of a mask as the kernel writes it: hexadecimal, most significant first, a comma between 32 bits. None if it is not one.
fn cpus_of_mask(mask: &str) -> Option<Cpus> {
    let digits: String = mask.trim().chars().filter(|c| *c != ',').collect();
    let mut cpus = Vec::new();
    for (place, digit) in (0..).zip(digits.chars().rev()) {
        let digit = digit.to_digit(16)?;
        cpus.extend((0..4).filter(|bit| digit >> bit & 1 == 1).map(|bit| 4 * place + bit));
    }
    Some(cpus.into_iter().filter(|&cpu| cpu < CPU_LIMIT).collect())
}

/// As the driver tells it.
fn uuid_of_gpu(bus_id: &str) -> Option<String> {
    let information = fs::read_to_string(format!("/proc/driver/nvidia/gpus/{bus_id}/information")).ok()?;
    let uuid = information.lines().find_map(|line| line.strip_prefix("GPU UUID:"))?;
    Some(uuid.trim().to_owned()).filter(|uuid| uuid.starts_with("GPU-") && !uuid.contains('?'))
}

/// The addresses of each interface, and of the bond or bridge that it belongs to.
fn set_addresses(nics: &mut [Nic]) {
    let all = addresses::of_interfaces().unwrap_or_default();
    for nic in nics {
        let master = fs::read_link(format!("/sys/class/net/{}/master", nic.name)).ok();
        let master = master.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        let is_its = |name: &str| name == nic.name || Some(name) == master;
        nic.addresses = all.iter().filter(|(name, _)| is_its(name)).map(|(_, address)| *address).collect();
    }
}

/// Where file systems on each disk are mounted, also through partitions, RAID, LVM and encryption.
fn set_mounts(disks: &mut [Disk]) {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return };
    for (device, path) in mounts.lines().filter_map(mount) {
        let below = disks_below(Path::new("/sys"), device);
        for disk in disks.iter_mut().filter(|disk| below.contains(&disk.name)) {
            if !disk.mounts.contains(&path) {
                disk.mounts.push(path.clone());
            }
        }
    }
    disks.iter_mut().for_each(|disk| disk.mounts.sort());
}

/// Device (`259:1`) and path of a line of mountinfo.
fn mount(line: &str) -> Option<(&str, PathBuf)> {
    let mut fields = line.split(' ').skip(2);
    let (device, _root, path) = (fields.next()?, fields.next()?, fields.next()?);
    // The kernel writes blanks and the like as octal escapes.
    let path = path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
    Some((device, path.into()))
}

/// Names of everything that the block device `device` (`259:1`) stands on, and of itself.
fn disks_below(sys: &Path, device: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut floor = vec![sys.join("dev/block").join(device)];
    for _ in 0..DEVICE_FLOORS {
        let mut below = Vec::new();
        for device in floor.iter().filter_map(|link| fs::canonicalize(link).ok()) {
            // A partition lies in the folder of its disk: .../block/nvme0n1/nvme0n1p1.
            let parts = device.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
            names.extend(parts.skip_while(|part| part != "block").skip(1));
            let slaves = fs::read_dir(device.join("slaves")).into_iter().flatten().flatten();
            below.extend(slaves.map(|slave| slave.path()));
        }
        floor = below;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn cpus_of_a_process() {
        let status = "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-3,96-99\nMems_allowed_list:\t0\n";
        assert_eq!(allowed_cpus(status).unwrap().to_string(), "0-3,96-99");
        assert!(matches!(allowed_cpus("Name:\tx\n"), Err(MachineError::Live(_))));
    }

    #[test]
    fn cpus_of_masks() {
        let cpus = |mask| cpus_of_mask(mask).map(|cpus| cpus.to_string());
        assert_eq!(cpus("3\n"), Some("0-1".into()));
        assert_eq!(cpus("00000001,00000000,80000001\n"), Some("0,31,64".into()));
        assert_eq!((cpus("0"), cpus("g")), (Some(String::new()), None));
    }

    #[test]
    fn lines_of_mountinfo() {
        let line = "36 35 259:3 / /mnt/a\\040disk rw,noatime shared:1 - ext4 /dev/nvme0n1p1 rw";
        assert_eq!(mount(line), Some(("259:3", "/mnt/a disk".into())));
        assert_eq!(mount("36 35"), None);
    }

    #[test]
    fn disks_are_found_through_raid_and_partitions() {
        let sys = tempfile::tempdir().unwrap();
        let sys = sys.path();
        let disk = sys.join("devices/pci0000:00/0000:00:05.0/nvme/nvme0/block/nvme0n1");
        let raid = sys.join("devices/virtual/block/md0");
        fs::create_dir_all(disk.join("nvme0n1p2")).unwrap();
        fs::create_dir_all(raid.join("slaves")).unwrap();
        fs::create_dir_all(sys.join("dev/block")).unwrap();
        symlink(disk.join("nvme0n1p2"), raid.join("slaves/nvme0n1p2")).unwrap();
        symlink(&raid, sys.join("dev/block/9:0")).unwrap();
        let below = disks_below(sys, "9:0");
        assert!(["md0", "nvme0n1p2", "nvme0n1"].iter().all(|name| below.contains(*name)), "{below:?}");
        assert!(disks_below(sys, "9:1").is_empty());
    }
}
