//! Making the metadata record of a sector anew of the sector itself, where that is whole; where it is not, marking it for replotting.
//!
//! ```text
//!   contents map ─▶ s-bucket sizes                                        ┐
//!   history size as found in the bad record, those of the other sectors   ├─▶ record
//!      ─▶ the one whose proofs of space decode a record to its piece      ┘
//! ```
//! The history size is nowhere in a sector, but its proofs of space are made of it: of another one they are others, and nothing decodes.
//! Never: a record that is a guess. One piece has come out as it was put in, and the checksum over the whole sector is right.

use super::files::check_record;
use super::state::{Sector, State};
use super::{Farm, ReadCost, RecordFault, SectorError, StoredRecord};
use crate::disk::Class;
use crate::error::IoError;
use crate::parts::Parts;
use crate::threads::ThreadWorkers;
use consensus::CpuLevel;
use consensus::constants::SCALAR_BYTES;
use consensus::sector::{Bitfield, ContentsMap, RecordDecoder, RecordMetadata, SectorId, SectorMetadata};
use futures::channel::oneshot;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// History sizes tried for one sector: a table of proofs each, about a third of a second.
const MAX_CANDIDATES: usize = 32;
/// Encoded chunks of a record from which a wrong history size cannot go through: a wrong proof leaves a scalar with probability 0.45.
const LEAST_ENCODED: usize = 64;
/// Part of a slab for one read.
const PART_BYTES: usize = 512 * 1024;

/// A record as stored, to be decoded on another thread.
struct Sample {
    piece_offset: u16,
    chunks: Vec<[u8; SCALAR_BYTES]>,
    bitfield: Bitfield,
    metadata: RecordMetadata,
}

/// A plotted sector whose bytes were read and are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Which.
    pub sector: u16,
    /// Its history size.
    pub history_size: u64,
    /// The generation that it was wrong with.
    pub(super) generation: u32,
}

/// What became of a sector with something wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mended {
    /// Its bytes are whole: its record was made anew of them, and it is farmed.
    Rebuilt,
    /// They are not, or no history size that is known here is its own: it is marked for replotting.
    Marked,
    /// They are not, and its record is good: it is what it was until it is rebuilt of its pieces, or marked by [`Farm::mark_damaged`].
    Damaged(Damage),
}

impl Farm {
    /// Sectors whose record is wrong while nothing is known of their bytes, ascending, and what is wrong with each.
    pub fn doubtful(&self) -> Vec<(u16, RecordFault)> {
        let sectors = self.0.sectors.borrow();
        let doubtful = (0..).zip(&sectors[..]).filter_map(|(sector, slot)| match slot.state {
            State::Doubtful { fault, .. } => Some((sector, fault)),
            _ => None,
        });
        doubtful.collect()
    }

    /// Looks into a doubtful sector: its record is made anew, or becomes a mark. None when it is not doubtful. Errs where the disk does not
    /// give its bytes or takes no record; the sector stays doubtful then. The farm is one that may be written. Reads the whole sector, and takes
    /// a thread of its own for seconds, and 115 MiB; a second one waits for the first, whatever their farms.
    pub async fn heal(&self, class: Class, sector: u16) -> Result<Option<Mended>, SectorError> {
        let slot = self.slot(sector)?;
        let State::Doubtful { noted, .. } = slot.state else { return Ok(None) };
        self.mend(class, sector, noted, slot.generation).await.map(Some)
    }

    /// The same for a sector whose record was found wrong at this generation.
    pub(super) async fn mend(
        &self,
        class: Class,
        sector: u16,
        noted: u64,
        generation: u32,
    ) -> Result<Mended, SectorError> {
        match self.rebuilt_record(class, sector, Some(noted)).await? {
            Some(record) => {
                self.restore(&record, generation).await?;
                Ok(Mended::Rebuilt)
            }
            None => {
                self.mark_bad(class, sector, generation).await?;
                Ok(Mended::Marked)
            }
        }
    }

    /// The record of a sector whose own is bad or a mark. `noted` stands in the bad one as history size. None when the sector is not whole, or
    /// none of the history sizes known here is its own. Takes a thread of its own for seconds, and 115 MiB.
    pub(super) async fn rebuilt_record(
        &self,
        class: Class,
        sector: u16,
        noted: Option<u64>,
    ) -> Result<Option<SectorMetadata>, SectorError> {
        let candidates = self.candidates(sector, noted);
        let Some(map) = self.map_of_whole(class, sector).await?.filter(|_| !candidates.is_empty()) else {
            return Ok(None);
        };
        let s_bucket_sizes = map.s_bucket_sizes();
        let Some(sample) = self.sample(class, sector, &map, &s_bucket_sizes).await? else { return Ok(None) };
        let ids = candidates.into_iter().map(|size| (size, self.sector_id(sector, size))).collect();
        let history_size = elsewhere(move || first_fit(ids, &sample)).await;
        let record = history_size.map_err(|error| IoError::open(self.dir(), error))?.map(|history_size| {
            let pieces_in_sector = self.layout().pieces_in_sector();
            SectorMetadata { sector_index: sector, pieces_in_sector, s_bucket_sizes, history_size }
        });
        Ok(record.filter(|record| check_record(self.layout(), sector, record).is_ok()))
    }

    /// History sizes that the sector may have: what was noted, then those of the sectors beside it, nearest first, then what is noted in
    /// their wrong records.
    fn candidates(&self, sector: u16, noted: Option<u64>) -> Vec<u64> {
        let sectors = self.0.sectors.borrow();
        let mut others: Vec<_> = (0..).zip(&sectors[..]).filter_map(history_size).collect();
        others.sort_by_key(|(index, is_noted, _)| (*is_noted, sector.abs_diff(*index)));
        let all = noted.into_iter().chain(others.into_iter().map(|(.., history_size)| history_size));
        let mut candidates = Vec::new();
        for history_size in all.filter(|history_size| *history_size > 0) {
            if candidates.len() < MAX_CANDIDATES && !candidates.contains(&history_size) {
                candidates.push(history_size);
            }
        }
        candidates
    }

    /// The contents map of a sector whose checksum is right.
    async fn map_of_whole(&self, class: Class, sector: u16) -> Result<Option<ContentsMap>, SectorError> {
        let parts = Parts::new(&self.0.files.pool, PART_BYTES);
        let map = match self.contents_map(class, sector, &parts).await {
            Ok(map) => map,
            // Most marked sectors end here, before all of their bytes are read.
            Err(SectorError::ContentsMap { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (computed, stored) = self.checksums(class, sector, &parts, |_| ()).await?;
        Ok((computed == stored).then_some(map))
    }

    /// A record to try history sizes on.
    async fn sample(
        &self,
        class: Class,
        sector: u16,
        map: &ContentsMap,
        s_bucket_sizes: &[u16],
    ) -> Result<Option<Sample>, SectorError> {
        let is_enough = |bitfield: &Bitfield| bitfield.count() >= LEAST_ENCODED;
        let fitting = (0..).zip(map.records()).find(|(_, bitfield)| is_enough(bitfield));
        let Some((piece_offset, _)) = fitting else { return Ok(None) };
        let stored = self.stored_record(class, sector, piece_offset, (map, s_bucket_sizes), ReadCost::USUAL);
        let (StoredRecord { chunks, bitfield }, _) = stored.await?;
        let chunks = chunks.as_chunks().0.to_vec();
        let metadata = self.record_metadata(class, sector, piece_offset).await?;
        Ok(Some(Sample { piece_offset, chunks, bitfield, metadata }))
    }
}

/// A sector's history size, and whether that only stands in a wrong record.
fn history_size((sector, slot): (u16, &Sector)) -> Option<(u16, bool, u64)> {
    match slot.state {
        State::Plotted { history_size, .. } => Some((sector, false, history_size)),
        State::Doubtful { noted, .. } => Some((sector, true, noted)),
        _ => None,
    }
}

/// The first history size with which the record decodes to its piece.
fn first_fit(ids: Vec<(u64, SectorId)>, sample: &Sample) -> Option<u64> {
    let Sample { piece_offset, chunks, bitfield, metadata } = sample;
    let mut decoder = RecordDecoder::new(CpuLevel::current());
    let mut fits = |id: &SectorId| {
        decoder.read_piece(&id.evaluation_seed(*piece_offset), chunks, bitfield, metadata).is_ok()
    };
    ids.into_iter().find(|(_, id)| fits(id)).map(|(history_size, _)| history_size)
}

/// Held by the one that decodes: a table of proofs is large, and a host may have many farms.
static TURN: Mutex<()> = Mutex::new(());

/// Does what takes long on a thread of its own, in the background, so that the executor goes on. Errs where there is no thread, which says
/// nothing of a sector.
pub(super) async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let work = move || {
        ThreadWorkers::unbound(1).in_background().enter(0);
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody may wait for it any more.
        if !done.is_canceled() {
            let _ = done.send(work());
        }
    };
    let _thread = thread::Builder::new().name("rebuild".into()).spawn(work)?;
    result.await.map_err(|_| io::Error::other("the thread that decodes a record has ended"))
}
