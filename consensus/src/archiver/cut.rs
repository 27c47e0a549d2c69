//! The cutting rule (PROTOCOL 4.2).

use std::collections::VecDeque;

use crate::constants::{HASH_SIZE, POINT_SIZE, SEGMENT_SIZE};
use crate::segment::{
    ArchivedProgress, LastArchivedBlock, MAX_BLOCK_SIZE, SegmentHeader, TAG_BLOCK, TAG_BLOCK_CONTINUATION,
    TAG_BLOCK_START, TAG_PARENT_HEADER, VERSION, compact_size, push_block_item,
};

/// Room (bytes) with which a segment counts as full: a remainder this small is zeros even where an empty block would fit it.
const FULL_ROOM: usize = 2;

/// Why an archiver refuses a block or a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArchiverError {
    /// A block longer than [`MAX_BLOCK_SIZE`].
    #[error("block has {0} bytes, a block may have {MAX_BLOCK_SIZE}")]
    BlockTooLong(usize),
    /// Block numbers are u32.
    #[error("history holds no more than 2^32 blocks")]
    TooManyBlocks,
    /// Segment indexes are u64.
    #[error("history holds no more than 2^64 segments")]
    TooManySegments,
    /// A header was given while no cut segment waits for one.
    #[error("no segment waits for a header: cut one first")]
    NothingToSeal,
    /// The header is not that of the segment cut last.
    #[error("header of segment {given} does not belong to the segment cut last, which is {expected}")]
    ForeignHeader {
        /// Index of the segment cut last.
        expected: u64,
        /// Index in the header; when equal, another field differs.
        given: u64,
    },
    /// The block to resume with is not longer than what the last header says is archived of it.
    #[error(
        "block {number} has {size} bytes but {archived} are archived already: give the block of that number"
    )]
    ResumeBlockTooShort {
        /// The block's number.
        number: u32,
        /// Its size in bytes as given.
        size: usize,
        /// Bytes archived, by the header.
        archived: u32,
    },
}

/// A full segment of history, all of its header known but the commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedSegment {
    pub(super) bytes: Vec<u8>,
    /// Index of the segment.
    pub segment_index: u64,
    /// Hash of the header before; zeros for segment 0.
    pub prev_segment_header_hash: [u8; HASH_SIZE],
    /// Where the segment ends.
    pub last_archived_block: LastArchivedBlock,
}

impl RecordedSegment {
    /// [`SEGMENT_SIZE`] bytes, see [`crate::segment`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The segment's header, given its commitment.
    pub fn header(&self, segment_commitment: [u8; POINT_SIZE]) -> SegmentHeader {
        SegmentHeader {
            segment_index: self.segment_index,
            segment_commitment,
            prev_segment_header_hash: self.prev_segment_header_hash,
            last_archived_block: self.last_archived_block,
        }
    }
}

/// Cuts a stream of blocks into segments.
///
/// After each [`add_block`](Self::add_block), call [`cut`](Self::cut) and [`seal`](Self::seal) in turn until `cut`
/// gives nothing: blocks wait in memory until then.
#[derive(Debug, Clone)]
pub struct Archiver {
    segment_size: usize,
    segment_index: u64,
    prev_segment_header_hash: [u8; HASH_SIZE],
    /// The segment being filled, or where the one that waits for its header ended.
    filling: Filling,
    /// Blocks with bytes in no segment yet.
    queue: VecDeque<QueuedBlock>,
    /// Number of the next block, none when all numbers are used.
    next_block_number: Option<u32>,
}

#[derive(Debug, Clone)]
enum Filling {
    Open { bytes: Vec<u8>, last: Option<LastArchivedBlock> },
    Cut { last: LastArchivedBlock },
}

#[derive(Debug, Clone)]
struct QueuedBlock {
    number: u32,
    bytes: Vec<u8>,
    /// Bytes of the block in earlier segments; some when an earlier segment has an item of it, which may be empty.
    archived: Option<usize>,
}

impl QueuedBlock {
    fn remaining(&self) -> &[u8] {
        &self.bytes[self.archived.unwrap_or(0)..]
    }
}

impl Default for Archiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Archiver {
    /// Begins with segment 0 and block 0.
    pub fn new() -> Self {
        Self::with_segment_size(SEGMENT_SIZE)
    }

    /// Tests cut small segments; the rule knows no other size.
    pub(crate) fn with_segment_size(segment_size: usize) -> Self {
        Self {
            segment_size,
            segment_index: 0,
            prev_segment_header_hash: [0; HASH_SIZE],
            filling: Filling::Open { bytes: vec![VERSION], last: None },
            queue: VecDeque::new(),
            next_block_number: Some(0),
        }
    }

    /// Goes on behind the segment of `last_header`. `last_block` is all of the block it ends in; when that block is
    /// complete it is not looked at and may be empty. The next block to add is the one after it.
    pub fn resume(last_header: &SegmentHeader, last_block: Vec<u8>) -> Result<Self, ArchiverError> {
        Self::resume_with_segment_size(SEGMENT_SIZE, last_header, last_block)
    }

    pub(crate) fn resume_with_segment_size(
        segment_size: usize,
        last_header: &SegmentHeader,
        last_block: Vec<u8>,
    ) -> Result<Self, ArchiverError> {
        let LastArchivedBlock { number, archived_progress } = last_header.last_archived_block;
        let mut archiver = Self {
            segment_index: last_header.segment_index,
            prev_segment_header_hash: last_header.prev_segment_header_hash,
            filling: Filling::Cut { last: last_header.last_archived_block },
            next_block_number: number.checked_add(1),
            ..Self::with_segment_size(segment_size)
        };
        if let ArchivedProgress::Partial(archived) = archived_progress {
            let size = last_block.len();
            if size > MAX_BLOCK_SIZE {
                return Err(ArchiverError::BlockTooLong(size));
            }
            if size <= archived as usize {
                return Err(ArchiverError::ResumeBlockTooShort { number, size, archived });
            }
            let archived = Some(archived as usize);
            archiver.queue.push_back(QueuedBlock { number, bytes: last_block, archived });
        }
        archiver.seal(last_header)?;
        Ok(archiver)
    }

    /// Number of the next block to add, none when no more can be added.
    pub fn next_block_number(&self) -> Option<u32> {
        self.next_block_number
    }

    /// Adds the next block, which waits until [`cut`](Self::cut) takes it. Any length up to [`MAX_BLOCK_SIZE`] will
    /// do, 0 too.
    pub fn add_block(&mut self, bytes: Vec<u8>) -> Result<(), ArchiverError> {
        if bytes.len() > MAX_BLOCK_SIZE {
            return Err(ArchiverError::BlockTooLong(bytes.len()));
        }
        let number = self.next_block_number.ok_or(ArchiverError::TooManyBlocks)?;
        self.next_block_number = number.checked_add(1);
        self.queue.push_back(QueuedBlock { number, bytes, archived: None });
        Ok(())
    }

    /// Takes waiting blocks until a segment is full, and gives it. `None` when more blocks are needed, or when the
    /// segment given last was not [sealed](Self::seal) yet.
    pub fn cut(&mut self) -> Option<RecordedSegment> {
        let Filling::Open { bytes, last } = &mut self.filling else { return None };
        while self.segment_size - bytes.len() > FULL_ROOM {
            let block = self.queue.front_mut()?;
            let (end, whole) = place(block, self.segment_size - bytes.len(), bytes);
            *last = end.or(*last);
            if !whole {
                break;
            }
            self.queue.pop_front();
        }
        let last = last.expect("a full segment holds an item of a block");
        let mut bytes = std::mem::take(bytes);
        bytes.resize(self.segment_size, 0);
        self.filling = Filling::Cut { last };
        Some(RecordedSegment {
            bytes,
            segment_index: self.segment_index,
            prev_segment_header_hash: self.prev_segment_header_hash,
            last_archived_block: last,
        })
    }

    /// Begins the next segment with the header of the one that [`cut`](Self::cut) gave last.
    pub fn seal(&mut self, header: &SegmentHeader) -> Result<(), ArchiverError> {
        let Filling::Cut { last } = self.filling else { return Err(ArchiverError::NothingToSeal) };
        if header.segment_index != self.segment_index
            || header.prev_segment_header_hash != self.prev_segment_header_hash
            || header.last_archived_block != last
        {
            let (expected, given) = (self.segment_index, header.segment_index);
            return Err(ArchiverError::ForeignHeader { expected, given });
        }
        self.segment_index = self.segment_index.checked_add(1).ok_or(ArchiverError::TooManySegments)?;
        let mut bytes = vec![VERSION, TAG_PARENT_HEADER];
        bytes.extend(header.encode());
        self.filling = Filling::Open { bytes, last: None };
        self.prev_segment_header_hash = header.hash();
        Ok(())
    }
}

/// Appends as much of `block` as `room` (above [`FULL_ROOM`]) takes: where it now ends, none when nothing of it was
/// placed, and whether all of it is.
fn place(block: &mut QueuedBlock, room: usize, out: &mut Vec<u8>) -> (Option<LastArchivedBlock>, bool) {
    let payload = block.remaining();
    let head_size = 1 + compact_size(payload.len());
    if room < head_size {
        return (None, false);
    }
    let continues = block.archived.is_some();
    if head_size + payload.len() <= room {
        let tag = if continues { TAG_BLOCK_CONTINUATION } else { TAG_BLOCK };
        push_block_item(tag, payload, out);
        let archived_progress = ArchivedProgress::Complete;
        return (Some(LastArchivedBlock { number: block.number, archived_progress }), true);
    }
    // The length is counted at its size before the cut: a shorter one leaves zeros behind it.
    let taken = room - head_size;
    let tag = if continues { TAG_BLOCK_CONTINUATION } else { TAG_BLOCK_START };
    push_block_item(tag, &payload[..taken], out);
    let archived = block.archived.unwrap_or(0) + taken;
    block.archived = Some(archived);
    let archived_progress = ArchivedProgress::Partial(archived as u32);
    (Some(LastArchivedBlock { number: block.number, archived_progress }), false)
}
