//! Which farm lies in a folder, before anything of it is opened: of one whose disk was away another disk may be mounted there, or none.
//!
//! Never: a lock, or a change.

use control::ids::FarmId;
use engine::farm::{FarmInfo, INFO_FILE};
use std::fs::{File, metadata, read_to_string};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Longest `single_disk_farm.json` that is looked at, bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Where the system lists its block devices, by their numbers.
const DEVICES: &str = "/sys/dev/block";

/// What is in a folder.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// This farm.
    Farm(FarmId),
    /// None, or there is no folder.
    Nothing,
    /// Its device is gone, and its file system still mounted there: what is read comes from memory, or is an error.
    Dead,
    /// Something that does not say which farm it is.
    Unclear,
}

/// Looks into a folder. Blocks.
pub fn find(dir: &Path) -> Found {
    if metadata(dir).is_ok_and(|metadata| !is_there(Path::new(DEVICES), metadata.dev())) {
        return Found::Dead;
    }
    match read(&dir.join(INFO_FILE)) {
        Ok(json) => {
            FarmInfo::from_json(&json).map_or(Found::Unclear, |info| Found::Farm(FarmId(info.id.to_bytes())))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
        Err(_) => Found::Unclear,
    }
}

/// Whether the system has the device, or it is none that it lists: `devices` has a folder for each that it has.
fn is_there(devices: &Path, device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    match read_to_string(devices.join(format!("{major}:{minor}/size"))) {
        Ok(sectors) => sectors.trim() != "0",
        Err(error) => error.kind() != ErrorKind::NotFound || major == 0 || !devices.exists(),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would be waited for.
    if !metadata(path)?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut json = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut json)?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_listed_or_has_no_size_is_gone() {
        let devices = tempfile::tempdir().unwrap();
        let device = |major, minor| rustix::fs::makedev(major, minor);
        for (number, sectors) in [("8:1", "2048\n"), ("7:0", "0\n")] {
            std::fs::create_dir(devices.path().join(number)).unwrap();
            std::fs::write(devices.path().join(number).join("size"), sectors).unwrap();
        }
        let is_there = |device| super::is_there(devices.path(), device);
        assert!(is_there(device(8, 1)) && !is_there(device(7, 0)) && !is_there(device(8, 2)));
        // Those of file systems without a device, and of a system that lists none.
        assert!(is_there(device(0, 35)) && super::is_there(Path::new("/nowhere"), device(8, 2)));
    }

    #[test]
    fn a_farm_none_and_what_is_unclear_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, path) = (folder.path(), folder.path().join(INFO_FILE));
        assert_eq!((find(dir), find(&dir.join("not/there"))), (Found::Nothing, Found::Nothing));
        let info = FarmInfo {
            id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            genesis_hash: [1; 32],
            public_key: [2; 32],
            pieces_in_sector: 2,
            allocated_bytes: 1 << 30,
        };
        std::fs::write(&path, info.to_json()).unwrap();
        assert_eq!(find(dir), Found::Farm(FarmId(info.id.to_bytes())));
        for bad in [b"{".to_vec(), vec![b' '; 2 * MAX_BYTES as usize]] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(find(dir), Found::Unclear);
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(find(dir), Found::Unclear);
    }
}
