//! Hostile peers, one and many, beside honest ones.

use super::*;

/// Asks once and says whether it got something.
fn gets(budget: &mut Budget<u32>, peer: u32, slabs: usize) -> bool {
    let ticket = budget.ask(peer, slabs);
    let granted = budget.grant();
    if granted.is_none() {
        budget.withdraw(peer, ticket);
    }
    granted.is_some_and(|granted| granted == (ticket, peer, slabs))
}

/// A peer whose payloads go through.
fn proven(budget: &mut Budget<u32>, peer: u32) {
    for _ in 0..TRIAL_PAYLOADS {
        assert!(gets(budget, peer, 1));
        budget.taken(peer);
        budget.give_back(peer, 1);
    }
}

/// How many a peer that gives nothing back gets.
fn hoards(budget: &mut Budget<u32>, peer: u32) -> usize {
    (0..10_000).take_while(|_| gets(budget, peer, 1)).count()
}

#[test]
fn one_hostile_peer_takes_a_quarter_or_with_a_good_name_half() {
    let mut budget = Budget::new(64);
    assert_eq!(hoards(&mut budget, 1), 16);
    let mut budget = Budget::new(64);
    proven(&mut budget, 1);
    assert_eq!(hoards(&mut budget, 1), 32);
    // What it holds stays its own; another has half of the rest at once.
    proven(&mut budget, 2);
    assert_eq!(hoards(&mut budget, 2), 16);
    assert_eq!(budget.usage(), (48, 64));
}

#[test]
fn sixty_four_hostile_peers_leave_half_to_others() {
    let mut budget = Budget::new(64);
    proven(&mut budget, 999);
    let taken: usize = (0..64).map(|peer| hoards(&mut budget, peer)).sum();
    assert_eq!((taken, budget.usage()), (32, (32, 64)));
    // Retired and back again, they have no more.
    for peer in 0..64 {
        budget.slow(peer);
    }
    for peer in 0..64 {
        let held = budget.peers[&peer].held;
        budget.give_back(peer, held);
    }
    let taken: usize = (0..64).map(|peer| hoards(&mut budget, peer)).sum();
    assert_eq!((taken, budget.usage()), (32, (32, 64)));
    assert_eq!(hoards(&mut budget, 999), 16);
}

#[test]
fn with_a_good_name_sixty_four_hostile_peers_stay_within_the_whole() {
    let mut budget = Budget::new(48);
    (0..64).for_each(|peer| proven(&mut budget, peer));
    let taken: usize = (0..64).map(|peer| hoards(&mut budget, peer)).sum();
    assert_eq!((taken, budget.usage()), (48, (48, 48)));
    // The first slab that comes back goes to whoever has none, and not to those that have more than there is left.
    let tickets = [0, 1, 100].map(|peer| budget.ask(peer, 1));
    assert_eq!(budget.grant(), None);
    budget.give_back(0, 1);
    assert_eq!(budget.grant(), Some((tickets[2], 100, 1)));
    assert_eq!(budget.grant(), None);
}

#[test]
fn those_with_the_fewest_come_first_and_slow_ones_last() {
    let mut budget = Budget::new(8);
    (1..=3).for_each(|peer| proven(&mut budget, peer));
    assert!(gets(&mut budget, 1, 2) && gets(&mut budget, 2, 2) && gets(&mut budget, 3, 2));
    let filler = budget.ask(9, 2);
    assert_eq!(budget.grant().map(|(ticket, ..)| ticket), Some(filler));
    budget.give_back(3, 2);
    budget.slow(3);
    let tickets = [budget.ask(3, 1), budget.ask(1, 1), budget.ask(4, 1), budget.ask(2, 1)];
    // Peer 4 is new and has none, but those on trial have half already when 9 and 3 have; 1 and 2 have two each.
    let order: Vec<_> = std::iter::from_fn(|| budget.grant()).map(|(ticket, ..)| ticket).collect();
    assert_eq!(order, [tickets[2], tickets[0]], "1 and 2 have as many as are free");
}

#[test]
fn a_request_for_more_than_there_is_gets_all_there_is() {
    let mut budget = Budget::new(1);
    let ticket = budget.ask(1, 2);
    assert_eq!(budget.grant(), Some((ticket, 1, 1)));
    assert!(!budget.try_take(2));
    budget.give_back(1, 1);
    assert!(budget.try_take(2) && !budget.try_take(2));
}

/// Any mix of peers at any time: counts stay within the whole, and as soon as everything is given back everybody is served.
#[test]
fn whatever_happens_counts_stay_right_and_nobody_waits_for_ever() {
    for seed in 0..300u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % bound
        };
        let total = 1 + below(20) as usize;
        let mut budget = Budget::new(total);
        let (mut waiting, mut held) = (BTreeMap::new(), Vec::new());
        for _ in 0..400 {
            let peer = below(12) as u32;
            match below(10) {
                0..4 => {
                    let slabs = 1 + below(2) as usize;
                    waiting.insert(budget.ask(peer, slabs), peer);
                }
                4..8 if !held.is_empty() => {
                    let (peer, slabs) = held.swap_remove(below(held.len() as u64) as usize);
                    if below(4) > 0 {
                        budget.taken(peer);
                    }
                    budget.give_back(peer, slabs);
                }
                8 => {
                    if let Some((ticket, peer)) = waiting.pop_first() {
                        budget.withdraw(peer, ticket);
                    }
                }
                9 => budget.slow(peer),
                _ => {}
            }
            while let Some((ticket, peer, slabs)) = budget.grant() {
                assert_eq!(waiting.remove(&ticket), Some(peer), "seed {seed}");
                held.push((peer, slabs));
            }
            let sum: usize = held.iter().map(|(_, slabs)| slabs).sum();
            assert!(budget.usage() == (sum, total) && sum <= total, "seed {seed}");
        }
        while !waiting.is_empty() {
            assert!(!held.is_empty(), "seed {seed}: {} wait and nobody holds anything", waiting.len());
            held.drain(..).for_each(|(peer, slabs)| budget.give_back(peer, slabs));
            while let Some((ticket, peer, slabs)) = budget.grant() {
                waiting.remove(&ticket);
                held.push((peer, slabs));
            }
        }
    }
}

#[test]
fn whoever_takes_back_what_has_begun_waits_for_it_as_for_anything() {
    let mut budget = Budget::new(4);
    proven(&mut budget, 1);
    // A storm of cancels: each read goes on for a while, so no more than half of all begin at once.
    let mut begun = 0;
    for now_ms in 0..1000 {
        budget.pass(now_ms);
        if gets(&mut budget, 1, 1) {
            begun += 1;
            budget.linger(1, 1, now_ms + 100);
        }
    }
    assert_eq!(begun, 2 * 10);
    assert_eq!(budget.pass(999), Some(1000));
    assert_eq!(budget.pass(2000), None);
    assert_eq!(budget.usage(), (0, 4));
}
