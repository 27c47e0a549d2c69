//! What waits to be sent, and in which order.
//!
//! Frames without payload go first, so a refusal or a cancel never waits behind megabytes; payloads keep their
//! own order and wait for credit. Both queues are bounded by the limits on requests.

use crate::frame::HeaderBuf;
use crate::payload::PayloadBuf;
use std::collections::VecDeque;

/// One frame on its way out.
#[derive(Debug)]
pub struct Transmit<B> {
    /// Prefix and header.
    pub head: HeaderBuf,
    /// The payload that follows at once.
    pub payload: Option<B>,
}

/// What must be remembered when a frame leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Connection,
    /// The frame of a request of ours.
    Made(u64),
    /// The final frame of a peer's request.
    Final(u64),
}

pub(super) struct Frame<B> {
    pub(super) tag: Tag,
    pub(super) transmit: Transmit<B>,
}

pub(super) struct Output<B> {
    pub(super) first: VecDeque<Frame<B>>,
    pub(super) payloads: VecDeque<Frame<B>>,
}

impl<B: PayloadBuf> Output<B> {
    pub(super) fn new() -> Self {
        Self { first: VecDeque::new(), payloads: VecDeque::new() }
    }

    pub(super) fn push(&mut self, tag: Tag, head: HeaderBuf, payload: Option<B>) {
        let queue = if payload.is_some() { &mut self.payloads } else { &mut self.first };
        queue.push_back(Frame { tag, transmit: Transmit { head, payload } });
    }

    /// Takes a frame back that has not been sent.
    pub(super) fn withdraw(&mut self, tag: Tag) -> bool {
        [&mut self.first, &mut self.payloads].into_iter().any(|queue| {
            let found = queue.iter().position(|frame| frame.tag == tag);
            found.and_then(|at| queue.remove(at)).is_some()
        })
    }

    /// Bytes of the payload that is next.
    pub(super) fn next_payload_bytes(&self) -> Option<usize> {
        self.payloads.front().and_then(|frame| frame.transmit.payload.as_ref()).map(PayloadBuf::len)
    }

    pub(super) fn clear(&mut self) {
        self.first.clear();
        self.payloads.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.payloads.is_empty()
    }
}
