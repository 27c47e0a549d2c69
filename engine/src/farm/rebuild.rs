//! Making the wrong bytes of a sector anew of its pieces, where most of them are right.
//!
//! ```text
//!   pieces ─▶ encoded once more ─▶ compared with what is on disk ─▶ what differs ─▶ its blocks ─▶ the records that lie in them: suspects
//!                                             └─▶ with that in its place, the sector has the checksum that stands at its end:
//!                                                 marked, written, read back, and counted again
//! ```
//! A sector is an array of units of 32 bytes, none of which lies across an edge of a block of the file: chunks, and parts of the contents
//! map and of the records' metadata. All of them follow from the pieces. Only the checksum at the end does not, so where that is damaged
//! nothing can be said.
//!
//! Nothing is written before the checksum says that all will be right: a piece that somebody has made up changes no byte. Until then the
//! sector is what it was, and farmed. While it is written it has a mark, as one that is plotted: a crash leaves that.
//!
//! Owns: what is known of a damaged sector's bytes. Never: where pieces come from, or which are fetched.

use super::heal::{Damage, elsewhere};
use super::{Farm, Layout, SectorError};
use crate::BLOCK_BYTES;
use crate::disk::Class;
use crate::error::IoError;
use crate::parts::Parts;
use crate::piece_layout::{POINTS_AT, RECORD_AT};
use crate::pool::Slab;
use consensus::CpuLevel;
use consensus::constants::{
    HASH_SIZE, POINT_SIZE, RECORD_CHUNKS, RECORD_METADATA_SIZE, RECORD_SIZE, S_BUCKET_BITFIELD_SIZE,
    contents_map_size,
};
use consensus::piece::PieceRef;
use consensus::pos::Seed;
use consensus::sector::{
    Bitfield, ContentsMap, RecordDecoder, RecordEncoder, RecordMetadata, SectorId, SectorMetadata,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Bytes of a unit: a chunk's.
const UNIT_BYTES: usize = 32;
/// Units that may be wrong, half a megabyte: one record that is another than the sector's differs in more.
const MOST_FIXES: usize = 16 * 1024;
/// Part of a slab for one read.
const PART_BYTES: usize = 512 * 1024;
/// Units of a record's metadata, and of its part of the contents map.
const METADATA_UNITS: u32 = (RECORD_METADATA_SIZE / UNIT_BYTES) as u32;
const BITFIELD_UNITS: u32 = (S_BUCKET_BITFIELD_SIZE / UNIT_BYTES) as u32;

type Unit = [u8; UNIT_BYTES];

/// A record as its sector should have it.
pub struct EncodedRecord {
    /// As [`RecordEncoder`] leaves them.
    pub(super) chunks: Vec<Unit>,
    pub(super) bitfield: Bitfield,
    pub(super) metadata: RecordMetadata,
}

impl EncodedRecord {
    /// Encodes the record of a piece, which lies in the slab as payloads of pieces do. None where it is no piece. Takes a thread of its own
    /// for a third of a second, and 119 MiB; a second one waits for the first. Errs where there is no thread.
    pub async fn of(piece: Slab, seed: Seed) -> std::io::Result<Option<Self>> {
        elsewhere(move || encode(&piece, &seed)).await
    }
}

fn encode(piece: &Slab, seed: &Seed) -> Option<EncodedRecord> {
    let points = piece.get(POINTS_AT..RECORD_AT)?.split_at_checked(POINT_SIZE)?;
    let record = piece.get(RECORD_AT..RECORD_AT + RECORD_SIZE)?;
    let piece = PieceRef::from_parts(record, points.0, points.1).ok()?;
    let mut chunks = piece.record.to_vec();
    let bitfield = RecordEncoder::new(CpuLevel::current()).encode(seed, &mut chunks).ok()?;
    Some(EncodedRecord { chunks, bitfield, metadata: RecordMetadata::of(&piece) })
}

/// What a look at a sector that is being rebuilt has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RebuildLook {
    /// All that is wrong with it is known: it may be written.
    Right,
    /// Something else is wrong; it may be of these records.
    Suspects(BTreeSet<u16>),
    /// More is wrong than is made anew, or a piece is not the sector's.
    TooMuch,
}

/// What is known of a damaged sector.
pub struct Rebuild {
    damage: Damage,
    layout: Layout,
    id: SectorId,
    /// As its metadata record has them.
    s_bucket_sizes: Vec<u16>,
    /// The right one, as far as it is known.
    bitfields: Vec<Bitfield>,
    /// Those that are encoded and were not compared yet.
    encoded: BTreeMap<u16, EncodedRecord>,
    /// Right units that are others on disk.
    fixes: BTreeMap<u32, Unit>,
    /// That stands at the end of the sector.
    checksum: [u8; HASH_SIZE],
}

impl Rebuild {
    /// Records whose part of the contents map is surely wrong: those with another number of chunks than proofs of space leave them. Without
    /// them it is not known where anything lies.
    pub fn suspects(&self) -> BTreeSet<u16> {
        let bitfields = (0..).zip(&self.bitfields);
        let few = bitfields.filter(|(_, bitfield)| bitfield.count() != RECORD_CHUNKS);
        few.map(|(record, _)| record).collect()
    }

    /// Whose chunk has this number in an s-bucket, as far as the contents map is known.
    pub fn record_at(&self, s_bucket: u16, chunk_offset: usize) -> Option<u16> {
        users(&self.bitfields, s_bucket).nth(chunk_offset)
    }

    /// What identifies the sector.
    pub fn id(&self) -> SectorId {
        self.id
    }

    /// Records of the sector.
    pub fn records(&self) -> u16 {
        self.layout.pieces_in_sector()
    }

    /// A record is known.
    pub fn add(&mut self, record: u16, encoded: EncodedRecord) {
        self.bitfields[usize::from(record)] = encoded.bitfield.clone();
        self.encoded.insert(record, encoded);
    }

    /// Bytes that are others on disk: whole units.
    pub fn wrong_bytes(&self) -> usize {
        UNIT_BYTES * self.fixes.len()
    }

    fn first_chunk(&self) -> u32 {
        (contents_map_size(self.records()) / UNIT_BYTES) as u32
    }

    fn first_metadata(&self) -> u32 {
        self.first_chunk() + u32::from(self.records()) * RECORD_CHUNKS as u32
    }

    /// The contents map, if it has the s-buckets that the metadata record tells.
    fn map(&self) -> Option<ContentsMap> {
        let map = ContentsMap::new(self.bitfields.clone());
        (map.s_bucket_sizes() == self.s_bucket_sizes).then_some(map)
    }

    /// Where a record's chunks lie, and then its metadata.
    fn units_of(&self, map: &ContentsMap, record: u16) -> impl Iterator<Item = u32> + use<> {
        let locations = map.chunk_locations(record, &self.s_bucket_sizes);
        let (first_chunk, first) =
            (self.first_chunk(), self.first_metadata() + u32::from(record) * METADATA_UNITS);
        let chunks = locations.unwrap_or_default().into_iter().map(move |location| first_chunk + location);
        chunks.chain(first..first + METADATA_UNITS)
    }

    /// All units that are known: those of the encoded records, and of the contents map. None where this is not the sector's.
    fn known(&self) -> Option<Vec<(u32, Unit)>> {
        let map = self.map()?;
        let mut known: Vec<_> = (0..).zip(map.encode().as_chunks().0.iter().copied()).collect();
        for (record, EncodedRecord { chunks, metadata, .. }) in &self.encoded {
            let metadata = metadata.to_bytes();
            let units = chunks.iter().chain(metadata.as_chunks().0).copied();
            known.extend(self.units_of(&map, *record).zip(units));
        }
        known.sort_unstable_by_key(|(unit, _)| *unit);
        Some(known)
    }

    /// Where these records lie: unit, and number in the row of all of them.
    fn wanted(&self, records: &[u16]) -> Option<Vec<(u32, usize)>> {
        let map = self.map()?;
        let units = records.iter().flat_map(|record| self.units_of(&map, *record));
        let mut wanted: Vec<_> = units.zip(0..).collect();
        wanted.sort_unstable();
        Some(wanted)
    }

    /// Records that lie in the blocks of the file that these units lie in.
    fn records_beside(&self, units: &[u32]) -> BTreeSet<u16> {
        let start = self.layout.sector_offset(self.damage.sector) / UNIT_BYTES as u64;
        let block_units = (BLOCK_BYTES / UNIT_BYTES) as u64;
        let end = (self.layout.sector_bytes() / UNIT_BYTES as u64) as u32;
        let blocks: BTreeSet<_> = units.iter().map(|unit| (start + u64::from(*unit)) / block_units).collect();
        let mut records = BTreeSet::new();
        for block in blocks {
            let first = (block * block_units).saturating_sub(start) as u32;
            let last = ((block + 1) * block_units - start).min(end.into()) as u32;
            self.add_records_in(first..last, &mut records);
        }
        records
    }

    fn add_records_in(&self, units: Range<u32>, records: &mut BTreeSet<u16>) {
        let (first_chunk, first_metadata) = (self.first_chunk(), self.first_metadata());
        let (mut start, chunks) = (first_chunk, first_chunk.max(units.start)..first_metadata.min(units.end));
        for (s_bucket, size) in (0..=u16::MAX).zip(&self.s_bucket_sizes) {
            let end = start + u32::from(*size);
            let (from, to) = (start.max(chunks.start), end.min(chunks.end));
            if from < to {
                let users = users(&self.bitfields, s_bucket);
                records.extend(users.skip((from - start) as usize).take((to - from) as usize));
            }
            start = end;
        }
        let bitfields = units.start..units.end.min(first_chunk);
        let metadata = units.start.max(first_metadata)..units.end.max(first_metadata);
        let of_map = bitfields.map(|unit| unit / BITFIELD_UNITS);
        let of_metadata = metadata.map(|unit| (unit - first_metadata) / METADATA_UNITS);
        let all = of_map.chain(of_metadata).filter(|record| *record < u32::from(self.records()));
        records.extend(all.map(|record| record as u16));
    }

    /// Ranges of units to be written.
    fn runs(&self) -> Vec<(u32, Vec<u8>)> {
        let mut runs: Vec<(u32, Vec<u8>)> = Vec::new();
        for (unit, bytes) in &self.fixes {
            match runs.last_mut() {
                Some((first, run)) if *first as usize + run.len() / UNIT_BYTES == *unit as usize => {
                    run.extend(bytes);
                }
                _ => runs.push((*unit, bytes.to_vec())),
            }
        }
        runs
    }
}

/// The records that use an s-bucket, in order.
fn users(bitfields: &[Bitfield], s_bucket: u16) -> impl Iterator<Item = u16> + '_ {
    let all = (0..).zip(bitfields);
    all.filter_map(move |(record, bitfield)| bitfield.usage(s_bucket).map(|_| record))
}

/// A sector as it was read once, with what is known in its place.
struct Pass {
    hasher: blake3::Hasher,
    /// The next unit.
    at: u32,
    /// Known units that are others on disk.
    differing: Vec<(u32, Unit)>,
    /// What was wanted.
    found: Vec<Unit>,
    checksum: Vec<u8>,
}

impl Pass {
    fn take(&mut self, part: &[u8], end: u32, rebuild: &Rebuild, asked: &mut Asked<'_>) {
        let mut corrected = part.to_vec();
        let units = corrected.as_chunks_mut::<UNIT_BYTES>().0;
        let (first, next) = (self.at, self.at + units.len() as u32);
        let place = |unit: u32| (unit - first) as usize;
        for (unit, fix) in rebuild.fixes.range(first..next) {
            units[place(*unit)] = *fix;
        }
        while let Some((unit, known)) = asked.known.split_off_first_if(|(unit, _)| *unit < next) {
            if units[place(*unit)] != *known && self.differing.len() <= MOST_FIXES {
                self.differing.push((*unit, *known));
            }
            units[place(*unit)] = *known;
        }
        while let Some((unit, number)) = asked.wanted.split_off_first_if(|(unit, _)| *unit < next) {
            self.found[*number] = units[place(*unit)];
        }
        let body = place(end.clamp(first, next)) * UNIT_BYTES;
        self.hasher.update(&corrected[..body]);
        self.checksum.extend_from_slice(&corrected[body..]);
        self.at = next;
    }
}

/// What is asked of a pass, ascending: units that are known, and those that are wanted.
struct Asked<'a> {
    known: &'a [(u32, Unit)],
    wanted: &'a [(u32, usize)],
}

/// Takes the first of a slice.
trait TakeFirst<T> {
    /// If it is such a one.
    fn split_off_first_if(&mut self, is_it: impl FnOnce(&T) -> bool) -> Option<&T>;
}

impl<T> TakeFirst<T> for &[T] {
    fn split_off_first_if(&mut self, is_it: impl FnOnce(&T) -> bool) -> Option<&T> {
        let (first, rest) = self.split_first()?;
        is_it(first).then(|| {
            *self = rest;
            first
        })
    }
}

impl Farm {
    /// Begins to find out what is wrong with a damaged sector, which stays as it is. Reads its contents map.
    pub async fn begin_rebuild(&self, class: Class, damage: Damage) -> Result<Rebuild, SectorError> {
        let Damage { sector, history_size, generation } = damage;
        self.check_same(sector, generation)?;
        let s_bucket_sizes = self.s_bucket_sizes(class, sector).await?;
        let (layout, parts) = (*self.layout(), Parts::new(&self.0.files.pool, PART_BYTES));
        let bytes = contents_map_size(layout.pieces_in_sector()) - HASH_SIZE;
        let map =
            self.0.files.plot(class).read_to_vec(layout.sector_offset(sector), bytes as u64, &parts).await?;
        self.check_same(sector, generation)?;
        let bitfield = |bytes: &[u8; S_BUCKET_BITFIELD_SIZE]| Bitfield::from_bytes(bytes).unwrap_or_default();
        Ok(Rebuild {
            damage,
            layout,
            id: self.sector_id(sector, history_size),
            s_bucket_sizes,
            bitfields: map.as_chunks().0.iter().map(bitfield).collect(),
            encoded: BTreeMap::new(),
            fixes: BTreeMap::new(),
            checksum: [0; HASH_SIZE],
        })
    }

    /// Compares a damaged sector with the records that were added since the last time. Reads all of it.
    pub async fn compare_rebuild(
        &self,
        class: Class,
        rebuild: Rebuild,
    ) -> Result<(Rebuild, RebuildLook), SectorError> {
        let (known, rebuild) = self.think(rebuild, Rebuild::known).await?;
        let Some(known) = known else { return Ok((rebuild, RebuildLook::TooMuch)) };
        let (pass, is_right) = self.pass(class, &rebuild, &known, &[]).await?;
        let mut rebuild = Rebuild { checksum: checksum_of(&pass), encoded: BTreeMap::new(), ..rebuild };
        let differing: Vec<_> = pass.differing.iter().map(|(unit, _)| *unit).collect();
        rebuild.fixes.extend(pass.differing);
        if rebuild.fixes.len() > MOST_FIXES {
            return Ok((rebuild, RebuildLook::TooMuch));
        }
        if is_right {
            return Ok((rebuild, RebuildLook::Right));
        }
        let beside = move |rebuild: &Rebuild| rebuild.records_beside(&differing);
        let (suspects, rebuild) = self.think(rebuild, beside).await?;
        Ok((rebuild, RebuildLook::Suspects(suspects)))
    }

    /// Looks which of these records of a damaged sector do not decode to their pieces. Reads all of it, and takes a thread of its own for half
    /// a second a record, and 115 MiB.
    pub async fn search_rebuild(
        &self,
        class: Class,
        rebuild: Rebuild,
        records: Vec<u16>,
    ) -> Result<(Rebuild, RebuildLook), SectorError> {
        let asked = records.clone();
        let (wanted, rebuild) = self.think(rebuild, move |it: &Rebuild| it.wanted(&asked)).await?;
        let Some(wanted) = wanted else { return Ok((rebuild, RebuildLook::TooMuch)) };
        let (pass, is_right) = self.pass(class, &rebuild, &[], &wanted).await?;
        let rebuild = Rebuild { checksum: checksum_of(&pass), ..rebuild };
        if is_right {
            return Ok((rebuild, RebuildLook::Right));
        }
        let damaged = move |rebuild: &Rebuild| rebuild.damaged(&records, &pass.found);
        let (damaged, rebuild) = self.think(rebuild, damaged).await?;
        Ok((rebuild, RebuildLook::Suspects(damaged)))
    }

    /// Writes what is known to be right, after a look that found it so: the sector is marked first, and counts again when all of it was read
    /// back and has its checksum. On an error it stays marked, or as it was where the mark could not be written.
    pub async fn finish_rebuild(&self, rebuild: &Rebuild) -> Result<(), SectorError> {
        let Damage { sector, history_size, generation } = rebuild.damage;
        self.check_same(sector, generation)?;
        if rebuild.fixes.is_empty() {
            return Ok(());
        }
        let writer = self.write_sector(sector).await?;
        for (unit, bytes) in rebuild.runs() {
            let offset = u64::from(unit) * UNIT_BYTES as u64;
            let phase = ((writer.file_offset() + offset) % BLOCK_BYTES as u64) as usize;
            let mut slab = self.0.files.pool.acquire().await?.narrow(phase..phase + bytes.len());
            slab.copy_from_slice(&bytes);
            writer.write(offset, &slab.freeze()).await?;
        }
        writer.verify_writes();
        let metadata = SectorMetadata {
            sector_index: sector,
            pieces_in_sector: rebuild.records(),
            s_bucket_sizes: rebuild.s_bucket_sizes.clone(),
            history_size,
        };
        writer.finish(&metadata, &rebuild.checksum).await
    }

    /// Marks a damaged sector for replotting, unless it was changed since.
    pub async fn mark_damaged(&self, class: Class, damage: Damage) -> Result<(), SectorError> {
        self.mark_bad(class, damage.sector, damage.generation).await
    }

    /// Reads a damaged sector with what is known in its place; whether its checksum is right then.
    async fn pass(
        &self,
        class: Class,
        rebuild: &Rebuild,
        known: &[(u32, Unit)],
        wanted: &[(u32, usize)],
    ) -> Result<(Pass, bool), SectorError> {
        let Damage { sector, generation, .. } = rebuild.damage;
        let (offset, bytes) = (self.layout().sector_offset(sector), self.layout().sector_bytes());
        let end = ((bytes as usize - HASH_SIZE) / UNIT_BYTES) as u32;
        let mut pass = Pass {
            hasher: blake3::Hasher::new(),
            at: 0,
            differing: Vec::new(),
            found: vec![[0; UNIT_BYTES]; wanted.len()],
            checksum: Vec::with_capacity(HASH_SIZE),
        };
        let mut asked = Asked { known, wanted };
        let parts = Parts::new(&self.0.files.pool, PART_BYTES);
        let take = |part: &[u8]| pass.take(part, end, rebuild, &mut asked);
        self.0.files.plot(class).read_in_order(offset, bytes, &parts, take).await?;
        self.check_same(sector, generation)?;
        let is_right = pass.hasher.finalize().as_bytes()[..] == pass.checksum;
        Ok((pass, is_right))
    }

    /// What takes long to be thought of, on a thread of its own.
    async fn think<T: Send + 'static>(
        &self,
        rebuild: Rebuild,
        think: impl FnOnce(&Rebuild) -> T + Send + 'static,
    ) -> Result<(T, Rebuild), SectorError> {
        let thought = elsewhere(move || {
            let thought = think(&rebuild);
            (thought, rebuild)
        });
        Ok(thought.await.map_err(|error| IoError::open(self.dir(), error))?)
    }
}

fn checksum_of(pass: &Pass) -> [u8; HASH_SIZE] {
    pass.checksum[..].try_into().expect("a sector ends with its checksum")
}

impl Rebuild {
    /// Which of these records do not decode to their pieces; `units` are theirs, one record after another.
    fn damaged(&self, records: &[u16], units: &[Unit]) -> BTreeSet<u16> {
        let mut decoder = RecordDecoder::new(CpuLevel::current());
        let each = units.chunks_exact(RECORD_CHUNKS + METADATA_UNITS as usize);
        let mut is_damaged = |(record, units): &(&u16, &[Unit])| {
            let (chunks, metadata) = units.split_at(RECORD_CHUNKS);
            let metadata = metadata.as_flattened().as_array().expect("as many units as metadata has");
            let metadata = RecordMetadata::from_bytes(metadata);
            let bitfield = &self.bitfields[usize::from(**record)];
            let seed = self.id.evaluation_seed(**record);
            decoder.read_piece(&seed, chunks, bitfield, &metadata).is_err()
        };
        records.iter().zip(each).filter(|record| is_damaged(record)).map(|(record, _)| *record).collect()
    }
}
