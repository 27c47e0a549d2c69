//! Which farm lies in a folder, before anything of it is opened: of one whose disk was away another disk may be mounted there, or none.
//!
//! Never: a lock, or a change.

use control::ids::FarmId;
use engine::farm::{FarmInfo, INFO_FILE};
use std::fs::{File, metadata};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Longest `single_disk_farm.json` that is looked at, bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// What is in a folder.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// This farm.
    Farm(FarmId),
    /// None, or there is no folder.
    Nothing,
    /// Something that does not say which farm it is.
    Unclear,
}

/// Looks into a folder. Blocks.
pub fn find(dir: &Path) -> Found {
    match read(&dir.join(INFO_FILE)) {
        Ok(json) => {
            FarmInfo::from_json(&json).map_or(Found::Unclear, |info| Found::Farm(FarmId(info.id.to_bytes())))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
        Err(_) => Found::Unclear,
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
        for bad in [&b"{"[..], &[b' '; 2 * MAX_BYTES as usize]] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(find(dir), Found::Unclear);
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(find(dir), Found::Unclear);
    }
}
