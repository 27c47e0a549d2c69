//! Checking every sector of a farm against all that is known of it.

use super::heal::{Anew, Damage, Mended};
use super::inspect::Ends;
use super::map_bytes::MapBytes;
use super::sizes::first_difference;
use super::state::{Sector, State};
use super::{AuditMemory, Farm, FarmError, OpenReport, RecordFault, SectorError, SectorFault, SectorStatus};
use crate::disk::{Class, Disk};
use crate::error::IoError;
use crate::file::Access;
use crate::parts::Parts;
use crate::pool::SlabMut;
use std::collections::BTreeMap;
use std::path::Path;

/// Part of a slab for one read.
const PART_BYTES: usize = 512 * 1024;
const CLASS: Class = Class::Scrub;

/// What a scrub looks at. Header and records are read in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Everything.
    All,
    /// Records and contents maps: damaged records are rebuilt.
    Metadata,
    /// The checksum over all bytes of each sector. Wrong records are left as they are: the others make them anew.
    Plot,
}

/// What a scrub is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubOptions {
    /// What it looks at.
    pub target: Target,
    /// Nothing on disk changes.
    pub dry_run: bool,
    /// What the disk does not give is marked for replotting, too: its owner knows that it will not come back.
    pub mark_unreadable: bool,
}

/// How much of a sector is read to judge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The contents map against its own hash and the s-bucket sizes.
    Map,
    /// The checksum over all bytes too.
    Whole,
}

/// What a sector has that an operator is to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is to be plotted again.
    Bad(SectorFault),
    /// The disk refused to give what it is judged by; this is what it said.
    Unreadable(String),
    /// Its record was bad, or a mark although the sector is whole, and was made anew of the sector.
    Rebuilt,
    /// Its record is wrong, which is not what is looked at: left as it is.
    Left(RecordFault),
}

/// How far a scrub is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubProgress {
    /// Sectors looked at.
    pub done: u16,
    /// Sectors in all.
    pub sectors: u16,
    /// What the last one looked at has.
    pub found: Option<(u16, Finding)>,
}

/// What a scrub found. All sector lists ascend.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ScrubReport {
    /// Sectors that were looked at: those that the farm counts, or may have.
    pub sectors: u16,
    /// Sectors that are whole, as far as was looked.
    pub good: u16,
    /// Sectors that were marked for replotting before.
    pub expired: u16,
    /// Bad sectors and what each has; marked for replotting unless the scrub was a dry run.
    pub bad: Vec<(u16, SectorFault)>,
    /// Sectors that the disk did not give, and what it said. They are as they were, or marked where that was asked for.
    pub unreadable: Vec<(u16, String)>,
    /// Whole sectors without a good record, which have one now unless the scrub was a dry run.
    pub rebuilt: Vec<u16>,
    /// Sectors whose wrong record was left as it is.
    pub left: Vec<(u16, RecordFault)>,
    /// Whole sectors that the header did not count.
    pub adopted: Vec<u16>,
    /// Sectors that the header counts beyond the farm's space.
    pub dropped: u16,
}

impl ScrubReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.bad.is_empty()
            && self.unreadable.is_empty()
            && self.rebuilt.is_empty()
            && self.left.is_empty()
            && self.adopted.is_empty()
            && self.dropped == 0
    }

    fn add(&mut self, sector: u16, finding: Finding) {
        match finding {
            Finding::Bad(fault) => self.bad.push((sector, fault)),
            Finding::Unreadable(error) => self.unreadable.push((sector, error)),
            Finding::Rebuilt => self.rebuilt.push(sector),
            Finding::Left(fault) => self.left.push((sector, fault)),
        }
    }
}

/// Checks the sectors of the farm in `dir`, which nobody may have open: metadata record, contents map against it, and the
/// checksum over all bytes. Bad ones are marked for replotting as they are found, unless the sector is whole and its record can be
/// rebuilt. Those that the disk does not give are left as they are unless they are to be marked. `scratch` is as for [`Farm::open`].
/// Keeps as little in memory as [`AuditMemory::Lean`] does.
pub async fn scrub(
    disk: Disk,
    scratch: SlabMut,
    dir: &Path,
    options: ScrubOptions,
    mut progress: impl FnMut(&ScrubProgress),
) -> Result<ScrubReport, FarmError> {
    let access = if options.dry_run { Access::Read } else { Access::ReadWrite };
    let opened = Farm::open_existing_with(disk, scratch, dir, access, AuditMemory::Lean).await?;
    let (farm, OpenReport { faults, unreadable, adopted, dropped }) = opened;
    let (counted, statuses) = (farm.count(), farm.statuses());
    let is_there =
        |(sector, status): &(u16, SectorStatus)| *sector < counted || *status != SectorStatus::NotPlotted;
    let there: Vec<_> = (0..).zip(statuses).filter(is_there).collect();
    let sectors = there.len() as u16;
    let mut report = ScrubReport { sectors, adopted, dropped, ..ScrubReport::default() };
    let mut scrubbing = Scrubbing { farm, options, faults: faults.into_iter().collect() };
    let refused = unreadable.error.unwrap_or_default();
    for (done, (sector, status)) in (1..).zip(there) {
        let found = match status {
            SectorStatus::Unreadable => Some(scrubbing.unread(sector, &refused).await?),
            SectorStatus::Plotted { .. } => {
                let found = scrubbing.plotted(sector).await?;
                report.good += u16::from(found.is_none());
                found
            }
            SectorStatus::Doubtful => Some(scrubbing.doubtful(sector).await?),
            _ => {
                let found = scrubbing.unplotted(sector).await?;
                report.expired += u16::from(found.is_none());
                found
            }
        };
        found.clone().into_iter().for_each(|finding| report.add(sector, finding));
        let found = found.map(|finding| (sector, finding));
        progress(&ScrubProgress { done, sectors, found });
    }
    if !options.dry_run {
        // What is marked now holds nothing back.
        scrubbing.farm.count_further(CLASS).await?;
    }
    Ok(report)
}

/// A farm that is scrubbed.
struct Scrubbing {
    farm: Farm,
    options: ScrubOptions,
    /// Found at opening.
    faults: BTreeMap<u16, SectorFault>,
}

impl Scrubbing {
    /// A sector with a good record.
    async fn plotted(&self, sector: u16) -> Result<Option<Finding>, SectorError> {
        let depth = if self.options.target == Target::Metadata { Depth::Map } else { Depth::Whole };
        let (fault, generation) = match self.farm.check(CLASS, sector, depth).await {
            Ok(None) => return Ok(None),
            Ok(Some(found)) => found,
            Err(SectorError::Io(error)) => return self.refused(sector, &error).await.map(Some),
            Err(error) => return Err(error),
        };
        // The record has other sizes than the contents map, so it is of another content, or badly made.
        if let SectorFault::Record(fault) = fault {
            let (noted, _) = self.farm.plotted(sector)?;
            return self.wrong(sector, fault, noted, generation).await.map(Some);
        }
        if !self.options.dry_run {
            self.farm.mark_bad(CLASS, sector, generation).await?;
        }
        Ok(Some(Finding::Bad(fault)))
    }

    /// A sector whose record was found wrong at opening.
    async fn doubtful(&self, sector: u16) -> Result<Finding, SectorError> {
        let Sector { state: State::Doubtful { fault, noted }, generation, .. } = self.farm.slot(sector)?
        else {
            unreachable!("nobody else has the farm");
        };
        self.wrong(sector, fault, noted, generation).await
    }

    /// A sector whose record is wrong. Who scrubs gives up what nothing can be made of.
    async fn wrong(
        &self,
        sector: u16,
        fault: RecordFault,
        noted: u64,
        generation: u32,
    ) -> Result<Finding, SectorError> {
        let mended = match (self.options.target, self.options.dry_run) {
            (Target::Plot, _) => return Ok(Finding::Left(fault)),
            (_, true) => {
                let rebuilt = self.farm.rebuilt_record(CLASS, sector, Some(noted)).await;
                rebuilt.map(
                    |anew| if matches!(anew, Anew::Record(_)) { Mended::Rebuilt } else { Mended::Marked },
                )
            }
            (_, false) => self.farm.mend(CLASS, sector, noted, generation, true).await,
        };
        match mended {
            Ok(Mended::Rebuilt) => Ok(Finding::Rebuilt),
            Ok(Mended::Marked | Mended::Left | Mended::Damaged(_)) => Ok(Finding::Bad(fault.into())),
            Err(SectorError::Io(error)) => self.refused(sector, &error).await,
            Err(error) => Err(error),
        }
    }

    /// A sector whose record the disk did not give at opening.
    async fn unread(&self, sector: u16, refused: &str) -> Result<Finding, SectorError> {
        let parts = Parts::new(&self.farm.0.files.pool, PART_BYTES);
        match self.farm.0.files.read_record(CLASS, sector, &parts).await {
            Err(SectorError::Io(error)) => self.refused(sector, &error).await,
            Err(error) => Err(error),
            // The next scrub looks at what is given by now.
            Ok(_) => Ok(Finding::Unreadable(refused.to_owned())),
        }
    }

    /// A sector that the disk does not give at present, or for good.
    async fn refused(&self, sector: u16, error: &IoError) -> Result<Finding, SectorError> {
        // A disk that stalls says nothing of what lies on it, nor does a thread that was not to be had.
        let is_for_good = !error.is_passing() && !matches!(error, IoError::Open { .. });
        if is_for_good && self.options.mark_unreadable && !self.options.dry_run {
            self.farm.mark_for_replotting(CLASS, sector).await?;
        }
        Ok(Finding::Unreadable(error.to_string()))
    }

    /// A sector whose record is a mark, or that is not there.
    async fn unplotted(&mut self, sector: u16) -> Result<Option<Finding>, SectorError> {
        let fault = self.faults.remove(&sector).map(Finding::Bad);
        if fault.is_some() || self.options.target == Target::Plot {
            return Ok(fault);
        }
        let generation = self.farm.slot(sector)?.generation;
        let record = match self.farm.rebuilt_record(CLASS, sector, None).await {
            Ok(Anew::Record(record)) => record,
            // That it is a mark was read: it stands whatever the disk says of the rest.
            Ok(Anew::Damaged | Anew::Unknown) | Err(SectorError::Io(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !self.options.dry_run {
            self.farm.restore(&record, generation).await?;
        }
        Ok(Some(Finding::Rebuilt))
    }
}

impl Farm {
    /// What is wrong with a plotted sector, if anything; errs where the disk does not give it, and nothing can be said of it.
    pub async fn check_sector(&self, class: Class, sector: u16) -> Result<Option<SectorFault>, SectorError> {
        Ok(self.check(class, sector, Depth::Whole).await?.map(|(fault, _)| fault))
    }

    /// The same, and a record alone that is wrong is made anew where the sector is whole, see [`Farm::heal`]. Where bytes are wrong the sector
    /// stays what it is for whoever rebuilds or marks it; one that is not all there is marked.
    pub async fn check_and_mend(
        &self,
        class: Class,
        sector: u16,
        depth: Depth,
    ) -> Result<Option<(SectorFault, Mended)>, SectorError> {
        let (noted, _) = self.plotted(sector)?;
        let Some((fault, generation)) = self.check(class, sector, depth).await? else { return Ok(None) };
        let mended = match fault {
            SectorFault::Record(_) => self.mend(class, sector, noted, generation, true).await?,
            SectorFault::Checksum | SectorFault::ContentsMap(_) => {
                Mended::Damaged(Damage { sector, history_size: noted, generation })
            }
            SectorFault::CutOff { .. } | SectorFault::RecordCutOff { .. } => {
                self.mark_bad(class, sector, generation).await?;
                Mended::Marked
            }
        };
        Ok(Some((fault, mended)))
    }

    /// What is wrong with a plotted sector, and the generation that it is wrong with. It was wrong twice: a cable or the memory may err once.
    pub(super) async fn check(
        &self,
        class: Class,
        sector: u16,
        depth: Depth,
    ) -> Result<Option<(SectorFault, u32)>, SectorError> {
        match self.check_once(class, sector, depth).await? {
            Some(_) => self.check_once(class, sector, depth).await,
            None => Ok(None),
        }
    }

    async fn check_once(
        &self,
        class: Class,
        sector: u16,
        depth: Depth,
    ) -> Result<Option<(SectorFault, u32)>, SectorError> {
        let (_, generation) = self.plotted(sector)?;
        let sizes = match self.s_bucket_sizes(class, sector).await {
            Err(SectorError::Metadata { source, .. }) => return Ok(Some((source.into(), generation))),
            sizes => sizes?,
        };
        let pieces = self.layout().pieces_in_sector();
        let mut map = MapBytes::new(pieces);
        let read = self.read_to_check(class, sector, depth, &mut map).await;
        self.check_unchanged(sector, generation)?;
        let bad = |fault| Ok(Some((fault, generation)));
        let is_whole = match read {
            Ok(is_whole) => is_whole,
            Err(error) => return self.cut_off(class, sector).await.map_or(Err(error), bad),
        };
        let map = match map.decode(pieces) {
            Ok(map) => map,
            Err(error) => return bad(error.into()),
        };
        if !is_whole {
            return bad(SectorFault::Checksum);
        }
        let difference = first_difference(&sizes, &map.s_bucket_sizes());
        difference.map_or(Ok(None), |s_bucket| bad(RecordFault::SBucketSize(s_bucket).into()))
    }

    /// Reads so much of a sector; whether the checksum is right, if it was read.
    async fn read_to_check(
        &self,
        class: Class,
        sector: u16,
        depth: Depth,
        map: &mut MapBytes,
    ) -> Result<bool, SectorError> {
        let parts = Parts::new(&self.0.files.pool, PART_BYTES);
        if depth == Depth::Whole {
            let (computed, stored) = self.checksums(class, sector, &parts, |part| map.take(part)).await?;
            return Ok(computed == stored);
        }
        let (offset, bytes) = (self.layout().sector_offset(sector), map.left() as u64);
        self.0.files.plot(class).read_in_order(offset, bytes, &parts, |part| map.take(part)).await?;
        Ok(true)
    }

    /// The fault of a sector that does not lie in the file any more.
    async fn cut_off(&self, class: Class, sector: u16) -> Option<SectorFault> {
        let ends = Ends::of(class, &self.0.files).await.ok()?;
        (!ends.hold(&self.0.files, sector)).then(|| ends.cut_off())
    }
}
