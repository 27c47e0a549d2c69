//! The executor's side: bytes of staged sectors from disk to plot-clients, and of finished ones to disk.
//!
//! Owns: the base path's [`Disk`] (one scheduler for all its files) and the answers to requests. Never: what is staged, which
//! [`Staging`] knows.

use super::staging::{StagedSector, Staging, StagingId};
use engine::disk::touched_blocks;
use engine::pool::{AcquireError, SLAB_BYTES, Slab};
use engine::task::spawn_local;
use engine::{Action, BLOCK_BYTES, Class, DirectFile, Disk, IoError, Limits, Local};
use futures::channel::{mpsc, oneshot};
use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use transport::message::{Refusal, RefusalCode, Request, Response};
use transport::payload::PayloadBuf;
use transport::tcp::{Answer, Handler, PeerInfo, Received, SlabPayload};

/// Answers being read from disk at once. Each may take two slabs, one after the other, so there must be more slabs than this or
/// they would wait for each other.
pub const MAX_READS: usize = 16;
/// Slabs that serving takes: reads under way, and what waits to be sent.
pub const SERVING_SLABS: usize = 2 * MAX_READS;

/// Writes to the base path from any thread; clones are handles to the same disk.
#[derive(Clone)]
pub struct StagingWriter {
    requests: mpsc::UnboundedSender<Write>,
}

/// Bytes at an offset to write, or none: to make durable what was written.
struct Write {
    file: Arc<DirectFile>,
    bytes: Option<(u64, Slab)>,
    done: oneshot::Sender<Result<(), IoError>>,
}

/// Takes the writes to the executor, where [`StagedSectors::new`] serves them.
pub struct Writes(mpsc::UnboundedReceiver<Write>);

/// A writer, and what [`StagedSectors::new`] serves it with. Writers hold a slab for each write, so writes are bounded as slabs are.
pub fn writer() -> (StagingWriter, Writes) {
    let (requests, writes) = mpsc::unbounded();
    (StagingWriter { requests }, Writes(writes))
}

impl StagingWriter {
    /// Writes whole blocks.
    pub async fn write(&self, file: &Arc<DirectFile>, offset: u64, bytes: Slab) -> Result<(), IoError> {
        self.ask(file, Some((offset, bytes))).await
    }

    /// Makes everything written to the file durable.
    pub async fn sync(&self, file: &Arc<DirectFile>) -> Result<(), IoError> {
        self.ask(file, None).await
    }

    async fn ask(&self, file: &Arc<DirectFile>, bytes: Option<(u64, Slab)>) -> Result<(), IoError> {
        let (done, answer) = oneshot::channel();
        // A writer that is gone shows in the answer.
        let _ = self.requests.unbounded_send(Write { file: file.clone(), bytes, done });
        let closed = || IoError::Closed { action: Action::Write, path: file.path().to_owned() };
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

async fn write_all(disk: Disk, mut writes: Writes) {
    while let Some(Write { file, bytes, done }) = writes.0.next().await {
        let disk = disk.clone();
        spawn_local(async move {
            let result = match bytes {
                Some((offset, bytes)) => disk.write(Class::SectorWrite, &file, offset, &bytes).await,
                None => disk.sync(Class::SectorWrite, &file).await,
            };
            // The sector may have been given up meanwhile.
            let _ = done.send(result);
        })
        .detach();
    }
}

/// Answers requests for staged sectors.
pub struct StagedSectors {
    staging: Staging,
    disk: Disk,
    local: Local,
    reads: Semaphore,
}

/// Why bytes cannot be given.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Memory(#[from] AcquireError),
}

impl StagedSectors {
    /// Serves what is staged, and the writes, until the executor ends.
    pub fn new(staging: Staging, writes: Writes, local: &Local) -> Self {
        let disk = local.disk(staging.root(), Limits::default()).unwrap_or_else(|error| {
            tracing::warn!("{error}; the disk of staged sectors shares its executor's ring");
            Disk::new(local.ring().clone(), Limits::default())
        });
        let (writing, stopping) = (write_all(disk.clone(), writes), local.clone());
        spawn_local(async move {
            let stopped = std::pin::pin!(stopping.stopping());
            futures::future::select(std::pin::pin!(writing), stopped).await;
        })
        .detach();
        Self { staging, disk, local: local.clone(), reads: Semaphore::new(MAX_READS) }
    }

    async fn answer(&self, request: Request) -> Answer {
        match request {
            Request::GetSectorRange { staging, offset, length, .. } => {
                let sector = self.sector(&staging)?;
                if offset.saturating_add(u64::from(length)) > sector.made.size_bytes {
                    let text = format!("the sector has {} bytes", sector.made.size_bytes);
                    return Err(Refusal::new(RefusalCode::Invalid, text));
                }
                let payload = self.read(&sector, offset, length as usize).await?;
                Ok((Response::SectorRange { blake3: payload.blake3() }, Some(payload)))
            }
            Request::GetSectorMetadata { staging } => {
                let sector = self.sector(&staging)?;
                let mut slab = self.local.pool().acquire().await.map_err(busy)?;
                slab[..sector.metadata.len()].copy_from_slice(&sector.metadata);
                let payload = SlabPayload::run(slab.narrow(..sector.metadata.len()).freeze());
                let (blake3, sector_bytes) = (payload.blake3(), sector.made.size_bytes);
                Ok((Response::SectorMetadata { blake3, sector_bytes }, Some(payload)))
            }
            _ => Err(Refusal::new(RefusalCode::Invalid, "a plot-server gives staged sectors alone")),
        }
    }

    fn sector(&self, id: &StagingId) -> Result<Arc<StagedSector>, Refusal> {
        let sector = self.staging.find(id);
        let sector = sector
            .ok_or_else(|| Refusal::new(RefusalCode::NotFound, "no such sector is staged here (any more)"))?;
        sector.note_fetch();
        Ok(sector)
    }

    async fn read(&self, sector: &StagedSector, offset: u64, length: usize) -> Result<SlabPayload, Refusal> {
        let _permit = self.reads.acquire().await.expect("it is never closed");
        self.read_parts(sector, offset, length).await.map_err(|error| match error {
            ReadError::Memory(error) => busy(error),
            ReadError::Io(error) => {
                tracing::error!("staged sector {} cannot be read: {error}", sector.job.sector);
                // The first reason is as good as any later one.
                let _ = sector.unreadable.set(error.to_string());
                Refusal::new(RefusalCode::Failed, error.to_string())
            }
        })
    }

    /// Ranges are cut in the client's file, so here one may touch a block more than a slab has: that block is read apart.
    async fn read_parts(
        &self,
        sector: &StagedSector,
        offset: u64,
        length: usize,
    ) -> Result<SlabPayload, ReadError> {
        let phase = (offset % BLOCK_BYTES as u64) as usize;
        let first = length.min(SLAB_BYTES - phase);
        let mut parts = Vec::with_capacity(2);
        for (offset, length) in [(offset, first), (offset + first as u64, length - first)] {
            if length > 0 {
                debug_assert!(
                    touched_blocks(offset, length).end <= sector.made.size_bytes.next_multiple_of(4096)
                );
                let slab = self.local.pool().acquire().await?;
                let read = self.disk.read_unaligned(Class::Serving, &sector.file, offset, length, slab);
                parts.push(read.await?.freeze());
            }
        }
        Ok(SlabPayload::parts(parts))
    }
}

fn busy(error: AcquireError) -> Refusal {
    Refusal::new(RefusalCode::Busy, error.to_string())
}

impl Handler for StagedSectors {
    fn handle(
        self: Rc<Self>,
        _: Rc<PeerInfo>,
        request: Request,
        _: Option<Received>,
        _: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        async move { self.answer(request).await }.boxed_local()
    }
}
