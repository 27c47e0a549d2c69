//! One reward signature a hash: sr25519 is randomised, and two different signatures of one key for the same block or vote look like an
//! equivocation, which costs its rewards.
//!
//! ```text
//!   reward_signatures.bin   entry │ entry │ ...      beside the farm's own files, append only
//!   entry                   hash 32 │ signature 64 │ first 8 bytes of BLAKE3 of both and the public key
//! ```
//! An entry is durable before its signature leaves. What a crash leaves behind the last whole entry is cut off at the next start:
//! nobody has seen it. When [`MAX_ENTRIES`] are there, the older half is dropped in one atomic replacement; nobody asks for a hash that old.
//!
//! Never: a signature by another key than the farm's.

use consensus::identity::Identity;
use engine::files;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Name of the file in the farm's directory.
pub const SIGNATURES_FILE: &str = "reward_signatures.bin";
/// Entries kept at most: 425 984 bytes. A farm that wins every slot fills half of it in half an hour.
pub const MAX_ENTRIES: usize = 4096;
const CHECK_BYTES: usize = 8;
const SIGNED_BYTES: usize = 32 + 64;
const ENTRY_BYTES: usize = SIGNED_BYTES + CHECK_BYTES;

type Entry = [u8; ENTRY_BYTES];

/// Why there is no signature: it must not be made anew, nor leave.
#[derive(Debug, thiserror::Error)]
#[error("reward signatures in {path}: {source}; no signature is given until this file can be read and written", path = path.display())]
pub struct SignatureError {
    path: PathBuf,
    source: io::Error,
}

/// The signatures of one key. Blocks its thread for as long as the disk takes.
pub struct SignatureStore {
    path: PathBuf,
    file: File,
    identity: Identity,
    public_key: [u8; 32],
    /// In the order of the file.
    entries: Vec<Entry>,
    by_hash: HashMap<[u8; 32], [u8; 64]>,
    /// A write has failed: the file's end is unknown until it is opened anew.
    is_broken: bool,
}

impl SignatureStore {
    /// Opens the file in the farm's directory, made if it is not there.
    pub fn open(farm_dir: &Path, identity: Identity) -> Result<Self, SignatureError> {
        let path = farm_dir.join(SIGNATURES_FILE);
        let public_key = identity.public_key();
        let (file, entries) = load(&path, &public_key).map_err(|source| error(&path, source))?;
        let mut store =
            Self { path, file, identity, public_key, entries, by_hash: HashMap::new(), is_broken: false };
        store.index();
        Ok(store)
    }

    /// The one signature of this hash, which is on disk when this returns.
    pub fn sign(&mut self, hash: &[u8; 32]) -> Result<[u8; 64], SignatureError> {
        if let Some(signature) = self.by_hash.get(hash) {
            return Ok(*signature);
        }
        self.make_room()?;
        let signature = self.identity.sign_reward_hash(hash);
        let entry = entry(&self.public_key, hash, &signature);
        // From here until the entry is durable it is unknown what the file holds.
        self.is_broken = true;
        let written = self.file.write_all(&entry).and_then(|()| self.file.sync_data());
        written.map_err(|source| error(&self.path, source))?;
        self.is_broken = false;
        self.entries.push(entry);
        self.by_hash.insert(*hash, signature);
        Ok(signature)
    }

    /// Repairs the file after a failed write, and drops the older half of a full one.
    fn make_room(&mut self) -> Result<(), SignatureError> {
        let failed = |source| error(&self.path, source);
        if self.is_broken {
            (self.file, self.entries) = load(&self.path, &self.public_key).map_err(failed)?;
        }
        if self.entries.len() >= MAX_ENTRIES {
            let newest = self.entries.split_off(self.entries.len() - MAX_ENTRIES / 2);
            self.is_broken = true;
            files::replace(&self.path, newest.as_flattened()).map_err(failed)?;
            (self.file, self.entries) = load(&self.path, &self.public_key).map_err(failed)?;
        }
        if self.is_broken {
            self.is_broken = false;
            self.index();
        }
        Ok(())
    }

    fn index(&mut self) {
        let signed = |entry: &Entry| {
            let (hash, rest) = entry.split_first_chunk().expect("an entry begins with a hash");
            (*hash, *rest.first_chunk().expect("and goes on with a signature"))
        };
        self.by_hash = self.entries.iter().map(signed).collect();
    }
}

fn error(path: &Path, source: io::Error) -> SignatureError {
    SignatureError { path: path.into(), source }
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

/// Opens the file to append, durably made, with its whole entries and nothing after the last of them.
fn load(path: &Path, public_key: &[u8; 32]) -> io::Result<(File, Vec<Entry>)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut bytes = Vec::new();
    let limit = (2 * MAX_ENTRIES * ENTRY_BYTES) as u64;
    Read::by_ref(&mut file).take(limit).read_to_end(&mut bytes)?;
    let is_whole = |entry: &Entry| entry[SIGNED_BYTES..] == check(public_key, entry);
    let places: &[Entry] = bytes.as_chunks().0;
    // A damaged one in the middle does not take those after it along: they may have left.
    let end = places.iter().rposition(is_whole).map_or(0, |last| last + 1);
    let entries: Vec<Entry> = places[..end].iter().copied().filter(is_whole).collect();
    let (whole, found) = ((end * ENTRY_BYTES) as u64, file.metadata()?.len());
    if found > whole {
        let (path, dropped) = (path.display(), found - whole);
        tracing::warn!(%path, dropped, "cut off a reward signature that was being written when the process or the host ended");
        file.set_len(whole)?;
    }
    file.sync_all()?;
    files::sync_parent(path)?;
    Ok((file, entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::identity::is_reward_signature_valid;
    use std::fs;

    fn identity() -> Identity {
        Identity::from_entropy([7; 32])
    }

    fn hash(n: u64) -> [u8; 32] {
        blake3::hash(&n.to_le_bytes()).into()
    }

    #[test]
    fn a_hash_has_one_signature_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SignatureStore::open(dir.path(), identity()).unwrap();
        let signatures: Vec<_> = (0..3).map(|n| store.sign(&hash(n)).unwrap()).collect();
        assert!(is_reward_signature_valid(&hash(1), &signatures[1], &identity().public_key()));
        assert_eq!(store.sign(&hash(1)).unwrap(), signatures[1]);
        drop(store);
        let mut store = SignatureStore::open(dir.path(), identity()).unwrap();
        for (n, signature) in (0..).zip(&signatures) {
            assert_eq!(store.sign(&hash(n)).unwrap(), *signature);
        }
        assert_eq!(fs::metadata(dir.path().join(SIGNATURES_FILE)).unwrap().len(), 3 * ENTRY_BYTES as u64);
    }

    #[test]
    fn a_crash_at_any_byte_of_an_entry_loses_only_that_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SIGNATURES_FILE);
        let mut store = SignatureStore::open(dir.path(), identity()).unwrap();
        let (first, _torn) = (store.sign(&hash(1)).unwrap(), store.sign(&hash(2)).unwrap());
        drop(store);
        let bytes = fs::read(&path).unwrap();
        for cut in ENTRY_BYTES..2 * ENTRY_BYTES {
            // What was not written is missing, or zero.
            for filler in [0, 50] {
                let mut torn = bytes[..cut].to_vec();
                torn.resize(cut + filler, 0);
                fs::write(&path, &torn).unwrap();
                let mut store = SignatureStore::open(dir.path(), identity()).unwrap();
                assert_eq!(store.entries.len(), 1, "cut at {cut}");
                assert_eq!(store.sign(&hash(1)).unwrap(), first);
                let again = store.sign(&hash(2)).unwrap();
                drop(store);
                let mut store = SignatureStore::open(dir.path(), identity()).unwrap();
                assert_eq!(store.sign(&hash(2)).unwrap(), again);
            }
        }
    }

    #[test]
    fn a_damaged_entry_does_not_take_later_ones_along() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SIGNATURES_FILE);
        let mut store = SignatureStore::open(dir.path(), identity()).unwrap();
        let signatures = [1, 2, 3].map(|n| store.sign(&hash(n)).unwrap());
        drop(store);
        let mut bytes = fs::read(&path).unwrap();
        bytes[ENTRY_BYTES + 40] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let mut store = SignatureStore::open(dir.path(), identity()).unwrap();
        assert_eq!(store.sign(&hash(1)).unwrap(), signatures[0]);
        assert_eq!(store.sign(&hash(3)).unwrap(), signatures[2]);
    }

    #[test]
    fn the_file_is_bounded_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SIGNATURES_FILE);
        let key = identity().public_key();
        let entries: Vec<Entry> =
            (0..MAX_ENTRIES as u64).map(|n| entry(&key, &hash(n), &[n as u8; 64])).collect();
        fs::write(&path, entries.as_flattened()).unwrap();
        let mut store = SignatureStore::open(dir.path(), identity()).unwrap();
        let fresh = store.sign(&hash(u64::MAX)).unwrap();
        let newest = MAX_ENTRIES as u64 - 1;
        assert_eq!(store.sign(&hash(newest)).unwrap(), [newest as u8; 64]);
        assert_eq!(store.entries.len(), MAX_ENTRIES / 2 + 1);
        drop(store);
        let mut store = SignatureStore::open(dir.path(), identity()).unwrap();
        assert_eq!(store.entries.len(), MAX_ENTRIES / 2 + 1);
        assert_eq!(store.sign(&hash(u64::MAX)).unwrap(), fresh);
    }

    #[test]
    fn another_farms_file_is_not_believed_and_an_unwritable_one_gives_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SignatureStore::open(dir.path(), identity()).unwrap();
        let signature = store.sign(&hash(1)).unwrap();
        let other = Identity::from_entropy([8; 32]);
        let mut theirs = SignatureStore::open(dir.path(), other.clone()).unwrap();
        let theirs = theirs.sign(&hash(1)).unwrap();
        assert_ne!(theirs, signature);
        assert!(is_reward_signature_valid(&hash(1), &theirs, &other.public_key()));

        store.file = File::open(dir.path().join(SIGNATURES_FILE)).unwrap();
        assert!(store.sign(&hash(2)).is_err(), "only open for reading");
        // The next attempt opens the file anew.
        let again = store.sign(&hash(2)).unwrap();
        assert!(is_reward_signature_valid(&hash(2), &again, &store.public_key));
    }
}
