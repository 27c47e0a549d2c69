//! Opening a store: its file made or resized, its index rebuilt from the headers.

use super::header::Header;
use super::slots::Slots;
use super::space::Space;
use super::{
    ITEMS_FILE, Inner, PieceStore, SLOT_BYTES, STORE_SCRATCH_BYTES, StoreConfig, StoreError, check, offset,
};
use crate::BLOCK_BYTES;
use crate::disk::{Class, Disk};
use crate::error::IoError;
use crate::file::{Access, DirectFile, sync_directory};
use crate::parts::Parts;
use crate::pool::SlabMut;
use futures::{StreamExt, stream};
use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Headers read at a time.
const HEADERS_AT_ONCE: usize = 64;
/// Whole items read at a time.
const ITEMS_AT_ONCE: usize = 4;
const CLASS: Class = Class::Serving;

/// What opening a store found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct StoreReport {
    /// Slots whose item is damaged: they are free.
    pub damaged: u64,
    /// Slots that the disk does not give: they are not used.
    pub unreadable: u64,
    /// Second copies of an item: the whole one of the latest epoch stays.
    pub duplicates: u64,
}

/// What a slot holds.
enum Found {
    Nothing,
    Damaged,
    Unreadable,
    Item(Header),
}

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
        let (file, slots) = open_file(dir, config, space)?;
        let mut zeros = scratch.narrow(..STORE_SCRATCH_BYTES);
        zeros.fill(0);
        let store = Self(Rc::new(Inner {
            pool: zeros.pool().clone(),
            disk,
            file,
            slots: RefCell::new(slots),
            growing: futures::lock::Mutex::new(()),
            zeros: zeros.freeze(),
            tmp: config.tmp,
        }));
        let report = store.scan().await?;
        Ok((store, report))
    }

    async fn scan(&self) -> Result<StoreReport, StoreError> {
        let mut report = StoreReport::default();
        let (slots, blocks) = (self.0.slots.borrow().in_file(), Parts::new(&self.0.pool, BLOCK_BYTES));
        let blocks = &blocks;
        let at_once = if self.0.tmp { ITEMS_AT_ONCE } else { HEADERS_AT_ONCE };
        let mut found = stream::iter((0..slots).rev())
            .map(|slot| async move {
                let found = self.read_header(slot, blocks).await;
                let Ok(Found::Item(header)) = found else { return (slot, found) };
                (slot, if self.0.tmp { self.read_item(slot, header).await } else { found })
            })
            .buffer_unordered(at_once);
        while let Some((slot, found)) = found.next().await {
            match found? {
                Found::Item(header) => self.take_in(slot, &header, &mut report).await?,
                Found::Unreadable => report.unreadable += 1,
                Found::Nothing => self.0.slots.borrow_mut().free(slot),
                Found::Damaged => {
                    report.damaged += 1;
                    // Its header may be whole: left there, it would name the item again when next opened, perhaps before a good copy.
                    match self.clear(CLASS, slot).await {
                        Err(StoreError::Io(error)) => {
                            unreadable(error)?;
                            report.unreadable += 1;
                        }
                        cleared => cleared?,
                    }
                }
            }
        }
        Ok(report)
    }

    /// Notes an item. Of two the older is cleared, once the newer is seen to be whole: it may have been on its way when power was lost.
    async fn take_in(&self, slot: u64, header: &Header, report: &mut StoreReport) -> Result<(), StoreError> {
        let known = self.0.slots.borrow().get(header.id);
        let Some(known) = known else {
            self.0.slots.borrow_mut().insert(header.id, slot, header.epoch);
            return Ok(());
        };
        report.duplicates += 1;
        let (this, other) = ((slot, header.epoch), (known.slot, known.epoch));
        let (newer, older) = if other.1 > this.1 { (other, this) } else { (this, other) };
        let is_whole = matches!(self.read_item(newer.0, *header).await?, Found::Item(_));
        report.damaged += u64::from(!is_whole);
        let (kept, cleared) = if is_whole { (newer, older) } else { (older, newer) };
        self.0.slots.borrow_mut().insert(header.id, kept.0, kept.1);
        match self.clear(CLASS, cleared.0).await {
            // One bad place of the disk: the other copy is good.
            Err(StoreError::Io(error)) => {
                unreadable(error)?;
                report.unreadable += 1;
                Ok(())
            }
            cleared => cleared,
        }
    }

    async fn read_header(&self, slot: u64, blocks: &Parts) -> Result<Found, StoreError> {
        let buf = blocks.take().await?;
        match self.0.disk.read(CLASS, &self.0.file, offset(slot), buf, 0..BLOCK_BYTES).await {
            Ok(buf) => {
                let header = Header::read_from(&buf);
                blocks.give(buf);
                Ok(header.map_or(Found::Damaged, |header| header.map_or(Found::Nothing, Found::Item)))
            }
            Err(error) => unreadable(error),
        }
    }

    async fn read_item(&self, slot: u64, header: Header) -> Result<Found, StoreError> {
        let buf = self.0.pool.acquire().await?;
        match self.0.disk.read(CLASS, &self.0.file, offset(slot), buf, 0..SLOT_BYTES).await {
            Ok(buf) => {
                let item = check(header.id, buf.narrow(..SLOT_BYTES));
                Ok(item.map_or(Found::Damaged, |_| Found::Item(header)))
            }
            Err(error) => unreadable(error),
        }
    }
}

/// One bad place of a disk is no reason to do without the rest.
fn unreadable(error: IoError) -> Result<Found, StoreError> {
    match error {
        IoError::Closed { .. } => Err(error.into()),
        _ => Ok(Found::Unreadable),
    }
}

/// The locked file with the slots it may have. A given size is reserved at once, unless it grows to it.
fn open_file(
    dir: &Path,
    config: &StoreConfig,
    space: impl FnOnce(&Path) -> Result<Space, IoError>,
) -> Result<(Arc<DirectFile>, Slots), StoreError> {
    fs::create_dir_all(dir).map_err(|error| IoError::open(dir, error))?;
    let path = dir.join(ITEMS_FILE);
    let exists = path.try_exists().map_err(|error| IoError::open(&path, error))?;
    let file =
        if exists { DirectFile::open(&path, Access::ReadWrite)? } else { DirectFile::create(&path, 0)? };
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
    Ok((file, Slots::new(in_file, capacity)))
}
