//! A cache that checks what it is given and remembers the hashes alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::SharedBus;
use cluster::host::{Host, HostConfig};
use control::messages::Role;
use futures::future::LocalBoxFuture;
use transport::message::{Refusal, RefusalCode, Request, Response};
use transport::payload::PayloadBuf;
use transport::tcp::{Answer, Handler, PeerInfo, Received};

/// Hash of each piece that came.
pub type Hashes = Arc<Mutex<BTreeMap<u64, [u8; 32]>>>;

struct Ledger {
    hashes: Hashes,
    /// Puts to be refused before one is taken.
    refusals: RefCell<u32>,
}

impl Ledger {
    fn answer(&self, request: &Request, payload: Option<&Received>) -> Answer {
        let (Request::PutItem { index, blake3, .. }, Some(payload)) = (request, payload) else {
            return Err(Refusal::new(RefusalCode::NotFound, "hashes only"));
        };
        if *self.refusals.borrow() > 0 {
            *self.refusals.borrow_mut() -= 1;
            return Err(Refusal::new(RefusalCode::Busy, "not now"));
        }
        assert_eq!(payload.blake3(), *blake3);
        self.hashes.lock().unwrap().insert(*index, *blake3);
        Ok((Response::Stored, None))
    }
}

impl Handler for Ledger {
    fn handle(
        self: Rc<Self>,
        _: Rc<PeerInfo>,
        request: Request,
        payload: Option<Received>,
        _: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        Box::pin(async move { self.answer(&request, payload.as_ref()) })
    }
}

/// Starts a cache that refuses the first few pieces.
pub async fn start(bus: &SharedBus, refusals: u32) -> (Host, Hashes) {
    let hashes = Hashes::default();
    let ledger = hashes.clone();
    let config = HostConfig { capacity: 1000, ..HostConfig::new(Role::ShardedCache) };
    let make = move |_| Rc::new(Ledger { hashes: ledger, refusals: refusals.into() });
    (Host::start(config, bus.clone(), make).await.unwrap(), hashes)
}
