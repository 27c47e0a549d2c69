//! Where a sector's records stay from their arrival until the sector is out: two in a slab, so that a sector takes no more memory
//! than it has bytes. (A piece arrives in a slab of its own, since its points lie before its record.)

use consensus::constants::RECORD_SIZE;
use engine::pool::{AcquireError, Pool, SLAB_BYTES, SlabMut};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::OwnedSemaphorePermit;

/// Records that one slab holds, each on a 4096 boundary.
pub(super) const RECORDS_IN_SLAB: usize = SLAB_BYTES / RECORD_SIZE;
const _: () = assert!(RECORDS_IN_SLAB * RECORD_SIZE == SLAB_BYTES && RECORD_SIZE.is_multiple_of(4096));

/// Hands out a session's buffers. Lives, and with it what was promised to the session, until the last buffer is gone.
pub(super) struct Buffers {
    pool: Pool,
    spare: Mutex<Vec<SlabMut>>,
    /// Held by whoever takes a slab from the pool: else two might take one each where both halves of one would do.
    taking: tokio::sync::Mutex<()>,
    _promised: OwnedSemaphorePermit,
}

/// Room for one record, of unknown content. Dropping it gives the room back to its session.
pub(super) struct RecordBuffer {
    record: Option<SlabMut>,
    home: Arc<Buffers>,
}

impl Buffers {
    /// For a session to which `promised` slabs belong.
    pub fn new(pool: Pool, promised: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self {
            pool,
            spare: Mutex::new(Vec::new()),
            taking: tokio::sync::Mutex::new(()),
            _promised: promised,
        })
    }

    /// Waits for the pool, which was promised to have enough for all pieces of the sector.
    pub async fn take(self: &Arc<Self>) -> Result<RecordBuffer, AcquireError> {
        let _taking = self.taking.lock().await;
        let spare = self.spare().pop();
        let record = match spare {
            Some(record) => record,
            None => {
                let mut parts = self.pool.acquire().await?.split_into(RECORD_SIZE);
                let record = parts.pop().expect("a slab holds records");
                self.spare().append(&mut parts);
                record
            }
        };
        Ok(RecordBuffer { record: Some(record), home: self.clone() })
    }

    fn spare(&self) -> MutexGuard<'_, Vec<SlabMut>> {
        self.spare.lock().expect("nothing panics while it holds the spare buffers")
    }
}

impl RecordBuffer {
    /// The record's chunks.
    pub fn chunks(&self) -> &[[u8; 32]] {
        self.record.as_ref().expect("only drop takes the record").as_chunks().0
    }

    /// The record's chunks, to be written.
    pub fn chunks_mut(&mut self) -> &mut [[u8; 32]] {
        self.record.as_mut().expect("only drop takes the record").as_chunks_mut().0
    }
}

impl Drop for RecordBuffer {
    fn drop(&mut self) {
        self.home.spare().extend(self.record.take());
    }
}
