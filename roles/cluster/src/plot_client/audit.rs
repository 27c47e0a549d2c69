//! Auditing a farm: one small read a sector, many at once, and the chunks that come close enough. Runs on the farm's executor.

use super::candidates::Candidate;
use super::doubts::Suspect;
use super::farms::{AuditBuffers, OpenFarm, is_replaced};
use consensus::challenge::SectorSlotChallenge;
use consensus::{CpuLevel, audit};
use control::messages::SlotInfo;
use engine::farm::{Depth, Farm, SectorError, SectorStatus};
use engine::task;
use futures::{StreamExt, stream};
use std::time::{Duration, Instant};

/// Most reads of one farm at once in a slot; the disk's depth is what was measured of it, and may be less.
pub const MAX_READS: usize = 128;

/// Sectors that are audited at once beyond the reads that the disk does at once: their reads wait in its queue, so that it has work
/// while the chunks of others are hashed.
const AHEAD: usize = 32;

/// Sectors with a wrong record that one audit tells of; others are told of by the next.
const MAX_SUSPECTS: usize = 4;

/// How many sectors a farm audits at once on a disk of this depth.
pub fn sectors_at_once(depth: usize) -> usize {
    depth.min(MAX_READS) + AHEAD
}

/// What an audit came to.
#[derive(Default)]
pub struct Audited {
    /// Chunks within half the voting range, in no order.
    pub candidates: Vec<Candidate>,
    /// Reads, one a sector whose s-bucket is not empty.
    pub reads: u64,
    /// Bytes of them.
    pub read_bytes: u64,
    /// Chunks that were hashed.
    pub chunks: u64,
    /// Sectors that could not be read.
    pub errors: u64,
    /// The first of the errors.
    pub error: Option<String>,
    /// Of the sectors whose record is wrong, as is seen where it is read for each audit, the first few.
    pub suspects: Vec<Suspect>,
    /// Time it took.
    pub took: Duration,
}

/// Audits every plotted sector of the farm, which is number `farm` of the plot-client, against the voting range, those beyond the count
/// too: one that the disk does not give holds the count back. Sectors being written are skipped. None when the audit before still runs.
pub async fn audit_farm(open: &OpenFarm, farm: usize, slot: &SlotInfo, level: CpuLevel) -> Option<Audited> {
    let buffers = open.audit_buffers.try_lock()?;
    buffers.fill_up();
    let at_once = sectors_at_once(open.disk.depth());
    let audited =
        audit_sectors(&open.farm, 0..open.farm.layout().sectors(), farm, &buffers, at_once, slot, level)
            .await;
    open.reads.audited(audited.errors);
    Some(audited)
}

/// The same for these sectors, with memory of the caller's, so many `at_once`.
pub async fn audit_sectors(
    farm: &Farm,
    sectors: impl Iterator<Item = u16>,
    farm_index: usize,
    buffers: &AuditBuffers,
    at_once: usize,
    slot: &SlotInfo,
    level: CpuLevel,
) -> Audited {
    let started = Instant::now();
    let mut audited = Audited::default();
    let mut sectors = stream::iter(sectors)
        .map(|sector| audit_sector(farm, buffers, (farm_index, sector), slot, level))
        .buffer_unordered(buffers.count().min(at_once));
    while let Some(sector) = sectors.next().await {
        match sector {
            Ok(mut sector) => {
                audited.candidates.append(&mut sector.candidates);
                audited.reads += u64::from(sector.chunks > 0);
                audited.read_bytes += sector.read_bytes as u64;
                audited.chunks += sector.chunks as u64;
            }
            Err(error) if is_replaced(&error) => {}
            Err(error) => {
                audited.errors += 1;
                audited.error.get_or_insert_with(|| error.to_string());
                let room = audited.suspects.len() < MAX_SUSPECTS;
                audited.suspects.extend(suspect(farm, &error).filter(|_| room));
            }
        }
        task::yield_if_needed().await;
    }
    audited.took = started.elapsed();
    audited
}

/// The sector whose record is wrong, if that is what an audit ended with.
fn suspect(farm: &Farm, error: &SectorError) -> Option<Suspect> {
    let SectorError::Metadata { sector, .. } = *error else { return None };
    match farm.status(sector) {
        SectorStatus::Plotted { history_size } => Some(Suspect { sector, history_size, depth: Depth::Map }),
        _ => None,
    }
}

/// What the audit of a sector came to.
#[derive(Default)]
struct AuditedSector {
    candidates: Vec<Candidate>,
    chunks: usize,
    read_bytes: usize,
}

async fn audit_sector(
    farm: &Farm,
    buffers: &AuditBuffers,
    (farm_index, sector): (usize, u16),
    slot: &SlotInfo,
    level: CpuLevel,
) -> Result<AuditedSector, SectorError> {
    let buffer = buffers.take().await?;
    let SectorStatus::Plotted { history_size } = farm.status(sector) else {
        buffers.give(buffer);
        return Ok(AuditedSector::default());
    };
    let challenge = SectorSlotChallenge::new(&farm.sector_id(sector, history_size), &slot.global_challenge);
    let s_bucket = challenge.s_bucket();
    // Errs when the sector is replaced meanwhile, so that the chunks are of this history size.
    let read = farm.read_s_bucket(sector, s_bucket, buffer).await?;
    let range = slot.voting_solution_range;
    let found = audit::audit(level, &slot.global_challenge, &challenge, range, read.chunks());
    let (chunks, read_bytes) = (read.chunks().len(), read.read_bytes());
    buffers.give(read.into_buf());
    let candidate = |found: audit::Candidate| Candidate {
        distance: found.distance,
        farm: farm_index,
        sector,
        history_size,
        s_bucket,
        chunk_offset: found.chunk_offset,
    };
    Ok(AuditedSector { candidates: found.into_iter().map(candidate).collect(), chunks, read_bytes })
}
