use super::format::{
    ALERT, CLOSE_NOTIFY, HANDSHAKE, HEADER_BYTES, MAX_CONTENT_BYTES, MAX_RECORD_BYTES, USER_CANCELED,
};
use super::*;
use crate::tls::outgoing::Outgoing;
use proptest::prelude::*;

fn key(salt: u8) -> Key {
    Key::new(&[salt; 16], [salt; 12], 0).unwrap()
}

fn ends() -> (Sealer, Opener) {
    (Sealer::new(key(1), RECORDS_A_KEY), Opener::new(key(1)))
}

fn taken(out: &mut Outgoing) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = out.take(&mut bytes);
    bytes.truncate(count);
    bytes
}

/// One record of any form.
fn made(sealer: &mut Sealer, content: &[u8], trailer: &[u8]) -> Vec<u8> {
    let mut out = Outgoing::default();
    sealer.record(content, trailer, &mut out);
    taken(&mut out)
}

/// Payload as records.
fn sealed(sealer: &mut Sealer, mut payload: &[u8]) -> Vec<u8> {
    let mut out = Outgoing::default();
    while !payload.is_empty() {
        let count = sealer.seal(payload, &mut out).unwrap();
        payload = &payload[count..];
    }
    taken(&mut out)
}

/// Opens all of `ciphertext` into places of `place_bytes`; what came of the payload is in `plain`.
fn open(
    opener: &mut Opener,
    mut ciphertext: &[u8],
    place_bytes: usize,
    plain: &mut Vec<u8>,
) -> Result<Opened, RecordError> {
    loop {
        let mut place = vec![0; place_bytes];
        let (used, opened) = opener.open(ciphertext, &mut place)?;
        ciphertext = &ciphertext[used..];
        match opened {
            Opened::Payload(count) => plain.extend_from_slice(&place[..count]),
            other => return Ok(other),
        }
    }
}

fn opened(opener: &mut Opener, ciphertext: &[u8]) -> Result<Opened, RecordError> {
    open(opener, ciphertext, 40_000, &mut Vec::new())
}

fn refused(content: &[u8], trailer: &[u8]) -> RecordError {
    let (mut sealer, mut opener) = ends();
    let error = opened(&mut opener, &made(&mut sealer, content, trailer)).unwrap_err();
    let next = sealed(&mut sealer, b"payload");
    assert_eq!(opened(&mut opener, &next), Err(RecordError::Over), "after {error}");
    error
}

#[test]
fn payload_of_any_length_arrives_with_either_cipher() {
    for key_bytes in [16, 32] {
        let key = || Key::new(&vec![7; key_bytes], [9; 12], 3).unwrap();
        let (mut sealer, mut opener) = (Sealer::new(key(), RECORDS_A_KEY), Opener::new(key()));
        for length in [1, 2, 1000, MAX_CONTENT_BYTES - 1, MAX_CONTENT_BYTES, MAX_CONTENT_BYTES + 1, 100_000] {
            let payload: Vec<u8> = (0..length).map(|at| ((at * 7) >> 2) as u8).collect();
            let ciphertext = sealed(&mut sealer, &payload);
            assert_eq!(ciphertext.len(), length + 22 * length.div_ceil(MAX_CONTENT_BYTES));
            let mut plain = Vec::new();
            assert_eq!(open(&mut opener, &ciphertext, 30_000, &mut plain), Ok(Opened::More));
            assert!(plain == payload, "{length}");
        }
    }
    assert!(Key::new(&[0; 24], [0; 12], 0).is_none());
}

/// A record that fits is opened where it belongs: what lies behind it there is at most the byte of its type.
#[test]
fn payload_comes_to_its_place_at_once() {
    let (mut sealer, mut opener) = ends();
    let ciphertext = sealed(&mut sealer, &[5; 1000]);
    let mut place = [9; 1100];
    assert_eq!(opener.open(&ciphertext, &mut place), Ok((ciphertext.len(), Opened::Payload(1000))));
    assert!(place[..1000].iter().all(|&byte| byte == 5) && place[1001..].iter().all(|&byte| byte == 9));
}

#[test]
fn a_changed_record_gives_nothing() {
    for at in 0..32 {
        let (mut sealer, mut opener) = ends();
        let (first, next) = (sealed(&mut sealer, b"0123456789"), sealed(&mut sealer, &[1; 500]));
        let mut bytes = [first, next].concat();
        bytes[at] ^= 1;
        let mut plain = Vec::new();
        assert!(open(&mut opener, &bytes, 100, &mut plain).is_err(), "byte {at}");
        assert!(plain.is_empty());
        assert_eq!(opened(&mut opener, &[]), Err(RecordError::Over));
    }
}

#[test]
fn records_arrive_in_order_each_once_and_whole() {
    let records = || {
        let (mut sealer, opener) = ends();
        let records: Vec<_> = (0..3u8).map(|at| sealed(&mut sealer, &[at; 100])).collect();
        (records, opener)
    };
    for order in [&[0, 0][..], &[1], &[0, 2], &[1, 0]] {
        let (records, mut opener) = records();
        let bytes: Vec<u8> = order.iter().flat_map(|&at: &usize| records[at].clone()).collect();
        assert_eq!(opened(&mut opener, &bytes), Err(RecordError::NotAuthentic), "{order:?}");
    }
    let (records, mut opener) = records();
    let cut = &records[0][..records[0].len() - 1];
    assert_eq!(opened(&mut opener, cut), Ok(Opened::More));
    assert_eq!(opened(&mut opener, &[cut, &records[1]].concat()), Err(RecordError::NotAuthentic));
}

#[test]
fn padding_is_taken_off_and_must_not_be_all() {
    let (mut sealer, mut opener) = ends();
    let mut trailer = vec![0; 3000];
    trailer[0] = DATA;
    let padded = made(&mut sealer, b"ends with zeros\0\0", &trailer);
    let mut plain = Vec::new();
    assert_eq!(open(&mut opener, &padded, 10, &mut plain), Ok(Opened::More));
    assert_eq!(plain, b"ends with zeros\0\0");
    assert_eq!(refused(&[0; 50], &[0]), RecordError::NoType);
    assert!(matches!(refused(&vec![1; MAX_CONTENT_BYTES], &[DATA, 0]), RecordError::TooLong(_)));
    assert!(matches!(refused(&vec![1; MAX_CONTENT_BYTES + 1], &[DATA]), RecordError::TooLong(_)));
}

#[test]
fn lengths_and_types_that_cannot_be_are_refused_by_the_header_alone() {
    let refused = |header: [u8; HEADER_BYTES]| opened(&mut ends().1, &header).unwrap_err();
    assert_eq!(refused([DATA, 3, 3, 0, 16]), RecordError::TooShort(21));
    assert_eq!(refused([DATA, 3, 3, 0, 0]), RecordError::TooShort(5));
    assert_eq!(refused([DATA, 3, 3, 0x41, 1]), RecordError::TooLong(MAX_RECORD_BYTES + 1));
    assert_eq!(opened(&mut ends().1, &[DATA, 3, 3, 0x41, 0]), Ok(Opened::More));
    for kind in [0, 20, ALERT, HANDSHAKE, 24] {
        assert_eq!(opened(&mut ends().1, &[kind]), Err(RecordError::UnexpectedType(kind)));
    }
}

#[test]
fn nothing_of_the_handshake_comes_after_it_but_changes_of_key() {
    assert_eq!(refused(&[4, 0, 0, 1, 0], &[HANDSHAKE]), RecordError::UnexpectedHandshake(4));
    assert_eq!(refused(&[1], &[HANDSHAKE]), RecordError::UnexpectedHandshake(1));
    for malformed in [&[24, 0, 0, 1, 2][..], &[24, 0, 0, 1], &[24, 0, 0, 1, 0, 0], &[]] {
        assert_eq!(refused(malformed, &[HANDSHAKE]), RecordError::Malformed);
    }
    for kind in [1, 20, 24, 255] {
        assert_eq!(refused(b"what", &[kind]), RecordError::UnexpectedType(kind));
    }
}

#[test]
fn alerts_end_it_and_after_a_close_nothing_is_looked_at() {
    assert_eq!(refused(&[1, 42], &[ALERT]), RecordError::Alert(42));
    assert_eq!(refused(&[2, 20], &[ALERT]), RecordError::Alert(20));
    assert_eq!(refused(&[2], &[ALERT]), RecordError::Malformed);
    assert_eq!(refused(&[2, 20, 2, 20], &[ALERT]), RecordError::Malformed);
    let (mut sealer, mut opener) = ends();
    let canceled = made(&mut sealer, &[1, USER_CANCELED], &[ALERT]);
    assert_eq!(opened(&mut opener, &canceled), Ok(Opened::More));
    let closed = made(&mut sealer, &[1, CLOSE_NOTIFY], &[ALERT]);
    assert_eq!(opened(&mut opener, &closed), Ok(Opened::Closed));
    assert_eq!(opened(&mut opener, b"anything"), Ok(Opened::Closed));
    let mut out = Outgoing::default();
    sealer.close(&mut out).unwrap();
    assert_eq!(sealer.seal(b"more", &mut out), Err(RecordError::Over));
    assert_eq!(sealer.fail(10, &mut out), Err(RecordError::Over));
    assert!(!sealer.is_update_due());
}

#[test]
fn the_next_key_is_due_by_age_or_when_asked_for_and_the_last_one_is_of_no_use_then() {
    let (mut sealer, mut opener) = (Sealer::new(key(1), 3), Opener::new(key(1)));
    for salt in 2..6 {
        for _ in 0..3 {
            assert!(!sealer.is_update_due());
            let payload = sealed(&mut sealer, b"payload");
            assert_eq!(opened(&mut opener, &payload), Ok(Opened::More));
        }
        assert!(sealer.is_update_due());
        let mut out = Outgoing::default();
        sealer.update(key(salt), &mut out);
        assert_eq!(opened(&mut opener, &taken(&mut out)), Ok(Opened::KeyUpdate { answer: false }));
        opener.update(key(salt));
    }
    sealer.asked_to_update();
    assert!(sealer.is_update_due());
    sealer.update(key(9), &mut Outgoing::default());
    assert!(!sealer.is_update_due());
    let payload = sealed(&mut sealer, b"payload");
    assert_eq!(opened(&mut opener, &payload), Err(RecordError::NotAuthentic));
}

#[test]
fn records_without_payload_are_borne_for_a_while() {
    let update = (&[24, 0, 0, 1, 1][..], [HANDSHAKE], Opened::KeyUpdate { answer: true });
    for (content, trailer, expected) in [update, (&[], [DATA], Opened::More)] {
        let (mut sealer, mut opener) = ends();
        for round in 0..3 {
            let idle: Vec<_> = (0..32).map(|_| made(&mut sealer, content, &trailer)).collect();
            assert!(idle.iter().all(|record| opened(&mut opener, record) == Ok(expected)), "{round}");
            let payload = sealed(&mut sealer, b"p");
            assert_eq!(opened(&mut opener, &payload), Ok(Opened::More));
        }
        let flood: Vec<_> = (0..33).map(|_| made(&mut sealer, content, &trailer)).collect();
        let ends: Vec<_> = flood.iter().map(|record| opened(&mut opener, record)).collect();
        assert_eq!(ends[31..], [Ok(expected), Err(RecordError::Flood)]);
    }
}

/// The body of the fuzz target over seeds: scripts in which some bytes are what a script needs and some are any.
#[test]
fn any_script_of_records_gives_only_what_was_put_in() {
    let mut seed = 3u64;
    let mut random = move |bound: usize| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 33) as usize % bound
    };
    for _ in 0..3000 {
        let mut script = Vec::new();
        for _ in 0..random(12) {
            script.extend([random(256), random(256), random(3)].map(|byte| byte as u8));
            let values = [0, DATA, ALERT, HANDSHAKE, 24, 1, 3, random(256) as u8];
            script.extend((0..random(40)).map(|_| values[random(values.len())]));
        }
        crate::fuzz::tls_records(&script);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// However ciphertext is cut and however long the places are, the plaintext is the same.
    #[test]
    fn any_chopping_gives_the_same_plaintext(
        messages in prop::collection::vec((0..40_000usize, 0..300usize), 1..6),
        cuts in prop::collection::vec(1..30_000usize, 1..20),
        places in prop::collection::vec(1..40_000usize, 1..20),
    ) {
        let (mut sealer, mut opener) = ends();
        let (mut payload, mut ciphertext) = (Vec::new(), Vec::new());
        for (at, &(length, padding)) in messages.iter().enumerate() {
            let message: Vec<u8> = (0..length).map(|byte| ((byte * 13) >> 3) as u8 ^ at as u8).collect();
            ciphertext.extend(sealed(&mut sealer, &message));
            let mut trailer = vec![0; 1 + padding];
            trailer[0] = DATA;
            ciphertext.extend(made(&mut sealer, b"padded", &trailer));
            payload.extend(message);
            payload.extend_from_slice(b"padded");
        }
        let (mut from, mut to, mut plain) = (0, 0, Vec::new());
        let (mut cuts, mut places) = (cuts.iter().cycle(), places.iter().cycle());
        while plain.len() < payload.len() {
            let mut place = vec![0; *places.next().unwrap()];
            match opener.open(&ciphertext[from..to], &mut place) {
                Ok((0, Opened::More)) => to = (to + cuts.next().unwrap()).min(ciphertext.len()),
                Ok((used, Opened::Payload(count))) => {
                    from += used;
                    plain.extend_from_slice(&place[..count]);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert!(plain == payload && from == ciphertext.len());
    }
}
