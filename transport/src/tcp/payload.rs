//! Payloads in the slabs of the engine's pool.

use super::memory::Share;
use crate::connection::BufferWanted;
use crate::message::Layout;
use crate::payload::PayloadBuf;
use consensus::constants::{PIECE_SIZE, RECORD_SIZE};
use engine::pool::{Slab, SlabMut};

/// Where a piece lies in its slab.
pub use engine::piece_layout::{POINTS_AT as PIECE_POINTS_AT, RECORD_AT as PIECE_RECORD_AT};

/// A payload, to be sent or as it was received.
#[derive(Debug)]
pub struct SlabPayload {
    bytes: Bytes,
    /// The peer's right to the memory.
    share: Option<Share>,
}

#[derive(Debug)]
enum Bytes {
    /// To be sent: parts in the order of the wire.
    Parts(Vec<Slab>),
    /// Received, [`Layout::Run`].
    Run(SlabMut),
    /// Received, [`Layout::Piece`]: the block before the record, and the record.
    Piece(SlabMut),
}

impl SlabPayload {
    /// Sends these bytes.
    pub fn run(bytes: Slab) -> Self {
        Self::parts(vec![bytes])
    }

    /// Sends these bytes one after another, as of a range that straddles slabs.
    pub fn parts(parts: Vec<Slab>) -> Self {
        Self::of(Bytes::Parts(parts))
    }

    /// Sends the piece that lies in `slab` as [`SlabPayload::into_slab`] gives it.
    pub fn piece(slab: &Slab) -> Self {
        let record = slab.slice(PIECE_RECORD_AT..PIECE_RECORD_AT + RECORD_SIZE);
        let points = slab.slice(PIECE_POINTS_AT..PIECE_RECORD_AT);
        Self::parts(vec![record, points])
    }

    fn of(bytes: Bytes) -> Self {
        Self { bytes, share: None }
    }

    /// The same bytes to send again.
    ///
    /// # Panics
    /// When it was received: such memory has one owner.
    pub(super) fn again(&self) -> Self {
        match &self.bytes {
            Bytes::Parts(parts) => Self::parts(parts.clone()),
            Bytes::Run(_) | Bytes::Piece(_) => panic!("what was received is frozen before it is sent"),
        }
    }

    /// The peer's share of memory goes with the payload, and back when that is dropped.
    pub(super) fn with_share(self, share: impl Into<Option<Share>>) -> Self {
        Self { share: share.into(), ..self }
    }

    pub(super) fn take_share(&mut self) -> Option<Share> {
        self.share.take()
    }

    /// It was sent, or has come, whole and in its time.
    pub(super) fn went_through(&self) {
        if let Some(share) = &self.share {
            share.went_through();
        }
    }

    /// Memory for a payload that is about to arrive.
    ///
    /// # Panics
    /// When `slab` is not a whole one.
    pub fn to_fill(slab: SlabMut, wanted: &BufferWanted) -> Self {
        Self::of(match wanted.layout {
            Layout::Run { phase } => {
                let start = usize::from(phase);
                Bytes::Run(slab.narrow(start..start + wanted.length))
            }
            Layout::Piece => {
                assert_eq!(wanted.length, PIECE_SIZE, "only pieces lie as pieces do");
                Bytes::Piece(slab.narrow(..PIECE_RECORD_AT + RECORD_SIZE))
            }
        })
    }

    /// The memory of a received payload: its bytes at the phase asked for; or, for a piece, the block before
    /// the record ([`PIECE_POINTS_AT`]) and then the record ([`PIECE_RECORD_AT`]).
    ///
    /// # Panics
    /// When it was not received.
    pub fn into_slab(self) -> SlabMut {
        match self.bytes {
            Bytes::Run(slab) | Bytes::Piece(slab) => slab,
            Bytes::Parts(_) => panic!("a payload to be sent has no memory of its own"),
        }
    }
}

/// Where the bytes of a piece from `offset` on lie in its slab, up to the next jump.
fn piece_range(offset: usize) -> std::ops::Range<usize> {
    match offset.checked_sub(RECORD_SIZE) {
        None => PIECE_RECORD_AT + offset..PIECE_RECORD_AT + RECORD_SIZE,
        Some(in_points) => PIECE_POINTS_AT + in_points..PIECE_RECORD_AT,
    }
}

impl PayloadBuf for SlabPayload {
    fn len(&self) -> usize {
        match &self.bytes {
            Bytes::Parts(parts) => parts.iter().map(|part| part.len()).sum(),
            Bytes::Run(slab) => slab.len(),
            Bytes::Piece(_) => PIECE_SIZE,
        }
    }

    fn chunk(&self, offset: usize) -> &[u8] {
        match &self.bytes {
            Bytes::Run(slab) => &slab[offset..],
            Bytes::Piece(slab) => &slab[piece_range(offset)],
            Bytes::Parts(parts) => {
                let mut at = offset;
                for part in parts {
                    if at < part.len() {
                        return &part[at..];
                    }
                    at -= part.len();
                }
                &[]
            }
        }
    }

    fn chunk_mut(&mut self, offset: usize) -> &mut [u8] {
        match &mut self.bytes {
            Bytes::Run(slab) => &mut slab[offset..],
            Bytes::Piece(slab) => &mut slab[piece_range(offset)],
            Bytes::Parts(_) => unreachable!("the connection fills only what was given to it to fill"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::pool::Pool;

    fn filled(pool: &Pool, salt: u8) -> SlabMut {
        let mut slab = pool.try_acquire().unwrap();
        slab.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 7) as u8 ^ salt);
        slab
    }

    fn wanted(length: usize, layout: Layout) -> BufferWanted {
        BufferWanted { of: crate::connection::PayloadOf::for_tests(), length, layout }
    }

    fn bytes_of(payload: &SlabPayload) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < payload.len() {
            bytes.extend_from_slice(payload.chunk(bytes.len()));
        }
        bytes
    }

    fn fill(payload: &mut SlabPayload, mut bytes: &[u8]) {
        let mut at = 0;
        while !bytes.is_empty() {
            let chunk = payload.chunk_mut(at);
            let count = chunk.len().min(bytes.len());
            chunk[..count].copy_from_slice(&bytes[..count]);
            (at, bytes) = (at + count, &bytes[count..]);
        }
    }

    #[test]
    fn a_piece_comes_to_rest_with_its_record_on_a_block_and_goes_out_as_it_came() {
        let pool = Pool::new(2, 4).unwrap();
        let piece: Vec<u8> = (0..PIECE_SIZE).map(|at| (at % 253) as u8).collect();
        let mut payload =
            SlabPayload::to_fill(pool.try_acquire().unwrap(), &wanted(PIECE_SIZE, Layout::Piece));
        fill(&mut payload, &piece);
        assert!(bytes_of(&payload) == piece);
        let hash = payload.blake3();
        let slab = payload.into_slab();
        assert!(slab[PIECE_RECORD_AT..] == piece[..RECORD_SIZE]);
        assert!(slab[PIECE_POINTS_AT..PIECE_RECORD_AT] == piece[RECORD_SIZE..]);
        let again = SlabPayload::piece(&slab.freeze());
        assert!(bytes_of(&again) == piece && again.blake3() == hash);
    }

    #[test]
    fn a_run_lies_at_its_phase_and_may_straddle_slabs() {
        let pool = Pool::new(3, 4).unwrap();
        let layout = Layout::Run { phase: 777 };
        let mut payload = SlabPayload::to_fill(pool.try_acquire().unwrap(), &wanted(5000, layout));
        let (a, b) = (filled(&pool, 1).freeze(), filled(&pool, 2).freeze());
        let parts = SlabPayload::parts(vec![a.slice(2_097_000..), b.slice(..5000 - 152)]);
        assert_eq!(parts.len(), 5000);
        let bytes = bytes_of(&parts);
        fill(&mut payload, &bytes);
        assert_eq!(payload.blake3(), parts.blake3());
        let slab = payload.into_slab();
        assert_eq!(slab.phase(), 777);
        assert!(slab[..] == bytes[..]);
    }
}
