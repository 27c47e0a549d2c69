//! Which disk a path is on.

use std::fs::metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use topology::Machine;
use topology::machine::Disk;

/// The file system that `path` is on, or will be: that of the nearest folder above it that exists.
pub fn device_of(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find_map(|folder| {
        metadata(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }).ok()
    });
    existing.map(|metadata| metadata.dev())
}

/// The disk of the machine that has this file system; of several (RAID) the first.
pub(super) fn disk_of<'a>(machine: &'a Machine, path: &Path) -> Option<&'a Disk> {
    let device = device_of(path)?;
    machine.disks.iter().find(|disk| disk.mounts.iter().any(|mount| device_of(mount) == Some(device)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use topology::detect;

    #[test]
    fn a_path_is_on_the_disk_whose_file_system_it_is_in() {
        let mut machine = detect::this_machine().unwrap();
        let disk = |name: &str, mounts: &[&Path]| Disk {
            pci: Default::default(),
            name: name.into(),
            mounts: mounts.iter().map(PathBuf::from).collect(),
        };
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join("not/there/yet");
        machine.disks = vec![disk("nvme0n1", &[]), disk("nvme1n1", &[Path::new("/proc")])];
        assert_eq!(disk_of(&machine, &beside), None);
        machine.disks.push(disk("nvme2n1", &[folder.path()]));
        assert_eq!(disk_of(&machine, &beside).unwrap().name, "nvme2n1");
        assert_eq!(disk_of(&machine, Path::new("/proc/self")).unwrap().name, "nvme1n1");
        assert_eq!(device_of(Path::new("not-there-either")), device_of(Path::new(".")));
    }
}
