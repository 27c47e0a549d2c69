//! A disk that refuses to read some bytes of some files, for as long as a test wants.

use super::*;
use crate::disk::{Device, Limits};
use crate::error::{Action, IoError};
use crate::file::DirectFile;
use crate::ring::{Guard, Ring, Source};
use futures::future::LocalBoxFuture;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Name of a file, and bytes of it.
type Refused = (&'static str, Range<u64>);

/// What is refused; clones are handles to the same list.
#[derive(Clone, Default)]
pub struct Refusals(Rc<RefCell<Vec<Refused>>>);

impl Refusals {
    pub fn set(&self, refused: &[Refused]) {
        *self.0.borrow_mut() = refused.to_vec();
    }

    fn refuses(&self, file: &DirectFile, read: &Range<u64>) -> bool {
        let is_hit = |(name, bytes): &Refused| {
            file.path().ends_with(name) && bytes.start < read.end && read.start < bytes.end
        };
        self.0.borrow().iter().any(is_hit)
    }
}

struct Refusing {
    ring: Ring,
    refusals: Refusals,
}

impl Device for Refusing {
    fn read<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        buf: SlabMut,
        (from, to): (usize, usize),
        guard: Guard,
    ) -> LocalBoxFuture<'a, (SlabMut, Result<(), IoError>)> {
        let wanted = (to - from) as u64;
        if self.refusals.refuses(file, &(offset..offset + wanted)) {
            let source = io::Error::from_raw_os_error(libc::EIO);
            let error = IoError::refused(Action::Read, file.path(), offset, wanted, source);
            return Box::pin(async move { (buf, Err(error)) });
        }
        Device::read(&self.ring, file, offset, buf, (from, to), guard)
    }

    fn write<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        data: Source,
        guard: Guard,
    ) -> LocalBoxFuture<'a, (Source, Result<(), IoError>)> {
        Device::write(&self.ring, file, offset, data, guard)
    }

    fn sync<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        guard: Guard,
    ) -> LocalBoxFuture<'a, Result<(), IoError>> {
        Device::sync(&self.ring, file, guard)
    }

    fn allocate<'a>(
        &'a self,
        file: &'a Arc<DirectFile>,
        offset: u64,
        bytes: u64,
        guard: Guard,
    ) -> LocalBoxFuture<'a, Result<(), IoError>> {
        Device::allocate(&self.ring, file, offset, bytes, guard)
    }
}

/// Runs a test on an executor with such a disk.
pub fn on_refusing_disk<F: Future<Output = ()> + 'static>(
    test: impl FnOnce(Disk, Pool, Refusals) -> F + Send + 'static,
) {
    on_disk(move |_, pool| async move {
        let (ring, refusals) = (Ring::new(&pool, 64).unwrap(), Refusals::default());
        let device = Refusing { ring: ring.clone(), refusals: refusals.clone() };
        test(Disk::over(Box::new(device), &pool, Limits::default()), pool, refusals).await;
        ring.close().await;
    });
}
