//! What can go wrong with a farm, said so that the operator knows what to do.

use super::format::{FarmSize, MAX_SECTORS};
use crate::error::IoError;
use crate::pool::AcquireError;
use consensus::constants::MAX_PIECES_IN_SECTOR;
use consensus::identity::IdentityError;
use consensus::sector::{ContentsMapError, SectorMetadataError};
use std::path::PathBuf;

/// Why a farm cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    /// A file could not be opened, locked, read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Reading or writing metadata failed.
    #[error(transparent)]
    Sector(#[from] SectorError),
    /// The system has no random numbers.
    #[error("cannot make a new identity: the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// A file that must be there is not, while others of the farm are.
    #[error("{}: missing or empty although {other} is there: {advice}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Another file of the farm.
        other: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// There is no farm in the directory.
    #[error("{}: not found: there is no farm in this directory", path.display())]
    NoFarm {
        /// Its `single_disk_farm.json`.
        path: PathBuf,
    },
    /// `single_disk_farm.json` is not what it should be.
    #[error(
        "{}: damaged, or of a newer release: {reason}; restore it from a backup, or use that release (the farm's sectors are \
         still there)", path.display()
    )]
    Info {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// `identity.bin` is not what it should be.
    #[error("{}: {source}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: IdentityError,
    },
    /// The identity is of another farm, or damaged.
    #[error(
        "{}: its public key is {identity}, but single_disk_farm.json names {info}: one of the two files is damaged or of \
         another farm; restore it from a backup", path.display()
    )]
    OtherIdentity {
        /// The identity file.
        path: PathBuf,
        /// Public key of the identity, hex.
        identity: String,
        /// Public key in the JSON file, hex.
        info: String,
    },
    /// The farm was plotted for another network.
    #[error(
        "{}: this farm belongs to the network with genesis {farm}, but the node is of genesis {chain}: connect to the right \
         node, or use another directory", path.display()
    )]
    OtherGenesis {
        /// The JSON file.
        path: PathBuf,
        /// Genesis hash of the farm, hex.
        farm: String,
        /// Genesis hash of the chain, hex.
        chain: String,
    },
    /// The farm's sectors are larger than the chain allows.
    #[error(
        "{}: this farm has {farm} pieces in a sector, but the chain allows at most {chain}: use another directory to plot anew",
        path.display()
    )]
    MorePieces {
        /// The JSON file.
        path: PathBuf,
        /// Pieces in each of the farm's sectors.
        farm: u16,
        /// The chain's maximum.
        chain: u16,
    },
    /// No such sectors.
    #[error(
        "{pieces_in_sector} pieces in a sector are not possible: between 1 and {MAX_PIECES_IN_SECTOR} are"
    )]
    PiecesInSector {
        /// As asked.
        pieces_in_sector: u16,
    },
    /// Not even one sector fits.
    #[error(
        "{size} holds not one sector of {pieces_in_sector} pieces: give at least size={least_bytes}, or sectors=1"
    )]
    TooSmall {
        /// As asked.
        size: FarmSize,
        /// Pieces in each sector of the farm.
        pieces_in_sector: u16,
        /// Space that holds one.
        least_bytes: u64,
    },
    /// More sectors than a farm can number.
    #[error(
        "{size} is {sectors} sectors, and a farm has at most {MAX_SECTORS}: give at most size={most_bytes}, and the rest of the \
         disk to further farms in directories of their own"
    )]
    TooLarge {
        /// As asked.
        size: FarmSize,
        /// Sectors that would be.
        sectors: u64,
        /// Space of the largest farm.
        most_bytes: u64,
    },
    /// A smaller size would cost plotted sectors, and nobody said that they may go.
    #[error(
        "{}: {size} has no room for {plotted} plotted sectors of this farm, which would be lost: give the size that it had, or, if \
         they may go, shrink=yes beside this one (path={},{size},shrink=yes)", dir.display(), dir.display()
    )]
    WouldShrink {
        /// The farm's directory.
        dir: PathBuf,
        /// As asked.
        size: FarmSize,
        /// Plotted sectors beyond it, and those of which the disk does not give the record.
        plotted: u32,
    },
    /// The disk is full while the network's farmer has left a piece cache there.
    #[error(
        "{source}; or have the {cache_bytes} bytes of {} back, which the network's farmer has left: autonomys-farmer wipe \
         --cache {}", cache.display(), dir.display()
    )]
    FullBesideCache {
        /// The disk's word.
        source: Box<IoError>,
        /// `piece_cache.bin`.
        cache: PathBuf,
        /// Its size.
        cache_bytes: u64,
        /// The farm's directory.
        dir: PathBuf,
    },
    /// The file system has no locks, so nobody can tell whether the farm is in use.
    #[error(
        "{}: this file system has no locks ({source}), without which two processes could use one farm: mount it with locks (NFS: \
         with its lock service, or local_lock=flock), or use another disk", path.display()
    )]
    NoLocks {
        /// The file to be locked.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// `metadata.bin` is of a format this version does not know.
    #[error(
        "{}: version {version}, but only version 0 is known: the file is damaged, or of a newer release; restore it from a \
         backup, or use that release", path.display()
    )]
    MetadataVersion {
        /// The file.
        path: PathBuf,
        /// As found.
        version: u8,
    },
}

/// Why a sector cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SectorError {
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// No memory to read into.
    #[error("{0}; give more buffer memory")]
    Buffers(#[from] AcquireError),
    /// The farm has no such sector.
    #[error("the farm has {sectors} sectors, there is no sector {sector}")]
    NoSuchSector {
        /// As asked.
        sector: u16,
        /// Sectors of the farm.
        sectors: u16,
    },
    /// Nothing is stored there, or what is there waits for replotting.
    #[error("sector {sector} is not plotted")]
    NotPlotted {
        /// The sector.
        sector: u16,
    },
    /// The disk did not give its record: nothing is known of it.
    #[error(
        "sector {sector}: the disk did not give its metadata record; it is left as it is, and looked at again"
    )]
    Unreadable {
        /// The sector.
        sector: u16,
    },
    /// The sector is being replaced, or was while it was read.
    #[error("sector {sector} is being written")]
    BeingWritten {
        /// The sector.
        sector: u16,
    },
    /// Sectors have fewer records.
    #[error("sectors of this farm have {pieces_in_sector} records, there is no record {piece_offset}")]
    NoSuchRecord {
        /// As asked.
        piece_offset: u16,
        /// Records of a sector.
        pieces_in_sector: u16,
    },
    /// A range does not lie in the sector.
    #[error("{bytes} bytes at {offset} do not lie in a sector of {sector_bytes} bytes")]
    Range {
        /// Offset in the sector.
        offset: u64,
        /// Bytes.
        bytes: u64,
        /// Bytes of a sector.
        sector_bytes: u64,
    },
    /// The contents map is damaged.
    #[error("sector {sector}: {source}")]
    ContentsMap {
        /// The sector.
        sector: u16,
        /// What is wrong.
        source: ContentsMapError,
    },
    /// What was written, or came to be, is not what should have been.
    #[error("sector {sector}: its bytes have another checksum than they should; it must be fetched again")]
    Checksum {
        /// The sector.
        sector: u16,
    },
    /// Making bytes of the farm durable failed while it was written.
    #[error(
        "sector {sector}: the disk once failed to make it durable, so that some of it may be lost; it must be fetched again"
    )]
    Unsure {
        /// The sector.
        sector: u16,
    },
    /// Contents map and metadata, or metadata and farm, do not belong together.
    #[error("sector {sector}: {source}")]
    Metadata {
        /// The sector.
        sector: u16,
        /// What is wrong.
        source: RecordFault,
    },
}

/// What is wrong with the metadata record of a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// It does not decode.
    #[error(transparent)]
    Undecodable(#[from] SectorMetadataError),
    /// It is of another sector.
    #[error("its metadata is that of sector {0}")]
    OtherSector(u16),
    /// It is of another kind of sector.
    #[error("its metadata is of a sector of {0} pieces")]
    OtherPieces(u16),
    /// Its s-buckets do not hold as many chunks as the sector.
    #[error("its metadata counts {0} chunks")]
    Chunks(u32),
    /// An s-bucket has more chunks than the sector has records.
    #[error("its metadata gives s-bucket {0} more chunks than the sector has records")]
    TooManyChunks(u16),
    /// The s-buckets from this one on, 256 of them, hold another number of chunks than when the record was read whole.
    #[error("its metadata has changed on disk at s-bucket {0} and the 255 after it")]
    Group(u16),
    /// They differ from the contents map.
    #[error("its metadata and contents map differ at s-bucket {0}")]
    SBucketSize(u16),
}

/// What is wrong with a sector whose bytes were read, or surely are not there: it must be plotted again. What a disk refuses to give is
/// none, but a [`SectorError`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SectorFault {
    /// The metadata record is damaged or of another sector.
    #[error("{0}")]
    Record(#[from] RecordFault),
    /// `metadata.bin` was cut off.
    #[error("metadata.bin has only {file_bytes} bytes and ends before the sector's record does")]
    RecordCutOff {
        /// Bytes of the file.
        file_bytes: u64,
    },
    /// `plot.bin` was cut off.
    #[error("plot.bin has only {file_bytes} bytes and ends before the sector does")]
    CutOff {
        /// Bytes of the file.
        file_bytes: u64,
    },
    /// Its bytes are damaged.
    #[error("checksum mismatch")]
    Checksum,
    /// Its contents map is damaged.
    #[error("{0}")]
    ContentsMap(#[from] ContentsMapError),
}

/// Sectors that the disk did not give. What was refused says something of the disk: the sectors may be whole, and nothing about them
/// is changed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Which, ascending.
    pub sectors: Vec<u16>,
    /// What the disk said of the first.
    pub error: Option<String>,
}

impl Unreadable {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sectors.is_empty()
    }

    pub(super) fn add(&mut self, sector: u16, error: &SectorError) {
        self.sectors.push(sector);
        self.error.get_or_insert_with(|| error.to_string());
    }
}
