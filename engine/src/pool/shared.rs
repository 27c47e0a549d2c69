//! The pool as its users see it.

use super::core::Core;
use super::region::Region;
use super::{MAX_SLABS, PoolError, SLAB_BYTES};
use std::ptr::NonNull;
use std::sync::Arc;

/// Largest piece of memory io_uring registers as one buffer.
pub const REGISTERED_BUFFER_BYTES: usize = 1024 * 1024 * 1024;

/// The pool; clones are handles to the same one.
#[derive(Clone)]
pub struct Pool(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub core: Core,
    pub region: Region,
    slabs: usize,
}

/// How full the pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    /// Slabs the pool has.
    pub total: usize,
    /// Slabs given out.
    pub in_use: usize,
    /// Most slabs ever given out at once.
    pub high_water: usize,
    /// Tasks waiting for a slab.
    pub waiting: usize,
}

impl Pool {
    /// Maps a pool of `slabs` slabs; at most `max_waiters` tasks may wait for one.
    pub fn new(slabs: usize, max_waiters: usize) -> Result<Self, PoolError> {
        if slabs == 0 || slabs > MAX_SLABS {
            return Err(PoolError::TooLarge { slabs });
        }
        let count = u32::try_from(slabs).expect("MAX_SLABS fits 32 bits");
        let core = Core::new(count, max_waiters);
        Ok(Self(Arc::new(Shared { core, region: Region::map(slabs)?, slabs })))
    }

    /// Numbers for metrics and limits.
    pub fn stats(&self) -> PoolStats {
        let counts = self.0.core.counts();
        PoolStats {
            total: self.0.slabs,
            in_use: counts.in_use,
            high_water: counts.high_water,
            waiting: counts.waiting,
        }
    }

    /// The whole memory, for registration with CUDA: it stays mapped and in place while any clone of the pool or handle lives.
    pub fn memory(&self) -> (NonNull<u8>, usize) {
        (self.0.region.start(), self.0.region.bytes())
    }

    /// The memory as io_uring wants it registered: buffers of at most [`REGISTERED_BUFFER_BYTES`], in order.
    pub(crate) fn registered_buffers(&self) -> Vec<(NonNull<u8>, usize)> {
        let (_, bytes) = self.memory();
        let slabs_each = u32::try_from(REGISTERED_BUFFER_BYTES / SLAB_BYTES).expect("512 slabs fit 32 bits");
        let starts = (0..bytes).step_by(REGISTERED_BUFFER_BYTES);
        let length = |at: usize| REGISTERED_BUFFER_BYTES.min(bytes - at);
        starts.zip(0u32..).map(|(at, n)| (self.0.region.address(n * slabs_each, 0), length(at))).collect()
    }

    /// Whether both are the same pool.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stats().fmt(f)
    }
}
