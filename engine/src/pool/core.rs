//! Which slabs are free, how many handles each has, and who waits for one.
//!
//! Knows nothing of memory, so that loom can check it: no slab is given out twice, none is lost, no waiter sleeps on.
//! A slab that comes back goes straight to the longest waiter; free slabs therefore exist only while nobody waits.

use super::AcquireError;
use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering, fence};
use std::collections::VecDeque;
use std::task::Waker;

pub(super) struct Core {
    state: Mutex<State>,
    /// Handles of each slab; a slab is free or granted to a waiter while its count is 0.
    handles: Box<[AtomicU32]>,
}

struct State {
    free: Vec<u32>,
    waiters: VecDeque<Waiter>,
    max_waiters: usize,
    granted: Vec<(Ticket, u32)>,
    next_ticket: Ticket,
    high_water: usize,
}

struct Waiter {
    ticket: Ticket,
    waker: Waker,
}

/// Names one waiting acquisition.
pub(super) type Ticket = u64;

/// What asking for a slab brought.
pub(super) enum Acquired {
    Slab(u32),
    Wait(Ticket),
}

/// Numbers of slabs at one moment.
pub(super) struct Counts {
    pub in_use: usize,
    pub high_water: usize,
    pub waiting: usize,
}

impl Core {
    pub fn new(slabs: u32, max_waiters: usize) -> Self {
        let state = State {
            free: (0..slabs).rev().collect(),
            waiters: VecDeque::new(),
            max_waiters,
            granted: Vec::new(),
            next_ticket: 0,
            high_water: 0,
        };
        let handles = (0..slabs).map(|_| AtomicU32::new(0)).collect();
        Self { state: Mutex::new(state), handles }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the pool's lock")
    }

    /// A free slab with one handle, if there is one.
    pub fn try_acquire(&self) -> Option<u32> {
        let slab = self.lock().take_free(self.handles.len())?;
        Some(self.first_handle(slab))
    }

    /// A slab now, or a place in the queue: `waker` is woken once a slab is granted to the ticket.
    pub fn acquire_or_wait(&self, waker: &Waker) -> Result<Acquired, AcquireError> {
        let mut state = self.lock();
        if let Some(slab) = state.take_free(self.handles.len()) {
            drop(state);
            return Ok(Acquired::Slab(self.first_handle(slab)));
        }
        if state.waiters.len() >= state.max_waiters {
            return Err(AcquireError::TooManyWaiting { limit: state.max_waiters });
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiters.push_back(Waiter { ticket, waker: waker.clone() });
        Ok(Acquired::Wait(ticket))
    }

    /// The slab granted to `ticket`, or none yet; then `waker` replaces the one given before.
    pub fn poll_ticket(&self, ticket: Ticket, waker: &Waker) -> Option<u32> {
        let mut state = self.lock();
        if let Some(slab) = state.take_grant(ticket) {
            drop(state);
            return Some(self.first_handle(slab));
        }
        let waiter = state.waiters.iter_mut().find(|waiter| waiter.ticket == ticket);
        let old = waiter.map(|waiter| std::mem::replace(&mut waiter.waker, waker.clone()));
        // Wakers are dropped without the lock: the last one of a task may drop that task, and a slab with it.
        drop(state);
        drop(old);
        None
    }

    /// Gives up a ticket; a slab already granted to it goes to the next in line.
    pub fn cancel(&self, ticket: Ticket) {
        let mut state = self.lock();
        if let Some(slab) = state.take_grant(ticket) {
            drop(state);
            self.put_back(slab);
            return;
        }
        let at = state.waiters.iter().position(|waiter| waiter.ticket == ticket);
        let waiter = at.and_then(|at| state.waiters.remove(at));
        drop(state);
        drop(waiter);
    }

    /// One more handle of a slab that the caller holds one of.
    pub fn add_handle(&self, slab: u32) {
        // Relaxed: the caller's own handle keeps the slab, and orders whatever was written through it.
        self.handles[slab as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the caller's handle is the only one; what others wrote before they let go is then visible.
    pub fn is_only_handle(&self, slab: u32) -> bool {
        self.handles[slab as usize].load(Ordering::Acquire) == 1
    }

    /// Gives up one handle; the last one frees the slab.
    pub fn drop_handle(&self, slab: u32) {
        // Release: our use of the memory comes before whoever gets the slab next.
        if self.handles[slab as usize].fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            self.put_back(slab);
        }
    }

    pub fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            in_use: self.handles.len() - state.free.len(),
            high_water: state.high_water,
            waiting: state.waiters.len(),
        }
    }

    fn first_handle(&self, slab: u32) -> u32 {
        // Relaxed: the lock ordered us after the last user; nobody else has this slab.
        self.handles[slab as usize].store(1, Ordering::Relaxed);
        slab
    }

    fn put_back(&self, slab: u32) {
        let mut state = self.lock();
        let Some(Waiter { ticket, waker }) = state.waiters.pop_front() else {
            state.free.push(slab);
            return;
        };
        state.granted.push((ticket, slab));
        drop(state);
        waker.wake();
    }
}

impl State {
    fn take_free(&mut self, total: usize) -> Option<u32> {
        let slab = self.free.pop()?;
        self.high_water = self.high_water.max(total - self.free.len());
        Some(slab)
    }

    fn take_grant(&mut self, ticket: Ticket) -> Option<u32> {
        let at = self.granted.iter().position(|grant| grant.0 == ticket)?;
        Some(self.granted.swap_remove(at).1)
    }
}

#[cfg(all(test, loom))]
#[path = "core_loom.rs"]
mod loom_tests;
