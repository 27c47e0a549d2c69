//! What a test can ask of nodes: silence and bursts, slots announced again, another proof of time, separation.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::fast::{Fast, eventually};
use super::methods::{submission, worthless};

const SUBMIT: &str = "subspace_submitSolutionResponse";

/// A node that has announced some slots to its client.
async fn subscribed(peers: &[&Fast]) -> Fast {
    let mut fast = Fast::start(peers).await;
    fast.client.call("subspace_subscribeSlotInfo", json!([])).await;
    fast.hear(5).await;
    fast
}

/// Slots that were announced with more than one challenge.
fn changed(heard: &[(u64, Value)]) -> BTreeSet<u64> {
    let other = |slot: &u64, challenge: &Value| {
        heard.iter().any(|(same, another)| same == slot && another != challenge)
    };
    heard.iter().filter(|(slot, challenge)| other(slot, challenge)).map(|(slot, _)| *slot).collect()
}

/// The last challenge that a slot was announced with.
fn newest(heard: &[(u64, Value)], slot: u64) -> &Value {
    &heard.iter().rfind(|(of, _)| *of == slot).unwrap().1
}

#[tokio::test]
async fn silence_and_then_a_burst() {
    let mut fast = subscribed(&[]).await;
    fast.client.call("devnet_pause", json!([8, 3])).await;
    fast.hear(12).await;
    // The newest three of those eight, with the one after them.
    let steps: Vec<_> = fast.heard.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert_eq!(steps.iter().filter(|step| **step == 6).count(), 1, "{steps:?}");
    assert!(steps.iter().all(|step| matches!(step, 1 | 6)), "{steps:?}");
    // More than wait for a subscriber, who is lost nevertheless for being slow alone.
    fast.client.call("devnet_pause", json!([40, 30])).await;
    let newest = fast.heard.last().unwrap().0;
    while fast.next_slot().await < newest + 45 {}
    let heard: BTreeSet<_> = fast.heard.iter().map(|(slot, _)| *slot).collect();
    assert!(heard.range(newest..newest + 45).count() >= 30, "{heard:?}");
    for bad in [json!([2000, 1]), json!([3, 4]), json!([-1, 0]), json!([])] {
        fast.client.error("devnet_pause", bad).await;
    }
    fast.node.stop().await;
}

#[tokio::test]
async fn slots_are_announced_again() {
    let mut fast = subscribed(&[]).await;
    fast.client.call("devnet_announceAgain", json!([3])).await;
    fast.client.error("devnet_announceAgain", json!([5])).await;
    fast.hear(8).await;
    let heard = &fast.heard;
    let again: Vec<_> = (1..heard.len()).filter(|at| heard[*at].0 <= heard[at - 1].0).collect();
    assert_eq!(again.len(), 1, "{heard:?}");
    let (before, after) = heard.split_at(again[0]);
    assert_eq!(after[..3], before[before.len() - 3..], "the last three, in order, as they were");
    assert_eq!(after[3].0, after[2].0 + 1, "then the next");
    fast.node.stop().await;
}

#[tokio::test]
async fn another_proof_of_time_for_all_or_for_one() {
    let mut one = subscribed(&[]).await;
    let mut other = subscribed(&[&one]).await;
    one.catch_up().await;
    one.client.call("devnet_changeTime", json!([2, null])).await;
    one.hear(10).await;
    let last = one.heard.last().unwrap().0;
    while other.next_slot().await < last {}
    assert_eq!(changed(&one.heard).len(), 2);
    assert!(!changed(&other.heard).is_empty());
    assert_eq!(newest(&one.heard, last), newest(&other.heard, last), "all nodes agree on what is new");

    one.catch_up().await;
    (one.heard, other.heard) = (Vec::new(), Vec::new());
    one.client.call("devnet_changeTime", json!([0, 3])).await;
    one.hear(16).await;
    let last = one.heard.last().unwrap().0;
    while other.next_slot().await < last {}
    assert!(changed(&other.heard).is_empty(), "a fork of one node alone");
    assert_eq!(changed(&one.heard).len(), 3, "announced as forked, and then as all have them");
    for slot in changed(&one.heard).into_iter().filter(|slot| other.heard.iter().any(|(of, _)| of == slot)) {
        assert_eq!(newest(&one.heard, slot), newest(&other.heard, slot));
    }
    one.node.stop().await;
    other.node.stop().await;
}

#[tokio::test]
async fn separated_nodes_meet_again() {
    let mut one = subscribed(&[]).await;
    let mut other = subscribed(&[&one]).await;
    one.client.call("devnet_separate", json!([30])).await;
    one.client.error("devnet_hello", json!([])).await;
    // Both see the same solution, and neither hears of the other's.
    let at_both = async || {
        let slot = one.next_slot().await.max(other.next_slot().await);
        let mut queued = true;
        for fast in [&mut one, &mut other] {
            let answer = fast.client.answer(SUBMIT, submission(slot, &worthless(1))).await;
            queued &= answer.get("result").is_some();
        }
        queued.then_some(())
    };
    eventually("a solution at both", at_both).await;
    for fast in [&mut one, &mut other] {
        assert_eq!(fast.report().await["equivocations"], 0);
    }
    for fast in [&mut one, &mut other] {
        let seen = async || (fast.report().await["equivocations"].as_u64() > Some(0)).then_some(());
        eventually("that they have met", seen).await;
    }
    other.node.stop().await;
    one.node.stop().await;
}
