//! Solution claims with several controllers.

use crate::backends::Backend;
use bus::Fresh;
use bus::claims::{Acquired, Claims, Held, SolutionKey, TAKEOVER_AFTER};
use bus::local::LocalBus;
use control::ids::InstanceId;
use control::messages::ClaimState;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_millis(2500);

fn solution(slot: u64) -> SolutionKey {
    SolutionKey { slot, public_key: [1; 32], sector_index: 2, piece_offset: 3, chunk: [4; 32] }
}

async fn controller(backend: &Backend) -> Claims {
    Claims::open(&*backend.bus().await, InstanceId::generate()).await.unwrap()
}

async fn held(claims: &Claims, slot: u64) -> Held {
    match claims.acquire(&solution(slot), || true, PATIENCE).await.unwrap() {
        Acquired::Mine(held) => held,
        Acquired::Theirs(claim) => panic!("taken: {claim:?}"),
        Acquired::TooLate => panic!("too late"),
    }
}

pub async fn one_of_many_wins(backend: &Backend) {
    let sent = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let claims = controller(backend).await;
        // The same solution may reach one controller twice, too.
        for _ in 0..2 {
            let (claims, sent) = (claims.clone(), sent.clone());
            tasks.push(tokio::spawn(async move {
                if let Acquired::Mine(held) = claims.acquire(&solution(1), || true, PATIENCE).await.unwrap()
                    && let Some(sending) = held.begin_sending().await.unwrap()
                {
                    sent.fetch_add(1, Ordering::Relaxed);
                    sending.done(true).await.unwrap();
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(sent.load(Ordering::Relaxed), 1);
}

pub async fn a_stalled_claim_is_taken_over_once(backend: &Backend) {
    let (stalled, second, third) =
        (controller(backend).await, controller(backend).await, controller(backend).await);
    let asleep = held(&stalled, 1).await;
    let at = Instant::now();
    let key = solution(1);
    let try_both = async {
        tokio::join!(
            second.acquire(&key, || true, PATIENCE),
            third.acquire(&key, || true, TAKEOVER_AFTER * 3 / 2)
        )
    };
    let outcomes = <[_; 2]>::from(try_both.await);
    assert!(at.elapsed() >= TAKEOVER_AFTER, "{:?}", at.elapsed());
    let mut winners: Vec<Held> = Vec::new();
    for outcome in outcomes {
        if let Acquired::Mine(held) = outcome.unwrap() {
            winners.push(held);
        }
    }
    // The loser of the first takeover may in turn take over from its winner, who sleeps here as well; but of all
    // who ever held it, one may send.
    let mut sendings = 0;
    for held in winners.into_iter().chain([asleep]) {
        sendings += usize::from(held.begin_sending().await.unwrap().is_some());
    }
    assert_eq!(sendings, 1);
}

pub async fn sending_is_never_taken_over(backend: &Backend) {
    let (first, second) = (controller(backend).await, controller(backend).await);
    let sending = held(&first, 1).await.begin_sending().await.unwrap().unwrap();
    tokio::time::sleep(TAKEOVER_AFTER * 3 / 2).await;
    let outcome = second.acquire(&solution(1), || true, PATIENCE).await.unwrap();
    assert!(matches!(outcome, Acquired::Theirs(claim) if claim.state == ClaimState::Sending));
    sending.done(false).await.unwrap();
    let outcome = second.acquire(&solution(1), || true, PATIENCE).await.unwrap();
    assert!(
        matches!(outcome, Acquired::Theirs(claim) if claim.state == ClaimState::Done { accepted: false })
    );
    assert!(held(&second, 2).await.begin_sending().await.unwrap().is_some(), "another slot is another claim");
}

pub async fn only_who_was_announced_the_slot_claims(backend: &Backend) {
    let (first, second) = (controller(backend).await, controller(backend).await);
    let never = first.acquire(&solution(1), || false, Duration::from_millis(300)).await.unwrap();
    assert!(matches!(never, Acquired::TooLate));
    let _asleep = held(&first, 1).await;
    let never = second.acquire(&solution(1), || false, TAKEOVER_AFTER * 3 / 2).await.unwrap();
    assert!(matches!(never, Acquired::TooLate));
    let announced = AtomicBool::new(false);
    let key = solution(1);
    let (outcome, ()) =
        tokio::join!(second.acquire(&key, || announced.load(Ordering::Relaxed), PATIENCE), async {
            tokio::time::sleep(TAKEOVER_AFTER / 2).await;
            announced.store(true, Ordering::Relaxed);
        });
    assert!(matches!(outcome.unwrap(), Acquired::Mine(_)), "announced later, taken over then");
}

/// Each step's answer is lost once: the steps recognise their own writes and still exactly one sends.
#[tokio::test(start_paused = true)]
async fn lost_answers_do_not_double_or_lose() {
    let bus = LocalBus::new();
    let claims = Claims::open(&bus, InstanceId::generate()).await.unwrap();
    let rival = Claims::open(&bus, InstanceId::generate()).await.unwrap();
    bus.lose_answers(1);
    let held = held(&claims, 1).await;
    bus.lose_answers(1);
    let sending = held.begin_sending().await.unwrap().expect("its own write is recognised");
    let theirs = rival.acquire(&solution(1), || true, PATIENCE).await.unwrap();
    assert!(matches!(theirs, Acquired::Theirs(_)));
    bus.lose_answers(1);
    assert!(sending.done(true).await.is_err(), "unknown, to be counted");
}
