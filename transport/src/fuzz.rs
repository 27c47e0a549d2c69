//! Bodies of the fuzz targets in `fuzz/`, run by the unit tests too.

use crate::frame::{self, MAX_PAYLOAD_BYTES, PREFIX_BYTES};
use crate::message::{MAX_NAME_BYTES, MAX_TEXT_BYTES, Request};
use crate::parse::{self, Message, ParseError};
use crate::tls::outgoing::Outgoing;
use crate::tls::records::{DATA, Key, Opened, Opener, RECORDS_A_KEY, RecordError, Sealer};

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

/// Opens records as `script` says: honest payload, changes of key, records of any type and content by who has the key, and
/// any bytes by who has not.
///
/// # Panics
/// When something comes out that was not put in, in order; or anything after an error.
pub fn tls_records(script: &[u8]) {
    let key = |salt: u8| Key::new(&[salt; 16], [salt; 12], 0).expect("16 bytes are a key");
    let mut opener = Opener::new(key(0));
    let (ciphertext, payload, places) = play(script, key);
    let (mut ciphertext, mut plain, mut keys) = (&ciphertext[..], Vec::new(), 0u8);
    let mut places = places.iter().cycle();
    loop {
        let mut place = vec![0; *places.next().expect("there is at least one")];
        match opener.open(ciphertext, &mut place) {
            Ok((used, Opened::Payload(count))) => {
                ciphertext = &ciphertext[used..];
                plain.extend_from_slice(&place[..count]);
            }
            Ok((used, Opened::KeyUpdate { .. })) => {
                ciphertext = &ciphertext[used..];
                keys = keys.wrapping_add(1);
                opener.update(key(keys));
            }
            Ok((_, Opened::More | Opened::Closed)) => break,
            Err(_) => {
                assert_eq!(opener.open(ciphertext, &mut place), Err(RecordError::Over));
                break;
            }
        }
    }
    assert!(payload.starts_with(&plain));
}

/// Ciphertext, the payload in it, and lengths of the places it goes to.
fn play(mut script: &[u8], key: impl Fn(u8) -> Key) -> (Vec<u8>, Vec<u8>, Vec<usize>) {
    let mut sealer = Sealer::new(key(0), RECORDS_A_KEY);
    let (mut out, mut payload, mut places, mut keys) = (Outgoing::default(), Vec::new(), vec![100], 0u8);
    while let [what, first, second, rest @ ..] = script {
        script = rest;
        let number = usize::from(u16::from_le_bytes([*first, *second]));
        let bytes = &script[..number.min(script.len()).min(300)];
        match what % 5 {
            0 => {
                let content = vec![*what; number.min(1 << 14)];
                payload.extend_from_slice(&content);
                sealer.record(&content, &[DATA], &mut out);
            }
            1 => {
                keys = keys.wrapping_add(1);
                sealer.update(key(keys), &mut out);
            }
            2 => {
                // Type and padding are the last of them.
                let (content, trailer) = bytes.split_at(bytes.len().saturating_sub(usize::from(*what >> 4)));
                let is_payload = bytes.iter().rposition(|&byte| byte != 0).filter(|&at| bytes[at] == DATA);
                payload.extend_from_slice(&bytes[..is_payload.unwrap_or(0)]);
                sealer.record(content, trailer, &mut out);
                script = &script[bytes.len()..];
            }
            3 => {
                out.room(bytes.len()).copy_from_slice(bytes);
                script = &script[bytes.len()..];
            }
            _ => places.push(1 + number),
        }
    }
    let mut ciphertext = Vec::new();
    let count = out.take(&mut ciphertext);
    ciphertext.truncate(count);
    (ciphertext, payload, places)
}
