//! What slots really hold: their headers. The index, in memory and on disk, is brought in line with them.
//!
//! Owns: reading headers, choosing between two copies of an item, and the check behind what the index on disk said. Never: to overwrite
//! or clear a slot whose header was not read.

use super::header::Header;
use super::slots::State;
use super::{ItemId, PieceStore, READ_PAUSE, READ_TRIES, SLOT_BYTES, StoreError, StoreReport, check, offset};
use crate::BLOCK_BYTES;
use crate::disk::Class;
use crate::error::IoError;
use crate::pool::SlabMut;
use crate::task;
use std::rc::Rc;
use std::time::Duration;

/// Headers checked at a time behind the index, and the pause after them: 500 a second, which a hard disk hardly feels; 1 TB takes half an hour.
const CHECKED_AT_ONCE: u64 = 32;
const CHECK_PAUSE: Duration = Duration::from_millis(64);

/// What a slot holds.
pub(super) enum Found {
    Nothing,
    Damaged,
    Unreadable,
    Item(Header),
}

impl PieceStore {
    /// Begins to check the headers of slots that opening took from the index, slowly, until all are checked or the store is closed. An item
    /// that is not where it should be is dropped, and `on_lost` told; one that was not known of is taken in.
    pub fn check_behind(&self, on_lost: impl Fn() + 'static) {
        let store = Rc::downgrade(&self.0);
        task::spawn_local(async move {
            let mut next = 0;
            while let Some(inner) = store.upgrade() {
                let store = PieceStore(inner);
                let end = store.0.slots.borrow().in_file().min(next + CHECKED_AT_ONCE);
                if next == end {
                    break;
                }
                for slot in next..end {
                    // Refused only where the executor ends.
                    let Ok(is_lost) = store.see(Class::Scrub, slot).await else { return };
                    if is_lost {
                        on_lost();
                    }
                }
                next = end;
                drop(store);
                task::sleep(CHECK_PAUSE).await;
            }
        })
        .detach();
    }

    /// Reads a slot's header, if that was not done yet; true when the item that was believed to be there is not.
    pub(super) async fn see(&self, class: Class, slot: u64) -> Result<bool, StoreError> {
        let believed = {
            let slots = self.0.slots.borrow();
            (!slots.is_seen(slot)).then(|| slots.state(slot))
        };
        let Some(believed @ (State::Free | State::Held(_))) = believed else { return Ok(false) };
        let found = self.look_alone(class, slot).await?;
        let mut slots = self.0.slots.borrow_mut();
        if slots.is_seen(slot) || slots.state(slot) != believed {
            return Ok(false);
        }
        if fits(believed, &found) {
            slots.set_seen(slot);
            if let Found::Item(Header { id, epoch, .. }) = found {
                if slots.get(id).is_some_and(|entry| entry.epoch != epoch) {
                    slots.insert(id, slot, epoch);
                }
                slots.set_whole(slot);
            }
            return Ok(false);
        }
        let lost = if let State::Held(id) = believed { Some(id) } else { None };
        match lost {
            Some(id) => drop(slots.remove(id)),
            None => slots.take(slot),
        }
        if let Found::Unreadable = found {
            slots.retire(slot, lost);
        } else {
            drop(slots);
            self.adopt(slot, found);
        }
        if let Some(id) = lost {
            tracing::warn!("{}: {id} is not at offset {} any more", self.path().display(), offset(slot));
        }
        Ok(lost.is_some())
    }

    /// Whether a slot that was taken from `id`, and whose header was not read yet, must be cleared. If it is of another item, that is taken in.
    pub(super) async fn is_still(
        &self,
        class: Class,
        slot: u64,
        id: Option<ItemId>,
    ) -> Result<bool, StoreError> {
        match self.look_alone(class, slot).await? {
            Found::Item(header) if Some(header.id) != id => {
                self.adopt(slot, Found::Item(header));
                Ok(false)
            }
            Found::Nothing => {
                self.0.slots.borrow_mut().free(slot);
                Ok(false)
            }
            Found::Item(_) | Found::Damaged | Found::Unreadable => {
                self.0.slots.borrow_mut().set_seen(slot);
                Ok(true)
            }
        }
    }

    /// Takes in what was found in a slot that nobody uses, in a task of its own: that may need memory, for which puts must not wait.
    fn adopt(&self, slot: u64, found: Found) {
        let store = self.clone();
        task::spawn_local(async move {
            let settled = store.settle(slot, found, &mut StoreReport::default()).await;
            if let Err(error) = settled {
                tracing::warn!("{error}");
            }
        })
        .detach();
    }

    /// Notes what was found in a slot.
    pub(super) async fn settle(
        &self,
        slot: u64,
        found: Found,
        report: &mut StoreReport,
    ) -> Result<(), StoreError> {
        self.0.slots.borrow_mut().set_seen(slot);
        match found {
            Found::Item(header) => self.take_in(slot, &header, report).await,
            Found::Nothing => {
                self.0.slots.borrow_mut().free(slot);
                Ok(())
            }
            Found::Unreadable => {
                report.unreadable += 1;
                self.0.slots.borrow_mut().retire(slot, None);
                Ok(())
            }
            Found::Damaged => {
                report.damaged += 1;
                // Its header may be whole: left there, it would name the item again when next opened, perhaps before a good copy.
                self.clear_found(slot, None, report).await
            }
        }
    }

    /// Notes an item. Of two the older is cleared, once the newer is seen to be whole: it may have been on its way when power was lost.
    async fn take_in(&self, slot: u64, header: &Header, report: &mut StoreReport) -> Result<(), StoreError> {
        let id = header.id;
        loop {
            let known = self.0.slots.borrow().get(id);
            let Some(known) = known else {
                self.0.slots.borrow_mut().insert(id, slot, header.epoch);
                return Ok(());
            };
            // Of the same epoch any is right, and the same one each time.
            let is_newer = (header.epoch, slot) > (known.epoch, known.slot);
            let (newer, older) = if is_newer { (slot, known.slot) } else { (known.slot, slot) };
            let is_whole = self.is_whole(newer, header).await?;
            let is_older_kept = !is_whole && self.is_whole(older, header).await?;
            if self.0.slots.borrow().get(id) != Some(known) {
                continue;
            }
            report.duplicates += 1;
            report.damaged += u64::from(!is_whole);
            if is_newer == is_older_kept {
                return self.clear_found(slot, Some(id), report).await;
            }
            self.0.slots.borrow_mut().insert(id, slot, header.epoch);
            return self.clear_found(known.slot, Some(id), report).await;
        }
    }

    async fn is_whole(&self, slot: u64, header: &Header) -> Result<bool, StoreError> {
        Ok(matches!(self.read_item(slot, *header).await?, Found::Item(_)))
    }

    /// Clears a slot. One bad place of the disk is no reason to do without the rest.
    async fn clear_found(
        &self,
        slot: u64,
        id: Option<ItemId>,
        report: &mut StoreReport,
    ) -> Result<(), StoreError> {
        match self.clear(Class::Serving, slot, id).await {
            Err(StoreError::Io(error)) => {
                unreadable(error)?;
                report.unreadable += 1;
                Ok(())
            }
            cleared => cleared,
        }
    }

    async fn look_alone(&self, class: Class, slot: u64) -> Result<Found, StoreError> {
        let mut scratch = self.0.headers[usize::from(class == Class::Scrub)].lock().await;
        let buf = match scratch.take() {
            Some(buf) => buf,
            // A read that was too late has it.
            None => self.0.pool.acquire().await?.narrow(..BLOCK_BYTES),
        };
        let (buf, found) = self.look(class, slot, buf, READ_TRIES).await?;
        *scratch = Some(buf);
        Ok(found)
    }

    /// Reads the header of a slot, with so many tries. An error says nothing of the slot, and may keep the memory.
    pub(super) async fn look(
        &self,
        class: Class,
        slot: u64,
        mut buf: SlabMut,
        mut tries: u32,
    ) -> Result<(SlabMut, Found), StoreError> {
        loop {
            let read = self.0.disk.read_own(class, &self.0.file, offset(slot), buf, 0..BLOCK_BYTES).await;
            tries -= 1;
            let refused = read.1.map_err(unreadable).err().transpose()?;
            buf = read.0.expect(BACK);
            let found = refused.unwrap_or_else(|| match Header::read_from(&buf) {
                Ok(Some(header)) => Found::Item(header),
                Ok(None) => Found::Nothing,
                Err(_) => Found::Damaged,
            });
            if tries == 0 || !matches!(found, Found::Unreadable) {
                return Ok((buf, found));
            }
            task::sleep(READ_PAUSE).await;
        }
    }

    /// Reads the whole item that a header names.
    pub(super) async fn read_item(&self, slot: u64, header: Header) -> Result<Found, StoreError> {
        let mut buf = self.0.pool.acquire().await?;
        for tries in (0..READ_TRIES).rev() {
            let file = &self.0.file;
            let read = self.0.disk.read_own(Class::Serving, file, offset(slot), buf, 0..SLOT_BYTES).await;
            let refused = read.1.map_err(unreadable).err().transpose()?;
            buf = read.0.expect(BACK);
            match refused {
                None => {
                    let item = check(header.id, buf.narrow(..SLOT_BYTES));
                    return Ok(item.map_or(Found::Damaged, |_| Found::Item(header)));
                }
                Some(refused) if tries == 0 => return Ok(refused),
                Some(_) => task::sleep(READ_PAUSE).await,
            }
        }
        Ok(Found::Unreadable)
    }
}

/// Whether a slot is what it was believed to be. Of one that cannot be read nothing is known.
pub(super) fn fits(believed: State, found: &Found) -> bool {
    match (believed, found) {
        (State::Free, Found::Nothing) => true,
        (State::Held(id), Found::Item(header)) => header.id == id,
        _ => false,
    }
}

const BACK: &str = "only a read that is too late keeps its memory";

/// A place that the disk refuses. While it does not answer at all, nothing is known of the place.
fn unreadable(error: IoError) -> Result<Found, StoreError> {
    if error.is_passing() { Err(error.into()) } else { Ok(Found::Unreadable) }
}
