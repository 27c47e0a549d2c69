use super::*;
use crate::frame::{FrameError, encode};
use crate::message::{Cancel, ItemKind, RefusalCode, Request, Role};
use proptest::prelude::*;

fn bytes<H: Header>(kind: Kind, id: u64, payload: usize, header: &H) -> Vec<u8> {
    encode(kind, id, payload, |frame| header.append(frame)).to_vec()
}

fn request(timeout_ms: u32, request: Request) -> Vec<u8> {
    bytes(Kind::Request, 77, request.payload_bytes(), &RequestHeader { timeout_ms, request })
}

/// A frame of every kind and every message.
fn samples() -> Vec<Vec<u8>> {
    let (index, kind, blake3, staging) = (5, ItemKind::Parity, [3; 32], [4; 16]);
    let hello = Hello {
        min_version: 1,
        max_version: 1,
        role: Role::PlotClient,
        features: 0,
        max_requests: 64,
        credit_bytes: 32 << 20,
        name: "a name longer than what fits in place".into(),
    };
    let refusal = Refusal::new(RefusalCode::Damaged, "text that lies outside of the root");
    let proof = Response::Proof { chunk: [1; 32], witness: [2; 48], proof_of_space: [3; 160] };
    vec![
        bytes(Kind::Hello, 0, 0, &hello),
        request(0, Request::GetItem { index, kind }),
        request(900, Request::PutItem { index, kind, blake3 }),
        request(1, Request::GetSectorRange { staging, phase: 4095, offset: 1 << 33, length: 2_000_000 }),
        request(1, Request::GetSectorMetadata { staging }),
        request(1500, Request::Prove { blake3, sector_id: [9; 32], piece_offset: 3, s_bucket: 65535 }),
        bytes(Kind::Response, 1, 10, &Response::Item { blake3 }),
        bytes(Kind::Response, 1, 0, &Response::Stored),
        bytes(Kind::Response, 1, 9, &Response::SectorMetadata { blake3, sector_bytes: 1 << 30 }),
        bytes(Kind::Response, 1, 0, &proof),
        bytes(Kind::Refusal, 1, 0, &refusal),
        bytes(Kind::Cancel, 1, 0, &Cancel),
        bytes(Kind::Credit, 0, 0, &Credit { bytes: 5 }),
        bytes(Kind::Ping, 0, 0, &Ping { nonce: 6 }),
        bytes(Kind::Pong, 0, 0, &Ping { nonce: 6 }),
        bytes(Kind::GoAway, 0, 0, &GoAway::new(false, "back in a minute, for an upgrade")),
    ]
}

#[test]
fn every_message_comes_back() {
    let mut kinds = std::collections::HashSet::new();
    for sample in samples() {
        let (prefix, message) = frame(&sample).unwrap();
        kinds.insert(std::mem::discriminant(&message));
        let written = match &message {
            Message::Hello(header) => bytes(prefix.kind, prefix.request_id, 0, header),
            Message::Request(header) => request(header.timeout_ms, header.request.clone()),
            Message::Response(header) => bytes(Kind::Response, 1, prefix.payload_length, header),
            Message::Refusal(header) => bytes(Kind::Refusal, 1, 0, header),
            Message::Cancel => bytes(Kind::Cancel, 1, 0, &Cancel),
            Message::Credit(header) => bytes(Kind::Credit, 0, 0, header),
            Message::Ping(header) | Message::Pong(header) => bytes(prefix.kind, 0, 0, header),
            Message::GoAway(header) => bytes(Kind::GoAway, 0, 0, header),
        };
        assert_eq!(written, sample);
    }
    assert_eq!(kinds.len(), 9);
}

/// Mutated frames, most with their checksum mended so that the header itself is reached.
#[test]
fn mutated_frames_never_panic_and_what_passes_keeps_the_rules() {
    let samples = samples();
    let mut seed = 1u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 16) as usize
    };
    let (mut passed, mut refused) = (0u32, 0u32);
    for _ in 0..1_500_000 {
        let mut bytes = samples[random() % samples.len()].clone();
        for _ in 0..1 + random() % 3 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        if random() % 16 == 0 {
            bytes.truncate(random() % bytes.len());
        }
        if random() % 8 != 0 {
            crate::fuzz::mend(&mut bytes);
        }
        match crate::fuzz::frame(&bytes) {
            Ok(()) => passed += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(passed > 100_000 && refused > 100_000, "{passed} passed, {refused} refused");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn random_bytes_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(frame(&bytes).is_err());
    }
}

#[test]
fn cut_frames_are_errors() {
    for sample in samples() {
        for length in 0..sample.len() {
            let error = frame(&sample[..length]).unwrap_err();
            assert!(matches!(error, ParseError::Short | ParseError::Frame(FrameError::Checksum)), "{error}");
        }
    }
}
