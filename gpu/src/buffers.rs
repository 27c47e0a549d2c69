//! The memory of a session: buffers of one record each, and what was promised to the session as a whole.

use consensus::constants::RECORD_SIZE;
use engine::pool::{AcquireError, Pool, SLAB_BYTES, SlabMut};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Records that one slab holds, each on a 4096 boundary.
pub(crate) const RECORDS_IN_SLAB: usize = SLAB_BYTES / RECORD_SIZE;
const _: () = assert!(RECORDS_IN_SLAB * RECORD_SIZE == SLAB_BYTES && RECORD_SIZE.is_multiple_of(4096));

/// Why there is no buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BufferError {
    /// The pool has too many waiting already.
    #[error(transparent)]
    Pool(#[from] AcquireError),
}

/// Hands out a session's buffers: at most so many at a time, two of them cut from each slab. Lives, and with it
/// what was promised to the session, until the last buffer is gone.
pub(crate) struct Buffers {
    pool: Pool,
    credits: Arc<Semaphore>,
    spare: Mutex<Vec<SlabMut>>,
    /// Held by whoever takes a slab from the pool: else two might take one each where both halves of one would do.
    taking: tokio::sync::Mutex<()>,
    _promised: OwnedSemaphorePermit,
}

/// A credit and the memory it stands for: room for one record ([`RECORD_SIZE`] bytes on a 4096 boundary, of unknown
/// content). Dropping it gives the credit back.
pub struct RecordBuffer {
    record: Option<SlabMut>,
    home: Arc<Buffers>,
    // After `record` went home.
    _credit: OwnedSemaphorePermit,
}

impl Buffers {
    /// For a session that may hold `records` buffers at once, to which `promised` slabs belong.
    pub fn new(pool: Pool, records: usize, promised: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self {
            pool,
            credits: Arc::new(Semaphore::new(records)),
            spare: Mutex::new(Vec::new()),
            taking: tokio::sync::Mutex::new(()),
            _promised: promised,
        })
    }

    /// Waits for a credit, then for its memory.
    pub async fn take(self: &Arc<Self>) -> Result<RecordBuffer, BufferError> {
        let credit = self.credits.clone().acquire_owned().await.expect("credits are never closed");
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
        Ok(RecordBuffer { record: Some(record), home: self.clone(), _credit: credit })
    }

    fn spare(&self) -> MutexGuard<'_, Vec<SlabMut>> {
        self.spare.lock().expect("nothing panics while it holds the spare buffers")
    }
}

impl RecordBuffer {
    /// Whether it is one of these.
    pub(crate) fn is_of(&self, buffers: &Arc<Buffers>) -> bool {
        Arc::ptr_eq(&self.home, buffers)
    }

    /// The record's chunks.
    pub fn chunks(&self) -> &[[u8; 32]] {
        self.as_chunks().0
    }

    /// The record's chunks, to be written.
    pub fn chunks_mut(&mut self) -> &mut [[u8; 32]] {
        self.as_chunks_mut().0
    }
}

impl Deref for RecordBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.record.as_ref().expect("only drop takes the record")
    }
}

impl DerefMut for RecordBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.record.as_mut().expect("only drop takes the record")
    }
}

impl Drop for RecordBuffer {
    fn drop(&mut self) {
        self.home.spare().extend(self.record.take());
    }
}

impl fmt::Debug for RecordBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordBuffer({:?})", self.record)
    }
}
