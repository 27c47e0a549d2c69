//! Turns blocks into stored segments.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;

use consensus::archiver::{Archiver, ArchiverError, archive_segment};
use consensus::kzg::{Kzg, TABLE_SIZE_MAX};
use consensus::segment::{ArchivedProgress, LastArchivedBlock, SegmentHeader};
use engine::threads::ThreadWorkers;

use super::chain::{Block, Chain};
use super::store::{Store, StoreError, Stored};

/// Why history does not grow.
#[derive(Debug, thiserror::Error)]
pub enum ArchivistError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Headers and blocks of the store do not belong together.
    #[error(
        "stored segments and blocks do not belong together ({0}): delete the base path to begin a new chain"
    )]
    Archiver(#[from] ArchiverError),
}

/// Archives the chain's blocks in their order.
#[derive(Debug)]
pub struct Archivist {
    store: Arc<Store>,
    kzg: Kzg,
    /// With a table, which a first segment's 128 commitments pay for.
    kzg_with_table: Option<Kzg>,
    workers: ThreadWorkers,
    archiver: Archiver,
}

impl Archivist {
    /// Goes on behind the stored segments, of whose blocks the first `finals` are final. Also gives those of them that it has to be
    /// [given](Self::add) next.
    pub fn resume(
        store: Arc<Store>,
        kzg: Kzg,
        stored: &Stored,
        finals: usize,
    ) -> Result<(Self, VecDeque<Block>), ArchivistError> {
        let (archiver, archived) = match stored.headers.last() {
            Some(header) => {
                let LastArchivedBlock { number, archived_progress } = header.last_archived_block;
                let last_block = match archived_progress {
                    ArchivedProgress::Complete => Vec::new(),
                    ArchivedProgress::Partial(_) => archived_bytes(&store, &stored.blocks, number)?,
                };
                (Archiver::resume(header, last_block)?, number as usize)
            }
            None => {
                let mut archiver = Archiver::new();
                archiver.add_block(store.block_0()?)?;
                (archiver, 0)
            }
        };
        let left = stored.blocks.iter().take(finals).skip(archived).cloned().collect();
        let threads = available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = ThreadWorkers::unbound(threads);
        Ok((Self { store, kzg, kzg_with_table: None, workers, archiver }, left))
    }

    /// Adds the next block.
    pub fn add(&mut self, block: &Block) -> Result<(), ArchivistError> {
        let position = self.archiver.next_block_number().ok_or(ArchiverError::TooManyBlocks)?;
        let bytes = self.store.block_bytes(position, block)?;
        Ok(self.archiver.add_block(bytes)?)
    }

    /// Archives and stores a segment if there are blocks enough for one. Takes all cores for some seconds.
    pub fn next_segment(&mut self) -> Result<Option<SegmentHeader>, ArchivistError> {
        let Some(recorded) = self.archiver.cut() else { return Ok(None) };
        tracing::info!(segment = recorded.segment_index, "archiving a segment");
        let make_table = || self.kzg.with_table(TABLE_SIZE_MAX, &self.workers);
        let kzg = self.kzg_with_table.get_or_insert_with(make_table);
        let segment = archive_segment(kzg, &self.workers, recorded);
        self.store.add_segment(&segment)?;
        self.archiver.seal(&segment.header)?;
        tracing::info!(segment = segment.header.segment_index, "segment archived");
        Ok(Some(segment.header))
    }

    /// Archives up to the number of segments that the chain is to have at its start, from `left` and then from imported bytes,
    /// as far as those go. Gives the blocks that are left for later.
    pub fn fill(
        &mut self,
        chain: &mut Chain,
        mut left: VecDeque<Block>,
    ) -> Result<VecDeque<Block>, ArchivistError> {
        let wanted = self.store.genesis().segments_at_start;
        while (chain.headers().len() as u64) < wanted {
            if let Some(header) = self.next_segment()? {
                chain.add_segment(header);
            } else if let Some(block) = left.pop_front() {
                self.add(&block)?;
            } else if chain.has_imported_bytes() && chain.root() == chain.tip() {
                let block = chain.made_blocks(1, 0).remove(0);
                self.store.put_blocks(chain.tip().position as usize, std::slice::from_ref(&block))?;
                chain.load(block.clone(), true).expect("made to continue the chain");
                left.push_back(block);
            } else {
                tracing::info!(
                    segments = chain.headers().len(),
                    wanted,
                    "the history fills no more segments"
                );
                break;
            }
        }
        Ok(left)
    }
}

/// The bytes of the block at `position`, which headers name.
fn archived_bytes(store: &Store, blocks: &[Block], position: u32) -> Result<Vec<u8>, ArchivistError> {
    let Some(before) = (position as usize).checked_sub(1) else { return Ok(store.block_0()?) };
    // An unknown block is too short to resume with, which the archiver says.
    blocks.get(before).map_or(Ok(Vec::new()), |block| Ok(store.block_bytes(position, block)?))
}
