//! The pool's slabs, shared out to the peers of one executor: [`Budget`] decides, this carries out.
//!
//! A peer's [`Share`] comes before the slab, and before any work that takes one; it goes back when the payload is dropped, not
//! when it is handed over.

use crate::budget::{Budget, Ticket};
use crate::tls::Fingerprint;
use engine::pool::{AcquireError, Pool, SlabMut};
use engine::task::sleep;
use futures::channel::oneshot;
use futures::future::{Either, select};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A peer, however many connections it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    /// By the certificate it has proven to own.
    Certificate(Fingerprint),
    /// By its socket, where there are no certificates.
    Socket(SocketAddr),
}

/// Slabs for the payloads of any number of peers; clones are handles to the same budget.
#[derive(Clone)]
pub struct Memory(Rc<Shared>);

struct Shared {
    pool: Pool,
    budget: RefCell<Budget<Peer>>,
    waiting: RefCell<HashMap<Ticket, oneshot::Sender<Share>>>,
    started: Instant,
}

impl From<Pool> for Memory {
    /// All of the pool.
    fn from(pool: Pool) -> Self {
        Self::new(pool, usize::MAX)
    }
}

impl Memory {
    /// So many slabs of `pool` at once, or all it has if they are fewer.
    ///
    /// # Panics
    /// When `slabs` is zero.
    pub fn new(pool: Pool, slabs: usize) -> Self {
        let budget = RefCell::new(Budget::new(slabs.min(pool.stats().total)));
        Self(Rc::new(Shared { pool, budget, waiting: RefCell::default(), started: Instant::now() }))
    }

    /// Slabs that peers have now, and all that they may have.
    pub fn usage(&self) -> (usize, usize) {
        self.0.budget.borrow().usage()
    }

    /// Waits until a peer may have so many slabs.
    pub(super) async fn share(&self, peer: Peer, slabs: usize) -> Share {
        let ticket = self.0.budget.borrow_mut().ask(peer, slabs);
        let (sender, mut granted) = oneshot::channel();
        self.0.waiting.borrow_mut().insert(ticket, sender);
        let _place = Waiting { memory: self, peer, ticket };
        loop {
            let due_ms = self.grant();
            let granted = match due_ms {
                None => (&mut granted).await,
                Some(due_ms) => {
                    let pause = Duration::from_millis(due_ms.saturating_sub(self.now_ms()).max(1));
                    match select(&mut granted, pin!(sleep(pause))).await {
                        Either::Left((granted, _)) => granted,
                        Either::Right(_) => continue,
                    }
                }
            };
            return granted.expect("a place in the queue is kept until it is granted");
        }
    }

    /// A slab and the share for it, if both are to be had at once.
    pub(super) fn try_slab(&self, peer: Peer) -> Option<(SlabMut, Share)> {
        self.grant();
        let share = self.0.budget.borrow_mut().try_take(peer).then(|| self.share_of(peer, 1))?;
        Some((self.0.pool.try_acquire()?, share))
    }

    /// A slab and the share for it.
    pub(super) async fn slab(&self, peer: Peer) -> Result<(SlabMut, Share), AcquireError> {
        let share = self.share(peer, 1).await;
        Ok((self.0.pool.acquire().await?, share))
    }

    /// A connection to the peer was retired for its slowness.
    pub(super) fn slow(&self, peer: Peer) {
        self.0.budget.borrow_mut().slow(peer);
    }

    fn share_of(&self, peer: Peer, slabs: usize) -> Share {
        Share { memory: self.clone(), peer, slabs }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).expect("no process runs that long")
    }

    /// Tells all who may have what they wait for; returns when that may be more without anybody doing anything.
    fn grant(&self) -> Option<u64> {
        let due_ms = self.0.budget.borrow_mut().pass(self.now_ms());
        loop {
            let granted = self.0.budget.borrow_mut().grant();
            let Some((ticket, peer, slabs)) = granted else { return due_ms };
            let share = self.share_of(peer, slabs);
            let waiting = self.0.waiting.borrow_mut().remove(&ticket);
            // Whoever is gone gives it back by dropping it.
            let _ = waiting.map(|waiting| waiting.send(share));
        }
    }
}

/// A place in the queue, given up when it is dropped.
struct Waiting<'a> {
    memory: &'a Memory,
    peer: Peer,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let shared = &self.memory.0;
        if shared.waiting.borrow_mut().remove(&self.ticket).is_some() {
            shared.budget.borrow_mut().withdraw(self.peer, self.ticket);
            self.memory.grant();
        }
    }
}

/// A peer's right to some slabs; it goes back when it is dropped.
pub(super) struct Share {
    memory: Memory,
    peer: Peer,
    slabs: usize,
}

impl Share {
    /// What it was for went through.
    pub(super) fn went_through(&self) {
        self.memory.0.budget.borrow_mut().taken(self.peer);
    }

    /// Gives it back a while later: something that began goes on without whoever wanted it.
    pub(super) fn linger(mut self, ms: u64) {
        let (slabs, until_ms) = (std::mem::take(&mut self.slabs), self.memory.now_ms() + ms);
        self.memory.0.budget.borrow_mut().linger(self.peer, slabs, until_ms);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.slabs > 0 {
            self.memory.0.budget.borrow_mut().give_back(self.peer, self.slabs);
            self.memory.grant();
        }
    }
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Share({:?}, {} slabs)", self.peer, self.slabs)
    }
}
