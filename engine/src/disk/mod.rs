//! One disk: the only way to its files, most urgent requests first, each within its time.
//!
//! ```text
//!   read, write, sync ──▶ Scheduler (who goes next) ──▶ Device: a Ring of its own ──▶ kernel
//!          ▲                   ▲    ▲                                   │
//!          │                   │    └── permit dropped when done ◀──────┤
//!   Late, Sick ◀── deadlines, health ◀── what was seen, and how fast ◀──┘
//! ```
//! A disk that hangs or errs costs itself alone: its ring, its askers, who are told in time. Owns: the order of requests, their
//! deadlines, the health of the disk, and the widening of unaligned ranges to whole blocks. All files of one disk go through
//! one `Disk`, or its limits mean nothing. Never: what the bytes are; what an illness means for who asks.

mod cell;
mod core;
mod deadline;
mod depth;
mod device;
mod health;
mod left;
mod pace;
mod pending;
mod place;
mod places;
mod scheduler;
mod watch;
mod writer;

pub use self::cell::HealthCell;
pub use self::deadline::limit;
pub(crate) use self::depth::{DEPTHS, MAX_NOTE_BYTES, enough, note, noted};
pub(crate) use self::device::Device;
#[cfg(test)]
pub(crate) use self::device::Moved;
pub use self::health::{Answer, Change, Event, Health, Machine, Why};
pub use self::pace::{Pace, Rate};
pub use self::scheduler::{CLASSES, Cap, Class, Limits, READS_PER_BACKGROUND, Scheduler, Ticket};
pub use self::writer::{FileWriter, SCRATCH_BYTES};

use self::core::{Asked, Core};
use self::pending::What;
use self::place::Place;
use crate::BLOCK_BYTES;
use crate::error::{Action, IoError};
use crate::file::DirectFile;
use crate::pool::{Pool, Slab, SlabMut};
use crate::ring::{Ring, Source};
use crate::task;
use futures::lock::Mutex;
use glommio::TaskQueueHandle;
use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Places that a ring has beyond the disk's depth, for reward signatures and probes.
pub(crate) const URGENT_DEPTH: usize = 16;

/// A disk as the tasks of its executor use it; clones are handles to the same one.
#[derive(Clone)]
pub struct Disk {
    core: Rc<Core>,
    /// The maker's queue, in which it is looked in at.
    queue: TaskQueueHandle,
    /// Reads at once as measured; held while they are.
    measured_depth: Rc<Mutex<Option<usize>>>,
}

impl Disk {
    /// A disk behind `ring`, on the ring's executor, which knows nothing of its device; [`crate::Local::disk`] makes those that do.
    pub fn new(ring: Ring, limits: Limits) -> Self {
        let pool = ring.pool().clone();
        Self::over(Box::new(ring), &pool, limits)
    }

    /// The disk that `place` lies on, behind a ring of its own.
    pub(crate) fn at(place: &Path, ring: Ring, limits: Limits) -> Self {
        let pool = ring.pool().clone();
        let disk = Self::made(Core::new(Box::new(ring), pool, Place::unseen(place), limits));
        watch::find_place(&disk.core, place);
        disk
    }

    /// A disk behind any device.
    pub(crate) fn over(device: Box<dyn Device>, pool: &Pool, limits: Limits) -> Self {
        Self::made(Core::new(device, pool.clone(), Place::default(), limits))
    }

    fn made(core: Rc<Core>) -> Self {
        Self { core, queue: task::current_queue(), measured_depth: Rc::default() }
    }

    /// Requests at once, of all classes but reward signatures.
    pub fn depth(&self) -> usize {
        self.core.state.borrow().limits.depth
    }

    /// Takes the depth that `measure` finds from now on, unless it is known already; whoever else asks meanwhile waits for it. Where
    /// `measure` finds none, the depth stays, and the next one is asked.
    pub(crate) async fn settle_depth(&self, measure: impl Future<Output = Option<usize>>) {
        let mut known = self.measured_depth.lock().await;
        if known.is_some() {
            return;
        }
        *known = measure.await;
        if let Some(depth) = *known {
            self.set_depth(depth);
        }
    }

    /// So many requests at once from now on, at most as many as its ring was made for.
    pub fn set_depth(&self, depth: usize) {
        let mut state = self.core.state.borrow_mut();
        state.limits.depth = depth;
        state.scheduler.set_depth(depth);
    }

    /// The device's name, as far as it is known.
    pub(crate) fn device_name(&self) -> &str {
        &self.core.place().device
    }

    /// How it is doing, for any thread, and for longer than the disk is used.
    pub fn health_cell(&self) -> Arc<HealthCell> {
        self.core.cell.clone()
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
        result.map(|()| buf.expect("what was read is there"))
    }

    /// Like [`Disk::read`], into memory that its owner goes on using: `buf` comes back, also when the read fails, unless it
    /// is too late: then the kernel may still write there.
    pub async fn read_own(
        &self,
        class: Class,
        file: &Arc<DirectFile>,
        offset: u64,
        buf: SlabMut,
        range: Range<usize>,
    ) -> (Option<SlabMut>, Result<(), IoError>) {
        let what = What { class, action: Action::Read, file, offset, bytes: range.len() as u64 };
        let (asked, guard) = match self.turn(&what).await {
            Ok(turn) => turn,
            Err(error) => return (Some(buf), Err(error)),
        };
        let reading = self.core.device.read(file, offset, buf, (range.start, range.end), guard);
        asked.answer(reading).await
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
        let what = What { class, action: Action::Write, file, offset, bytes: data.len() as u64 };
        let (asked, guard) = self.turn(&what).await?;
        let writing = self.core.device.write(file, offset, Source::Shared(data.clone()), guard);
        asked.answer(writing).await.1
    }

    /// Like [`Disk::write`], from memory that its owner goes on using: `buf` comes back, also when the write fails, unless it
    /// is too late: then the kernel may still read there. What it writes may then reach the disk later; no write that
    /// overlaps it is begun before.
    pub async fn write_own(
        &self,
        class: Class,
        file: &Arc<DirectFile>,
        offset: u64,
        buf: SlabMut,
    ) -> (Option<SlabMut>, Result<(), IoError>) {
        let what = What { class, action: Action::Write, file, offset, bytes: buf.len() as u64 };
        let (asked, guard) = match self.turn(&what).await {
            Ok(turn) => turn,
            Err(error) => return (Some(buf), Err(error)),
        };
        let (back, written) =
            asked.answer(self.core.device.write(file, offset, Source::Own(buf), guard)).await;
        (back.map(own), written)
    }

    /// Makes what was written to the file durable (fdatasync).
    pub async fn sync(&self, class: Class, file: &Arc<DirectFile>) -> Result<(), IoError> {
        let what = What { class, action: Action::Sync, file, offset: 0, bytes: 0 };
        let (asked, guard) = self.turn(&what).await?;
        let syncing = async { ((), self.core.device.sync(file, guard).await) };
        asked.answer(syncing).await.1
    }

    /// Reserves space for `bytes` from `offset` on, without blocking the executor; the file grows if needed.
    pub async fn allocate(
        &self,
        class: Class,
        file: &Arc<DirectFile>,
        offset: u64,
        bytes: u64,
    ) -> Result<(), IoError> {
        let what = What { class, action: Action::Allocate, file, offset, bytes: 0 };
        let (asked, guard) = self.turn(&what).await?;
        let allocating = async { ((), self.core.device.allocate(file, offset, bytes, guard).await) };
        asked.answer(allocating).await.1
    }

    /// Length of a file of this disk, without blocking the executor.
    pub async fn size_bytes(&self, class: Class, file: &Arc<DirectFile>) -> Result<u64, IoError> {
        let (action, limit, asked) = (Action::Read, limit(class, Action::Read), file.clone());
        let size = task::off_executor("disk-look", move || asked.size_bytes());
        match task::timeout(limit, size).await {
            Ok(size) => size.map_err(|error| IoError::open(file.path(), error))?,
            Err(_) => {
                let (path, class) = (file.path().to_owned(), class.as_str());
                Err(IoError::Late { action, path, offset: 0, wanted: 0, class, limit })
            }
        }
    }

    /// Requests of a class that wait here and that are in flight, for metrics.
    pub fn load(&self, class: Class) -> (usize, usize) {
        let state = self.core.state.borrow();
        (state.scheduler.waiting(class), state.scheduler.in_flight(class))
    }

    /// Like [`Disk::read_own`], and waits for the device however long it takes; `tell` hears once that it is too late.
    async fn read_at_last(
        &self,
        class: Class,
        file: &Arc<DirectFile>,
        offset: u64,
        buf: SlabMut,
        tell: impl FnMut(IoError),
    ) -> (SlabMut, Result<(), IoError>) {
        let bytes = buf.len();
        let what = What { class, action: Action::Read, file, offset, bytes: bytes as u64 };
        match self.turn(&what).await {
            Ok((asked, guard)) => {
                let reading = self.core.device.read(file, offset, buf, (0, bytes), guard);
                asked.answer_at_last(reading, tell).await
            }
            Err(error) => (buf, Err(error)),
        }
    }

    /// Like [`Disk::write_own`], and waits for the device however long it takes; `tell` hears once that it is too late.
    async fn write_at_last(
        &self,
        class: Class,
        file: &Arc<DirectFile>,
        offset: u64,
        buf: SlabMut,
        tell: impl FnMut(IoError),
    ) -> (SlabMut, Result<(), IoError>) {
        let what = What { class, action: Action::Write, file, offset, bytes: buf.len() as u64 };
        match self.turn(&what).await {
            Ok((asked, guard)) => {
                let writing = self.core.device.write(file, offset, Source::Own(buf), guard);
                let (back, written) = asked.answer_at_last(writing, tell).await;
                (own(back), written)
            }
            Err(error) => (buf, Err(error)),
        }
    }

    /// Waits for the scheduler's word. The permit goes with the operation and ends when the kernel is done.
    async fn turn(&self, what: &What<'_>) -> Result<(Asked, crate::ring::Guard), IoError> {
        self.core.clear(what).await?;
        let asked = self.core.ask(what)?;
        watch::look_in(&self.core, self.queue);
        let guard = asked.turn().await?;
        Ok((asked, guard))
    }
}

fn own(source: Source) -> SlabMut {
    match source {
        Source::Own(buf) => buf,
        Source::Shared(_) => unreachable!("an operation gives back what it was given"),
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

#[cfg(test)]
#[path = "hang_tests.rs"]
mod hang_tests;

#[cfg(test)]
#[path = "bad_place_tests.rs"]
mod bad_place_tests;
