//! Peers that break the rules, frame by frame.

use super::*;
use crate::frame::{FrameError, PREFIX_BYTES};
use crate::message::{Header, ItemKind, MAX_TEXT_BYTES, MessageError, RefusalCode};
use crate::rights::RequestKind;

type Conn = Connection<Vec<u8>>;

fn hello() -> Hello {
    Hello {
        min_version: 1,
        max_version: 3,
        role: Role::PlotClient,
        features: u64::MAX,
        max_requests: 5,
        credit_bytes: 2 << 20,
        name: "peer".into(),
    }
}

/// What the connection says about `bytes` from its peer after a good hello.
fn after_hello(bytes: &[u8]) -> (Conn, Option<CloseReason>) {
    let config = Config { max_requests: 2, credit_bytes: 2 << 20, ..Config::new(Role::PlotClient, "") };
    let mut conn = Connection::new(config, 0);
    conn.receive(&encode(Kind::Hello, 0, 0, &hello()), 0);
    assert_eq!(conn.event(), Some(Event::Connected(hello())));
    let reason = feed(&mut conn, bytes);
    (conn, reason)
}

fn feed(conn: &mut Conn, mut bytes: &[u8]) -> Option<CloseReason> {
    while !bytes.is_empty() && !conn.is_closed() {
        if let Space::Wanted(wanted) = conn.space() {
            conn.provide(vec![0; wanted.length], 0);
        }
        bytes = &bytes[conn.receive(bytes, 0)..];
    }
    let closed = |event| if let Event::Closed(reason) = event { Some(reason) } else { None };
    std::iter::from_fn(|| conn.event()).filter_map(closed).last()
}

fn violation(bytes: &[u8]) -> Violation {
    match after_hello(bytes).1 {
        Some(CloseReason::Violation(violation)) => violation,
        other => panic!("not a violation: {other:?}"),
    }
}

fn range(length: u32) -> RequestHeader {
    let request = Request::GetSectorRange { staging: [0; 16], phase: 0, offset: 0, length };
    RequestHeader { timeout_ms: 0, request }
}

#[test]
fn broken_rules_end_the_connection_with_a_reason() {
    let ask = |id| encode(Kind::Request, id, 0, &range(10)).to_vec();
    assert_eq!(violation(&encode(Kind::Hello, 0, 0, &hello())), Violation::OutOfTurn(Kind::Hello));
    assert_eq!(violation(&[ask(1), ask(1)].concat()), Violation::RequestIdInUse(1));
    assert_eq!(violation(&[ask(1), ask(2), ask(3)].concat()), Violation::TooManyRequests(2));
    let refusal = Refusal::new(RefusalCode::Busy, "");
    assert_eq!(violation(&encode(Kind::Refusal, 1, 0, &refusal)), Violation::UnknownRequest(1));
    assert_eq!(violation(&encode(Kind::Response, 1, 0, &Response::Stored)), Violation::UnknownRequest(1));
    assert_eq!(
        violation(&encode(Kind::Credit, 0, 0, &Credit { bytes: u64::MAX })),
        Violation::CreditOverflow
    );
    assert_eq!(violation(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"), {
        Violation::Frame(FrameError::Magic(u32::from_le_bytes(*b"GET ")))
    });
    let long = GoAway { fatal: true, text: "x".repeat(MAX_TEXT_BYTES + 1) };
    let error = MessageError::TextTooLong(MAX_TEXT_BYTES + 1);
    assert_eq!(violation(&encode(Kind::GoAway, 0, 0, &long)), Violation::Message(Kind::GoAway, error));
    let error = MessageError::Range { offset: 0, length: 0, phase: 0 };
    assert_eq!(violation(&encode(Kind::Request, 1, 0, &range(0))), Violation::Message(Kind::Request, error));
}

#[test]
fn payload_over_the_credit_is_refused_before_memory_is_taken() {
    let put = |id| {
        let request = Request::PutItem { index: 0, kind: ItemKind::Piece, blake3: [0; 32] };
        let head =
            encode(Kind::Request, id, request.payload_bytes(), &RequestHeader { timeout_ms: 0, request });
        [head.to_vec(), vec![0; ItemKind::Piece.size_bytes()]].concat()
    };
    // 2 MiB of credit hold one piece, not two.
    assert_eq!(
        violation(&[put(1), put(2)].concat()),
        Violation::CreditExceeded(ItemKind::Piece.size_bytes())
    );
}

#[test]
fn answers_must_fit_their_request() {
    let wrong = [
        (encode(Kind::Response, 1, 0, &Response::Stored), MessageError::WrongResponse),
        (
            encode(Kind::Response, 1, 11, &Response::SectorRange { blake3: [0; 32] }),
            MessageError::PayloadLength { expected: 10, got: 11 },
        ),
    ];
    for (frame, error) in wrong {
        let (mut conn, _) = after_hello(&[]);
        let id = conn.request(range(10).request, None, None, 0).unwrap();
        // Before the request has left nobody can answer it.
        let mut early = after_hello(&[]).0;
        early.request(range(10).request, None, None, 0).unwrap();
        let unknown = CloseReason::Violation(Violation::UnknownRequest(1));
        assert_eq!(feed(&mut early, &frame), Some(unknown));
        while conn.transmit(0).is_some() {}
        conn.receive(&frame, 0);
        let lost = Event::Failed { id, error: RequestError::ConnectionLost };
        assert_eq!(conn.event(), Some(lost));
        let reason = CloseReason::Violation(Violation::Message(Kind::Response, error));
        assert_eq!(conn.event(), Some(Event::Closed(reason)));
        // The peer hears why.
        let words = conn.transmit(0).unwrap().head;
        assert!(GoAway::read(&words[PREFIX_BYTES..]).unwrap().fatal);
        assert!(matches!(conn.space(), Space::Closed));
    }
}

#[test]
fn hellos_that_cannot_work_are_refused() {
    let bad = [
        (Hello { min_version: 2, ..hello() }, MessageError::Versions { min: 2, max: 3, ours: 1 }),
        (Hello { credit_bytes: (2 << 20) - 1, ..hello() }, MessageError::HelloLimits),
        (Hello { credit_bytes: u64::MAX, ..hello() }, MessageError::HelloLimits),
        (Hello { name: "n".repeat(257), ..hello() }, MessageError::TextTooLong(257)),
    ];
    for (hello, error) in bad {
        let mut conn = Conn::new(Config::new(Role::PlotClient, ""), 0);
        let reason = feed(&mut conn, &encode(Kind::Hello, 0, 0, &hello));
        let expected = Violation::Message(Kind::Hello, error);
        assert_eq!(reason, Some(CloseReason::Violation(expected)));
    }
    let mut conn = Conn::new(Config::new(Role::PlotClient, ""), 0);
    let reason = feed(&mut conn, &encode(Kind::Request, 1, 0, &range(1)));
    assert_eq!(reason, Some(CloseReason::Violation(Violation::OutOfTurn(Kind::Request))));
}

#[test]
fn cancelled_before_it_is_sent_leaves_no_trace() {
    let (mut conn, _) = after_hello(&[]);
    while conn.transmit(0).is_some() {}
    let id = conn.request(range(10).request, None, None, 0).unwrap();
    conn.cancel(id);
    assert!(conn.transmit(0).is_none() && conn.is_idle());
}

#[test]
fn a_flood_of_pings_costs_one_pong() {
    let ping = |nonce| encode(Kind::Ping, 0, 0, &Ping { nonce }).to_vec();
    let (mut conn, _) = after_hello(&(0..100).flat_map(ping).collect::<Vec<_>>());
    let frames: Vec<_> = std::iter::from_fn(|| conn.transmit(0)).collect();
    assert_eq!(frames.len(), 2, "hello and pong");
    assert_eq!(Ping::read(&frames[1].head[PREFIX_BYTES..]), Ok(Ping { nonce: 99 }));
}

#[test]
fn requests_and_cancels_without_reading_are_bounded() {
    let pair = |id| {
        let ask = encode(Kind::Request, id, 0, &range(10)).to_vec();
        [ask, encode(Kind::Cancel, id, 0, &Cancel).to_vec()].concat()
    };
    // Two refusals wait to be sent; a third request is over the limit although both others are cancelled.
    let bytes: Vec<_> = (1..=3).flat_map(pair).collect();
    assert_eq!(violation(&bytes), Violation::TooManyRequests(2));
}

#[test]
fn an_answer_that_does_not_fit_can_still_be_refused() {
    let (mut conn, _) = after_hello(&[]);
    conn.receive(&encode(Kind::Request, 1, 0, &range(10)), 0);
    let Some(Event::Request { id, .. }) = conn.event() else { panic!("no request") };
    let misfit = MessageError::PayloadLength { expected: 10, got: 9 };
    let answer = conn.respond(id, &Response::SectorRange { blake3: [0; 32] }, Some(vec![0; 9]), 0);
    assert_eq!(answer, Err(AnswerError::Misfit(misfit)));
    assert_eq!(conn.refuse(id, &Refusal::new(RefusalCode::Failed, "")), Ok(()));
    assert_eq!(conn.respond(id, &Response::Stored, None, 0), Err(AnswerError::Unwanted));
}

/// A connection that waits for word of its peer's role.
fn waiting_for_role() -> Conn {
    let mut conn = Conn::new(Config::new(Role::ShardedCache, ""), 0);
    conn.await_role();
    conn
}

#[test]
fn a_role_that_is_known_counts_and_not_the_one_that_is_said() {
    let hello = encode(Kind::Hello, 0, 0, &hello());
    // Told before the hello and after it.
    for told_first in [true, false] {
        for (known, agrees) in [(Role::PlotClient, true), (Role::Other(9), true), (Role::Controller, false)] {
            let mut conn = waiting_for_role();
            if told_first {
                conn.tell_role(known);
            }
            conn.receive(&hello, 0);
            if !told_first {
                assert_eq!(conn.event(), None);
                conn.tell_role(known);
            }
            let wrong = Violation::WrongRole { said: Role::PlotClient, known };
            let expected = match agrees {
                true => Event::Connected(self::hello()),
                false => Event::Closed(CloseReason::Violation(wrong)),
            };
            assert_eq!(conn.event(), Some(expected), "{known}, {told_first}");
        }
    }
}

#[test]
fn nothing_is_asked_before_the_role_is_known() {
    let hello = encode(Kind::Hello, 0, 0, &hello());
    for (second, kind) in [(&encode(Kind::Request, 1, 0, &range(9)), Kind::Request), (&hello, Kind::Hello)] {
        let mut conn = waiting_for_role();
        conn.receive(&hello, 0);
        assert_eq!(feed(&mut conn, second), Some(CloseReason::Violation(Violation::OutOfTurn(kind))));
        conn.tell_role(Role::PlotClient);
        assert_eq!(conn.event(), None);
    }
}

/// Every kind of request from every role: what the table forbids is refused before it takes memory, and the connection goes on.
#[test]
fn what_a_role_may_not_ask_takes_no_memory() {
    let (index, kind, blake3, staging) = (1, ItemKind::Piece, [0; 32], [0; 16]);
    let requests = [
        Request::GetItem { index, kind },
        Request::PutItem { index, kind, blake3 },
        range(10).request,
        Request::GetSectorMetadata { staging },
        Request::Prove { blake3, sector_id: [0; 32], piece_offset: 0, s_bucket: 0 },
    ];
    for role in Role::ALL.into_iter().chain([Role::Other(7), Role::Other(255)]) {
        let mut conn = waiting_for_role();
        conn.receive(&encode(Kind::Hello, 0, 0, &Hello { role, ..hello() }), 0);
        conn.tell_role(role);
        while conn.event().is_some() || conn.transmit(0).is_some() {}
        for (id, request) in (1..).zip(requests.clone()) {
            let may = crate::rights::may_send(role, RequestKind::of(&request));
            let bytes = request.payload_bytes();
            let mut frame =
                encode(Kind::Request, id, bytes, &RequestHeader { timeout_ms: 0, request }).to_vec();
            frame.resize(frame.len() + bytes, 7);
            let mut rest = &frame[..];
            let mut memory = 0;
            while !rest.is_empty() {
                if let Space::Wanted(wanted) = conn.space() {
                    memory += 1;
                    conn.provide(vec![0; wanted.length], 0);
                }
                rest = &rest[conn.receive(rest, 0)..];
            }
            let asked = matches!(conn.event(), Some(Event::Request { .. }));
            assert_eq!((asked, memory), (may, usize::from(may && bytes > 0)), "{role}, request {id}");
            if !may {
                let words = conn.transmit(0).unwrap().head;
                let refusal = Refusal::read(&words[PREFIX_BYTES..]).unwrap();
                assert!(refusal.text.contains(&format!("a {role} may not ask this")), "{refusal}");
            }
        }
        assert!(!conn.is_closed());
    }
}
