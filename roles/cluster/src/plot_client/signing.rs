//! Reward signing: a farm's key signs what its solutions lead to, and each hash once, within the node's 500 ms.
//!
//! ```text
//!   bus: RewardSigningRequest ─▶ Signatory (all keys, under one lock) ─▶ the farm's store, on its disk ─▶ Signatory ─▶ answer
//!   farming: a solution leaves, or was not taken ──▲
//! ```
//! Owns: the way between bus, machine and store; the windows' handle for whoever sends solutions. Never: what may be signed
//! ([`control::signing`]), or a signature ([`super::signatures`]).

use super::counters::Counters;
use super::solutions::Handovers;
use bus::{Message, SharedBus, Subscription};
use control::ids::InstanceId;
use control::messages::{Control, RewardSigningRequest, SigningAnswer};
use control::signing::{Signatory, SignatoryAction as Action, SignatoryEvent as Event, Stored};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Time between two lines about a farm whose signatures fail.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Questions that wait for an answer. The machine bounds those that wait for a disk; the others are answered at once.
type Askers = BTreeMap<u64, String>;

/// For whom this plot-client signs; clones are handles to the same.
#[derive(Clone)]
pub struct Windows(Arc<Shared>);

struct Shared {
    started_at: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    signatory: Signatory,
    askers: Askers,
    next_asker: u64,
}

impl Windows {
    /// None is open, and no key is served.
    pub fn new() -> Self {
        Self(Arc::new(Shared { started_at: Instant::now(), state: Mutex::default() }))
    }

    /// The key is this plot-client's alone.
    pub fn serve(&self, public_key: [u8; 32]) {
        self.quietly(Event::Serving { public_key });
    }

    /// An earlier run handed a solution over so long ago; said before the key is served, the oldest first.
    pub fn recall(&self, public_key: [u8; 32], controller: InstanceId, age: Duration) {
        self.quietly(Event::Recalled { public_key, controller, age });
    }

    /// It is another's: nobody who waits is answered, since the other answers them, and nothing that is being signed leaves.
    pub fn lose(&self, public_key: [u8; 32]) {
        for action in self.on(Event::Lost { public_key }) {
            if let Action::PassOver { asker } = action {
                self.pass_over(asker);
            }
        }
    }

    /// Whether no signature of this key is being made, nor expected.
    pub fn is_quiet_for(&self, public_key: &[u8; 32]) -> bool {
        let now = self.0.started_at.elapsed();
        self.lock().signatory.key_quiet_at(public_key).is_some_and(|at| at <= now)
    }

    fn pass_over(&self, asker: u64) {
        self.lock().askers.remove(&asker);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on(&self, event: Event) -> Vec<Action> {
        self.lock().signatory.on(event, self.0.started_at.elapsed())
    }

    fn quietly(&self, event: Event) {
        let actions = self.on(event);
        debug_assert!(actions.is_empty(), "nobody asked: {actions:?}");
    }

    fn ask(&self, request: RewardSigningRequest, reply_to: String) -> Vec<Action> {
        let mut state = self.lock();
        state.next_asker += 1;
        let asker = state.next_asker;
        state.askers.insert(asker, reply_to);
        state.signatory.on(Event::Asked { request, asker }, self.0.started_at.elapsed())
    }

    async fn answer(&self, asker: u64, answer: &SigningAnswer, bus: &SharedBus) {
        let Some(reply_to) = self.lock().askers.remove(&asker) else { return };
        if let SigningAnswer::Refused { reason } = answer {
            tracing::debug!("a reward signature was refused: {reason}");
        }
        let sent = match answer.to_bytes() {
            Ok(bytes) => bus.publish(&reply_to, bytes).await,
            Err(error) => return tracing::error!("{error}"),
        };
        if let Err(error) = sent {
            tracing::warn!("a reward signature could not be sent: {error}");
        }
    }
}

impl Handovers for Windows {
    fn handed_over(&self, public_key: [u8; 32], controller: InstanceId) {
        self.quietly(Event::HandedOver { public_key, controller });
    }

    fn not_taken(&self, public_key: [u8; 32], controller: InstanceId) {
        self.quietly(Event::NotTaken { public_key, controller });
    }

    fn is_quiet(&self) -> bool {
        let now = self.0.started_at.elapsed();
        self.lock().signatory.quiet_at().is_some_and(|at| at <= now)
    }
}

impl Default for Windows {
    fn default() -> Self {
        Self::new()
    }
}

/// The store of a key: the one signature of a hash, durable; made if there is none and it may be.
pub type Store = Box<dyn Fn([u8; 32], bool) -> BoxFuture<'static, Stored> + Send + Sync>;

/// Answers for one farm's key.
pub struct Signing {
    /// The bus.
    pub bus: SharedBus,
    /// The key.
    pub public_key: [u8; 32],
    /// Its signatures.
    pub store: Store,
    /// Of all keys.
    pub windows: Windows,
    /// What became of everything.
    pub counters: Arc<Counters>,
}

impl Signing {
    /// Answers requests until the bus is closed. A slow disk holds up only its own farm.
    pub async fn run(self, mut requests: Subscription) {
        let public_key = self.public_key;
        let (mut storing, mut trouble) = (FuturesUnordered::new(), Trouble::default());
        loop {
            let actions = tokio::select! {
                message = requests.next() => match message {
                    Some(message) => self.hear(message),
                    None => return,
                },
                Some((hash, stored)) = storing.next() => {
                    self.note(&hash, &stored, &mut trouble);
                    self.windows.on(Event::Stored { public_key, hash, stored })
                }
            };
            for action in actions {
                match action {
                    Action::Sign { hash, may_be_new, .. } => {
                        let storing_it = (self.store)(hash, may_be_new);
                        storing.push(async move { (hash, storing_it.await) });
                    }
                    Action::PassOver { asker } => self.windows.pass_over(asker),
                    Action::Answer { asker, answer } => self.windows.answer(asker, &answer, &self.bus).await,
                }
            }
        }
    }

    fn hear(&self, message: Message) -> Vec<Action> {
        match (RewardSigningRequest::from_bytes(&message.payload), message.reply_to) {
            // Another key's request on this subject is nobody's that follows the rules.
            (Ok(request), Some(reply_to)) if request.public_key == self.public_key => {
                self.windows.ask(request, reply_to)
            }
            (Ok(_), _) => Vec::new(),
            (Err(error), _) => {
                tracing::warn!("a signing request that cannot be read: {error}");
                Vec::new()
            }
        }
    }

    fn note(&self, hash: &[u8; 32], stored: &Stored, trouble: &mut Trouble) {
        match stored {
            Stored::Fresh(_) => {
                self.counters.signed.increment();
                tracing::info!(
                    hash = hex::encode(hash),
                    key = hex::encode(self.public_key),
                    "reward hash signed"
                );
            }
            Stored::Failed(error) => trouble.tell(error),
            Stored::Known(_) | Stored::Absent => {}
        }
    }
}

/// Tells why no signature is given, but not at each request, which come ten a second.
#[derive(Default)]
struct Trouble {
    told_at: Option<Instant>,
    untold: u64,
}

impl Trouble {
    fn tell(&mut self, error: &str) {
        if self.told_at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            self.untold += 1;
            return;
        }
        tracing::error!(requests_failed_before = self.untold, "{error}");
        *self = Self { told_at: Some(Instant::now()), untold: 0 };
    }
}

#[cfg(test)]
#[path = "signing_tests.rs"]
mod tests;
