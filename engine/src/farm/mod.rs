//! A farm: the directory on one disk that holds plotted sectors, byte-compatible with the network's own farmer (PROTOCOL 7).
//!
//! ```text
//!   single_disk_farm.json   who it is, how much space it has; locked while in use
//!   identity.bin            entropy of its key: made once, never overwritten
//!   metadata.bin            version u8, count u16 LE │ to 1 MiB │ record of sector 0, 131 116 B │ record of sector 1 │ ...
//!   plot.bin                sector 0 │ sector 1 │ ...            each n x 1 056 896 + 64 B, aligned to nothing
//!   writing.bin             only ours: which ranges of the sector that is being written are there already
//!   disk_depth.bin          only ours: how many reads at once its disk is worth
//! ```
//!
//! A sector is replaced in this order, each step durable before the next: its old record is marked for replotting; its bytes;
//! the checksum of what was written is compared; its new record; the count, if it is new. So a crash at any point leaves
//! the old sector, a marked one, or the new sector, and never bytes of two sectors under one valid record.
//!
//! A farm is made smaller in this order: its new size is noted; what is noted of sectors that go; the count; their records; their bytes.
//! So until its size is noted it is the old one, with all of its sectors, and from then on the smaller one.
//!
//! What the disk does not give says something of the disk, and nothing of the sector: one whose record cannot be read is neither
//! farmed nor plotted over nor marked, and looked at again. Only what was read and is wrong is marked. And a wrong record says nothing of
//! the sector's bytes: where these are whole it is made anew of them, and only where they are not it becomes a mark.
//!
//! A sector marked for replotting has a record of zero s-bucket sizes and history size 1, which the network's farmer too
//! takes for expired.
//!
//! Owns: the files, and of every sector where its s-buckets lie, as [`AuditMemory`] says. Never: what to plot when, or when a sector expires.

mod again;
mod begun;
mod blocks;
mod depth;
mod error;
mod files;
mod format;
mod gather;
mod heal;
mod info;
mod inspect;
mod layout;
mod making;
mod map_bytes;
mod open;
mod progress;
mod read;
mod rebuild;
mod scrub;
mod sector_hash;
mod sizes;
mod state;
mod survey;
mod undo;
mod wipe;
mod write;

#[cfg(test)]
mod tests;

pub use self::again::LookedAgain;
pub use self::error::{FarmError, RecordFault, SectorError, SectorFault, Unreadable};
pub use self::files::FARM_SCRATCH_BYTES;
pub use self::format::{
    DEPTH_FILE, FarmSize, IDENTITY_FILE, INFO_FILE, MAX_SECTORS, METADATA_FILE, PIECE_CACHE_FILE, PLOT_FILE,
};
pub use self::gather::ReadCost;
pub use self::heal::{Damage, Mended};
pub use self::info::{FarmConfig, FarmInfo};
pub use self::layout::{FIXED_BYTES, Layout, METADATA_RESERVED_BYTES, size_for_network};
pub use self::open::OpenReport;
pub use self::progress::{MAX_PROGRESS_BYTES, PROGRESS_FILE};
pub use self::read::{RecordReads, SBucket, StoredRecord, s_bucket_buf_bytes};
pub use self::rebuild::{EncodedRecord, Rebuild, RebuildLook};
pub use self::scrub::{Depth, Finding, ScrubOptions, ScrubProgress, ScrubReport, Target, scrub};
pub use self::sizes::{AuditMemory, SBucketSizes};
pub use self::survey::{Elements, SectorCounts, Survey};
pub use self::wipe::{wipe, wipe_cache};
pub use self::write::SectorWriter;

use self::sizes::{Place, Sizes};
use self::state::{Sector, State};
use crate::file::DirectFile;
use consensus::identity::Identity;
use consensus::sector::SectorId;
use futures::lock::Mutex;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// What a farm has at a place for a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectorStatus {
    /// Never plotted.
    NotPlotted,
    /// Marked for replotting.
    Expired,
    /// The disk did not give its record: it may be whole. Left alone until [`Farm::look_again`] knows more.
    Unreadable,
    /// Its record is wrong, its bytes may be whole. Left alone until [`Farm::heal`] has looked.
    Doubtful,
    /// Being written: neither the old nor the new one can be read.
    BeingWritten,
    /// There.
    Plotted {
        /// Segments of history when it was plotted.
        history_size: u64,
    },
}

/// An open farm on its disk's executor; clones are handles to the same one.
#[derive(Clone)]
pub struct Farm(Rc<Inner>);

struct Inner {
    dir: PathBuf,
    info: FarmInfo,
    identity: Identity,
    key_hash: [u8; 32],
    files: files::Files,
    sectors: RefCell<Vec<Sector>>,
    /// Sectors that the header of `metadata.bin` counts.
    count: Cell<u16>,
    /// Held while records and header change.
    commit: Mutex<()>,
    progress: progress::Progress,
    /// Held while bytes of `plot.bin` are made durable.
    syncing: Mutex<()>,
    /// Times that making bytes of `plot.bin` durable has failed.
    failed_syncs: Cell<u64>,
    /// Sectors of which no record could be made although they are whole, and the generation that they had.
    left: RefCell<HashMap<u16, u32>>,
    /// Of the device that `plot.bin` is on.
    read_cost: gather::Measured,
    lock: info::Lock,
}

impl Farm {
    /// Its name in the cluster, its network, its size.
    pub fn info(&self) -> &FarmInfo {
        &self.0.info
    }

    /// Its key.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Where its sectors lie.
    pub fn layout(&self) -> &Layout {
        &self.0.files.layout
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The file whose lock keeps others out.
    pub fn lock_path(&self) -> &Path {
        self.lock_file().path()
    }

    /// The same, open: others are kept out as long as this is held, and as long as the kernel works on the farm's large files.
    pub fn lock_file(&self) -> &Arc<DirectFile> {
        self.0.lock.file()
    }

    /// Whether another process has it: what was opened to be looked at then changes under the eyes of who looks.
    pub fn is_in_use(&self) -> bool {
        self.0.lock.is_in_use()
    }

    /// Sectors that the farm counts, whatever their state: the first so many.
    pub fn count(&self) -> u16 {
        self.0.count.get()
    }

    /// What there is of a sector; `NotPlotted` too where the farm has no such sector.
    pub fn status(&self, sector: u16) -> SectorStatus {
        match self.0.sectors.borrow().get(usize::from(sector)) {
            Some(Sector { being_written: true, .. }) => SectorStatus::BeingWritten,
            Some(Sector { state: State::Plotted { history_size, .. }, .. }) => {
                SectorStatus::Plotted { history_size: *history_size }
            }
            Some(Sector { state: State::Expired, .. }) => SectorStatus::Expired,
            Some(Sector { state: State::Unreadable, .. }) => SectorStatus::Unreadable,
            Some(Sector { state: State::Doubtful { .. }, .. }) => SectorStatus::Doubtful,
            Some(Sector { state: State::NotPlotted, .. }) | None => SectorStatus::NotPlotted,
        }
    }

    /// Status of every sector, in order.
    pub fn statuses(&self) -> Vec<SectorStatus> {
        (0..self.layout().sectors()).map(|sector| self.status(sector)).collect()
    }

    /// What identifies a sector of this farm when plotted at a history size.
    pub fn sector_id(&self, sector: u16, history_size: u64) -> SectorId {
        SectorId::new(&self.0.key_hash, sector, history_size)
    }

    /// Bytes of memory that are held for its sectors.
    pub fn memory_bytes(&self) -> usize {
        let sectors = self.0.sectors.borrow();
        size_of_val(&sectors[..]) + sectors.iter().map(Sector::heap_bytes).sum::<usize>()
    }

    /// History size and generation of a sector that can be read.
    fn plotted(&self, sector: u16) -> Result<(u64, u32), SectorError> {
        self.look(sector, |history_size, _| history_size)
    }

    /// Where an s-bucket of a sector that can be read is, as far as that is in memory, and the sector's generation.
    fn place(&self, sector: u16, s_bucket: u16) -> Result<(Place, u32), SectorError> {
        self.look(sector, |_, sizes| sizes.place(s_bucket))
    }

    /// What `look` makes of history size and sizes of a sector that can be read, and its generation.
    fn look<T>(&self, sector: u16, look: impl FnOnce(u64, &Sizes) -> T) -> Result<(T, u32), SectorError> {
        let sectors = self.0.sectors.borrow();
        let slot = sectors.get(usize::from(sector)).ok_or(SectorError::NotPlotted { sector })?;
        match &slot.state {
            _ if slot.being_written => Err(SectorError::BeingWritten { sector }),
            State::Plotted { history_size, sizes } => Ok((look(*history_size, sizes), slot.generation)),
            State::Unreadable => Err(SectorError::Unreadable { sector }),
            _ => Err(SectorError::NotPlotted { sector }),
        }
    }

    /// Errs if the sector has changed since [`Farm::plotted`] told its generation: what was read may be of two sectors.
    fn check_unchanged(&self, sector: u16, generation: u32) -> Result<(), SectorError> {
        match self.plotted(sector) {
            Ok((_, now)) if now == generation => Ok(()),
            _ => Err(SectorError::BeingWritten { sector }),
        }
    }
}
