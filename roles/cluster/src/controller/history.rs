//! The headers of all segments, each linked to the one before.

use std::sync::RwLock;

use consensus::kzg::PointBytes;
use consensus::segment::SegmentHeader;

use node::SEGMENT_HEADERS_MAX;
use node::client::{Connection, NodeError};

/// A header that does not follow the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the node's segment {segment_index} does not continue the history known so far: \
     the node follows another chain, or was started anew; restart the controller if that is meant"
)]
pub struct Broken {
    segment_index: u64,
}

/// Why history cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The node failed; it may do better.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The node is not the one it was.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// History as the own node tells it, from segment 0 on.
#[derive(Debug, Default)]
pub struct History {
    headers: RwLock<Vec<SegmentHeader>>,
}

impl History {
    /// Segments known.
    pub fn segments(&self) -> u64 {
        self.read().len() as u64
    }

    /// What a segment commits to.
    pub fn commitment(&self, segment_index: u64) -> Option<PointBytes> {
        let index = usize::try_from(segment_index).ok()?;
        self.read().get(index).map(|header| header.segment_commitment)
    }

    /// Reads the headers that are new, and the last one known again, so that another chain is noticed.
    pub async fn catch_up(&self, connection: &Connection) -> Result<(), HistoryError> {
        let mut first = self.segments().saturating_sub(1);
        loop {
            let headers = connection.segment_headers(first, SEGMENT_HEADERS_MAX as u64).await?;
            self.extend(first, &headers)?;
            if headers.len() < SEGMENT_HEADERS_MAX {
                return Ok(());
            }
            first += headers.len() as u64;
        }
    }

    /// Takes headers of the segments from `first` on; those known must be the same.
    fn extend(&self, first: u64, headers: &[SegmentHeader]) -> Result<(), Broken> {
        let mut known = self.headers.write().expect("nothing panics while it is held");
        if headers.is_empty() && !known.is_empty() {
            return Err(Broken { segment_index: first });
        }
        for (segment_index, header) in (first..).zip(headers) {
            let broken = Broken { segment_index };
            let at = usize::try_from(segment_index).map_err(|_| broken)?;
            let follows = header.segment_index == segment_index
                && match at.checked_sub(1).map(|before| known.get(before)) {
                    None => header.prev_segment_header_hash == [0; 32],
                    Some(before) => {
                        before.is_some_and(|before| before.hash() == header.prev_segment_header_hash)
                    }
                };
            match known.get(at) {
                _ if !follows => return Err(broken),
                Some(same) if same == header => {}
                Some(_) => return Err(broken),
                None => known.push(*header),
            }
        }
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<SegmentHeader>> {
        self.headers.read().expect("nothing panics while it is held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::segment::{ArchivedProgress, LastArchivedBlock};

    fn chain(length: u64, salt: u8) -> Vec<SegmentHeader> {
        let mut headers: Vec<SegmentHeader> = Vec::new();
        for segment_index in 0..length {
            let prev_segment_header_hash = headers.last().map_or([0; 32], SegmentHeader::hash);
            headers.push(SegmentHeader {
                segment_index,
                segment_commitment: [salt; 48],
                prev_segment_header_hash,
                last_archived_block: LastArchivedBlock {
                    number: 0,
                    archived_progress: ArchivedProgress::Complete,
                },
            });
        }
        headers
    }

    #[test]
    fn headers_are_linked_and_never_change() {
        let (history, headers, other) = (History::default(), chain(5, 1), chain(5, 2));
        assert_eq!(history.extend(0, &[]), Ok(()), "a node without history yet");
        history.extend(0, &headers[..3]).unwrap();
        history.extend(2, &headers[2..]).unwrap();
        assert_eq!((history.segments(), history.commitment(4)), (5, Some([1; 48])));
        assert_eq!(history.commitment(5), None);
        assert_eq!(history.extend(4, &other[4..]), Err(Broken { segment_index: 4 }));
        assert_eq!(history.extend(0, &other), Err(Broken { segment_index: 0 }));
        assert_eq!(history.extend(4, &[]), Err(Broken { segment_index: 4 }), "a node with less than it had");
        assert_eq!(history.extend(6, &chain(8, 1)[6..]), Err(Broken { segment_index: 6 }), "a gap");
        assert_eq!(history.segments(), 5);
    }
}
