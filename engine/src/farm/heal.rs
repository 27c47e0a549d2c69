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
use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// History sizes tried for a sector with a wrong record, and for one that is marked anyway: a table of proofs each, about a third of a second.
const MOST_CANDIDATES: usize = 4096;
const FEW_CANDIDATES: usize = 32;
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
    /// They are not, or are decoded by no history size up to the newest of the farm's: it is marked for replotting.
    Marked,
    /// They are, and nothing is known here of its history size: it stays as it is, and is not farmed.
    Left,
    /// They are not, and its record is good: it is what it was until it is rebuilt of its pieces, or marked by [`Farm::mark_damaged`].
    Damaged(Damage),
}

/// What can be made of a sector without a good record.
pub(super) enum Anew {
    /// Its record.
    Record(SectorMetadata),
    /// Its bytes are wrong, or no history size decodes them.
    Damaged,
    /// They are right, and there is no history size, or too many of them, to try.
    Unknown,
}

impl Farm {
    /// Sectors whose record is wrong while nothing is known of their bytes, ascending, and what is wrong with each. Those that [`Farm::heal`]
    /// has left are not among them any more.
    pub fn doubtful(&self) -> Vec<(u16, RecordFault)> {
        let sectors = self.0.sectors.borrow();
        let doubtful = (0..).zip(&sectors[..]).filter_map(|(sector, slot)| match slot.state {
            State::Doubtful { fault, .. } => Some((sector, fault, slot.generation)),
            _ => None,
        });
        let left = self.0.left.borrow();
        let to_heal = doubtful.filter(|(sector, _, generation)| left.get(sector) != Some(generation));
        to_heal.map(|(sector, fault, _)| (sector, fault)).collect()
    }

    /// Looks into a doubtful sector: its record is made anew, or becomes a mark. None when it is not doubtful. Errs where the disk does not
    /// give its bytes or takes no record; the sector stays doubtful then. The farm is one that may be written. Reads the whole sector, and takes
    /// a thread of its own for seconds, and 115 MiB; a second one waits for the first, whatever their farms.
    pub async fn heal(&self, class: Class, sector: u16) -> Result<Option<Mended>, SectorError> {
        let slot = self.slot(sector)?;
        let State::Doubtful { noted, .. } = slot.state else { return Ok(None) };
        let mended = self.mend(class, sector, noted, slot.generation, false).await?;
        if mended == Mended::Left {
            self.0.left.borrow_mut().insert(sector, slot.generation);
        }
        Ok(Some(mended))
    }

    /// The same for a sector whose record was found wrong at this generation. `gives_up`: one of which nothing is known is marked, whole or not.
    pub(super) async fn mend(
        &self,
        class: Class,
        sector: u16,
        noted: u64,
        generation: u32,
        gives_up: bool,
    ) -> Result<Mended, SectorError> {
        match self.rebuilt_record(class, sector, Some(noted)).await? {
            Anew::Record(record) => {
                self.restore(&record, generation).await?;
                Ok(Mended::Rebuilt)
            }
            Anew::Unknown if !gives_up => Ok(Mended::Left),
            Anew::Damaged | Anew::Unknown => {
                self.mark_bad(class, sector, generation).await?;
                Ok(Mended::Marked)
            }
        }
    }

    /// The record of a sector whose own is bad, in which `noted` stands as history size, or a mark. Takes a thread of its own for seconds, and
    /// 115 MiB; for many minutes where the history size is none of those beside it, but an older one.
    pub(super) async fn rebuilt_record(
        &self,
        class: Class,
        sector: u16,
        noted: Option<u64>,
    ) -> Result<Anew, SectorError> {
        let candidates = self.candidates(sector, noted);
        let is_open = candidates.is_empty() || candidates.len() == MOST_CANDIDATES;
        let Some(map) = self.map_of_whole(class, sector).await? else { return Ok(Anew::Damaged) };
        let s_bucket_sizes = map.s_bucket_sizes();
        let Some(sample) = self.sample(class, sector, &map, &s_bucket_sizes).await? else {
            return Ok(Anew::Damaged);
        };
        let ids = candidates.into_iter().map(|size| (size, self.sector_id(sector, size))).collect();
        let history_size = elsewhere(move || first_fit(ids, &sample)).await;
        let record = history_size.map_err(|error| IoError::open(self.dir(), error))?.map(|history_size| {
            let pieces_in_sector = self.layout().pieces_in_sector();
            SectorMetadata { sector_index: sector, pieces_in_sector, s_bucket_sizes, history_size }
        });
        let record = record.filter(|record| check_record(self.layout(), sector, record).is_ok());
        Ok(match record {
            Some(record) => Anew::Record(record),
            None if is_open => Anew::Unknown,
            None => Anew::Damaged,
        })
    }

    /// History sizes that the sector may have: what was noted, then those of the sectors beside it, nearest first, then what is noted in
    /// their wrong records; and for a wrong record all others up to the newest of the farm's, the newest first.
    fn candidates(&self, sector: u16, noted: Option<u64>) -> Vec<u64> {
        let most = if noted.is_some() { MOST_CANDIDATES } else { FEW_CANDIDATES };
        let sectors = self.0.sectors.borrow();
        let mut others: Vec<_> = (0..).zip(&sectors[..]).filter_map(history_size).collect();
        others.sort_by_key(|(index, is_noted, _)| (*is_noted, sector.abs_diff(*index)));
        let newest =
            others.iter().filter(|(_, is_noted, _)| !is_noted).map(|(.., history_size)| *history_size).max();
        let all = noted.into_iter().chain(others.into_iter().map(|(.., history_size)| history_size));
        let all = all.filter(|history_size| *history_size > 0).chain((1..=newest.unwrap_or(0)).rev());
        let mut seen = HashSet::new();
        all.filter(|history_size| seen.insert(*history_size)).take(most).collect()
    }

    /// The contents map of a sector whose checksum is right. What is wrong is read a second time: a cable or the memory may have erred.
    async fn map_of_whole(&self, class: Class, sector: u16) -> Result<Option<ContentsMap>, SectorError> {
        match self.map_of_whole_once(class, sector).await? {
            None => self.map_of_whole_once(class, sector).await,
            map => Ok(map),
        }
    }

    async fn map_of_whole_once(&self, class: Class, sector: u16) -> Result<Option<ContentsMap>, SectorError> {
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
