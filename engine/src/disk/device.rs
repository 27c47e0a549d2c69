//! What carries out a disk's requests: the kernel, or in tests a model of a disk that errs and loses its power.

use crate::error::IoError;
use crate::file::DirectFile;
use crate::pool::SlabMut;
use crate::ring::{Guard, Ring, Source};
use futures::future::LocalBoxFuture;
use std::sync::Arc;

/// What is answered when the device is done with memory that it was given: the memory, and how it went.
pub(crate) type Moved<'a, T> = LocalBoxFuture<'a, (T, Result<(), IoError>)>;

/// A device as [`crate::Disk`] asks it. A transfer is done in whole or an error; once begun it goes on although its future is
/// dropped, and `guard` is dropped when it ends. What was written is durable only after a later `sync`.
pub(crate) trait Device {
    /// Fills `buf[from..to]` from `offset` on.
    fn read<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        buf: SlabMut,
        range: (usize, usize),
        guard: Guard,
    ) -> Moved<'a, SlabMut>;

    /// Writes all of `data` at `offset`.
    fn write<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        data: Source,
        guard: Guard,
    ) -> Moved<'a, Source>;

    /// Makes durable what was written before.
    fn sync<'a>(&'a self, file: &'a Arc<DirectFile>, guard: Guard)
    -> LocalBoxFuture<'a, Result<(), IoError>>;

    /// Reserves space; the file grows if it lies beyond its end.
    fn allocate<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        bytes: u64,
        guard: Guard,
    ) -> LocalBoxFuture<'a, Result<(), IoError>>;
}

impl Device for Ring {
    fn read<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        buf: SlabMut,
        range: (usize, usize),
        guard: Guard,
    ) -> Moved<'a, SlabMut> {
        Box::pin(Ring::read(self, file, offset, buf, range, guard))
    }

    fn write<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        data: Source,
        guard: Guard,
    ) -> Moved<'a, Source> {
        Box::pin(Ring::write(self, file, offset, data, guard))
    }

    fn sync<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        guard: Guard,
    ) -> LocalBoxFuture<'a, Result<(), IoError>> {
        Box::pin(Ring::sync(self, file, guard))
    }

    fn allocate<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        bytes: u64,
        guard: Guard,
    ) -> LocalBoxFuture<'a, Result<(), IoError>> {
        Box::pin(Ring::allocate(self, file, offset, bytes, guard))
    }
}
