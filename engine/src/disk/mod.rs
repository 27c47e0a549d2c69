//! One disk: the only way to its files, most urgent requests first.
//!
//! ```text
//!   read, write, sync ──▶ Scheduler (who goes next) ──▶ Device: Ring ──▶ kernel
//!                              ▲                                   │
//!                              └──── permit dropped when done ◀────┘
//! ```
//! Owns: the order of requests, and the widening of unaligned ranges to whole blocks. All files of one disk go through one
//! `Disk`, or its limits mean nothing. Never: what the bytes are.

mod device;
mod scheduler;
mod writer;

pub(crate) use device::Device;
#[cfg(test)]
pub(crate) use device::Moved;
pub use scheduler::{CLASSES, Cap, Class, Limits, READS_PER_BACKGROUND, Scheduler, Ticket};
pub use writer::{FileWriter, SCRATCH_BYTES};

use crate::BLOCK_BYTES;
use crate::error::IoError;
use crate::file::DirectFile;
use crate::pool::{Slab, SlabMut};
use crate::ring::{Guard, Ring, Source};
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A disk as the tasks of its executor use it; clones are handles to the same one.
#[derive(Clone)]
pub struct Disk(Rc<Inner>);

struct Inner {
    device: Box<dyn Device>,
    queue: RefCell<Queue>,
}

struct Queue {
    scheduler: Scheduler,
    waiting: HashMap<Ticket, Admission>,
}

enum Admission {
    Waits(Option<Waker>),
    Granted,
}

impl Disk {
    /// A disk behind `ring`, on the ring's executor.
    pub fn new(ring: Ring, limits: Limits) -> Self {
        Self::over(Box::new(ring), limits)
    }

    /// A disk behind any device.
    pub(crate) fn over(device: Box<dyn Device>, limits: Limits) -> Self {
        let queue = Queue { scheduler: Scheduler::new(limits), waiting: HashMap::new() };
        Self(Rc::new(Inner { device, queue: RefCell::new(queue) }))
    }

    /// Reads whole blocks: fills `range` of `buf` from `offset` on, all of it or an error.
    pub async fn read(
        &self,
        class: Class,
        file: &Arc<DirectFile>,
        offset: u64,
        buf: SlabMut,
        range: Range<usize>,
    ) -> Result<SlabMut, IoError> {
        let (buf, result) = self.read_own(class, file, offset, buf, range).await;
        result.map(|()| buf)
    }

    /// Like [`Disk::read`], into memory that its owner goes on using: `buf` comes back whatever happens.
    pub async fn read_own(
        &self,
        class: Class,
        file: &Arc<DirectFile>,
        offset: u64,
        buf: SlabMut,
        range: Range<usize>,
    ) -> (SlabMut, Result<(), IoError>) {
        let guard = self.admit(class, range.len() as u64).await;
        self.0.device.read(file, offset, buf, (range.start, range.end), guard).await
    }

    /// Reads any `bytes` at any `offset`: the blocks around them go into `buf`, which comes back narrowed to the bytes
    /// asked for. Its memory then has the file's phase. `buf` must start at a block and hold all touched blocks.
    pub async fn read_unaligned(
        &self,
        class: Class,
        file: &Arc<DirectFile>,
        offset: u64,
        bytes: usize,
        buf: SlabMut,
    ) -> Result<SlabMut, IoError> {
        let blocks = touched_blocks(offset, bytes);
        let (start, wide) = (blocks.start, (blocks.end - blocks.start) as usize);
        let phase = (offset - start) as usize;
        Ok(self.read(class, file, start, buf, 0..wide).await?.narrow(phase..phase + bytes))
    }

    /// Writes whole blocks at `offset`, all of `data` or an error. Not durable before [`Disk::sync`].
    pub async fn write(
        &self,
        class: Class,
        file: &Arc<DirectFile>,
        offset: u64,
        data: &Slab,
    ) -> Result<(), IoError> {
        let guard = self.admit(class, data.len() as u64).await;
        self.0.device.write(file, offset, Source::Shared(data.clone()), guard).await.1
    }

    /// Like [`Disk::write`], from memory that its owner goes on using: `buf` comes back whatever happens.
    pub async fn write_own(
        &self,
        class: Class,
        file: &Arc<DirectFile>,
        offset: u64,
        buf: SlabMut,
    ) -> (SlabMut, Result<(), IoError>) {
        let guard = self.admit(class, buf.len() as u64).await;
        match self.0.device.write(file, offset, Source::Own(buf), guard).await {
            (Source::Own(buf), written) => (buf, written),
            (Source::Shared(_), _) => unreachable!("an operation gives back what it was given"),
        }
    }

    /// Makes what was written to the file durable (fdatasync).
    pub async fn sync(&self, class: Class, file: &Arc<DirectFile>) -> Result<(), IoError> {
        let guard = self.admit(class, 0).await;
        self.0.device.sync(file, guard).await
    }

    /// Reserves space for `bytes` from `offset` on, without blocking the executor; the file grows if needed.
    pub async fn allocate(
        &self,
        class: Class,
        file: &Arc<DirectFile>,
        offset: u64,
        bytes: u64,
    ) -> Result<(), IoError> {
        let guard = self.admit(class, 0).await;
        self.0.device.allocate(file, offset, bytes, guard).await
    }

    /// Requests of a class that wait here and that are in flight, for metrics.
    pub fn load(&self, class: Class) -> (usize, usize) {
        let queue = self.0.queue.borrow();
        (queue.scheduler.waiting(class), queue.scheduler.in_flight(class))
    }

    /// Waits for the scheduler's word. The permit goes with the operation and ends when the kernel is done.
    async fn admit(&self, class: Class, bytes: u64) -> Guard {
        let ticket = {
            let mut queue = self.0.queue.borrow_mut();
            let ticket = queue.scheduler.enqueue(class, bytes);
            queue.waiting.insert(ticket, Admission::Waits(None));
            ticket
        };
        let wait = Wait { disk: self.0.clone(), class, bytes, ticket: Some(ticket) };
        self.0.start_ready();
        Some(Box::new(wait.await))
    }
}

impl Inner {
    /// Grants what may start now, and wakes the tasks.
    fn start_ready(&self) {
        let mut wakers = Vec::new();
        {
            let mut queue = self.queue.borrow_mut();
            while let Some(ticket) = queue.scheduler.start_next() {
                let admission =
                    queue.waiting.get_mut(&ticket).expect("a ticket waits until its task takes it");
                if let Admission::Waits(Some(waker)) = std::mem::replace(admission, Admission::Granted) {
                    wakers.push(waker);
                }
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    fn finish(&self, class: Class, bytes: u64) {
        self.queue.borrow_mut().scheduler.finish(class, bytes);
        self.start_ready();
    }
}

/// A request that waits for its turn.
struct Wait {
    disk: Rc<Inner>,
    class: Class,
    bytes: u64,
    ticket: Option<Ticket>,
}

impl Future for Wait {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let ticket = self.ticket.expect("a future is not polled after it was ready");
        {
            let mut queue = self.disk.queue.borrow_mut();
            let admission = queue.waiting.get_mut(&ticket).expect("a ticket waits until its task takes it");
            if let Admission::Waits(waker) = admission {
                *waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            queue.waiting.remove(&ticket);
        }
        self.ticket = None;
        Poll::Ready(Permit { disk: self.disk.clone(), class: self.class, bytes: self.bytes })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let withdrawn = {
            let mut queue = self.disk.queue.borrow_mut();
            queue.waiting.remove(&ticket);
            queue.scheduler.withdraw(self.class, ticket)
        };
        if withdrawn {
            // It may have held others of its class back.
            self.disk.start_ready();
        } else {
            self.disk.finish(self.class, self.bytes);
        }
    }
}

/// The right to be in flight; dropped when the kernel is done.
struct Permit {
    disk: Rc<Inner>,
    class: Class,
    bytes: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.disk.finish(self.class, self.bytes);
    }
}

/// The whole blocks that `bytes` at `offset` lie in.
pub fn touched_blocks(offset: u64, bytes: usize) -> Range<u64> {
    let block = BLOCK_BYTES as u64;
    let end = (offset + bytes as u64).next_multiple_of(block);
    offset - offset % block..end
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
