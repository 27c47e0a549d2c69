//! Writing any range of a file that only takes whole blocks.
//!
//! A block at the edge of a range is shared with the neighbour: it is read, its part replaced, and written back, one edge
//! at a time a file. Whole blocks inside go straight from the slab and need no lock, since ranges do not overlap.

use super::Disk;
use super::deadline::limit;
use super::scheduler::Class;
use crate::BLOCK_BYTES;
use crate::error::{Action, IoError};
use crate::file::DirectFile;
use crate::pool::{Slab, SlabMut};
use crate::task;
use futures::lock::Mutex;
use std::rc::Rc;
use std::sync::Arc;

/// Memory a writer needs for merging, aligned to a block.
pub const SCRATCH_BYTES: usize = BLOCK_BYTES;

/// The single writer of a file, whose size is a multiple of 4096; every write to it goes through here. Clones are handles
/// to the same one.
#[derive(Clone)]
pub struct FileWriter(Rc<Inner>);

struct Inner {
    disk: Disk,
    file: Arc<DirectFile>,
    /// The block being merged: who holds it may touch edges. Only a merge, which nobody can break off, takes it out.
    scratch: Mutex<Option<SlabMut>>,
}

impl FileWriter {
    /// `scratch` is [`SCRATCH_BYTES`] of memory that starts at a block: a small part of a slab shared by many writers.
    pub fn new(disk: Disk, file: Arc<DirectFile>, scratch: SlabMut) -> Self {
        assert!(scratch.len() >= SCRATCH_BYTES && scratch.phase() == 0, "scratch memory is one whole block");
        Self(Rc::new(Inner { disk, file, scratch: Mutex::new(Some(scratch.narrow(..SCRATCH_BYTES))) }))
    }

    /// The file.
    pub fn file(&self) -> &Arc<DirectFile> {
        &self.0.file
    }

    /// Writes `data` at any `offset`. Its memory must have the file's phase (address ≡ offset modulo 4096), as ranges
    /// received for this place have; ranges written at the same time must not overlap. Not durable before
    /// [`FileWriter::sync`]. When the future is dropped, any part of the range may be written, now or a moment later:
    /// only the same bytes may follow there.
    pub async fn write(&self, class: Class, offset: u64, data: &Slab) -> Result<(), IoError> {
        let phase = (offset % BLOCK_BYTES as u64) as usize;
        if data.phase() != phase {
            let (path, wanted) = (self.0.file.path().to_owned(), data.len() as u64);
            return Err(IoError::Misaligned {
                action: Action::Write,
                path,
                offset,
                wanted,
                phase: data.phase(),
            });
        }
        let head = if phase == 0 { 0 } else { data.len().min(BLOCK_BYTES - phase) };
        let tail = data.len() - (data.len() - head) % BLOCK_BYTES;
        if head > 0 {
            self.merge(class, offset, data.slice(..head)).await?;
        }
        if tail > head {
            let whole = data.slice(head..tail);
            self.0.disk.write(class, &self.0.file, offset + head as u64, &whole).await?;
        }
        if tail < data.len() {
            self.merge(class, offset + tail as u64, data.slice(tail..)).await?;
        }
        Ok(())
    }

    /// Makes all writes that are done durable.
    pub async fn sync(&self, class: Class) -> Result<(), IoError> {
        self.0.disk.sync(class, &self.0.file).await
    }

    /// Replaces part of one block, in a task of its own: once begun, a merge runs to its end and gives the scratch back, since
    /// what the disk may still write must not come after a later merge of that block. Who waits for it is told when that takes
    /// longer than its read and its write may.
    async fn merge(&self, class: Class, offset: u64, bytes: Slab) -> Result<(), IoError> {
        let (writer, (done, result)) = (self.0.clone(), futures::channel::oneshot::channel());
        let wanted = bytes.len() as u64;
        task::spawn_local(async move {
            let mut scratch = writer.scratch.lock().await;
            let buf = scratch.take().expect("a merge always gives the scratch back");
            let (buf, merged) = writer.merge_in(buf, class, offset, &bytes).await;
            *scratch = Some(buf);
            drop(scratch);
            // Nobody may listen any more; the bytes are written all the same.
            let _ = done.send(merged);
        })
        .detach();
        let (action, path, limit) =
            (Action::Write, || self.0.file.path().to_owned(), 2 * limit(class, Action::Write));
        match task::timeout(limit, result).await {
            Ok(Ok(merged)) => merged,
            Ok(Err(_)) => Err(IoError::Closed { action, path: path() }),
            Err(_) => {
                Err(IoError::Late { action, path: path(), offset, wanted, class: class.as_str(), limit })
            }
        }
    }
}

impl Inner {
    async fn merge_in(
        &self,
        buf: SlabMut,
        class: Class,
        offset: u64,
        bytes: &[u8],
    ) -> (SlabMut, Result<(), IoError>) {
        let (disk, file) = (&self.disk, &self.file);
        let within = (offset % BLOCK_BYTES as u64) as usize;
        let start = offset - within as u64;
        let (mut buf, read) = disk.read_at_last(class, file, start, buf).await;
        if let Err(error) = read {
            return (buf, Err(error));
        }
        buf[within..within + bytes.len()].copy_from_slice(bytes);
        disk.write_at_last(class, file, start, buf).await
    }
}
