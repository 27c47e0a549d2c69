//! Finding out, without changing anything, what the files of a farm hold.

use super::files::{Files, METADATA_VERSION, RECORD_PART_BYTES, WrongRecord, is_expired};
use super::state::{Sector, State};
use super::{FarmError, SectorError, SectorFault, Unreadable};
use crate::disk::{Class, touched_blocks};
use crate::error::IoError;
use crate::parts::Parts;
use consensus::constants::SECTOR_METADATA_SIZE;
use consensus::sector::SectorMetadata;
use futures::{StreamExt, stream};

/// Records read at a time.
const RECORDS_AHEAD: usize = 8;
/// Sectors that are not counted looked at at a time: of one that is there the contents map is read, 8 MiB at most.
const UNCOUNTED_AHEAD: usize = 2;

/// What was found.
pub(super) struct Inspection {
    /// What the header says.
    pub header_count: u16,
    /// What it should say: at most the sectors of the layout, and all that are there, but none of which nothing is known that it does not
    /// name already.
    pub count: u16,
    /// Whole sectors that the header does not count, by number.
    pub adopted: Vec<u16>,
    /// Sectors without a good record that the header is to count, since one beyond them is there, by number.
    pub left_out: Vec<u16>,
    /// Every sector of the layout.
    pub sectors: Vec<Sector>,
    /// What is wrong with which, by number.
    pub faults: Vec<(u16, SectorFault)>,
    /// Sectors of which nothing is known.
    pub unreadable: Unreadable,
}

/// What is known of a sector from its record and the sizes of the files.
pub(super) enum Known {
    /// The record is good, and a sector is there or it is a mark.
    Record(SectorMetadata),
    /// The record is wrong, or the sector is not there.
    Faulty {
        fault: SectorFault,
        /// What stands in the record as history size.
        noted: Option<u64>,
    },
    /// Nothing: the disk did not give the record.
    Nothing(SectorError),
}

/// Reads header and records, and compares with the sizes of the files. Errs when the disk does not give the header.
pub(super) async fn inspect(files: &Files, class: Class) -> Result<Inspection, FarmError> {
    let parts = Parts::new(&files.pool, RECORD_PART_BYTES);
    let (version, header_count) = files.read_header(class, &parts).await?;
    if version != METADATA_VERSION {
        let path = files.metadata.file().path().to_owned();
        return Err(FarmError::MetadataVersion { path, version });
    }
    let targets = files.layout.sectors();
    let mut found = Inspection {
        header_count,
        count: header_count.min(targets),
        adopted: Vec::new(),
        left_out: Vec::new(),
        sectors: vec![Sector::default(); usize::from(targets)],
        faults: Vec::new(),
        unreadable: Unreadable::default(),
    };
    let ends = Ends::of(class, files).await?;
    let look = |sector| {
        let parts = &parts;
        async move { (sector, look_at(files, class, sector, ends, parts).await) }
    };
    let mut counted = stream::iter(0..found.count).map(look).buffered(RECORDS_AHEAD);
    while let Some((sector, known)) = counted.next().await {
        found.note(files, sector, known);
    }
    let look = |sector| {
        let parts = &parts;
        async move {
            let known = look_at(files, class, sector, ends, parts).await;
            (sector, state_beyond_count(files, class, sector, known, parts).await)
        }
    };
    let mut uncounted = stream::iter(found.count..targets).map(look).buffered(UNCOUNTED_AHEAD);
    while let Some((sector, state)) = uncounted.next().await {
        found.note_uncounted(sector, state);
    }
    found.count_further();
    Ok(found)
}

impl Inspection {
    fn note(&mut self, files: &Files, sector: u16, known: Known) {
        let slot = &mut self.sectors[usize::from(sector)];
        slot.state = match known {
            Known::Record(metadata) => files.state_of(&metadata),
            Known::Faulty { fault, noted } => {
                let state = faulty_state(&fault, noted);
                self.faults.push((sector, fault));
                state
            }
            Known::Nothing(error) => {
                self.unreadable.add(sector, &error);
                State::Unreadable
            }
        };
    }

    /// What a crash between record and count, or a damaged count, has left uncounted.
    fn note_uncounted(&mut self, sector: u16, state: Result<State, SectorError>) {
        self.sectors[usize::from(sector)].state = match state {
            Ok(state @ State::Plotted { .. }) => {
                self.adopted.push(sector);
                state
            }
            // A mark says nothing where no sector beyond it is counted.
            Ok(_) => State::NotPlotted,
            Err(error) => {
                self.unreadable.add(sector, &error);
                State::Unreadable
            }
        };
    }

    /// Counts what was found uncounted, as far as something is known.
    fn count_further(&mut self) {
        (self.count, self.left_out) = countable(&self.sectors, self.count, None);
        self.left_out.iter().for_each(|sector| self.sectors[usize::from(*sector)].state = State::Expired);
    }
}

/// What a faulty sector is: a wrong record says nothing of the bytes, unless these are not there.
pub(super) fn faulty_state(fault: &SectorFault, noted: Option<u64>) -> State {
    match (fault, noted) {
        (SectorFault::Record(fault), Some(noted)) => State::Doubtful { fault: *fault, noted },
        _ => State::Expired,
    }
}

/// How many sectors the header may count where it counts `count`, and which of those that it does not count yet need a mark first, since
/// nothing is there. The record of `finished` is written before. The count names all sectors below it, so it ends before one of which
/// nothing is known: what lies beyond that is found again, uncounted, whenever the farm is opened.
pub(super) fn countable(sectors: &[Sector], count: u16, finished: Option<u16>) -> (u16, Vec<u16>) {
    let is_there = |(sector, slot): &(u16, &Sector)| {
        finished == Some(*sector) || matches!(slot.state, State::Plotted { .. })
    };
    let uncounted = (count..).zip(&sectors[usize::from(count)..]);
    let known: Vec<_> = uncounted.take_while(|(_, slot)| !matches!(slot.state, State::Unreadable)).collect();
    let end = known.iter().rfind(|slot| is_there(slot)).map_or(count, |(sector, _)| sector + 1);
    let left_out = known.iter().filter(|slot| slot.0 < end && !is_there(slot));
    (end, left_out.map(|(sector, _)| *sector).collect())
}

/// Bytes of both files: what lies beyond is surely not there.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    metadata_bytes: u64,
    plot_bytes: u64,
}

impl Ends {
    pub async fn of(class: Class, files: &Files) -> Result<Self, IoError> {
        let (metadata, plot) = (files.metadata.file(), files.plot_file());
        let metadata_bytes = files.disk.size_bytes(class, metadata).await?;
        Ok(Self { metadata_bytes, plot_bytes: files.disk.size_bytes(class, plot).await? })
    }

    /// Whether `plot.bin` holds the sector. Whole blocks are read, and the file as it should be ends on one.
    pub fn hold(self, files: &Files, sector: u16) -> bool {
        let (offset, bytes) = (files.layout.sector_offset(sector), files.layout.sector_bytes());
        touched_blocks(offset, bytes as usize).end <= self.plot_bytes
    }

    /// Whether `metadata.bin` holds its record.
    fn hold_record(self, files: &Files, sector: u16) -> bool {
        let offset = files.layout.record_offset(sector);
        touched_blocks(offset, SECTOR_METADATA_SIZE).end <= self.metadata_bytes
    }

    /// What is wrong with a sector that `plot.bin` does not hold.
    pub fn cut_off(self) -> SectorFault {
        SectorFault::CutOff { file_bytes: self.plot_bytes }
    }
}

/// What a sector is that is not counted. A record is written only when its sector is whole and durable; but one that outlived its
/// sector (the network's farmer makes a farm smaller, and larger again) is as good: so the contents map must be there, and be its own.
/// Errs where the disk does not give record or map.
pub(super) async fn state_beyond_count(
    files: &Files,
    class: Class,
    sector: u16,
    known: Known,
    parts: &Parts,
) -> Result<State, SectorError> {
    let metadata = match known {
        Known::Record(metadata) if !is_expired(&metadata) => metadata,
        Known::Record(_) => return Ok(State::Expired),
        Known::Faulty { .. } => return Ok(State::NotPlotted),
        Known::Nothing(error) => return Err(error),
    };
    let is_whole = files.has_contents_map_of(class, sector, &metadata, parts).await?;
    Ok(if is_whole { files.state_of(&metadata) } else { State::NotPlotted })
}

/// Reads the record of a sector, and says what it means.
pub(super) async fn look_at(files: &Files, class: Class, sector: u16, ends: Ends, parts: &Parts) -> Known {
    let cut_off = (!ends.hold(files, sector)).then(|| ends.cut_off());
    let faulty = |fault, noted| Known::Faulty { fault, noted };
    if !ends.hold_record(files, sector) {
        return faulty(SectorFault::RecordCutOff { file_bytes: ends.metadata_bytes }, None);
    }
    match (files.read_record(class, sector, parts).await, cut_off) {
        (Ok(Ok(metadata)), Some(cut_off)) if !is_expired(&metadata) => faulty(cut_off, None),
        (Ok(Ok(metadata)), _) => Known::Record(metadata),
        (Ok(Err(WrongRecord { fault, history_size, .. })), _) => faulty(fault.into(), Some(history_size)),
        (Err(_), Some(cut_off)) => faulty(cut_off, None),
        (Err(error), None) => Known::Nothing(error),
    }
}
