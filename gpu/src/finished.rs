//! A sector on its way out.

use consensus::Workers;
use consensus::constants::{HASH_SIZE, sector_size};
use consensus::sector::SectorMetadata;
use engine::pool::{AcquireError, Pool, Slab, SlabMut};
use engine::threads::ThreadWorkers;
use futures::executor::block_on;
use futures::future::{Either, select};
use std::fmt;
use std::pin::pin;
use std::sync::Mutex;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Slabs of finished bytes that wait for the consumer; a few hide the time between two of its writes.
pub(crate) const WAITING_SLABS: usize = 2;

/// Slabs of a sector's finished bytes: those that wait, one being filled, one at the consumer.
pub(crate) const OUTPUT_SLABS: usize = WAITING_SLABS + 2;

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

/// Why a sector cannot be finished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FinishError {
    /// Pieces were not submitted, or refused.
    #[error("{missing} pieces of the sector are missing, the first of them piece {first}")]
    Missing {
        /// How many.
        missing: usize,
        /// The first.
        first: u16,
    },
    /// No thread could be started.
    #[error("cannot start a thread to put the sector together: {0}; raise the limit of threads (ulimit -u)")]
    Thread(String),
    /// The encoder stopped meanwhile.
    #[error("the sector was dropped by the encoder")]
    Dropped,
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

/// Where the thread that makes a sector's bytes sends them.
pub(crate) struct Output {
    known: Option<oneshot::Sender<SectorMetadata>>,
    slabs: mpsc::Sender<Result<Slab, SectorError>>,
    pool: Pool,
}

/// A slab to be filled, and its place in the output.
pub(crate) struct OutputSlab<'a> {
    place: mpsc::Permit<'a, Result<Slab, SectorError>>,
    pub slab: SlabMut,
}

impl Output {
    /// Tells the sector's metadata, which comes before its bytes.
    pub fn tell(&mut self, metadata: SectorMetadata) {
        if let Some(known) = self.known.take() {
            // A consumer that left is noticed at the first slab.
            let _ = known.send(metadata);
        }
    }

    /// Waits until the consumer has taken enough, and for a slab. None when the consumer is gone, or no slab will come.
    pub fn slab(&self) -> Option<OutputSlab<'_>> {
        block_on(async {
            let place = self.slabs.reserve().await.ok()?;
            // Ends also when the consumer is gone.
            match select(pin!(self.pool.acquire()), pin!(self.slabs.closed())).await {
                Either::Left((Ok(slab), _)) => Some(OutputSlab { place, slab }),
                Either::Left((Err(error), _)) => {
                    place.send(Err(error.into()));
                    None
                }
                Either::Right(_) => None,
            }
        })
    }
}

impl OutputSlab<'_> {
    /// Sends the first bytes of the slab.
    pub fn send(self, bytes: usize) {
        self.place.send(Ok(self.slab.narrow(..bytes).freeze()));
    }
}

impl FinishedSector {
    /// Starts a thread, on the cores of `threads`, in which `make` makes the sector's bytes; it waits for the consumer most of the time,
    /// which a worker must not. Returns when the sector's metadata is known.
    pub(crate) async fn start(
        threads: &ThreadWorkers,
        pool: &Pool,
        make: impl FnOnce(&mut Output) + Send + 'static,
    ) -> Result<Self, FinishError> {
        let (known, metadata) = oneshot::channel();
        let (slabs, taken) = mpsc::channel(WAITING_SLABS);
        let output = Output { known: Some(known), slabs, pool: pool.clone() };
        let threads = threads.clone();
        let maker = std::thread::Builder::new().name("assembly".into()).spawn(move || {
            threads.enter(0);
            let work = Mutex::new(Some((make, output)));
            threads.run(1, &|_| {
                let work = work.lock().expect("nothing panics while it holds the lock").take();
                let (make, mut output) = work.expect("the one job runs once");
                // What it holds goes before the output: whoever sees the end of that may count on the memory.
                make(&mut output);
            });
        });
        let maker = maker.map_err(|error| FinishError::Thread(error.to_string()))?;
        let metadata = metadata.await.map_err(|_| FinishError::Dropped)?;
        Ok(Self::new(metadata, taken, maker))
    }

    /// Of bytes that `maker` sends in order.
    fn new(
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
