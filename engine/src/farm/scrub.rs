//! Checking every sector of a farm against all that is known of it.

use super::map_bytes::MapBytes;
use super::sizes::first_difference;
use super::{Farm, FarmError, OpenReport, RecordFault, SectorError, SectorFault, SectorStatus};
use crate::disk::{Class, Disk};
use crate::file::Access;
use crate::parts::Parts;
use crate::pool::SlabMut;
use std::path::Path;

/// Part of a slab for one read.
const PART_BYTES: usize = 512 * 1024;
const CLASS: Class = Class::Scrub;

/// How far a scrub is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubProgress {
    /// Sectors looked at.
    pub done: u16,
    /// Sectors in all.
    pub sectors: u16,
    /// What the last one looked at has.
    pub fault: Option<(u16, SectorFault)>,
}

/// What a scrub found. All sector lists ascend.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ScrubReport {
    /// Sectors that the farm counts.
    pub sectors: u16,
    /// Sectors that are whole.
    pub good: u16,
    /// Sectors that were marked for replotting before.
    pub expired: u16,
    /// Bad sectors and what each has; marked for replotting unless the scrub was a dry run.
    pub bad: Vec<(u16, SectorFault)>,
    /// Whole sectors that the header did not count.
    pub adopted: Vec<u16>,
    /// Sectors that the header counts beyond the farm's space.
    pub dropped: u16,
}

impl ScrubReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.bad.is_empty() && self.adopted.is_empty() && self.dropped == 0
    }
}

/// Checks every sector of the farm in `dir`, which nobody may have open: metadata record, contents map against it, and the
/// checksum over all bytes. A sector that the disk does not give is bad; the others are looked at all the same. Bad ones
/// are marked for replotting as they are found; a `dry_run` changes nothing. `scratch` is as for [`Farm::open`].
pub async fn scrub(
    disk: Disk,
    scratch: SlabMut,
    dir: &Path,
    dry_run: bool,
    mut progress: impl FnMut(&ScrubProgress),
) -> Result<ScrubReport, FarmError> {
    let access = if dry_run { Access::Read } else { Access::ReadWrite };
    let (farm, OpenReport { faults, adopted, dropped }) =
        Farm::open_existing(disk, scratch, dir, access).await?;
    let mut report = ScrubReport { sectors: farm.count(), adopted, dropped, ..ScrubReport::default() };
    let mut known = faults.into_iter().peekable();
    for sector in 0..farm.count() {
        let known = known.next_if(|&(bad, _)| bad == sector);
        let fault = match (known, farm.status(sector)) {
            (Some((_, fault)), _) => Some(fault),
            (None, SectorStatus::Plotted { .. }) => {
                let fault = farm.check_sector(CLASS, sector).await?;
                if fault.is_some() && !dry_run {
                    farm.mark_for_replotting(CLASS, sector).await?;
                }
                report.good += u16::from(fault.is_none());
                fault
            }
            _ => {
                report.expired += 1;
                None
            }
        };
        let fault = fault.map(|fault| (sector, fault));
        report.bad.extend(fault.clone());
        progress(&ScrubProgress { done: sector + 1, sectors: report.sectors, fault });
    }
    Ok(report)
}

impl Farm {
    /// What is wrong with a plotted sector, if anything; errs only where nothing can be said of it.
    pub async fn check_sector(&self, class: Class, sector: u16) -> Result<Option<SectorFault>, SectorError> {
        let (_, generation) = self.plotted(sector)?;
        let sizes = match self.s_bucket_sizes(class, sector).await {
            Err(SectorError::Metadata { source, .. }) => return Ok(Some(source.into())),
            sizes => sizes?,
        };
        let parts = Parts::new(&self.0.files.pool, PART_BYTES);
        let pieces = self.layout().pieces_in_sector();
        let mut map = MapBytes::new(pieces);
        let checksums = self.checksums(class, sector, &parts, |part| map.take(part)).await;
        self.check_unchanged(sector, generation)?;
        let (computed, stored) = match checksums {
            Ok(checksums) => checksums,
            Err(SectorError::Io(error)) => return Ok(Some(SectorFault::Unreadable(error.to_string()))),
            Err(error) => return Err(error),
        };
        let map = match map.decode(pieces) {
            Ok(map) => map,
            Err(error) => return Ok(Some(error.into())),
        };
        if computed != stored {
            return Ok(Some(SectorFault::Checksum));
        }
        let difference = first_difference(&sizes, &map.s_bucket_sizes());
        Ok(difference.map(|s_bucket| RecordFault::SBucketSize(s_bucket).into()))
    }
}
