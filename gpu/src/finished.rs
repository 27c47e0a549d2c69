//! A sector on its way out.

use consensus::constants::{HASH_SIZE, sector_size};
use consensus::sector::SectorMetadata;
use engine::pool::{AcquireError, Slab};
use std::fmt;
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Slabs of finished bytes that wait for the consumer; a few hide the time between two of its writes.
pub(crate) const WAITING_SLABS: usize = 2;

/// A finished sector: its metadata, and its bytes in on-disk order, slab by slab (PROTOCOL 5.3). Every slab is full except the last.
/// Bytes are made as they are taken, so a slow consumer costs no memory. Dropping it frees everything, within milliseconds.
pub struct FinishedSector {
    metadata: SectorMetadata,
    size_bytes: usize,
    taken_bytes: usize,
    /// The last 32 bytes taken.
    tail: [u8; HASH_SIZE],
    slabs: mpsc::Receiver<Result<Slab, SectorError>>,
    maker: Option<JoinHandle<()>>,
}

/// Why the bytes of a sector ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SectorError {
    /// No memory for the output.
    #[error("no buffer for the finished sector: {0}")]
    Pool(#[from] AcquireError),
    /// The backend went away.
    #[error("the finished sector ended after {taken_bytes} of {size_bytes} bytes: it must be encoded again")]
    Interrupted {
        /// Bytes that came out.
        taken_bytes: usize,
        /// Bytes of the sector.
        size_bytes: usize,
    },
}

impl FinishedSector {
    /// Of bytes that `maker` sends in order.
    pub(crate) fn new(
        metadata: SectorMetadata,
        slabs: mpsc::Receiver<Result<Slab, SectorError>>,
        maker: JoinHandle<()>,
    ) -> Self {
        let size_bytes = sector_size(metadata.pieces_in_sector);
        Self { metadata, size_bytes, taken_bytes: 0, tail: [0; HASH_SIZE], slabs, maker: Some(maker) }
    }

    /// What the farm keeps beside the sector.
    pub fn metadata(&self) -> &SectorMetadata {
        &self.metadata
    }

    /// Bytes of the sector.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The next bytes; none after the last. After an error the sector is lost.
    pub async fn next(&mut self) -> Option<Result<Slab, SectorError>> {
        if self.taken_bytes == self.size_bytes {
            return None;
        }
        let Some(slab) = self.slabs.recv().await else {
            let (taken_bytes, size_bytes) = (self.taken_bytes, self.size_bytes);
            return Some(Err(SectorError::Interrupted { taken_bytes, size_bytes }));
        };
        if let Ok(slab) = &slab {
            self.taken_bytes += slab.len();
            // The checksum may lie across two slabs.
            let fresh = &slab[slab.len().saturating_sub(HASH_SIZE)..];
            self.tail.rotate_left(fresh.len());
            self.tail[HASH_SIZE - fresh.len()..].copy_from_slice(fresh);
        }
        Some(slab)
    }

    /// BLAKE3 of everything before it, which the sector ends with; known once all bytes were taken.
    pub fn checksum(&self) -> Option<[u8; HASH_SIZE]> {
        (self.taken_bytes == self.size_bytes).then_some(self.tail)
    }
}

impl Drop for FinishedSector {
    fn drop(&mut self) {
        // The maker sees that nobody listens, wherever it waits, and ends.
        self.slabs.close();
        while self.slabs.try_recv().is_ok() {}
        if let Some(maker) = self.maker.take()
            && maker.join().is_err()
        {
            tracing::error!("the thread that put a sector together panicked");
        }
    }
}

impl fmt::Debug for FinishedSector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FinishedSector")
            .field("metadata", &self.metadata)
            .field("taken_bytes", &self.taken_bytes)
            .finish_non_exhaustive()
    }
}
