//! Rules of a development chain: who may write a block, who votes, and how the solution range follows.
//!
//! ```text
//!            announce          submit, forward        take_due        judge              settle        sign, finish_round
//!  slot S ───────────▶ window ───────────────▶ queue of S ─────────▶ Due ────────▶ Judged ─────────▶ Round ─────────────▶ Block
//!                      (last 4)   (9, then 10 at most)     S + 4      (pure, slow)      first block, votes            import
//!
//!  peers ─▶ check_of ─▶ import ─▶ tree ─▶ finalise ─▶ archivist
//! ```
//!
//! Owns: slots, solutions, signatures, blocks, what was seen of solutions, and counts, all in memory.
//! Never: a clock, a socket or a disk. Whoever drives it says which slot it is, carries requests for signatures out and
//! brings blocks to disk.

mod block;
mod check;
mod judge;
mod parameters;
mod report;
mod round;
mod sightings;
mod slots;
mod time;
mod tip;
mod tree;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use consensus::identity::is_reward_signature_valid;
use consensus::sector::ProtocolInfo;
use consensus::segment::SegmentHeader;
use consensus::solution::Solution;
use consensus::solution_range::voting_solution_range;

use node::SlotInfo;

#[cfg(test)]
pub use block::MadeBlock;
pub use block::{BODY_SIZE_MAX, Block, Body, Vote};
pub use check::BlockCheck;
pub use judge::Due;
pub use parameters::{ChainParameters, InvalidParameters};
pub use report::{Reason, Report, SignatureCounts, SolutionCounts};
pub use round::{Signed, SigningRequest};
pub use sightings::{Mark, Sighting, SolutionId};
pub use slots::{BLOCK_AUTHORING_DELAY_SLOTS, Ignored};
pub use time::TimeChange;
pub use tip::{BlockError, Tip};
pub use tree::{Change, FINAL_DEPTH};

use block::{AuthoredBlock, BlockHeader};
use judge::{Judged, Verdict};
use round::{Claim, Round};
use sightings::Sightings;
use slots::{Lost, Slots, Submission};
use time::Time;
use tip::Rules;
use tree::Tree;

/// A development chain.
#[derive(Debug)]
pub struct Chain {
    genesis_hash: [u8; 32],
    /// Tells this process from those of its peers.
    node: u64,
    headers: Arc<Vec<SegmentHeader>>,
    tree: Tree,
    time: Time,
    /// The present slot, whether it began here or not.
    now: u64,
    /// The first of the slots that passed one by one up to the present one.
    steady_since: u64,
    slots: Slots,
    round: Option<Round>,
    sightings: Sightings,
    report: Report,
}

impl Chain {
    /// A chain of the first block alone, which holds the imported bytes before `imported_next`; those up to `imported_end`
    /// are for later blocks. `node` tells its process from those of its peers.
    pub fn new(
        genesis_hash: [u8; 32],
        parameters: ChainParameters,
        imported_next: u64,
        imported_end: u64,
        node: u64,
    ) -> Self {
        let rules = Rules { parameters, imported_end };
        let first = Tip::first(genesis_hash, &rules, imported_next);
        Self {
            genesis_hash,
            node,
            headers: Arc::default(),
            tree: Tree::new(rules, first),
            time: Time::default(),
            now: 0,
            steady_since: 0,
            slots: Slots::default(),
            round: None,
            sightings: Sightings::default(),
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
        self.tree.rules().parameters.protocol_info(self.headers.len() as u64)
    }

    /// The newest block of the branch that is followed.
    pub fn tip(&self) -> &Tip {
        self.tree.best()
    }

    /// The newest final block.
    pub fn root(&self) -> &Tip {
        self.tree.root()
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

    /// The present slot, whether it began here or not.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Says which slot it is, announced or not.
    pub fn pass_to(&mut self, slot: u64) {
        if slot > self.now {
            if slot > self.now + 1 {
                self.steady_since = slot;
            }
            self.now = slot;
        }
    }

    /// What `slot` asks of farms.
    pub fn slot_info(&self, slot: u64) -> SlotInfo {
        SlotInfo {
            slot_number: slot,
            global_challenge: self.time.challenge(&self.genesis_hash, slot),
            solution_range: self.tip().solution_range,
            voting_solution_range: self.voting_range(),
        }
    }

    /// Begins `slot`. False when it is not after all earlier ones, which leaves everything as it was.
    pub fn begin_slot(&mut self, slot: u64) -> bool {
        self.pass_to(slot);
        let begins = slot > self.tip().slot && self.slots.begin(slot);
        if begins {
            self.report.slots += 1;
            self.forward();
            self.slots.close(slot);
            let shed = self.slots.shed();
            self.lose(shed);
        }
        begins
    }

    /// Says that a farm was told of `slot`, one of the last that began: only now solutions for it are taken. Told once more with
    /// another challenge, those for the earlier one are lost.
    pub fn announce(&mut self, slot: u64) {
        let challenge = self.time.challenge(&self.genesis_hash, slot);
        let voting_range = self.voting_range();
        let lost = self.slots.announce(slot, challenge, voting_range);
        self.lose(lost);
    }

    /// Queues a solution. Being queued says nothing about it: it is looked at when its slot is due. Gives what peers are to
    /// hear of that.
    pub fn submit(&mut self, slot: u64, solution: Solution) -> Result<Option<Sighting>, Ignored> {
        let id = SolutionId::new(slot, &solution);
        match self.slots.submit(slot, solution) {
            Submission::Queued => {}
            Submission::Swallowed(reason) => self.report.reject(reason),
            Submission::Refused(reason) => {
                self.report.reject(reason);
                return Err(Ignored);
            }
        }
        let sighting = Sighting { solution: id, mark: Mark::Queued { node: self.node } };
        Ok(self.see(&sighting).then_some(sighting))
    }

    /// Takes solutions on from where the RPC has put them. What finds no place is dropped without a word.
    pub fn forward(&mut self) {
        let dropped = self.slots.forward();
        self.lose(dropped);
    }

    /// The solutions of the oldest slot that is due in `now`, none when no slot with solutions is.
    pub fn take_due(&mut self, now: u64) -> Option<Due> {
        self.forward();
        let closed = self.slots.take_closed(now)?;
        Some(Due {
            slot: closed.slot,
            solutions: closed.waiting,
            announced_voting_range: closed.voting_range,
            global_challenge: self.time.challenge(&self.genesis_hash, closed.slot),
            solution_range: self.tip().solution_range,
            voting_range: self.voting_range(),
            info: self.protocol_info(),
            headers: Arc::clone(&self.headers),
        })
    }

    /// Opens the signing round of a slot: each vote asks for a signature, then the first solution of block quality for that of its
    /// block. What follows must be [`next_request`](Self::next_request), again and again, then
    /// [`finish_round`](Self::finish_round).
    pub fn settle(&mut self, judged: Judged) {
        assert!(self.round.is_none(), "rounds follow each other");
        let tip = *self.tip();
        let is_same_range = judged.solution_range == tip.solution_range;
        let (mut votes, mut block) = (Vec::new(), None);
        for (solution, verdict) in judged.solutions {
            match verdict {
                Verdict::Rejected(reason) => self.report.reject(reason),
                // A block came meanwhile.
                _ if !is_same_range => self.report.reject(Reason::RangeChanged),
                Verdict::Block if judged.slot <= tip.slot || block.is_some() => {
                    self.report.solutions.surplus += 1;
                }
                Verdict::Block => block = Some(self.claim_block(judged.slot, solution)),
                // The first block takes no votes.
                Verdict::Vote if tip.height == 0 => self.report.solutions.surplus += 1,
                Verdict::Vote => votes.push(self.claim_vote(judged.slot, solution)),
            }
        }
        self.round = Some(Round::new(votes.into_iter().chain(block).collect()));
    }

    /// The next hash to be signed. Signatures of any other are not taken from now on.
    pub fn next_request(&mut self) -> Option<SigningRequest> {
        self.round.as_mut()?.next_request()
    }

    /// Takes a signature, if it is of the present hash.
    pub fn sign(&mut self, hash: &[u8; 32], signature: &[u8; 64]) {
        if let Some(round) = &mut self.round {
            round.sign(hash, signature, &mut self.report.reward_signatures);
        }
    }

    /// Whether there is no present hash, or its signature has come.
    pub fn is_present_signed(&self) -> bool {
        self.round.as_ref().is_none_or(Round::is_present_decided)
    }

    /// Ends the signing round. What was not signed is lost. Gives the block, which must be [imported](Self::import_own), and the
    /// votes.
    pub fn finish_round(&mut self) -> Signed {
        let signed = self.round.take().map(|round| round.finish(&mut self.report)).unwrap_or_default();
        for vote in &signed.votes {
            self.see_signed(vote.slot, &vote.solution, &vote.signature);
        }
        signed
    }

    /// Continues the chain with a block that a farm has won here.
    pub fn import_own(&mut self, block: Block) -> Result<bool, BlockError> {
        let imported = self.import(block);
        match imported {
            Ok(_) => self.report.solutions.accepted += 1,
            // Peers have gone on so far without it that its parent is no more.
            Err(_) => self.report.reject(Reason::NodeBehind),
        }
        imported
    }

    /// Adds a block, one of a peer only when its [check](Self::check_of) was good; whether it is new.
    pub fn import(&mut self, block: Block) -> Result<bool, BlockError> {
        let author = match &block {
            Block::Authored(authored) => Some(authored.clone()),
            Block::Made(_) => None,
        };
        let is_new = self.tree.insert(block)?;
        if let Some(AuthoredBlock { header, signature }) = author.as_deref() {
            self.see_signed(header.slot, &header.solution, signature);
        }
        Ok(is_new)
    }

    /// Continues the chain with a block of an earlier process; final ones come first.
    pub fn load(&mut self, block: Block, is_final: bool) -> Result<(), BlockError> {
        if is_final { self.tree.insert_final(&block) } else { self.tree.insert(block).map(drop) }
    }

    /// What a block of a peer has to be held against before it is imported, none when it is known already. The check itself is slow
    /// and needs no chain.
    pub fn check_of(&self, block: &Block) -> Result<Option<BlockCheck>, BlockError> {
        let slot = block.slot();
        if self.tree.tip_at(&block.hash()).is_some() {
            return Ok(None);
        }
        // Clocks of nodes differ a little.
        if slot > self.now.saturating_add(1) {
            return Err(BlockError::Future { slot });
        }
        let parent = self.tree.tip_at(block.parent_hash()).ok_or(BlockError::Parent { slot })?;
        parent.after(block, self.tree.rules())?;
        let Block::Authored(authored) = block else { return Ok(Some(BlockCheck::Made)) };
        let due = Due {
            slot,
            solutions: vec![authored.header.solution.clone()],
            announced_voting_range: parent.solution_range,
            global_challenge: [0; 32],
            solution_range: parent.solution_range,
            voting_range: parent.solution_range,
            info: self.protocol_info(),
            headers: Arc::clone(&self.headers),
        };
        let challenges = self.time.challenges(&self.genesis_hash, slot);
        let block = authored.clone();
        Ok(Some(BlockCheck::Authored { block, due: Box::new(due), challenges }))
    }

    /// How the branch that is followed has changed since `old` was its newest block. Counted, so to be asked once.
    pub fn change_since(&mut self, old: &Tip) -> Option<Change> {
        let change = self.tree.change_since(old)?;
        self.report.reorganisations += u64::from(change.removed > 0);
        Some(change)
    }

    /// Makes blocks final that are deep enough, or came before a block without author that was there `delay` slots ago, and gives
    /// them in order. After a gap between slots, peers get as long to tell of theirs.
    pub fn finalise(&mut self, delay: u64) -> Vec<Block> {
        let is_steady = self.steady_since.saturating_add(delay) <= self.now;
        let final_slot = self.now.checked_sub(delay).filter(|_| is_steady);
        self.tree.finalise(final_slot)
    }

    /// The next blocks without an author, to be imported in order.
    pub fn made_blocks(&self, count: usize, slot: u64) -> Vec<Block> {
        let rules = self.tree.rules();
        let mut tip = *self.tip();
        let mut block = || {
            let block = tip.next_made(slot.max(tip.made_slot), rules);
            tip = tip.after(&block, rules).expect("made to continue the chain");
            block
        };
        (0..count).map(|_| block()).collect()
    }

    /// Whether blocks without an author are not final yet.
    pub fn has_unfinal_made(&self) -> bool {
        self.tree.has_unfinal_made()
    }

    /// Whether imported bytes wait for a block.
    pub fn has_imported_bytes(&self) -> bool {
        self.tip().next_body(self.tree.rules()).size > 0
    }

    /// Takes what was seen of a solution; whether it was new.
    pub fn see(&mut self, sighting: &Sighting) -> bool {
        let seen = self.sightings.see(sighting, self.now);
        if seen.is_equivocation {
            self.report.equivocations += 1;
            let SolutionId { slot, hash } = sighting.solution;
            tracing::warn!(
                slot,
                solution = hex::encode(hash),
                "equivocation: a solution reached two nodes, or was seen under two signatures"
            );
        }
        seen.is_new
    }

    /// Takes a vote of a peer; whether it was new, and is one.
    pub fn see_vote(&mut self, vote: &Vote) -> bool {
        is_reward_signature_valid(&vote.hash(), &vote.signature, &vote.solution.public_key)
            && self.see_signed(vote.slot, &vote.solution, &vote.signature)
    }

    /// Everything that was seen of the newest slots.
    pub fn sightings(&self) -> Vec<Sighting> {
        self.sightings.all().collect()
    }

    /// Another proof of time from `from_slot` on. Gives the change; one without an end is to be told to peers.
    pub fn change_time(&mut self, from_slot: u64, until_slot: Option<u64>) -> TimeChange {
        let made_slot = self.now;
        // Different for all changes of all nodes.
        let seed = (self.node, made_slot, from_slot, self.report.slots, until_slot);
        let hash = blake3::hash(&parity_scale_codec::Encode::encode(&seed));
        let salt = u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"));
        let change = TimeChange { made_slot, salt, from_slot, until_slot };
        self.time.add(change);
        change
    }

    /// Takes a change of a peer; whether it was new.
    pub fn hear_of_time(&mut self, change: TimeChange) -> bool {
        let is_shared = change.until_slot.is_none() && change.made_slot <= self.now.saturating_add(1);
        is_shared && self.time.add(change)
    }

    /// Changes of time that all nodes share.
    pub fn time_changes(&self) -> Vec<TimeChange> {
        self.time.shared().copied().collect()
    }

    /// Ends changes of time of this node alone that last to `slot`, and gives the first slot that they covered: from there on all
    /// is as for others.
    pub fn end_time_changes(&mut self, slot: u64) -> Option<u64> {
        self.time.end(slot)
    }

    fn see_signed(&mut self, slot: u64, solution: &Solution, signature: &[u8; 64]) -> bool {
        let solution = SolutionId::new(slot, solution);
        self.see(&Sighting { solution, mark: Mark::Signed { signature: *signature } })
    }

    fn lose(&mut self, lost: Lost) {
        (0..lost.count).for_each(|_| self.report.reject(lost.reason));
    }

    fn claim_block(&self, slot: u64, solution: Solution) -> Claim {
        let tip = self.tip();
        Claim::block(BlockHeader {
            height: tip.height + 1,
            parent_hash: tip.hash,
            slot,
            solution,
            body: tip.next_body(self.tree.rules()),
        })
    }

    fn claim_vote(&self, slot: u64, solution: Solution) -> Claim {
        let Tip { height, hash, .. } = *self.tip();
        Claim::vote(Vote { height: height + 1, parent_hash: hash, slot, solution, signature: [0; 64] })
    }

    fn voting_range(&self) -> u64 {
        voting_solution_range(self.tip().solution_range, self.tree.rules().parameters.votes_per_block)
    }
}
