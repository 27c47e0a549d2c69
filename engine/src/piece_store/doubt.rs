//! Writing the index on disk: doubt before a header may change, and what became of it with the next doubt.

use super::index::{Index, write_block};
use super::{PieceStore, StoreError};
use crate::BLOCK_BYTES;
use crate::disk::Class;
use crate::error::IoError;
use crate::pool::SlabMut;
use std::collections::BTreeSet;
use std::ops::Range;

impl PieceStore {
    /// Sees that the index on disk says durably that it does not know these slots, whose state here must be so already. Those who wait
    /// meanwhile share the next write.
    pub(super) async fn doubt(&self, class: Class, slots: &[u64]) -> Result<(), StoreError> {
        let Some(index) = self.0.index.as_ref().filter(|index| index.is_used()) else { return Ok(()) };
        let mut scratch = index.writing.lock().await;
        if self.0.slots.borrow().are_doubted(slots) {
            return Ok(());
        }
        self.write_changed(class, index, &mut scratch).await
    }

    /// Writes what changed since it was last written.
    pub(super) async fn write_index(&self, class: Class) -> Result<(), StoreError> {
        let Some(index) = self.0.index.as_ref().filter(|index| index.is_used()) else { return Ok(()) };
        let mut scratch = index.writing.lock().await;
        self.write_changed(class, index, &mut scratch).await
    }

    async fn write_changed(
        &self,
        class: Class,
        index: &Index,
        scratch: &mut Option<SlabMut>,
    ) -> Result<(), StoreError> {
        let buf = match scratch.take() {
            Some(buf) => buf,
            // A write that was too late has it.
            None => self.0.pool.acquire().await?.narrow(..BLOCK_BYTES),
        };
        let changed = self.0.slots.borrow_mut().take_changed();
        if changed.is_empty() {
            *scratch = Some(buf);
            return Ok(());
        }
        let (buf, mut written) = self.write_blocks(class, index, &changed, buf).await;
        *scratch = buf;
        if written.is_ok() {
            written = self.0.disk.sync(class, &index.file).await;
        }
        let mut slots = self.0.slots.borrow_mut();
        changed.iter().for_each(|&block| slots.noted(block, written.is_ok()));
        drop(slots);
        index.wrote(written.is_ok());
        if !index.is_used() {
            return Ok(());
        }
        Ok(written?)
    }

    async fn write_blocks(
        &self,
        class: Class,
        index: &Index,
        changed: &BTreeSet<u64>,
        mut buf: SlabMut,
    ) -> (Option<SlabMut>, Result<(), IoError>) {
        for run in runs(changed, buf.len() / BLOCK_BYTES) {
            let bytes = (run.end - run.start) as usize * BLOCK_BYTES;
            for (number, block) in run.clone().zip(buf.chunks_exact_mut(BLOCK_BYTES)) {
                let notes = self.0.slots.borrow_mut().notes(number);
                write_block(block, number, index.inode, &notes);
            }
            let rest = buf.split_off(bytes);
            let offset = run.start * BLOCK_BYTES as u64;
            let (head, written) = self.0.disk.write_own(class, &index.file, offset, buf).await;
            let Some(head) = head else { return (None, written) };
            buf = head.join(rest).unwrap_or_else(|_| unreachable!("they were one"));
            if written.is_err() {
                return (Some(buf), written);
            }
        }
        (Some(buf), Ok(()))
    }
}

/// Blocks that lie side by side, at most `most` together.
fn runs(blocks: &BTreeSet<u64>, most: usize) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &block in blocks {
        match runs.last_mut() {
            Some(run) if run.end == block && run.end - run.start < most as u64 => run.end += 1,
            _ => runs.push(block..block + 1),
        }
    }
    runs
}
