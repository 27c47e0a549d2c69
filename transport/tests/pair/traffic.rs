//! A client and a server that know what every answer must be.

use crate::net::{Conn, Faults, Net, Rng};
use std::collections::{BTreeMap, BTreeSet};
use transport::connection::{Config, Connection, Event, PeerRequestId, RequestError, RequestId};
use transport::message::{ItemKind, PROVE_PAYLOAD_BYTES, Refusal, RefusalCode, Request, Response, Role};
use transport::payload::PayloadBuf;

/// Bytes `offset..offset + length` of the sector staged under `staging`.
pub fn sector_bytes(staging: [u8; 16], offset: u64, length: usize) -> Vec<u8> {
    let salt = u64::from_le_bytes(staging[..8].try_into().unwrap());
    (offset..offset + length as u64)
        .map(|at| ((at ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

pub fn config(role: Role) -> Config {
    // Both sides ask everything.
    Config { max_requests: 20, may_send: |_, _| true, ..Config::new(role, "test") }
}

pub fn connect(is_client: bool, now_ms: u64) -> Conn {
    Connection::new(config(if is_client { Role::PlotClient } else { Role::PlotServer }), now_ms)
}

/// What is asked, with what came with it.
type Work = (Request, Option<Vec<u8>>);

/// Answers after a random time, so answers overtake each other.
#[derive(Default)]
pub struct Server {
    work: BTreeMap<(u64, PeerRequestId), Work>,
    pub withdrawn: u64,
}

impl Server {
    pub fn on(&mut self, event: Event<Vec<u8>>, now_ms: u64, rng: &mut Rng) {
        match event {
            Event::Request { id, request, payload, .. } => {
                self.work.insert((now_ms + rng.below(20), id), (request, payload));
            }
            Event::Withdrawn(id) => {
                self.work.retain(|key, _| key.1 != id);
                self.withdrawn += 1;
            }
            _ => {}
        }
    }

    pub fn answer(&mut self, conn: &mut Conn, now_ms: u64) -> usize {
        let mut answers = 0;
        while let Some(entry) = self.work.first_entry().filter(|entry| entry.key().0 <= now_ms) {
            let ((_, id), (request, payload)) = entry.remove_entry();
            answers += 1;
            let (answer, released) =
                (answer(&request, payload.as_ref()), payload.map_or(0, |bytes| bytes.len()));
            conn.release(released);
            match answer {
                Ok((response, payload)) => conn.respond(id, &response, payload, now_ms).unwrap(),
                Err(refusal) => conn.refuse(id, &refusal).unwrap(),
            }
        }
        answers
    }

    pub fn next_ms(&self) -> Option<u64> {
        self.work.keys().next().map(|key| key.0)
    }
}

type Answer = Result<(Response, Option<Vec<u8>>), Refusal>;

fn answer(request: &Request, payload: Option<&Vec<u8>>) -> Answer {
    if let Some(hash) = request.blake3()
        && *hash != payload.unwrap().blake3()
    {
        return Err(Refusal::new(RefusalCode::Damaged, "payload fails its hash"));
    }
    match request {
        Request::GetSectorRange { staging, offset, length, .. } => {
            let bytes = sector_bytes(*staging, *offset, *length as usize);
            Ok((Response::SectorRange { blake3: bytes.blake3() }, Some(bytes)))
        }
        Request::PutItem { .. } => Ok((Response::Stored, None)),
        Request::Prove { s_bucket, .. } => {
            let chunk = [*s_bucket as u8; 32];
            Ok((Response::Proof { chunk, witness: [1; 48], proof_of_space: [2; 160] }, None))
        }
        _ => Err(Refusal::new(RefusalCode::NotFound, "no such item")),
    }
}

/// Makes a random mix of requests and checks every answer.
struct Client {
    left: u64,
    open: BTreeMap<RequestId, Request>,
    cancelled: BTreeSet<RequestId>,
    answered: u64,
    failed: BTreeMap<&'static str, u64>,
}

impl Client {
    fn new(requests: u64) -> Self {
        let (open, cancelled, failed) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { left: requests, open, cancelled, answered: 0, failed }
    }

    fn make(&mut self, conn: &mut Conn, now_ms: u64, rng: &mut Rng) {
        while self.left > 0 && conn.room_for_requests() > 0 {
            let (request, payload) = random_request(rng);
            let deadline = rng.chance(10).then(|| now_ms + 1 + rng.below(30));
            let id = conn.request(request.clone(), payload, deadline, now_ms).unwrap();
            self.open.insert(id, request);
            self.left -= 1;
            if rng.chance(5) {
                conn.cancel(id);
                self.open.remove(&id);
                self.cancelled.insert(id);
            }
        }
        if rng.chance(5) && !self.open.is_empty() {
            let at = rng.below(self.open.len() as u64) as usize;
            let id = *self.open.keys().nth(at).unwrap();
            conn.cancel(id);
            self.open.remove(&id);
            self.cancelled.insert(id);
        }
    }

    fn on(&mut self, event: Event<Vec<u8>>, conn: &mut Conn) {
        match event {
            Event::Response { id, response, payload } => {
                assert!(!self.cancelled.contains(&id), "an answer nobody waits for was delivered");
                let request = self.open.remove(&id).expect("one answer a request");
                assert_eq!(answer(&request, Some(&payload_of(&request))), Ok((response, payload.clone())));
                conn.release(payload.map_or(0, |bytes| bytes.len()));
                self.answered += 1;
            }
            Event::Failed { id, error } => {
                assert!(self.open.remove(&id).is_some(), "one answer a request");
                let reason = match error {
                    RequestError::Refused(refusal) => match refusal.code {
                        RefusalCode::NotFound => "not found",
                        RefusalCode::DeadlinePassed => "deadline",
                        _ => panic!("{refusal}"),
                    },
                    RequestError::DeadlinePassed => "deadline",
                    RequestError::ConnectionLost => panic!("nothing cuts this stream"),
                };
                *self.failed.entry(reason).or_default() += 1;
            }
            Event::Closed(reason) => panic!("{reason}"),
            _ => {}
        }
    }
}

fn payload_of(request: &Request) -> Vec<u8> {
    match request {
        Request::PutItem { index, .. } => vec![*index as u8; request.payload_bytes()],
        Request::Prove { s_bucket, .. } => vec![*s_bucket as u8; PROVE_PAYLOAD_BYTES],
        _ => Vec::new(),
    }
}

fn random_request(rng: &mut Rng) -> Work {
    let with_payload = |mut request: Request| {
        let payload = payload_of(&request);
        if let Request::PutItem { blake3, .. } | Request::Prove { blake3, .. } = &mut request {
            *blake3 = payload.blake3();
        }
        (request, Some(payload))
    };
    let blake3 = [0; 32];
    match rng.below(20) {
        0 => with_payload(Request::PutItem { index: rng.below(9), kind: ItemKind::Parity, blake3 }),
        1 => {
            let (piece_offset, s_bucket) = (rng.below(9) as u16, rng.below(99) as u16);
            with_payload(Request::Prove { blake3, sector_id: [3; 32], piece_offset, s_bucket })
        }
        2 => (Request::GetItem { index: 7, kind: ItemKind::Piece }, None),
        kind => {
            let length = 1 + rng.below(if kind == 3 { 2 << 20 } else { 20_000 }) as u32;
            let request =
                Request::GetSectorRange { staging: [5; 16], phase: 0, offset: rng.below(1 << 30), length };
            (request, None)
        }
    }
}

/// Runs a mix of requests to its end; returns a digest of everything that happened.
fn run(seed: u64, requests: u64, faults: Faults) -> (Client, Server, u64) {
    let mut net = Net::new(seed, faults, connect);
    let (mut client, mut server) = (Client::new(requests), Server::default());
    let mut digest = 0u64;
    for _ in 0..200_000 {
        let (at_a, at_b) = net.turn();
        for event in at_a {
            digest = digest.rotate_left(5) ^ net.now_ms ^ format!("{event:.20?}").len() as u64;
            client.on(event, &mut net.a.conn);
        }
        for event in at_b {
            assert!(!matches!(event, Event::Closed(_)), "{event:?}");
            server.on(event, net.now_ms, &mut net.rng);
        }
        server.answer(&mut net.b.conn, net.now_ms);
        client.make(&mut net.a.conn, net.now_ms, &mut net.rng);
        if client.left == 0 && client.open.is_empty() && net.a.conn.is_idle() && net.b.conn.is_idle() {
            return (client, server, digest);
        }
        let limit = server.next_ms().unwrap_or(u64::MAX);
        net.sleep(limit.min(net.now_ms + 1000));
    }
    panic!("seed {seed}: requests never end: {:?}", client.open);
}

#[test]
fn every_request_ends_once_and_rightly_whatever_the_stream_does() {
    let (mut answered, mut withdrawn, mut deadlines) = (0, 0, 0);
    for seed in 0..12 {
        let mut rng = Rng(seed);
        let faults = Faults {
            segment_bytes: [3000, 70_000, u64::MAX][rng.below(3) as usize],
            delay_ms: rng.below(15),
            buffer_ms: rng.below(10),
            ..Faults::NONE
        };
        let (client, server, _) = run(seed, 150, faults);
        assert_eq!(
            client.answered + client.cancelled.len() as u64 + client.failed.values().sum::<u64>(),
            150,
            "seed {seed}"
        );
        answered += client.answered;
        withdrawn += server.withdrawn;
        deadlines += client.failed.get("deadline").copied().unwrap_or(0);
    }
    assert!(answered > 1000 && withdrawn > 20 && deadlines > 20, "{answered} {withdrawn} {deadlines}");
}

#[test]
fn bytes_may_come_one_by_one() {
    let (client, ..) = run(99, 12, Faults { segment_bytes: 1, delay_ms: 0, ..Faults::NONE });
    assert!(client.answered > 5, "{}", client.answered);
}

#[test]
fn one_seed_replays_a_run() {
    let faults = Faults { segment_bytes: 5000, delay_ms: 9, buffer_ms: 5, ..Faults::NONE };
    assert_eq!(run(4, 60, faults).2, run(4, 60, faults).2);
    assert_ne!(run(4, 60, faults).2, run(5, 60, faults).2);
}
