//! The file that is read, and where in it there is something to read.
//!
//! Blocks that were never written are answered with zeros by the file system, and figures of them are none of the disk: only
//! what holds data is read.

use engine::farm::{FarmInfo, INFO_FILE, PLOT_FILE};
use engine::{Access, BLOCK_BYTES, DirectFile, IoError};
use rustix::fs::{Advice, SeekFrom, fadvise, seek};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Stretches of data that are looked for: beyond them a file counts as empty.
const STRETCHES_MAX: usize = 1 << 20;
/// Pieces of a sector where nothing says otherwise: those of the network.
pub const USUAL_PIECES: u16 = 1000;

/// Why a path cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The file cannot be opened, made or read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// There is nothing to read there.
    #[error("{}: there is no plot.bin here: name a farm or a file, or give --file-gib to measure by a file of its own", .0.display())]
    NothingToRead(PathBuf),
    /// It is not there at all.
    #[error("{}: {source}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What is there was never written.
    #[error(
        "{}: nothing is written in it yet, so that reading it says nothing of the disk: give --file-gib to measure by a \
         file of its own", .0.display()
    )]
    Unwritten(PathBuf),
}

/// What is read.
#[derive(Debug, Clone)]
pub struct Target {
    /// As the operator named it.
    pub path: PathBuf,
    /// Open for reading, or a file of its own.
    pub file: Arc<DirectFile>,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Whether it has to be filled before it is read.
    pub is_own: bool,
    /// Pieces in a sector of the farm there.
    pub pieces_in_sector: Option<u16>,
}

impl Target {
    /// The `plot.bin` of a farm, a file, or with `own_bytes` a new file in the directory, which ends with this process.
    pub fn open(path: &Path, own_bytes: Option<u64>) -> Result<Self, TargetError> {
        let about =
            fs::metadata(path).map_err(|error| TargetError::Path { path: path.to_owned(), source: error })?;
        let pieces_in_sector = pieces_of(path);
        let file = match own_bytes {
            Some(bytes) if about.is_dir() => DirectFile::create_unnamed(path, bytes)?,
            Some(_) => {
                let not_a_folder = io::ErrorKind::NotADirectory.into();
                return Err(TargetError::Path { path: path.to_owned(), source: not_a_folder });
            }
            None if about.is_dir() => match path.join(PLOT_FILE) {
                plot if plot.is_file() => DirectFile::open(&plot, Access::Read)?,
                _ => return Err(TargetError::NothingToRead(path.to_owned())),
            },
            None if about.is_file() => DirectFile::open(path, Access::Read)?,
            None => return Err(TargetError::NothingToRead(path.to_owned())),
        };
        let file_bytes = file.size_bytes()?;
        Ok(Self { path: path.to_owned(), file, file_bytes, is_own: own_bytes.is_some(), pieces_in_sector })
    }

    /// Where reads of `read_bytes` find data.
    pub fn stretches(&self, read_bytes: u64) -> Result<Stretches, TargetError> {
        let stretches = Stretches::new(&self.data(), read_bytes);
        if stretches.places == 0 { Err(TargetError::Unwritten(self.path.clone())) } else { Ok(stretches) }
    }

    /// Stretches that were written; all of a file whose file system does not tell.
    fn data(&self) -> Vec<(u64, u64)> {
        // Zeros that somebody read into the page cache would count as data.
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
        let (mut found, mut at) = (Vec::new(), 0);
        while at < self.file_bytes && found.len() < STRETCHES_MAX {
            let end = seek(&self.file, SeekFrom::Data(at))
                .and_then(|start| Ok((start, seek(&self.file, SeekFrom::Hole(start))?)));
            match end {
                Ok((start, end)) if end > start => {
                    found.push((start, end));
                    at = end;
                }
                Ok(_) | Err(Errno::NXIO) => break,
                Err(_) => return vec![(0, self.file_bytes)],
            }
        }
        found
    }
}

/// Pieces in a sector of the farm in the directory.
fn pieces_of(directory: &Path) -> Option<u16> {
    let json = fs::read(directory.join(INFO_FILE)).ok()?;
    Some(FarmInfo::from_json(&json).ok()?.pieces_in_sector)
}

/// Places at which a read of whole blocks meets data only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretches {
    /// Where each begins, and the places before it; ascending.
    starts: Vec<(u64, u64)>,
    /// All places.
    places: u64,
    /// Bytes that hold data.
    pub data_bytes: u64,
}

impl Stretches {
    fn new(data: &[(u64, u64)], read_bytes: u64) -> Self {
        let block = BLOCK_BYTES as u64;
        let (mut starts, mut places) = (Vec::new(), 0);
        for &(start, end) in data {
            let (start, end) = (start.next_multiple_of(block), end - end % block);
            if end.saturating_sub(start) >= read_bytes {
                starts.push((start, places));
                places += (end - start - read_bytes) / block + 1;
            }
        }
        Self { starts, places, data_bytes: data.iter().map(|(start, end)| end - start).sum() }
    }

    /// The place that any number means: an offset in the file.
    pub fn at(&self, number: u64) -> u64 {
        let number = number % self.places.max(1);
        let next = self.starts.partition_point(|&(_, before)| before <= number);
        let (start, before) = self.starts[next - 1];
        start + (number - before) * BLOCK_BYTES as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn only_what_was_written_is_read() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let path = dir.path().join("sparse");
        let file = fs::File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        let target = Target::open(&path, None).unwrap();
        assert!(matches!(target.stretches(4096), Err(TargetError::Unwritten(_))));
        file.write_all_at(&vec![1; 32 << 10], 16 << 20).unwrap();
        file.sync_all().unwrap();
        let stretches = Target::open(&path, None).unwrap().stretches(8192).unwrap();
        assert_eq!(stretches.data_bytes, 32 << 10);
        for number in 0..100 {
            let at = stretches.at(number);
            assert!(at >= 16 << 20 && at + 8192 <= (16 << 20) + (32 << 10), "{at}");
        }
    }

    #[test]
    fn paths_without_anything_to_read_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        for (path, own_bytes, said) in [
            (&missing, None, "missing: No such file"),
            (&missing, Some(1 << 20), "missing: No such file"),
            (&dir.path().to_owned(), None, "there is no plot.bin here"),
            (&PathBuf::from("/dev/null"), None, "there is no plot.bin here"),
            (&PathBuf::from("/dev/null"), Some(1 << 20), "not a directory"),
        ] {
            let error = Target::open(path, own_bytes).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_of_its_own_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::open(dir.path(), Some(1 << 20)).unwrap();
        assert_eq!((target.file_bytes, fs::read_dir(dir.path()).unwrap().count()), (1 << 20, 0));
    }

    proptest! {
        #[test]
        fn every_place_is_within_data(
            lengths in prop::collection::vec((0u64..40_000, 0u64..200_000), 1..20),
            read_blocks in 1u64..6,
            number: u64,
        ) {
            let mut end = 0;
            let data: Vec<_> = lengths.iter().map(|(gap, length)| { let start = end + gap; end = start + length; (start, end) }).collect();
            let read_bytes = read_blocks * BLOCK_BYTES as u64;
            let stretches = Stretches::new(&data, read_bytes);
            if stretches.places > 0 {
                let at = stretches.at(number);
                prop_assert!(at.is_multiple_of(BLOCK_BYTES as u64));
                prop_assert!(data.iter().any(|&(start, end)| start <= at && at + read_bytes <= end));
                let last = stretches.at(stretches.places - 1);
                prop_assert!(data.iter().any(|&(_, end)| last + read_bytes <= end && last + read_bytes + 4096 > end));
            }
        }
    }
}
