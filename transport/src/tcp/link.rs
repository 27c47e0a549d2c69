//! One connection on an executor: a core, how its bytes look on the wire, and who learns of its events.

use super::memory::{Memory, Peer, Share};
use super::notify::Notify;
use super::payload::SlabPayload;
use crate::connection::{BufferWanted, Config, Connection, Event, PayloadOf, RequestId, Space, Transmit};
use crate::payload::PayloadBuf;
use crate::tls::{Fingerprint, Members, Pin, Session};
use engine::task::sleep;
use futures::future::{Either, select};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What ended a connection whose socket has no more bytes.
pub(super) const PEER_ENDED: &str = "the peer closed the socket";

/// Last words to a peer whose certificate has been withdrawn.
pub(super) const WITHDRAWN: &str = "the member list no longer has this certificate, or has it for another role: restart the member if it should be there";

pub(super) type Core = Connection<SlabPayload>;
pub(super) type LinkEvent = Event<SlabPayload>;

/// What a client or a server does with events; must not wait.
pub(super) type OnEvent = Box<dyn Fn(&Rc<Link>, LinkEvent)>;

/// How bytes look on the wire.
pub(super) enum Wire {
    Plain,
    Tls {
        session: RefCell<Box<Session>>,
        /// This member's certificate, for texts.
        own: Fingerprint,
        /// Of a server: what its peers are.
        members: Option<Arc<Members>>,
    },
}

pub(super) struct Link {
    pub(super) core: RefCell<Core>,
    pub(super) wire: Wire,
    pub(super) peer: SocketAddr,
    /// Something may be ready to be sent.
    pub(super) to_send: Notify,
    pub(super) memory: Memory,
    /// Who is there, once that is known.
    peer_id: OnceCell<Peer>,
    /// What it is by its certificate, once that is known.
    pin: OnceCell<Pin>,
    /// Memory for the answers to requests under way.
    reserved: RefCell<HashMap<RequestId, SlabPayload>>,
    /// Memory that is waited for may be wanted no more.
    unwanted: Notify,
    on_event: OnEvent,
    /// The next tick may be due earlier than it was.
    to_tick: Notify,
    next_tick_ms: Cell<u64>,
    started: Instant,
    itself: Weak<Self>,
}

impl Link {
    /// A connection that nothing keeps going yet.
    pub(super) fn new(
        peer: SocketAddr,
        wire: Wire,
        config: Config,
        memory: Memory,
        on_event: OnEvent,
    ) -> Rc<Self> {
        let mut core = Connection::new(config, 0);
        if matches!(wire, Wire::Tls { members: Some(_), .. }) {
            core.await_role();
        }
        Rc::new_cyclic(|itself| Self {
            core: RefCell::new(core),
            wire,
            peer,
            to_send: Notify::default(),
            memory,
            peer_id: OnceCell::new(),
            pin: OnceCell::new(),
            reserved: RefCell::default(),
            unwanted: Notify::default(),
            on_event,
            to_tick: Notify::default(),
            next_tick_ms: Cell::new(0),
            started: Instant::now(),
            itself: itself.clone(),
        })
    }

    /// Time of this connection.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("no process runs that long")
    }

    /// Who is there. Call it only when the peer has said hello.
    pub(super) fn peer_id(&self) -> Peer {
        *self.peer_id.get_or_init(|| self.certificate().map_or(Peer::Socket(self.peer), Peer::Certificate))
    }

    /// The peer's certificate, when it has proven to own it.
    fn certificate(&self) -> Option<Fingerprint> {
        let Wire::Tls { session, .. } = &self.wire else { return None };
        session.try_borrow().ok()?.peer_certificate().map(Fingerprint::of)
    }

    /// What the peer is by its certificate; none without TLS, and on the side of a client.
    pub(super) fn pin(&self) -> Option<Pin> {
        self.pin.get().copied()
    }

    /// Looks up what the peer is as soon as its certificate is there.
    fn identify(&self) {
        let Wire::Tls { members: Some(members), .. } = &self.wire else { return };
        if self.pin.get().is_some() {
            return;
        }
        let Some(certificate) = self.certificate() else { return };
        match members.pin_of(&certificate) {
            Some(pin) => {
                let pin = self.pin.get_or_init(|| pin);
                self.core.borrow_mut().tell_role(pin.role);
            }
            // It was one when it shook hands.
            None => self.core.borrow_mut().close(WITHDRAWN),
        }
    }

    /// Whether the peer is no member any more, or another one than it was when it connected.
    pub(super) fn is_withdrawn(&self) -> bool {
        let (Wire::Tls { members: Some(members), .. }, Some(pin)) = (&self.wire, self.pin()) else {
            return false;
        };
        let now = self.certificate().and_then(|certificate| members.pin_of(&certificate));
        now.is_none_or(|now| now.role != pin.role)
    }

    /// Keeps memory for the answer to a request.
    pub(super) fn reserve(&self, id: RequestId, memory: SlabPayload) {
        self.reserved.borrow_mut().insert(id, memory);
    }

    /// The request is over, or nobody waits for it.
    pub(super) fn unreserve(&self, id: RequestId) {
        let memory = self.reserved.borrow_mut().remove(&id);
        drop(memory);
    }

    /// Hands out events and wakes whom they concern; call it after every change of the core.
    pub(super) fn changed(&self) {
        let Some(link) = self.itself.upgrade() else { return };
        self.identify();
        loop {
            let event = self.core.borrow_mut().event();
            let Some(event) = event else { break };
            (self.on_event)(&link, event);
        }
        self.to_send.notify();
        self.unwanted.notify();
        let next = self.core.borrow().next_tick_ms().unwrap_or(0);
        if next < self.next_tick_ms.get() {
            self.to_tick.notify();
        }
    }

    /// What is to be sent next.
    pub(super) fn next_frame(&self) -> Option<Transmit<SlabPayload>> {
        self.core.borrow_mut().transmit(self.now_ms())
    }

    /// Ends the connection; its tasks send the last words.
    pub(super) fn close(&self, text: &str) {
        self.core.borrow_mut().close(text);
        self.changed();
    }

    pub(super) fn lost(&self, text: &str) {
        self.core.borrow_mut().lost(text);
        self.changed();
    }

    /// Memory that nobody has to wait for: what the request reserved, or what the peer may have of what is free.
    fn memory_at_hand(&self, wanted: &BufferWanted) -> Option<SlabPayload> {
        if let PayloadOf::Response(id) = wanted.of
            && let Some(reserved) = self.reserved.borrow_mut().remove(&id)
        {
            return Some(reserved);
        }
        let (slab, share) = self.memory.try_slab(*self.peer_id.get()?)?;
        Some(SlabPayload::to_fill(slab, wanted).with_share(share))
    }

    /// Waits for memory as long as some is wanted; false when the connection is over.
    pub(super) async fn find_memory(&self) -> Result<bool, String> {
        while let Some(wanted) = self.wanted() {
            let peer = self.peer_id();
            let at_hand = self.memory_at_hand(&wanted);
            if let Some(memory) = at_hand {
                self.core.borrow_mut().provide(memory, self.now_ms());
                continue;
            }
            let mut slab = pin!(self.memory.slab(peer));
            while self.wanted() == Some(wanted) {
                match select(slab.as_mut(), pin!(self.unwanted.wait())).await {
                    Either::Left((slab, _)) => {
                        let (slab, share) = slab.map_err(|error| error.to_string())?;
                        if self.wanted() == Some(wanted) {
                            let memory = SlabPayload::to_fill(slab, &wanted).with_share(share);
                            self.core.borrow_mut().provide(memory, self.now_ms());
                        }
                        break;
                    }
                    Either::Right(_) => {}
                }
            }
        }
        Ok(!self.core.borrow().is_closed())
    }

    fn wanted(&self) -> Option<BufferWanted> {
        match self.core.borrow_mut().space() {
            Space::Wanted(wanted) => Some(wanted),
            Space::Bytes(_) | Space::Closed => None,
        }
    }

    /// Waits until the connection is over, letting its time pass.
    pub(super) async fn tick_to_the_end(&self) {
        loop {
            self.core.borrow_mut().tick(self.now_ms());
            self.changed();
            let next = self.core.borrow().next_tick_ms();
            let Some(next_ms) = next else { return };
            self.next_tick_ms.set(next_ms);
            let pause = Duration::from_millis(next_ms.saturating_sub(self.now_ms()).max(1));
            select(pin!(self.to_tick.wait()), pin!(sleep(pause))).await;
        }
    }
}

/// Bytes of the peer's credit, which it has again when this is dropped.
pub(super) struct Credit {
    link: Rc<Link>,
    bytes: usize,
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.link.core.borrow_mut().release(self.bytes);
        self.link.to_send.notify();
    }
}

/// A payload that was received. Of an answer, its bytes count against what the peer may send while it is held; of a request,
/// until that is answered.
pub struct Received {
    payload: SlabPayload,
    _credit: Option<Credit>,
}

impl Received {
    pub(super) fn of_answer(payload: SlabPayload, link: &Rc<Link>) -> Self {
        payload.went_through();
        let credit = Credit { link: link.clone(), bytes: payload.len() };
        Self { payload, _credit: Some(credit) }
    }

    /// Also what whoever answers the request holds until then.
    pub(super) fn of_request(mut payload: SlabPayload, link: &Rc<Link>) -> (Self, Option<Share>, Credit) {
        payload.went_through();
        let credit = Credit { link: link.clone(), bytes: payload.len() };
        let share = payload.take_share();
        (Self { payload, _credit: None }, share, credit)
    }

    /// The payload to keep; the pool is what bounds memory from now on.
    pub fn into_payload(mut self) -> SlabPayload {
        drop(self.payload.take_share());
        self.payload
    }
}

impl Deref for Received {
    type Target = SlabPayload;

    fn deref(&self) -> &SlabPayload {
        &self.payload
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.payload.fmt(f)
    }
}
