//! Writing any range of a file that only takes whole blocks.
//!
//! A block at the edge of a range is shared with the neighbour: it is read, its part replaced, and written back, one edge
//! at a time a file. Whole blocks inside go straight from the slab and need no lock, since ranges do not overlap.

use super::Disk;
use super::deadline::turn;
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
    /// what the disk may still write must not come after a later merge of that block. Who waits for it is told when its read or
    /// its write is too late, or when those before it take too long.
    async fn merge(&self, class: Class, offset: u64, bytes: Slab) -> Result<(), IoError> {
        let (writer, (done, result)) = (self.0.clone(), futures::channel::oneshot::channel());
        let (wanted, class_name) = (bytes.len() as u64, class.as_str());
        let (action, path) = (Action::Write, self.0.file.path().to_owned());
        let (asked_path, mut done) = (path.clone(), Some(done));
        task::spawn_local(async move {
            // Nobody may listen any more; the bytes are written all the same.
            let mut tell = |how| _ = done.take().map(|done| done.send(how));
            let limit = turn(class, action);
            let Ok(mut scratch) = task::timeout(limit, writer.scratch.lock()).await else {
                let path = asked_path;
                return tell(Err(IoError::HeldBack {
                    action,
                    path,
                    offset,
                    wanted,
                    class: class_name,
                    limit,
                }));
            };
            let buf = scratch.take().expect("a merge always gives the scratch back");
            let (buf, merged) = writer.merge_in(buf, class, offset, &bytes, |late| tell(Err(late))).await;
            *scratch = Some(buf);
            drop(scratch);
            tell(merged);
        })
        .detach();
        result.await.unwrap_or(Err(IoError::Closed { action, path }))
    }
}

impl Inner {
    async fn merge_in(
        &self,
        buf: SlabMut,
        class: Class,
        offset: u64,
        bytes: &[u8],
        mut tell: impl FnMut(IoError),
    ) -> (SlabMut, Result<(), IoError>) {
        let (disk, file) = (&self.disk, &self.file);
        let within = (offset % BLOCK_BYTES as u64) as usize;
        let start = offset - within as u64;
        let (mut buf, read) = disk.read_at_last(class, file, start, buf, &mut tell).await;
        if let Err(error) = read {
            return (buf, Err(error));
        }
        buf[within..within + bytes.len()].copy_from_slice(bytes);
        disk.write_at_last(class, file, start, buf, tell).await
    }
}
