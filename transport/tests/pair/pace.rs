//! Peers that are slow, hang, or send what there is no memory for.

use crate::net::{Conn, Faults, Net};
use crate::traffic::{Server, config, connect};
use transport::connection::{CloseReason, Config, Connection, Event, RequestError, Space};
use transport::limits::{
    CANCEL_MS, LEAST_BYTES_PER_S, PAYLOAD_GRACE_MS, REQUEST_MAX_MS, SLAB_WAIT_MS, payload_ms,
};
use transport::message::{ItemKind, Refusal, RefusalCode, Request, Response, Role};

const LENGTH: u32 = 600_000;

fn range(offset: u64) -> Request {
    Request::GetSectorRange { staging: [5; 16], phase: 0, offset, length: LENGTH }
}

/// Time that a range of these may take.
fn range_ms() -> u64 {
    payload_ms(u64::from(LENGTH), PAYLOAD_GRACE_MS, LEAST_BYTES_PER_S)
}

/// Two that have said hello to each other, `a` the client.
fn acquainted(connect: impl Fn(bool, u64) -> Conn) -> Net {
    let mut net = Net::new(1, Faults::NONE, connect);
    net.turn();
    net
}

/// Lets time pass tick by tick, without any byte moving, to `until_ms`.
fn stand(conn: &mut Conn, now_ms: &mut u64, until_ms: u64) {
    while let Some(due_ms) = conn.next_tick_ms().filter(|due_ms| *due_ms <= until_ms) {
        *now_ms = due_ms.max(*now_ms);
        conn.tick(*now_ms);
    }
    *now_ms = until_ms;
}

fn events(conn: &mut Conn) -> Vec<Event<Vec<u8>>> {
    std::iter::from_fn(|| conn.event()).collect()
}

fn closed(conn: &mut Conn) -> Option<CloseReason> {
    events(conn).into_iter().find_map(|event| match event {
        Event::Closed(reason) => Some(reason),
        _ => None,
    })
}

/// Asks `b` for so many ranges and has it answer them all at once.
fn answered(net: &mut Net, ranges: u64) {
    for offset in 0..ranges {
        net.a.conn.request(range(offset), None, None, net.now_ms).unwrap();
    }
    for event in net.turn().1 {
        let Event::Request { id, .. } = event else { panic!("{event:?}") };
        let (response, payload) = (Response::SectorRange { blake3: [0; 32] }, vec![0; LENGTH as usize]);
        net.b.conn.respond(id, &response, Some(payload), net.now_ms).unwrap();
    }
}

#[test]
fn whoever_takes_no_payload_from_the_socket_is_given_up() {
    let mut net = acquainted(connect);
    answered(&mut net, 3);
    let b = &mut net.b.conn;
    assert!(b.transmit(net.now_ms).unwrap().payload.is_some());
    // The next frame is never asked for: the socket is full. The peer goes on sending signs of life.
    let end_ms = net.now_ms + range_ms();
    stand(b, &mut net.now_ms, end_ms - 1);
    assert!(!b.is_closed());
    stand(b, &mut net.now_ms, end_ms);
    assert_eq!(closed(b), Some(CloseReason::ReadsSlowly(range_ms())));
}

#[test]
fn whoever_gives_no_credit_is_given_up_and_whoever_gives_it_in_time_is_not() {
    let small = |is_client, now| {
        let role = if is_client { Role::Tool } else { Role::PlotServer };
        Connection::new(Config { credit_bytes: 2 << 20, ..config(role) }, now)
    };
    let mut net = acquainted(small);
    answered(&mut net, 8);
    let mut got = 0;
    let mut limit_ms = 0;
    loop {
        got += net.turn().0.len();
        if got == 8 {
            break;
        }
        // Three fit the credit; each of the others is let through at the last moment.
        limit_ms = net.now_ms + range_ms() - 1;
        while net.now_ms < limit_ms {
            net.sleep(limit_ms);
            assert!(net.turn().0.is_empty());
        }
        net.a.conn.release(LENGTH as usize);
    }
    assert!(limit_ms > 4 * PAYLOAD_GRACE_MS);
    answered(&mut net, 1);
    let end_ms = net.now_ms + range_ms();
    while net.now_ms < end_ms {
        assert!(!net.b.conn.is_closed());
        net.sleep(end_ms);
        net.turn();
    }
    assert!(net.b.conn.is_closed() && net.a.conn.is_closed());
}

/// What the client makes of a payload of which one byte comes every `pause_ms`; gives when it was closed, or all was there.
fn dripped(pause_ms: u64, bytes_each: usize) -> (u64, Option<CloseReason>) {
    let mut net = acquainted(connect);
    answered(&mut net, 1);
    let frame = net.b.conn.transmit(net.now_ms).unwrap();
    let (a, mut now_ms) = (&mut net.a.conn, net.now_ms);
    assert_eq!(a.receive(&frame.head, now_ms), frame.head.len());
    let Space::Wanted(wanted) = a.space() else { panic!("memory is wanted") };
    a.provide(vec![0; wanted.length], now_ms);
    let payload = frame.payload.unwrap();
    let mut rest = payload.as_slice();
    while !rest.is_empty() && !a.is_closed() {
        let until_ms = now_ms + pause_ms;
        stand(a, &mut now_ms, until_ms);
        let (next, after) = rest.split_at(bytes_each.min(rest.len()));
        a.receive(next, now_ms);
        rest = after;
    }
    (now_ms, closed(a))
}

#[test]
fn a_payload_that_drips_ends_the_connection_and_one_that_is_just_slow_does_not() {
    let (ended_ms, reason) = dripped(100, 1);
    assert_eq!(reason, Some(CloseReason::SendsSlowly(range_ms())));
    assert!(ended_ms < range_ms() + 200);
    // At the least rate.
    assert_eq!(dripped(1000, LEAST_BYTES_PER_S as usize).1, None);
}

#[test]
fn a_side_that_stood_still_itself_blames_nobody() {
    let mut net = acquainted(connect);
    answered(&mut net, 1);
    let b = &mut net.b.conn;
    assert!(b.transmit(net.now_ms).unwrap().payload.is_some());
    net.now_ms += 10 * range_ms();
    b.tick(net.now_ms);
    assert!(!b.is_closed());
    let end_ms = net.now_ms + range_ms();
    stand(b, &mut net.now_ms, end_ms);
    assert!(b.is_closed());
}

/// One payload finds no memory at the server. What lies behind it on the wire goes on: a cancel, a ping, credit, requests.
#[test]
fn a_payload_without_memory_holds_nothing_up_but_itself() {
    let mut net = Net::new(1, Faults { buffer_ms: 1 << 50, ..Faults::NONE }, connect);
    net.turn();
    let for_ever = net.a.conn.request(range(0), None, None, net.now_ms).unwrap();
    net.turn();
    let put = Request::PutItem { index: 1, kind: ItemKind::Parity, blake3: [0; 32] };
    let put_id =
        net.a.conn.request(put.clone(), Some(vec![0; put.payload_bytes()]), None, net.now_ms).unwrap();
    net.turn();
    net.a.conn.cancel(for_ever);
    let absent = Request::GetItem { index: 7, kind: ItemKind::Piece };
    let behind = net.a.conn.request(absent, None, None, net.now_ms).unwrap();
    let (mut at_a, mut at_b, mut server) = (Vec::new(), Vec::new(), Server::default());
    let end_ms = net.now_ms + 10 * SLAB_WAIT_MS;
    while net.now_ms < end_ms {
        let (a, b) = net.turn();
        at_a.extend(a);
        for event in b {
            at_b.push(format!("{event:?}"));
            server.on(event, net.now_ms, &mut net.rng);
        }
        if server.answer(&mut net.b.conn, net.now_ms) == 0 {
            net.sleep(server.next_ms().unwrap_or(end_ms).min(end_ms));
        }
    }
    let refused = |event: &Event<Vec<u8>>, of, code| {
        matches!(event, Event::Failed { id, error: RequestError::Refused(Refusal { code: why, .. }) }
            if *id == of && *why == code)
    };
    assert!(at_a.iter().any(|event| refused(event, put_id, RefusalCode::Busy)), "{at_a:?}");
    assert!(at_a.iter().any(|event| refused(event, behind, RefusalCode::NotFound)), "{at_a:?}");
    assert!(at_a.contains(&Event::Freed(for_ever)), "{at_a:?}");
    assert!(at_b.iter().any(|event| event.starts_with("Withdrawn")), "{at_b:?}");
    assert!(at_b.iter().all(|event| !event.contains("PutItem")), "nobody heard of it");
    // The credit it took is back, so the next one is sent at once.
    let again = net.a.conn.request(put.clone(), Some(vec![0; put.payload_bytes()]), None, net.now_ms);
    assert!(again.is_ok());
    net.turn();
    assert!(net.a.conn.stats().payload_sent_bytes == 2 * put.payload_bytes() as u64);
}

#[test]
fn a_peer_that_does_not_end_what_is_taken_back_is_given_up() {
    let patient = |is_client, now| {
        let (role, idle_timeout_ms) =
            if is_client { (Role::Tool, 30_000) } else { (Role::PlotServer, 1 << 40) };
        Connection::new(Config { idle_timeout_ms, ..config(role) }, now)
    };
    let mut net = acquainted(patient);
    let id = net.a.conn.request(range(0), None, None, net.now_ms).unwrap();
    net.turn();
    net.a.conn.cancel(id);
    // `b` gets nothing any more, but its pings go on.
    let (a, start_ms) = (&mut net.a.conn, net.now_ms);
    let mut reason = None;
    while reason.is_none() {
        while a.transmit(net.now_ms).is_some() {}
        let until_ms = net.now_ms + 5000;
        stand(a, &mut net.now_ms, until_ms);
        net.b.conn.tick(net.now_ms);
        while let Some(frame) = net.b.conn.transmit(net.now_ms) {
            a.receive(&frame.head, net.now_ms);
        }
        reason = closed(a);
        assert!(net.now_ms < start_ms + 2 * CANCEL_MS);
    }
    assert_eq!(reason, Some(CloseReason::CancelIgnored));
}

#[test]
fn requests_without_an_end_end() {
    let mut net = acquainted(connect);
    net.a.conn.request(range(0), None, None, net.now_ms).unwrap();
    assert!(matches!(net.turn().1[..], [Event::Request { deadline_ms: None, .. }]));
    let mut at_a = Vec::new();
    while at_a.is_empty() {
        net.sleep(u64::MAX);
        at_a = net.turn().0;
    }
    assert!(net.now_ms >= REQUEST_MAX_MS && net.now_ms < REQUEST_MAX_MS + 1000);
    let over = |error: &RequestError| matches!(error, RequestError::Refused(refusal) if refusal.code == RefusalCode::DeadlinePassed);
    assert!(matches!(&at_a[..], [Event::Failed { error, .. }] if over(error)), "{at_a:?}");
}
