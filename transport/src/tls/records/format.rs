//! How a record looks, and why one is refused.
//!
//! | bytes | field |
//! |---|---|
//! | 0 | type: 23, whatever is inside |
//! | 1..3 | version: 3, 3 |
//! | 3..5 | length of the rest, big endian |
//! | 5.. | AES-GCM of: content, one byte of its type, zeros; then 16 bytes of tag |

/// Type, version, length.
pub const HEADER_BYTES: usize = 5;
/// The tag at the end of a record.
pub const TAG_BYTES: usize = 16;
/// Longest content of a record.
pub const MAX_CONTENT_BYTES: usize = 1 << 14;
/// Longest rest of a record.
const MAX_BODY_BYTES: usize = MAX_CONTENT_BYTES + 256;
/// Longest record.
pub const MAX_RECORD_BYTES: usize = HEADER_BYTES + MAX_BODY_BYTES;

/// Type of an alert.
pub const ALERT: u8 = 21;
/// Type of a handshake message.
pub const HANDSHAKE: u8 = 22;
/// Type of payload, and of every record's outside.
pub const DATA: u8 = 23;

/// The alert that ends the payload.
pub const CLOSE_NOTIFY: u8 = 0;
/// The alert that says nothing: a close follows it.
pub const USER_CANCELED: u8 = 90;

/// Why a peer's record is refused, or none can be opened or sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Changed on the way, out of its place, or sealed with another key.
    #[error("a record does not come from the peer as it is: something between changes what is sent")]
    NotAuthentic,
    /// Longer than the protocol allows.
    #[error("a record of {0} bytes is longer than TLS allows")]
    TooLong(usize),
    /// Too short for a type and a tag.
    #[error("a record of {0} bytes is shorter than TLS allows")]
    TooShort(usize),
    /// Nothing but padding.
    #[error("a record has no type")]
    NoType,
    /// A type that has no place after the handshake.
    #[error("a record of type {0} after the handshake")]
    UnexpectedType(u8),
    /// A message of the handshake that is not for us: only changes of key are.
    #[error("handshake message of type {0} after the handshake: renegotiation and tickets are not offered")]
    UnexpectedHandshake(u8),
    /// A change of key or an alert of another form.
    #[error("a message of TLS itself is malformed")]
    Malformed,
    /// Records without payload, one after another.
    #[error("the peer sends records without payload, one after another")]
    Flood,
    /// The peer gives up, and says why by a number of RFC 8446, 6.
    #[error("the peer ends TLS with alert {0}")]
    Alert(u8),
    /// It failed or was closed before.
    #[error("TLS is over")]
    Over,
}

impl RecordError {
    /// The alert that tells the peer, if one is due.
    pub fn alert(&self) -> Option<u8> {
        match self {
            Self::NotAuthentic => Some(20),
            Self::TooLong(_) => Some(22),
            Self::NoType | Self::UnexpectedType(_) | Self::UnexpectedHandshake(_) | Self::Flood => Some(10),
            Self::TooShort(_) | Self::Malformed => Some(50),
            Self::Alert(_) | Self::Over => None,
        }
    }
}

/// The header of a record with `body_bytes` after it.
pub fn header(body_bytes: usize) -> [u8; HEADER_BYTES] {
    let [high, low] = u16::try_from(body_bytes).expect("a record's length fits its field").to_be_bytes();
    [DATA, 3, 3, high, low]
}

/// Bytes of the record that begins `ciphertext`, by its header alone; of the header while that is not there.
pub fn record_bytes(ciphertext: &[u8]) -> usize {
    match ciphertext {
        [_, _, _, high, low, ..] => HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low])),
        _ => HEADER_BYTES,
    }
}

/// A record that is all there, and may be one.
pub struct Record<'a> {
    pub header: &'a [u8],
    /// Ciphertext and tag.
    pub body: &'a [u8],
}

/// The record that begins `ciphertext`; none while it is not all there.
pub fn record(ciphertext: &[u8]) -> Result<Option<Record<'_>>, RecordError> {
    let bytes = record_bytes(ciphertext);
    if let Some(&kind) = ciphertext.first()
        && kind != DATA
    {
        return Err(RecordError::UnexpectedType(kind));
    }
    if ciphertext.len() >= HEADER_BYTES {
        // A type, and the tag.
        if bytes < HEADER_BYTES + 1 + TAG_BYTES {
            return Err(RecordError::TooShort(bytes));
        }
        if bytes > MAX_RECORD_BYTES {
            return Err(RecordError::TooLong(bytes));
        }
    }
    // Of less than a header only that is known.
    let whole = ciphertext.get(..bytes).filter(|whole| whole.len() > HEADER_BYTES);
    Ok(whole.map(|whole| whole.split_at(HEADER_BYTES)).map(|(header, body)| Record { header, body }))
}
