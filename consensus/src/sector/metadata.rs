//! What is kept beside a sector and at its end (PROTOCOL 5.3 and 5.4).

use crate::constants::{HASH_SIZE, POINT_SIZE, RECORD_METADATA_SIZE, S_BUCKETS, SECTOR_METADATA_SIZE};
use crate::kzg::PointBytes;
use crate::piece::PieceRef;

/// Metadata of one record, 128 bytes in the sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Commitment to the record.
    pub commitment: PointBytes,
    /// Witness that the commitment belongs to its segment.
    pub witness: PointBytes,
    /// BLAKE3 of the whole piece.
    pub piece_hash: [u8; HASH_SIZE],
}

impl RecordMetadata {
    /// Of a piece.
    pub fn of(piece: &PieceRef<'_>) -> Self {
        Self { commitment: *piece.commitment, witness: *piece.witness, piece_hash: piece.hash() }
    }

    /// Commitment, witness, hash.
    pub fn to_bytes(&self) -> [u8; RECORD_METADATA_SIZE] {
        let mut bytes = [0; RECORD_METADATA_SIZE];
        bytes[..POINT_SIZE].copy_from_slice(&self.commitment);
        bytes[POINT_SIZE..2 * POINT_SIZE].copy_from_slice(&self.witness);
        bytes[2 * POINT_SIZE..].copy_from_slice(&self.piece_hash);
        bytes
    }

    /// Commitment, witness, hash.
    pub fn from_bytes(bytes: &[u8; RECORD_METADATA_SIZE]) -> Self {
        let mut metadata =
            Self { commitment: [0; POINT_SIZE], witness: [0; POINT_SIZE], piece_hash: [0; HASH_SIZE] };
        metadata.commitment.copy_from_slice(&bytes[..POINT_SIZE]);
        metadata.witness.copy_from_slice(&bytes[POINT_SIZE..2 * POINT_SIZE]);
        metadata.piece_hash.copy_from_slice(&bytes[2 * POINT_SIZE..]);
        metadata
    }
}

/// Metadata of a sector: what a farm must know to audit it.
#[derive(Clone, PartialEq, Eq)]
pub struct SectorMetadata {
    /// Sector within the farm.
    pub sector_index: u16,
    /// Pieces in the sector.
    pub pieces_in_sector: u16,
    /// How many records use each s-bucket; 65 536 of them.
    pub s_bucket_sizes: Vec<u16>,
    /// Segments of history when the sector was plotted, at least 1.
    pub history_size: u64,
}

/// Why bytes are no sector metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SectorMetadataError {
    /// Wrong number of bytes.
    #[error("sector metadata has {0} bytes instead of {SECTOR_METADATA_SIZE}")]
    Length(usize),
    /// The checksum does not fit.
    #[error("sector metadata is damaged (checksum mismatch): the sector must be plotted again")]
    Checksum,
    /// The history size is zero.
    #[error("sector metadata has a history size of zero: the sector must be plotted again")]
    EmptyHistory,
}

impl std::fmt::Debug for SectorMetadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SectorMetadata")
            .field("sector_index", &self.sector_index)
            .field("pieces_in_sector", &self.pieces_in_sector)
            .field("history_size", &self.history_size)
            .finish_non_exhaustive()
    }
}

impl SectorMetadata {
    /// sector index u16, pieces in sector u16, 65 536 s-bucket sizes u16, history size u64, all little endian, and the hash of it all.
    pub fn encode(&self) -> Vec<u8> {
        assert_eq!(self.s_bucket_sizes.len(), S_BUCKETS, "a sector has 65536 s-buckets");
        let mut bytes = Vec::with_capacity(SECTOR_METADATA_SIZE);
        bytes.extend(self.sector_index.to_le_bytes());
        bytes.extend(self.pieces_in_sector.to_le_bytes());
        self.s_bucket_sizes.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
        bytes.extend(self.history_size.to_le_bytes());
        let checksum = blake3::hash(&bytes);
        bytes.extend(checksum.as_bytes());
        bytes
    }

    /// Reads and checks exactly [`SECTOR_METADATA_SIZE`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, SectorMetadataError> {
        if bytes.len() != SECTOR_METADATA_SIZE {
            return Err(SectorMetadataError::Length(bytes.len()));
        }
        let (body, checksum) = bytes.split_at(SECTOR_METADATA_SIZE - HASH_SIZE);
        if blake3::hash(body).as_bytes() != checksum {
            return Err(SectorMetadataError::Checksum);
        }
        let (sizes, history_size) = body[4..].split_at(2 * S_BUCKETS);
        let history_size = u64::from_le_bytes(history_size.try_into().expect("8 bytes are left"));
        if history_size == 0 {
            return Err(SectorMetadataError::EmptyHistory);
        }
        Ok(Self {
            sector_index: u16::from_le_bytes([body[0], body[1]]),
            pieces_in_sector: u16::from_le_bytes([body[2], body[3]]),
            s_bucket_sizes: sizes.as_chunks().0.iter().map(|size| u16::from_le_bytes(*size)).collect(),
            history_size,
        })
    }

    /// Chunks of the sector before those of this s-bucket.
    pub fn chunks_before(&self, s_bucket: u16) -> u32 {
        self.s_bucket_sizes[..usize::from(s_bucket)].iter().map(|size| u32::from(*size)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> SectorMetadata {
        let s_bucket_sizes = (0..S_BUCKETS).map(|s_bucket| (s_bucket % 7) as u16).collect();
        SectorMetadata { sector_index: 3, pieces_in_sector: 6, s_bucket_sizes, history_size: 77 }
    }

    #[test]
    fn round_trip() {
        let bytes = metadata().encode();
        assert_eq!(bytes.len(), SECTOR_METADATA_SIZE);
        assert_eq!(SectorMetadata::decode(&bytes).unwrap(), metadata());
        assert_eq!(metadata().chunks_before(0), 0);
        assert_eq!(metadata().chunks_before(8), 21);
        let record = RecordMetadata { commitment: [1; 48], witness: [2; 48], piece_hash: [3; 32] };
        assert_eq!(RecordMetadata::from_bytes(&record.to_bytes()), record);
    }

    #[test]
    fn damage_is_found() {
        let bytes = metadata().encode();
        assert_eq!(
            SectorMetadata::decode(&bytes[1..]),
            Err(SectorMetadataError::Length(SECTOR_METADATA_SIZE - 1))
        );
        for at in [0, 4000, SECTOR_METADATA_SIZE - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x80;
            assert_eq!(SectorMetadata::decode(&damaged), Err(SectorMetadataError::Checksum));
        }
        let empty = SectorMetadata { history_size: 0, ..metadata() }.encode();
        assert_eq!(SectorMetadata::decode(&empty), Err(SectorMetadataError::EmptyHistory));
    }
}
