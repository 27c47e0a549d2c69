//! Reading longer stretches of a file through few, reused buffers.

use super::SectorError;
use crate::disk::{Class, Disk, touched_blocks};
use crate::file::DirectFile;
use crate::parts::Parts;
use futures::{StreamExt, stream};
use std::sync::Arc;

/// A file of a farm to read, and what for.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub disk: &'a Disk,
    pub class: Class,
    pub file: &'a Arc<DirectFile>,
}

impl Source<'_> {
    /// Gives the bytes at `offset` to `take`, in order, part by part, while the next parts are read.
    pub async fn read_in_order(
        &self,
        offset: u64,
        bytes: u64,
        parts: &Parts,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), SectorError> {
        let blocks = touched_blocks(offset, bytes as usize);
        let step = parts.part_bytes as u64;
        let read = |start: u64| async move {
            let length = (blocks.end - start).min(step) as usize;
            let buf = parts.take().await?;
            let buf = self.disk.read(self.class, self.file, start, buf, 0..length).await?;
            Ok::<_, SectorError>((start, buf))
        };
        let starts = (blocks.start..blocks.end).step_by(parts.part_bytes);
        // One part less than there are: the one being taken is in use, too.
        let mut reads = stream::iter(starts).map(read).buffered((parts.count() - 1).clamp(1, 4));
        while let Some(done) = reads.next().await {
            let (start, buf) = done?;
            let from = offset.saturating_sub(start) as usize;
            let to = (offset + bytes - start).min(step) as usize;
            take(&buf[from..to]);
            parts.give(buf);
        }
        Ok(())
    }

    /// The same bytes in memory of their own.
    pub async fn read_to_vec(&self, offset: u64, bytes: u64, parts: &Parts) -> Result<Vec<u8>, SectorError> {
        let mut all = Vec::with_capacity(bytes as usize);
        self.read_in_order(offset, bytes, parts, |part| all.extend_from_slice(part)).await?;
        Ok(all)
    }
}
