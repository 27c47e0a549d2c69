//! Finding out, without changing anything, what the files of a farm hold.

use super::files::{Files, METADATA_VERSION, RECORD_PART_BYTES, state_of};
use super::state::{Sector, State};
use super::{FarmError, RecordFault, SectorFault};
use crate::disk::{Class, touched_blocks};
use crate::parts::Parts;
use consensus::sector::SectorMetadata;
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
}

/// Reads header and records, and compares with the size of `plot.bin`.
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
    };
    let file_bytes = files.plot_file().size_bytes()?;
    let mut records = stream::iter(0..found.count)
        .map(|sector| {
            let parts = &parts;
            async move { (sector, read(files, class, sector, parts).await) }
        })
        .buffered(RECORDS_AHEAD);
    while let Some((sector, record)) = records.next().await {
        let state = record.and_then(|metadata| state_within(files, &metadata, file_bytes));
        let slot = &mut found.sectors[usize::from(sector)];
        slot.state = state.unwrap_or_else(|fault| {
            found.faults.push((sector, fault));
            State::Expired
        });
    }
    adopt(files, class, &parts, file_bytes, &mut found).await;
    Ok(found)
}

/// Takes in what a crash between record and count, or a damaged count, has left uncounted: a record is written only when its
/// sector is whole and durable. But one that outlived its sector (the network's farmer makes a farm smaller, and larger again) is as good:
/// so the contents map must be there, and be its own.
async fn adopt(files: &Files, class: Class, parts: &Parts, file_bytes: u64, found: &mut Inspection) {
    while found.count < files.layout.sectors() {
        let sector = found.count;
        let record = read(files, class, sector, parts).await;
        let state = record.and_then(|metadata| state_within(files, &metadata, file_bytes));
        let Ok(state @ State::Plotted { .. }) = state else { return };
        if !matches!(files.has_its_contents_map(class, sector, parts).await, Ok(true)) {
            return;
        }
        found.sectors[usize::from(sector)].state = state;
        found.count += 1;
    }
}

async fn read(
    files: &Files,
    class: Class,
    sector: u16,
    parts: &Parts,
) -> Result<SectorMetadata, SectorFault> {
    match files.read_record(class, sector, parts).await {
        Ok(record) => record.map_err(|fault: RecordFault| fault.into()),
        Err(error) => Err(SectorFault::UnreadableRecord(error.to_string())),
    }
}

/// What the record means, unless `plot.bin` does not hold the sector.
fn state_within(files: &Files, metadata: &SectorMetadata, file_bytes: u64) -> Result<State, SectorFault> {
    let offset = files.layout.sector_offset(metadata.sector_index);
    // Whole blocks are read, and the file as it should be ends on one.
    let end = touched_blocks(offset, files.layout.sector_bytes() as usize).end;
    match state_of(metadata) {
        State::Plotted { .. } if end > file_bytes => Err(SectorFault::CutOff { file_bytes }),
        state => Ok(state),
    }
}
