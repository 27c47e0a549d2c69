//! Replacing a sector: bytes by ranges, in any order, then the check of the whole, then its record (PROTOCOL 7's order).
//!
//! ```text
//!   write ─▶ disk ─▶ SectorHash          finish ─▶ what was not hashed: read back ─▶ checksum ─▶ contents map, record, count
//! ```
//! Each byte is hashed once, from the memory that it was written from. Read back are ranges that an earlier run wrote, the contents map,
//! and, where [`SectorWriter::verify_writes`] asks for it, all.

use super::files::check_record;
use super::inspect::countable;
use super::sector_hash::{Checksums, SectorHash};
use super::sizes::first_difference;
use super::state::{Sector, State};
use super::{Farm, RecordFault, SectorError};
use crate::disk::Class;
use crate::error::{Action, IoError};
use crate::parts::Parts;
use crate::pool::Slab;
use crate::task;
use consensus::constants::HASH_SIZE;
use consensus::sector::SectorMetadata;
use futures::channel::oneshot;
use std::cell::RefCell;

/// Part of a slab for one read of the check.
const CHECK_PART_BYTES: usize = 512 * 1024;
const CLASS: Class = Class::SectorWrite;

impl Farm {
    /// Begins to replace a sector, or to go on with it. What is there now is marked for replotting, durably, before the
    /// first byte changes. One of which nothing is known is not written over. A sector has one writer at a time; dropping it ends
    /// the attempt and leaves the sector marked.
    pub async fn write_sector(&self, sector: u16) -> Result<SectorWriter, SectorError> {
        match self.slot(sector)? {
            Sector { being_written: true, .. } => return Err(SectorError::BeingWritten { sector }),
            Sector { state: State::Unreadable, .. } => return Err(SectorError::Unreadable { sector }),
            _ => {}
        }
        self.change(sector, |slot| slot.being_written = true);
        let hash = RefCell::new(Some(SectorHash::new(self.layout().sector_bytes())));
        let failed_syncs = self.0.failed_syncs.get();
        let writer = SectorWriter { farm: self.clone(), sector, hash, failed_syncs };
        // A sector without a valid record may have one on disk all the same, left by a smaller count.
        if !self.slot(sector)?.is_marked {
            self.mark_for_replotting(CLASS, sector).await?;
        }
        // A note that failed is told to nobody, and may name bytes that change from now on.
        self.0.progress.settle().await?;
        Ok(writer)
    }

    /// Marks a sector for replotting, durably. Its bytes stay, but nothing reads them any more.
    pub async fn mark_for_replotting(&self, class: Class, sector: u16) -> Result<(), SectorError> {
        self.slot(sector)?;
        let _commit = self.0.commit.lock().await;
        self.write_mark(class, sector).await
    }

    /// Marks a sector that was found bad at this generation, unless it was changed since.
    pub(super) async fn mark_bad(
        &self,
        class: Class,
        sector: u16,
        generation: u32,
    ) -> Result<(), SectorError> {
        let _commit = self.0.commit.lock().await;
        self.check_same(sector, generation)?;
        self.write_mark(class, sector).await
    }

    /// Makes a sector that was found whole at this generation count by this record, unless it was changed since.
    pub(super) async fn restore(&self, record: &SectorMetadata, generation: u32) -> Result<(), SectorError> {
        self.sync_plot().await?;
        let _commit = self.0.commit.lock().await;
        self.check_same(record.sector_index, generation)?;
        self.write_commit(record).await
    }

    /// Errs if anything of the sector has changed since it had this generation.
    pub(super) fn check_same(&self, sector: u16, generation: u32) -> Result<(), SectorError> {
        let is_same = self.slot(sector)?.generation == generation;
        if is_same { Ok(()) } else { Err(SectorError::BeingWritten { sector }) }
    }

    /// Under the lock of commits.
    async fn write_mark(&self, class: Class, sector: u16) -> Result<(), SectorError> {
        let before = self.slot(sector)?.state;
        self.change(sector, |slot| {
            if !matches!(slot.state, State::NotPlotted) {
                slot.state = State::Expired;
            }
        });
        let files = &self.0.files;
        let mut marked = files.write_mark(class, sector).await;
        if marked.is_ok() {
            marked = files.sync_metadata(class).await;
        }
        self.change(sector, |slot| match marked {
            Ok(()) => slot.is_marked = true,
            // Its bytes are what they were, so it is farmed on, whatever has become of its record.
            Err(_) => slot.state = before,
        });
        marked
    }

    pub(super) fn slot(&self, sector: u16) -> Result<Sector, SectorError> {
        let slot = self.0.sectors.borrow().get(usize::from(sector)).cloned();
        slot.ok_or(SectorError::NoSuchSector { sector, sectors: self.layout().sectors() })
    }

    pub(super) fn change(&self, sector: u16, change: impl FnOnce(&mut Sector)) {
        let slot = &mut self.0.sectors.borrow_mut()[usize::from(sector)];
        slot.generation += 1;
        change(slot);
    }

    /// Makes a sector count whose bytes are durable. Where nothing is known of one between the count and it, the count stays: then it is
    /// found by its record when the farm is opened.
    async fn commit(&self, metadata: &SectorMetadata) -> Result<(), SectorError> {
        let _commit = self.0.commit.lock().await;
        self.write_commit(metadata).await
    }

    /// Under the lock of commits.
    async fn write_commit(&self, metadata: &SectorMetadata) -> Result<(), SectorError> {
        let (files, sector) = (&self.0.files, metadata.sector_index);
        let (count, left_out) = self.countable(Some(sector));
        self.mark_left_out(CLASS, &left_out).await?;
        self.change(sector, |slot| slot.is_marked = false);
        files.write_record(CLASS, metadata).await?;
        files.sync_metadata(CLASS).await?;
        self.count_to(CLASS, count, &left_out).await?;
        self.change(sector, |slot| slot.state = files.state_of(metadata));
        Ok(())
    }

    /// Counts what is there and not counted, as far as something is known.
    pub(super) async fn count_further(&self, class: Class) -> Result<(), SectorError> {
        let _commit = self.0.commit.lock().await;
        let (count, left_out) = self.countable(None);
        if !left_out.is_empty() {
            self.mark_left_out(class, &left_out).await?;
            self.0.files.sync_metadata(class).await?;
        }
        self.count_to(class, count, &left_out).await
    }

    fn countable(&self, finished: Option<u16>) -> (u16, Vec<u16>) {
        countable(&self.0.sectors.borrow(), self.0.count.get(), finished)
    }

    /// The count names all sectors below it, so those left out get a record, too. Not durable before a sync.
    async fn mark_left_out(&self, class: Class, left_out: &[u16]) -> Result<(), SectorError> {
        for sector in left_out {
            self.0.files.write_mark(class, *sector).await?;
        }
        Ok(())
    }

    /// Raises the count, when all records below it are durable.
    async fn count_to(&self, class: Class, count: u16, left_out: &[u16]) -> Result<(), SectorError> {
        if count > self.0.count.get() {
            self.0.files.write_count(class, count).await?;
            self.0.files.sync_metadata(class).await?;
            self.0.count.set(count);
            left_out.iter().for_each(|sector| self.change(*sector, |slot| slot.state = State::Expired));
        }
        Ok(())
    }
}

impl Farm {
    /// Makes the bytes of all sectors durable, one such call after another and each to its end, so that none that failed is missed
    /// by those whose bytes it covered.
    async fn sync_plot(&self) -> Result<(), IoError> {
        let (farm, (done, result)) = (self.clone(), oneshot::channel());
        task::spawn_local(async move {
            let _syncing = farm.0.syncing.lock().await;
            let synced = farm.0.files.plot.sync(CLASS).await;
            farm.0.failed_syncs.update(|failed| failed + u64::from(synced.is_err()));
            // Nobody may listen any more.
            let _ = done.send(synced);
        })
        .detach();
        let path = self.0.files.plot_file().path();
        result.await.unwrap_or_else(|_| Err(IoError::Closed { action: Action::Sync, path: path.to_owned() }))
    }
}

/// The writer of one sector.
pub struct SectorWriter {
    farm: Farm,
    sector: u16,
    /// Of what was written; none when all is to be read back.
    hash: RefCell<Option<SectorHash>>,
    /// Those that the farm had seen when this began.
    failed_syncs: u64,
}

impl SectorWriter {
    /// The sector.
    pub fn sector(&self) -> u16 {
        self.sector
    }

    /// Where the sector begins in `plot.bin`: ranges are best cut at this file's blocks.
    pub fn file_offset(&self) -> u64 {
        self.farm.layout().sector_offset(self.sector)
    }

    /// Writes the bytes at `offset` of the sector. The memory must have the file's phase (address ≡ file offset modulo 4096).
    /// Ranges may come in any order and at once, as long as they do not overlap. Not durable before
    /// [`SectorWriter::save_progress`] or [`SectorWriter::finish`].
    pub async fn write(&self, offset: u64, data: &Slab) -> Result<(), SectorError> {
        let (bytes, sector_bytes) = (data.len() as u64, self.farm.layout().sector_bytes());
        if offset.checked_add(bytes).is_none_or(|end| end > sector_bytes) {
            return Err(SectorError::Range { offset, bytes, sector_bytes });
        }
        let written = self.farm.0.files.plot.write(CLASS, self.file_offset() + offset, data).await;
        let mut hash = self.hash.borrow_mut();
        // Only what the disk has taken, and only once: else nothing is known of what is there.
        let is_known = written.is_ok() && hash.as_mut().is_some_and(|hash| hash.add(offset, data).is_ok());
        if !is_known {
            *hash = None;
        }
        Ok(written?)
    }

    /// Has [`SectorWriter::finish`] read back every byte, whatever was hashed as it was written.
    pub fn verify_writes(&self) {
        self.hash.take();
    }

    /// BLAKE3 of a range as the disk has it.
    pub async fn range_hash(&self, offset: u64, bytes: u64) -> Result<[u8; HASH_SIZE], SectorError> {
        let sector_bytes = self.farm.layout().sector_bytes();
        if offset.checked_add(bytes).is_none_or(|end| end > sector_bytes) {
            return Err(SectorError::Range { offset, bytes, sector_bytes });
        }
        let parts = Parts::new(&self.farm.0.files.pool, CHECK_PART_BYTES);
        let (plot, mut hasher) = (self.farm.0.files.plot(CLASS), blake3::Hasher::new());
        let add = |part: &[u8]| {
            hasher.update(part);
        };
        plot.read_in_order(self.file_offset() + offset, bytes, &parts, add).await?;
        Ok(hasher.finalize().into())
    }

    /// Keeps what the transfer wants to know after a crash (which ranges are here), at most [`super::MAX_PROGRESS_BYTES`]. All
    /// writes that are done are durable first, so what it says is never more than what is there. After a crash it is this or
    /// what was saved before, never half of one. It is the farm's only one: another sector's is forgotten.
    pub async fn save_progress(&self, progress: &[u8]) -> Result<(), SectorError> {
        self.sync_bytes().await?;
        self.farm.0.progress.save(self.sector, progress).await
    }

    /// What was last saved for this sector, if anything.
    pub fn saved_progress(&self) -> Option<Vec<u8>> {
        self.farm.0.progress.saved(self.sector)
    }

    /// Forgets what was saved, durably: before the ranges of another sector content are written.
    pub async fn discard_progress(&self) -> Result<(), SectorError> {
        let sector = self.sector;
        self.farm.0.progress.forget(move |noted| noted == sector).await
    }

    /// Makes durable what was written. What was written before that failed once may be lost although a later one does not fail:
    /// only writing it again is sure.
    async fn sync_bytes(&self) -> Result<(), SectorError> {
        self.farm.sync_plot().await?;
        if self.farm.0.failed_syncs.get() == self.failed_syncs {
            return Ok(());
        }
        Err(SectorError::Unsure { sector: self.sector })
    }

    /// Makes the sector count, when all its bytes are written: compares the checksum (the sector's last 32 bytes, PROTOCOL 5.3) with
    /// that of what was written, and the metadata with the contents map on disk, and makes bytes, record and count durable, in this
    /// order. Bytes that are not right discard the saved progress.
    pub async fn finish(
        self,
        metadata: &SectorMetadata,
        checksum: &[u8; HASH_SIZE],
    ) -> Result<(), SectorError> {
        let (farm, sector) = (&self.farm, self.sector);
        check_record(farm.layout(), sector, metadata)
            .map_err(|source| SectorError::Metadata { sector, source })?;
        let parts = Parts::new(&farm.0.files.pool, CHECK_PART_BYTES);
        let Checksums { computed, stored } = self.checksums(&parts).await?;
        if computed != stored || stored != *checksum {
            self.discard_progress().await?;
            return Err(SectorError::Checksum { sector });
        }
        let map = farm.contents_map(CLASS, sector, &parts).await;
        drop(parts);
        if matches!(map, Err(SectorError::ContentsMap { .. })) {
            self.discard_progress().await?;
        }
        let sizes = map?.s_bucket_sizes();
        // Whoever made the sector made both: what is read by one of them must be where the other says.
        if let Some(s_bucket) = first_difference(&sizes, &metadata.s_bucket_sizes) {
            self.discard_progress().await?;
            return Err(SectorError::Metadata { sector, source: RecordFault::SBucketSize(s_bucket) });
        }
        self.sync_bytes().await?;
        farm.commit(metadata).await?;
        if let Err(error) = self.discard_progress().await {
            // It counts. The note stays true until the sector is written anew, and that takes it back first.
            tracing::warn!("{error}; sector {sector} is whole all the same");
        }
        Ok(())
    }

    /// Of the bytes that were written, and of those on disk for which that is not known.
    async fn checksums(&self, parts: &Parts) -> Result<Checksums, SectorError> {
        let sector_bytes = self.farm.layout().sector_bytes();
        let mut hash = self.hash.take().unwrap_or_else(|| SectorHash::new(sector_bytes));
        let plot = self.farm.0.files.plot(CLASS);
        for gap in hash.gaps() {
            let (mut at, bytes) = (gap.start, gap.end - gap.start);
            let add = |part: &[u8]| {
                hash.add(at, part).expect("a gap is what has not come");
                at += part.len() as u64;
            };
            plot.read_in_order(self.file_offset() + gap.start, bytes, parts, add).await?;
        }
        Ok(hash.finish().expect("no gap is left"))
    }
}

impl Drop for SectorWriter {
    fn drop(&mut self) {
        self.farm.change(self.sector, |slot| slot.being_written = false);
    }
}

impl Farm {
    /// The checksum that a sector's bytes have, and the one that stands at their end. `take` sees all bytes, in order.
    pub(super) async fn checksums(
        &self,
        class: Class,
        sector: u16,
        parts: &Parts,
        mut take: impl FnMut(&[u8]),
    ) -> Result<([u8; HASH_SIZE], [u8; HASH_SIZE]), SectorError> {
        let (offset, bytes) = (self.layout().sector_offset(sector), self.layout().sector_bytes());
        let mut left = bytes as usize - HASH_SIZE;
        let (mut hasher, mut stored) = (blake3::Hasher::new(), Vec::with_capacity(HASH_SIZE));
        let plot = self.0.files.plot(class);
        plot.read_in_order(offset, bytes, parts, |part| {
            take(part);
            let (body, end) = part.split_at(left.min(part.len()));
            left -= body.len();
            hasher.update(body);
            stored.extend_from_slice(end);
        })
        .await?;
        let stored = stored.try_into().expect("a sector ends with its checksum");
        Ok((hasher.finalize().into(), stored))
    }
}
