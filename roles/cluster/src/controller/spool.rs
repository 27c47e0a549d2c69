//! Segments on the controller's disk, from when they were verified until the caches have them.
//!
//! ```text
//!   DIR/<cluster>-<chain>/<n>/lock    n: the lowest that no other controller of this host has
//!   …/<n>/settings                    what the cluster had agreed on last
//!   …/<n>/<index>.segment             head: magic 8 │ index u64 LE │ segment commitment 48 │ BLAKE3 of each piece, 256 x 32 │ BLAKE3 of all that
//!                                     body: the 256 pieces, 1 048 672 bytes each
//! ```
//! A file is written aside, forced to disk, renamed, and its folder forced to disk: it is whole, or it is not there. Whatever is read is
//! held against its hash. At the start, segments of controllers of this cluster and chain that no longer run here are taken over.
//!
//! Owns: the folder. Never: which segments it should hold ([`control::segments`]). All of it blocks its thread.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use consensus::constants::{PIECE_SIZE, SEGMENT_PIECES};
use consensus::kzg::PointBytes;
use consensus::piece::Piece;
use control::envelope::ClusterName;
use control::messages::ClusterInfo;

use super::verifier::Verified;
use crate::recall::Memory;

const MAGIC: [u8; 8] = *b"AFSPOOL1";
const HASH_BYTES: usize = 32;
const COMMITMENT_AT: usize = 8 + 8;
const HASHES_AT: usize = COMMITMENT_AT + 48;
const HEAD_BYTES: usize = HASHES_AT + SEGMENT_PIECES * HASH_BYTES + HASH_BYTES;
const LOCK_FILE: &str = "lock";
/// Controllers of one chain on one host.
const FOLDERS_MAX: u32 = 64;

/// Why the spool does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The system refused.
    #[error("{path}: {source}; segments wait here until the caches have them: check the disk, or name another folder by --spool", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file does not hold what was written.
    #[error("{path} is damaged: {what}; it is dropped, and its segment fetched again", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// All folders have a running controller.
    #[error("{path}: {FOLDERS_MAX} controllers of this chain run on this host already", path = path.display())]
    TooMany {
        /// The chain's folder.
        path: PathBuf,
    },
}

/// The segments in one folder; it stays locked while this lives.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    #[expect(dead_code, reason = "holds the lock")]
    lock: File,
}

impl Spool {
    /// Opens the spool of a cluster on the chain with this genesis hash below `dir`, and gives the segments in it, in order.
    pub fn open(
        dir: &Path,
        cluster: &ClusterName,
        genesis_hash: &[u8; 32],
    ) -> Result<(Self, Vec<u64>), SpoolError> {
        let chain = dir.join(format!("{cluster}-{}", hex::encode(&genesis_hash[..8])));
        let (own, lock) = (0..FOLDERS_MAX)
            .map(|n| chain.join(n.to_string()))
            .find_map(|folder| lock(&folder).map(|lock| Some((folder, lock?))).transpose())
            .ok_or_else(|| SpoolError::TooMany { path: chain.clone() })??;
        let spool = Self { folder: own, lock };
        spool.take_over(&chain)?;
        let found = spool.look()?;
        tracing::info!(folder = %spool.folder.display(), segments = found.len(), "spool");
        Ok((spool, found))
    }

    /// What the cluster had agreed on, as far as any controller of it knew that ever ran here.
    pub fn remembered(&self) -> Option<ClusterInfo> {
        let chain = self.folder.parent().unwrap_or(&self.folder);
        let folders = (0..FOLDERS_MAX).map(|n| chain.join(n.to_string()));
        let known = folders.filter_map(|folder| Memory::new(&folder).read());
        known.max_by_key(|info| info.protocol_info.history_size)
    }

    /// Where that is kept from now on.
    pub fn memory(&self) -> Memory {
        Memory::new(&self.folder)
    }

    /// Moves what other folders hold that nobody has locked.
    fn take_over(&self, chain: &Path) -> Result<(), SpoolError> {
        for folder in (0..FOLDERS_MAX).map(|n| chain.join(n.to_string())) {
            if folder == self.folder || !folder.exists() {
                continue;
            }
            let Some(_held) = lock(&folder)? else { continue };
            for (name, _) in segment_files(&folder)? {
                let (from, to) = (folder.join(&name), self.folder.join(&name));
                tracing::info!(from = %from.display(), "taken over from a controller that no longer runs");
                fs::rename(&from, to).map_err(|source| SpoolError::Io { path: from, source })?;
            }
        }
        Ok(())
    }

    /// Segments whose file is there and whole as far as its head and length tell; what is not is dropped.
    fn look(&self) -> Result<Vec<u64>, SpoolError> {
        let mut found = Vec::new();
        for (_, index) in segment_files(&self.folder)? {
            match self.head(index) {
                Ok(_) => found.push(index),
                Err(error @ SpoolError::Damaged { .. }) => {
                    tracing::warn!("{error}");
                    self.delete(index)?;
                }
                // A disk that cannot read now may do so at the next start.
                Err(error) => tracing::warn!("{error}"),
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Makes a segment durable. `pieces` are its 256, verified against `commitment`.
    pub fn write(&self, index: u64, commitment: &PointBytes, pieces: &[Verified]) -> Result<(), SpoolError> {
        let path = self.path(index);
        let aside = path.with_extension("tmp");
        let done = write_aside(&aside, index, commitment, pieces)
            .and_then(|()| fs::rename(&aside, &path))
            .and_then(|()| engine::files::sync_parent(&path));
        done.map_err(|source| {
            // A full disk is not to be kept full.
            let _ = fs::remove_file(&aside);
            SpoolError::Io { path, source }
        })
    }

    /// A piece of the segment that commits to `commitment`, and its hash.
    pub fn read(&self, index: u64, commitment: &PointBytes, position: u8) -> Result<Verified, SpoolError> {
        let path = self.path(index);
        let (head, mut file) = self.head(index)?;
        if head[COMMITMENT_AT..HASHES_AT] != *commitment {
            return Err(SpoolError::Damaged { path, what: "it is of another history than the node's" });
        }
        let failed = |source| SpoolError::Io { path: path.clone(), source };
        let mut bytes = vec![0; PIECE_SIZE];
        let at = HEAD_BYTES as u64 + u64::from(position) * PIECE_SIZE as u64;
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes)).map_err(failed)?;
        let hash: [u8; 32] = blake3::hash(&bytes).into();
        let at = HASHES_AT + usize::from(position) * HASH_BYTES;
        if head[at..at + HASH_BYTES] != hash {
            return Err(SpoolError::Damaged { path, what: "a piece has not the hash it was written with" });
        }
        let piece = Piece::from_bytes(bytes.into());
        let piece = piece.map_err(|_| SpoolError::Damaged { path, what: "no piece" })?;
        Ok((piece, hash))
    }

    /// Whether a segment is there.
    pub fn has(&self, index: u64) -> bool {
        self.path(index).exists()
    }

    /// Removes a segment; none is fine.
    pub fn delete(&self, index: u64) -> Result<(), SpoolError> {
        let path = self.path(index);
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(SpoolError::Io { path, source }),
        }
    }

    fn path(&self, index: u64) -> PathBuf {
        self.folder.join(format!("{index}.segment"))
    }

    /// The head of a segment's file, which is then as long as it should be.
    fn head(&self, index: u64) -> Result<(Vec<u8>, File), SpoolError> {
        let path = self.path(index);
        let damaged = |what| SpoolError::Damaged { path: path.clone(), what };
        let failed = |source| SpoolError::Io { path: path.clone(), source };
        let mut file = File::open(&path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() != (HEAD_BYTES + SEGMENT_PIECES * PIECE_SIZE) as u64 {
            return Err(damaged("it has another length than a segment"));
        }
        let mut head = vec![0; HEAD_BYTES];
        file.read_exact(&mut head).map_err(failed)?;
        let (said, sum) = head.split_at(HEAD_BYTES - HASH_BYTES);
        if said[..8] != MAGIC || said[8..16] != index.to_le_bytes() || sum != blake3::hash(said).as_bytes() {
            return Err(damaged("its head is not what was written"));
        }
        Ok((head, file))
    }
}

/// Locks a folder, made if it is not there; none while another process has it.
fn lock(folder: &Path) -> Result<Option<File>, SpoolError> {
    let path = folder.join(LOCK_FILE);
    let opened = fs::create_dir_all(folder).and_then(|()| File::create(&path));
    let file = opened.map_err(|source| SpoolError::Io { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(source)) => Err(SpoolError::Io { path, source }),
    }
}

/// Names of the segments' files in a folder, and the segments; what was being written when a process ended is removed.
fn segment_files(folder: &Path) -> Result<Vec<(String, u64)>, SpoolError> {
    let failed = |source| SpoolError::Io { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let Ok(name) = entry.map_err(failed)?.file_name().into_string() else { continue };
        if name.ends_with(".tmp") {
            fs::remove_file(folder.join(name)).map_err(failed)?;
        } else if let Some(index) = name.strip_suffix(".segment").and_then(|index| index.parse().ok()) {
            files.push((name, index));
        }
    }
    Ok(files)
}

fn write_aside(path: &Path, index: u64, commitment: &PointBytes, pieces: &[Verified]) -> io::Result<()> {
    assert_eq!(pieces.len(), SEGMENT_PIECES, "a segment has 256 pieces");
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&index.to_le_bytes());
    head.extend_from_slice(commitment);
    pieces.iter().for_each(|(_, hash)| head.extend_from_slice(hash));
    let sum = blake3::hash(&head);
    head.extend_from_slice(sum.as_bytes());
    let mut file = File::create(path)?;
    file.write_all(&head)?;
    for (piece, _) in pieces {
        file.write_all(piece.as_bytes())?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENESIS: [u8; 32] = [7; 32];

    fn open(dir: &tempfile::TempDir) -> Result<(Spool, Vec<u64>), SpoolError> {
        Spool::open(dir.path(), &ClusterName::default(), &GENESIS)
    }

    fn segment(salt: u8) -> Vec<Verified> {
        let piece = |position: u8| {
            let mut bytes = vec![0; PIECE_SIZE];
            (bytes[0], bytes[40], bytes[PIECE_SIZE - 1]) = (salt, position, position);
            let hash = blake3::hash(&bytes).into();
            (Piece::from_bytes(bytes.into()).unwrap(), hash)
        };
        (0..=u8::MAX).map(piece).collect()
    }

    #[test]
    fn a_segment_is_there_until_it_is_deleted_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, found) = open(&dir).unwrap();
        assert!(found.is_empty());
        let pieces = segment(1);
        spool.write(9, &[5; 48], &pieces).unwrap();
        let (piece, hash) = spool.read(9, &[5; 48], 200).unwrap();
        assert_eq!((piece.as_bytes(), hash), (pieces[200].0.as_bytes(), pieces[200].1));
        let other = open(&dir).unwrap();
        assert!(other.1.is_empty(), "another controller of this host has a folder of its own");
        fs::write(spool.folder.join("10.tmp"), b"half").unwrap();
        drop(spool);
        let (third, found) = open(&dir).unwrap();
        assert_eq!(found, [9]);
        drop(third);
        drop(other.0);
        let (spool, found) = Spool::open(dir.path(), &ClusterName::default(), &[8; 32]).unwrap();
        assert!(found.is_empty(), "another chain");
        drop(spool);
        let (spool, found) = Spool::open(dir.path(), &"north".parse().unwrap(), &GENESIS).unwrap();
        assert!(found.is_empty(), "another cluster, whose caches have not what this one's lack");
        drop(spool);
        let (spool, _) = open(&dir).unwrap();
        spool.delete(9).unwrap();
        spool.delete(9).unwrap();
        assert!(!spool.has(9));
    }

    #[test]
    fn what_a_controller_left_is_taken_over_by_one_that_runs() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _) = open(&dir).unwrap();
        let (second, _) = open(&dir).unwrap();
        second.write(3, &[5; 48], &segment(2)).unwrap();
        drop((first, second));
        assert_eq!(open(&dir).unwrap().1, [3]);
    }

    #[test]
    fn damage_is_found_and_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(&dir).unwrap();
        for index in [1, 2, 3] {
            spool.write(index, &[5; 48], &segment(3)).unwrap();
        }
        let flip = |index, at: usize| {
            let path = spool.path(index);
            let mut bytes = fs::read(&path).unwrap();
            bytes[at] ^= 1;
            fs::write(path, bytes).unwrap();
        };
        flip(1, HEAD_BYTES + PIECE_SIZE * 7 + 12);
        flip(2, HASHES_AT + 5);
        fs::write(spool.path(3), b"short").unwrap();
        assert!(spool.read(1, &[5; 48], 6).is_ok());
        assert!(matches!(spool.read(1, &[4; 48], 6), Err(SpoolError::Damaged { .. })), "another history");
        assert!(matches!(spool.read(1, &[5; 48], 7), Err(SpoolError::Damaged { .. })));
        assert!(matches!(spool.read(2, &[5; 48], 0), Err(SpoolError::Damaged { .. })));
        drop(spool);
        assert_eq!(open(&dir).unwrap().1, [1], "heads and lengths are looked at");
    }
}
