use super::*;

use consensus::identity::Identity;
use consensus::kzg::KzgVerifier;
use consensus::solution_range::next_solution_range;
use proptest::prelude::*;

const PARAMETERS: ChainParameters = ChainParameters {
    slot_probability: (1, 6),
    era_blocks: 3,
    votes_per_block: 1,
    max_pieces_in_sector: 32,
    expected_pieces: 128,
};
const IMPORTED_SIZE: u64 = 4_500_000;
const NO_SIGNATURE: [u8; 64] = [0; 64];

fn chain() -> Chain {
    Chain::new([9; 32], PARAMETERS, 1000, IMPORTED_SIZE, 1)
}

fn identity(number: u8) -> Identity {
    Identity::from_entropy([number; 32])
}

/// A solution that nobody will verify, different for each `number`.
fn solution(number: u8) -> Solution {
    Solution {
        public_key: identity(1).public_key(),
        reward_address: [0; 32],
        sector_index: 0,
        history_size: 1,
        piece_offset: 0,
        record_commitment: [0; 48],
        record_witness: [0; 48],
        chunk: [number; 32],
        chunk_witness: [0; 48],
        proof_of_space: [0; 160],
    }
}

fn judged(chain: &Chain, slot: u64, verdicts: &[Verdict]) -> Judged {
    let solutions = verdicts.iter().zip(1..).map(|(verdict, number)| (solution(number), *verdict)).collect();
    Judged { slot, solution_range: chain.tip().solution_range, solutions }
}

/// Everything that a slot asks to sign, with nobody signing.
fn requests(chain: &mut Chain, judged: Judged) -> Vec<SigningRequest> {
    chain.settle(judged);
    let requests = std::iter::from_fn(|| chain.next_request()).collect();
    chain.finish_round();
    requests
}

/// Lets farm 1 win `slot`, sign its block and every vote.
fn win(chain: &mut Chain, slot: u64, verdicts: &[Verdict]) -> Option<Block> {
    chain.settle(judged(chain, slot, verdicts));
    while let Some(request) = chain.next_request() {
        assert!(!chain.is_present_signed());
        chain.sign(&request.hash, &identity(1).sign_reward_hash(&request.hash));
        assert!(chain.is_present_signed());
    }
    let block = chain.finish_round().block.map(|block| Block::Authored(Box::new(block)));
    if let Some(block) = &block {
        chain.import_own(block.clone()).unwrap();
    }
    block
}

fn begin(chain: &mut Chain, slot: u64) {
    if chain.begin_slot(slot) {
        chain.announce(slot);
    }
}

fn rejected(chain: &Chain, reason: Reason) -> u64 {
    chain.report().solutions.rejected.get(&reason).copied().unwrap_or(0)
}

#[test]
fn the_last_four_announced_slots_take_solutions() {
    let mut chain = chain();
    assert_eq!(chain.submit(1, solution(1)), Err(Ignored));
    for slot in 1..=6 {
        assert!(chain.begin_slot(slot));
        if slot != 2 {
            chain.announce(slot);
        }
    }
    // Announced: 1 3 4 5 6. Slot 1 is out, slot 2 never was in.
    for (slot, taken) in [(1, false), (2, false), (3, true), (4, true), (5, true), (6, true), (7, false)] {
        assert_eq!(chain.submit(slot, solution(1)).is_ok(), taken, "slot {slot}");
    }
    assert_eq!(rejected(&chain, Reason::Late), 2);
    assert_eq!(rejected(&chain, Reason::NotAnnounced), 2);
    assert_eq!(chain.report().slots, 6);
}

#[test]
fn nine_wait_at_the_rpc_and_ten_behind_it() {
    let mut chain = chain();
    begin(&mut chain, 1);
    // All at once: nobody takes them on.
    for number in 0..9 {
        assert!(chain.submit(1, solution(number)).is_ok());
    }
    assert_eq!(chain.submit(1, solution(9)), Err(Ignored));
    assert_eq!((rejected(&chain, Reason::QueueFull), rejected(&chain, Reason::Dropped)), (1, 0));
    chain.forward();
    // One has a place still. What comes behind it counts as queued, and is dropped.
    for number in 10..13 {
        assert!(chain.submit(1, solution(number)).is_ok());
    }
    chain.forward();
    assert_eq!((rejected(&chain, Reason::QueueFull), rejected(&chain, Reason::Dropped)), (1, 2));
    assert!(chain.take_due(4).is_none());
    let due: Vec<_> = chain.take_due(5).unwrap().solutions.iter().map(|solution| solution.chunk[0]).collect();
    assert_eq!(due, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10]);
    assert!(chain.take_due(5).is_none());
}

#[test]
fn a_slot_looked_at_swallows_solutions() {
    let mut chain = chain();
    begin(&mut chain, 1);
    chain.submit(1, solution(1)).unwrap();
    // Nobody listens to slots 2 to 5, so slot 1 stays among the last four announced.
    assert!(chain.begin_slot(5));
    assert!(chain.submit(1, solution(2)).is_ok());
    assert_eq!(rejected(&chain, Reason::Late), 1);
    assert_eq!(chain.take_due(5).unwrap().solutions, [solution(1)]);
}

#[test]
fn slots_only_go_forward() {
    let mut chain = chain();
    begin(&mut chain, 5);
    begin(&mut chain, 5);
    begin(&mut chain, 4);
    assert_eq!(chain.report().slots, 1);
    assert!(chain.submit(4, solution(1)).is_err());
    let block = win(&mut chain, 5, &[Verdict::Block]).unwrap();
    // A slot that has its block is never open again, not even to a process that knows the block alone.
    let mut later = self::chain();
    later.load(block, true).unwrap();
    begin(&mut later, 5);
    assert!(later.submit(5, solution(1)).is_err());
}

#[test]
fn a_node_far_behind_sheds_the_oldest() {
    let mut chain = chain();
    for slot in 1..=30 {
        begin(&mut chain, slot);
        chain.submit(slot, solution(1)).unwrap();
    }
    assert_eq!(rejected(&chain, Reason::NodeBehind), 10);
    assert_eq!(chain.take_due(30).unwrap().slot, 11);
}

#[test]
fn challenges_follow_genesis_and_slot() {
    let info = chain().slot_info(7);
    assert_eq!(info.solution_range, PARAMETERS.initial_solution_range());
    assert_eq!(info.voting_solution_range, 2 * info.solution_range);
    let mut input = b"dev pot".to_vec();
    input.extend([9; 32]);
    input.extend(7u64.to_le_bytes());
    let output = *blake3::hash(&input).as_bytes().first_chunk::<16>().unwrap();
    let mut input = blake3::hash(&output).as_bytes().to_vec();
    input.extend(7u64.to_le_bytes());
    assert_eq!(info.global_challenge, *blake3::hash(&input).as_bytes());
}

#[test]
fn blocks_move_eras_and_replay_to_the_same_state() {
    let mut chain = chain();
    let mut blocks = Vec::new();
    let first = chain.tip().solution_range;
    for slot in [10, 20, 100] {
        blocks.push(win(&mut chain, slot, &[Verdict::Block]).unwrap());
    }
    let second = next_solution_range(10, 100, (1, 6), first, 3).unwrap();
    assert_eq!(chain.tip().solution_range, second);
    blocks.extend(chain.made_blocks(2, 100));
    assert!(blocks[3..].iter().all(|block| matches!(block, Block::Made(made) if made.body.is_some())));
    blocks[3..].iter().for_each(|block| assert_eq!(chain.import(block.clone()), Ok(true)));
    assert_eq!(chain.import(blocks[3].clone()), Ok(false));
    for slot in [101, 102, 103] {
        blocks.push(win(&mut chain, slot, &[Verdict::Block]).unwrap());
    }
    assert_eq!(chain.tip().solution_range, next_solution_range(100, 103, (1, 6), second, 3).unwrap());
    assert_eq!((chain.tip().height, chain.report().solutions.accepted), (6, 6));
    assert!(!chain.has_imported_bytes());
    let [Block::Made(made)] = &chain.made_blocks(1, 103)[..] else { panic!("no block") };
    assert_eq!(made.body, None);

    for finals in [0, 4, 8] {
        let mut replayed = self::chain();
        for (at, block) in blocks.iter().enumerate() {
            replayed.load(block.clone(), at < finals).unwrap();
        }
        assert_eq!(replayed.slot_info(104), chain.slot_info(104));
        assert_eq!((replayed.tip(), replayed.root().position), (chain.tip(), finals as u32));
        assert_eq!(replayed.report().solutions.accepted, 0);
    }
}

#[test]
fn a_block_of_a_peer_is_held_against_its_parent() {
    let (mut one, mut other) = (chain(), chain());
    let first = win(&mut one, 1, &[Verdict::Block]).unwrap();
    let second = win(&mut one, 2, &[Verdict::Block]).unwrap();
    assert_eq!(other.check_of(&second).unwrap_err(), BlockError::Future { slot: 2 });
    other.pass_to(2);
    assert_eq!(other.check_of(&second).unwrap_err(), BlockError::Parent { slot: 2 });
    let check = other.check_of(&first).unwrap().unwrap();
    assert!(!check.is_good(&KzgVerifier::mainnet()), "its solution proves nothing");
    other.import(first.clone()).unwrap();
    assert!(other.check_of(&first).unwrap().is_none(), "known");
    let old = *other.tip();
    other.import(second).unwrap();
    assert!(other.change_since(&old).is_some_and(|change| change.removed == 0));
    assert_eq!((other.tip(), other.report().solutions.accepted), (one.tip(), 0));
}

#[test]
fn blocks_are_final_when_peers_had_time() {
    let mut chain = chain();
    chain.pass_to(10);
    for block in chain.made_blocks(2, 10) {
        chain.import(block).unwrap();
    }
    for slot in 11..14 {
        chain.pass_to(slot);
        assert!(chain.finalise(4).is_empty());
    }
    // The machine slept: what peers made meanwhile has yet to come.
    for slot in 20..24 {
        chain.pass_to(slot);
        assert!(chain.finalise(4).is_empty());
    }
    chain.pass_to(24);
    assert_eq!(chain.finalise(4).len(), 2);
    assert_eq!(chain.root(), chain.tip());
}

#[test]
fn another_challenge_loses_what_was_queued() {
    let mut chain = chain();
    begin(&mut chain, 1);
    begin(&mut chain, 2);
    chain.submit(1, solution(1)).unwrap();
    chain.submit(2, solution(2)).unwrap();
    let before = chain.slot_info(2).global_challenge;
    chain.announce(2);
    assert_eq!(rejected(&chain, Reason::ChallengeChanged), 0, "told again, nothing else");
    let change = chain.change_time(2, None);
    chain.announce(2);
    assert_ne!(chain.slot_info(2).global_challenge, before);
    assert_eq!(rejected(&chain, Reason::ChallengeChanged), 1);
    assert!(chain.submit(2, solution(3)).is_ok());
    let mut other = self::chain();
    other.pass_to(2);
    assert!(other.hear_of_time(change) && !other.hear_of_time(change));
    assert_eq!(other.slot_info(9), chain.slot_info(9));
    let far = TimeChange { made_slot: 99, ..change };
    assert!(!other.hear_of_time(far) && !other.hear_of_time(TimeChange { until_slot: Some(5), ..change }));
}

#[test]
fn a_solution_at_two_nodes_counts_at_both() {
    let mut one = chain();
    let mut other = Chain { node: 2, ..chain() };
    begin(&mut one, 1);
    begin(&mut other, 1);
    let told = one.submit(1, solution(1)).unwrap().unwrap();
    assert_eq!(one.submit(1, solution(1)), Ok(None), "known");
    assert!(other.see(&told) && !other.see(&told));
    let told = other.submit(1, solution(1)).unwrap().unwrap();
    assert!(one.see(&told));
    other.submit(1, solution(2)).unwrap();
    assert_eq!((one.report().equivocations, other.report().equivocations), (1, 1));
}

#[test]
fn votes_of_peers_are_seen_when_they_are_signed() {
    let mut one = chain();
    win(&mut one, 1, &[Verdict::Block]);
    one.settle(judged(&one, 2, &[Verdict::Vote]));
    let request = one.next_request().unwrap();
    one.sign(&request.hash, &identity(1).sign_reward_hash(&request.hash));
    let [vote] = &one.finish_round().votes[..] else { panic!("no vote") };
    let mut other = chain();
    assert!(other.see_vote(vote) && !other.see_vote(vote));
    assert!(!other.see_vote(&Vote { signature: [3; 64], ..vote.clone() }));
    let again = Vote { signature: identity(1).sign_reward_hash(&request.hash), ..vote.clone() };
    assert!(other.see_vote(&again));
    assert_eq!(other.report().equivocations, 1, "two signatures of one solution");
}

#[test]
fn bodies_carry_all_imported_bytes_in_order() {
    let mut chain = chain();
    let mut next = 1000;
    for slot in 1.. {
        let Some(Block::Authored(block)) = win(&mut chain, slot, &[Verdict::Block]) else {
            panic!("no block")
        };
        let body = block.header.body;
        assert_eq!(body.offset, next);
        next += u64::from(body.size);
        if body.size < BODY_SIZE_MAX {
            break;
        }
    }
    assert_eq!(next, IMPORTED_SIZE);
}

#[test]
fn hashes_are_signed_one_after_another() {
    let mut chain = chain();
    win(&mut chain, 1, &[Verdict::Block]);
    let verdicts = [Verdict::Vote, Verdict::Block, Verdict::Vote, Verdict::Vote];
    let unsigned = judged(&chain, 2, &verdicts);
    let all = requests(&mut chain, unsigned);
    assert_eq!((all.len(), rejected(&chain, Reason::NotSigned)), (4, 4));
    chain.settle(judged(&chain, 2, &verdicts));
    let signature = |at: usize| identity(1).sign_reward_hash(&all[at].hash);
    let counts = |chain: &Chain| {
        let SignatureCounts { valid, invalid } = chain.report().reward_signatures;
        (valid, invalid)
    };
    assert_eq!(chain.next_request(), Some(all[0]));
    // Not asked for yet: not taken, not even later.
    chain.sign(&all[1].hash, &signature(1));
    assert_eq!(counts(&chain), (1, 0));
    let good = signature(0);
    chain.sign(&all[0].hash, &good);
    assert!(chain.is_present_signed());
    assert_eq!(chain.next_request(), Some(all[1]));
    // The same again is what a second controller does; another one of the same hash is an equivocation, late or not.
    chain.sign(&all[0].hash, &good);
    assert_eq!(counts(&chain), (2, 0));
    chain.sign(&all[0].hash, &signature(0));
    assert_eq!(counts(&chain), (2, 1));
    assert!(!chain.is_present_signed());
    // Signed by somebody else, then too late by the right one.
    chain.sign(&all[1].hash, &identity(2).sign_reward_hash(&all[1].hash));
    chain.sign(&all[1].hash, &signature(1));
    assert_eq!(counts(&chain), (2, 2));
    assert_eq!(chain.next_request(), Some(all[2]));
    // Its time is over when the block's hash is asked for.
    assert_eq!(chain.next_request(), Some(all[3]));
    chain.sign(&all[2].hash, &signature(2));
    chain.sign(&[0; 32], &NO_SIGNATURE);
    assert!(!chain.is_present_signed());
    chain.sign(&all[3].hash, &signature(3));
    assert_eq!(chain.next_request(), None);
    let signed = chain.finish_round();
    assert_eq!(signed.votes.len(), 1);
    assert_eq!(signed.block.unwrap().header.hash(), all[3].hash, "the block comes last");
    assert_eq!(rejected(&chain, Reason::BadSignature), 1);
    assert_eq!(rejected(&chain, Reason::NotSigned), 5);
    chain.sign(&all[3].hash, &signature(3));
    assert_eq!(counts(&chain), (3, 2));
}

#[test]
fn nodes_with_the_same_parent_ask_for_the_same_vote() {
    let (mut one, mut other) = (chain(), chain());
    let block = win(&mut one, 1, &[Verdict::Block]).unwrap();
    other.load(block, false).unwrap();
    let vote = judged(&one, 2, &[Verdict::Vote]);
    let asked = requests(&mut one, vote);
    let vote = judged(&other, 2, &[Verdict::Vote]);
    assert_eq!(asked, requests(&mut other, vote));
    let vote = judged(&one, 3, &[Verdict::Vote]);
    assert_ne!(asked, requests(&mut one, vote));
}

#[test]
fn an_era_that_began_meanwhile_loses_solutions() {
    let mut chain = chain();
    let judged = Judged { solution_range: 1, ..judged(&chain, 1, &[Verdict::Block, Verdict::Vote]) };
    assert!(requests(&mut chain, judged).is_empty());
    assert_eq!(rejected(&chain, Reason::RangeChanged), 2);
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Block),
        Just(Verdict::Vote),
        Just(Verdict::Rejected(Reason::Duplicate)),
        Just(Verdict::Rejected(Reason::InvalidPiece)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Every solution ends in exactly one count; a slot makes one block at most, the first it could.
    #[test]
    fn every_solution_is_counted_once(slots in prop::collection::vec(prop::collection::vec(any_verdict(), 0..6), 1..6)) {
        let mut chain = chain();
        let mut expected_accepted = 0;
        let mut total = 0;
        for (slot, verdicts) in (1..).zip(&slots) {
            let height = chain.tip().height;
            let has_block = verdicts.contains(&Verdict::Block);
            let votes = verdicts.iter().filter(|verdict| **verdict == Verdict::Vote).count() as u64;
            expected_accepted += u64::from(has_block) + if height == 0 { 0 } else { votes };
            total += verdicts.len() as u64;
            let block = win(&mut chain, slot, verdicts);
            prop_assert_eq!(chain.tip().height, height + u32::from(has_block));
            if let Some(Block::Authored(block)) = block {
                let first = verdicts.iter().position(|verdict| *verdict == Verdict::Block).unwrap();
                prop_assert_eq!(block.header.solution, solution(first as u8 + 1));
            }
        }
        let counts = &chain.report().solutions;
        prop_assert_eq!(counts.accepted, expected_accepted);
        prop_assert_eq!(counts.accepted + counts.surplus + counts.rejected.values().sum::<u64>(), total);
        prop_assert_eq!(chain.report().reward_signatures.valid, expected_accepted);
    }
}
