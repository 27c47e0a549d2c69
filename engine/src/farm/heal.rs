//! Making the metadata record of a sector anew of the sector itself, where that is whole.
//!
//! ```text
//!   contents map ─▶ s-bucket sizes                                        ┐
//!   history size as found in the bad record, those of the other sectors   ├─▶ record
//!      ─▶ the one whose proofs of space decode a record to its piece      ┘
//! ```
//! The history size is nowhere in a sector, but its proofs of space are made of it: of another one they are others, and nothing decodes.
//! Never: a record that is a guess. One piece has come out as it was put in, and the checksum over the whole sector is right.

use super::files::check_record;
use super::{Farm, ReadCost, SectorError, SectorStatus, StoredRecord};
use crate::disk::Class;
use crate::parts::Parts;
use consensus::CpuLevel;
use consensus::constants::SCALAR_BYTES;
use consensus::sector::{Bitfield, ContentsMap, RecordDecoder, RecordMetadata, SectorId, SectorMetadata};
use futures::channel::oneshot;
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

impl Farm {
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
        let record = elsewhere(move || first_fit(ids, &sample)).await.map(|history_size| SectorMetadata {
            sector_index: sector,
            pieces_in_sector: self.layout().pieces_in_sector(),
            s_bucket_sizes,
            history_size,
        });
        Ok(record.filter(|record| check_record(self.layout(), sector, record).is_ok()))
    }

    /// Writes a rebuilt record: the sector counts from now on.
    pub(super) async fn restore(&self, record: &SectorMetadata) -> Result<(), SectorError> {
        self.0.files.plot.sync(Class::SectorWrite).await?;
        self.commit(record).await
    }

    /// History sizes that the sector may have: what was noted, then those of the sectors beside it, nearest first.
    fn candidates(&self, sector: u16, noted: Option<u64>) -> Vec<u64> {
        let mut others: Vec<_> = (0..).zip(self.statuses()).filter_map(history_size).collect();
        others.sort_by_key(|(index, _)| index.abs_diff(sector));
        let all = noted.into_iter().chain(others.into_iter().map(|(_, history_size)| history_size));
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

fn history_size((sector, status): (u16, SectorStatus)) -> Option<(u16, u64)> {
    match status {
        SectorStatus::Plotted { history_size } => Some((sector, history_size)),
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

/// Does what takes long on a thread of its own, so that the executor goes on; none where there is no thread.
async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    let work = move || drop(done.send(work()));
    let _thread = thread::Builder::new().name("rebuild".into()).spawn(work).ok()?;
    result.await.ok().flatten()
}
