//! Who may go to the disk next: a pure decision, without clock or I/O.
//!
//! Reward signatures start at once. Audit and proof reads come next, in this order, as many as the disk's depth allows.
//! Serving, sector writes and scrubbing each stay below their own cap of bytes and requests in flight, and start nothing
//! while an audit or proof read waits or is in flight. So that steady reads cannot starve them, one of their requests
//! starts after every [`READS_PER_BACKGROUND`] reads.

use std::collections::VecDeque;

/// What a request is for, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Storing a reward signature before it leaves: 500 ms from question to answer.
    RewardSignature,
    /// One small read a sector and slot.
    AuditRead,
    /// A record's chunks for a proof: the solution is due in seconds.
    ProofRead,
    /// Pieces and sector ranges for other members.
    Serving,
    /// Sectors and pieces coming in.
    SectorWrite,
    /// Checking old data.
    Scrub,
}

/// All classes, the most urgent first.
pub const CLASSES: [Class; 6] = [
    Class::RewardSignature,
    Class::AuditRead,
    Class::ProofRead,
    Class::Serving,
    Class::SectorWrite,
    Class::Scrub,
];

/// Reads after which one background request may start although reads wait.
pub const READS_PER_BACKGROUND: u32 = 64;

impl Class {
    fn index(self) -> usize {
        self as usize
    }

    /// In words, as it is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RewardSignature => "reward signature",
            Self::AuditRead => "audit",
            Self::ProofRead => "proof",
            Self::Serving => "serving",
            Self::SectorWrite => "sector write",
            Self::Scrub => "scrub",
        }
    }

    /// Whether the class yields to audit and proof reads.
    pub fn is_background(self) -> bool {
        self >= Self::Serving
    }
}

/// What a background class may have in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    /// Bytes in flight; a single larger request still starts, alone.
    pub bytes: u64,
    /// Requests in flight.
    pub requests: usize,
}

/// What a disk may have in flight. The caps are the most that any device needs; a disk that is audited keeps to what it was
/// measured to do ([`super::pace`]). The defaults suit an NVMe drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests of all classes but reward signatures: the most that any device needs, until its own is measured
    /// ([`super::depth`]).
    pub depth: usize,
    /// Serving.
    pub serving: Cap,
    /// Sector writes.
    pub sector_write: Cap,
    /// Scrub.
    pub scrub: Cap,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 128,
            serving: Cap { bytes: 16 << 20, requests: 32 },
            sector_write: Cap { bytes: 16 << 20, requests: 16 },
            scrub: Cap { bytes: 2 << 20, requests: 2 },
        }
    }
}

impl Limits {
    fn cap(&self, class: Class) -> Cap {
        match class {
            Class::RewardSignature | Class::AuditRead | Class::ProofRead => {
                Cap { bytes: u64::MAX, requests: usize::MAX }
            }
            Class::Serving => self.serving,
            Class::SectorWrite => self.sector_write,
            Class::Scrub => self.scrub,
        }
    }
}

/// Names a waiting request.
pub type Ticket = u64;

#[derive(Debug, Clone, Copy, Default)]
struct Load {
    bytes: u64,
    requests: usize,
}

/// The queue of one disk.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    waiting: [VecDeque<(Ticket, u64)>; CLASSES.len()],
    in_flight: [Load; CLASSES.len()],
    /// Of those in flight, what nobody waits for any more.
    left: [Load; CLASSES.len()],
    next_ticket: Ticket,
    /// Reads started since background work last did while it waited.
    reads_since_background: u32,
}

impl Scheduler {
    /// An idle disk. A depth or cap of 0 counts as 1: every class goes on.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: Default::default(),
            in_flight: Default::default(),
            left: Default::default(),
            next_ticket: 0,
            reads_since_background: 0,
        }
    }

    /// Other limits from now on; what is in flight stays so.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Requests at once of all classes but reward signatures, from now on.
    pub fn set_depth(&mut self, depth: usize) {
        self.limits.depth = depth;
    }

    /// Queues a request of `bytes` behind those of its class.
    pub fn enqueue(&mut self, class: Class, bytes: u64) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting[class.index()].push_back((ticket, bytes));
        ticket
    }

    /// The next request to start now, which then counts as in flight; none while all must wait.
    pub fn start_next(&mut self) -> Option<Ticket> {
        let class = CLASSES.into_iter().find(|&class| self.may_start(class))?;
        let (ticket, bytes) = self.waiting[class.index()].pop_front()?;
        let load = &mut self.in_flight[class.index()];
        *load = Load { bytes: load.bytes + bytes, requests: load.requests + 1 };
        if class.is_background() {
            self.reads_since_background = 0;
        } else if self.background_waits() {
            self.reads_since_background += 1;
        }
        Some(ticket)
    }

    /// A request that was started is done.
    pub fn finish(&mut self, class: Class, bytes: u64) {
        let load = &mut self.in_flight[class.index()];
        debug_assert!(load.requests > 0 && load.bytes >= bytes, "{class:?} finishes only what it started");
        *load = Load { bytes: load.bytes - bytes, requests: load.requests - 1 };
    }

    /// Nobody waits for a request in flight any more, which may hang for long: it keeps its place in the depth, and nobody yields to
    /// it or waits for its part of a cap.
    pub fn leave(&mut self, class: Class, bytes: u64) {
        let left = &mut self.left[class.index()];
        *left = Load { bytes: left.bytes + bytes, requests: left.requests + 1 };
    }

    /// One that was left is done; [`Scheduler::finish`] is told as well.
    pub fn came_back(&mut self, class: Class, bytes: u64) {
        let left = &mut self.left[class.index()];
        debug_assert!(left.requests > 0 && left.bytes >= bytes, "{class:?}: what comes back was left");
        *left = Load { bytes: left.bytes - bytes, requests: left.requests - 1 };
    }

    /// Takes a waiting request back; false when it was started.
    pub fn withdraw(&mut self, class: Class, ticket: Ticket) -> bool {
        let queue = &mut self.waiting[class.index()];
        let at = queue.iter().position(|waiting| waiting.0 == ticket);
        at.and_then(|at| queue.remove(at)).is_some()
    }

    /// Requests of a class that wait.
    pub fn waiting(&self, class: Class) -> usize {
        self.waiting[class.index()].len()
    }

    /// Requests of a class in flight.
    pub fn in_flight(&self, class: Class) -> usize {
        self.in_flight[class.index()].requests
    }

    fn may_start(&self, class: Class) -> bool {
        let Some(&(_, bytes)) = self.waiting[class.index()].front() else { return false };
        if class == Class::RewardSignature {
            return true;
        }
        let total: usize = CLASSES[1..].iter().map(|&class| self.in_flight(class)).sum();
        if total >= self.limits.depth.max(1) {
            return false;
        }
        if !class.is_background() {
            return !self.background_is_due();
        }
        let (load, cap) = (self.awaited(class), self.limits.cap(class));
        let fits = load.requests < cap.requests && load.bytes.saturating_add(bytes) <= cap.bytes;
        (fits || load.requests == 0) && (!self.reads_pending() || self.background_is_due())
    }

    /// Whether background work has waited through enough reads; it then goes before the next read, if its caps allow.
    fn background_is_due(&self) -> bool {
        self.reads_since_background >= READS_PER_BACKGROUND
            && self.background_waits()
            && self.background_is_idle()
    }

    fn background_waits(&self) -> bool {
        CLASSES.into_iter().any(|class| class.is_background() && self.waiting(class) > 0)
    }

    fn background_is_idle(&self) -> bool {
        CLASSES.into_iter().all(|class| !class.is_background() || self.awaited(class).requests == 0)
    }

    /// What is in flight and waited for.
    fn awaited(&self, class: Class) -> Load {
        let (all, left) = (self.in_flight[class.index()], self.left[class.index()]);
        Load {
            bytes: all.bytes.saturating_sub(left.bytes),
            requests: all.requests.saturating_sub(left.requests),
        }
    }

    fn reads_pending(&self) -> bool {
        [Class::AuditRead, Class::ProofRead]
            .into_iter()
            .any(|class| self.waiting(class) + self.awaited(class).requests > 0)
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
