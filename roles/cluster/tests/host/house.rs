//! Hosts for the tests, and a handler that keeps the pieces it is given in memory.

use bus::SharedBus;
use bus::members::Liveness;
use cluster::host::{Host, HostConfig};
use control::ids::InstanceId;
use control::messages::Role;
use engine::Local;
use engine::pool::{Pool, Slab};
use futures::future::LocalBoxFuture;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use transport::message::{ItemKind, Layout, Refusal, RefusalCode, Request, Response};
use transport::payload::PayloadBuf;
use transport::tcp::{Answer, Handler, PIECE_POINTS_AT, PeerInfo, Received, SlabPayload};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Pieces in memory.
#[derive(Default)]
pub struct Shelf(RefCell<HashMap<u64, Slab>>);

impl Shelf {
    pub fn new(_: &Local) -> Rc<Self> {
        Rc::default()
    }

    fn answer(&self, request: &Request, payload: Option<Received>) -> Answer {
        match (request, payload) {
            (Request::PutItem { index, blake3, .. }, Some(payload)) => {
                assert_eq!(payload.blake3(), *blake3);
                self.0.borrow_mut().insert(*index, payload.into_payload().into_slab().freeze());
                Ok((Response::Stored, None))
            }
            (Request::GetItem { index, .. }, None) => match self.0.borrow().get(index) {
                None => Err(Refusal::new(RefusalCode::NotFound, "not on this shelf")),
                Some(slab) => {
                    let payload = SlabPayload::piece(slab);
                    Ok((Response::Item { blake3: payload.blake3() }, Some(payload)))
                }
            },
            _ => Err(Refusal::new(RefusalCode::Invalid, "a shelf holds pieces")),
        }
    }
}

impl Handler for Shelf {
    fn handle(
        self: Rc<Self>,
        _: Rc<PeerInfo>,
        request: Request,
        payload: Option<Received>,
        _: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        Box::pin(async move { self.answer(&request, payload) })
    }
}

/// Fast heartbeats; nobody is taken for dead by a slow machine.
pub fn liveness() -> Liveness {
    let interval = Duration::from_millis(50);
    Liveness { interval, suspect_after: PATIENCE, gone_after: 2 * PATIENCE, ..Liveness::default() }
}

pub async fn start(bus: &SharedBus, role: Role) -> Host {
    let config = HostConfig { slabs: 8, liveness: liveness(), ..HostConfig::new(role) };
    Host::start(config, bus.clone(), |local| Shelf::new(&local)).await.unwrap()
}

/// Waits until each of the hosts sees all of them.
pub async fn acquainted(hosts: &[&Host]) {
    for host in hosts {
        let mut present = host.present();
        let all = |now: &cluster::host::Present| hosts.iter().all(|other| now.contains_key(&other.id()));
        tokio::time::timeout(PATIENCE, present.wait_for(all)).await.unwrap().unwrap();
    }
}

/// A piece that differs for each `index`, of chunks that can be extended.
pub fn piece(pool: &Pool, index: u64) -> Slab {
    let mut slab = pool.try_acquire().unwrap();
    for (at, byte) in slab[PIECE_POINTS_AT..].iter_mut().enumerate() {
        *byte = (at as u64 / 3 * (index + 1)) as u8 & if at % 32 == 0 { 0x3f } else { 0xff };
    }
    slab.freeze()
}

pub async fn put(host: &Host, peer: InstanceId, index: u64) {
    let piece = piece(host.pool(), index);
    let blake3 = SlabPayload::piece(&piece).blake3();
    let request = Request::PutItem { index, kind: ItemKind::Piece, blake3 };
    let reply = host.request(peer, request, vec![piece], Layout::Piece, PATIENCE).await.unwrap();
    assert_eq!(reply.response, Response::Stored);
}

pub fn get(index: u64) -> Request {
    Request::GetItem { index, kind: ItemKind::Piece }
}
