//! The io_uring itself: the only place where the kernel is given addresses.
#![allow(unsafe_code)]

use super::error::RingError;
use super::table::{Op, Request};
use crate::pool::Pool;
use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Threads of the kernel for operations that wait, made only when they are needed.
const MAX_WAITING_THREADS: u32 = 1024;

pub(super) struct Kernel {
    uring: IoUring,
    /// The kernel adds 1 at each completion.
    events: OwnedFd,
    /// Registered with the ring: must outlive it.
    _pool: Pool,
}

impl Kernel {
    /// A ring over the pool's memory: that of `other`, which is registered already, where the kernel can share it (6.12), so
    /// that it is locked once; else registered, and locked, once more.
    pub fn new(pool: &Pool, depth: u32, other: Option<&Self>) -> Result<Self, RingError> {
        let uring = build(depth).map_err(RingError::from_setup)?;
        if !other.is_some_and(|other| clone_buffers(&other.uring, &uring)) {
            register_buffers(&uring, pool)?;
        }
        // Operations that the kernel cannot begin without waiting have threads, shared by all rings of this thread: those that hang with one
        // disk must leave some for the others. Kernels before 5.15 do not know it.
        let _ = uring.submitter().register_iowq_max_workers(&mut [MAX_WAITING_THREADS, 0]);
        let events =
            eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| RingError::Setup { source: error.into() })?;
        uring
            .submitter()
            .register_eventfd(events.as_raw_fd())
            .map_err(|source| RingError::Setup { source })?;
        Ok(Self { uring, events, _pool: pool.clone() })
    }

    /// Another descriptor of the eventfd, for the reader.
    pub fn events(&self) -> io::Result<OwnedFd> {
        self.events.as_fd().try_clone_to_owned()
    }

    /// Wakes the reader of the eventfd without a completion.
    pub fn poke(&self) {
        // An eventfd refuses only when its counter is near 2^64.
        let _ = rustix::io::write(&self.events, &1u64.to_ne_bytes());
    }

    /// Puts an operation into the submission queue; it starts at the next [`Self::submit`].
    ///
    /// # Safety
    /// Memory and file of `op` must stay as they are until a completion with this `id` was reaped, and nobody may read
    /// (a read's) or write (a write's) memory meanwhile. The caller keeps `op` in its table until then.
    pub unsafe fn push(&mut self, id: u32, op: &Op) {
        let flags =
            if op.request.file().needs_thread() { squeue::Flags::ASYNC } else { squeue::Flags::empty() };
        let entry = entry(op).flags(flags).user_data(u64::from(id));
        // SAFETY: the caller's promise above is what the kernel asks.
        unsafe { self.uring.submission().push(&entry) }
            .expect("no more operations start than the queue has entries");
    }

    /// Hands what was pushed to the kernel, which may take a part only: how many it took, and how many are left.
    pub fn submit(&mut self) -> io::Result<(usize, usize)> {
        let taken = self.uring.submit()?;
        Ok((taken, self.uring.submission().len()))
    }

    /// Operations that were pushed and not handed over yet.
    pub fn waiting(&mut self) -> usize {
        self.uring.submission().len()
    }

    /// Waits until at least one operation is complete.
    pub fn wait_one(&self) -> io::Result<usize> {
        self.uring.submit_and_wait(1)
    }

    /// The next completion: operation and the kernel's answer.
    pub fn reap(&mut self) -> Option<(u32, i32)> {
        let completion = self.uring.completion().next()?;
        let id = u32::try_from(completion.user_data()).expect("user data are our own numbers");
        Some((id, completion.result()))
    }
}

/// Memory that registering a pool with one ring locks.
fn pinned_bytes(pool: &Pool) -> u64 {
    pool.memory().1 as u64
}

fn register_buffers(uring: &IoUring, pool: &Pool) -> Result<(), RingError> {
    let buffers: Vec<_> = pool
        .registered_buffers()
        .into_iter()
        .map(|(start, bytes)| libc::iovec { iov_base: start.as_ptr().cast(), iov_len: bytes })
        .collect();
    // SAFETY: the buffers are the pool's mapping, which the `Kernel` keeps until after `uring` is dropped (field order).
    unsafe { uring.submitter().register_buffers(&buffers) }.map_err(|source| match source.raw_os_error() {
        Some(libc::ENOMEM) => RingError::Memlock { needed_bytes: pinned_bytes(pool) },
        _ => RingError::Setup { source },
    })
}

/// `io_uring_register`'s number for sharing another ring's registered buffers.
const REGISTER_CLONE_BUFFERS: libc::c_uint = 30;

/// Its argument; zeroes in the rest mean all buffers, at the same numbers.
#[repr(C)]
struct CloneBuffers {
    source_fd: u32,
    rest: [u32; 7],
}

/// Whether `to` now has the registered buffers of `from`; kernels before 6.12 cannot do that.
fn clone_buffers(from: &IoUring, to: &IoUring) -> bool {
    let source_fd = u32::try_from(from.as_raw_fd()).expect("descriptors are not negative");
    let argument = CloneBuffers { source_fd, rest: [0; 7] };
    // SAFETY: both descriptors are open rings, and the argument lives through the call, which only reads it.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            to.as_raw_fd(),
            REGISTER_CLONE_BUFFERS,
            std::ptr::from_ref(&argument),
            1,
        )
    };
    answer == 0
}

/// One thread submits, completions wait for its next system call, and one bad operation does not hold up those behind it, as
/// far as the kernel knows these hints (5.19, 6.0). Not DEFER_TASKRUN: completions would then be posted only by a call that
/// asks for them, and the eventfd would be written twice for each: when one is to be fetched, and when it was.
fn build(depth: u32) -> io::Result<IoUring> {
    let (mut hinted, mut older) = (IoUring::builder(), IoUring::builder());
    hinted.setup_single_issuer().setup_coop_taskrun().setup_submit_all();
    older.setup_coop_taskrun().setup_submit_all();
    let is_unknown = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
    match hinted.build(depth) {
        Err(error) if is_unknown(&error) => match older.build(depth) {
            Err(error) if is_unknown(&error) => IoUring::builder().build(depth),
            built => built,
        },
        built => built,
    }
}

fn entry(op: &Op) -> squeue::Entry {
    match &op.request {
        Request::Read { file, offset, buf, from, to } => {
            let (start, buffer) = buf.target();
            let bytes = u32::try_from(to - from).expect("a slab's length fits 32 bits");
            assert!(from <= to && *to <= buf.len(), "read beyond the slab's range");
            // SAFETY: `from` lies within the range, as just checked.
            let address = unsafe { start.add(*from) };
            opcode::ReadFixed::new(types::Fd(file.as_fd().as_raw_fd()), address.as_ptr(), bytes, buffer)
                .offset(*offset)
                .build()
        }
        Request::Write { file, offset, data, from } => {
            let (start, buffer) = data.target();
            let len = data.bytes().len();
            assert!(*from <= len, "write beyond the slab's range");
            let bytes = u32::try_from(len - from).expect("a slab's length fits 32 bits");
            // SAFETY: `from` lies within the range, as just checked.
            let address = unsafe { start.add(*from) };
            opcode::WriteFixed::new(types::Fd(file.as_fd().as_raw_fd()), address.as_ptr(), bytes, buffer)
                .offset(*offset)
                .build()
        }
        Request::Sync { file } => {
            opcode::Fsync::new(types::Fd(file.as_fd().as_raw_fd())).flags(types::FsyncFlags::DATASYNC).build()
        }
        Request::Allocate { file, offset, bytes } => {
            opcode::Fallocate::new(types::Fd(file.as_fd().as_raw_fd()), *bytes).offset(*offset).build()
        }
    }
}
