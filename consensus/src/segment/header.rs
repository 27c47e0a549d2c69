//! Segment headers (PROTOCOL 4.3).
//!
//! ```text
//! 0   1               9                57                      89             93
//! │ 0 │ index u64 LE │ commitment 48 │ previous header hash 32 │ block u32 LE │ 0, or 1 and bytes u32 LE │
//! ```

use crate::constants::{HASH_SIZE, POINT_SIZE};

/// Encoded size (bytes) when the last block is complete.
const COMPLETE_SIZE: usize = 94;
/// Version byte of the only header there is.
const VERSION: u8 = 0;
const PROGRESS_COMPLETE: u8 = 0;
const PROGRESS_PARTIAL: u8 = 1;

/// Why bytes are not a segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The input ends inside the header.
    #[error("segment header ends after {0} bytes, it needs 94 or 98")]
    TooShort(usize),
    /// Bytes follow the header.
    #[error("{0} bytes follow the segment header")]
    TrailingBytes(usize),
    /// A header of another version.
    #[error("segment header has version {0}, only 0 is known: the node may be newer than this program")]
    UnknownVersion(u8),
    /// The progress byte is neither complete nor partial.
    #[error("segment header has archived progress {0}, only 0 (complete) and 1 (partial) are known")]
    UnknownProgress(u8),
}

/// How much of the last block of a segment is in the history so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArchivedProgress {
    /// All of it.
    Complete,
    /// So many bytes of its front; the rest begins the next segment.
    Partial(u32),
}

/// The last block that a segment holds bytes of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LastArchivedBlock {
    /// Position of the block in history, from 0.
    pub number: u32,
    /// How much of it is archived.
    pub archived_progress: ArchivedProgress,
}

/// What the chain keeps of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SegmentHeader {
    /// Index of the segment, from 0.
    pub segment_index: u64,
    /// Compressed commitment to the commitments of the segment's 256 records.
    pub segment_commitment: [u8; POINT_SIZE],
    /// Hash of the header before; zeros for segment 0.
    pub prev_segment_header_hash: [u8; HASH_SIZE],
    /// Where the segment ends.
    pub last_archived_block: LastArchivedBlock,
}

impl SegmentHeader {
    /// SCALE encoding, 94 or 98 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(COMPLETE_SIZE + 4);
        out.push(VERSION);
        out.extend_from_slice(&self.segment_index.to_le_bytes());
        out.extend_from_slice(&self.segment_commitment);
        out.extend_from_slice(&self.prev_segment_header_hash);
        out.extend_from_slice(&self.last_archived_block.number.to_le_bytes());
        match self.last_archived_block.archived_progress {
            ArchivedProgress::Complete => out.push(PROGRESS_COMPLETE),
            ArchivedProgress::Partial(bytes) => {
                out.push(PROGRESS_PARTIAL);
                out.extend_from_slice(&bytes.to_le_bytes());
            }
        }
        out
    }

    /// Decodes exactly one header.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let (header, rest) = Self::split_from(bytes)?;
        if rest.is_empty() { Ok(header) } else { Err(HeaderError::TrailingBytes(rest.len())) }
    }

    /// Decodes a header from the front and gives the bytes behind it.
    pub fn split_from(bytes: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let mut input = Input { rest: bytes, length: bytes.len() };
        let [version] = input.take()?;
        if version != VERSION {
            return Err(HeaderError::UnknownVersion(version));
        }
        let segment_index = u64::from_le_bytes(input.take()?);
        let segment_commitment = input.take()?;
        let prev_segment_header_hash = input.take()?;
        let number = u32::from_le_bytes(input.take()?);
        let archived_progress = match input.take()? {
            [PROGRESS_COMPLETE] => ArchivedProgress::Complete,
            [PROGRESS_PARTIAL] => ArchivedProgress::Partial(u32::from_le_bytes(input.take()?)),
            [other] => return Err(HeaderError::UnknownProgress(other)),
        };
        let last_archived_block = LastArchivedBlock { number, archived_progress };
        let header =
            Self { segment_index, segment_commitment, prev_segment_header_hash, last_archived_block };
        Ok((header, input.rest))
    }

    /// BLAKE3 of the encoding: what the next header refers to.
    pub fn hash(&self) -> [u8; HASH_SIZE] {
        blake3::hash(&self.encode()).into()
    }
}

struct Input<'a> {
    rest: &'a [u8],
    length: usize,
}

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(HeaderError::TooShort(self.length))?;
        self.rest = rest;
        Ok(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers 0 and 1 of the network's own archiver, and their hashes.
    const PARTIAL: &str = "000000000000000000b1d63b60db7bc8165fdab68743012e2d2d98bfa335c716b5ced1908f75c6a681917be3fd6899c8b4c109116e97d83bd2000000000000000000000000000000000000000000000000000000000000000002000000017ca55d05";
    const PARTIAL_HASH: &str = "db2a5487f7a3fdd8a78af7836d7bd2bde1c0ab3395030e915b9062c176fffda9";
    const COMPLETE: &str = "000100000000000000974b63f639740ee7cc0e3b3c3be9cffbe753dcd07d57558c20b363bd2ad5bea9b90441c03f574ac51a186b415cb0b71ddb2a5487f7a3fdd8a78af7836d7bd2bde1c0ab3395030e915b9062c176fffda90a00000000";
    const COMPLETE_HASH: &str = "3f2539756a9453f9161f0f40af1fdd47405e391afae542cccec5cc8ee15e148e";

    #[test]
    fn headers_of_the_network() {
        let partial = hex::decode(PARTIAL).unwrap();
        let first = SegmentHeader::decode(&partial).unwrap();
        assert_eq!(first.segment_index, 0);
        assert_eq!(
            first.last_archived_block,
            LastArchivedBlock { number: 2, archived_progress: ArchivedProgress::Partial(90_023_292) }
        );
        assert_eq!(first.encode(), partial);
        assert_eq!(hex::encode(first.hash()), PARTIAL_HASH);

        let complete = hex::decode(COMPLETE).unwrap();
        let second = SegmentHeader::decode(&complete).unwrap();
        assert_eq!(second.prev_segment_header_hash, first.hash());
        assert_eq!(
            second.last_archived_block,
            LastArchivedBlock { number: 10, archived_progress: ArchivedProgress::Complete }
        );
        assert_eq!(second.encode(), complete);
        assert_eq!(hex::encode(second.hash()), COMPLETE_HASH);
    }

    #[test]
    fn damaged_headers_are_errors() {
        let good = hex::decode(PARTIAL).unwrap();
        for length in 0..good.len() {
            assert_eq!(SegmentHeader::decode(&good[..length]), Err(HeaderError::TooShort(length)));
        }
        let mut long = good.clone();
        long.push(0);
        assert_eq!(SegmentHeader::decode(&long), Err(HeaderError::TrailingBytes(1)));
        let mut version = good.clone();
        version[0] = 1;
        assert_eq!(SegmentHeader::decode(&version), Err(HeaderError::UnknownVersion(1)));
        let mut progress = good;
        progress[93] = 2;
        assert_eq!(SegmentHeader::decode(&progress), Err(HeaderError::UnknownProgress(2)));
    }
}
