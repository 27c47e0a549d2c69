//! Finding out, without changing anything, what the files of a farm hold.

use super::files::{Files, METADATA_VERSION, RECORD_PART_BYTES, WrongRecord};
use super::state::{Sector, State};
use super::{FarmError, SectorError, SectorFault, Unreadable};
use crate::disk::{Class, touched_blocks};
use crate::error::IoError;
use crate::parts::Parts;
use consensus::constants::SECTOR_METADATA_SIZE;
use futures::{StreamExt, stream};

/// Records read at a time.
const RECORDS_AHEAD: usize = 8;

/// What was found.
pub(super) struct Inspection {
    /// What the header says.
    pub header_count: u16,
    /// What it should say: at most the sectors of the layout, and all whose record is valid.
    pub count: u16,
    /// Every sector of the layout.
    pub sectors: Vec<Sector>,
    /// What is wrong with which, by number.
    pub faults: Vec<(u16, SectorFault)>,
    /// What stands as history size in records that are faulty, by number.
    pub noted: Vec<(u16, u64)>,
    /// Sectors of which nothing is known.
    pub unreadable: Unreadable,
}

/// What is known of a sector from its record and the sizes of the files.
pub(super) enum Known {
    /// The record is good.
    State(State),
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
        sectors: vec![Sector::default(); usize::from(targets)],
        faults: Vec::new(),
        noted: Vec::new(),
        unreadable: Unreadable::default(),
    };
    let ends = Ends::of(class, files).await?;
    let mut records = stream::iter(0..found.count)
        .map(|sector| {
            let parts = &parts;
            async move { (sector, look_at(files, class, sector, ends, parts).await) }
        })
        .buffered(RECORDS_AHEAD);
    while let Some((sector, known)) = records.next().await {
        found.note(sector, known);
    }
    adopt(files, class, &parts, ends, &mut found).await;
    Ok(found)
}

impl Inspection {
    fn note(&mut self, sector: u16, known: Known) {
        let slot = &mut self.sectors[usize::from(sector)];
        slot.state = match known {
            Known::State(state) => state,
            Known::Faulty { fault, noted } => {
                self.faults.push((sector, fault));
                self.noted.extend(noted.map(|history_size| (sector, history_size)));
                State::Expired
            }
            Known::Nothing(error) => {
                self.unreadable.add(sector, &error);
                State::Unreadable
            }
        };
    }
}

/// Takes in what a crash between record and count, or a damaged count, has left uncounted: a record is written only when its
/// sector is whole and durable. But one that outlived its sector (the network's farmer makes a farm smaller, and larger again) is as good:
/// so the contents map must be there, and be its own. Where the disk does not give them, nothing is known of the sectors from there on.
async fn adopt(files: &Files, class: Class, parts: &Parts, ends: Ends, found: &mut Inspection) {
    while found.count < files.layout.sectors() {
        let sector = found.count;
        match look_beyond_count(files, class, sector, ends, parts).await {
            Known::State(state @ State::Plotted { .. }) => {
                found.sectors[usize::from(sector)].state = state;
                found.count += 1;
            }
            Known::Nothing(error) => {
                found.unreadable.add(sector, &error);
                let tail = (sector..).zip(&mut found.sectors[usize::from(sector)..]);
                tail.filter(|(sector, _)| ends.hold(files, *sector))
                    .for_each(|(_, slot)| slot.state = State::Unreadable);
                return;
            }
            Known::State(_) | Known::Faulty { .. } => return,
        }
    }
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

/// Looks at a sector that is not counted: there only if its contents map is that of its record.
pub(super) async fn look_beyond_count(
    files: &Files,
    class: Class,
    sector: u16,
    ends: Ends,
    parts: &Parts,
) -> Known {
    let known = look_at(files, class, sector, ends, parts).await;
    if !matches!(known, Known::State(State::Plotted { .. })) {
        return known;
    }
    match files.has_its_contents_map(class, sector, parts).await {
        Ok(true) => known,
        Ok(false) => Known::State(State::NotPlotted),
        Err(error) => Known::Nothing(error),
    }
}

/// Reads the record of a sector, and says what it means.
pub(super) async fn look_at(files: &Files, class: Class, sector: u16, ends: Ends, parts: &Parts) -> Known {
    let cut_off = (!ends.hold(files, sector)).then(|| ends.cut_off());
    let faulty = |fault, noted| Known::Faulty { fault, noted };
    if !ends.hold_record(files, sector) {
        return faulty(SectorFault::RecordCutOff { file_bytes: ends.metadata_bytes }, None);
    }
    match (files.read_record(class, sector, parts).await, cut_off) {
        (Ok(Ok(metadata)), cut_off) => match (files.state_of(&metadata), cut_off) {
            (State::Plotted { .. }, Some(cut_off)) => faulty(cut_off, None),
            (state, _) => Known::State(state),
        },
        (Ok(Err(WrongRecord { fault, history_size })), _) => faulty(fault.into(), Some(history_size)),
        (Err(_), Some(cut_off)) => faulty(cut_off, None),
        (Err(error), None) => Known::Nothing(error),
    }
}
