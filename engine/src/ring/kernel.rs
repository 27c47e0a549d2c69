//! The io_uring itself: the only place where the kernel is given addresses.
#![allow(unsafe_code)]

use super::error::RingError;
use super::table::{Op, Request};
use crate::pool::Pool;
use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

pub(super) struct Kernel {
    uring: IoUring,
    /// The kernel adds 1 at each completion.
    events: OwnedFd,
    /// Registered with the ring: must outlive it.
    _pool: Pool,
}

impl Kernel {
    pub fn new(pool: &Pool, depth: u32) -> Result<Self, RingError> {
        let uring = build(depth).map_err(RingError::from_setup)?;
        let buffers: Vec<_> = pool
            .registered_buffers()
            .into_iter()
            .map(|(start, bytes)| libc::iovec { iov_base: start.as_ptr().cast(), iov_len: bytes })
            .collect();
        // SAFETY: the buffers are the pool's mapping, which `_pool` keeps until after `uring` is dropped (field order).
        unsafe { uring.submitter().register_buffers(&buffers) }.map_err(|source| {
            match source.raw_os_error() {
                Some(libc::ENOMEM) => RingError::Memlock { needed_bytes: pinned_bytes(pool) },
                _ => RingError::Setup { source },
            }
        })?;
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
        let entry = entry(op).user_data(u64::from(id));
        // SAFETY: the caller's promise above is what the kernel asks.
        unsafe { self.uring.submission().push(&entry) }
            .expect("no more operations start than the queue has entries");
    }

    /// Hands what was pushed to the kernel.
    pub fn submit(&self) -> io::Result<usize> {
        self.uring.submit()
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

/// One thread submits; kernels before 6.0 do not know the hint.
fn build(depth: u32) -> io::Result<IoUring> {
    match IoUring::builder().setup_single_issuer().build(depth) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::builder().build(depth),
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
