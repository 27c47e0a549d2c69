//! Small pieces of the pool's slabs, used again and again by one task that reads much.

use crate::BLOCK_BYTES;
use crate::pool::{AcquireError, Pool, SLAB_BYTES, SlabMut};
use std::cell::RefCell;

/// Equal parts of slabs, taken and given back. Only a failed read loses one.
pub(crate) struct Parts {
    pool: Pool,
    /// Bytes of each.
    pub part_bytes: usize,
    free: RefCell<Vec<SlabMut>>,
}

impl Parts {
    /// Parts of `part_bytes`, whole blocks; the slab is acquired with the first one.
    pub fn new(pool: &Pool, part_bytes: usize) -> Self {
        assert!(part_bytes.is_multiple_of(BLOCK_BYTES) && part_bytes <= SLAB_BYTES, "parts are whole blocks");
        Self { pool: pool.clone(), part_bytes, free: RefCell::default() }
    }

    /// Parts of memory that is there already.
    pub fn of(slab: SlabMut, part_bytes: usize) -> Self {
        let pool = slab.pool().clone();
        Self { free: RefCell::new(slab.split_into(part_bytes)), ..Self::new(&pool, part_bytes) }
    }

    /// Parts that one slab makes: how many may be in use at a time.
    pub fn count(&self) -> usize {
        SLAB_BYTES / self.part_bytes
    }

    /// A part, of another slab if those taken so far are all in use or lost.
    pub async fn take(&self) -> Result<SlabMut, AcquireError> {
        let free = self.free.borrow_mut().pop();
        if let Some(part) = free {
            return Ok(part);
        }
        let mut parts = self.pool.acquire().await?.split_into(self.part_bytes);
        let part = parts.pop().expect("a slab makes at least one part");
        self.free.borrow_mut().append(&mut parts);
        Ok(part)
    }

    /// Gives a part back.
    pub fn give(&self, part: SlabMut) {
        self.free.borrow_mut().push(part);
    }
}
