//! Replacing a sector: bytes by ranges, in any order, then the check of the whole, then its record (PROTOCOL 7's order).

use super::files::{check_record, state_of};
use super::map_bytes::MapBytes;
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

/// Part of a slab for one read of the check.
const CHECK_PART_BYTES: usize = 512 * 1024;
const CLASS: Class = Class::SectorWrite;

impl Farm {
    /// Begins to replace a sector, or to go on with it. What is there now is marked for replotting, durably, before the
    /// first byte changes. A sector has one writer at a time; dropping it ends the attempt and leaves the sector marked.
    pub async fn write_sector(&self, sector: u16) -> Result<SectorWriter, SectorError> {
        if self.slot(sector)?.being_written {
            return Err(SectorError::BeingWritten { sector });
        }
        self.change(sector, |slot| slot.being_written = true);
        let writer = SectorWriter { farm: self.clone(), sector, failed_syncs: self.0.failed_syncs.get() };
        // A sector without a valid record may have one on disk all the same, left by a smaller count.
        if !self.slot(sector)?.is_marked {
            self.mark_for_replotting(CLASS, sector).await?;
        }
        Ok(writer)
    }

    /// Marks a sector for replotting, durably. Its bytes stay, but nothing reads them any more.
    pub async fn mark_for_replotting(&self, class: Class, sector: u16) -> Result<(), SectorError> {
        self.slot(sector)?;
        let _commit = self.0.commit.lock().await;
        self.change(sector, |slot| {
            if matches!(slot.state, State::Plotted { .. }) {
                slot.state = State::Expired;
            }
        });
        self.0.files.write_mark(class, sector).await?;
        self.0.files.sync_metadata(class).await?;
        self.change(sector, |slot| slot.is_marked = true);
        Ok(())
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

    /// Makes a sector count whose bytes are durable.
    async fn commit(&self, metadata: &SectorMetadata) -> Result<(), SectorError> {
        let files = &self.0.files;
        let _commit = self.0.commit.lock().await;
        let (sector, count) = (metadata.sector_index, self.0.count.get());
        // The count names all sectors below it, so those left out get a record, too.
        for left_out in count..sector {
            files.write_mark(CLASS, left_out).await?;
        }
        self.change(sector, |slot| slot.is_marked = false);
        files.write_record(CLASS, metadata).await?;
        files.sync_metadata(CLASS).await?;
        if sector >= count {
            files.write_count(CLASS, sector + 1).await?;
            files.sync_metadata(CLASS).await?;
            self.0.count.set(sector + 1);
            let mut sectors = self.0.sectors.borrow_mut();
            let left_out = &mut sectors[usize::from(count)..usize::from(sector)];
            left_out.iter_mut().for_each(|slot| slot.state = State::Expired);
        }
        self.change(sector, |slot| slot.state = state_of(metadata));
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
        Ok(self.farm.0.files.plot.write(CLASS, self.file_offset() + offset, data).await?)
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

    /// Makes the sector count, when all its bytes are written: reads them back, compares the checksum (the sector's last 32
    /// bytes, PROTOCOL 5.3) and the metadata with the contents map, and makes bytes, record and count durable, in this order. Bytes
    /// that are not right discard the saved progress.
    pub async fn finish(
        self,
        metadata: &SectorMetadata,
        checksum: &[u8; HASH_SIZE],
    ) -> Result<(), SectorError> {
        let (farm, sector) = (&self.farm, self.sector);
        check_record(farm.layout(), sector, metadata)
            .map_err(|source| SectorError::Metadata { sector, source })?;
        let parts = Parts::new(&farm.0.files.pool, CHECK_PART_BYTES);
        let pieces = farm.layout().pieces_in_sector();
        let mut map = MapBytes::new(pieces);
        let (computed, stored) = farm.checksums(CLASS, sector, &parts, |part| map.take(part)).await?;
        drop(parts);
        if computed != stored || stored != *checksum {
            self.discard_progress().await?;
            return Err(SectorError::Checksum { sector });
        }
        let sizes = match map.decode(pieces) {
            Ok(map) => map.s_bucket_sizes(),
            Err(source) => {
                self.discard_progress().await?;
                return Err(SectorError::ContentsMap { sector, source });
            }
        };
        // Whoever made the sector made both: what is read by one of them must be where the other says.
        if let Some(s_bucket) = (0..=u16::MAX).find(|s_bucket| differs(&sizes, metadata, *s_bucket)) {
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
}

/// Whether metadata and contents map give an s-bucket different sizes.
fn differs(of_map: &[u16], metadata: &SectorMetadata, s_bucket: u16) -> bool {
    of_map[usize::from(s_bucket)] != metadata.s_bucket_sizes[usize::from(s_bucket)]
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
