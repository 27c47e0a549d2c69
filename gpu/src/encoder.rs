//! Encoding sectors: what roles ask for and every backend gives.

use crate::{EncoderStats, FinishError, FinishedSector};
use async_trait::async_trait;
use consensus::constants::{MAX_PIECES_IN_SECTOR, RECORD_CHUNKS, RECORD_SIZE};
use consensus::kzg::PointBytes;
use consensus::sector::{SectorId, public_key_hash};
use engine::pool::{AcquireError, Slab};
use tokio::sync::OwnedSemaphorePermit;

/// Which sector is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectorPlan {
    /// sr25519 public key of the farm.
    pub public_key: [u8; 32],
    /// Sector within the farm.
    pub sector_index: u16,
    /// Segments of history that its pieces are drawn from, at least 1.
    pub history_size: u64,
    /// Pieces, 1 to [`MAX_PIECES_IN_SECTOR`].
    pub pieces_in_sector: u16,
}

impl SectorPlan {
    /// What all seeds of the sector follow from.
    pub fn sector_id(&self) -> SectorId {
        SectorId::new(&public_key_hash(&self.public_key), self.sector_index, self.history_size)
    }

    /// Whether such a sector can be.
    pub(crate) fn check(&self) -> Result<(), BeginError> {
        if self.pieces_in_sector == 0 || self.pieces_in_sector > MAX_PIECES_IN_SECTOR {
            return Err(BeginError::Pieces(self.pieces_in_sector));
        }
        if self.history_size == 0 { Err(BeginError::EmptyHistory) } else { Ok(()) }
    }
}

/// Leave to hold the slabs of one piece on its way into a sector; to be had before they are filled.
#[derive(Debug)]
pub struct Credit(#[allow(dead_code, reason = "held, not used")] pub(crate) OwnedSemaphorePermit);

/// A piece on its way into a sector.
#[derive(Debug)]
pub struct PieceToEncode {
    /// Its place in the sector.
    pub piece_offset: u16,
    /// Its record: 1 MiB on a 4096 boundary, in the pool that the encoder was made with. Let go as soon as it is of no more use: by the CPU when
    /// it was copied to the session's own memory, by a device when the record is encoded there.
    pub record: Slab,
    /// Its parity chunks, which must be those of the record, in such memory as the record: it is not extended then. Only for an encoder that
    /// was made for them.
    pub parity: Option<Slab>,
    /// Leave to hold these slabs, given back together with them.
    pub credit: Credit,
    /// Its record commitment.
    pub commitment: PointBytes,
    /// Its record witness.
    pub witness: PointBytes,
    /// BLAKE3 of the whole piece, from whoever verified it: the parts above must hash to it.
    pub hash: [u8; 32],
}

/// Makes sectors, several at a time.
#[async_trait]
pub trait SectorEncoder: Send + Sync {
    /// Opens a session for one sector. Waits, in order of asking, until the memory of the whole session can be promised, so
    /// that sessions never wait for each other half way. Dropping the future gives the place up.
    async fn begin(&self, plan: SectorPlan) -> Result<Box<dyn EncodingSession>, BeginError>;

    /// Numbers for metrics.
    fn stats(&self) -> EncoderStats;
}

/// One sector in the making. Many tasks may share it by reference. Dropping it without [`Self::finish`] is
/// [`Self::cancel`] without the wait.
#[async_trait]
pub trait EncodingSession: Send + Sync {
    /// Waits for leave to bring one more piece. There are as many credits as keep the backend busy; this is what holds back
    /// whoever fetches pieces.
    async fn credit(&self) -> Credit;

    /// Hands a piece over, in any order, and waits until it is part of the sector. After an error the place is free and the piece can
    /// be submitted again. Dropping the future does not take back a piece that waits for a worker already.
    async fn submit(&self, piece: PieceToEncode) -> Result<(), PieceError>;

    /// Waits for the pieces under way and begins to put the sector together. All pieces must have been submitted.
    async fn finish(self: Box<Self>) -> Result<FinishedSector, FinishError>;

    /// Drops what is queued at once, waits for what is being worked on; then all memory is back in the pool.
    async fn cancel(self: Box<Self>);
}

/// Why a session cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// No sector has so many pieces.
    #[error("a sector of {0} pieces cannot be: between 1 and {MAX_PIECES_IN_SECTOR} are possible")]
    Pieces(u16),
    /// History has at least one segment.
    #[error("a sector cannot be plotted at a history size of zero")]
    EmptyHistory,
    /// The sector alone is over the limit.
    #[error(
        "a sector of {pieces_in_sector} pieces needs {needed} buffers of 2 MiB, and plotting may use {limit}: \
         raise its memory limit or make farms with fewer pieces in a sector"
    )]
    Memory {
        /// Pieces of the sector.
        pieces_in_sector: u16,
        /// Slabs that it takes.
        needed: usize,
        /// Slabs that the encoder may use.
        limit: usize,
    },
    /// More pieces than the memory on devices was planned for.
    #[error(
        "a sector of {pieces_in_sector} pieces does not fit the GPUs' memory, which was planned for {limit}"
    )]
    DeviceMemory {
        /// Pieces of the sector.
        pieces_in_sector: u16,
        /// Most pieces of a sector.
        limit: u16,
    },
    /// No device is left.
    #[error(
        "every GPU is out of service (the log says why): restart the process once they work again, or plot with the CPU"
    )]
    OutOfService,
    /// The encoder shuts down.
    #[error("the encoder is shutting down")]
    Stopped,
}

/// Why a piece did not become part of its sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// The sector has no such place.
    #[error("piece {piece_offset} is outside of the sector, which has {pieces_in_sector}")]
    Offset {
        /// Place of the piece.
        piece_offset: u16,
        /// Pieces of the sector.
        pieces_in_sector: u16,
    },
    /// It was submitted before and not refused.
    #[error("piece {piece_offset} of the sector was submitted before")]
    Duplicate {
        /// Place of the piece.
        piece_offset: u16,
    },
    /// The record does not lie as all backends need it.
    #[error("the record of piece {piece_offset} is not {RECORD_SIZE} bytes on a 4096 boundary of memory")]
    Record {
        /// Place of the piece.
        piece_offset: u16,
    },
    /// The parity chunks are not those of the record.
    #[error(
        "the parity that came with piece {piece_offset} of the sector is not that of its record: do without"
    )]
    Parity {
        /// Place of the piece.
        piece_offset: u16,
    },
    /// No memory to keep the record.
    #[error("no buffer for piece {piece_offset} of the sector: {source}")]
    Pool {
        /// Place of the piece.
        piece_offset: u16,
        /// What the pool says.
        source: AcquireError,
    },
    /// The bytes are not those of the piece.
    #[error("piece {piece_offset} of the sector is damaged (BLAKE3 mismatch): fetch it again")]
    Hash {
        /// Place of the piece.
        piece_offset: u16,
    },
    /// A chunk of the record is no scalar: whoever verified the piece should not have accepted it.
    #[error(
        "piece {piece_offset} of the sector is not valid (invalid scalar in chunk {chunk} of {RECORD_CHUNKS})"
    )]
    InvalidScalar {
        /// Place of the piece.
        piece_offset: u16,
        /// The first such chunk.
        chunk: usize,
    },
    /// The encoder shuts down, or lost the piece to a fault of its own (which is in the log).
    #[error("piece {piece_offset} of the sector was dropped by the encoder")]
    Dropped {
        /// Place of the piece.
        piece_offset: u16,
    },
}
