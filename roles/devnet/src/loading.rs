//! The chain of an earlier process, back in memory.

use super::chain::{Block, BlockError, Chain, FINAL_DEPTH};
use super::store::Stored;

/// Blocks that are not final at most: far fewer than the chain holds of them.
const UNFINAL_MAX: usize = 2048;

/// How many of the stored blocks are final: those that segments hold, those at the start that nobody has won, and those with
/// many behind them. All others may still make way for those of peers.
pub fn final_blocks(stored: &Stored) -> usize {
    let archived = stored.headers.last().map_or(0, |header| header.last_archived_block.number as usize);
    let at_start =
        stored.blocks.iter().take_while(|block| matches!(block, Block::Made(made) if made.slot == 0)).count();
    let authored = |block: &Block| matches!(block, Block::Authored(_));
    let newest = stored.blocks.iter().enumerate().rev().filter(|(_, block)| authored(block));
    let deep = newest.skip(FINAL_DEPTH as usize).map(|(at, _)| at + 1).next().unwrap_or(0);
    let too_many = stored.blocks.len().saturating_sub(UNFINAL_MAX);
    archived.max(at_start).max(deep).max(too_many).min(stored.blocks.len())
}

/// Gives the chain its segments and blocks, of which the first `finals` are final.
pub fn load(chain: &mut Chain, stored: &Stored, finals: usize) -> Result<(), BlockError> {
    stored.headers.iter().for_each(|header| chain.add_segment(*header));
    let mut blocks = stored.blocks.iter().enumerate();
    blocks.try_for_each(|(at, block)| chain.load(block.clone(), at < finals))
}

#[cfg(test)]
mod tests {
    use super::super::chain::MadeBlock;
    use super::*;

    use consensus::segment::{ArchivedProgress, LastArchivedBlock, SegmentHeader};

    fn made(slot: u64, count: usize) -> Vec<Block> {
        vec![Block::Made(MadeBlock { parent_hash: [0; 32], slot, body: None }); count]
    }

    #[test]
    fn what_is_archived_or_old_is_final() {
        let mut stored = Stored { headers: Vec::new(), blocks: made(0, 3) };
        stored.blocks.extend(made(7, 4));
        assert_eq!(final_blocks(&stored), 3);
        let last_archived_block =
            LastArchivedBlock { number: 5, archived_progress: ArchivedProgress::Partial(1) };
        let header = SegmentHeader {
            segment_index: 0,
            segment_commitment: [1; 48],
            prev_segment_header_hash: [0; 32],
            last_archived_block,
        };
        stored.headers.push(header);
        assert_eq!(final_blocks(&stored), 5);
        stored.blocks.extend(made(8, UNFINAL_MAX));
        assert_eq!(final_blocks(&stored), 7);
    }
}
