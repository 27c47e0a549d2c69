//! One reward signature a hash: sr25519 is randomised, and two different signatures of one key for the same block or vote look like an
//! equivocation, which costs its rewards.
//!
//! ```text
//!   reward_signatures.bin   entry │ entry │ ... │ zeroes to 425 984 bytes, whole blocks      beside the farm's own files
//!   entry                   hash 32 │ signature 64 │ first 8 bytes of BLAKE3 of both and the public key
//! ```
//! An entry is durable before its signature leaves. It is written with the blocks that it lies in, from memory: what stood there before
//! it is written again as it is, so that a crash at any byte loses that entry alone. What a crash leaves behind the last whole
//! entry is overwritten: nobody has seen it. When [`MAX_ENTRIES`] are there, the older half is dropped, since nobody asks for a hash
//! that old: the newer half is copied over it, durably, and only then zeroed where it was. A crash in between leaves entries
//! twice, and opening the file puts that right.
//!
//! After a write that failed or was too late the file is read anew before anything else is written, in the background where nobody asks.
//!
//! Lives on the executor of the farm's disk; all it does there is of the disk's first class. Never: a signature by another key than
//! the farm's.

use consensus::identity::Identity;
use control::signing::Stored;
use engine::pool::{AcquireError, Pool, SlabMut};
use engine::{Access, BLOCK_BYTES, Class, DirectFile, Disk, IoError, files, sync_directory, task};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the file in the farm's directory.
pub const SIGNATURES_FILE: &str = "reward_signatures.bin";
/// Entries kept at most: 425 984 bytes. A farm that wins every slot fills half of it in half an hour.
pub const MAX_ENTRIES: usize = 4096;
/// Memory a store needs for its transfers, beginning at a block: an entry lies in one block or in two.
pub const SCRATCH_BYTES: usize = 2 * BLOCK_BYTES;
const CHECK_BYTES: usize = 8;
const SIGNED_BYTES: usize = 32 + 64;
const ENTRY_BYTES: usize = SIGNED_BYTES + CHECK_BYTES;
const FILE_BYTES: usize = MAX_ENTRIES * ENTRY_BYTES;
const HALF_BYTES: usize = FILE_BYTES / 2;
const _: () = assert!(HALF_BYTES.is_multiple_of(SCRATCH_BYTES), "halves are moved by whole transfers");
/// Reads of a part of the file before that is an error: all parts are needed.
const READ_TRIES: u32 = 4;
const CLASS: Class = Class::RewardSignature;

type Entry = [u8; ENTRY_BYTES];

/// Why there is no signature: it must not be made anew, nor leave.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// When it was opened.
    #[error("reward signatures in {path}: {source}; no signature is given until this file can be read and written", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Later on.
    #[error("reward signatures: {0}; no signature is given until this file can be read and written")]
    Disk(#[from] IoError),
    /// No memory to read or write it.
    #[error("reward signatures: {0}")]
    Memory(#[from] AcquireError),
    /// It holds something else than was written.
    #[error(
        "reward signatures in {path}: writing failed amid them; no signature is given until this plot-client is started \
         again, which repairs the file", path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// The signatures of one key.
pub struct SignatureStore {
    path: PathBuf,
    disk: Disk,
    file: Arc<DirectFile>,
    identity: Identity,
    public_key: [u8; 32],
    /// The file's bytes, as they are or are being written.
    image: Vec<u8>,
    /// Entries in it, from its beginning on without a gap.
    count: usize,
    /// What is durable.
    by_hash: HashMap<[u8; 32], [u8; 64]>,
    pool: Pool,
    /// Only a failed read, or a write that was too late, loses it.
    scratch: Option<SlabMut>,
    /// A write has failed, or was broken off: it is unknown what the file holds until it is read anew.
    is_broken: bool,
    /// Somebody does that.
    is_being_mended: bool,
}

impl SignatureStore {
    /// Opens the file in the farm's directory, made if it is not there, and repaired, in a thread. `scratch` is [`SCRATCH_BYTES`] of memory
    /// that begins at a block. `lock` is held as long as anything is done to the file, also by the kernel.
    pub async fn open(
        disk: Disk,
        scratch: SlabMut,
        farm_dir: &Path,
        identity: Identity,
        lock: Option<Arc<DirectFile>>,
    ) -> Result<Self, SignatureError> {
        let path = farm_dir.join(SIGNATURES_FILE);
        let public_key = identity.public_key();
        let there = path.clone();
        let open = move || {
            let opened = open_file(&there, &public_key)?;
            lock.iter().for_each(|lock| opened.0.hold(lock));
            Ok(opened)
        };
        let opened = task::off_executor("signatures", open).await;
        let (file, entries) =
            opened.map_err(|source| SignatureError::File { path: path.clone(), source }).flatten()?;
        let mut store = Self {
            path,
            disk,
            file,
            identity,
            public_key,
            image: vec![0; FILE_BYTES],
            count: 0,
            by_hash: HashMap::new(),
            pool: scratch.pool().clone(),
            scratch: Some(scratch.narrow(..SCRATCH_BYTES)),
            is_broken: false,
            is_being_mended: false,
        };
        store.take(&entries);
        Ok(store)
    }

    /// The one signature of this hash, which is on disk when this returns; made if there is none and `may_be_new`.
    pub async fn sign(&mut self, hash: &[u8; 32], may_be_new: bool) -> Result<Stored, SignatureError> {
        if let Some(signature) = self.by_hash.get(hash) {
            return Ok(Stored::Known(*signature));
        }
        if self.is_broken {
            self.read_anew().await?;
            if let Some(signature) = self.by_hash.get(hash) {
                return Ok(Stored::Known(*signature));
            }
        }
        if !may_be_new {
            return Ok(Stored::Absent);
        }
        // From here until the entry is durable it is unknown what the file holds.
        self.is_broken = true;
        if self.count == MAX_ENTRIES {
            self.drop_older_half().await?;
        }
        let signature = self.identity.sign_reward_hash(hash);
        self.append(&entry(&self.public_key, hash, &signature)).await?;
        self.is_broken = false;
        self.by_hash.insert(*hash, signature);
        Ok(Stored::Fresh(signature))
    }

    /// Whether the file is to be read anew, and nobody does it: whoever asks does, by [`SignatureStore::mend`].
    pub fn wants_mending(&mut self) -> bool {
        self.is_broken && !std::mem::replace(&mut self.is_being_mended, true)
    }

    /// Nobody mends it any more.
    pub fn mending_ended(&mut self) {
        self.is_being_mended = false;
    }

    /// Reads the file anew if it must be, so that the next signature need not wait for that.
    pub async fn mend(&mut self) -> Result<(), SignatureError> {
        if self.is_broken { self.read_anew().await } else { Ok(()) }
    }

    async fn append(&mut self, entry: &Entry) -> Result<(), SignatureError> {
        let start = self.count * ENTRY_BYTES;
        self.image[start..start + ENTRY_BYTES].copy_from_slice(entry);
        // The last block of all has none behind it.
        let block = (start / BLOCK_BYTES * BLOCK_BYTES).min(FILE_BYTES - SCRATCH_BYTES);
        self.write(block..block + SCRATCH_BYTES).await?;
        self.count += 1;
        Ok(())
    }

    async fn drop_older_half(&mut self) -> Result<(), SignatureError> {
        self.image.copy_within(HALF_BYTES.., 0);
        self.write(0..HALF_BYTES).await?;
        self.image[HALF_BYTES..].fill(0);
        self.write(HALF_BYTES..FILE_BYTES).await?;
        let entries: Vec<Entry> = self.image[..HALF_BYTES].as_chunks().0.to_vec();
        self.take(&entries);
        Ok(())
    }

    /// Makes a range of the image durable, whole transfers.
    async fn write(&mut self, range: Range<usize>) -> Result<(), SignatureError> {
        for start in range.step_by(SCRATCH_BYTES) {
            let mut scratch = self.take_scratch().await?;
            scratch.copy_from_slice(&self.image[start..start + SCRATCH_BYTES]);
            let (scratch, written) = self.disk.write_own(CLASS, &self.file, start as u64, scratch).await;
            self.scratch = scratch;
            written?;
        }
        Ok(self.disk.sync(CLASS, &self.file).await?)
    }

    /// Learns what the file holds after a write that failed, and makes that durable by writing it again: what was synced in vain may yet
    /// be lost although it is read. The disk is still good for some of it, or this fails too. The file stays the one that is open: a write
    /// that was too late keeps others from its place only there.
    async fn read_anew(&mut self) -> Result<(), SignatureError> {
        for start in (0..FILE_BYTES).step_by(SCRATCH_BYTES) {
            let read = self.read_at(start as u64).await?;
            self.image[start..start + SCRATCH_BYTES].copy_from_slice(&read);
            self.scratch = Some(read);
        }
        let found = Found::new(&self.image, &self.public_key);
        if !found.is_packed {
            return Err(SignatureError::Damaged { path: self.path.clone() });
        }
        let used = found.entries.len() * ENTRY_BYTES;
        self.write(0..used.next_multiple_of(SCRATCH_BYTES)).await?;
        self.take(&found.entries);
        self.is_broken = false;
        Ok(())
    }

    /// A part of the file; asked for again when the disk errs, as one does that errs now and then.
    async fn read_at(&mut self, start: u64) -> Result<SlabMut, SignatureError> {
        let mut tries = 1;
        loop {
            let scratch = self.take_scratch().await?;
            match self.disk.read(CLASS, &self.file, start, scratch, 0..SCRATCH_BYTES).await {
                Err(error) if tries == READ_TRIES || error.is_passing() => return Err(error.into()),
                Err(_) => tries += 1,
                Ok(read) => return Ok(read),
            }
        }
    }

    async fn take_scratch(&mut self) -> Result<SlabMut, AcquireError> {
        match self.scratch.take() {
            Some(scratch) => Ok(scratch),
            None => Ok(self.pool.acquire().await?.narrow(..SCRATCH_BYTES)),
        }
    }

    /// Makes `entries`, which are durable, the image, with nothing behind them.
    fn take(&mut self, entries: &[Entry]) {
        let bytes = entries.as_flattened();
        self.image[..bytes.len()].copy_from_slice(bytes);
        self.image[bytes.len()..].fill(0);
        self.count = entries.len();
        let signed = |entry: &Entry| {
            let (hash, rest) = entry.split_first_chunk().expect("an entry begins with a hash");
            (*hash, *rest.first_chunk().expect("and goes on with a signature"))
        };
        self.by_hash = entries.iter().map(signed).collect();
    }
}

/// The whole entries in a file's bytes, each hash once, where it comes last.
struct Found {
    entries: Vec<Entry>,
    /// They lie one after the other from the beginning on, and no other whole one lies anywhere.
    is_packed: bool,
    /// And all else is zero.
    is_clean: bool,
}

impl Found {
    fn new(bytes: &[u8], public_key: &[u8; 32]) -> Self {
        let is_whole = |entry: &&Entry| entry[SIGNED_BYTES..] == check(public_key, entry);
        let places: &[Entry] = bytes.as_chunks().0;
        // A damaged one in the middle does not take those after it along: they may have left.
        let whole: Vec<&Entry> = places.iter().filter(is_whole).collect();
        let mut seen = HashSet::new();
        let mut entries: Vec<Entry> =
            whole.iter().rev().filter(|entry| seen.insert(&entry[..32])).map(|entry| **entry).collect();
        entries.reverse();
        let is_packed = entries.len() == whole.len() && places.starts_with(&entries);
        let rest = bytes.get(entries.len() * ENTRY_BYTES..).unwrap_or_default();
        let is_clean = is_packed && rest.iter().all(|byte| *byte == 0);
        Self { entries, is_packed, is_clean }
    }
}

/// The file, made if it is not there, repaired and as long as it should be, and its entries, which are durable. Blocks.
fn open_file(path: &Path, public_key: &[u8; 32]) -> Result<(Arc<DirectFile>, Vec<Entry>), SignatureError> {
    let failed = |source| SignatureError::File { path: path.to_owned(), source };
    let bytes = read(path).map_err(failed)?;
    let mut found = Found::new(bytes.as_deref().unwrap_or_default(), public_key);
    found.entries.drain(..found.entries.len().saturating_sub(MAX_ENTRIES));
    let file = match bytes {
        None => DirectFile::create(path, FILE_BYTES as u64)?,
        Some(bytes) => {
            if !found.is_clean || bytes.len() > FILE_BYTES {
                tracing::warn!(path = %path.display(), "dropped a reward signature that was being written when the process or the host ended");
                files::replace(path, found.entries.as_flattened()).map_err(failed)?;
            }
            write_again(path, &found.entries).map_err(failed)?;
            DirectFile::open(path, Access::ReadWrite)?
        }
    };
    // Synced, whatever its size is.
    file.set_size(FILE_BYTES as u64)?;
    sync_directory(path)?;
    Ok((file, found.entries))
}

/// Writes the entries anew where they are: what an earlier process could not make durable is read all the same.
fn write_again(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(entries.as_flattened(), 0)?;
    file.sync_data()
}

/// The file's bytes, twice of what it may have at most; none if it is not there.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(2 * FILE_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn entry(public_key: &[u8; 32], hash: &[u8; 32], signature: &[u8; 64]) -> Entry {
    let mut entry = [0; ENTRY_BYTES];
    entry[..32].copy_from_slice(hash);
    entry[32..SIGNED_BYTES].copy_from_slice(signature);
    let check = check(public_key, &entry);
    entry[SIGNED_BYTES..].copy_from_slice(&check);
    entry
}

fn check(public_key: &[u8; 32], entry: &Entry) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&entry[..SIGNED_BYTES]).update(public_key);
    *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
}

#[cfg(test)]
#[path = "signatures_power_tests.rs"]
mod power_tests;
#[cfg(test)]
#[path = "signatures_tests.rs"]
mod tests;
