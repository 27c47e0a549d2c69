//! One connection on an executor: a core, how its bytes look on the wire, and who learns of its events.

use super::notify::Notify;
use super::payload::SlabPayload;
use crate::connection::{Config, Connection, Event, Space};
use crate::tls::{Fingerprint, Session};
use engine::pool::Pool;
use engine::task::sleep;
use futures::future::select;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

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
    },
}

pub(super) struct Link {
    pub(super) core: RefCell<Core>,
    pub(super) wire: Wire,
    pub(super) peer: SocketAddr,
    /// Something may be ready to be sent.
    pub(super) to_send: Notify,
    pool: Pool,
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
        pool: Pool,
        on_event: OnEvent,
    ) -> Rc<Self> {
        Rc::new_cyclic(|itself| Self {
            core: RefCell::new(Connection::new(config, 0)),
            wire,
            peer,
            to_send: Notify::default(),
            pool,
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

    /// Hands out events and wakes whom they concern; call it after every change of the core.
    pub(super) fn changed(&self) {
        let Some(link) = self.itself.upgrade() else { return };
        loop {
            let event = self.core.borrow_mut().event();
            let Some(event) = event else { break };
            (self.on_event)(&link, event);
        }
        self.to_send.notify();
        let next = self.core.borrow().next_tick_ms().unwrap_or(0);
        if next < self.next_tick_ms.get() {
            self.to_tick.notify();
        }
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

    /// Gives received plaintext to the core; what finds no memory is appended to `waiting`.
    pub(super) fn take(&self, mut plain: &[u8], waiting: &mut Vec<u8>) {
        let mut core = self.core.borrow_mut();
        while waiting.is_empty() && !plain.is_empty() && !core.is_closed() {
            let taken = core.receive(plain, self.now_ms());
            plain = &plain[taken..];
            let Space::Wanted(wanted) = core.space() else { continue };
            let Some(slab) = self.pool.try_acquire() else { break };
            core.provide(SlabPayload::to_fill(slab, &wanted));
        }
        waiting.extend_from_slice(plain);
    }

    /// Waits for memory if some is wanted; false when the connection is over.
    pub(super) async fn find_memory(&self) -> Result<bool, String> {
        let is_wanted = |core: &mut Core| matches!(core.space(), Space::Wanted(_));
        while is_wanted(&mut self.core.borrow_mut()) {
            let slab = self.pool.acquire().await.map_err(|error| error.to_string())?;
            let mut core = self.core.borrow_mut();
            // Meanwhile the request may have been taken back.
            if let Space::Wanted(wanted) = core.space() {
                core.provide(SlabPayload::to_fill(slab, &wanted));
            }
        }
        Ok(!self.core.borrow().is_closed())
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

/// A payload that was received; while it is held, its bytes count against what the peer may send.
pub struct Received {
    payload: Option<SlabPayload>,
    link: Rc<Link>,
}

impl Received {
    pub(super) fn new(payload: SlabPayload, link: &Rc<Link>) -> Self {
        Self { payload: Some(payload), link: link.clone() }
    }

    /// The payload to keep; the peer may send more from now on, and the pool is what bounds memory.
    pub fn into_payload(mut self) -> SlabPayload {
        self.release().expect("it is there until it is dropped")
    }

    fn release(&mut self) -> Option<SlabPayload> {
        use crate::payload::PayloadBuf;
        let payload = self.payload.take()?;
        self.link.core.borrow_mut().release(payload.len());
        self.link.to_send.notify();
        Some(payload)
    }
}

impl Deref for Received {
    type Target = SlabPayload;

    fn deref(&self) -> &SlabPayload {
        self.payload.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.release();
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.payload.fmt(f)
    }
}
