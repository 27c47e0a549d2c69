//! One io_uring of an executor's disk, over the pool's registered memory; completions wake the executor through an eventfd.
//!
//! ```text
//!   task ─ read/write ─▶ Table ─ at most `depth` ─▶ submission queue ─ a submit a turn, or each 8 ─▶ kernel
//!     ▲                    │                                                                │
//!     └────── waker ◀──────┴──────────── reap ◀── driver task ◀── eventfd ◀── completion ◀──┘
//! ```
//! Owns: every operation, its memory and its file until the kernel is done with them, even when the future that asked is
//! dropped. Never: deciding who goes first; that is [`crate::Disk`], the ring's only user.

mod error;
mod kernel;
mod table;

pub(crate) use error::RING_BYTES;
pub use error::RingError;
pub(crate) use table::{Guard, Guarding, Source};

use crate::BLOCK_BYTES;
use crate::error::{Action, IoError};
use crate::file::DirectFile;
use crate::pool::{Pool, SlabMut};
use crate::task::{self, LocalTask};
use glommio::TaskQueueHandle;
use glommio::io::BufferedFile;
use kernel::Kernel;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use table::{Op, Request, Table};

/// Most operations a ring hands to the kernel at once; further ones queue in the process.
pub const MAX_DEPTH: usize = 4096;
/// How often an operation interrupted by the system is tried again before that is an error.
const MAX_RETRIES: u32 = 64;
/// Operations that wait for the end of the turn at most. A turn may be long, an audit hashes what each read brings, and meanwhile
/// the device would have nothing to do; but a submit each costs a guest more than the rest of a read.
const SUBMIT_AT: usize = 8;
/// Pause after the kernel refused a submission for want of memory.
const SUBMIT_RETRY: Duration = Duration::from_millis(1);

/// The ring of the executor it was made in; clones are handles to the same one.
#[derive(Clone)]
pub struct Ring(Rc<Inner>);

struct Inner {
    pool: Pool,
    kernel: RefCell<Kernel>,
    table: RefCell<Table>,
    /// A task that will submit is on its way.
    flush_due: Cell<bool>,
    /// The kernel refuses operations for now, and that was told.
    is_refused: Cell<bool>,
    /// No new operations.
    closing: Cell<bool>,
    /// The driver is to end.
    stopped: Cell<bool>,
    /// The kernel does not end its operations: what it may still write to is never freed.
    left: Cell<bool>,
    idle_wakers: RefCell<Vec<Waker>>,
    driver: RefCell<Option<LocalTask<()>>>,
    /// The maker's queue: submitting must not wait behind the tasks of a lesser class that happened to ask first.
    task_queue: TaskQueueHandle,
}

impl Ring {
    /// Makes a ring of `depth` operations over `pool`. Call it on an executor; the ring stays there.
    pub fn new(pool: &Pool, depth: usize) -> Result<Self, RingError> {
        Self::made(pool, depth, None, task::current_queue())
    }

    /// Another ring of the same executor and pool, in the same task queue, which shares the registered memory if the kernel can.
    pub(crate) fn beside(&self, depth: usize) -> Result<Self, RingError> {
        Self::made(&self.0.pool, depth, Some(&self.0.kernel.borrow()), self.0.task_queue)
    }

    fn made(
        pool: &Pool,
        depth: usize,
        other: Option<&Kernel>,
        task_queue: TaskQueueHandle,
    ) -> Result<Self, RingError> {
        let depth = depth.clamp(1, MAX_DEPTH);
        let entries = u32::try_from(depth.next_power_of_two()).expect("MAX_DEPTH fits 32 bits");
        let kernel = Kernel::new(pool, entries, other)?;
        let events = kernel.events().map_err(|source| RingError::Setup { source })?;
        let inner = Rc::new(Inner {
            pool: pool.clone(),
            kernel: RefCell::new(kernel),
            table: RefCell::new(Table::new(depth)),
            flush_due: Cell::new(false),
            is_refused: Cell::new(false),
            closing: Cell::new(false),
            stopped: Cell::new(false),
            left: Cell::new(false),
            idle_wakers: RefCell::new(Vec::new()),
            driver: RefCell::new(None),
            task_queue,
        });
        // SAFETY: the descriptor is ours alone, and the file takes it over.
        #[allow(unsafe_code)]
        let events = unsafe { BufferedFile::from_raw_fd(events.into_raw_fd()) };
        let driver = task::spawn_into(task_queue, drive(Rc::downgrade(&inner), events));
        *inner.driver.borrow_mut() = Some(driver);
        Ok(Self(inner))
    }

    /// Fills `buf[from..to]` from `offset` on: all of it, or an error. The memory comes back in either case.
    pub(crate) async fn read(
        &self,
        file: &Arc<DirectFile>,
        offset: u64,
        mut buf: SlabMut,
        (from, to): (usize, usize),
        mut guard: Guard,
    ) -> (SlabMut, Result<(), IoError>) {
        assert!(from <= to && to <= buf.len(), "range {from}..{to} of a slab range of {} bytes", buf.len());
        assert!(buf.pool().is(&self.0.pool), "the slab belongs to the ring's pool");
        let mut progress = Progress::new(Action::Read, file, offset, to - from);
        let mut result = progress.check_aligned(buf.phase() + from).and_then(|()| self.check_open(&progress));
        while result.is_ok() && !progress.is_done() {
            let (offset, from) = (progress.position(), from + progress.done);
            let request = Request::Read { file: file.clone(), offset, buf, from, to };
            let (op, answer) = self.run(Op { request, guard }).await;
            let Request::Read { buf: back, .. } = op.request else {
                unreachable!("an operation keeps its kind")
            };
            (buf, guard) = (back, op.guard);
            result = progress.advance(answer).and_then(|()| self.check_open(&progress));
        }
        (buf, result)
    }

    /// Writes all of `data` at `offset`, or errs; part of it may be on disk then. The memory comes back in either case.
    pub(crate) async fn write(
        &self,
        file: &Arc<DirectFile>,
        offset: u64,
        mut data: Source,
        mut guard: Guard,
    ) -> (Source, Result<(), IoError>) {
        assert!(data.pool().is(&self.0.pool), "the slab belongs to the ring's pool");
        let mut progress = Progress::new(Action::Write, file, offset, data.bytes().len());
        let mut result = progress.check_aligned(data.phase()).and_then(|()| self.check_open(&progress));
        while result.is_ok() && !progress.is_done() {
            let (offset, from) = (progress.position(), progress.done);
            let request = Request::Write { file: file.clone(), offset, data, from };
            let (op, answer) = self.run(Op { request, guard }).await;
            let Request::Write { data: back, .. } = op.request else {
                unreachable!("an operation keeps its kind")
            };
            (data, guard) = (back, op.guard);
            result = progress.advance(answer).and_then(|()| self.check_open(&progress));
        }
        (data, result)
    }

    /// Makes what was written to the file durable (fdatasync).
    pub(crate) async fn sync(&self, file: &Arc<DirectFile>, guard: Guard) -> Result<(), IoError> {
        let progress = Progress::new(Action::Sync, file, 0, 0);
        self.run_once(Op { request: Request::Sync { file: file.clone() }, guard }, &progress).await
    }

    /// Reserves space for `offset..offset + bytes`; the file grows if that lies beyond its end.
    pub(crate) async fn allocate(
        &self,
        file: &Arc<DirectFile>,
        offset: u64,
        bytes: u64,
        guard: Guard,
    ) -> Result<(), IoError> {
        let wanted = usize::try_from(bytes).expect("64-bit platforms only");
        let progress = Progress::new(Action::Allocate, file, offset, wanted);
        self.run_once(
            Op { request: Request::Allocate { file: file.clone(), offset, bytes }, guard },
            &progress,
        )
        .await
    }

    /// Refuses new operations, waits until the kernel is done with all others, and ends the driver.
    pub async fn close(&self) {
        self.0.closing.set(true);
        self.idle().await;
        self.end_driver().await;
    }

    /// Like [`Ring::close`], but waits no longer than `limit`: whether the kernel was done. If not, what it may still read and
    /// write, the whole pool, stays where it is until the process ends.
    pub(crate) async fn close_within(&self, limit: Duration) -> bool {
        self.0.closing.set(true);
        let is_idle = task::timeout(limit, self.idle()).await.is_ok();
        self.0.left.set(!is_idle);
        self.end_driver().await;
        is_idle
    }

    /// Whether nobody else has a handle, and the kernel no operation.
    pub(crate) fn is_unused(&self) -> bool {
        Rc::strong_count(&self.0) == 1 && self.0.table.borrow().is_idle()
    }

    async fn idle(&self) {
        poll_fn(|context| {
            if self.0.table.borrow().is_idle() {
                return Poll::Ready(());
            }
            self.0.idle_wakers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    async fn end_driver(&self) {
        self.0.stopped.set(true);
        self.0.kernel.borrow().poke();
        let driver = self.0.driver.borrow_mut().take();
        if let Some(driver) = driver {
            driver.await;
        }
    }

    /// Operations the kernel works on now.
    pub fn in_flight(&self) -> usize {
        self.0.table.borrow().in_flight()
    }

    /// The pool whose memory is registered.
    pub fn pool(&self) -> &Pool {
        &self.0.pool
    }

    async fn run_once(&self, mut op: Op, progress: &Progress<'_>) -> Result<(), IoError> {
        let mut retries = 0;
        loop {
            self.check_open(progress)?;
            let (back, answer) = self.run(op).await;
            match io::Error::from_raw_os_error(-answer) {
                _ if answer >= 0 => return Ok(()),
                error if is_transient(&error) && retries < MAX_RETRIES => (op, retries) = (back, retries + 1),
                error => return Err(progress.refused(error)),
            }
        }
    }

    /// After [`Ring::close`] nothing new starts; what is complete by then is.
    fn check_open(&self, progress: &Progress<'_>) -> Result<(), IoError> {
        if !self.0.closing.get() || progress.is_done() && progress.wanted > 0 {
            return Ok(());
        }
        Err(IoError::Closed { action: progress.action, path: progress.file.path().to_owned() })
    }

    /// One operation, to the kernel's answer.
    async fn run(&self, mut op: Op) -> (Op, i32) {
        op.guard.iter_mut().for_each(|guard| guard.given());
        let id = self.0.table.borrow_mut().insert(op);
        let completion = Completion { ring: self.0.clone(), id, taken: false };
        start_queued(&self.0);
        completion.await
    }
}

/// How far a transfer has come, and what its errors name.
struct Progress<'a> {
    action: Action,
    file: &'a Arc<DirectFile>,
    offset: u64,
    wanted: usize,
    done: usize,
    retries: u32,
}

impl<'a> Progress<'a> {
    fn new(action: Action, file: &'a Arc<DirectFile>, offset: u64, wanted: usize) -> Self {
        Self { action, file, offset, wanted, done: 0, retries: 0 }
    }

    fn is_done(&self) -> bool {
        self.done == self.wanted
    }

    fn position(&self) -> u64 {
        self.offset + self.done as u64
    }

    fn check_aligned(&self, phase: usize) -> Result<(), IoError> {
        let whole = |value: u64| value.is_multiple_of(BLOCK_BYTES as u64);
        if !self.file.is_direct()
            || whole(self.offset) && whole(self.wanted as u64) && phase.is_multiple_of(BLOCK_BYTES)
        {
            return Ok(());
        }
        let (action, path) = (self.action, self.file.path().to_owned());
        let phase = phase % BLOCK_BYTES;
        Err(IoError::Misaligned { action, path, offset: self.offset, wanted: self.wanted as u64, phase })
    }

    /// Takes the kernel's answer: bytes moved, or a negative error number.
    fn advance(&mut self, result: i32) -> Result<(), IoError> {
        let Ok(moved) = usize::try_from(result) else {
            let error = io::Error::from_raw_os_error(-result);
            self.retries += 1;
            let again = is_transient(&error) && self.retries <= MAX_RETRIES;
            return if again { Ok(()) } else { Err(self.refused(error)) };
        };
        self.done += moved;
        // After part of a block comes the end of the file; direct I/O could not go on from there anyway.
        let stuck = moved == 0 || self.file.is_direct() && !self.done.is_multiple_of(BLOCK_BYTES);
        if stuck && !self.is_done() {
            let (wanted, got) = (self.wanted as u64, self.done as u64);
            let (action, path) = (self.action, self.file.path().to_owned());
            return Err(IoError::Short { action, path, offset: self.offset, wanted, got });
        }
        Ok(())
    }

    fn refused(&self, source: io::Error) -> IoError {
        IoError::refused(self.action, self.file.path(), self.offset, self.wanted as u64, source)
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// The wait for one operation; when dropped, the table keeps the operation until the kernel is done.
struct Completion {
    ring: Rc<Inner>,
    id: u32,
    taken: bool,
}

impl Future for Completion {
    type Output = (Op, i32);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = self.ring.table.borrow_mut().poll(self.id, context.waker());
        let Some(done) = done else { return Poll::Pending };
        self.taken = true;
        Poll::Ready(done)
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if !self.taken {
            let op = self.ring.table.borrow_mut().abandon(self.id);
            // Dropped here, without the borrow: it may free slabs and wake others.
            drop(op);
        }
    }
}

/// Moves queued operations into the submission queue, and sees that they are submitted.
fn start_queued(inner: &Rc<Inner>) {
    let waiting = {
        let (mut table, mut kernel) = (inner.table.borrow_mut(), inner.kernel.borrow_mut());
        while let Some((id, op)) = table.start_next() {
            // SAFETY: the table keeps the operation, and with it memory and file, until `reap` hands its id to
            // `complete`; a read's memory is a `SlabMut`, a write's a `Slab`, which nobody else can touch or change.
            #[allow(unsafe_code)]
            unsafe {
                kernel.push(id, op);
            }
        }
        kernel.waiting()
    };
    if waiting >= SUBMIT_AT {
        // What the kernel does not take now, the flush hands over.
        submit(inner);
    }
    if inner.flush_due.replace(true) {
        return;
    }
    let (inner, queue) = (inner.clone(), inner.task_queue);
    let flush = async move {
        // A new task runs at once up to its first await: yield, so that one submit serves all tasks of this turn.
        task::yield_now().await;
        inner.flush_due.set(false);
        while !submit(&inner) {
            task::sleep(SUBMIT_RETRY).await;
        }
        reap(&inner);
    };
    task::spawn_into(queue, flush).detach();
}

/// Hands all there is to the kernel, again while it takes a part of it; false if it takes nothing for now.
fn submit(inner: &Inner) -> bool {
    loop {
        let submitted = inner.kernel.borrow_mut().submit();
        match submitted {
            Ok((_, 0)) => {
                inner.is_refused.set(false);
                return true;
            }
            Ok((0, _)) => return false,
            Ok(_) => {}
            Err(error) => {
                // It is tried again every millisecond.
                if !inner.is_refused.replace(true) {
                    tracing::warn!("io_uring refuses operations for now: {error}");
                }
                return false;
            }
        }
    }
}

/// Takes all completions there are, wakes their tasks, and lets queued operations follow.
fn reap(inner: &Rc<Inner>) {
    let mut any = false;
    loop {
        let completion = inner.kernel.borrow_mut().reap();
        let Some((id, result)) = completion else { break };
        let completed = inner.table.borrow_mut().complete(id, result);
        any = true;
        if let Some(waker) = completed.waker {
            waker.wake();
        }
        drop(completed.orphan);
    }
    if !any {
        return;
    }
    if inner.table.borrow().has_queued() {
        start_queued(inner);
    }
    if inner.table.borrow().is_idle() {
        let wakers = std::mem::take(&mut *inner.idle_wakers.borrow_mut());
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Waits for completions. Holds the ring only between two waits, so that dropping the last handle ends it.
async fn drive(ring: Weak<Inner>, events: BufferedFile) {
    loop {
        if let Err(error) = events.read_at(0, size_of::<u64>()).await {
            tracing::warn!("waiting for io_uring: {error}");
            task::sleep(SUBMIT_RETRY).await;
        }
        let Some(inner) = ring.upgrade() else { break };
        reap(&inner);
        if inner.stopped.get() {
            break;
        }
    }
    // Closing fails only for a descriptor that is closed already.
    let _ = events.close().await;
}

impl Drop for Inner {
    /// The kernel may still write to slabs: nothing is freed before it is done. A ring closed first waits for nothing.
    fn drop(&mut self) {
        let (kernel, table) = (self.kernel.get_mut(), self.table.get_mut());
        if self.left.get() {
            // Files, slabs and the pool's memory stay for as long as the process, since nobody will hear when the kernel is done.
            std::mem::forget(std::mem::replace(table, Table::new(1)));
            std::mem::forget(self.pool.clone());
            return;
        }
        while table.in_flight() > 0 {
            if let Some((id, result)) = kernel.reap() {
                drop(table.complete(id, result).orphan);
            } else if let Err(error) = kernel.wait_one()
                && !is_transient(&error)
            {
                tracing::error!("io_uring does not end its operations: {error}; their buffers stay lost");
                std::mem::forget(std::mem::replace(table, Table::new(1)));
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
