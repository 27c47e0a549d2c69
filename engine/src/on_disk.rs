//! Where the tests of farms and piece stores run.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::disk::{Disk, Limits};
use crate::pool::Pool;
use crate::ring::Ring;
use glommio::{LocalExecutorBuilder, Placement};
use std::future::Future;

/// Runs a test on an executor with a disk, and sees that no slab is left behind.
pub fn on_disk<F: Future<Output = ()> + 'static>(test: impl FnOnce(Disk, Pool) -> F + Send + 'static) {
    let pool = Pool::new(8, 128).unwrap();
    let pool_there = pool.clone();
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(64 << 10)
        .spawn(move || async move {
            let ring = Ring::new(&pool_there, 64).unwrap();
            test(Disk::new(ring.clone(), Limits::default()), pool_there).await;
            ring.close().await;
        })
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(pool.stats().in_use, 0, "a slab was lost");
}
