//! The header block of a slot.

use super::{POINTS_AT, RECORD_AT, SLOT_BYTES};
use consensus::constants::{HASH_SIZE, PIECE_SIZE, RECORD_SIZE};

const MAGIC: [u8; 8] = *b"ASFITEM1";
/// Bytes that the header's own hash covers.
const HASHED_BYTES: usize = 72;

/// Which item of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ItemKind {
    /// Record, commitment, witness.
    Piece,
    /// The 32 768 parity chunks of its record.
    Parity,
}

impl ItemKind {
    /// Bytes of the item.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::Piece => PIECE_SIZE,
            Self::Parity => RECORD_SIZE,
        }
    }
}

/// Names an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemId {
    /// Which item of the piece.
    pub kind: ItemKind,
    /// Index of the piece in the history.
    pub index: u64,
}

impl std::fmt::Display for ItemId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            ItemKind::Piece => "piece",
            ItemKind::Parity => "parity of piece",
        };
        write!(f, "{kind} {}", self.index)
    }
}

/// What the header says of the item after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub id: ItemId,
    pub epoch: u64,
    pub blake3: [u8; HASH_SIZE],
}

/// A header was there, but is none any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DamagedHeader;

impl Header {
    /// Fills the block before the record, except for a piece's points.
    pub fn write_to(&self, slot: &mut [u8]) {
        slot[..POINTS_AT].fill(0);
        slot[..8].copy_from_slice(&MAGIC);
        slot[8] = match self.id.kind {
            ItemKind::Piece => 1,
            ItemKind::Parity => {
                slot[POINTS_AT..RECORD_AT].fill(0);
                2
            }
        };
        slot[16..24].copy_from_slice(&self.id.index.to_le_bytes());
        slot[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        let length = u32::try_from(self.id.kind.size_bytes()).expect("items are about 1 MiB");
        slot[32..36].copy_from_slice(&length.to_le_bytes());
        slot[40..HASHED_BYTES].copy_from_slice(&self.blake3);
        let hash = blake3::hash(&slot[..HASHED_BYTES]);
        slot[HASHED_BYTES..][..HASH_SIZE].copy_from_slice(hash.as_bytes());
    }

    /// Reads a header block; none where there is no magic.
    pub fn read_from(block: &[u8]) -> Result<Option<Self>, DamagedHeader> {
        if block[..8] != MAGIC {
            return Ok(None);
        }
        let hash = blake3::hash(&block[..HASHED_BYTES]);
        if hash.as_bytes() != &block[HASHED_BYTES..][..HASH_SIZE] {
            return Err(DamagedHeader);
        }
        let kind = match block[8] {
            1 => ItemKind::Piece,
            2 => ItemKind::Parity,
            _ => return Err(DamagedHeader),
        };
        let number = |at: usize| u64::from_le_bytes(*block[at..].first_chunk().expect("a block is longer"));
        let blake3 = *block[40..].first_chunk().expect("a block is longer");
        let header = Self { id: ItemId { kind, index: number(16) }, epoch: number(24), blake3 };
        let length = number(32) & u64::from(u32::MAX);
        if length == kind.size_bytes() as u64 { Ok(Some(header)) } else { Err(DamagedHeader) }
    }

    /// BLAKE3 of the item that lies in the slot, in wire order.
    pub fn hash_of_item(&self, slot: &[u8]) -> [u8; HASH_SIZE] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&slot[RECORD_AT..SLOT_BYTES]);
        if self.id.kind == ItemKind::Piece {
            hasher.update(&slot[POINTS_AT..RECORD_AT]);
        }
        hasher.finalize().into()
    }
}
