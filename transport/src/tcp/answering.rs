//! The requests of one connection and the tasks that answer them.
//!
//! ```text
//!   request ─▶ its share of memory ─▶ handler ─▶ answer, which keeps the share until it is sent
//!                    └──────── withdrawn ┴─▶ what has begun keeps it a little longer
//! ```

use super::handler::{Answer, Handler, PeerInfo};
use super::link::{Credit, Link, LinkEvent, Received};
use super::memory::{Memory, Peer, Share};
use super::payload::SlabPayload;
use crate::connection::{AnswerError, CloseReason, Event, PeerRequestId};
use crate::limits::CANCEL_LINGER_MS;
use crate::message::{Refusal, RefusalCode, Request};
use engine::task::{LocalTask, spawn_local, yield_now};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

pub(super) struct Requests<H> {
    handler: Rc<H>,
    address: SocketAddr,
    memory: Memory,
    peer: RefCell<Option<Rc<PeerInfo>>>,
    tasks: RefCell<HashMap<PeerRequestId, LocalTask<()>>>,
}

/// What a request holds until it is answered.
struct Held {
    share: Option<Share>,
    /// For the payload that came with it: the peer may send more when this one's memory is free.
    _credit: Option<Credit>,
    /// The handler is at work.
    has_begun: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(share) = self.share.take()
            && self.has_begun
        {
            share.linger(CANCEL_LINGER_MS);
        }
    }
}

impl<H: Handler> Requests<H> {
    pub(super) fn new(handler: Rc<H>, address: SocketAddr, memory: Memory) -> Self {
        Self { handler, address, memory, peer: RefCell::default(), tasks: RefCell::default() }
    }

    pub(super) fn on(self: &Rc<Self>, link: &Rc<Link>, event: LinkEvent) {
        match event {
            Event::Connected(hello) => {
                let role = link.pin().map_or(hello.role, |pin| pin.role);
                tracing::debug!(peer = %self.address, %role, name = %hello.name, "peer connected");
                let fingerprint = match link.peer_id() {
                    Peer::Certificate(fingerprint) => Some(fingerprint),
                    Peer::Socket(_) => None,
                };
                let peer = PeerInfo { address: self.address, role, fingerprint, hello };
                *self.peer.borrow_mut() = Some(Rc::new(peer));
            }
            Event::Request { id, request, payload, deadline_ms } => {
                self.start(link, id, request, payload, deadline_ms);
            }
            Event::Withdrawn(id) => {
                // The task's end may lead back here, so nothing is borrowed then.
                let task = self.tasks.borrow_mut().remove(&id);
                drop(task);
            }
            Event::Closed(reason) => self.closed(link, &reason),
            // A server asks nothing.
            Event::Leaving(_) | Event::Response { .. } | Event::Failed { .. } | Event::Freed(_) => {}
        }
    }

    fn closed(&self, link: &Link, reason: &CloseReason) {
        if reason.is_slowness() {
            self.memory.slow(link.peer_id());
        }
        tracing::debug!(peer = %self.address, %reason, "connection ended");
        drop(self.tasks.take());
    }

    fn start(
        self: &Rc<Self>,
        link: &Rc<Link>,
        id: PeerRequestId,
        request: Request,
        payload: Option<SlabPayload>,
        deadline_ms: Option<u64>,
    ) {
        let peer = self.peer.borrow().clone().expect("requests come after the hello");
        let (share, credit, payload) = match payload {
            None => (None, None, None),
            Some(payload) => {
                let (payload, share, credit) = Received::of_request(payload, link);
                (share, Some(credit), Some(payload))
            }
        };
        let mut held = Held { share, _credit: credit, has_begun: false };
        let (requests, link) = (self.clone(), link.clone());
        let task = spawn_local(async move {
            // A new task runs before it is entered below, so it must wait once.
            yield_now().await;
            let slabs = request.response_slabs();
            if slabs > 0 {
                held.share = Some(requests.memory.share(link.peer_id(), slabs).await);
            }
            held.has_begun = true;
            let deadline_in = deadline_ms.map(|at| Duration::from_millis(at.saturating_sub(link.now_ms())));
            let answer = requests.handler.clone().handle(peer, request, payload, deadline_in).await;
            send(&link, id, answer, held.share.take());
            drop(held);
            link.to_send.notify();
            let itself = requests.tasks.borrow_mut().remove(&id);
            // Dropping a task ends it; this one is at its end anyway.
            if let Some(itself) = itself {
                itself.detach();
            }
        });
        self.tasks.borrow_mut().insert(id, task);
    }
}

fn send(link: &Rc<Link>, id: PeerRequestId, answer: Answer, share: Option<Share>) {
    let mut core = link.core.borrow_mut();
    let sent = match answer {
        Ok((response, payload)) => {
            let payload = payload.map(|payload| payload.with_share(share));
            core.respond(id, &response, payload, link.now_ms())
        }
        Err(refusal) => core.refuse(id, &refusal),
    };
    let sent = sent.or_else(|error| match error {
        AnswerError::Misfit(_) => {
            tracing::error!(peer = %link.peer, %error, "a handler failed");
            core.refuse(id, &Refusal::new(RefusalCode::Failed, error.to_string()))
        }
        AnswerError::Unwanted => Err(error),
    });
    drop(core);
    if sent.is_ok() {
        link.changed();
    }
}
