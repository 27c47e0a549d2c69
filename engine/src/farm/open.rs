//! Making and opening a farm, with what can be put right put right (PROTOCOL 7).

use super::begun::{Begun, Taken};
use super::files::{Both, Files, RECORD_PART_BYTES, is_expired};
use super::format::PIECE_CACHE_FILE;
use super::gather::Measured;
use super::info::Opened;
use super::inspect::{Inspection, inspect};
use super::making::{check_files, ensure_files, grow, size};
use super::progress::Progress;
use super::state::{Sector, State};
use super::undo::Undo;
use super::{
    AuditMemory, Farm, FarmConfig, FarmError, FarmInfo, FarmSize, INFO_FILE, Inner, Layout, MAX_SECTORS,
    METADATA_FILE, PLOT_FILE, PROGRESS_FILE, RecordFault, SectorFault, Unreadable,
};
use crate::disk::{Class, Disk};
use crate::file::{Access, check_regular, sync_directory};
use crate::parts::Parts;
use crate::pool::SlabMut;
use consensus::sector::public_key_hash;
use futures::lock::Mutex;
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

/// What opening a farm found and did. All sector lists ascend.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// Sectors with something wrong: those that [`Farm::doubtful`] names too have a wrong record alone, for [`Farm::heal`]; the others are
    /// marked for replotting (unless the farm was only looked at).
    pub faults: Vec<(u16, SectorFault)>,
    /// Sectors of which the disk did not give the record: they and the header are as they were. [`Farm::look_again`] looks at them again.
    pub unreadable: Unreadable,
    /// Whole sectors that the header did not count. They are used again; it counts them now, unless an unreadable one lies before.
    pub adopted: Vec<u16>,
    /// Counted sectors beyond the farm's space: they are gone.
    pub dropped: u16,
}

/// What is built of a farm that is being opened.
type Built = (Files, Inspection, Progress);

/// Class of the reads and writes at opening: nobody farms this farm yet, but others on the disk may.
const CLASS: Class = Class::Serving;

impl Farm {
    /// Opens the farm in `dir`, making directory and farm if there is none. `scratch` is
    /// [`super::FARM_SCRATCH_BYTES`] of memory that starts at a block, kept as long as the farm is open. Blocks nobody:
    /// what waits for the system is done in threads. An error, or a future that is dropped, leaves the farm that was there before, or
    /// nothing, a moment later; the size is noted when the files have it, and from that on a farm that is dropped is the new one. Of
    /// its sectors all is kept in memory that makes an audit one read.
    pub async fn open(
        disk: Disk,
        scratch: SlabMut,
        dir: &Path,
        config: &FarmConfig,
    ) -> Result<(Self, OpenReport), FarmError> {
        Self::open_with(disk, scratch, dir, config, AuditMemory::Exact).await
    }

    /// Opens as [`Farm::open`] does, and keeps in memory of its sectors what `memory` says.
    pub async fn open_with(
        disk: Disk,
        scratch: SlabMut,
        dir: &Path,
        config: &FarmConfig,
        memory: AuditMemory,
    ) -> Result<(Self, OpenReport), FarmError> {
        let config = *config;
        let take = move |dir: &Path, undo: &mut Undo| Opened::or_create(dir, &config, undo);
        let mut begun = Begun::take(dir, take).await?;
        let built = build(&mut begun, disk, scratch, &config, memory).await;
        Self::of(begun, built).await
    }

    /// Opens the farm in `dir` as it is, whatever its network and size. For reading only, nothing on disk changes, and
    /// faults are only reported.
    pub async fn open_existing(
        disk: Disk,
        scratch: SlabMut,
        dir: &Path,
        access: Access,
    ) -> Result<(Self, OpenReport), FarmError> {
        Self::open_existing_with(disk, scratch, dir, access, AuditMemory::Exact).await
    }

    /// Like [`Farm::open_existing`] for reading, also while another process has the farm, see [`Farm::is_in_use`]. `access` is one that
    /// only reads.
    pub async fn open_to_look(
        disk: Disk,
        scratch: SlabMut,
        dir: &Path,
        access: Access,
    ) -> Result<(Self, OpenReport), FarmError> {
        assert_ne!(access, Access::ReadWrite, "who only looks changes nothing");
        let begun = Begun::take(dir, |dir, _| Opened::to_look(dir)).await?;
        Self::open_as_it_is(disk, scratch, begun, access, AuditMemory::Exact).await
    }

    /// Opens as [`Farm::open_existing`] does, and keeps in memory of its sectors what `memory` says.
    pub async fn open_existing_with(
        disk: Disk,
        scratch: SlabMut,
        dir: &Path,
        access: Access,
        memory: AuditMemory,
    ) -> Result<(Self, OpenReport), FarmError> {
        let begun = Begun::take(dir, |dir, _| Opened::existing(dir)).await?;
        Self::open_as_it_is(disk, scratch, begun, access, memory).await
    }

    async fn open_as_it_is(
        disk: Disk,
        scratch: SlabMut,
        mut begun: Begun,
        access: Access,
        memory: AuditMemory,
    ) -> Result<(Self, OpenReport), FarmError> {
        let built = build_as_it_is(&mut begun, disk, scratch, access, memory).await;
        Self::of(begun, built).await
    }

    /// The farm that was built, or the error once all is taken back.
    async fn of(begun: Begun, built: Result<Built, FarmError>) -> Result<(Self, OpenReport), FarmError> {
        let (files, found, progress) = match built {
            Ok(built) => built,
            Err(error) => {
                begun.give_back().await;
                return Err(error);
            }
        };
        let report = OpenReport {
            faults: found.faults,
            unreadable: found.unreadable,
            adopted: found.adopted,
            dropped: found.header_count.saturating_sub(found.count),
        };
        let dir = begun.dir().to_owned();
        let Opened { info, identity, lock } = begun.done();
        // What is still to be written when the farm is closed keeps others out until it has ended.
        files.plot_file().hold(lock.file());
        files.metadata.file().hold(lock.file());
        progress.hold(lock.file());
        let inner = Inner {
            dir,
            key_hash: public_key_hash(&identity.public_key()),
            info,
            identity,
            files,
            sectors: RefCell::new(found.sectors),
            count: Cell::new(found.count),
            commit: Mutex::new(()),
            progress,
            syncing: Mutex::new(()),
            failed_syncs: Cell::new(0),
            left: RefCell::default(),
            read_cost: Measured::default(),
            lock,
        };
        Ok((Self(Rc::new(inner)), report))
    }
}

/// Opens the files, made and grown to what the farm is to be, and puts right what can be.
async fn build(
    begun: &mut Begun,
    disk: Disk,
    scratch: SlabMut,
    config: &FarmConfig,
    memory: AuditMemory,
) -> Result<Built, FarmError> {
    let (dir, size) = (begun.dir().to_owned(), config.size);
    let (layout, allocated_bytes) =
        begun.apart(move |dir, taken| plan(dir, &taken.opened.info, size)).await?;
    ensure_files(begun, layout).await?;
    let both = begun.apart(open_to_grow).await?;
    let files = Files::new(disk, scratch, both.clone(), layout, memory);
    grow(begun, &both.metadata, layout.metadata_bytes()).await?;
    let found = inspect(&files, CLASS).await?;
    check_pieces(&dir, &found)?;
    tell_loss(&dir, &files, config).await?;
    repair(&files, &found).await?;
    let progress = open_progress(&files, begun).await?;
    grow(begun, &both.plot, layout.plot_bytes()).await?;
    settle(begun, &files, &found, &progress, allocated_bytes).await?;
    begun.apart(move |dir, taken| cut(dir, taken, &both, &layout)).await?;
    Ok((files, found, progress))
}

/// Opens the files as they are.
async fn build_as_it_is(
    begun: &mut Begun,
    disk: Disk,
    scratch: SlabMut,
    access: Access,
    memory: AuditMemory,
) -> Result<Built, FarmError> {
    let dir = begun.dir().to_owned();
    let look = move |dir: &Path, taken: &mut Taken| {
        let layout = found_layout(dir, &taken.opened.info)?;
        check_files(dir)?;
        let is_to_grow = access == Access::ReadWrite;
        let both = if is_to_grow { open_to_grow(dir, taken)? } else { Both::open(dir, access)? };
        Ok((layout, both))
    };
    let (layout, both) = begun.apart(look).await?;
    let files = Files::new(disk, scratch, both.clone(), layout, memory);
    if access != Access::ReadWrite {
        let found = inspect(&files, CLASS).await?;
        check_pieces(&dir, &found)?;
        return Ok((files, found, Progress::none()));
    }
    grow(begun, &both.metadata, layout.metadata_bytes()).await?;
    let found = inspect(&files, CLASS).await?;
    check_pieces(&dir, &found)?;
    repair(&files, &found).await?;
    lower_count(&files, &found).await?;
    let progress = open_progress(&files, begun).await?;
    grow(begun, &both.plot, layout.plot_bytes()).await?;
    Ok((files, found, progress))
}

/// Opens both files, which may be about to grow. Blocks.
fn open_to_grow(dir: &Path, taken: &mut Taken) -> Result<Both, FarmError> {
    let both = Both::open(dir, Access::ReadWrite)?;
    taken.undo.will_grow(&both.metadata)?;
    taken.undo.will_grow(&both.plot)?;
    Ok(both)
}

/// Notes the size that the files have: from then on nothing is taken back by itself. A smaller farm counts less only then, so that one
/// that was not noted is the one that was there before; where the disk does not let it count less, the size is noted that was before.
async fn settle(
    begun: &mut Begun,
    files: &Files,
    found: &Inspection,
    progress: &Progress,
    allocated_bytes: u64,
) -> Result<(), FarmError> {
    let (before, sectors) = (begun.info().allocated_bytes, files.layout.sectors());
    let settled = async {
        begun.apart(move |dir, taken| note_size(dir, taken, allocated_bytes)).await?;
        progress.forget(move |sector| sector >= sectors).await?;
        lower_count(files, found).await
    };
    let Err(error) = settled.await else { return Ok(()) };
    // Which count is there is not known. One that stays low costs no sector: they are found by their records.
    if found.header_count > found.count
        && let Err(refused) = write_count(files, found.header_count).await
    {
        tracing::warn!("the count of sectors could not be written back: {refused}");
    }
    let note_back = move |dir: &Path, taken: &mut Taken| note_size(dir, taken, before);
    if let Err(refused) = begun.apart(note_back).await {
        tracing::warn!("the size could not be noted as it was: {refused}");
    }
    Err(error)
}

/// Notes the size, where it is another one than is noted. Blocks.
fn note_size(dir: &Path, taken: &mut Taken, allocated_bytes: u64) -> Result<(), FarmError> {
    if taken.opened.info.allocated_bytes == allocated_bytes {
        return Ok(());
    }
    taken.opened.set_allocated(dir, allocated_bytes)?;
    // Files that are cut back although the next start may read this would never grow: to it they are of that size already.
    taken.undo.forget();
    Ok(sync_directory(&dir.join(INFO_FILE))?)
}

/// Cuts off what is beyond the size that is noted. Blocks.
fn cut(dir: &Path, taken: &mut Taken, both: &Both, layout: &Layout) -> Result<(), FarmError> {
    let sizes = [(&both.metadata, layout.metadata_bytes()), (&both.plot, layout.plot_bytes())];
    // Records first: one that outlived its sector would be taken for a sector when the farm grows again.
    for (file, bytes) in sizes {
        if file.size_bytes()? > bytes {
            taken.undo.forget();
            file.set_size(bytes)?;
        }
    }
    tell_cache(dir)
}

/// Marks what surely is not there before `plot.bin` can grow back over it, and counts what was not counted.
async fn repair(files: &Files, found: &Inspection) -> Result<(), FarmError> {
    let is_expired = |sector: &u16| matches!(found.sectors[usize::from(*sector)].state, State::Expired);
    let faulty = found.faults.iter().map(|(sector, _)| *sector).filter(is_expired);
    for sector in faulty.chain(found.left_out.iter().copied()) {
        files.write_mark(CLASS, sector).await?;
    }
    // What a killed process wrote is read, and may yet be lost.
    files.sync_metadata(CLASS).await?;
    if found.header_count < found.count {
        write_count(files, found.count).await?;
    }
    Ok(())
}

/// Counts no more than the farm has room for.
async fn lower_count(files: &Files, found: &Inspection) -> Result<(), FarmError> {
    if found.header_count > found.count {
        write_count(files, found.count).await?;
    }
    Ok(())
}

async fn write_count(files: &Files, count: u16) -> Result<(), FarmError> {
    files.write_count(CLASS, count).await?;
    Ok(files.sync_metadata(CLASS).await?)
}

/// Opens the notes of what is being written, and takes back what is said of a sector that `plot.bin` does not hold: once it has grown back, zeroes
/// lie there.
async fn open_progress(files: &Files, begun: &mut Begun) -> Result<Progress, FarmError> {
    let open = |dir: &Path, taken: &mut Taken| {
        let path = dir.join(PROGRESS_FILE);
        if !path.exists() {
            taken.undo.made(&path);
        }
        Ok(Progress::open_file(dir))
    };
    let file = begun.apart(open).await?;
    let progress = Progress::open(&files.disk, &files.pool, file, begun.info().id.to_bytes()).await;
    let (layout, file_bytes) = (files.layout, files.disk.size_bytes(CLASS, files.plot_file()).await?);
    let is_lost = move |sector| layout.sector_offset(sector) + layout.sector_bytes() > file_bytes;
    progress.forget(is_lost).await?;
    Ok(progress)
}

/// What the farm is to be, and the size to note for it. It stays as it is when the size is the one that is noted, whoever
/// noted it, or when it has as many sectors as are asked for.
fn plan(dir: &Path, info: &FarmInfo, size: FarmSize) -> Result<(Layout, u64), FarmError> {
    let there = found_layout(dir, info)?;
    let stays = match size {
        FarmSize::Allocated(bytes) => bytes == info.allocated_bytes,
        FarmSize::Sectors(sectors) => sectors == there.sectors(),
    };
    if stays {
        return Ok((there, info.allocated_bytes));
    }
    Ok((Layout::new(info.pieces_in_sector, size)?, size.allocated_bytes(info.pieces_in_sector)))
}

/// The layout that the files have.
pub(super) fn found_layout(dir: &Path, info: &FarmInfo) -> Result<Layout, FarmError> {
    let bytes = |name| {
        let path = dir.join(name);
        // A pipe has a size, too.
        if path.exists() {
            check_regular(&path)?;
        }
        size(&path)
    };
    let (metadata, plot) = (bytes(METADATA_FILE)?, bytes(PLOT_FILE)?);
    Layout::found(info.pieces_in_sector, info.allocated_bytes, metadata, plot)
}

/// Errs when the records are of sectors of another number of pieces than `single_disk_farm.json` says: all of them would be marked.
fn check_pieces(dir: &Path, found: &Inspection) -> Result<(), FarmError> {
    let is_plotted = |sector: &Sector| matches!(sector.state, State::Plotted { .. });
    let others = found.faults.iter().find_map(|(_, fault)| match fault {
        SectorFault::Record(RecordFault::OtherPieces(pieces)) => Some(pieces),
        _ => None,
    });
    match others {
        Some(pieces) if !found.sectors.iter().any(is_plotted) => Err(FarmError::Info {
            path: dir.join(INFO_FILE),
            reason: format!(
                "its piecesInSector is not that of the farm's sectors, which have {pieces} pieces"
            ),
        }),
        _ => Ok(()),
    }
}

/// Says how many plotted sectors a smaller size costs, before they go; errs if they may not.
async fn tell_loss(dir: &Path, files: &Files, config: &FarmConfig) -> Result<(), FarmError> {
    let metadata_bytes = files.disk.size_bytes(CLASS, files.metadata.file()).await?;
    let is_there = |sector: &u16| files.layout.record_offset(*sector + 1) <= metadata_bytes;
    // One that is not counted may be there, too.
    let beyond = (files.layout.sectors()..MAX_SECTORS).take_while(is_there);
    let parts = Parts::new(&files.pool, RECORD_PART_BYTES);
    let mut plotted = 0;
    for sector in beyond {
        let record = files.read_record(CLASS, sector, &parts).await;
        // What the disk does not give may be plotted.
        plotted += u32::from(match record {
            Ok(Ok(record)) => !is_expired(&record),
            // A damaged record may be one of a whole sector, which can be made anew; where nothing was ever written, all is zeroes.
            Ok(Err(wrong)) => !wrong.is_zeroes,
            Err(_) => true,
        });
    }
    if plotted > 0 && !config.may_shrink {
        return Err(FarmError::WouldShrink { dir: dir.to_owned(), size: config.size, plotted });
    }
    if plotted > 0 {
        let sectors = files.layout.sectors();
        let dir = dir.display();
        tracing::warn!(%dir, sectors, plotted, "the farm is made smaller: plotted sectors beyond its size are given up");
    }
    Ok(())
}

/// Says that the network's farmer has left something that takes space.
fn tell_cache(dir: &Path) -> Result<(), FarmError> {
    let path = dir.join(PIECE_CACHE_FILE);
    let bytes = size(&path)?;
    if bytes > 0 {
        let (path, dir) = (path.display(), dir.display());
        tracing::info!(
            "{path}: {bytes} bytes of the network's farmer, left as they are; `autonomys-farmer wipe --cache {dir}` gives the space back"
        );
    }
    Ok(())
}
