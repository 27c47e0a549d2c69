//! The operations of a ring: what each owns, and where it is on its way.
//!
//! ```text
//!   insert ──▶ Queued ──start_next──▶ InFlight ──complete──▶ Done ──poll──▶ back to the caller
//!                │ abandon                │ abandon            │ abandon
//!                ▼                        ▼                    ▼
//!              dropped           dropped when complete       dropped
//! ```
//! An operation keeps its memory and its file in the table from start to completion, whatever becomes of the future that
//! waits for it. At most `depth` are in flight; the others queue here, in order.

use crate::file::DirectFile;
use crate::pool::{Pool, Slab, SlabMut};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

/// Something that goes with an operation, to be dropped only after the kernel is done with it.
pub(crate) type Guard = Option<Box<dyn Guarding>>;

/// Who wants to know when the kernel has an operation. A transfer that comes back in part is given again.
pub(crate) trait Guarding {
    /// The kernel is about to have it.
    fn given(&mut self);
    /// The kernel has answered, whether anybody takes the answer or not. Must not come back to the ring.
    fn answered(&mut self);
}

/// What the kernel is asked to do, with all that must stay alive meanwhile.
pub(super) enum Request {
    Read { file: Arc<DirectFile>, offset: u64, buf: SlabMut, from: usize, to: usize },
    Write { file: Arc<DirectFile>, offset: u64, data: Source, from: usize },
    Sync { file: Arc<DirectFile> },
    Allocate { file: Arc<DirectFile>, offset: u64, bytes: u64 },
}

impl Request {
    /// The file of it.
    pub fn file(&self) -> &Arc<DirectFile> {
        match self {
            Self::Read { file, .. }
            | Self::Write { file, .. }
            | Self::Sync { file }
            | Self::Allocate { file, .. } => file,
        }
    }
}

/// Memory to write from.
pub(crate) enum Source {
    /// Others may read it too.
    Shared(Slab),
    /// Comes back to its owner, who may go on changing it then.
    Own(SlabMut),
}

impl Source {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(slab) => slab,
            Self::Own(slab) => slab,
        }
    }

    pub fn phase(&self) -> usize {
        match self {
            Self::Shared(slab) => slab.phase(),
            Self::Own(slab) => slab.phase(),
        }
    }

    pub fn pool(&self) -> &Pool {
        match self {
            Self::Shared(slab) => slab.pool(),
            Self::Own(slab) => slab.pool(),
        }
    }

    pub(super) fn target(&self) -> (NonNull<u8>, u16) {
        match self {
            Self::Shared(slab) => slab.target(),
            Self::Own(slab) => slab.target(),
        }
    }
}

pub(super) struct Op {
    pub request: Request,
    pub guard: Guard,
}

enum Slot {
    Vacant,
    Queued(Op, Option<Waker>),
    InFlight(Op, Waiting),
    Done(Op, i32),
}

enum Waiting {
    Yes(Option<Waker>),
    /// Nobody: the future is gone.
    No,
}

/// What a completion leaves to do, outside of any borrow of the table.
pub(super) struct Completed {
    pub waker: Option<Waker>,
    pub orphan: Option<Op>,
}

pub(super) struct Table {
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    queue: VecDeque<u32>,
    in_flight: usize,
    depth: usize,
}

impl Table {
    pub fn new(depth: usize) -> Self {
        Self { slots: Vec::new(), vacant: Vec::new(), queue: VecDeque::new(), in_flight: 0, depth }
    }

    pub fn insert(&mut self, op: Op) -> u32 {
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Vacant);
            u32::try_from(self.slots.len() - 1).expect("tasks are far fewer than 2^32")
        });
        self.slots[id as usize] = Slot::Queued(op, None);
        self.queue.push_back(id);
        id
    }

    /// The next operation to hand to the kernel, unless `depth` are there already.
    pub fn start_next(&mut self) -> Option<(u32, &Op)> {
        if self.in_flight == self.depth {
            return None;
        }
        let id = self.queue.pop_front()?;
        let slot = &mut self.slots[id as usize];
        let Slot::Queued(op, waker) = std::mem::replace(slot, Slot::Vacant) else {
            unreachable!("only queued operations are in the queue");
        };
        *slot = Slot::InFlight(op, Waiting::Yes(waker));
        self.in_flight += 1;
        let Slot::InFlight(op, _) = slot else { unreachable!("just stored") };
        Some((id, op))
    }

    pub fn complete(&mut self, id: u32, result: i32) -> Completed {
        let slot = &mut self.slots[id as usize];
        let Slot::InFlight(mut op, waiting) = std::mem::replace(slot, Slot::Vacant) else {
            unreachable!("the kernel completes an operation once");
        };
        self.in_flight -= 1;
        op.guard.iter_mut().for_each(|guard| guard.answered());
        match waiting {
            Waiting::Yes(waker) => {
                *slot = Slot::Done(op, result);
                Completed { waker, orphan: None }
            }
            Waiting::No => {
                self.vacant.push(id);
                Completed { waker: None, orphan: Some(op) }
            }
        }
    }

    /// The finished operation and the kernel's answer, or none yet; then `waker` is woken when it is done.
    pub fn poll(&mut self, id: u32, waker: &Waker) -> Option<(Op, i32)> {
        let slot = &mut self.slots[id as usize];
        match slot {
            Slot::Queued(_, waiting) | Slot::InFlight(_, Waiting::Yes(waiting)) => {
                if !waiting.as_ref().is_some_and(|old| old.will_wake(waker)) {
                    *waiting = Some(waker.clone());
                }
                None
            }
            Slot::Done(..) => {
                let Slot::Done(op, result) = std::mem::replace(slot, Slot::Vacant) else {
                    unreachable!("just matched");
                };
                self.vacant.push(id);
                Some((op, result))
            }
            Slot::Vacant | Slot::InFlight(_, Waiting::No) => {
                unreachable!("the future of an operation is gone")
            }
        }
    }

    /// The future is gone. Returns the operation to drop, unless the kernel still works on it.
    pub fn abandon(&mut self, id: u32) -> Option<Op> {
        let slot = &mut self.slots[id as usize];
        match std::mem::replace(slot, Slot::Vacant) {
            Slot::InFlight(op, _) => {
                *slot = Slot::InFlight(op, Waiting::No);
                None
            }
            Slot::Queued(op, _) => {
                self.queue.retain(|&queued| queued != id);
                self.vacant.push(id);
                Some(op)
            }
            Slot::Done(op, _) => {
                self.vacant.push(id);
                Some(op)
            }
            Slot::Vacant => unreachable!("an operation is abandoned once"),
        }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether neither the kernel nor the queue has anything left.
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.queue.is_empty()
    }
}
