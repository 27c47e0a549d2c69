//! A file of records, which grows at its end and is cut there when the newest ones count no more.
//!
//! ```text
//! record: │ length u32 LE │ first 8 bytes of BLAKE3 of the payload │ payload │
//! ```
//!
//! A record that a crash has cut short is at the end of the file. It never counted and is cut off when the file is opened.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::{StoreError, at, damaged};

/// Bytes in front of a payload.
const HEAD_SIZE: usize = 4 + CHECKSUM_SIZE;
const CHECKSUM_SIZE: usize = 8;

/// Longest payload (bytes): far above a block's encoding, and a limit to what damage can make us believe.
const PAYLOAD_SIZE_MAX: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct RecordLog {
    path: PathBuf,
    file: File,
    /// Where each record begins.
    starts: Vec<u64>,
    /// Where the next record goes. Behind a failed append the file may be longer.
    end: u64,
}

/// What lies at the front of bytes.
enum Front<'a> {
    Record(&'a [u8], usize),
    /// The beginning of a record.
    CutShort,
    Damaged,
}

impl RecordLog {
    /// Opens a log, creating an empty one, and reads all its records.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Vec<u8>>), StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let mut file = options.open(path).map_err(at("open", path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(at("read", path))?;
        let (mut records, mut starts) = (Vec::new(), Vec::new());
        let mut end = 0;
        while end < bytes.len() {
            match front(&bytes[end..]) {
                Front::Record(payload, size) => {
                    records.push(payload.to_vec());
                    starts.push(end as u64);
                    end += size;
                }
                Front::CutShort => {
                    tracing::warn!(path = %path.display(), "the last record was cut short by a crash and is dropped");
                    break;
                }
                Front::Damaged => {
                    return Err(damaged(path, format!("the record at byte {end} has a wrong checksum")));
                }
            }
        }
        let end = end as u64;
        file.set_len(end).map_err(at("truncate", path))?;
        Ok((Self { path: path.into(), file, starts, end }, records))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds records and forces them to disk. After an error none of them counts.
    pub(super) fn append(&mut self, payloads: impl IntoIterator<Item = Vec<u8>>) -> Result<(), StoreError> {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for payload in payloads {
            assert!(payload.len() <= PAYLOAD_SIZE_MAX, "records are small");
            starts.push(self.end + bytes.len() as u64);
            bytes.extend((payload.len() as u32).to_le_bytes());
            bytes.extend(&blake3::hash(&payload).as_bytes()[..CHECKSUM_SIZE]);
            bytes.extend(payload);
        }
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // If this fails too, opening the log finds a record cut short, or more records than anybody counted on.
            let _ = self.file.set_len(self.end);
            return Err(at("write", &self.path)(source));
        }
        self.end += bytes.len() as u64;
        self.starts.extend(starts);
        Ok(())
    }

    /// Leaves `count` records; those behind them count no more.
    pub(super) fn truncate(&mut self, count: usize) -> Result<(), StoreError> {
        let Some(end) = self.starts.get(count).copied() else { return Ok(()) };
        self.file.set_len(end).map_err(at("truncate", &self.path))?;
        self.starts.truncate(count);
        self.end = end;
        Ok(())
    }

    /// At most `count` records from number `first` on.
    pub(super) fn read(&self, first: usize, count: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let starts = self.starts.iter().copied().chain([self.end]);
        let edges: Vec<_> = starts.skip(first).take(count.saturating_add(1)).collect();
        let read_one = |edges: &[u64]| {
            let mut payload = vec![0; (edges[1] - edges[0]) as usize - HEAD_SIZE];
            let read = self.file.read_exact_at(&mut payload, edges[0] + HEAD_SIZE as u64);
            read.map(|()| payload).map_err(at("read", &self.path))
        };
        edges.windows(2).map(read_one).collect()
    }
}

fn front(bytes: &[u8]) -> Front<'_> {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Front::CutShort };
    let length = u32::from_le_bytes(*length) as usize;
    if length > PAYLOAD_SIZE_MAX {
        return Front::Damaged;
    }
    let Some((checksum, rest)) = rest.split_at_checked(CHECKSUM_SIZE) else { return Front::CutShort };
    let Some(payload) = rest.get(..length) else { return Front::CutShort };
    if blake3::hash(payload).as_bytes()[..CHECKSUM_SIZE] == *checksum {
        return Front::Record(payload, HEAD_SIZE + length);
    }
    // A crash may leave the length of the last record and zeros in place of what follows.
    if rest.len() == length { Front::CutShort } else { Front::Damaged }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn reopened(path: &Path) -> Vec<Vec<u8>> {
        RecordLog::open(path).unwrap().1
    }

    #[test]
    fn records_survive_and_torn_ends_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut log, records) = RecordLog::open(&path).unwrap();
        assert!(records.is_empty());
        log.append([b"one".to_vec(), Vec::new()]).unwrap();
        log.append([b"three".to_vec()]).unwrap();
        drop(log);
        let whole = fs::read(&path).unwrap();
        let all = [b"one".to_vec(), Vec::new(), b"three".to_vec()];
        assert_eq!(reopened(&path), all);
        let last = whole.len() - HEAD_SIZE - 5;
        for cut in last..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut log, records) = RecordLog::open(&path).unwrap();
            assert_eq!(records, all[..2], "cut at {cut}");
            log.append([b"three".to_vec()]).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn the_end_can_be_replaced_and_any_part_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut log, _) = RecordLog::open(&path).unwrap();
        log.append(["a", "bb", "ccc"].map(|text| text.as_bytes().to_vec())).unwrap();
        log.truncate(5).unwrap();
        assert_eq!(log.read(1, 9).unwrap(), [b"bb".to_vec(), b"ccc".to_vec()]);
        assert_eq!(log.read(0, 1).unwrap(), [b"a"]);
        assert!(log.read(3, usize::MAX).unwrap().is_empty() && log.read(usize::MAX, 1).unwrap().is_empty());
        log.truncate(1).unwrap();
        log.append([b"dddd".to_vec()]).unwrap();
        let all = [b"a".to_vec(), b"dddd".to_vec()];
        assert_eq!(log.read(0, 9).unwrap(), all);
        drop(log);
        let (log, records) = RecordLog::open(&path).unwrap();
        assert_eq!((records, log.read(1, 1).unwrap()), (all.to_vec(), all[1..].to_vec()));
    }

    #[test]
    fn damage_before_the_end_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        RecordLog::open(&path).unwrap().0.append([vec![1; 40], vec![2; 40]]).unwrap();
        let whole = fs::read(&path).unwrap();
        for (at, bit) in [(3, 0x80), (5, 1), (20, 1)] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            fs::write(&path, &bytes).unwrap();
            let error = RecordLog::open(&path).unwrap_err().to_string();
            assert!(error.contains("record at byte 0"), "{error}");
        }
    }
}
