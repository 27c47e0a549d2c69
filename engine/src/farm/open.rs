//! Making and opening a farm, with what can be put right put right (PROTOCOL 7).

use super::files::Files;
use super::gather::Measured;
use super::info::Opened;
use super::inspect::{Inspection, inspect};
use super::{Farm, FarmConfig, FarmError, INFO_FILE, Inner, Layout, METADATA_FILE, PLOT_FILE, SectorFault};
use crate::BLOCK_BYTES;
use crate::disk::{Class, Disk};
use crate::error::{Action, IoError};
use crate::file::{Access, DirectFile};
use crate::pool::SlabMut;
use consensus::sector::public_key_hash;
use futures::lock::Mutex;
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

/// What opening a farm found and did. All sector lists ascend.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// Sectors with something wrong: they are marked for replotting (unless the farm was only looked at).
    pub faults: Vec<(u16, SectorFault)>,
    /// Whole sectors that the header did not count: it does now.
    pub adopted: Vec<u16>,
    /// Counted sectors beyond the farm's space: they are gone.
    pub dropped: u16,
}

/// Class of the reads and writes at opening: nobody farms this farm yet, but others on the disk may.
const CLASS: Class = Class::Serving;

impl Farm {
    /// Opens the farm in `dir`, making directory and farm if there is none. `scratch` is
    /// [`super::FARM_SCRATCH_BYTES`] of memory that starts at a block, kept as long as the farm is open. Blocks the executor
    /// while the system makes or resizes files.
    pub async fn open(
        disk: Disk,
        scratch: SlabMut,
        dir: &Path,
        config: &FarmConfig,
    ) -> Result<(Self, OpenReport), FarmError> {
        let mut opened = Opened::or_create(dir, config)?;
        let allocated = config.size.allocated_bytes(opened.info.pieces_in_sector);
        let layout = Layout::new(opened.info.pieces_in_sector, allocated)?;
        ensure_files(dir, &layout)?;
        let files = Files::open(disk, scratch, dir, layout, Access::ReadWrite)?;
        grow(files.metadata.file(), layout.metadata_bytes())?;
        let found = inspect(&files, CLASS).await?;
        repair(&files, &found).await?;
        grow(files.plot_file(), layout.plot_bytes())?;
        if opened.info.allocated_bytes != allocated {
            opened.set_allocated(dir, allocated)?;
        }
        shrink(files.plot_file(), layout.plot_bytes())?;
        shrink(files.metadata.file(), layout.metadata_bytes())?;
        Ok(Self::of(dir, opened, files, found))
    }

    /// Opens the farm in `dir` as it is, whatever its network and size. For reading only, nothing on disk changes, and
    /// faults are only reported.
    pub async fn open_existing(
        disk: Disk,
        scratch: SlabMut,
        dir: &Path,
        access: Access,
    ) -> Result<(Self, OpenReport), FarmError> {
        Self::open_as_it_is(disk, scratch, dir, Opened::existing(dir)?, access).await
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
        Self::open_as_it_is(disk, scratch, dir, Opened::to_look(dir)?, access).await
    }

    async fn open_as_it_is(
        disk: Disk,
        scratch: SlabMut,
        dir: &Path,
        opened: Opened,
        access: Access,
    ) -> Result<(Self, OpenReport), FarmError> {
        let layout = Layout::new(opened.info.pieces_in_sector, opened.info.allocated_bytes)?;
        check_files(dir)?;
        let files = Files::open(disk, scratch, dir, layout, access)?;
        if access == Access::ReadWrite {
            grow(files.metadata.file(), layout.metadata_bytes())?;
        }
        let found = inspect(&files, CLASS).await?;
        if access == Access::ReadWrite {
            repair(&files, &found).await?;
            grow(files.plot_file(), layout.plot_bytes())?;
        }
        Ok(Self::of(dir, opened, files, found))
    }

    fn of(dir: &Path, opened: Opened, files: Files, found: Inspection) -> (Self, OpenReport) {
        let report = OpenReport {
            faults: found.faults,
            adopted: (found.header_count..found.count).collect(),
            dropped: found.header_count.saturating_sub(found.count),
        };
        let Opened { info, identity, lock } = opened;
        let inner = Inner {
            dir: dir.to_owned(),
            key_hash: public_key_hash(&identity.public_key()),
            info,
            identity,
            files,
            sectors: RefCell::new(found.sectors),
            count: Cell::new(found.count),
            commit: Mutex::new(()),
            read_cost: Measured::default(),
            lock,
        };
        (Self(Rc::new(inner)), report)
    }
}

/// Marks what is faulty before `plot.bin` can grow back over it, and puts the count right.
async fn repair(files: &Files, found: &Inspection) -> Result<(), FarmError> {
    for &(sector, _) in &found.faults {
        files.write_mark(CLASS, sector).await?;
    }
    if found.header_count != found.count {
        files.write_count(CLASS, found.count).await?;
    }
    if !found.faults.is_empty() || found.header_count != found.count {
        files.sync_metadata(CLASS).await?;
    }
    Ok(())
}

/// Sees that both files are there, and makes them if the farm is new. The metadata comes first: without it, nothing is
/// known of the plot.
fn ensure_files(dir: &Path, layout: &Layout) -> Result<(), FarmError> {
    let (metadata, plot) = (dir.join(METADATA_FILE), dir.join(PLOT_FILE));
    let is_new = size(&plot)? == 0 && (size(&metadata)? == 0 || counted(&metadata)? == 0);
    if is_new {
        make(&metadata, layout.metadata_bytes())?;
        if let Err(error) = make(&plot, layout.plot_bytes()) {
            // It counts no sector, and takes the space that a smaller farm may need.
            let _ = fs::remove_file(&metadata);
            return Err(error.into());
        }
    }
    check_files(dir)
}

/// Errs if one of the files is missing, or so short that nothing can be said of the farm.
fn check_files(dir: &Path) -> Result<(), FarmError> {
    let (metadata, plot) = (dir.join(METADATA_FILE), dir.join(PLOT_FILE));
    if size(&metadata)? < BLOCK_BYTES as u64 {
        let (path, other) = (metadata, if size(&plot)? > 0 { PLOT_FILE } else { INFO_FILE });
        let advice = "restore it from a backup; without it the sectors are lost: then delete plot.bin too to plot anew";
        return Err(FarmError::Missing { path, other, advice });
    }
    if size(&plot)? == 0 {
        let advice = "restore it from a backup; without it the sectors are lost: then delete metadata.bin too to plot anew";
        return Err(FarmError::Missing { path: plot, other: METADATA_FILE, advice });
    }
    Ok(())
}

/// A file of this size, which may be there already from a start that was broken off.
fn make(path: &Path, bytes: u64) -> Result<(), IoError> {
    if path.exists() {
        return DirectFile::open(path, Access::ReadWrite)?.set_size(bytes);
    }
    DirectFile::create(path, bytes).map(drop)
}

fn grow(file: &DirectFile, bytes: u64) -> Result<(), IoError> {
    if file.size_bytes()? < bytes { file.set_size(bytes) } else { Ok(()) }
}

fn shrink(file: &DirectFile, bytes: u64) -> Result<(), IoError> {
    if file.size_bytes()? > bytes { file.set_size(bytes) } else { Ok(()) }
}

/// Bytes of a file, none if it is missing.
fn size(path: &Path) -> Result<u64, IoError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(IoError::open(path, error)),
    }
}

/// Sectors that the header counts.
fn counted(metadata: &Path) -> Result<u16, IoError> {
    let mut header = [0; super::files::HEADER_BYTES];
    let file = File::open(metadata).map_err(|error| IoError::open(metadata, error))?;
    file.read_exact_at(&mut header, 0)
        .map_err(|error| IoError::refused(Action::Read, metadata, 0, header.len() as u64, error))?;
    Ok(u16::from_le_bytes([header[1], header[2]]))
}
