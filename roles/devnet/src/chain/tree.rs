//! Blocks that are not final, on all branches, and which branch is followed.
//!
//! ```text
//!   final blocks ─ root ─┬─ block ─ block ─ block     the best branch: longest, then the lowest hash
//!                        └─ block ─ block             another, which may become the best
//! ```
//!
//! Owns: branches, and the root, before which nothing changes any more. Never: whether a solution is good, nor a disk.

use std::collections::{HashMap, HashSet};

use super::block::Block;
use super::tip::{BlockError, Rules, Tip};

/// Authored blocks behind which a block is final, as on the network.
pub const FINAL_DEPTH: u32 = 100;

/// Blocks that are not final, on all branches together: [`FINAL_DEPTH`] blocks on some branches and two segments' worth of
/// blocks without authors have place.
const NODES_MAX: usize = 4096;

/// How the best branch has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Blocks behind the first one that stay.
    pub kept: u32,
    /// Blocks that left the best branch.
    pub removed: usize,
    /// Blocks that came onto it, in order.
    pub added: Vec<Block>,
}

#[derive(Debug)]
struct Node {
    block: Block,
    /// The chain up to it.
    tip: Tip,
}

#[derive(Debug)]
pub struct Tree {
    rules: Rules,
    root: Tip,
    nodes: HashMap<[u8; 32], Node>,
    best: Tip,
}

impl Tree {
    pub fn new(rules: Rules, first: Tip) -> Self {
        Self { rules, root: first, nodes: HashMap::new(), best: first }
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The newest final block.
    pub fn root(&self) -> &Tip {
        &self.root
    }

    /// The newest block of the best branch.
    pub fn best(&self) -> &Tip {
        &self.best
    }

    /// The chain up to a block that is not final, or to the newest final one.
    pub fn tip_at(&self, hash: &[u8; 32]) -> Option<&Tip> {
        if *hash == self.root.hash { Some(&self.root) } else { self.nodes.get(hash).map(|node| &node.tip) }
    }

    /// Adds a block; whether it is new.
    pub fn insert(&mut self, block: Block) -> Result<bool, BlockError> {
        let hash = block.hash();
        if self.tip_at(&hash).is_some() {
            return Ok(false);
        }
        let parent = self.tip_at(block.parent_hash()).ok_or(BlockError::Parent { slot: block.slot() })?;
        let tip = parent.after(&block, &self.rules)?;
        if self.nodes.len() >= NODES_MAX {
            return Err(BlockError::TooMany);
        }
        self.nodes.insert(hash, Node { block, tip });
        if tip.is_better_than(&self.best) {
            self.best = tip;
        }
        Ok(true)
    }

    /// Adds a block that is final. No other may be there that is not.
    pub fn insert_final(&mut self, block: &Block) -> Result<(), BlockError> {
        assert!(self.nodes.is_empty(), "final blocks come first");
        self.root = self.root.after(block, &self.rules)?;
        self.best = self.root;
        Ok(())
    }

    /// How the best branch has changed since `old` was its newest block, none when it has not.
    pub fn change_since(&self, old: &Tip) -> Option<Change> {
        if old.hash == self.best.hash {
            return None;
        }
        let before: HashSet<_> = self.path_to(old.hash).collect();
        let mut added: Vec<_> =
            self.path_to(self.best.hash).take_while(|hash| !before.contains(hash)).collect();
        let kept = self.best.position - added.len() as u32;
        added.reverse();
        let added = added.iter().map(|hash| self.nodes[hash].block.clone()).collect();
        Some(Change { kept, removed: (old.position - kept) as usize, added })
    }

    /// Makes blocks of the best branch final and gives them, in order: those with [`FINAL_DEPTH`] authored blocks behind them,
    /// and those up to a block without author that was made in `final_slot` or earlier. Branches that leave before are gone.
    pub fn finalise(&mut self, final_slot: Option<u64>) -> Vec<Block> {
        let is_final = |node: &Node| {
            let is_old = matches!(node.block, Block::Made(_)) && Some(node.tip.made_slot) <= final_slot;
            is_old || node.tip.height.saturating_add(FINAL_DEPTH) <= self.best.height
        };
        let mut hashes: Vec<_> =
            self.path_to(self.best.hash).skip_while(|hash| !is_final(&self.nodes[hash])).collect();
        hashes.reverse();
        let Some(newest) = hashes.last() else { return Vec::new() };
        self.root = self.nodes[newest].tip;
        let blocks =
            hashes.iter().filter_map(|hash| self.nodes.remove(hash)).map(|node| node.block).collect();
        self.prune();
        blocks
    }

    /// Whether a block without author is not final yet.
    pub fn has_unfinal_made(&self) -> bool {
        self.path_to(self.best.hash).any(|hash| matches!(self.nodes[&hash].block, Block::Made(_)))
    }

    /// The blocks after the root up to `hash`, newest first.
    fn path_to(&self, hash: [u8; 32]) -> impl Iterator<Item = [u8; 32]> {
        let known = move |hash: [u8; 32]| self.nodes.contains_key(&hash).then_some(hash);
        std::iter::successors(known(hash), move |hash| known(*self.nodes[hash].block.parent_hash()))
    }

    /// Forgets what does not come after the root.
    fn prune(&mut self) {
        let mut order: Vec<_> = self.nodes.iter().map(|(hash, node)| (node.tip.position, *hash)).collect();
        order.sort_unstable();
        let mut kept = HashSet::from([self.root.hash]);
        for (_, hash) in order {
            if kept.contains(self.nodes[&hash].block.parent_hash()) {
                kept.insert(hash);
            }
        }
        self.nodes.retain(|hash, _| kept.contains(hash));
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::{AuthoredBlock, BlockHeader};
    use super::super::parameters::ChainParameters;
    use super::*;

    use consensus::solution::Solution;
    use proptest::prelude::*;

    fn tree() -> Tree {
        let parameters = ChainParameters {
            slot_probability: (1, 6),
            era_blocks: 5,
            votes_per_block: 1,
            max_pieces_in_sector: 2,
            expected_pieces: 128,
        };
        let rules = Rules { parameters, imported_end: 0 };
        let first = Tip::first([9; 32], &rules, 0);
        Tree::new(rules, first)
    }

    fn authored(tree: &Tree, parent: &Tip, slot: u64, number: u8) -> Block {
        let solution = Solution {
            public_key: [number; 32],
            reward_address: [0; 32],
            sector_index: 0,
            history_size: 1,
            piece_offset: 0,
            record_commitment: [0; 48],
            record_witness: [0; 48],
            chunk: [0; 32],
            chunk_witness: [0; 48],
            proof_of_space: [0; 160],
        };
        let header = BlockHeader {
            height: parent.height + 1,
            parent_hash: parent.hash,
            slot,
            solution,
            body: parent.next_body(tree.rules()),
        };
        Block::Authored(Box::new(AuthoredBlock { header, signature: [0; 64] }))
    }

    #[test]
    fn the_longer_branch_wins_and_says_what_changed() {
        let mut tree = tree();
        let first = *tree.root();
        let [one, other] = [1, 2].map(|number| authored(&tree, &first, 1, number));
        assert_eq!((tree.insert(one.clone()), tree.insert(one.clone())), (Ok(true), Ok(false)));
        assert_eq!(tree.change_since(&first), Some(Change { kept: 0, removed: 0, added: vec![one.clone()] }));
        let before = *tree.best();
        // A block without author is longer, an authored one longer still.
        let made = before.next_made(7, tree.rules());
        tree.insert(made).unwrap();
        assert_eq!(tree.best().position, 2);
        let before = *tree.best();
        tree.insert(other.clone()).unwrap();
        assert_eq!(tree.change_since(&before), None);
        let other_tip = *tree.tip_at(&other.hash()).unwrap();
        let longer = authored(&tree, &other_tip, 2, 2);
        tree.insert(longer.clone()).unwrap();
        let change = Change { kept: 0, removed: 2, added: vec![other, longer] };
        assert_eq!(tree.change_since(&before), Some(change));
        assert!(matches!(tree.insert(authored(&tree, &before, 1, 3)), Err(BlockError::Slot { .. })));
        let orphan = authored(&tree, &Tip { hash: [1; 32], ..before }, 9, 3);
        assert_eq!(tree.insert(orphan), Err(BlockError::Parent { slot: 9 }));
    }

    #[test]
    fn depth_and_age_make_blocks_final() {
        let mut tree = tree();
        let side = authored(&tree, tree.root(), 1, 2);
        for slot in 1..=u64::from(FINAL_DEPTH) {
            tree.insert(authored(&tree, tree.best(), slot, 1)).unwrap();
        }
        tree.insert(side.clone()).unwrap();
        assert!(tree.finalise(None).is_empty());
        tree.insert(authored(&tree, tree.best(), 200, 1)).unwrap();
        assert_eq!(tree.finalise(None).len(), 1);
        assert_eq!(tree.root().height, 1);
        assert_eq!(tree.tip_at(&side.hash()), None, "its branch is gone");
        tree.insert(tree.best().next_made(210, &tree.rules)).unwrap();
        tree.insert(authored(&tree, tree.best(), 211, 1)).unwrap();
        assert!(tree.has_unfinal_made());
        assert_eq!(tree.finalise(Some(209)).len(), 1, "by depth");
        let root = *tree.root();
        let blocks = tree.finalise(Some(210));
        assert_eq!(blocks.len(), FINAL_DEPTH as usize);
        assert_eq!(*blocks[0].parent_hash(), root.hash);
        assert!(!tree.has_unfinal_made());
        assert_eq!((tree.best().position, tree.nodes.len()), (tree.root().position + 1, 1));
    }

    #[test]
    fn blocks_that_are_not_final_are_bounded() {
        let mut tree = tree();
        for _ in 0..NODES_MAX {
            tree.insert(tree.best().next_made(1, &tree.rules)).unwrap();
        }
        assert_eq!(tree.insert(tree.best().next_made(1, &tree.rules)), Err(BlockError::TooMany));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// In whatever order nodes hear of blocks, they follow the same branch.
        #[test]
        fn nodes_agree_whatever_the_order(parents in prop::collection::vec(any::<prop::sample::Index>(), 1..24), seed in any::<u64>()) {
            let mut one = tree();
            let mut tips = vec![*one.root()];
            let mut blocks = Vec::new();
            for (slot, parent) in (1..).zip(&parents) {
                let parent = *parent.get(&tips);
                let block = if slot % 4 == 0 { parent.next_made(slot, one.rules()) } else { authored(&one, &parent, slot, 1) };
                if one.insert(block.clone()).unwrap() {
                    tips.push(*one.tip_at(&block.hash()).unwrap());
                    blocks.push(block);
                }
            }
            let mut other = tree();
            let mut left: Vec<_> = blocks;
            let mut draw = seed;
            while !left.is_empty() {
                draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (draw >> 33) as usize % left.len();
                let old = *other.best();
                if other.insert(left[at].clone()).is_ok() {
                    left.swap_remove(at);
                }
                if let Some(change) = other.change_since(&old) {
                    prop_assert_eq!(change.kept as usize + change.added.len(), other.best().position as usize);
                }
            }
            prop_assert_eq!(other.best(), one.best());
        }
    }
}
