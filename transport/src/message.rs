//! What members say: the header types of every frame kind, archived with rkyv.
//!
//! A request and its answer are one pair of frames, each with at most one payload:
//!
//! | request | payload | response | payload |
//! |---|---|---|---|
//! | [`Request::GetItem`] | | [`Response::Item`] | the item: piece 1 048 672 B or parity chunks 1 048 576 B |
//! | [`Request::PutItem`] | the item | [`Response::Stored`] | |
//! | [`Request::GetSectorRange`] | | [`Response::SectorRange`] | exactly the bytes asked for |
//! | [`Request::GetSectorMetadata`] | | [`Response::SectorMetadata`] | 131 116 B (PROTOCOL 5.4) |
//! | [`Request::Prove`] | record as stored 1 MiB, then its bitmap 8 KiB | [`Response::Proof`] | |
//!
//! Instead of its response any request may get a [`Refusal`]. A payload's BLAKE3 travels in the header beside it;
//! whoever uses the payload checks it.
//!
//! bytecheck proves only that an archive is sound to read, it accepts most damaged headers: the rules of
//! each message are checked here, by [`RequestHeader::check`], [`Request::check_response`] and their like.
//! Layouts belong to [`crate::frame::VERSION`]; the layout of [`Hello`] never changes.

#![allow(missing_docs, reason = "rkyv's derive leaves fields it generates undocumented")]

use crate::frame::{HeaderBuf, MAX_PAYLOAD_BYTES};
use crate::role::AsNumber;
pub use crate::role::Role;
use consensus::constants::{
    HASH_SIZE, PIECE_SIZE, POINT_SIZE, POS_PROOF_SIZE, RECORD_SIZE, S_BUCKET_BITFIELD_SIZE, SCALAR_BYTES,
    SECTOR_METADATA_SIZE,
};
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Error as RkyvError, Failure};
use rkyv::ser::allocator::ArenaHandle;
use rkyv::{Archive, Deserialize, Serialize};
use std::fmt;

/// Longest text in a [`Refusal`] or [`GoAway`]; longer ones are cut when made.
pub const MAX_TEXT_BYTES: usize = 2048;
/// Longest name of a member in its [`Hello`].
pub const MAX_NAME_BYTES: usize = 256;
/// Sector bytes are placed at their offset in a block of this size.
pub const BLOCK_BYTES: u32 = 4096;
/// Payload of [`Request::Prove`]: the record as the farm stores it, then which s-buckets it uses.
pub const PROVE_PAYLOAD_BYTES: usize = RECORD_SIZE + S_BUCKET_BITFIELD_SIZE;

/// BLAKE3-256 of a payload.
pub type Blake3Hash = [u8; HASH_SIZE];

/// A header that cannot be what its sender meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not an archive of the kind's type.
    #[error("header is not a valid archive")]
    Malformed,
    /// A text or name over its limit.
    #[error("text of {0} bytes is too long")]
    TextTooLong(usize),
    /// The payload's length contradicts the header.
    #[error("payload has {got} bytes where the message means {expected}")]
    PayloadLength {
        /// What the header implies.
        expected: usize,
        /// What the prefix says.
        got: usize,
    },
    /// Range with no bytes, past 2 MiB with its phase, or past the end of the number line.
    #[error("sector range at offset {offset}, {length} bytes, phase {phase} is out of bounds")]
    Range {
        /// Offset in the sector.
        offset: u64,
        /// Bytes asked for.
        length: u32,
        /// Offset in a block of the reader's file.
        phase: u16,
    },
    /// A response of another type than its request.
    #[error("response does not fit its request")]
    WrongResponse,
    /// A peer that lets nothing be sent, or not even one payload.
    #[error("limits in the hello are too small or too large")]
    HelloLimits,
    /// No version both sides know.
    #[error("peer speaks versions {min} to {max} of the protocol, this member {ours}: upgrade the older one")]
    Versions {
        /// Lowest version of the peer.
        min: u8,
        /// Highest version of the peer.
        max: u8,
        /// What this side speaks.
        ours: u8,
    },
}

/// First frame of each side.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Lowest version of the headers this side reads.
    pub min_version: u8,
    /// Highest version of the headers this side reads.
    pub max_version: u8,
    /// What it says that it is; what counts is what its certificate has.
    #[rkyv(with = AsNumber)]
    pub role: Role,
    /// Optional abilities as bits; unknown bits are ignored. None are defined in this version.
    pub features: u64,
    /// Requests this side serves at once; zero when it serves none.
    pub max_requests: u32,
    /// Payload bytes the peer may send before the first credit.
    pub credit_bytes: u64,
    /// Name for logs.
    pub name: String,
}

/// Kinds of cached item (FIELD section 1).
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ItemKind {
    /// Record, commitment, witness.
    Piece,
    /// The 32 768 parity chunks of a piece's record.
    Parity,
}

impl ItemKind {
    /// Bytes of an item of this kind.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::Piece => PIECE_SIZE,
            Self::Parity => RECORD_SIZE,
        }
    }
}

/// How a payload lies in its reader's memory, so that it goes to disk and GPU from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One run of bytes whose first is at this offset in a block of [`BLOCK_BYTES`].
    Run {
        /// Below [`BLOCK_BYTES`].
        phase: u16,
    },
    /// A piece: its record begins a block, commitment and witness end the block before.
    Piece,
}

/// What a request asks for. The response that fits is in the table at the top of this module.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// An item of the cache.
    GetItem {
        /// Piece index in the history.
        index: u64,
        /// Which item of that piece.
        kind: ItemKind,
    },
    /// Keep this item; only controllers may ask it.
    PutItem {
        /// Piece index in the history.
        index: u64,
        /// Which item of that piece.
        kind: ItemKind,
        /// Of the payload.
        blake3: Blake3Hash,
    },
    /// Bytes of a finished sector.
    GetSectorRange {
        /// The plot job's id, under which the sector is staged.
        staging: [u8; 16],
        /// Offset in a 4096-byte block where the first byte will lie in the reader's file.
        phase: u16,
        /// Offset in the sector.
        offset: u64,
        /// At least one; phase and length together are at most 2 MiB.
        length: u32,
    },
    /// Encoded metadata of a finished sector.
    GetSectorMetadata {
        /// The plot job's id, under which the sector is staged.
        staging: [u8; 16],
    },
    /// Proof for one s-bucket of one record.
    Prove {
        /// Of the payload.
        blake3: Blake3Hash,
        /// PROTOCOL 5.1.
        sector_id: [u8; 32],
        /// The record's place in its sector.
        piece_offset: u16,
        /// The s-bucket that won.
        s_bucket: u16,
    },
}

/// Header of a request frame.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The answer is useless after this time; zero means no limit. Relative, because clocks differ.
    pub timeout_ms: u32,
    /// What is asked for.
    pub request: Request,
}

/// Header of a response frame.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// The item asked for.
    Item {
        /// Of the payload.
        blake3: Blake3Hash,
    },
    /// The item is kept and will survive a crash.
    Stored,
    /// The sector bytes asked for.
    SectorRange {
        /// Of the payload.
        blake3: Blake3Hash,
    },
    /// The metadata asked for.
    SectorMetadata {
        /// Of the payload.
        blake3: Blake3Hash,
        /// Bytes of the staged sector.
        sector_bytes: u64,
    },
    /// The parts of a solution that need the table and the polynomial (PROTOCOL 6).
    Proof {
        /// The chunk, decoded.
        chunk: [u8; SCALAR_BYTES],
        /// KZG witness of the chunk.
        witness: [u8; POINT_SIZE],
        /// Proof of space.
        proof_of_space: [u8; POS_PROOF_SIZE],
    },
}

/// Why a request ends without its response.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// Not here: ask the next owner.
    NotFound,
    /// Not yet: ask again later.
    NotReady,
    /// No room for another request: ask again later or ask another member.
    Busy,
    /// The request makes no sense to this member.
    Invalid,
    /// What was asked for, or what came with the request, fails its hash.
    Damaged,
    /// The requester took it back.
    Cancelled,
    /// Its time is over.
    DeadlinePassed,
    /// The member failed; the text says how.
    Failed,
}

/// Header of a refusal frame.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people; at most [`MAX_TEXT_BYTES`].
    pub text: String,
}

impl Refusal {
    /// A refusal with its text cut to what fits.
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Self { code, text: cut(text.into()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.text)
    }
}

/// Header of a cancel frame: the request id in the prefix says all.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancel;

/// Header of a credit frame.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// Payload bytes the receiver may send on top of what it may already.
    pub bytes: u64,
}

/// Header of ping and pong.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Comes back in the pong.
    pub nonce: u64,
}

/// Header of a go-away frame.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct GoAway {
    /// True: the connection ends now. False: what is in progress will be finished, nothing new is taken.
    pub fatal: bool,
    /// For people; at most [`MAX_TEXT_BYTES`].
    pub text: String,
}

impl GoAway {
    /// Last words with their text cut to what fits.
    pub fn new(fatal: bool, text: impl Into<String>) -> Self {
        Self { fatal, text: cut(text.into()) }
    }
}

/// `text` cut to [`MAX_TEXT_BYTES`] at a character's end.
fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// A header type: can be appended to a frame and read back from untrusted bytes.
pub trait Header: Sized {
    /// Appends the archive to a frame under construction.
    fn append(&self, frame: HeaderBuf) -> HeaderBuf;
    /// Reads an archive that lies on a 16-byte boundary; any bytes are safe to give.
    fn read(bytes: &[u8]) -> Result<Self, MessageError>;
}

impl<T> Header for T
where
    T: Archive + for<'a> Serialize<HighSerializer<HeaderBuf, ArenaHandle<'a>, RkyvError>>,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, Failure>> + Deserialize<T, HighDeserializer<Failure>>,
{
    fn append(&self, frame: HeaderBuf) -> HeaderBuf {
        rkyv::api::high::to_bytes_in::<_, RkyvError>(self, frame)
            .expect("memory is the only thing it can lack")
    }

    fn read(bytes: &[u8]) -> Result<Self, MessageError> {
        rkyv::from_bytes::<T, Failure>(bytes).map_err(|Failure| MessageError::Malformed)
    }
}

fn exactly(expected: usize, got: usize) -> Result<(), MessageError> {
    if expected == got { Ok(()) } else { Err(MessageError::PayloadLength { expected, got }) }
}

fn text_within(text: &str, limit: usize) -> Result<(), MessageError> {
    if text.len() <= limit { Ok(()) } else { Err(MessageError::TextTooLong(text.len())) }
}

impl Hello {
    /// The rules of a hello; `ours` is the version this side speaks.
    pub fn check(&self, ours: u8) -> Result<(), MessageError> {
        if !(self.min_version..=self.max_version).contains(&ours) {
            return Err(MessageError::Versions { min: self.min_version, max: self.max_version, ours });
        }
        text_within(&self.name, MAX_NAME_BYTES)?;
        // With less than one payload of credit a sender could wait for ever.
        let enough = self.credit_bytes >= MAX_PAYLOAD_BYTES as u64;
        if enough && self.credit_bytes <= u64::MAX / 2 { Ok(()) } else { Err(MessageError::HelloLimits) }
    }
}

impl Request {
    /// Bytes of the payload that goes with the request.
    pub const fn payload_bytes(&self) -> usize {
        match self {
            Self::PutItem { kind, .. } => kind.size_bytes(),
            Self::Prove { .. } => PROVE_PAYLOAD_BYTES,
            Self::GetItem { .. } | Self::GetSectorRange { .. } | Self::GetSectorMetadata { .. } => 0,
        }
    }

    /// Bytes of the payload of the response that fits.
    pub const fn response_payload_bytes(&self) -> usize {
        match self {
            Self::GetItem { kind, .. } => kind.size_bytes(),
            Self::GetSectorRange { length, .. } => *length as usize,
            Self::GetSectorMetadata { .. } => SECTOR_METADATA_SIZE,
            Self::PutItem { .. } | Self::Prove { .. } => 0,
        }
    }

    /// Slabs that giving the response takes: two where a range, as it lies on disk, touches more blocks than one has.
    pub const fn response_slabs(&self) -> usize {
        let phase = match self {
            Self::GetSectorRange { offset, .. } => (*offset % BLOCK_BYTES as u64) as usize,
            _ => 0,
        };
        (phase + self.response_payload_bytes()).div_ceil(MAX_PAYLOAD_BYTES)
    }

    /// Where the reader wants the response's payload to lie.
    pub const fn response_layout(&self) -> Layout {
        match self {
            Self::GetItem { kind: ItemKind::Piece, .. } => Layout::Piece,
            Self::GetSectorRange { phase, .. } => Layout::Run { phase: *phase },
            _ => Layout::Run { phase: 0 },
        }
    }

    /// Where the reader wants the request's own payload to lie.
    pub const fn layout(&self) -> Layout {
        match self {
            Self::PutItem { kind: ItemKind::Piece, .. } => Layout::Piece,
            _ => Layout::Run { phase: 0 },
        }
    }

    /// The rules of a request with a payload of `payload_bytes`.
    pub fn check(&self, payload_bytes: usize) -> Result<(), MessageError> {
        exactly(self.payload_bytes(), payload_bytes)?;
        let Self::GetSectorRange { phase, offset, length, .. } = *self else { return Ok(()) };
        let end_in_buffer = u64::from(phase) + u64::from(length);
        let inside = u32::from(phase) < BLOCK_BYTES
            && length > 0
            && end_in_buffer <= MAX_PAYLOAD_BYTES as u64
            && offset.checked_add(u64::from(length)).is_some();
        if inside { Ok(()) } else { Err(MessageError::Range { offset, length, phase }) }
    }

    /// Whether `response` with a payload of `payload_bytes` answers this request.
    pub fn check_response(&self, response: &Response, payload_bytes: usize) -> Result<(), MessageError> {
        let fits = matches!(
            (self, response),
            (Self::GetItem { .. }, Response::Item { .. })
                | (Self::PutItem { .. }, Response::Stored)
                | (Self::GetSectorRange { .. }, Response::SectorRange { .. })
                | (Self::GetSectorMetadata { .. }, Response::SectorMetadata { .. })
                | (Self::Prove { .. }, Response::Proof { .. })
        );
        if !fits {
            return Err(MessageError::WrongResponse);
        }
        exactly(self.response_payload_bytes(), payload_bytes)
    }

    /// BLAKE3 of the request's own payload, when it has one.
    pub const fn blake3(&self) -> Option<&Blake3Hash> {
        match self {
            Self::PutItem { blake3, .. } | Self::Prove { blake3, .. } => Some(blake3),
            Self::GetItem { .. } | Self::GetSectorRange { .. } | Self::GetSectorMetadata { .. } => None,
        }
    }
}

impl RequestHeader {
    /// The rules of a request frame.
    pub fn check(&self, payload_bytes: usize) -> Result<(), MessageError> {
        self.request.check(payload_bytes)
    }
}

impl Response {
    /// BLAKE3 of the response's payload, when it has one.
    pub const fn blake3(&self) -> Option<&Blake3Hash> {
        match self {
            Self::Item { blake3 } | Self::SectorRange { blake3 } | Self::SectorMetadata { blake3, .. } => {
                Some(blake3)
            }
            Self::Stored | Self::Proof { .. } => None,
        }
    }
}

impl Refusal {
    /// The rules of a refusal.
    pub fn check(&self) -> Result<(), MessageError> {
        text_within(&self.text, MAX_TEXT_BYTES)
    }
}

impl GoAway {
    /// The rules of last words.
    pub fn check(&self) -> Result<(), MessageError> {
        text_within(&self.text, MAX_TEXT_BYTES)
    }
}
