//! Damage, silence, slow readers and greedy peers.

use crate::net::{Conn, Faults, Net};
use crate::traffic::{Server, config, connect, sector_bytes};
use transport::connection::{CloseReason, Config, Connection, Event, MakeError, RequestError, RequestId};
use transport::message::{ItemKind, Refusal, RefusalCode, Request, Role};
use transport::payload::PayloadBuf;

pub fn range(offset: u64, length: u32) -> Request {
    Request::GetSectorRange { staging: [5; 16], phase: 0, offset, length }
}

/// Runs until nothing more happens, the server answering; returns what happened at the client.
fn settle(net: &mut Net, server: &mut Server, limit_ms: u64) -> Vec<Event<Vec<u8>>> {
    let mut all = Vec::new();
    while net.now_ms < limit_ms {
        let (at_a, at_b) = net.turn();
        all.extend(at_a);
        for event in at_b {
            server.on(event, net.now_ms, &mut net.rng);
        }
        if !net.b.conn.is_closed() && server.answer(&mut net.b.conn, net.now_ms) > 0 {
            continue;
        }
        net.sleep(server.next_ms().unwrap_or(u64::MAX).min(limit_ms));
    }
    all
}

fn ask(conn: &mut Conn, request: Request, now_ms: u64) -> RequestId {
    conn.request(request, None, None, now_ms).unwrap()
}

/// No flipped bit may pass: the checksum, a rule of the protocol or the payload's hash finds it.
#[test]
fn every_flipped_bit_is_found() {
    let (mut by_connection, mut by_hash) = (0, 0);
    for case in 0..400u64 {
        let bit = case * 97 % (3 * 900 * 8);
        let flipped_bit = Some(bit);
        let mut net = Net::new(case, Faults { segment_bytes: 500, flipped_bit, ..Faults::NONE }, connect);
        let mut server = Server::default();
        settle(&mut net, &mut server, 1);
        let mut expected = Vec::new();
        for at in 0..3 {
            if let Ok(id) = net.a.conn.request(range(at * 1000, 700), None, None, net.now_ms) {
                expected.push((id, sector_bytes([5; 16], at * 1000, 700)));
            }
        }
        let events = settle(&mut net, &mut server, 31_000);
        let mut damage_seen = false;
        for event in events {
            match event {
                Event::Response { id, response, payload } => {
                    let bytes = payload.unwrap();
                    if bytes.blake3() == *response.blake3().unwrap() {
                        let right = expected.iter().find(|(of, _)| *of == id);
                        assert_eq!(right.unwrap().1, bytes, "bit {bit} passed");
                    } else {
                        by_hash += 1;
                        damage_seen = true;
                    }
                }
                Event::Closed(_) => {
                    by_connection += 1;
                    damage_seen = true;
                }
                _ => {}
            }
        }
        let reached = net.b.sent_bytes * 8 > bit;
        assert!(damage_seen || !reached || net.a.conn.is_closed(), "bit {bit} went unseen");
    }
    assert!(by_connection > 50 && by_hash > 100, "{by_connection} {by_hash}");
}

#[test]
fn slow_reader_bounds_what_is_sent() {
    let credit_bytes = 2 << 20;
    let small = |is_client, now| {
        Connection::new(
            Config { credit_bytes, ..config(if is_client { Role::Tool } else { Role::PlotServer }) },
            now,
        )
    };
    let mut net = Net::new(1, Faults::NONE, small);
    let mut server = Server::default();
    settle(&mut net, &mut server, 10);
    for at in 0..10 {
        ask(&mut net.a.conn, range(at, 600_000), net.now_ms);
    }
    // Nothing is released, so three of ten payloads fit the credit and no more ever come.
    let mut payloads: Vec<_> = settle(&mut net, &mut server, 5000);
    assert_eq!(payloads.len(), 3);
    assert_eq!(net.b.conn.stats().payload_sent_bytes, 1_800_000);
    while payloads.len() < 10 {
        net.a.conn.release(600_000);
        let limit = net.now_ms + 100;
        payloads.extend(settle(&mut net, &mut server, limit));
        let released = (payloads.len() as u64 - 3) * 600_000;
        assert!(net.b.conn.stats().payload_sent_bytes <= credit_bytes + released + 600_000);
    }
    assert!(payloads.iter().all(|event| matches!(event, Event::Response { .. })));
}

#[test]
fn silence_is_noticed_and_pings_prevent_it() {
    let mut net = Net::new(1, Faults::NONE, connect);
    let mut server = Server::default();
    let events = settle(&mut net, &mut server, 300_000);
    assert!(matches!(events[..], [Event::Connected(_)]), "{events:?}");
    assert_eq!(net.a.conn.stats().round_trip_ms, Some(0));
    // b says nothing any more.
    while !net.a.conn.is_closed() {
        while net.a.conn.transmit(net.now_ms).is_some() {}
        net.now_ms = net.a.conn.next_tick_ms().unwrap();
        net.a.conn.tick(net.now_ms);
    }
    let silent = CloseReason::Silent(30_000);
    assert_eq!(std::iter::from_fn(|| net.a.conn.event()).last(), Some(Event::Closed(silent)));
}

#[test]
fn a_peer_without_hello_is_given_up() {
    let mut conn = connect(true, 5);
    assert_eq!(conn.request(range(0, 1), None, None, 5), Err(MakeError::NotOpen));
    assert_eq!(conn.next_tick_ms(), Some(10_005));
    conn.tick(10_005);
    assert_eq!(conn.event(), Some(Event::Closed(CloseReason::NoHello)));
}

#[test]
fn waiting_for_memory_is_not_silence_of_the_peer() {
    let faults = Faults { buffer_ms: 200_000, ..Faults::NONE };
    let mut net = Net::new(3, faults, connect);
    let mut server = Server::default();
    settle(&mut net, &mut server, 10);
    ask(&mut net.a.conn, range(0, 100), 10);
    let events = settle(&mut net, &mut server, 400_000);
    assert!(matches!(events[..], [Event::Response { .. }]), "{events:?}");
}

#[test]
fn leaving_finishes_what_is_in_progress() {
    let mut net = Net::new(1, Faults::NONE, connect);
    let mut server = Server::default();
    settle(&mut net, &mut server, 10);
    ask(&mut net.a.conn, range(0, 100), 10);
    // This one crosses the last words and is refused; that one is made too late.
    let (_, at_b) = net.turn();
    at_b.into_iter().for_each(|event| server.on(event, net.now_ms, &mut net.rng));
    net.b.conn.leave("upgrade");
    ask(&mut net.a.conn, range(1, 100), 10);
    let events = settle(&mut net, &mut server, 100);
    let leaving = Event::Leaving("upgrade".into());
    assert!(events.contains(&leaving), "{events:?}");
    let busy = |event: &Event<_>| {
        matches!(
            event,
            Event::Failed { error: RequestError::Refused(Refusal { code: RefusalCode::Busy, .. }), .. }
        )
    };
    assert!(events.iter().any(busy), "{events:?}");
    assert!(events.iter().any(|event| matches!(event, Event::Response { .. })), "{events:?}");
    assert!(net.a.conn.is_idle() && net.b.conn.is_idle());
    assert_eq!(net.a.conn.request(range(2, 100), None, None, 100), Err(MakeError::Leaving));
    net.b.conn.close("done");
    let events = settle(&mut net, &mut server, 200);
    let reason = CloseReason::PeerLeft("connection was closed here: done".into());
    assert_eq!(events, [Event::Closed(reason)]);
}

#[test]
fn requests_are_bounded_and_checked_before_they_are_made() {
    let mut net = Net::new(1, Faults::NONE, connect);
    settle(&mut net, &mut Server::default(), 10);
    let conn = &mut net.a.conn;
    assert!(matches!(conn.request(range(0, 0), None, None, 10), Err(MakeError::Wrong(_))));
    let put = Request::PutItem { index: 1, kind: ItemKind::Piece, blake3: [0; 32] };
    assert!(matches!(conn.request(put, Some(vec![0; 5]), None, 10), Err(MakeError::Wrong(_))));
    assert_eq!(conn.request(range(0, 1), None, Some(10), 10), Err(MakeError::DeadlinePassed));
    for at in 0..20 {
        ask(conn, range(at, 1), 10);
    }
    assert_eq!(conn.request(range(0, 1), None, None, 10), Err(MakeError::Full));
}

/// Nobody hears of a request taken back but whoever waits for its place, once, when the peer's last frame has come.
#[test]
fn the_end_of_a_request_taken_back_is_told() {
    for payload_under_way in [false, true] {
        let mut net = Net::new(2, Faults { delay_ms: 5, ..Faults::NONE }, connect);
        let mut server = Server::default();
        settle(&mut net, &mut server, 100);
        let length = if payload_under_way { 2 << 20 } else { 100 };
        let id = ask(&mut net.a.conn, range(0, length), net.now_ms);
        let at_a = net.turn().0;
        assert!(at_a.is_empty(), "{at_a:?}");
        net.a.conn.cancel(id);
        assert_eq!(net.a.conn.room_for_requests(), 19);
        let limit = net.now_ms + 1000;
        assert_eq!(settle(&mut net, &mut server, limit), [Event::Freed(id)]);
        assert_eq!(net.a.conn.room_for_requests(), 20);
    }
}
