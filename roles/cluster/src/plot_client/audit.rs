//! Auditing a farm: one small read a sector, many at once, and the chunks that come close enough. Runs on the farm's executor.

use super::candidates::Candidate;
use super::farms::{AuditBuffers, OpenFarm, is_replaced};
use consensus::challenge::SectorSlotChallenge;
use consensus::{CpuLevel, audit};
use control::messages::SlotInfo;
use engine::farm::{Farm, SectorError, SectorStatus};
use engine::task;
use futures::{StreamExt, stream};
use std::time::{Duration, Instant};

/// Reads of one farm at once; the ring and the disk's depth may hold more back.
const MAX_READS: usize = 128;

/// What an audit came to.
pub struct Audited {
    /// Chunks within half the voting range, in no order.
    pub candidates: Vec<Candidate>,
    /// Sectors that could not be read.
    pub errors: u64,
    /// The first of the errors.
    pub error: Option<String>,
    /// Time it took.
    pub took: Duration,
}

/// Audits every plotted sector of the farm, which is number `farm` of the plot-client, against the voting range. Sectors being
/// written are skipped. None when the audit before still runs.
pub async fn audit_farm(open: &OpenFarm, farm: usize, slot: &SlotInfo, level: CpuLevel) -> Option<Audited> {
    let buffers = open.audit_buffers.try_lock()?;
    let started = Instant::now();
    let mut audited = Audited { candidates: Vec::new(), errors: 0, error: None, took: Duration::ZERO };
    let mut sectors = stream::iter(0..open.farm.count())
        .map(|sector| audit_sector(&open.farm, &buffers, (farm, sector), slot, level))
        .buffer_unordered(buffers.count().min(MAX_READS));
    while let Some(sector) = sectors.next().await {
        match sector {
            Ok(mut candidates) => audited.candidates.append(&mut candidates),
            Err(error) if is_replaced(&error) => {}
            Err(error) => {
                audited.errors += 1;
                audited.error.get_or_insert_with(|| error.to_string());
            }
        }
        task::yield_if_needed().await;
    }
    open.reads.audited(audited.errors);
    audited.took = started.elapsed();
    Some(audited)
}

async fn audit_sector(
    farm: &Farm,
    buffers: &AuditBuffers,
    (farm_index, sector): (usize, u16),
    slot: &SlotInfo,
    level: CpuLevel,
) -> Result<Vec<Candidate>, SectorError> {
    let buffer = buffers.take().await?;
    let SectorStatus::Plotted { history_size } = farm.status(sector) else {
        buffers.give(buffer);
        return Ok(Vec::new());
    };
    let challenge = SectorSlotChallenge::new(&farm.sector_id(sector, history_size), &slot.global_challenge);
    let s_bucket = challenge.s_bucket();
    // Errs when the sector is replaced meanwhile, so that the chunks are of this history size.
    let read = farm.read_s_bucket(sector, s_bucket, buffer).await?;
    let range = slot.voting_solution_range;
    let found = audit::audit(level, &slot.global_challenge, &challenge, range, read.chunks());
    buffers.give(read.into_buf());
    let candidate = |found: audit::Candidate| Candidate {
        distance: found.distance,
        farm: farm_index,
        sector,
        history_size,
        s_bucket,
        chunk_offset: found.chunk_offset,
    };
    Ok(found.into_iter().map(candidate).collect())
}
