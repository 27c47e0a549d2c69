//! `writing.bin`: how far the sector is that is being written, so that a crash fetches only the rest of it.
//!
//! ```text
//!   writing.bin   slot of odd numbers 4096 │ slot of even numbers 4096
//!   slot          magic 8 │ number 8 │ sector 2 │ bytes 2 │ BLAKE3 32 of the farm's id and all else of the slot │ what is noted │ zeroes
//! ```
//! A note has the next number, and so the slot of the note before the last: the last one stays until the new one is durable. The
//! note with the highest number counts; one of no bytes says that nothing is known. What is damaged, or another farm's, says nothing.
//! Little-endian. A farm's sectors come one after another, so there is one note a farm: that of a second sector takes its place.
//!
//! A note says no more than is durable, for as long as it counts: whoever changes or gives up bytes that it names takes it back
//! first, durably, and with it a note that failed and may be there all the same. The file is made when the farm is opened, since making one blocks; without it nothing is noted.
//!
//! Owns: the file. Never: what a note says.

use super::SectorError;
use crate::BLOCK_BYTES;
use crate::disk::{Class, Disk};
use crate::error::{Action, IoError};
use crate::file::{Access, DirectFile, sync_directory};
use crate::pool::Pool;
use crate::task;
use futures::channel::oneshot;
use futures::lock::Mutex;
use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// The file.
pub const PROGRESS_FILE: &str = "writing.bin";
/// Longest progress that is kept for a writer.
pub const MAX_PROGRESS_BYTES: usize = BLOCK_BYTES - NOTE_AT;
const MAGIC: [u8; 8] = *b"ASFWRIT1";
const SAID_BYTES: usize = 8 + 8 + 2 + 2;
const NOTE_AT: usize = SAID_BYTES + blake3::OUT_LEN;
const SLOTS: usize = 2;
const FILE_BYTES: usize = SLOTS * BLOCK_BYTES;
const CLASS: Class = Class::SectorWrite;

/// What is noted of the sector that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    number: u64,
    sector: u16,
    /// None: nothing is known.
    said: Vec<u8>,
}

/// The notes of one farm; clones are handles to the same. Without a file there are none.
#[derive(Clone)]
pub(super) struct Progress(Option<Rc<Inner>>);

struct Inner {
    disk: Disk,
    pool: Pool,
    file: Arc<DirectFile>,
    farm_id: [u8; 16],
    /// The last one that is durable.
    last: RefCell<Note>,
    /// Held while a slot changes; true when a write has failed: the next note may be there, or not.
    is_unsure: Mutex<bool>,
}

impl Progress {
    /// Of a farm that notes nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Opens the file, made if it is not there, and removes what earlier releases noted. Trouble costs the notes alone: the file is then
    /// removed. Blocks.
    pub fn open_file(dir: &Path) -> Option<Arc<DirectFile>> {
        let path = dir.join(PROGRESS_FILE);
        remove_files_of_earlier_releases(dir);
        let opened = open_file(&path).or_else(|_| {
            remove(&path)?;
            DirectFile::create(&path, FILE_BYTES as u64)
        });
        opened.inspect_err(|error| give_up(&path, error)).ok()
    }

    /// Reads the notes of a file that was opened by [`Progress::open_file`]; of none there are none. Trouble costs the notes alone.
    pub async fn open(disk: &Disk, pool: &Pool, file: Option<Arc<DirectFile>>, farm_id: [u8; 16]) -> Self {
        let Some(file) = file else { return Self::none() };
        let path = file.path().to_owned();
        match Inner::open(disk, pool, file, farm_id).await {
            Ok(inner) => Self(Some(Rc::new(inner))),
            Err(error) => {
                // One that stays where no thread is to be had is read at the next start, and checked against what is there then.
                let _ = task::off_executor("farm-open", move || give_up(&path, &error)).await;
                Self::none()
            }
        }
    }

    /// Keeps a file open as long as that of the notes is.
    pub fn hold(&self, other: &Arc<DirectFile>) {
        self.0.iter().for_each(|inner| inner.file.hold(other));
    }

    /// Whether what is noted is kept.
    #[cfg(test)]
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// What was last noted of a sector.
    pub fn saved(&self, sector: u16) -> Option<Vec<u8>> {
        let last = self.0.as_ref()?.last.borrow();
        (last.sector == sector && !last.said.is_empty()).then(|| last.said.clone())
    }

    /// Notes what is known of a sector, all of which is durable.
    pub async fn save(&self, sector: u16, said: &[u8]) -> Result<(), SectorError> {
        assert!(said.len() <= MAX_PROGRESS_BYTES, "progress of {} bytes", said.len());
        let said = said.to_vec();
        self.run(move |_, _| Some((sector, said))).await
    }

    /// Takes back what is noted of the sectors of which `is_lost` is true.
    pub async fn forget(&self, is_lost: impl FnOnce(u16) -> bool + 'static) -> Result<(), SectorError> {
        let forget = |last: &Note, is_unsure| {
            let is_noted = is_unsure || (is_lost(last.sector) && !last.said.is_empty());
            is_noted.then(|| (last.sector, Vec::new()))
        };
        self.run(forget).await
    }

    /// Makes the last one the only one again where a note has failed, which may be there or not.
    pub async fn settle(&self) -> Result<(), SectorError> {
        self.run(|last, is_unsure| is_unsure.then(|| (last.sector, last.said.clone()))).await
    }

    /// Writes the note that `choose` makes, to its end even when nobody waits: one that landed later would take the place of newer ones.
    async fn run(
        &self,
        choose: impl FnOnce(&Note, bool) -> Option<(u16, Vec<u8>)> + 'static,
    ) -> Result<(), SectorError> {
        let Some(inner) = self.0.clone() else { return Ok(()) };
        let path = inner.file.path().to_owned();
        let (done, result) = oneshot::channel();
        task::spawn_local(async move {
            let mut is_unsure = inner.is_unsure.lock().await;
            let chosen = choose(&inner.last.borrow(), *is_unsure);
            let written = match chosen {
                Some((sector, said)) => inner.note(sector, said, &mut is_unsure).await,
                None => Ok(()),
            };
            drop(is_unsure);
            // Nobody may listen any more; the note is written all the same.
            let _ = done.send(written);
        })
        .detach();
        result.await.unwrap_or_else(|_| Err(IoError::Closed { action: Action::Write, path }.into()))
    }
}

impl Inner {
    async fn open(
        disk: &Disk,
        pool: &Pool,
        file: Arc<DirectFile>,
        farm_id: [u8; 16],
    ) -> Result<Self, SectorError> {
        let buf = pool.acquire().await?.narrow(..FILE_BYTES);
        let slots = disk.read(CLASS, &file, 0, buf, 0..FILE_BYTES).await?;
        let notes = slots.chunks(BLOCK_BYTES).filter_map(|slot| Note::read_from(slot, &farm_id));
        let nothing = Note { number: 0, sector: 0, said: Vec::new() };
        let last = notes.max_by_key(|note| note.number).unwrap_or(nothing);
        // Memory after memory: who holds some must not wait for more.
        drop(slots);
        let (disk, pool, last) = (disk.clone(), pool.clone(), RefCell::new(last));
        let inner = Self { disk, pool, file, farm_id, last, is_unsure: Mutex::new(false) };
        // What an earlier process could not make durable is read all the same, and may yet be lost.
        let last = inner.last.borrow().clone();
        inner.write(&last).await?;
        Ok(inner)
    }

    /// Makes a note the last one. After a failure the same slot is written again: the other has the last one that is durable.
    async fn note(&self, sector: u16, said: Vec<u8>, is_unsure: &mut bool) -> Result<(), SectorError> {
        let note = Note { number: self.last.borrow().number + 1, sector, said };
        *is_unsure = true;
        self.write(&note).await?;
        *is_unsure = false;
        *self.last.borrow_mut() = note;
        Ok(())
    }

    /// Makes a note durable in its slot.
    async fn write(&self, note: &Note) -> Result<(), SectorError> {
        let mut slot = self.pool.acquire().await?.narrow(..BLOCK_BYTES);
        note.write_to(&mut slot, &self.farm_id);
        let offset = note.number % SLOTS as u64 * BLOCK_BYTES as u64;
        let (_, written) = self.disk.write_own(CLASS, &self.file, offset, slot).await;
        written?;
        Ok(self.disk.sync(CLASS, &self.file).await?)
    }
}

impl Note {
    fn write_to(&self, slot: &mut [u8], farm_id: &[u8; 16]) {
        slot.fill(0);
        let bytes = u16::try_from(self.said.len()).expect("a note fits into a block");
        slot[..8].copy_from_slice(&MAGIC);
        slot[8..16].copy_from_slice(&self.number.to_le_bytes());
        slot[16..18].copy_from_slice(&self.sector.to_le_bytes());
        slot[18..SAID_BYTES].copy_from_slice(&bytes.to_le_bytes());
        slot[NOTE_AT..][..self.said.len()].copy_from_slice(&self.said);
        let hash = hash(slot, farm_id);
        slot[SAID_BYTES..NOTE_AT].copy_from_slice(hash.as_bytes());
    }

    fn read_from(slot: &[u8], farm_id: &[u8; 16]) -> Option<Self> {
        if !slot.starts_with(&MAGIC) || slot[SAID_BYTES..NOTE_AT] != *hash(slot, farm_id).as_bytes() {
            return None;
        }
        let number = u64::from_le_bytes(*slot[8..].first_chunk()?);
        let sector = u16::from_le_bytes(*slot[16..].first_chunk()?);
        let bytes = u16::from_le_bytes(*slot[18..].first_chunk()?);
        // No farm writes so many notes; the next one must have a number.
        if number == u64::MAX {
            return None;
        }
        Some(Self { number, sector, said: slot[NOTE_AT..].get(..usize::from(bytes))?.to_vec() })
    }
}

fn hash(slot: &[u8], farm_id: &[u8; 16]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(farm_id).update(&slot[..SAID_BYTES]).update(&slot[NOTE_AT..]);
    hasher.finalize()
}

/// The file, as long as it should be.
fn open_file(path: &Path) -> Result<Arc<DirectFile>, IoError> {
    if !path.exists() {
        return DirectFile::create(path, FILE_BYTES as u64);
    }
    let file = DirectFile::open(path, Access::ReadWrite)?;
    if file.size_bytes()? != FILE_BYTES as u64 {
        file.set_size(FILE_BYTES as u64)?;
    }
    Ok(file)
}

/// Goes without: what the file says is not looked after any more.
fn give_up(path: &Path, error: &dyn std::fmt::Display) {
    tracing::warn!(
        "{error}; a sector that is being fetched when this process ends is fetched from its beginning"
    );
    let _ = remove(path);
}

fn remove(path: &Path) -> Result<(), IoError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(IoError::open(path, error)),
        _ => sync_directory(path),
    }
}

/// `writing-N.bin` of the releases before: a note that could be half of one. Those sectors are fetched from their beginning.
fn remove_files_of_earlier_releases(dir: &Path) {
    let Ok(files) = fs::read_dir(dir) else { return };
    for file in files.flatten() {
        let name = file.file_name();
        let sector = name.to_str().and_then(|name| name.strip_prefix("writing-")?.strip_suffix(".bin"));
        if sector.is_some_and(|sector| sector.parse::<u16>().is_ok()) {
            // One that stays is not read.
            let _ = fs::remove_file(file.path());
        }
    }
}
