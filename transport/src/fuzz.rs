//! Bodies of the fuzz targets in `fuzz/`, run by the unit tests too.

use crate::frame::{self, MAX_PAYLOAD_BYTES, PREFIX_BYTES};
use crate::message::{MAX_NAME_BYTES, MAX_TEXT_BYTES, Request};
use crate::parse::{self, Message, ParseError};

/// Puts the right checksum into a frame, so that what a mutation did to the rest is reached.
pub fn mend(bytes: &mut [u8]) {
    let Some((prefix, rest)) = bytes.split_first_chunk_mut::<PREFIX_BYTES>() else { return };
    let length = u32::from_le_bytes([prefix[16], prefix[17], prefix[18], prefix[19]]) as usize;
    let header = &rest[..length.min(rest.len())];
    frame::seal(prefix, header);
}

/// Reads a frame from any bytes; what passes must keep the rules others rely on.
///
/// # Panics
/// When it does not.
pub fn frame(bytes: &[u8]) -> Result<(), ParseError> {
    let (prefix, message) = parse::frame(bytes)?;
    assert!(prefix.payload_length <= MAX_PAYLOAD_BYTES);
    match message {
        Message::Hello(hello) => assert!(hello.name.len() <= MAX_NAME_BYTES),
        Message::Request(header) => {
            assert_eq!(header.request.payload_bytes(), prefix.payload_length);
            assert!(header.request.response_payload_bytes() <= MAX_PAYLOAD_BYTES);
            if let Request::GetSectorRange { phase, offset, length, .. } = header.request {
                assert!(usize::from(phase) + length as usize <= MAX_PAYLOAD_BYTES);
                assert!(offset.checked_add(u64::from(length)).is_some());
            }
        }
        Message::Refusal(refusal) => assert!(refusal.text.len() <= MAX_TEXT_BYTES),
        Message::GoAway(words) => assert!(words.text.len() <= MAX_TEXT_BYTES),
        Message::Response(_) | Message::Cancel | Message::Credit(_) | Message::Ping(_) | Message::Pong(_) => {
        }
    }
    Ok(())
}
