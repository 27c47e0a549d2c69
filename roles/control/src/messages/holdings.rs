//! What a cache has on its disk, as it says itself.

use super::{Control, MessageError, check_text};
use consensus::piece::PieceIndex;
use consensus::piece_set::PIECE_SET_BYTES;
use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};

/// Segments that are asked for at once: 16 KiB of answer.
pub const MAX_HOLDINGS_SEGMENTS: u16 = 512;

message! {
    /// Which pieces of these segments a cache has: a request on [`super::subjects::holdings`], answered with [`HoldingsAnswer`].
    #[derive(Copy)]
    struct HoldingsRequest {
        /// Genesis hash of the chain that the segments are of.
        pub genesis_hash: [u8; 32],
        /// The first of the segments.
        pub from_segment: u64,
        /// How many, at most [`MAX_HOLDINGS_SEGMENTS`].
        pub segments: u16,
        /// Of whoever lets go what the answer names: the [`fingerprint`](crate::rendezvous::fingerprint) of the epoch that he goes by.
        /// A cache that goes by another refuses.
        pub lets_go_by: Option<u64>,
    }
}
impl Control for HoldingsRequest {
    const KIND: u8 = 21;

    fn check(&self) -> Result<(), MessageError> {
        let is_bounded = (1..=MAX_HOLDINGS_SEGMENTS).contains(&self.segments);
        let last = self.from_segment.checked_add(u64::from(self.segments));
        if is_bounded && last.is_some_and(|last| PieceIndex::new(last, u8::MAX).is_some()) {
            return Ok(());
        }
        Err(MessageError::Impossible("no segments, too many of them, or such as cannot be"))
    }
}

message! {
    /// What a cache answers to a [`HoldingsRequest`], from its index: a piece that it names may turn out damaged when it is read.
    enum HoldingsAnswer {
        /// It has these.
        Held {
            /// The last segment of all of which it has a piece.
            highest: Option<u64>,
            /// A [`consensus::piece_set::PieceSet`] for each segment from the first one asked for on. Of those after the last set it has
            /// no piece.
            pieces: Vec<[u8; PIECE_SET_BYTES]>,
        },
        /// It cannot tell now, or is of another chain.
        Refused {
            /// Why.
            reason: String,
        },
    }
}
impl Control for HoldingsAnswer {
    const KIND: u8 = 22;

    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Held { pieces, .. } if pieces.len() > usize::from(MAX_HOLDINGS_SEGMENTS) => {
                Err(MessageError::Impossible("holdings of too many segments"))
            }
            Self::Held { .. } => Ok(()),
            Self::Refused { reason } => check_text(reason),
        }
    }
}
