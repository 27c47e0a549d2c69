//! Items of a recorded segment (PROTOCOL 4.1).

use super::compact::{push_compact, split_compact};
use super::{HeaderError, SegmentHeader};

/// Version byte of a recorded segment.
pub(crate) const VERSION: u8 = 0;
const TAG_PADDING: u8 = 0;
pub(crate) const TAG_BLOCK: u8 = 1;
pub(crate) const TAG_BLOCK_START: u8 = 2;
pub(crate) const TAG_BLOCK_CONTINUATION: u8 = 3;
pub(crate) const TAG_PARENT_HEADER: u8 = 4;

/// Why bytes are not a recorded segment. Offsets count from the segment's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Not even a version byte.
    #[error("segment is empty")]
    Empty,
    /// A segment of another version.
    #[error("segment has version {0}, only 0 is known: it may be newer than this program")]
    UnknownVersion(u8),
    /// An item of no known kind.
    #[error("segment has an unknown item {tag} at byte {offset}")]
    UnknownItem {
        /// Its first byte.
        tag: u8,
        /// Where it is.
        offset: usize,
    },
    /// A block's length is cut short, not in its shortest form, or reaches past the segment's end.
    #[error("segment item at byte {offset} has a bad length")]
    BadLength {
        /// Where the item is.
        offset: usize,
    },
    /// The parent segment header does not decode.
    #[error("segment item at byte {offset}: {source}")]
    BadHeader {
        /// Where the item is.
        offset: usize,
        /// What is wrong with it.
        source: HeaderError,
    },
}

/// One item of a recorded segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentItem<'a> {
    /// A run of so many zero bytes.
    Padding(usize),
    /// A whole block.
    Block(&'a [u8]),
    /// The front of a block that did not fit; may be empty.
    BlockStart(&'a [u8]),
    /// More of the block that the previous segment ended in.
    BlockContinuation(&'a [u8]),
    /// Header of the previous segment, first in every segment but segment 0.
    ParentSegmentHeader(SegmentHeader),
}

/// Reads the items of a recorded segment one by one, copying nothing. Ends after the first error.
#[derive(Debug, Clone)]
pub struct SegmentItems<'a> {
    segment: &'a [u8],
    offset: usize,
}

impl<'a> SegmentItems<'a> {
    /// Starts behind the version byte of `segment`, which may have any length.
    pub fn new(segment: &'a [u8]) -> Result<Self, SegmentError> {
        match segment.first() {
            None => Err(SegmentError::Empty),
            Some(&VERSION) => Ok(Self { segment, offset: 1 }),
            Some(&version) => Err(SegmentError::UnknownVersion(version)),
        }
    }

    /// Reads the item at `offset`: the item and the bytes behind it.
    fn read(&self, tag: u8, body: &'a [u8]) -> Result<(SegmentItem<'a>, &'a [u8]), SegmentError> {
        let offset = self.offset;
        let block = || {
            let (length, rest) = split_compact(body).ok_or(SegmentError::BadLength { offset })?;
            rest.split_at_checked(length).ok_or(SegmentError::BadLength { offset })
        };
        Ok(match tag {
            TAG_PADDING => {
                let more = body.iter().position(|&byte| byte != TAG_PADDING).unwrap_or(body.len());
                (SegmentItem::Padding(1 + more), &body[more..])
            }
            TAG_BLOCK => block().map(|(bytes, rest)| (SegmentItem::Block(bytes), rest))?,
            TAG_BLOCK_START => block().map(|(bytes, rest)| (SegmentItem::BlockStart(bytes), rest))?,
            TAG_BLOCK_CONTINUATION => {
                block().map(|(bytes, rest)| (SegmentItem::BlockContinuation(bytes), rest))?
            }
            TAG_PARENT_HEADER => {
                let (header, rest) = SegmentHeader::split_from(body)
                    .map_err(|source| SegmentError::BadHeader { offset, source })?;
                (SegmentItem::ParentSegmentHeader(header), rest)
            }
            tag => return Err(SegmentError::UnknownItem { tag, offset }),
        })
    }
}

impl<'a> Iterator for SegmentItems<'a> {
    type Item = Result<SegmentItem<'a>, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&tag, body) = self.segment[self.offset..].split_first()?;
        match self.read(tag, body) {
            Ok((item, rest)) => {
                self.offset = self.segment.len() - rest.len();
                Some(Ok(item))
            }
            Err(error) => {
                self.offset = self.segment.len();
                Some(Err(error))
            }
        }
    }
}

/// Appends an item that carries bytes of a block.
pub(crate) fn push_block_item(tag: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    push_compact(payload.len(), out);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn items_in_order() {
        let mut segment = vec![VERSION];
        push_block_item(TAG_BLOCK, b"one", &mut segment);
        push_block_item(TAG_BLOCK, b"", &mut segment);
        push_block_item(TAG_BLOCK_CONTINUATION, &[9; 70], &mut segment);
        push_block_item(TAG_BLOCK_START, b"two", &mut segment);
        segment.extend([0; 3]);
        let items: Vec<_> = SegmentItems::new(&segment).unwrap().map(Result::unwrap).collect();
        assert_eq!(
            items,
            [
                SegmentItem::Block(b"one"),
                SegmentItem::Block(b""),
                SegmentItem::BlockContinuation(&[9; 70]),
                SegmentItem::BlockStart(b"two"),
                SegmentItem::Padding(3),
            ]
        );
    }

    #[test]
    fn damage_is_named() {
        let error = |segment: &[u8]| {
            let items = SegmentItems::new(segment);
            items.and_then(|mut items| items.try_for_each(|item| item.map(drop))).unwrap_err()
        };
        assert_eq!(error(&[]), SegmentError::Empty);
        assert_eq!(error(&[1, 0]), SegmentError::UnknownVersion(1));
        assert_eq!(error(&[0, 0, 5]), SegmentError::UnknownItem { tag: 5, offset: 2 });
        assert_eq!(error(&[0, 1]), SegmentError::BadLength { offset: 1 });
        assert_eq!(error(&[0, 1, 8, 7]), SegmentError::BadLength { offset: 1 });
        assert_eq!(
            error(&[0, 4, 0]),
            SegmentError::BadHeader { offset: 1, source: HeaderError::TooShort(1) }
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(mut segment in proptest::collection::vec(0..9_u8, 0..300)) {
            if let Some(version) = segment.first_mut() {
                *version = VERSION;
                // Every step eats a byte or ends in an error.
                prop_assert!(SegmentItems::new(&segment).unwrap().count() <= segment.len());
            }
        }
    }
}
