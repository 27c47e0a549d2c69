//! Rules of a development chain: who may write a block, who votes, and how the solution range follows.
//!
//! ```text
//!            announce          submit              take_due        judge              settle        sign, finish_round
//!  slot S ───────────▶ window ───────▶ queue of S ─────────▶ Due ────────▶ Judged ─────────▶ Round ─────────────▶ Block
//!                      (last 4)        (10 at most)   S + 4      (pure, slow)      first block, votes            import
//! ```
//!
//! Owns: slots, solutions, signatures, blocks and counts, all in memory.
//! Never: a clock, a socket or a disk. Whoever drives it says which slot it is, carries requests for signatures out and
//! brings blocks to disk before importing them.

mod block;
mod judge;
mod parameters;
mod report;
mod round;
mod slots;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use consensus::challenge::{PotOutput, global_challenge, global_randomness};
use consensus::sector::ProtocolInfo;
use consensus::segment::SegmentHeader;
use consensus::solution::Solution;
use consensus::solution_range::{next_solution_range, voting_solution_range};

use node::SlotInfo;

pub use block::{BODY_SIZE_MAX, Block, Body};
pub use judge::Due;
pub use parameters::{ChainParameters, InvalidParameters};
pub use report::{Reason, Report, SignatureCounts, SolutionCounts};
pub use round::SigningRequest;
pub use slots::{BLOCK_AUTHORING_DELAY_SLOTS, Ignored};

use block::BlockHeader;
use judge::{Judged, Verdict};
use round::{Claim, Round};
use slots::{Slots, Submission};

/// What the proof-of-time output of a slot is derived from, beside genesis hash and slot.
const POT_DOMAIN: &[u8] = b"dev pot";

/// A block that does not continue the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It has another parent.
    #[error("block at height {height} does not continue the block at height {tip_height}")]
    Parent {
        /// Its height.
        height: u32,
        /// Height of the chain.
        tip_height: u32,
    },
    /// Its slot is not after that of its parent.
    #[error("block for slot {slot} follows a block for slot {tip_slot}")]
    Slot {
        /// Its slot.
        slot: u64,
        /// Slot of its parent.
        tip_slot: u64,
    },
    /// Its body is not the next part of the imported bytes.
    #[error("block carries imported bytes from {found}, next are those from {expected}")]
    Body {
        /// First byte expected.
        expected: u64,
        /// First byte of its body.
        found: u64,
    },
}

/// A development chain.
#[derive(Debug)]
pub struct Chain {
    genesis_hash: [u8; 32],
    parameters: ChainParameters,
    headers: Arc<Vec<SegmentHeader>>,
    tip: Tip,
    solution_range: u64,
    /// Slot in which the current era began, none before block 1.
    era_start_slot: Option<u64>,
    /// Imported bytes that are in no block yet.
    imported_next: u64,
    imported_end: u64,
    slots: Slots,
    round: Option<Round>,
    report: Report,
}

/// The newest authored block.
#[derive(Debug, Clone, Copy)]
struct Tip {
    height: u32,
    hash: [u8; 32],
    slot: u64,
}

impl Chain {
    /// A chain of the first block alone, which holds the imported bytes before `imported_next`; those up to `imported_end`
    /// are for later blocks.
    pub fn new(
        genesis_hash: [u8; 32],
        parameters: ChainParameters,
        imported_next: u64,
        imported_end: u64,
    ) -> Self {
        Self {
            genesis_hash,
            headers: Arc::default(),
            tip: Tip { height: 0, hash: genesis_hash, slot: 0 },
            solution_range: parameters.initial_solution_range(),
            parameters,
            era_start_slot: None,
            imported_next,
            imported_end,
            slots: Slots::default(),
            round: None,
            report: Report::default(),
        }
    }

    /// Hash of the first block.
    pub fn genesis_hash(&self) -> &[u8; 32] {
        &self.genesis_hash
    }

    /// Headers of all segments.
    pub fn headers(&self) -> &[SegmentHeader] {
        &self.headers
    }

    /// Rules for plotting, and the current history size.
    pub fn protocol_info(&self) -> ProtocolInfo {
        self.parameters.protocol_info(self.headers.len() as u64)
    }

    /// Number of the newest authored block, 0 when there is the first block alone.
    pub fn height(&self) -> u32 {
        self.tip.height
    }

    /// What happened since this process has the chain.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Counts a new segment to history.
    pub fn add_segment(&mut self, header: SegmentHeader) {
        Arc::make_mut(&mut self.headers).push(header);
        self.report.segments = self.headers.len() as u64;
    }

    /// What `slot` asks of farms.
    pub fn slot_info(&self, slot: u64) -> SlotInfo {
        SlotInfo {
            slot_number: slot,
            global_challenge: self.global_challenge(slot),
            solution_range: self.solution_range,
            voting_solution_range: self.voting_range(),
        }
    }

    /// Begins `slot`. False when it is not after all earlier ones, which leaves everything as it was.
    pub fn begin_slot(&mut self, slot: u64) -> bool {
        let begins = slot > self.tip.slot && self.slots.begin(slot);
        if begins {
            self.report.slots += 1;
            (0..self.slots.shed()).for_each(|_| self.report.reject(Reason::NodeBehind));
        }
        begins
    }

    /// Says that a farm was told of `slot`, which must be the one that began last: only now solutions for it are taken.
    pub fn announce(&mut self, slot: u64) {
        let voting_range = self.voting_range();
        self.slots.announce(slot, voting_range);
    }

    /// Queues a solution. Being queued says nothing about it: it is looked at when its slot is due.
    pub fn submit(&mut self, slot: u64, solution: Solution) -> Result<(), Ignored> {
        match self.slots.submit(slot, solution) {
            Submission::Queued => Ok(()),
            Submission::Swallowed(reason) => {
                self.report.reject(reason);
                Ok(())
            }
            Submission::Refused(reason) => {
                self.report.reject(reason);
                Err(Ignored)
            }
        }
    }

    /// The solutions of the oldest slot that is due in `now`, none when no slot with solutions is.
    pub fn take_due(&mut self, now: u64) -> Option<Due> {
        let closed = self.slots.take_closed(now)?;
        Some(Due {
            slot: closed.slot,
            solutions: closed.queue,
            announced_voting_range: closed.voting_range,
            global_challenge: self.global_challenge(closed.slot),
            solution_range: self.solution_range,
            voting_range: self.voting_range(),
            info: self.protocol_info(),
            headers: Arc::clone(&self.headers),
        })
    }

    /// Opens the signing round of a slot: the first solution of block quality asks for a signature of its block, each vote for
    /// one of its own. What follows must be [`finish_round`](Self::finish_round).
    pub fn settle(&mut self, judged: Judged) -> Vec<SigningRequest> {
        assert!(self.round.is_none(), "rounds follow each other");
        let mut claims = Vec::new();
        let mut has_block = judged.slot <= self.tip.slot;
        for (solution, verdict) in judged.solutions {
            match verdict {
                Verdict::Rejected(reason) => self.report.reject(reason),
                Verdict::Block if has_block => self.report.solutions.surplus += 1,
                Verdict::Block => {
                    has_block = true;
                    claims.push(self.claim_block(judged.slot, solution));
                }
                // The first block takes no votes.
                Verdict::Vote if self.tip.height == 0 => self.report.solutions.surplus += 1,
                Verdict::Vote => claims.push(self.claim_vote(judged.slot, &solution)),
            }
        }
        let round = Round::new(claims);
        let requests = round.requests();
        self.round = Some(round);
        requests
    }

    /// Takes a signature, if the round asks for it.
    pub fn sign(&mut self, hash: &[u8; 32], signature: &[u8; 64]) {
        if let Some(round) = &mut self.round {
            round.sign(hash, signature, &mut self.report.reward_signatures);
        }
    }

    /// Whether the signing round, if there is one, waits for no further signature.
    pub fn is_round_complete(&self) -> bool {
        self.round.as_ref().is_none_or(Round::is_complete)
    }

    /// Ends the signing round. What was not signed is lost. Gives the block, which must be [imported](Self::import) once it is
    /// safe on disk.
    pub fn finish_round(&mut self) -> Option<Block> {
        let round = self.round.take()?;
        round.finish(&mut self.report).map(|block| Block::Authored(Box::new(block)))
    }

    /// Continues the chain with a new block.
    pub fn import(&mut self, block: &Block) -> Result<(), BlockError> {
        self.apply(block)?;
        if let Block::Authored(_) = block {
            self.report.solutions.accepted += 1;
        }
        Ok(())
    }

    /// Continues the chain with a block of an earlier process, which counts no more.
    pub fn apply(&mut self, block: &Block) -> Result<(), BlockError> {
        if let Some(body) = block.body() {
            if body.offset != self.imported_next {
                return Err(BlockError::Body { expected: self.imported_next, found: body.offset });
            }
            if let Block::Authored(authored) = block {
                self.extend_tip(&authored.header)?;
            }
            self.imported_next += u64::from(body.size);
        }
        Ok(())
    }

    /// The next blocks without an author: imported bytes as far as they go, then bytes made up. All are to be imported.
    pub fn authorless_blocks(&self, count: usize) -> Vec<Block> {
        let mut next = self.imported_next;
        let mut block = || {
            let body = self.body_from(next);
            next += u64::from(body.size);
            if body.size == 0 { Block::Filler } else { Block::Imported(body) }
        };
        (0..count).map(|_| block()).collect()
    }

    /// Whether imported bytes wait for a block.
    pub fn has_imported_bytes(&self) -> bool {
        self.imported_next < self.imported_end
    }

    fn extend_tip(&mut self, header: &BlockHeader) -> Result<(), BlockError> {
        let tip = self.tip;
        if header.parent_hash != tip.hash || header.height != tip.height + 1 {
            return Err(BlockError::Parent { height: header.height, tip_height: tip.height });
        }
        if header.slot <= tip.slot {
            return Err(BlockError::Slot { slot: header.slot, tip_slot: tip.slot });
        }
        self.tip = Tip { height: header.height, hash: header.hash(), slot: header.slot };
        let start_slot = *self.era_start_slot.get_or_insert(header.slot);
        if header.height.is_multiple_of(self.parameters.era_blocks) {
            let ChainParameters { slot_probability, era_blocks, .. } = self.parameters;
            self.solution_range = next_solution_range(
                start_slot,
                header.slot,
                slot_probability,
                self.solution_range,
                era_blocks,
            )
            .expect("parameters without zeros were checked");
            self.era_start_slot = Some(header.slot);
            tracing::info!(height = header.height, solution_range = self.solution_range, "a new era begins");
        }
        Ok(())
    }

    fn body_from(&self, offset: u64) -> Body {
        let left = self.imported_end - offset;
        Body { offset, size: left.min(u64::from(BODY_SIZE_MAX)) as u32 }
    }

    fn claim_block(&self, slot: u64, solution: Solution) -> Claim {
        let public_key = solution.public_key;
        let header = BlockHeader {
            height: self.tip.height + 1,
            parent_hash: self.tip.hash,
            slot,
            solution,
            body: self.body_from(self.imported_next),
        };
        Claim::new(header.hash(), public_key, Some(header))
    }

    fn claim_vote(&self, slot: u64, solution: &Solution) -> Claim {
        let hash = block::vote_hash(self.tip.height + 1, &self.tip.hash, slot, solution);
        Claim::new(hash, solution.public_key, None)
    }

    fn voting_range(&self) -> u64 {
        voting_solution_range(self.solution_range, self.parameters.votes_per_block)
    }

    fn global_challenge(&self, slot: u64) -> [u8; 32] {
        global_challenge(&global_randomness(&self.pot_output(slot)), slot)
    }

    /// There is no proof of time: its output is drawn from genesis hash and slot.
    fn pot_output(&self, slot: u64) -> PotOutput {
        let mut hasher = blake3::Hasher::new();
        hasher.update(POT_DOMAIN).update(&self.genesis_hash).update(&slot.to_le_bytes());
        *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
    }
}
