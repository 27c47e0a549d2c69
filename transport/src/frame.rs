//! The frame: everything two members say to each other is a sequence of these.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..4 | magic | `"ASF1"`, [`MAGIC`] |
//! | 4 | version | layout of the header; [`VERSION`] |
//! | 5 | kind | [`Kind`] |
//! | 6..8 | flags | zero in this version |
//! | 8..16 | request id | the request a frame belongs to; zero for frames of the connection itself |
//! | 16..20 | header length | at most [`MAX_HEADER_BYTES`] |
//! | 20..24 | payload length | at most [`MAX_PAYLOAD_BYTES`] |
//! | 24..28 | CRC-32C | over bytes 0..32, these four taken as zero, then the header |
//! | 28..32 | reserved | zero in this version |
//! | 32.. | header | rkyv archive of the kind's type in [`crate::message`], its root at the end |
//! | after it | payload | raw, no padding; its BLAKE3 is in the header |
//!
//! Integers are little endian. Owns: this layout. Never: what a header means; a payload's bytes.

use rkyv::util::AlignedVec;

/// Bytes of the fixed part.
pub const PREFIX_BYTES: usize = 32;
/// `"ASF1"` read as a little-endian integer.
pub const MAGIC: u32 = u32::from_le_bytes(*b"ASF1");
/// The only version of the header layouts so far.
pub const VERSION: u8 = 1;
/// Longest header: the longest message has 2 KiB of text, so twice that.
pub const MAX_HEADER_BYTES: usize = 4096;
/// Longest payload: one buffer of the pool.
pub const MAX_PAYLOAD_BYTES: usize = 2 << 20;
/// Where the CRC lies in the prefix.
const CRC_OFFSET: usize = 24;

/// Alignment of headers in memory, as rkyv wants it: a prefix is two of these.
pub type HeaderBuf = AlignedVec<16>;

/// Why bytes are not a frame of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first four bytes are something else.
    #[error("not a frame (magic {0:#010x}): the peer does not speak this protocol, or plain TCP meets TLS")]
    Magic(u32),
    /// A later or invalid version.
    #[error("frame version {0} is not supported: upgrade the older member")]
    Version(u8),
    /// No such kind.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// Flags or reserved bytes that this version keeps at zero.
    #[error("reserved bits are set in a frame")]
    Reserved,
    /// The header is longer than allowed.
    #[error("frame header of {0} bytes is over the limit of {MAX_HEADER_BYTES}")]
    HeaderTooLong(u32),
    /// The payload is longer than allowed.
    #[error("frame payload of {0} bytes is over the limit of {MAX_PAYLOAD_BYTES}")]
    PayloadTooLong(u32),
    /// A kind that never has a payload came with one.
    #[error("{0:?} frame with a payload")]
    UnexpectedPayload(Kind),
    /// A frame of the connection with a request's id, or the other way round.
    #[error("{0:?} frame with request id {1}")]
    RequestId(Kind, u64),
    /// Damaged on the way.
    #[error("frame checksum mismatch: bytes were damaged on the way")]
    Checksum,
}

/// What a frame is. The discriminant is the byte on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// First frame of each side.
    Hello = 1,
    /// Asks for something; may carry a payload.
    Request = 2,
    /// Answers a request; may carry a payload.
    Response = 3,
    /// Ends a request with an error.
    Refusal = 4,
    /// Takes a request back.
    Cancel = 5,
    /// Lets the peer send more payload.
    Credit = 6,
    /// Asks for a sign of life.
    Ping = 7,
    /// Gives it.
    Pong = 8,
    /// Last words: no new requests, or the end.
    GoAway = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Request,
            3 => Self::Response,
            4 => Self::Refusal,
            5 => Self::Cancel,
            6 => Self::Credit,
            7 => Self::Ping,
            8 => Self::Pong,
            9 => Self::GoAway,
            _ => return None,
        })
    }

    /// Whether frames of this kind belong to a request.
    pub const fn has_request(self) -> bool {
        matches!(self, Self::Request | Self::Response | Self::Refusal | Self::Cancel)
    }

    /// Whether frames of this kind may carry a payload.
    pub const fn may_have_payload(self) -> bool {
        matches!(self, Self::Request | Self::Response)
    }
}

/// The fixed part, decoded and within its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// What the frame is.
    pub kind: Kind,
    /// The request it belongs to, or zero.
    pub request_id: u64,
    /// Bytes of header that follow.
    pub header_length: usize,
    /// Bytes of payload after the header.
    pub payload_length: usize,
}

fn u32_at(bytes: &[u8; PREFIX_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Prefix {
    /// Reads a prefix; every limit is checked here, before anybody takes memory for what follows.
    /// The checksum needs the header too: [`Prefix::verify`].
    pub fn decode(bytes: &[u8; PREFIX_BYTES]) -> Result<Self, FrameError> {
        let magic = u32_at(bytes, 0);
        if magic != MAGIC {
            return Err(FrameError::Magic(magic));
        }
        if bytes[4] != VERSION {
            return Err(FrameError::Version(bytes[4]));
        }
        let kind = Kind::from_byte(bytes[5]).ok_or(FrameError::Kind(bytes[5]))?;
        if bytes[6] != 0 || bytes[7] != 0 || u32_at(bytes, 28) != 0 {
            return Err(FrameError::Reserved);
        }
        let request_id = u64::from(u32_at(bytes, 8)) | u64::from(u32_at(bytes, 12)) << 32;
        if kind.has_request() != (request_id != 0) {
            return Err(FrameError::RequestId(kind, request_id));
        }
        let header = u32_at(bytes, 16);
        if header as usize > MAX_HEADER_BYTES {
            return Err(FrameError::HeaderTooLong(header));
        }
        let payload = u32_at(bytes, 20);
        if payload as usize > MAX_PAYLOAD_BYTES {
            return Err(FrameError::PayloadTooLong(payload));
        }
        if payload != 0 && !kind.may_have_payload() {
            return Err(FrameError::UnexpectedPayload(kind));
        }
        Ok(Self { kind, request_id, header_length: header as usize, payload_length: payload as usize })
    }

    /// Checks the CRC of a frame whose prefix came as `bytes`.
    pub fn verify(bytes: &[u8; PREFIX_BYTES], header: &[u8]) -> Result<(), FrameError> {
        if checksum(bytes, header) == u32_at(bytes, CRC_OFFSET) { Ok(()) } else { Err(FrameError::Checksum) }
    }

    fn encode(&self, header: &[u8]) -> [u8; PREFIX_BYTES] {
        let mut bytes = [0; PREFIX_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4] = VERSION;
        bytes[5] = self.kind as u8;
        bytes[8..16].copy_from_slice(&self.request_id.to_le_bytes());
        bytes[16..20].copy_from_slice(&wire_length(self.header_length).to_le_bytes());
        bytes[20..24].copy_from_slice(&wire_length(self.payload_length).to_le_bytes());
        seal(&mut bytes, header);
        bytes
    }
}

/// Writes the checksum into a prefix.
pub(crate) fn seal(prefix: &mut [u8; PREFIX_BYTES], header: &[u8]) {
    let crc = checksum(prefix, header);
    prefix[CRC_OFFSET..CRC_OFFSET + 4].copy_from_slice(&crc.to_le_bytes());
}

fn wire_length(length: usize) -> u32 {
    u32::try_from(length).expect("lengths are within the frame's limits")
}

fn checksum(prefix: &[u8; PREFIX_BYTES], header: &[u8]) -> u32 {
    let mut zeroed = *prefix;
    zeroed[CRC_OFFSET..CRC_OFFSET + 4].fill(0);
    crc32c::crc32c_append(crc32c::crc32c(&zeroed), header)
}

/// Writes prefix and header of a frame. `write_header` appends the header to what it is given.
///
/// # Panics
/// When the header or payload is over its limit: callers build both from checked parts.
pub fn encode(
    kind: Kind,
    request_id: u64,
    payload_length: usize,
    write_header: impl FnOnce(HeaderBuf) -> HeaderBuf,
) -> HeaderBuf {
    let mut bytes = HeaderBuf::with_capacity(256);
    bytes.resize(PREFIX_BYTES, 0);
    let mut bytes = write_header(bytes);
    let header_length = bytes.len() - PREFIX_BYTES;
    assert!(header_length <= MAX_HEADER_BYTES, "{kind:?} header of {header_length} bytes");
    assert!(payload_length <= MAX_PAYLOAD_BYTES, "{kind:?} payload of {payload_length} bytes");
    let prefix = Prefix { kind, request_id, header_length, payload_length };
    let prefix = prefix.encode(&bytes[PREFIX_BYTES..]);
    bytes[..PREFIX_BYTES].copy_from_slice(&prefix);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> HeaderBuf {
        encode(Kind::Request, 0x0102_0304_0506_0708, 1000, |mut bytes| {
            bytes.extend_from_slice(b"header bytes");
            bytes
        })
    }

    fn split(frame: &HeaderBuf) -> ([u8; PREFIX_BYTES], &[u8]) {
        (frame[..PREFIX_BYTES].try_into().unwrap(), &frame[PREFIX_BYTES..])
    }

    #[test]
    fn layout_is_as_documented() {
        let frame = sample();
        let (prefix, header) = split(&frame);
        assert_eq!(&prefix[..8], b"ASF1\x01\x02\x00\x00");
        assert_eq!(prefix[8..16], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(prefix[16..24], [12, 0, 0, 0, 0xe8, 3, 0, 0]);
        assert_eq!(prefix[28..], [0; 4]);
        let decoded = Prefix::decode(&prefix).unwrap();
        assert_eq!(
            decoded,
            Prefix {
                kind: Kind::Request,
                request_id: 0x0102_0304_0506_0708,
                header_length: 12,
                payload_length: 1000
            }
        );
        Prefix::verify(&prefix, header).unwrap();
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let frame = sample();
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let (prefix, header) = split(&damaged);
            let outcome = Prefix::decode(&prefix).and_then(|_| Prefix::verify(&prefix, header));
            assert!(outcome.is_err(), "bit {bit} passed");
        }
    }

    #[test]
    fn limits_come_before_the_checksum() {
        let mut prefix = split(&sample()).0;
        prefix[16..20].copy_from_slice(&4097u32.to_le_bytes());
        assert_eq!(Prefix::decode(&prefix), Err(FrameError::HeaderTooLong(4097)));
        let mut prefix = split(&sample()).0;
        prefix[20..24].copy_from_slice(&(MAX_PAYLOAD_BYTES as u32 + 1).to_le_bytes());
        assert_eq!(Prefix::decode(&prefix), Err(FrameError::PayloadTooLong(MAX_PAYLOAD_BYTES as u32 + 1)));
        prefix[4] = 2;
        assert_eq!(Prefix::decode(&prefix), Err(FrameError::Version(2)));
    }

    #[test]
    fn connection_frames_have_neither_request_nor_payload() {
        let ping = |id, payload| {
            let frame = encode(Kind::Ping, id, payload, |bytes| bytes);
            Prefix::decode(&split(&frame).0)
        };
        assert!(ping(0, 0).is_ok());
        assert_eq!(ping(9, 0), Err(FrameError::RequestId(Kind::Ping, 9)));
        assert_eq!(ping(0, 1), Err(FrameError::UnexpectedPayload(Kind::Ping)));
    }
}
