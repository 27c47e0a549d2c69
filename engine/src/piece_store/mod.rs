//! Cached items (pieces and parity) on one disk: fixed slots in one file, found again by their headers, or quickly by an index beside them.
//!
//! ```text
//!   items.bin   │ slot 0: header block 4096 │ record 1 MiB │ slot 1: header block │ record │ ...
//!   header block, little endian, all else zero:
//!      0 magic "ASFITEM1"     8 kind u8 (1 piece, 2 parity)      16 piece index u64     24 epoch u64
//!     32 item length u32     40 BLAKE3 of the item              72 BLAKE3 of bytes 0..72
//!   4000 a piece's commitment and witness: they end the block before the record
//! ```
//! A slot is what a piece looks like in a slab of the pool (record on a block, points before it), so it goes between disk,
//! wire and GPU as it lies. Items are hashed in wire order: record, commitment, witness.
//!
//! ```text
//!   put     slots claimed ─▶ item written ─▶ fdatasync ─▶ header written ─▶ fdatasync ─▶ index in memory ─▶ older copies cleared ─▶ Ok
//!           (64 at once)                     (shared)                       (shared)                        (as a removal does)
//!   remove  out of the index in memory ─▶ index.bin: doubt, fdatasync ─▶ header zeroed ─▶ fdatasync ─▶ Ok
//! ```
//! An item is only ever written to a free slot, its header after it and when it is durable, and the slot of a removed one is free again
//! after its header is zeroed. So a crash leaves whole items; of two the older goes when the newer was seen to be whole. Two fdatasyncs a put
//! rather than one: with one, opening would have to read items to know whether a header tells the truth. Puts that wait share them
//! ([`commit`]), so that many at once need few. After one that failed nothing is known of what it covered: those puts are refused, their slots not
//! used again, and before anything else is said of their items, these slots are cleared.
//!
//! Every read checks the hash; what does not fit is dropped and told, never served. A read that the disk refuses is tried again before its slot is
//! given up. Opening believes `index.bin` ([`index`]); the headers are read behind it, slowly, or before a slot is written or cleared.
//!
//! Owns: the two files, and the index in memory (about 100 bytes an item, and a set of positions a segment). Never: which items belong here, or where
//! to fetch one anew.

mod commit;
mod doubt;
mod header;
mod index;
mod open;
mod report;
mod seen;
mod slots;
mod space;
mod turns;

#[cfg(test)]
mod index_tests;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;

pub use self::header::{ItemId, ItemKind};
pub use self::index::INDEX_FILE;
pub use self::report::{StoreError, StoreReport};
pub use crate::piece_layout::{POINTS_AT, RECORD_AT, SLOT_BYTES};

use self::commit::Commit;
use self::header::Header;
use self::index::{CLAIMED_AT_ONCE, Index};
use self::slots::{Slots, State};
use self::turns::Turns;
use crate::BLOCK_BYTES;
use crate::disk::{Class, Disk};
use crate::error::IoError;
use crate::file::DirectFile;
use crate::pool::{Pool, Slab, SlabMut};
use crate::task;
use consensus::piece_set::PieceSet;
use futures::channel::oneshot;
use futures::lock::Mutex;
use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Memory that an open store keeps.
pub const STORE_SCRATCH_BYTES: usize = 64 * BLOCK_BYTES;
/// The file.
pub const ITEMS_FILE: &str = "items.bin";
/// How often the disk is asked for an item, and the pause between: a cable or a controller may have a bad moment.
const READ_TRIES: u32 = 3;
const READ_PAUSE: Duration = Duration::from_millis(200);
/// Slots by which the file grows.
const GROW_SLOTS: u64 = 256;

/// How a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreConfig {
    /// Bytes of its file; without it, it grows until the file system is nine tenths full.
    pub size_bytes: Option<u64>,
    /// The file grows to its size with what comes, instead of taking it at once: somebody else may take the space first.
    pub grows: bool,
    /// Nothing is forced to disk; instead, all items are read and checked at opening.
    pub tmp: bool,
}

/// An item as read, or as put.
#[derive(Debug, Clone)]
pub struct Item {
    /// The slot: [`SLOT_BYTES`], record at [`RECORD_AT`], a piece's points at [`POINTS_AT`].
    pub slab: Slab,
    /// BLAKE3 of the item, just checked.
    pub blake3: [u8; 32],
    /// Epoch in which it was put.
    pub epoch: u64,
    /// Tells it from every other item that this open store has had or will have: see [`PieceStore::stamp`].
    pub stamp: u64,
}

/// An open store on its disk's executor; clones are handles to the same one.
#[derive(Clone)]
pub struct PieceStore(Rc<Inner>);

struct Inner {
    disk: Disk,
    pool: Pool,
    file: Arc<DirectFile>,
    slots: RefCell<Slots>,
    commit: Commit,
    turns: Turns,
    /// None if opened `tmp`.
    index: Option<Index>,
    /// One writer at a time claims slots and grows the file.
    claiming: Mutex<()>,
    /// Blocks to read headers into, the second one for the check behind the index, which may wait for a bad place of the disk: puts that wait
    /// hold the pool's slabs. Only work that goes to its end takes one out.
    headers: [Mutex<Option<SlabMut>>; 2],
    /// A block of zeros.
    zeros: Slab,
    tmp: bool,
}

impl PieceStore {
    /// Items there are.
    pub fn len(&self) -> u64 {
        self.0.slots.borrow().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slots the store may have; with [`SLOT_BYTES`], its weight among others.
    pub fn capacity(&self) -> u64 {
        self.0.slots.borrow().capacity()
    }

    /// Slots that are free, as far as the file system has room.
    pub fn room(&self) -> u64 {
        self.0.slots.borrow().room()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.0.file.path()
    }

    /// Whether an item is there; reading it may still find it damaged.
    pub fn contains(&self, id: ItemId) -> bool {
        self.0.slots.borrow().get(id).is_some()
    }

    /// The stamp of an item that is there. An [`Item`] with this stamp is still what the store holds; one with another was removed or replaced.
    pub fn stamp(&self, id: ItemId) -> Option<u64> {
        self.0.slots.borrow().get(id).map(|entry| entry.stamp)
    }

    /// All items with the epochs they were put in, in no order: what to give to others, or remove.
    pub fn items(&self) -> Vec<(ItemId, u64)> {
        self.0.slots.borrow().items()
    }

    /// Which pieces of a segment there are; reading one may still find it damaged.
    pub fn pieces(&self, segment_index: u64) -> PieceSet {
        self.0.slots.borrow().pieces(segment_index)
    }

    /// Those of them of which it is known that they are whole: what others may delete because it is here. After an opening without the index
    /// that is what has been read or put since.
    pub fn whole_pieces(&self, segment_index: u64) -> PieceSet {
        self.0.slots.borrow().whole_pieces(segment_index)
    }

    /// The segments of which there is a piece, in order.
    pub fn segments(&self) -> impl Iterator<Item = u64> + use<> {
        self.0.slots.borrow().segments().into_iter()
    }

    /// The last segment of which there is a piece.
    pub fn last_segment(&self) -> Option<u64> {
        self.0.slots.borrow().last_segment()
    }

    /// Reads an item and checks its hash. A damaged one is dropped; one that the disk does not give, though it is asked several times, is
    /// dropped, too, and its slot not used again.
    pub async fn get(&self, class: Class, id: ItemId) -> Result<Option<Item>, StoreError> {
        let mut tries = READ_TRIES;
        loop {
            let Some(entry) = self.0.slots.borrow().get(id) else { return Ok(None) };
            let buf = self.0.pool.acquire().await?;
            let read = self.0.disk.read(class, &self.0.file, offset(entry.slot), buf, 0..SLOT_BYTES).await;
            if self.0.slots.borrow().get(id) != Some(entry) {
                // Removed or replaced meanwhile: the bytes may be of another item.
                continue;
            }
            return match read.map(|buf| check(id, buf.narrow(..SLOT_BYTES))) {
                Ok(Some((slab, Header { blake3, epoch, .. }))) => {
                    let mut slots = self.0.slots.borrow_mut();
                    slots.set_seen(entry.slot);
                    slots.set_whole(entry.slot);
                    Ok(Some(Item { slab, blake3, epoch, stamp: entry.stamp }))
                }
                Ok(None) => {
                    self.remove(class, id).await?;
                    let path = self.path().display().to_string();
                    Err(StoreError::Damaged { id, path, offset: offset(entry.slot) })
                }
                Err(error) if error.is_passing() => Err(error.into()),
                Err(_) if tries > 1 => {
                    tries -= 1;
                    task::sleep(READ_PAUSE).await;
                    continue;
                }
                Err(error) => {
                    let mut slots = self.0.slots.borrow_mut();
                    slots.remove(id);
                    slots.retire(entry.slot, Some(id));
                    Err(error.into())
                }
            };
        }
    }

    /// Keeps an item, in place of an earlier one of the same id. `slab` is as in [`Item::slab`]; its header is filled in
    /// here. `blake3` must be that of the item, known good. Durable when this returns, unless opened `tmp`. Once begun it
    /// goes on although the future is dropped.
    pub async fn put(
        &self,
        class: Class,
        id: ItemId,
        epoch: u64,
        blake3: [u8; 32],
        mut slab: SlabMut,
    ) -> Result<Item, StoreError> {
        assert!(slab.len() == SLOT_BYTES && slab.phase() == 0, "an item lies in memory as in its slot");
        Header { id, epoch, blake3 }.write_to(&mut slab);
        let (store, slab) = (self.clone(), slab.freeze());
        to_end(async move {
            let _turn = store.0.turns.take(id).await;
            let slot = store.free_slot(class).await?;
            store.write_item(class, id, slot, &slab).await?;
            let stamp = {
                let mut slots = store.0.slots.borrow_mut();
                slots.let_go(id);
                let stamp = slots.insert(id, slot, epoch);
                slots.set_whole(slot);
                stamp
            };
            store.forget(class, id).await?;
            Ok(Item { slab, blake3, epoch, stamp })
        })
        .await
    }

    /// Makes all that was put durable, where it is not yet: a store that was opened `tmp`.
    pub async fn sync(&self) -> Result<(), StoreError> {
        if self.0.tmp {
            self.0.disk.sync(Class::SectorWrite, &self.0.file).await?;
        }
        Ok(())
    }

    /// Removes an item, durably unless opened `tmp`; false if it was not there.
    pub async fn remove(&self, class: Class, id: ItemId) -> Result<bool, StoreError> {
        let is_there = self.0.slots.borrow_mut().let_go(id);
        let store = self.clone();
        to_end(async move {
            let _turn = store.0.turns.take(id).await;
            store.forget(class, id).await
        })
        .await?;
        Ok(is_there)
    }

    /// Clears the slots that an item was in before it was removed or replaced. Only then it is gone: until then it could be found again.
    async fn forget(&self, class: Class, id: ItemId) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        let suspects = self.0.slots.borrow_mut().take_suspects(id);
        for slot in suspects {
            outcome = outcome.and(self.clear(class, slot, Some(id)).await);
        }
        outcome
    }

    /// Zeroes the header of a slot that the index does not name any more, and frees it. If it turns out to be of another item than `id`, it stays.
    async fn clear(&self, class: Class, slot: u64, id: Option<ItemId>) -> Result<(), StoreError> {
        if !self.0.slots.borrow().is_seen(slot) && !self.is_still(class, slot, id).await? {
            return Ok(());
        }
        if let Err(error) = self.doubt(class, &[slot]).await {
            // Nothing is wrong with the slot: it is cleared with the next change of the item.
            self.0.slots.borrow_mut().suspect(slot, id);
            return Err(error);
        }
        let zeros = self.0.zeros.clone();
        let erased = self.write(class, offset(slot), &zeros).await;
        let mut slots = self.0.slots.borrow_mut();
        match erased {
            // It stays unused, though it took that.
            Ok(()) if slots.state(slot) == State::Retired => {}
            Ok(()) => slots.free(slot),
            Err(_) => slots.retire(slot, id),
        }
        erased
    }

    /// The header last, when the item is durable: what a header names after a power loss is there. A slot that this fails for is not used again.
    async fn write_item(&self, class: Class, id: ItemId, slot: u64, bytes: &Slab) -> Result<(), StoreError> {
        let offset = offset(slot);
        let written = self.write(class, offset + RECORD_AT as u64, &bytes.slice(RECORD_AT..)).await;
        if written.is_err() {
            self.0.slots.borrow_mut().retire(slot, None);
            return written;
        }
        let written = self.write(class, offset, &bytes.slice(..RECORD_AT)).await;
        if written.is_err() {
            self.0.slots.borrow_mut().retire(slot, Some(id));
        }
        written
    }

    /// Writes, durably unless opened `tmp`.
    async fn write(&self, class: Class, offset: u64, bytes: &Slab) -> Result<(), StoreError> {
        let write = self.0.disk.write(class, &self.0.file, offset, bytes);
        if self.0.tmp {
            write.await?;
        } else {
            self.0.commit.durably(class, write).await?;
        }
        Ok(())
    }

    /// A slot to be written: nobody uses it, and the index on disk does not say that it is free. The file grows for it if it may.
    async fn free_slot(&self, class: Class) -> Result<u64, StoreError> {
        loop {
            if let Some(slot) = self.0.slots.borrow_mut().take_claimed() {
                return Ok(slot);
            }
            let _claiming = self.0.claiming.lock().await;
            if self.0.slots.borrow().has_claimed() {
                continue;
            }
            let next = self.0.slots.borrow().next_free(CLAIMED_AT_ONCE);
            if next.is_empty() {
                self.grow(class).await?;
                continue;
            }
            for &slot in &next {
                self.see(class, slot).await?;
            }
            let claimed = self.0.slots.borrow_mut().claim(&next);
            let doubted = self.doubt(class, &claimed).await;
            let mut slots = self.0.slots.borrow_mut();
            match doubted {
                Ok(()) => slots.add_claimed(claimed),
                Err(error) => {
                    claimed.into_iter().for_each(|slot| slots.free(slot));
                    return Err(error);
                }
            }
        }
    }

    async fn grow(&self, class: Class) -> Result<(), StoreError> {
        let (from, capacity) = {
            let slots = self.0.slots.borrow();
            (slots.in_file(), slots.capacity())
        };
        let to = (from + GROW_SLOTS).min(capacity);
        if from >= to {
            return Err(StoreError::Full { slots: capacity });
        }
        let bytes = (to - from) * SLOT_BYTES as u64;
        match self.0.disk.allocate(class, &self.0.file, offset(from), bytes).await {
            Ok(()) => self.0.slots.borrow_mut().grow(to),
            Err(IoError::DiskFull { .. }) => {
                // Others took the space meanwhile.
                self.0.slots.borrow_mut().limit(from);
                return Err(StoreError::Full { slots: from });
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Where a slot begins in the file.
fn offset(slot: u64) -> u64 {
    slot * SLOT_BYTES as u64
}

/// The item in a slot, if it is this one and whole.
fn check(id: ItemId, slab: SlabMut) -> Option<(Slab, Header)> {
    let header = Header::read_from(&slab).ok()??;
    let fits = header.id == id && header.hash_of_item(&slab) == header.blake3;
    fits.then(|| (slab.freeze(), header))
}

/// Runs what must not stop halfway, also when nobody waits for it any more.
async fn to_end<T: 'static>(
    work: impl Future<Output = Result<T, StoreError>> + 'static,
) -> Result<T, StoreError> {
    let (done, result) = oneshot::channel();
    task::spawn_local(async move {
        // Nobody may listen any more.
        let _ = done.send(work.await);
    })
    .detach();
    result.await.unwrap_or(Err(StoreError::Closed))
}
