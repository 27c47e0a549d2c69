//! Blocks into the chain, onto the disk and on to peers, in this order and one change at a time.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::chain::{Block, BlockError, Chain};
use super::peers::gossip::{BLOCKS_MAX, Gossip};
use super::shared::Shared;
use super::store::StoreError;

/// Why a block is not in the chain.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It does not continue it.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// It cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Imports blocks made here.
pub async fn import_own(shared: &Arc<Shared>, blocks: Vec<Block>) -> Result<(), StoreError> {
    let insert = |chain: &mut Chain, block: Block| match &block {
        Block::Made(_) => chain.import(block),
        Block::Authored(_) => chain.import_own(block),
    };
    match import(shared, blocks, insert).await {
        Ok(()) => Ok(()),
        Err(ImportError::Store(error)) => Err(error),
        Err(ImportError::Block(error)) => {
            tracing::warn!("a block made here is lost: {error}");
            Ok(())
        }
    }
}

/// Verifies and imports blocks of a peer, each behind its parent, up to the first that is wrong.
pub async fn import_of_peer(shared: &Arc<Shared>, blocks: Vec<Block>) -> Result<(), ImportError> {
    let mut made = Vec::new();
    for block in blocks {
        match block {
            Block::Made(_) if block.slot() > shared.chain().now().saturating_add(1) => {
                return Err(BlockError::Future { slot: block.slot() }.into());
            }
            Block::Made(_) => made.push(block),
            Block::Authored(_) => {
                import(shared, std::mem::take(&mut made), Chain::import).await?;
                import_authored_of_peer(shared, block).await?;
            }
        }
    }
    import(shared, made, Chain::import).await
}

async fn import_authored_of_peer(shared: &Arc<Shared>, block: Block) -> Result<(), ImportError> {
    let Some(check) = shared.chain().check_of(&block)? else { return Ok(()) };
    let verifier = shared.verifier;
    if !spawn_blocking(move || check.is_good(&verifier)).await.expect("checking does not panic") {
        return Err(BlockError::Forged { slot: block.slot() }.into());
    }
    import(shared, vec![block], Chain::import).await
}

async fn import(
    shared: &Arc<Shared>,
    blocks: Vec<Block>,
    mut insert: impl FnMut(&mut Chain, Block) -> Result<bool, BlockError>,
) -> Result<(), ImportError> {
    let _one_at_a_time = shared.importing.lock().await;
    let (mut new, mut failed) = (Vec::new(), None);
    let change = {
        let mut chain = shared.chain();
        let old = *chain.tip();
        for block in blocks {
            match insert(&mut chain, block.clone()) {
                Ok(true) => new.push(block),
                Ok(false) => {}
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        chain.change_since(&old)
    };
    if let Some(change) = change {
        if change.removed > 0 {
            let (kept, removed, added) = (change.kept, change.removed, change.added.len());
            tracing::info!(kept, removed, added, "the chain follows another branch");
        }
        let store = Arc::clone(&shared.store);
        let put = move || store.put_blocks(change.kept as usize, &change.added);
        spawn_blocking(put).await.expect("writing does not panic")?;
    }
    new.chunks(BLOCKS_MAX).for_each(|some| shared.tell(&Gossip::Blocks(some.to_vec())));
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Gives blocks that are final now to the archivist.
pub async fn finalise(shared: &Shared, delay_slots: u64) {
    // While blocks come to disk, none of them is archived.
    let _one_at_a_time = shared.importing.lock().await;
    let blocks = shared.chain().finalise(delay_slots);
    if !blocks.is_empty() {
        shared.unarchived().extend(blocks);
        shared.block_stored.notify_one();
    }
}
