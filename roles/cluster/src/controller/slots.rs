//! Slots to the farms, their solutions to the node.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use consensus::solution::Solution;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::context::Context;
use super::solutions::{Book, Incoming, Outcome};
use bus::BusError;
use bus::claims::{Acquired, Claims, Held, SolutionKey};
use control::messages::{Control, SlotInfo, SolutionFound, subjects};
use node::client::{Connection, FeedEvent};

/// Solutions claimed and sent at once; a node queues nine.
const UNDERWAY_MAX: usize = 64;

/// Announces slots and sends solutions until the bus is closed.
pub async fn pass(context: &Context, farming_timeout: Duration) -> Result<(), BusError> {
    let claims = Claims::open(&**context.bus(), context.host.id()).await?;
    let book = Mutex::new(Book::new(farming_timeout));
    let mut slots = context.node.slots();
    let mut found = context.bus().subscribe(subjects::SOLUTION).await?;
    let mut underway = FuturesUnordered::new();
    loop {
        tokio::select! {
            event = slots.next() => announce(context, &book, event).await,
            Some(()) = underway.next(), if !underway.is_empty() => {}
            message = found.next() => {
                let message = message.ok_or(BusError::Closed)?;
                if let Some((found, solution, patience)) = take(context, &book, &message.payload, underway.len()) {
                    underway.push(see_through(context, &claims, &book, found, solution, patience).boxed());
                }
            }
        }
    }
}

fn locked(book: &Mutex<Book>) -> std::sync::MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn announce(context: &Context, book: &Mutex<Book>, event: FeedEvent<node::SlotInfo>) {
    let slot = match event {
        FeedEvent::Began => return locked(book).forget_announced(),
        FeedEvent::Lost => return,
        FeedEvent::Item(slot) => slot,
    };
    locked(book).announce(slot.slot_number, Instant::now());
    let info = SlotInfo {
        slot: slot.slot_number,
        global_challenge: slot.global_challenge,
        solution_range: slot.solution_range,
        voting_solution_range: slot.voting_solution_range,
        controller: context.host.id(),
    };
    context.publish(subjects::SLOT, &info).await;
}

/// A solution to be sent, and how long there is for it.
fn take(
    context: &Context,
    book: &Mutex<Book>,
    payload: &[u8],
    underway: usize,
) -> Option<(SolutionFound, Solution, Duration)> {
    let found =
        SolutionFound::from_bytes(payload).map_err(|error| tracing::warn!("solution: {error}")).ok()?;
    let solution = Solution::from_bytes(&found.solution);
    let solution = solution.map_err(|error| tracing::warn!(slot = found.slot, "solution: {error}")).ok()?;
    let identity = blake3::hash(&found.solution).into();
    let outcome = match locked(book).take(found.slot, identity, Instant::now()) {
        Incoming::Known => return None,
        Incoming::Send(patience) if underway < UNDERWAY_MAX => return Some((found, solution, patience)),
        Incoming::Send(_) => Outcome::Unsent,
        Incoming::Expired => Outcome::Expired,
    };
    conclude(context, found.slot, outcome);
    None
}

async fn see_through(
    context: &Context,
    claims: &Claims,
    book: &Mutex<Book>,
    found: SolutionFound,
    solution: Solution,
    patience: Duration,
) {
    let slot = found.slot;
    let key = SolutionKey {
        slot,
        public_key: solution.public_key,
        sector_index: solution.sector_index,
        piece_offset: solution.piece_offset,
        chunk: solution.chunk,
    };
    let is_announced = || locked(book).is_announced(slot);
    let outcome = match claims.acquire(&key, is_announced, patience).await {
        Ok(Acquired::Mine(held)) => send(context, held, slot, solution).await,
        Ok(Acquired::Theirs(_)) => Outcome::Elsewhere,
        Ok(Acquired::TooLate) => Outcome::Expired,
        Err(error) => {
            tracing::warn!(slot, "a solution cannot be claimed: {error}");
            Outcome::Unsent
        }
    };
    conclude(context, slot, outcome);
}

/// Sends a solution whose claim is held. Nothing that can fail beforehand is left for after the last step of the claim.
async fn send(context: &Context, held: Held, slot: u64, solution: Solution) -> Outcome {
    let public_key = solution.public_key;
    let (connection, solution): (Connection, _) = match (context.node.connection().await, solution.try_into())
    {
        (Ok(connection), Ok(solution)) => (connection, solution),
        // The connection logs its outages; the claim is free for others in a moment.
        _ => return Outcome::Unsent,
    };
    let sending = match held.begin_sending().await {
        Ok(Some(sending)) => sending,
        Ok(None) => return Outcome::Elsewhere,
        Err(BusError::OutcomeUnknown { .. }) => return Outcome::Unknown,
        Err(error) => {
            tracing::warn!(slot, "a solution cannot be claimed: {error}");
            return Outcome::Unsent;
        }
    };
    let response = node::SolutionResponse { slot_number: slot, solution };
    let answer = connection.submit_solution(response).await;
    if let Err(error) = &answer {
        tracing::warn!(slot, "{error}");
    }
    let outcome = Outcome::of_answer(&answer);
    if matches!(outcome, Outcome::Queued | Outcome::Unknown) {
        context.signatures.handed_to_node(public_key);
    }
    if outcome != Outcome::Unknown
        && let Err(error) = sending.done(outcome == Outcome::Queued).await
    {
        tracing::debug!(slot, "the end of a claim is not noted: {error}");
    }
    outcome
}

fn conclude(context: &Context, slot: u64, outcome: Outcome) {
    context.counts.add(outcome);
    match outcome {
        Outcome::Queued | Outcome::Elsewhere => tracing::info!(slot, ?outcome, "solution"),
        _ => tracing::warn!(slot, ?outcome, "a solution earns nothing, or nobody knows"),
    }
}
