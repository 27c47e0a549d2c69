//! From recorded segments to blocks.

use crate::segment::{
    ArchivedProgress, LastArchivedBlock, MAX_BLOCK_SIZE, SegmentError, SegmentItem, SegmentItems,
};

/// Why a segment gives no blocks. The reconstructor stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlocksError {
    /// The bytes are not a recorded segment.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Items stand in an order that no archiver makes.
    #[error("segment has item {0} where none of its kind can be: its pieces are not of one segment")]
    UnexpectedItem(usize),
    /// Not the segment that follows the one before.
    #[error("segment {given} does not follow: {expected} is next")]
    OutOfOrder {
        /// Index of the segment that is next.
        expected: u64,
        /// Index of the segment given.
        given: u64,
    },
    /// What the parent header says of the last block is not what was seen of it.
    #[error("the segment's parent header tells of another block than the segment before ends in")]
    ForeignParent,
    /// A block grows past [`MAX_BLOCK_SIZE`], or block numbers or segment indexes past their type.
    #[error("segment holds a longer block, or more blocks, than history can")]
    TooLarge,
}

/// Joins the blocks of consecutive segments. Starting in the middle of history is fine: a block whose beginning was
/// not seen is left out.
#[derive(Debug, Clone, Default)]
pub struct BlockReconstructor {
    /// Index of the next segment, none before the first.
    next_segment: Option<u64>,
    /// The block that the last segment ended in. It may be complete: only what follows tells.
    unfinished: Option<Unfinished>,
}

#[derive(Debug, Clone)]
struct Unfinished {
    number: u32,
    bytes: Vec<u8>,
}

/// A segment that passed every check: emitting its blocks cannot fail.
struct Checked<'a> {
    segment_index: u64,
    parent: Option<LastArchivedBlock>,
    /// The bytes that continue the block before.
    continuation: Option<&'a [u8]>,
    /// All items from the first.
    items: SegmentItems<'a>,
}

impl BlockReconstructor {
    /// Begins anywhere in history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the next recorded segment and calls `emit(number, block)` for each block that is now known to be whole,
    /// in order. On an error nothing was emitted and nothing changed.
    pub fn add_segment(
        &mut self,
        segment: &[u8],
        mut emit: impl FnMut(u32, Vec<u8>),
    ) -> Result<(), BlocksError> {
        let checked = check_items(segment)?;
        self.check_follows(&checked)?;
        let next_segment = checked.segment_index.checked_add(1).ok_or(BlocksError::TooLarge)?;

        if let Some(more) = checked.continuation
            && let Some(unfinished) = &mut self.unfinished
        {
            unfinished.bytes.extend_from_slice(more);
        }
        let complete =
            checked.parent.is_some_and(|last| last.archived_progress == ArchivedProgress::Complete);
        if complete {
            self.finish(&mut emit);
        }
        let mut number = checked.parent.map_or(0, |last| u64::from(last.number) + 1);
        for item in checked.items.flatten() {
            let (SegmentItem::Block(bytes) | SegmentItem::BlockStart(bytes)) = item else { continue };
            self.finish(&mut emit);
            let block_number = u32::try_from(number).expect("block numbers were checked");
            number += 1;
            let bytes = bytes.to_vec();
            match item {
                SegmentItem::Block(_) => emit(block_number, bytes),
                _ => self.unfinished = Some(Unfinished { number: block_number, bytes }),
            }
        }
        self.next_segment = Some(next_segment);
        Ok(())
    }

    fn finish(&mut self, emit: &mut impl FnMut(u32, Vec<u8>)) {
        if let Some(Unfinished { number, bytes }) = self.unfinished.take() {
            emit(number, bytes);
        }
    }

    /// Checks the segment against what the one before left.
    fn check_follows(&self, checked: &Checked<'_>) -> Result<(), BlocksError> {
        let given = checked.segment_index;
        if let Some(expected) = self.next_segment
            && expected != given
        {
            return Err(BlocksError::OutOfOrder { expected, given });
        }
        let (Some(unfinished), Some(last)) = (&self.unfinished, checked.parent) else { return Ok(()) };
        if last.number != unfinished.number {
            return Err(BlocksError::ForeignParent);
        }
        if let ArchivedProgress::Partial(archived) = last.archived_progress
            && archived as usize != unfinished.bytes.len()
        {
            return Err(BlocksError::ForeignParent);
        }
        let more = checked.continuation.map_or(0, <[u8]>::len);
        if unfinished.bytes.len() + more > MAX_BLOCK_SIZE { Err(BlocksError::TooLarge) } else { Ok(()) }
    }
}

/// Checks a segment by itself: every item decodes, and stands where an archiver puts it:
/// `[parent header [continuation]] block* [block start] [padding]`.
fn check_items(segment: &[u8]) -> Result<Checked<'_>, BlocksError> {
    let items = SegmentItems::new(segment)?;
    let mut checked = Checked { segment_index: 0, parent: None, continuation: None, items: items.clone() };
    let mut next_number = 0_u64;
    let mut continues = false;
    let mut ended = false;
    let mut index = 0;
    for item in items {
        let unexpected = Err(BlocksError::UnexpectedItem(index));
        match item? {
            SegmentItem::ParentSegmentHeader(header) if index == 0 => {
                let last = header.last_archived_block;
                checked.segment_index = header.segment_index.checked_add(1).ok_or(BlocksError::TooLarge)?;
                checked.parent = Some(last);
                next_number = u64::from(last.number) + 1;
                continues = last.archived_progress != ArchivedProgress::Complete;
            }
            SegmentItem::BlockContinuation(bytes) if continues => {
                checked.continuation = Some(bytes);
                continues = false;
            }
            // A block that goes on goes on at once.
            _ if continues => return unexpected,
            SegmentItem::Block(_) if !ended => next_number += 1,
            SegmentItem::BlockStart(_) if !ended => {
                next_number += 1;
                ended = true;
            }
            SegmentItem::Padding(_) => ended = true,
            _ => return unexpected,
        }
        index += 1;
    }
    if continues {
        return Err(BlocksError::UnexpectedItem(index));
    }
    if next_number > u64::from(u32::MAX) + 1 { Err(BlocksError::TooLarge) } else { Ok(checked) }
}
