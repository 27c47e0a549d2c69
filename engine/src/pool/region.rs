//! The pool's memory: one anonymous mapping, aligned to a huge page, never moved, unmapped when the last handle is gone.
#![allow(unsafe_code)]

use super::{PoolError, SLAB_BYTES};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::ptr::NonNull;

/// A mapping of whole slabs. Gives out addresses only; who may touch which bytes is decided by the handles.
pub(super) struct Region {
    start: NonNull<u8>,
    bytes: usize,
    mapping: NonNull<c_void>,
    mapping_bytes: usize,
}

// SAFETY: the region is an address range that stays mapped while it lives; it reads and writes nothing itself.
unsafe impl Send for Region {}
// SAFETY: as above; all methods take `&self` and return numbers.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `slabs` slabs of zeroes. Physical memory is taken on first touch or when the ring registers it.
    pub fn map(slabs: usize) -> Result<Self, PoolError> {
        let bytes = slabs.checked_mul(SLAB_BYTES).ok_or(PoolError::TooLarge { slabs })?;
        // One slab more, so that an aligned range fits whatever address the kernel picks.
        let mapping_bytes = bytes.checked_add(SLAB_BYTES).ok_or(PoolError::TooLarge { slabs })?;
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory in use.
        let mapping = unsafe { mmap_anonymous(std::ptr::null_mut(), mapping_bytes, protection, flags) }
            .map_err(|source| PoolError::Map { bytes: mapping_bytes, source: source.into() })?;
        let mapping = NonNull::new(mapping).expect("the kernel never places an unfixed mapping at address 0");
        let skip = mapping.cast::<u8>().align_offset(SLAB_BYTES);
        // SAFETY: `skip` is below SLAB_BYTES, by which the mapping is longer than `bytes`.
        let start = unsafe { mapping.cast::<u8>().add(skip) };
        let region = Self { start, bytes, mapping, mapping_bytes };
        region.advise(Advice::LinuxHugepage);
        // A child made by fork must not share pinned pages copy-on-write: the device would go on writing to one side only.
        region.advise(Advice::LinuxDontFork);
        Ok(region)
    }

    /// Advice is a wish: a kernel without huge pages serves small ones.
    fn advise(&self, advice: Advice) {
        // SAFETY: the range is our own mapping, and neither advice used discards its content.
        let _ = unsafe { madvise(self.start.as_ptr().cast(), self.bytes, advice) };
    }

    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Address of byte `offset` of a slab.
    pub fn address(&self, slab: u32, offset: u32) -> NonNull<u8> {
        let at = slab as usize * SLAB_BYTES + offset as usize;
        assert!(at <= self.bytes, "slab {slab} offset {offset} lies outside the region");
        // SAFETY: `at` was just checked to lie within the mapping or one past its end.
        unsafe { self.start.add(at) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and the last handle to it is gone: handles and rings hold the pool.
        let _ = unsafe { munmap(self.mapping.as_ptr(), self.mapping_bytes) };
    }
}
