//! The piece: the unit in which history is stored and moved (PROTOCOL 0 and 4.4).
//!
//! ```text
//! 0          1 048 576              1 048 624          1 048 672
//! │ record (32 768 chunks of 32 B) │ commitment (48 B) │ witness (48 B) │
//! ```
//!
//! Owns: the piece's layout, its hash and the arithmetic of piece indexes.
//! Never: judges whether a piece belongs to history; that is [`crate::piece_verify`].

use crate::constants::{HASH_SIZE, PIECE_SIZE, POINT_SIZE, RECORD_SIZE, SCALAR_BYTES, SEGMENT_PIECES};

/// Why bytes are not laid out as a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// A part, or the whole, has the wrong length.
    #[error("{part} has {actual} bytes where {expected} are needed: fetch the piece again")]
    WrongLength {
        /// Which part.
        part: &'static str,
        /// Bytes it must have.
        expected: usize,
        /// Bytes it has.
        actual: usize,
    },
}

/// A piece in memory of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece(Box<[u8]>);

impl Piece {
    /// A piece of zeros, to be filled in place.
    pub fn zeroed() -> Self {
        Self(vec![0; PIECE_SIZE].into_boxed_slice())
    }

    /// Takes [`PIECE_SIZE`] bytes in order: record, commitment, witness.
    pub fn from_bytes(bytes: Box<[u8]>) -> Result<Self, PieceError> {
        check_length("piece", PIECE_SIZE, bytes.len())?;
        Ok(Self(bytes))
    }

    /// All bytes, in order.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes themselves.
    pub fn into_bytes(self) -> Box<[u8]> {
        self.0
    }

    /// Borrowed view of the three parts.
    pub fn view(&self) -> PieceRef<'_> {
        PieceRef::from_bytes(&self.0).expect("a piece has the size of a piece")
    }

    /// Chunks of the record, each a big-endian scalar.
    pub fn record_mut(&mut self) -> &mut [[u8; SCALAR_BYTES]] {
        self.0[..RECORD_SIZE].as_chunks_mut().0
    }

    /// Writes the record commitment.
    pub fn set_commitment(&mut self, commitment: &[u8; POINT_SIZE]) {
        self.0[RECORD_SIZE..][..POINT_SIZE].copy_from_slice(commitment);
    }

    /// Writes the record witness.
    pub fn set_witness(&mut self, witness: &[u8; POINT_SIZE]) {
        self.0[RECORD_SIZE + POINT_SIZE..].copy_from_slice(witness);
    }
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.view().fmt(f)
    }
}

/// A borrowed piece; its parts may lie apart in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PieceRef<'a> {
    /// 32 768 chunks, each a big-endian scalar when the piece is valid.
    pub record: &'a [[u8; SCALAR_BYTES]],
    /// Compressed commitment to the record.
    pub commitment: &'a [u8; POINT_SIZE],
    /// Compressed witness of the commitment's place in the segment.
    pub witness: &'a [u8; POINT_SIZE],
}

impl<'a> PieceRef<'a> {
    /// Splits [`PIECE_SIZE`] bytes in order: record, commitment, witness.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, PieceError> {
        check_length("piece", PIECE_SIZE, bytes.len())?;
        let (record, points) = bytes.split_at(RECORD_SIZE);
        let (commitment, witness) = points.split_at(POINT_SIZE);
        Self::from_parts(record, commitment, witness)
    }

    /// Puts a piece together from its three parts.
    pub fn from_parts(record: &'a [u8], commitment: &'a [u8], witness: &'a [u8]) -> Result<Self, PieceError> {
        check_length("record", RECORD_SIZE, record.len())?;
        Ok(Self {
            record: record.as_chunks().0,
            commitment: point("record commitment", commitment)?,
            witness: point("record witness", witness)?,
        })
    }

    /// BLAKE3 of the piece in order: what travels with it once it was verified.
    pub fn hash(&self) -> [u8; HASH_SIZE] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.record.as_flattened()).update(self.commitment).update(self.witness);
        hasher.finalize().into()
    }

    /// Copies the parts into one piece.
    pub fn to_piece(&self) -> Piece {
        let mut bytes = Vec::with_capacity(PIECE_SIZE);
        bytes.extend_from_slice(self.record.as_flattened());
        bytes.extend_from_slice(self.commitment);
        bytes.extend_from_slice(self.witness);
        Piece(bytes.into_boxed_slice())
    }
}

impl std::fmt::Debug for PieceRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Piece({})", blake3::Hash::from_bytes(self.hash()).to_hex())
    }
}

fn check_length(part: &'static str, expected: usize, actual: usize) -> Result<(), PieceError> {
    if expected == actual { Ok(()) } else { Err(PieceError::WrongLength { part, expected, actual }) }
}

fn point<'a>(part: &'static str, bytes: &'a [u8]) -> Result<&'a [u8; POINT_SIZE], PieceError> {
    bytes.try_into().map_err(|_| PieceError::WrongLength { part, expected: POINT_SIZE, actual: bytes.len() })
}

/// Number of a piece in all history: segment index * 256 + position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(pub u64);

impl PieceIndex {
    /// The piece at `position` of a segment. `None` past the last index a u64 holds.
    pub fn new(segment_index: u64, position: u8) -> Option<Self> {
        let first = segment_index.checked_mul(SEGMENT_PIECES as u64)?;
        Some(Self(first + u64::from(position)))
    }

    /// The segment it belongs to.
    pub const fn segment_index(self) -> u64 {
        self.0 / SEGMENT_PIECES as u64
    }

    /// Its place among the segment's 256 pieces.
    pub const fn position(self) -> u8 {
        (self.0 % SEGMENT_PIECES as u64) as u8
    }

    /// Whether its record is history itself (even positions) rather than parity.
    pub const fn is_source(self) -> bool {
        self.0.is_multiple_of(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting_piece() -> Piece {
        Piece::from_bytes((0..PIECE_SIZE).map(|at| (at % 251) as u8).collect()).unwrap()
    }

    #[test]
    fn parts_apart_hash_like_the_whole() {
        let piece = counting_piece();
        let whole = piece.as_bytes();
        let (record, commitment) = (whole[..RECORD_SIZE].to_vec(), whole[RECORD_SIZE..][..48].to_vec());
        let witness = whole[RECORD_SIZE + 48..].to_vec();
        let apart = PieceRef::from_parts(&record, &commitment, &witness).unwrap();
        assert_eq!(apart, piece.view());
        assert_eq!(apart.hash(), *blake3::hash(whole).as_bytes());
        assert_eq!(apart.to_piece(), piece);
    }

    #[test]
    fn writes_land_in_their_parts() {
        let mut piece = Piece::zeroed();
        piece.record_mut()[32767] = [1; 32];
        piece.set_commitment(&[2; 48]);
        piece.set_witness(&[3; 48]);
        let bytes = piece.as_bytes();
        assert!(bytes[..RECORD_SIZE - 32].iter().all(|&byte| byte == 0));
        assert_eq!(bytes[RECORD_SIZE - 32..RECORD_SIZE], [1; 32]);
        assert_eq!(bytes[RECORD_SIZE..RECORD_SIZE + 48], [2; 48]);
        assert_eq!(bytes[RECORD_SIZE + 48..], [3; 48]);
    }

    #[test]
    fn wrong_lengths_are_errors() {
        assert!(Piece::from_bytes(vec![0; PIECE_SIZE - 1].into()).is_err());
        assert!(PieceRef::from_bytes(&vec![0; PIECE_SIZE + 1]).is_err());
        let record = vec![0; RECORD_SIZE];
        assert_eq!(
            PieceRef::from_parts(&record, &[0; 48], &[0; 47]),
            Err(PieceError::WrongLength { part: "record witness", expected: 48, actual: 47 })
        );
        assert!(PieceRef::from_parts(&record[1..], &[0; 48], &[0; 48]).is_err());
    }

    #[test]
    fn index_arithmetic() {
        let index = PieceIndex::new(3, 11).unwrap();
        assert_eq!(index, PieceIndex(779));
        assert_eq!((index.segment_index(), index.position(), index.is_source()), (3, 11, false));
        assert_eq!(PieceIndex::new(u64::MAX / 256, 255), Some(PieceIndex(u64::MAX)));
        assert_eq!(PieceIndex::new(u64::MAX / 256 + 1, 0), None);
    }
}
