//! A file that is written at full rate to a farm's disk, through the same queue as sectors that come in.

use super::super::farms::FarmFailed;
use engine::pool::{SLAB_BYTES, Slab};
use engine::task::LocalTask;
use engine::{Class, DirectFile, Disk, IoError, Local};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Writes that wait for the disk at the same time: more than it lets through.
const WRITERS: usize = 32;
/// Writes between two syncs.
const WRITES_A_SYNC: u64 = 64;
/// Slabs that it takes: all writers write the same bytes.
pub const LOAD_SLABS: usize = 1;

/// The writing; it goes on until it is stopped.
pub struct Load {
    shared: Rc<Shared>,
    writers: RefCell<Vec<LocalTask<Result<(), IoError>>>>,
}

struct Shared {
    disk: Disk,
    file: Arc<DirectFile>,
    file_bytes: u64,
    data: Slab,
    next: Cell<u64>,
    is_over: Cell<bool>,
}

impl Load {
    /// Writes over and over a file of so many bytes without a name in the directory. On the farm's executor.
    pub async fn start(local: &Local, disk: &Disk, directory: &Path, bytes: u64) -> Result<Self, FarmFailed> {
        let mut data = local.pool().acquire().await?;
        blake3::Hasher::new().finalize_xof().fill(&mut data);
        let file_bytes = bytes.next_multiple_of(SLAB_BYTES as u64);
        let file = DirectFile::create_unnamed(directory, file_bytes)?;
        let (next, is_over) = (Cell::new(0), Cell::new(false));
        let shared =
            Rc::new(Shared { disk: disk.clone(), file, file_bytes, data: data.freeze(), next, is_over });
        let writer = |_| local.spawn_in(Class::SectorWrite, write(shared.clone()));
        let writers = RefCell::new((0..WRITERS).map(writer).collect());
        Ok(Self { shared, writers })
    }

    /// Bytes written so far.
    pub fn written_bytes(&self) -> u64 {
        self.shared.next.get() * SLAB_BYTES as u64
    }

    /// Ends it.
    pub async fn stop(self) -> Result<(), FarmFailed> {
        self.shared.is_over.set(true);
        for writer in self.writers.take() {
            writer.await?;
        }
        Ok(())
    }
}

async fn write(shared: Rc<Shared>) -> Result<(), IoError> {
    while !shared.is_over.get() {
        let number = shared.next.replace(shared.next.get() + 1);
        let at = number * SLAB_BYTES as u64 % shared.file_bytes;
        shared.disk.write(Class::SectorWrite, &shared.file, at, &shared.data).await?;
        if number.is_multiple_of(WRITES_A_SYNC) {
            shared.disk.sync(Class::SectorWrite, &shared.file).await?;
        }
    }
    Ok(())
}
