use super::*;

use consensus::identity::Identity;
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
    Chain::new([9; 32], PARAMETERS, 1000, IMPORTED_SIZE)
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

fn judged(slot: u64, verdicts: &[Verdict]) -> Judged {
    let solutions = verdicts.iter().zip(1..).map(|(verdict, number)| (solution(number), *verdict)).collect();
    Judged { slot, solutions }
}

/// Lets farm 1 win `slot`, sign its block and every vote.
fn win(chain: &mut Chain, slot: u64, verdicts: &[Verdict]) -> Option<Block> {
    for request in chain.settle(judged(slot, verdicts)) {
        chain.sign(&request.hash, &identity(1).sign_reward_hash(&request.hash));
    }
    let block = chain.finish_round();
    if let Some(block) = &block {
        chain.import(block).unwrap();
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
fn more_than_nine_queued_are_too_many() {
    let mut chain = chain();
    begin(&mut chain, 1);
    for number in 0..10 {
        assert_eq!(chain.submit(1, solution(number)), Ok(()));
    }
    assert_eq!(chain.submit(1, solution(10)), Err(Ignored));
    assert_eq!(rejected(&chain, Reason::QueueFull), 1);
    assert!(chain.take_due(4).is_none());
    assert_eq!(chain.take_due(5).unwrap().solutions.len(), 10);
    assert!(chain.take_due(5).is_none());
}

#[test]
fn a_slot_looked_at_swallows_solutions() {
    let mut chain = chain();
    begin(&mut chain, 1);
    chain.submit(1, solution(1)).unwrap();
    // Nobody listens to slots 2 to 5, so slot 1 stays among the last four announced.
    assert!(chain.begin_slot(5));
    assert_eq!(chain.submit(1, solution(2)), Ok(()));
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
    win(&mut chain, 5, &[Verdict::Block]);
    // A slot that has its block is never open again, not even to a process that knows the block alone.
    let mut later = self::chain();
    later.tip = chain.tip;
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
    let first = chain.solution_range;
    for slot in [10, 20, 100] {
        blocks.push(win(&mut chain, slot, &[Verdict::Block]).unwrap());
    }
    let second = next_solution_range(10, 100, (1, 6), first, 3).unwrap();
    assert_eq!(chain.solution_range, second);
    blocks.extend(chain.authorless_blocks(2));
    assert!(matches!(blocks[3..], [Block::Imported(_), Block::Imported(_)]));
    blocks[3..].iter().try_for_each(|block| chain.import(block)).unwrap();
    for slot in [101, 102, 103] {
        blocks.push(win(&mut chain, slot, &[Verdict::Block]).unwrap());
    }
    assert_eq!(chain.solution_range, next_solution_range(100, 103, (1, 6), second, 3).unwrap());
    assert_eq!((chain.height(), chain.report().solutions.accepted), (6, 6));
    assert!(!chain.has_imported_bytes());
    assert_eq!(chain.authorless_blocks(1), [Block::Filler]);

    let mut replayed = self::chain();
    blocks.iter().try_for_each(|block| replayed.apply(block)).unwrap();
    assert_eq!(replayed.slot_info(104), chain.slot_info(104));
    assert_eq!(replayed.tip.hash, chain.tip.hash);
    assert_eq!(replayed.era_start_slot, chain.era_start_slot);
    assert_eq!(replayed.imported_next, chain.imported_next);
    assert_eq!(replayed.report().solutions.accepted, 0);
    assert!(matches!(replayed.apply(&blocks[0]), Err(BlockError::Body { .. })));
    assert!(matches!(replayed.apply(&blocks[7]), Err(BlockError::Parent { .. } | BlockError::Body { .. })));
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
fn signatures_decide() {
    let mut chain = chain();
    win(&mut chain, 1, &[Verdict::Block]);
    let requests = chain.settle(judged(2, &[Verdict::Vote, Verdict::Block, Verdict::Vote, Verdict::Vote]));
    assert_eq!(requests.len(), 4);
    let sign = |at: usize| identity(1).sign_reward_hash(&requests[at].hash);
    chain.sign(&requests[0].hash, &sign(0));
    assert!(!chain.is_round_complete());
    // Signed by somebody else, then too late by the right one.
    chain.sign(&requests[1].hash, &identity(2).sign_reward_hash(&requests[1].hash));
    chain.sign(&requests[1].hash, &sign(1));
    // The same again is what a second controller does; another one of the same hash is an equivocation.
    let signature = sign(2);
    chain.sign(&requests[2].hash, &signature);
    chain.sign(&requests[2].hash, &signature);
    assert_eq!(chain.report().reward_signatures, report::SignatureCounts { valid: 3, invalid: 1 });
    chain.sign(&requests[2].hash, &sign(2));
    assert_eq!(chain.report().reward_signatures, report::SignatureCounts { valid: 3, invalid: 2 });
    chain.sign(&[0; 32], &NO_SIGNATURE);
    assert!(!chain.is_round_complete());
    assert_eq!(chain.finish_round(), None);
    assert_eq!(chain.report().solutions.accepted, 3);
    assert_eq!(rejected(&chain, Reason::BadSignature), 1);
    assert_eq!(rejected(&chain, Reason::NotSigned), 1);
    assert_eq!(chain.height(), 1);
    chain.sign(&requests[3].hash, &sign(3));
    assert_eq!(chain.report().reward_signatures.valid, 3);
}

#[test]
fn nodes_with_the_same_parent_ask_for_the_same_vote() {
    let (mut one, mut other) = (chain(), chain());
    let block = win(&mut one, 1, &[Verdict::Block]).unwrap();
    other.apply(&block).unwrap();
    let requests = one.settle(judged(2, &[Verdict::Vote]));
    assert_eq!(requests, other.settle(judged(2, &[Verdict::Vote])));
    one.finish_round();
    assert_ne!(requests, one.settle(judged(3, &[Verdict::Vote])));
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
            let height = chain.height();
            let has_block = verdicts.contains(&Verdict::Block);
            let votes = verdicts.iter().filter(|verdict| **verdict == Verdict::Vote).count() as u64;
            expected_accepted += u64::from(has_block) + if height == 0 { 0 } else { votes };
            total += verdicts.len() as u64;
            let block = win(&mut chain, slot, verdicts);
            prop_assert_eq!(chain.height(), height + u32::from(has_block));
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
