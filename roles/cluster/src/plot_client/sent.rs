//! Which solutions of a farm were handed to whom: written before they leave, read when the farm is opened again. The same solution
//! at two nodes would look like an equivocation, which costs its rewards.
//!
//! ```text
//!   sent_solutions.bin   256 places of 96 bytes, used in turn       beside the farm's own files
//!   place                number 8 │ slot 8 │ sector 2 │ piece 2 │ chunk 32 │ controller 16 │ ms since 1970 8 │ first 20 bytes of BLAKE3 of
//!                        all that, the public key and the chain's genesis hash; little-endian. Zeroes: free
//! ```
//! A place is overwritten by one write into the page cache, which outlives `kill -9`. Nothing is synced: after a loss of power the
//! host takes longer to come back than a slot lives. So a write takes microseconds, whatever the disk is busy with. If it hangs all
//! the same, the solution leaves after [`PATIENCE`] without it, as it does when writing fails: not sent, it would be lost for
//! certain, and a memory that lacks it costs something only when this process is killed and started again within seconds, and a
//! node announces that slot late.
//!
//! Writes are a thread's, not the executor's: one that hangs holds up nothing but the next of its farm. Never: an error that stops a
//! farm.

use control::ids::InstanceId;
use control::solutions::{Handover, SolutionKey};
use engine::DirectFile;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Mutex;

/// Name of the file in the farm's directory.
pub const SENT_FILE: &str = "sent_solutions.bin";
/// How long a solution waits for its place to be written.
pub const PATIENCE: Duration = Duration::from_millis(200);
/// Solutions sent longer ago do not count: no node is that late with a slot. But a development chain that is begun anew comes to the
/// same slots with the same challenges, and so its farms to the same solutions.
const COUNTS_FOR: Duration = Duration::from_secs(600);
/// Solutions remembered: what all farms of the network together find in two and a half minutes, ten in six seconds.
const PLACES: usize = 256;
const SAID_BYTES: usize = 8 + 8 + 2 + 2 + 32 + 16 + 8;
const CHECK_BYTES: usize = 20;
const PLACE_BYTES: usize = SAID_BYTES + CHECK_BYTES;
const FILE_BYTES: usize = PLACES * PLACE_BYTES;

type Place = [u8; PLACE_BYTES];
/// What a place says: its number, what was handed over, and when, since 1970.
type Said = (u64, Handover, Duration);

/// What an earlier run wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// It was sent, or about to be.
    pub handover: Handover,
    /// When, since 1970 by the host's clock.
    at: Duration,
}

impl Earlier {
    /// Whether a node may yet announce its slot; so too where the clock does not say.
    pub fn counts(&self, now: SystemTime) -> bool {
        self.age(now).is_none_or(|age| age < COUNTS_FOR)
    }

    /// How long ago that was at `now`; none when the clock was set back since.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        now.duration_since(UNIX_EPOCH).ok()?.checked_sub(self.at)
    }
}

/// The memory of one farm; clones are handles to the same.
#[derive(Clone)]
pub struct SentSolutions(Arc<Shared>);

struct Shared {
    path: PathBuf,
    /// None when nothing can be written.
    file: Option<File>,
    seal: Seal,
    /// Number of the next place; whoever has it writes.
    next: Arc<Mutex<u64>>,
    is_failing: AtomicBool,
    earlier: Vec<Earlier>,
}

impl SentSolutions {
    /// Opens as [`SentSolutions::open`] does, in a thread of the executor that this is called on. `lock` is held until that has ended.
    pub async fn open_apart(
        farm_dir: &Path,
        public_key: [u8; 32],
        genesis_hash: [u8; 32],
        lock: Arc<DirectFile>,
    ) -> Self {
        let dir = farm_dir.to_owned();
        let open = move || {
            let opened = Self::open(&dir, public_key, genesis_hash);
            drop(lock);
            opened
        };
        engine::task::off_executor("sent", open).await.unwrap_or_else(|error| {
            let path = farm_dir.join(SENT_FILE);
            tell_failure(&path, &error.to_string());
            Self::of(path, None, Seal { public_key, genesis_hash }, Vec::new())
        })
    }

    /// Opens the file in the farm's directory, made if it is not there. Trouble is told in a line, and costs the memory alone. Blocks.
    pub fn open(farm_dir: &Path, public_key: [u8; 32], genesis_hash: [u8; 32]) -> Self {
        let path = farm_dir.join(SENT_FILE);
        let seal = Seal { public_key, genesis_hash };
        let (file, found) = match open(&path, &seal) {
            Ok((file, found)) => (Some(file), found),
            Err(error) => {
                tell_failure(&path, &error.to_string());
                // On a disk that can only be read it says at least what was sent before. Opening what is no file may wait for ever.
                let file = path.is_file().then(|| File::open(&path));
                let found = file.and_then(|file| read(file.ok()?, &seal).ok());
                (None, found.map(|(found, _)| found).unwrap_or_default())
            }
        };
        Self::of(path, file, seal, found)
    }

    fn of(path: PathBuf, file: Option<File>, seal: Seal, mut found: Vec<Said>) -> Self {
        found.sort_unstable_by_key(|(number, ..)| *number);
        let next = found.last().map_or(0, |(number, ..)| number.wrapping_add(1));
        let earlier = found.into_iter().map(|(_, handover, at)| Earlier { handover, at }).collect();
        let (is_failing, next) = (AtomicBool::new(file.is_none()), Arc::new(Mutex::new(next)));
        Self(Arc::new(Shared { path, file, seal, next, is_failing, earlier }))
    }

    /// What earlier runs wrote, the oldest first.
    pub fn earlier(&self) -> &[Earlier] {
        &self.0.earlier
    }

    /// Writes that a solution is about to leave; gives whether the next run will know it. Takes [`PATIENCE`] at most.
    pub async fn remember(self, handover: Handover) -> bool {
        let written = tokio::time::timeout(PATIENCE, self.clone().write(handover));
        let error = match written.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("not written within {} ms", PATIENCE.as_millis())),
        };
        let was_failing = self.0.is_failing.swap(error.is_some(), Ordering::Relaxed);
        match &error {
            Some(error) if !was_failing => tell_failure(&self.0.path, error),
            None if was_failing => {
                tracing::info!("{}: solutions are remembered again", self.0.path.display());
            }
            _ => {}
        }
        error.is_none()
    }

    async fn write(self, handover: Handover) -> io::Result<()> {
        if self.0.file.is_none() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut next = self.0.next.clone().lock_owned().await;
        let write = move || {
            let number = *next;
            let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let place = self.0.seal.place(number, &handover, at);
            let file = self.0.file.as_ref().expect("checked above");
            file.write_all_at(&place, offset(number))?;
            *next = number.wrapping_add(1);
            Ok(())
        };
        tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

fn tell_failure(path: &Path, error: &str) {
    tracing::warn!(
        "{}: {error}. Solutions of this farm are sent all the same, but after a restart this plot-client will not know that they \
         were: give it a few seconds until it is started again",
        path.display()
    );
}

fn offset(number: u64) -> u64 {
    number % PLACES as u64 * PLACE_BYTES as u64
}

/// The file, whole, and what it says.
fn open(path: &Path, seal: &Seal) -> io::Result<(File, Vec<Said>)> {
    // Also written to, so that a pipe of this name is an error and nothing that waits.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let length = file.metadata()?.len();
    let (found, is_whole) = read(file.try_clone()?, seal)?;
    if is_whole && length == FILE_BYTES as u64 {
        return Ok((file, found));
    }
    if length > 0 {
        let (path, kept) = (path.display(), found.len());
        tracing::warn!(
            "{path}: what this farm did not write there on this chain is dropped; {kept} entries are good"
        );
    }
    // Written and not left out, so that later writes need no space.
    let mut image = vec![0; FILE_BYTES];
    for (number, handover, at) in &found {
        let start = offset(*number) as usize;
        image[start..start + PLACE_BYTES].copy_from_slice(&seal.place(*number, handover, *at));
    }
    file.write_all_at(&image, 0)?;
    file.set_len(FILE_BYTES as u64)?;
    Ok((file, found))
}

/// What is good, and whether nothing else is there.
fn read(file: File, seal: &Seal) -> io::Result<(Vec<Said>, bool)> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES as u64).read_to_end(&mut bytes)?;
    let (places, rest): (&[Place], _) = bytes.as_chunks();
    let (mut found, mut is_whole) = (Vec::new(), rest.is_empty());
    for (nth, place) in places.iter().enumerate() {
        match seal.read(place) {
            Some(said) if offset(said.0) == (nth * PLACE_BYTES) as u64 => found.push(said),
            _ => is_whole &= place.iter().all(|byte| *byte == 0),
        }
    }
    Ok((found, is_whole))
}

/// Whose memory it is.
struct Seal {
    public_key: [u8; 32],
    genesis_hash: [u8; 32],
}

impl Seal {
    fn check(&self, said: &[u8]) -> [u8; CHECK_BYTES] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(said).update(&self.public_key).update(&self.genesis_hash);
        *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
    }

    fn place(&self, number: u64, handover: &Handover, at: Duration) -> Place {
        let SolutionKey { slot, sector_index, piece_offset, chunk, .. } = handover.solution;
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let mut place = Vec::with_capacity(PLACE_BYTES);
        place.extend(number.to_le_bytes());
        place.extend(slot.to_le_bytes());
        place.extend(sector_index.to_le_bytes());
        place.extend(piece_offset.to_le_bytes());
        place.extend(chunk);
        place.extend(handover.controller.0);
        place.extend(at_ms.to_le_bytes());
        place.extend(self.check(&place));
        place.try_into().expect("these are its parts")
    }

    fn read(&self, place: &Place) -> Option<Said> {
        let (said, check) = place.split_at(SAID_BYTES);
        if check != self.check(said) {
            return None;
        }
        let (number, rest) = said.split_first_chunk()?;
        let (slot, rest) = rest.split_first_chunk()?;
        let (sector_index, rest) = rest.split_first_chunk()?;
        let (piece_offset, rest) = rest.split_first_chunk()?;
        let (chunk, rest) = rest.split_first_chunk()?;
        let (controller, rest) = rest.split_first_chunk()?;
        let solution = SolutionKey {
            slot: u64::from_le_bytes(*slot),
            public_key: self.public_key,
            sector_index: u16::from_le_bytes(*sector_index),
            piece_offset: u16::from_le_bytes(*piece_offset),
            chunk: *chunk,
        };
        let handover = Handover { solution, controller: InstanceId(*controller) };
        let at = Duration::from_millis(u64::from_le_bytes(*rest.first_chunk()?));
        Some((u64::from_le_bytes(*number), handover, at))
    }
}

#[cfg(test)]
#[path = "sent_tests.rs"]
mod tests;
