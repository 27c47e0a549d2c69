//! Handles to ranges of slabs: one that writes and stands alone, one that reads and is shared.
#![allow(unsafe_code)]

use super::{Pool, REGISTERED_BUFFER_BYTES, SLAB_BYTES};
use crate::BLOCK_BYTES;
use std::ops::{Bound, Deref, DerefMut, RangeBounds};
use std::ptr::NonNull;

/// A range of a slab; holding one keeps the slab.
struct Handle {
    pool: Pool,
    slab: u32,
    start: u32,
    len: u32,
}

impl Handle {
    fn address(&self) -> NonNull<u8> {
        self.pool.0.region.address(self.slab, self.start)
    }

    /// Another handle to the same slab; the caller answers for the range.
    fn another(&self, start: u32, len: u32) -> Self {
        debug_assert!(start >= self.start && start + len <= self.start + self.len);
        self.pool.0.core.add_handle(self.slab);
        Self { pool: self.pool.clone(), slab: self.slab, start, len }
    }

    /// Shrinks to a range counted from the handle's own start.
    fn narrow(&mut self, range: impl RangeBounds<usize>) {
        let (from, to) = bounds(range, self.len as usize);
        self.start += from;
        self.len = to - from;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.pool.0.core.drop_handle(self.slab);
    }
}

/// The bounds of a range within `len` bytes. Panics, as slices do, when it lies outside.
fn bounds(range: impl RangeBounds<usize>, len: usize) -> (u32, u32) {
    let from = match range.start_bound() {
        Bound::Included(&from) => from,
        Bound::Excluded(&from) => from + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(&to) => to + 1,
        Bound::Excluded(&to) => to,
        Bound::Unbounded => len,
    };
    assert!(from <= to && to <= len, "range {from}..{to} of {len} bytes");
    let narrow = |at: usize| u32::try_from(at).expect("a slab's length fits 32 bits");
    (narrow(from), narrow(to))
}

/// A range of a slab that nobody else can reach: the owner reads and writes it.
pub struct SlabMut(Handle);

/// A range of a slab to read, shared by any number of owners in any threads.
pub struct Slab(Handle);

impl SlabMut {
    /// The first handle of a slab just acquired.
    pub(super) fn whole(pool: Pool, slab: u32) -> Self {
        let len = u32::try_from(SLAB_BYTES).expect("2 MiB fit 32 bits");
        Self(Handle { pool, slab, start: 0, len })
    }

    /// Cuts the range in two: `self` keeps `..at`, the bytes from `at` on are returned. Panics when `at` is outside.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let (at, end) = bounds(at.., self.0.len as usize);
        let tail = Self(self.0.another(self.0.start + at, end - at));
        self.0.len = at;
        tail
    }

    /// Cuts the range into as many parts of `part_bytes` as fit; the rest is let go.
    pub fn split_into(mut self, part_bytes: usize) -> Vec<Self> {
        assert!(part_bytes > 0, "parts of a slab have at least one byte");
        let mut parts = Vec::with_capacity(self.len() / part_bytes);
        while self.len() >= part_bytes {
            let rest = self.split_off(part_bytes);
            parts.push(std::mem::replace(&mut self, rest));
        }
        parts
    }

    /// Joins two parts that lie next to each other in the same slab, or gives both back.
    pub fn join(mut self, next: Self) -> Result<Self, (Self, Self)> {
        let same = self.0.pool.is(&next.0.pool) && self.0.slab == next.0.slab;
        if !same || self.0.start + self.0.len != next.0.start {
            return Err((self, next));
        }
        self.0.len += next.0.len;
        Ok(self)
    }

    /// Keeps only a range, counted from the handle's start, and lets the rest go. Panics when it lies outside.
    #[must_use]
    pub fn narrow(mut self, range: impl RangeBounds<usize>) -> Self {
        self.0.narrow(range);
        self
    }

    /// Ends writing: the range can now be shared.
    pub fn freeze(self) -> Slab {
        Slab(self.0)
    }
}

impl Slab {
    /// Another handle to a range, counted from this handle's start. Panics when it lies outside.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let mut part = self.clone();
        part.0.narrow(range);
        part
    }

    /// The range for writing again, if this is the slab's only handle; else the handle comes back.
    pub fn try_into_mut(self) -> Result<SlabMut, Self> {
        if self.0.pool.0.core.is_only_handle(self.0.slab) { Ok(SlabMut(self.0)) } else { Err(self) }
    }
}

impl Clone for Slab {
    fn clone(&self) -> Self {
        Self(self.0.another(self.0.start, self.0.len))
    }
}

impl Deref for SlabMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes are mapped and initialised (zeroes from the kernel at first), the handle keeps them, and no
        // other handle reaches this range, so nobody writes them while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.0.address().as_ptr(), self.0.len as usize) }
    }
}

impl DerefMut for SlabMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes this the only reference into the range.
        unsafe { std::slice::from_raw_parts_mut(self.0.address().as_ptr(), self.0.len as usize) }
    }
}

impl Deref for Slab {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as for `SlabMut`; handles that share the range are all `Slab`s, which only read.
        unsafe { std::slice::from_raw_parts(self.0.address().as_ptr(), self.0.len as usize) }
    }
}

/// What both handles tell about their place.
macro_rules! place {
    ($handle:ty) => {
        impl $handle {
            /// Position of the first byte within a 4096-byte block of memory.
            pub fn phase(&self) -> usize {
                self.0.start as usize % BLOCK_BYTES
            }

            /// The pool the memory belongs to.
            pub fn pool(&self) -> &Pool {
                &self.0.pool
            }

            /// Address of the first byte, and the number of the registered buffer it lies in.
            pub(crate) fn target(&self) -> (NonNull<u8>, u16) {
                let buffer = self.0.slab as usize / (REGISTERED_BUFFER_BYTES / SLAB_BYTES);
                (self.0.address(), u16::try_from(buffer).expect("MAX_SLABS make at most 128 buffers"))
            }
        }

        impl std::fmt::Debug for $handle {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let (slab, start, len) = (self.0.slab, self.0.start, self.0.len);
                write!(f, concat!(stringify!($handle), "({} at {}, {} bytes)"), slab, start, len)
            }
        }
    };
}
place!(SlabMut);
place!(Slab);

#[cfg(test)]
#[path = "slab_tests.rs"]
mod tests;
