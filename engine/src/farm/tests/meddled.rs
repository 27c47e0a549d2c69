//! The kernel's disk with something between: operations that are refused, steps at which something happens.

use super::*;
use crate::disk::{Device, Moved};
use crate::error::{Action, IoError};
use crate::file::DirectFile;
use crate::ring::{Guard, Ring, Source};
use futures::future::LocalBoxFuture;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// What comes between a disk and its kernel. By itself nothing does.
pub trait Meddle {
    /// Whether the disk says no, and nothing is done. `bytes` are none for a sync.
    fn refuses(&self, _action: Action, _file: &DirectFile, _bytes: &Range<u64>) -> bool {
        false
    }

    /// A write, a sync or an allocation is about to begin, has begun, or is done.
    fn step(&self) {}
}

/// Such a disk.
pub struct Meddled<M> {
    pub ring: Ring,
    pub meddle: M,
}

impl<M: Meddle> Meddled<M> {
    fn ask(&self, action: Action, file: &DirectFile, offset: u64, bytes: u64) -> Result<(), IoError> {
        if self.meddle.refuses(action, file, &(offset..offset + bytes)) {
            let source = io::Error::from_raw_os_error(libc::EIO);
            return Err(IoError::refused(action, file.path(), offset, bytes, source));
        }
        Ok(())
    }

    /// Before it begins, when the kernel has it, when it is done.
    async fn in_steps<T>(&self, work: impl Future<Output = T>) -> T {
        self.meddle.step();
        let mut work = pin!(work);
        let begun = futures::poll!(&mut work);
        self.meddle.step();
        let Poll::Ready(done) = begun else {
            let done = work.await;
            self.meddle.step();
            return done;
        };
        done
    }
}

impl<M: Meddle> Device for Meddled<M> {
    fn read<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        buf: SlabMut,
        (from, to): (usize, usize),
        guard: Guard,
    ) -> Moved<'a, SlabMut> {
        match self.ask(Action::Read, file, offset, (to - from) as u64) {
            Ok(()) => Device::read(&self.ring, file, offset, buf, (from, to), guard),
            Err(error) => Box::pin(async move { (buf, Err(error)) }),
        }
    }

    fn write<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        data: Source,
        guard: Guard,
    ) -> Moved<'a, Source> {
        match self.ask(Action::Write, file, offset, data.bytes().len() as u64) {
            Ok(()) => Box::pin(self.in_steps(Device::write(&self.ring, file, offset, data, guard))),
            Err(error) => Box::pin(async move { (data, Err(error)) }),
        }
    }

    fn sync<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        guard: Guard,
    ) -> LocalBoxFuture<'a, Result<(), IoError>> {
        match self.ask(Action::Sync, file, 0, 0) {
            Ok(()) => Box::pin(self.in_steps(Device::sync(&self.ring, file, guard))),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }

    fn allocate<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        bytes: u64,
        guard: Guard,
    ) -> LocalBoxFuture<'a, Result<(), IoError>> {
        match self.ask(Action::Allocate, file, offset, bytes) {
            Ok(()) => Box::pin(self.in_steps(Device::allocate(&self.ring, file, offset, bytes, guard))),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }
}
