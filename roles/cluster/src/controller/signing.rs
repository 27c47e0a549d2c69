//! Reward signing: the node's hashes to the plot-client that has the key, its signature to the node, within half a second.
//!
//! ```text
//!   node ─▶ Asking ─▶ request on the key's subject, tries overlap ─▶ answer, verified ─▶ Asking ─▶ node, on its present connection
//!   slots: a solution was queued, or may have been ──▲
//! ```
//! Owns: the way between node, machine and bus; the handle for whoever hands solutions to the node. Never: what is asked for
//! ([`control::signing`]), or a signature that is not valid.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use consensus::identity::is_reward_signature_valid;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::slots::HandedToNode;
use super::solutions::Counts;
use bus::SharedBus;
use control::ids::InstanceId;
use control::messages::{Control, RewardSigningRequest, SigningAnswer, subjects};
use control::signing::{Asking, AskingAction as Action, AskingEvent as Event, Outcome, Wanted};
use node::client::{FeedEvent, NodeClient};
use node::{RewardSignature, RewardSigning};

/// What the node may want signed; clones are handles to the same.
#[derive(Clone)]
pub struct Signatures(Arc<Shared>);

struct Shared {
    started_at: Instant,
    asking: Mutex<Asking>,
}

impl Signatures {
    /// Of a controller that has handed nothing to its node yet.
    pub fn new(controller: InstanceId) -> Self {
        let asking = Mutex::new(Asking::new(controller));
        Self(Arc::new(Shared { started_at: Instant::now(), asking }))
    }

    fn lock(&self) -> MutexGuard<'_, Asking> {
        self.0.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on(&self, event: Event) -> Vec<Action> {
        self.lock().on(event, self.0.started_at.elapsed())
    }

    async fn woken(&self) {
        let wake_at = self.lock().wake_at();
        match wake_at {
            Some(at) => tokio::time::sleep_until(self.0.started_at + at).await,
            None => std::future::pending().await,
        }
    }
}

impl HandedToNode for Signatures {
    fn handed_to_node(&self, public_key: [u8; 32]) {
        let actions = self.on(Event::HandedToNode { public_key });
        debug_assert!(actions.is_empty(), "the node asked for nothing: {actions:?}");
    }

    fn is_quiet(&self) -> bool {
        self.lock().is_quiet(self.0.started_at.elapsed())
    }
}

/// Hands a signature to the node; an error says why it was not taken.
pub type Submit = Box<dyn Fn(RewardSignature) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Passes wishes and signatures on until the process ends.
pub async fn pass(node: &NodeClient, bus: SharedBus, signatures: Signatures, counts: Arc<Counts>) {
    let feed = node.reward_signings();
    let wanted = futures::stream::unfold(feed, |mut feed| async {
        loop {
            if let FeedEvent::Item(RewardSigning { hash, public_key }) = feed.next().await {
                return Some((Wanted { hash, public_key }, feed));
            }
        }
    });
    let node = node.clone();
    let submit: Submit = Box::new(move |signature| {
        let node = node.clone();
        Box::pin(async move {
            let connection = node.connection().await.map_err(|error| error.to_string())?;
            connection.submit_reward_signature(signature).await.map_err(|error| error.to_string())
        })
    });
    Passing { bus, submit, signatures, counts }.run(wanted.boxed()).await;
}

/// What passing needs.
struct Passing {
    bus: SharedBus,
    submit: Submit,
    signatures: Signatures,
    counts: Arc<Counts>,
}

impl Passing {
    async fn run(self, mut wanted: BoxStream<'_, Wanted>) {
        let mut underway = FuturesUnordered::new();
        loop {
            let event = tokio::select! {
                Some(wanted) = wanted.next() => Event::Wanted(wanted),
                Some(event) = underway.next() => event,
                () = self.signatures.woken() => Event::Tick,
            };
            for action in self.signatures.on(event) {
                match action {
                    Action::Ask { request, patience } => underway.push(self.ask(request, patience).boxed()),
                    Action::Submit { wanted, signature } => {
                        underway.push(self.submit(wanted, signature).boxed());
                    }
                    Action::Concluded { wanted, outcome, reason } => {
                        self.conclude(&wanted, outcome, &reason);
                    }
                }
            }
        }
    }

    async fn ask(&self, request: RewardSigningRequest, patience: Duration) -> Event {
        let RewardSigningRequest { hash, public_key, .. } = request;
        let wanted = Wanted { hash, public_key };
        let bytes = request.to_bytes().expect("a request is far below the limit of a message");
        let answer = self.bus.request(&subjects::signature(&public_key), bytes, patience).await;
        let answer = match answer {
            Ok(answer) => SigningAnswer::from_bytes(&answer).map_err(|error| error.to_string()),
            Err(error) => return Event::Silent { wanted, reason: error.to_string() },
        };
        match answer {
            Ok(SigningAnswer::Signed { signature })
                if is_reward_signature_valid(&hash, &signature, &public_key) =>
            {
                Event::Signed { wanted, signature }
            }
            Ok(SigningAnswer::Signed { .. }) => {
                Event::Refused { wanted, reason: "the signature that came is not valid".to_owned() }
            }
            Ok(SigningAnswer::Refused { reason }) | Err(reason) => Event::Refused { wanted, reason },
        }
    }

    async fn submit(&self, wanted: Wanted, signature: [u8; 64]) -> Event {
        let result = (self.submit)(RewardSignature { hash: wanted.hash, signature }).await;
        Event::Submitted { wanted, result }
    }

    fn conclude(&self, wanted: &Wanted, outcome: Outcome, reason: &str) {
        self.counts.signing.add(outcome);
        let (hash, key) = (hex::encode(wanted.hash), hex::encode(wanted.public_key));
        match outcome {
            Outcome::Signed => tracing::info!(hash, "reward hash signed"),
            // Usual where somebody else farms on the same node.
            Outcome::NotOurs => tracing::debug!(hash, key, "{reason}"),
            _ => tracing::warn!(hash, key, ?outcome, "a reward signature was lost: {reason}"),
        }
    }
}

#[cfg(test)]
#[path = "signing_tests.rs"]
mod tests;
