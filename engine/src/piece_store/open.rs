//! Opening a store: its file made or resized, its index read, and from the headers where that does not know.

use super::commit::Commit;
use super::index::{Index, SLOTS_A_BLOCK, read_block, remove};
use super::seen::{Found, fits};
use super::slots::{Slots, State};
use super::space::Space;
use super::turns::Turns;
use super::{
    ITEMS_FILE, Inner, PieceStore, READ_TRIES, SLOT_BYTES, STORE_SCRATCH_BYTES, StoreConfig, StoreError,
    StoreReport, offset,
};
use crate::BLOCK_BYTES;
use crate::disk::{Class, Disk};
use crate::error::IoError;
use crate::file::{Access, DirectFile, sync_directory};
use crate::parts::Parts;
use crate::pool::{SLAB_BYTES, SlabMut};
use futures::lock::Mutex;
use futures::{StreamExt, stream};
use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Headers read at a time.
const HEADERS_AT_ONCE: usize = 64;
/// Whole items read at a time.
const ITEMS_AT_ONCE: usize = 4;
/// Slots that are compared with the index before it is believed.
const SAMPLE_SLOTS: u64 = 16;
/// Slots that the disk may refuse before it is asked only once for each.
const MOST_TRIED_AGAIN: u64 = 64;
/// An empty file, there from the first opening as `tmp` on: what was written then may be there in part.
pub(super) const LOOSE_FILE: &str = "not-synced";
/// Slots of which nothing is known that are read whole at opening.
const READ_WHOLE_MAX: usize = 512;
const CLASS: Class = Class::Serving;

impl PieceStore {
    /// Opens the store in `dir`, made if missing. `scratch` is [`STORE_SCRATCH_BYTES`] of memory that starts at a block.
    /// Blocks the executor while the system makes or resizes the file.
    pub async fn open(
        disk: Disk,
        scratch: SlabMut,
        dir: &Path,
        config: &StoreConfig,
    ) -> Result<(Self, StoreReport), StoreError> {
        Self::open_on(disk, scratch, dir, config, Space::of).await
    }

    /// [`Self::open`], where `space` tells what the file system has.
    pub(super) async fn open_on(
        disk: Disk,
        scratch: SlabMut,
        dir: &Path,
        config: &StoreConfig,
        space: impl FnOnce(&Path) -> Result<Space, IoError>,
    ) -> Result<(Self, StoreReport), StoreError> {
        let (file, slots, written) = open_file(dir, config, space)?;
        let is_loose = dir.join(LOOSE_FILE).exists();
        if config.tmp && !is_loose {
            DirectFile::create(&dir.join(LOOSE_FILE), 0)?;
        }
        let mut blocks = scratch.narrow(..STORE_SCRATCH_BYTES);
        let mut index_blocks = blocks.split_off(BLOCK_BYTES);
        let mut header_blocks = index_blocks.split_off(index_blocks.len() - 2 * BLOCK_BYTES);
        let header_blocks = [header_blocks.split_off(BLOCK_BYTES), header_blocks];
        blocks.fill(0);
        let index = if config.tmp {
            Index::remove(dir)?;
            None
        } else {
            open_index(dir, &file, slots.capacity(), index_blocks)?
        };
        let store = Self(Rc::new(Inner {
            pool: blocks.pool().clone(),
            commit: Commit::new(disk.clone(), file.clone()),
            turns: Turns::default(),
            disk,
            file,
            slots: RefCell::new(slots),
            index,
            claiming: Mutex::new(()),
            headers: header_blocks.map(|block| Mutex::new(Some(block))),
            zeros: blocks.freeze(),
            tmp: config.tmp,
        }));
        store.sync_first().await?;
        let report = store.find_items(written, is_loose).await?;
        if is_loose && !config.tmp {
            // All that is here was read, and is durable.
            store.0.disk.sync(CLASS, &store.0.file).await?;
            remove(&dir.join(LOOSE_FILE))?;
        }
        Ok((store, report))
    }

    /// What an earlier process wrote and had no time to sync is read as if it were durable, and older copies are cleared for it: so it must be.
    async fn sync_first(&self) -> Result<(), StoreError> {
        if self.0.tmp {
            return Ok(());
        }
        self.0.disk.sync(CLASS, &self.0.file).await?;
        match &self.0.index {
            Some(index) => Ok(self.0.disk.sync(CLASS, &index.file).await?),
            None => Ok(()),
        }
    }

    /// Fills the index in memory; slots from `written` on have just been made of zeros. Of a store that was `loose`, items are read whole.
    async fn find_items(&self, written: u64, is_loose: bool) -> Result<StoreReport, StoreError> {
        let mut report = StoreReport::default();
        self.believe_index(written).await?;
        if !self.is_sample_right().await? {
            tracing::warn!(
                "{}: the index beside it is of another file; reading all headers",
                self.path().display()
            );
            self.0.slots.borrow_mut().doubt_all();
        }
        {
            let mut slots = self.0.slots.borrow_mut();
            (written..slots.in_file()).for_each(|slot| slots.free(slot));
        }
        self.scan(is_loose, &mut report).await?;
        report.believed = self.0.slots.borrow().believed();
        match self.write_index(CLASS).await {
            // It is tried again with the next put.
            Err(StoreError::Io(error)) if !error.is_passing() => {
                tracing::warn!("{error}");
            }
            written => written?,
        }
        Ok(report)
    }

    /// Takes over what the index on disk says. What it does not say, or cannot be read, stays unknown.
    async fn believe_index(&self, written: u64) -> Result<(), StoreError> {
        let Some(index) = &self.0.index else { return Ok(()) };
        let (blocks, at_once) = (written.div_ceil(SLOTS_A_BLOCK), SLAB_BYTES / BLOCK_BYTES);
        for first in (0..blocks).step_by(at_once) {
            let bytes = (blocks - first).min(at_once as u64) as usize * BLOCK_BYTES;
            let buf = self.0.pool.acquire().await?;
            let read = self.0.disk.read(CLASS, &index.file, first * BLOCK_BYTES as u64, buf, 0..bytes).await;
            let buf = match read {
                Ok(buf) => buf,
                Err(error) if error.is_passing() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!("{error}");
                    continue;
                }
            };
            let mut slots = self.0.slots.borrow_mut();
            for (number, block) in (first..).zip(buf[..bytes].chunks_exact(BLOCK_BYTES)) {
                let of_block = number * SLOTS_A_BLOCK..written;
                let notes = of_block.zip(read_block(block, number, index.inode));
                notes.for_each(|(slot, note)| slots.believe(slot, note));
            }
        }
        Ok(())
    }

    /// Whether some slots across the file are what the index said: one that belongs to another file is seen at once.
    async fn is_sample_right(&self) -> Result<bool, StoreError> {
        let in_file = self.0.slots.borrow().in_file();
        let mut buf = self.0.pool.acquire().await?;
        for slot in (0..in_file).step_by((in_file / SAMPLE_SLOTS).max(1) as usize) {
            let believed = self.0.slots.borrow().state(slot);
            if believed == State::Unknown {
                continue;
            }
            let (back, found) = self.look(CLASS, slot, buf, READ_TRIES).await?;
            buf = back;
            if fits(believed, &found) {
                let mut slots = self.0.slots.borrow_mut();
                slots.set_seen(slot);
                slots.set_whole(slot);
            } else if !matches!(found, Found::Unreadable) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads the headers of all slots of which nothing is known, in the order of the file. On a hard disk that costs what reading all of it would
    /// (the next header comes by the head when the item before it has), and no order costs less; on others 1/256 of it.
    async fn scan(&self, is_loose: bool, report: &mut StoreReport) -> Result<(), StoreError> {
        let unknown = self.0.slots.borrow().unknown();
        // One slab is enough for all, and is here before they begin: others may want slabs, too.
        let blocks = Parts::of(self.0.pool.acquire().await?, BLOCK_BYTES);
        // Of a few, as after a crash, nothing is taken on trust: a header that was being written then may name what is not all there.
        let reads_items = self.0.tmp || is_loose || unknown.len() <= READ_WHOLE_MAX;
        // A disk that gives nothing is not asked for ever.
        let (blocks, bad) = (&blocks, &Cell::new(0));
        let at_once = if reads_items { ITEMS_AT_ONCE } else { HEADERS_AT_ONCE };
        let mut found = stream::iter(unknown)
            .map(|slot| async move {
                let tries = if bad.get() < MOST_TRIED_AGAIN { READ_TRIES } else { 1 };
                let (buf, found) = self.look(CLASS, slot, blocks.take().await?, tries).await?;
                blocks.give(buf);
                bad.set(bad.get() + u64::from(matches!(found, Found::Unreadable)));
                let found = match found {
                    Found::Item(header) if reads_items => self.read_item(slot, header).await?,
                    found => found,
                };
                Ok::<_, StoreError>((slot, found))
            })
            .buffer_unordered(at_once);
        // What takes more of the disk comes after: reads that nobody polls meanwhile would keep their turns at it.
        let mut later = Vec::new();
        while let Some(seen) = found.next().await {
            let (slot, found) = seen?;
            let is_known = |id| self.0.slots.borrow().get(id).is_some();
            match found {
                Found::Damaged => later.push((slot, found)),
                Found::Item(header) if is_known(header.id) => later.push((slot, found)),
                _ => {
                    let is_read = reads_items && matches!(found, Found::Item(_));
                    self.settle(slot, found, report).await?;
                    if is_read {
                        self.0.slots.borrow_mut().set_whole(slot);
                    }
                }
            }
        }
        for (slot, found) in later {
            self.settle(slot, found, report).await?;
        }
        Ok(())
    }
}

/// The index beside the items. A disk on which there can be none has its items all the same: all headers are read then.
fn open_index(
    dir: &Path,
    items: &DirectFile,
    slots: u64,
    blocks: SlabMut,
) -> Result<Option<Index>, StoreError> {
    match Index::open(dir, items, slots, blocks) {
        Ok(index) => Ok(Some(index)),
        Err(error) => {
            tracing::warn!("{error}; the cache does without it, and reads all headers at each start");
            // Left there, it would say what was.
            Index::remove(dir)?;
            Ok(None)
        }
    }
}

/// The locked file, the slots it may have, and how many of them were there before. A given size is reserved at once, unless it grows to it.
fn open_file(
    dir: &Path,
    config: &StoreConfig,
    space: impl FnOnce(&Path) -> Result<Space, IoError>,
) -> Result<(Arc<DirectFile>, Slots, u64), StoreError> {
    fs::create_dir_all(dir).map_err(|error| IoError::open(dir, error))?;
    let path = dir.join(ITEMS_FILE);
    let exists = path.try_exists().map_err(|error| IoError::open(&path, error))?;
    let file = if exists {
        DirectFile::open(&path, Access::ReadWrite)?
    } else {
        // It may get the same inode again.
        Index::remove(dir)?;
        DirectFile::create(&path, 0)?
    };
    file.lock_exclusive()?;
    let now_bytes = file.size_bytes()?;
    let bytes = match config.size_bytes {
        Some(bytes) => bytes,
        None => space(dir)?.share(now_bytes),
    };
    let capacity = bytes / SLOT_BYTES as u64;
    if capacity == 0 && now_bytes < SLOT_BYTES as u64 {
        return Err(StoreError::TooSmall { path: path.display().to_string(), bytes });
    }
    // Never cut off: items lie there that nobody else may have. A smaller size means a smaller share, and what is others' then is let go.
    if config.size_bytes.is_some() && !config.grows && offset(capacity) > now_bytes {
        file.set_size(offset(capacity))?;
        sync_directory(&path)?;
    }
    let in_file = file.size_bytes()? / SLOT_BYTES as u64;
    let written = now_bytes.div_ceil(SLOT_BYTES as u64).min(in_file);
    Ok((file, Slots::new(in_file, capacity), written))
}
