//! Slabs shared out to peers, so that whoever hangs, drips or asks too much costs only himself.
//!
//! ```text
//!   ask(peer, slabs) ─▶ waiting ─ grant ─▶ granted ─▶ ... ─ give_back ─▶ free
//!                          └ withdraw                 taken ─▶ on trial no more      slow ─▶ on trial again
//! ```
//! - A peer has at most as many slabs as are left free afterwards: alone it gets half, beside another a third. A peer that has
//!   none may have one while there is one.
//! - A peer begins **on trial**: all such peers together share half in the same way. Some payloads that go through, more than
//!   the kernel's buffers take, end the trial; being retired for slowness begins a longer one, behind all others.
//! - Of those that wait, the one with the fewest slabs is next, then the one that asked first.
//!
//! - What somebody began and no longer wants **lingers**: a disk does not stop for a cancel.
//!
//! Time is milliseconds since any fixed moment. Owns: counts. Never: memory, who a peer is.

use crate::limits::{PEERS_MAX, TRIAL_AFTER_RETIREMENT, TRIAL_PAYLOADS};
use std::collections::{BTreeMap, VecDeque};

/// Somebody who waits, in the order of asking.
pub type Ticket = u64;

/// See the module's text.
#[derive(Debug)]
pub struct Budget<P> {
    total: usize,
    used: usize,
    peers: BTreeMap<P, Peer>,
    /// What goes back at a moment, in its order.
    lingering: VecDeque<(u64, P, usize)>,
    next_ticket: Ticket,
}

#[derive(Debug)]
struct Peer {
    held: usize,
    /// Payloads it must take before it counts as others do.
    trial: u32,
    waiting: VecDeque<(Ticket, usize)>,
}

impl Peer {
    const NEW: Self = Self { held: 0, trial: TRIAL_PAYLOADS, waiting: VecDeque::new() };

    fn is_idle(&self) -> bool {
        self.held == 0 && self.waiting.is_empty()
    }

    /// Retired for its slowness, and not yet forgiven.
    fn is_behind(&self) -> bool {
        self.trial > TRIAL_PAYLOADS
    }
}

impl<P: Ord + Copy> Budget<P> {
    /// # Panics
    /// When there is nothing to share out.
    pub fn new(total: usize) -> Self {
        assert!(total > 0, "a budget of no slabs");
        Self { total, used: 0, peers: BTreeMap::new(), lingering: VecDeque::new(), next_ticket: 0 }
    }

    /// A peer wants so many slabs; no more than there are at all. [`Budget::grant`] tells when it has them.
    pub fn ask(&mut self, peer: P, slabs: usize) -> Ticket {
        self.forget_idle();
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let slabs = slabs.min(self.total);
        self.peers.entry(peer).or_insert(Peer::NEW).waiting.push_back((ticket, slabs));
        ticket
    }

    /// One slab at once, or none: for whom nobody can wait.
    pub fn try_take(&mut self, peer: P) -> bool {
        self.forget_idle();
        let it = self.peers.entry(peer).or_insert(Peer::NEW);
        let is_next = it.waiting.is_empty();
        let takes = is_next && self.fits(&peer, 1);
        if takes {
            self.take(peer, 1);
        }
        takes
    }

    /// Nobody waits with this ticket any more. Harmless when it was granted.
    pub fn withdraw(&mut self, peer: P, ticket: Ticket) {
        if let Some(it) = self.peers.get_mut(&peer) {
            it.waiting.retain(|(waiting, _)| *waiting != ticket);
        }
    }

    /// Who has slabs now, and how many; call until nobody has.
    pub fn grant(&mut self) -> Option<(Ticket, P, usize)> {
        let wants = |(peer, it): (&P, &Peer)| {
            let (ticket, slabs) = *it.waiting.front()?;
            self.fits(peer, slabs).then_some(((it.is_behind(), it.held, ticket), *peer, slabs))
        };
        let ((.., ticket), peer, slabs) =
            self.peers.iter().filter_map(wants).min_by_key(|(rank, ..)| *rank)?;
        self.peers.get_mut(&peer).expect("it was just seen").waiting.pop_front();
        self.take(peer, slabs);
        Some((ticket, peer, slabs))
    }

    /// Slabs of a peer are free again.
    ///
    /// # Panics
    /// When it had fewer.
    pub fn give_back(&mut self, peer: P, slabs: usize) {
        let it = self.peers.get_mut(&peer).expect("whoever holds slabs is known");
        it.held = it.held.checked_sub(slabs).expect("only what was taken is given back");
        self.used -= slabs;
    }

    /// Slabs of a peer are free again at a moment, no earlier than those of whoever lingered before.
    pub fn linger(&mut self, peer: P, slabs: usize, until_ms: u64) {
        self.lingering.push_back((until_ms, peer, slabs));
    }

    /// Lets time pass. When it is to be called again.
    pub fn pass(&mut self, now_ms: u64) -> Option<u64> {
        while let Some((until_ms, peer, slabs)) = self.lingering.front().copied() {
            if now_ms < until_ms {
                return Some(until_ms);
            }
            self.lingering.pop_front();
            self.give_back(peer, slabs);
        }
        None
    }

    /// A payload went through to the peer, or came from it, in its time.
    pub fn taken(&mut self, peer: P) {
        if let Some(it) = self.peers.get_mut(&peer) {
            it.trial = it.trial.saturating_sub(1);
        }
    }

    /// A connection to the peer was retired for its slowness.
    pub fn slow(&mut self, peer: P) {
        self.forget_idle();
        self.peers.entry(peer).or_insert(Peer::NEW).trial = TRIAL_AFTER_RETIREMENT;
    }

    /// Slabs in use, and all.
    pub fn usage(&self) -> (usize, usize) {
        (self.used, self.total)
    }

    fn take(&mut self, peer: P, slabs: usize) {
        self.peers.get_mut(&peer).expect("whoever takes slabs is known").held += slabs;
        self.used += slabs;
    }

    fn fits(&self, peer: &P, slabs: usize) -> bool {
        let free = self.total - self.used;
        let it = &self.peers[peer];
        if slabs > free {
            return false;
        }
        if it.trial == 0 {
            return it.held == 0 || it.held + slabs <= free;
        }
        let on_trial: usize = self.peers.values().filter(|it| it.trial > 0).map(|it| it.held).sum();
        let free = (self.total / 2).saturating_sub(on_trial);
        on_trial == 0 || (slabs <= free && (it.held == 0 || it.held + slabs <= free))
    }

    /// Keeps the memory of peers that have nothing within bounds; the slow ones are remembered longest.
    fn forget_idle(&mut self) {
        if self.peers.len() >= PEERS_MAX {
            self.peers.retain(|_, it| !it.is_idle() || it.is_behind());
        }
        if self.peers.len() >= PEERS_MAX {
            self.peers.retain(|_, it| !it.is_idle());
        }
    }
}

#[cfg(test)]
mod tests;
