//! `index.bin`: what each slot held, so that opening need not read all headers.
//!
//! ```text
//!   index.bin  │ block 0: slots 0..128 │ block 1: slots 128..256 │ ...           4096 bytes each, little endian, all else zero:
//!      0 magic "ASFINDX1"     8 number of the block u64     16 inode of items.bin u64
//!     64 + 24 i: slot i of the block: what u8 (0 free, 1 piece, 2 parity, 3 doubt)    8 piece index u64    16 epoch u64
//!   4064 BLAKE3 of bytes 0..4064
//! ```
//! **It is never the truth**: the headers are. Before a header may change, the index says durably that it does not know the slot
//! (doubt); what it became is written with the next doubt, without haste. So after a crash, of this process or of power, it is right about
//! every slot that it claims to know, and the headers of the others are read: no more than what was claimed for coming puts or changed since. There is
//! no need of a seal, nor of a log that is replayed and compacted: a block is written in place, and one that was torn is doubt. A file of
//! another inode (a copy) is unknown as a whole.
//!
//! Doubt costs puts next to nothing: slots are claimed for [`CLAIMED_AT_ONCE`] of them together. A removal waits for it.

use super::header::{ItemId, ItemKind};
use super::report::StoreError;
use crate::BLOCK_BYTES;
use crate::error::IoError;
use crate::file::{Access, DirectFile, sync_directory};
use crate::pool::SlabMut;
use consensus::constants::HASH_SIZE;
use futures::lock::Mutex;
use std::cell::Cell;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The file, beside the items.
pub const INDEX_FILE: &str = "index.bin";
/// Slots of which a block tells.
pub(super) const SLOTS_A_BLOCK: u64 = 128;
/// Slots that are put in doubt at once for coming puts.
pub(super) const CLAIMED_AT_ONCE: usize = 64;
/// Writes in a row that may fail.
const FAILURES_MAX: u32 = 3;
const MAGIC: [u8; 8] = *b"ASFINDX1";
const NOTES_AT: usize = 64;
const NOTE_BYTES: usize = 24;
/// Bytes that the block's hash covers.
const HASHED_BYTES: usize = BLOCK_BYTES - HASH_SIZE;

/// What the index says of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    Free,
    Item(ItemId, u64),
    /// Its header must be read.
    Doubt,
}

/// The open file.
pub(super) struct Index {
    pub file: Arc<DirectFile>,
    /// Of the file of items.
    pub inode: u64,
    /// Held by who writes, and what is written from: puts that wait hold the pool's slabs. Only work that goes to its end takes it out.
    pub writing: Mutex<Option<SlabMut>>,
    /// Writes in a row that failed; none once the store does without it.
    pub failures: Cell<Option<u32>>,
}

impl Index {
    /// Opens the index beside `items`, for so many slots; made or grown if needed, with blocks that say nothing. `scratch` is some blocks
    /// of memory.
    pub fn open(dir: &Path, items: &DirectFile, slots: u64, scratch: SlabMut) -> Result<Self, StoreError> {
        let (path, bytes) = (dir.join(INDEX_FILE), slots.div_ceil(SLOTS_A_BLOCK) * BLOCK_BYTES as u64);
        let file = match DirectFile::open(&path, Access::ReadWrite) {
            Err(_) if !path.exists() => DirectFile::create(&path, bytes)?,
            opened => opened?,
        };
        if file.size_bytes()? < bytes {
            file.set_size(bytes)?;
        }
        Ok(Self {
            file,
            inode: items.inode()?,
            writing: Mutex::new(Some(scratch)),
            failures: Cell::new(Some(0)),
        })
    }

    /// Whether the store still goes by it.
    pub fn is_used(&self) -> bool {
        self.failures.get().is_some()
    }

    /// Notes how a write ended. After some in vain the store goes on without: one bad block here is no reason to keep no items. The file is
    /// removed, since it would lie from then on, or else the store does not go on.
    pub fn wrote(&self, is_done: bool) {
        let failures = self.failures.get().map(|failures| if is_done { 0 } else { failures + 1 });
        self.failures.set(failures);
        if failures.is_none_or(|failures| failures < FAILURES_MAX) {
            return;
        }
        let path = self.file.path();
        match path.parent().map(Self::remove) {
            Some(Ok(())) => {
                tracing::warn!(
                    "{}: it cannot be written, and the cache goes on without: its next start reads all headers",
                    path.display()
                );
                self.failures.set(None);
            }
            Some(Err(error)) => tracing::warn!("{error}"),
            None => {}
        }
    }

    /// Removes it: what is done without it would make it lie.
    pub fn remove(dir: &Path) -> Result<(), StoreError> {
        remove(&dir.join(INDEX_FILE))
    }
}

/// Removes a file, durably, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(sync_directory(path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(IoError::open(path, error).into()),
    }
}

/// Writes a block.
pub(super) fn write_block(block: &mut [u8], number: u64, inode: u64, notes: &[Note]) {
    block.fill(0);
    block[..8].copy_from_slice(&MAGIC);
    block[8..16].copy_from_slice(&number.to_le_bytes());
    block[16..24].copy_from_slice(&inode.to_le_bytes());
    for (note, bytes) in notes.iter().zip(block[NOTES_AT..].chunks_exact_mut(NOTE_BYTES)) {
        bytes[0] = match note {
            Note::Free => 0,
            Note::Item(ItemId { kind: ItemKind::Piece, .. }, _) => 1,
            Note::Item(ItemId { kind: ItemKind::Parity, .. }, _) => 2,
            Note::Doubt => 3,
        };
        if let Note::Item(id, epoch) = note {
            bytes[8..16].copy_from_slice(&id.index.to_le_bytes());
            bytes[16..24].copy_from_slice(&epoch.to_le_bytes());
        }
    }
    let hash = blake3::hash(&block[..HASHED_BYTES]);
    block[HASHED_BYTES..].copy_from_slice(hash.as_bytes());
}

/// Reads a block's notes, [`SLOTS_A_BLOCK`] of them. One that is not whole, or not of this place and file, is all doubt.
pub(super) fn read_block(block: &[u8], number: u64, inode: u64) -> impl Iterator<Item = Note> {
    let value = |at: usize| u64::from_le_bytes(*block[at..].first_chunk().expect("a block is longer"));
    let is_ours = block[..8] == MAGIC && value(8) == number && value(16) == inode;
    let is_whole = is_ours && *blake3::hash(&block[..HASHED_BYTES]).as_bytes() == block[HASHED_BYTES..];
    let notes = block[NOTES_AT..].chunks_exact(NOTE_BYTES).take(SLOTS_A_BLOCK as usize);
    notes.map(move |bytes| {
        let value = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("a note is longer"));
        let item = |kind| Note::Item(ItemId { kind, index: value(8) }, value(16));
        match bytes[0] {
            0 if is_whole => Note::Free,
            1 if is_whole => item(ItemKind::Piece),
            2 if is_whole => item(ItemKind::Parity),
            _ => Note::Doubt,
        }
    })
}
