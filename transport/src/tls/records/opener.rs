//! Records into plaintext.

use super::format::{
    self, ALERT, CLOSE_NOTIFY, DATA, HANDSHAKE, HEADER_BYTES, MAX_CONTENT_BYTES, MAX_RECORD_BYTES, Record,
    RecordError, TAG_BYTES, USER_CANCELED,
};
use super::key::Key;
use std::ops::Range;

/// So many records without payload may come one after another: changes of key, or empty ones to hide a silence.
const MAX_IDLE_RECORDS: u32 = 32;

/// What became of the front of the ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// There is no whole record.
    More,
    /// So many bytes of payload lie at the front of the place; may be none.
    Payload(usize),
    /// The next record is sealed with the next key: give it by [`Opener::update`]. With `answer` the peer wants one of us.
    KeyUpdate {
        /// Whether this side's next key is asked for.
        answer: bool,
    },
    /// The peer says that no more payload comes. What follows is not looked at.
    Closed,
}

/// The receiving direction of one connection.
#[derive(Debug)]
pub struct Opener {
    key: Key,
    /// Payload that had no room in its place when its record was opened; `waiting` says where.
    aside: Vec<u8>,
    waiting: Range<usize>,
    idle_records: u32,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Closed,
    Failed,
}

impl Opener {
    /// Opens what was sealed with `key`.
    pub fn new(key: Key) -> Self {
        Self { key, aside: Vec::new(), waiting: 0..0, idle_records: 0, stage: Stage::Open }
    }

    /// Opens at most one record at the front of `ciphertext`; also says how many bytes of that are used up. Payload comes to
    /// the front of `place`, which must not be empty; behind it `place` may be written too, and all of it on an error.
    pub fn open(&mut self, ciphertext: &[u8], place: &mut [u8]) -> Result<(usize, Opened), RecordError> {
        match self.stage {
            Stage::Open => {}
            Stage::Closed => return Ok((0, Opened::Closed)),
            Stage::Failed => return Err(RecordError::Over),
        }
        if !self.waiting.is_empty() {
            return Ok((0, Opened::Payload(self.take_waiting(place))));
        }
        let opened = self.open_record(ciphertext, place);
        match opened {
            Ok((_, Opened::Closed)) => self.stage = Stage::Closed,
            Err(_) => self.stage = Stage::Failed,
            Ok(_) => {}
        }
        opened
    }

    /// The key that follows; due after [`Opened::KeyUpdate`], else nothing more opens.
    pub fn update(&mut self, next: Key) {
        self.key = next;
    }

    fn take_waiting(&mut self, place: &mut [u8]) -> usize {
        let count = self.waiting.len().min(place.len());
        place[..count].copy_from_slice(&self.aside[self.waiting.start..self.waiting.start + count]);
        self.waiting.start += count;
        count
    }

    fn open_record(&mut self, ciphertext: &[u8], place: &mut [u8]) -> Result<(usize, Opened), RecordError> {
        let Some(Record { header, body }) = format::record(ciphertext)? else { return Ok((0, Opened::More)) };
        let used = header.len() + body.len();
        let inner_bytes = body.len() - TAG_BYTES;
        // The type takes a byte too, so the last record of a payload goes the long way round.
        let fits = inner_bytes <= place.len();
        if !fits && self.aside.is_empty() {
            self.aside.resize(MAX_RECORD_BYTES - HEADER_BYTES - TAG_BYTES, 0);
        }
        let inner = if fits { &mut place[..inner_bytes] } else { &mut self.aside[..inner_bytes] };
        self.key.open(header, body, inner)?;
        let end = inner.iter().rposition(|&byte| byte != 0).ok_or(RecordError::NoType)?;
        if inner_bytes > MAX_CONTENT_BYTES + 1 {
            return Err(RecordError::TooLong(used));
        }
        let (content, kind) = (&inner[..end], inner[end]);
        let opened = match kind {
            DATA => Opened::Payload(content.len()),
            HANDSHAKE => handshake(content)?,
            ALERT => alert(content)?,
            other => return Err(RecordError::UnexpectedType(other)),
        };
        self.count_idle(opened)?;
        match opened {
            Opened::Payload(bytes) if !fits => {
                self.waiting = 0..bytes;
                Ok((used, Opened::Payload(self.take_waiting(place))))
            }
            other => Ok((used, other)),
        }
    }

    fn count_idle(&mut self, opened: Opened) -> Result<(), RecordError> {
        let has_payload = matches!(opened, Opened::Payload(1..));
        self.idle_records = if has_payload { 0 } else { self.idle_records + 1 };
        if self.idle_records > MAX_IDLE_RECORDS { Err(RecordError::Flood) } else { Ok(()) }
    }
}

/// A message of the handshake after it. Everybody sends a change of key in a record of its own.
fn handshake(content: &[u8]) -> Result<Opened, RecordError> {
    match content {
        [24, 0, 0, 1, asked @ (0 | 1)] => Ok(Opened::KeyUpdate { answer: *asked == 1 }),
        [24, ..] | [] => Err(RecordError::Malformed),
        [other, ..] => Err(RecordError::UnexpectedHandshake(*other)),
    }
}

fn alert(content: &[u8]) -> Result<Opened, RecordError> {
    match content {
        [_, CLOSE_NOTIFY] => Ok(Opened::Closed),
        [_, USER_CANCELED] => Ok(Opened::Payload(0)),
        // Whatever level it claims: in TLS 1.3 all others are fatal.
        [_, other] => Err(RecordError::Alert(*other)),
        _ => Err(RecordError::Malformed),
    }
}
