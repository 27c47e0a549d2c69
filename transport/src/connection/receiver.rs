//! Cuts the incoming bytes into frames and says where the next ones belong.
//!
//! ```text
//!   Prefix ─▶ Header ─▶ Decide ─▶ Prefix                      no payload
//!                          ├────▶ Wait ─▶ Payload ─▶ Prefix   payload into the caller's buffer
//!                          └────▶ Discard ─▶ Prefix           payload of a request taken back
//! ```
//! Never: what a frame means; [`super::Connection`] decides.

use crate::frame::{FrameError, HeaderBuf, MAX_HEADER_BYTES, PREFIX_BYTES, Prefix};
use crate::payload::PayloadBuf;

/// Unwanted payload is read into this much memory, over and over.
const SCRATCH_BYTES: usize = 16 << 10;

enum State<B> {
    Prefix,
    Header(Prefix),
    /// A header is complete; the connection says what becomes of the payload.
    Decide,
    Wait,
    Payload(B),
    Discard {
        length: usize,
    },
    Stopped,
}

/// What became complete.
pub(super) enum Complete<B> {
    /// A header that passed its checksum: read it with [`Receiver::header`], then call
    /// [`Receiver::next_frame`], [`Receiver::wait`] or [`Receiver::discard`].
    Header(Prefix),
    /// The payload in its buffer.
    Payload(B),
}

/// Where the next bytes from the peer belong.
pub(super) enum Place<'a> {
    Here(&'a mut [u8]),
    Wait,
    Stopped,
}

pub(super) struct Receiver<B> {
    state: State<B>,
    /// Bytes of the current part that are there.
    filled: usize,
    prefix: [u8; PREFIX_BYTES],
    header: HeaderBuf,
    scratch: Vec<u8>,
}

impl<B: PayloadBuf> Receiver<B> {
    pub(super) fn new() -> Self {
        let header = HeaderBuf::with_capacity(MAX_HEADER_BYTES);
        Self { state: State::Prefix, filled: 0, prefix: [0; PREFIX_BYTES], header, scratch: Vec::new() }
    }

    pub(super) fn place(&mut self) -> Place<'_> {
        match &mut self.state {
            State::Prefix => Place::Here(&mut self.prefix[self.filled..]),
            State::Header(_) => Place::Here(&mut self.header[self.filled..]),
            State::Payload(buffer) => Place::Here(buffer.chunk_mut(self.filled)),
            State::Discard { length } => {
                let left = *length - self.filled;
                self.scratch.resize(SCRATCH_BYTES, 0);
                Place::Here(&mut self.scratch[..left.min(SCRATCH_BYTES)])
            }
            State::Wait => Place::Wait,
            State::Decide | State::Stopped => Place::Stopped,
        }
    }

    /// Takes note of `count` bytes that were put into [`Receiver::place`].
    pub(super) fn filled(&mut self, count: usize) -> Result<Option<Complete<B>>, FrameError> {
        self.filled += count;
        match &mut self.state {
            State::Prefix if self.filled == PREFIX_BYTES => self.begin_header(),
            State::Header(prefix) if self.filled == prefix.header_length => {
                let prefix = *prefix;
                self.end_header(prefix)
            }
            State::Payload(buffer) if self.filled == buffer.len() => {
                self.filled = 0;
                match std::mem::replace(&mut self.state, State::Prefix) {
                    State::Payload(buffer) => Ok(Some(Complete::Payload(buffer))),
                    _ => unreachable!("the state was just matched"),
                }
            }
            State::Discard { length } if self.filled == *length => {
                self.next_frame();
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn begin_header(&mut self) -> Result<Option<Complete<B>>, FrameError> {
        let prefix = Prefix::decode(&self.prefix)?;
        self.header.resize(prefix.header_length, 0);
        self.filled = 0;
        if prefix.header_length == 0 {
            return self.end_header(prefix);
        }
        self.state = State::Header(prefix);
        Ok(None)
    }

    fn end_header(&mut self, prefix: Prefix) -> Result<Option<Complete<B>>, FrameError> {
        Prefix::verify(&self.prefix, &self.header)?;
        self.filled = 0;
        self.state = State::Decide;
        Ok(Some(Complete::Header(prefix)))
    }

    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }

    pub(super) fn next_frame(&mut self) {
        self.filled = 0;
        self.state = State::Prefix;
    }

    pub(super) fn wait(&mut self) {
        self.state = State::Wait;
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Wait)
    }

    pub(super) fn is_undecided(&self) -> bool {
        matches!(self.state, State::Decide)
    }

    /// Bytes of the payload that is arriving, wanted or not.
    pub(super) fn payload_bytes(&self) -> Option<usize> {
        match &self.state {
            State::Payload(buffer) => Some(buffer.len()),
            State::Discard { length } => Some(*length),
            _ => None,
        }
    }

    pub(super) fn provide(&mut self, buffer: B) {
        assert!(self.is_waiting(), "a buffer is given only when one is wanted");
        self.filled = 0;
        self.state = State::Payload(buffer);
    }

    pub(super) fn discard(&mut self, length: usize) {
        self.filled = 0;
        self.state = State::Discard { length };
    }

    pub(super) fn stop(&mut self) {
        self.state = State::Stopped;
    }
}
