//! Large memory that is written all over at once.
//!
//! Growing a table writes to thousands of places in turn, each on a page of its own. With pages of 4 KiB nearly every write
//! would have to look its page up in memory, so the kernel is asked for pages of 2 MiB.

use std::ffi::c_void;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

/// Size and alignment of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// What may be in such memory: plain numbers, of which all bytes zero are one.
///
/// # Safety
/// All bytes zero are a valid value.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: zero.
unsafe impl Plain for u8 {}
// SAFETY: zero.
unsafe impl Plain for u32 {}
// SAFETY: zeros.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// A slice of zeros at first, in huge pages where the system has them. What is never written takes no memory, but for the rest
/// of a page.
pub(super) struct Memory<T: Plain> {
    /// What the system gave.
    mapping: NonNull<c_void>,
    /// The first place in it where a huge page can start.
    start: NonNull<T>,
    len: usize,
}

// SAFETY: owns its elements, which are plain numbers.
unsafe impl<T: Plain> Send for Memory<T> {}
// SAFETY: as above; shared access only reads.
unsafe impl<T: Plain> Sync for Memory<T> {}

impl<T: Plain> Memory<T> {
    /// # Panics
    /// If `len` is zero, or the system has no memory, as other allocations do.
    pub(super) fn new(len: usize) -> Self {
        const { assert!(align_of::<T>() <= HUGE_PAGE) };
        let size_bytes = Self::mapping_size(len);
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at a place of the system's choice.
        let mapping = unsafe { libc::mmap(ptr::null_mut(), size_bytes, access, kind, -1, 0) };
        assert!(mapping != libc::MAP_FAILED, "out of memory: {size_bytes} bytes for a table");
        let mapping = NonNull::new(mapping).expect("a mapping is never at zero");
        // SAFETY: the mapping is one huge page larger than what is used of it.
        let start = unsafe { mapping.byte_add(mapping.cast::<u8>().align_offset(HUGE_PAGE)) };
        // A refusal means small pages: slower, not wrong.
        // SAFETY: whole pages of the mapping, whose contents advice does not change.
        unsafe { libc::madvise(start.as_ptr(), size_bytes - HUGE_PAGE, libc::MADV_HUGEPAGE) };
        Self { mapping, start: start.cast(), len }
    }

    /// Whole huge pages, and one more to start where one may start.
    fn mapping_size(len: usize) -> usize {
        let size_bytes = len.checked_mul(size_of::<T>()).expect("a few dozen megabytes");
        assert!(size_bytes > 0, "memory of no size is of no use");
        size_bytes.next_multiple_of(HUGE_PAGE) + HUGE_PAGE
    }
}

impl<T: Plain> Deref for Memory<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `len` values, zero or written, as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> DerefMut for Memory<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and exclusive since `self` is.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> Drop for Memory<T> {
    fn drop(&mut self) {
        // SAFETY: mapped with this size; no reference outlives `self`.
        unsafe { libc::munmap(self.mapping.as_ptr(), Self::mapping_size(self.len)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_is_written() {
        let mut memory = Memory::<[u32; 4]>::new(HUGE_PAGE / 16 + 1);
        assert!(memory.iter().all(|quad| *quad == [0; 4]));
        assert_eq!(memory.as_ptr() as usize % HUGE_PAGE, 0);
        let last = memory.len() - 1;
        memory[0] = [1; 4];
        memory[last] = [2; 4];
        assert_eq!((memory[0], memory[1], memory[last]), ([1; 4], [0; 4], [2; 4]));
    }
}
