//! Reward signing: requests for own keys are answered with the one stored signature, within the node's 500 ms.

use super::counters::Counters;
use super::farms::FarmHandle;
use super::signatures::{SignatureError, SignatureStore};
use bus::{SharedBus, Subscription};
use control::messages::{Control, RewardSignature, RewardSigningRequest, subjects};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// The keys of this plot-client, each with its store.
pub struct Signing {
    bus: SharedBus,
    stores: HashMap<[u8; 32], Arc<Mutex<SignatureStore>>>,
    counters: Arc<Counters>,
}

impl Signing {
    /// Opens the store of every farm. A farm whose store cannot be opened signs nothing, and the log says so.
    pub fn open(bus: SharedBus, farms: &[FarmHandle], counters: Arc<Counters>) -> Self {
        let mut stores = HashMap::new();
        for farm in farms {
            let public_key = farm.identity().public_key();
            if stores.contains_key(&public_key) {
                let dir = farm.dir().display();
                tracing::warn!(%dir, "this farm has the identity of another one, which signs for both");
                continue;
            }
            match SignatureStore::open(farm.dir(), farm.identity().clone()) {
                Ok(store) => drop(stores.insert(public_key, Arc::new(Mutex::new(store)))),
                Err(error) => tracing::error!("{error}"),
            }
        }
        Self { bus, stores, counters }
    }

    /// Answers requests until the bus is closed. Each key signs in order; a slow disk holds up only its own.
    pub async fn run(self, mut requests: Subscription) {
        let mut answering = JoinSet::new();
        while let Some(message) = requests.next().await {
            while answering.try_join_next().is_some() {}
            let request = match RewardSigningRequest::from_bytes(&message.payload) {
                Ok(request) => request,
                Err(error) => {
                    tracing::warn!("a signing request that cannot be read: {error}");
                    continue;
                }
            };
            if let Some(store) = self.stores.get(&request.public_key) {
                answering.spawn(answer(self.bus.clone(), store.clone(), request, self.counters.clone()));
            }
        }
    }
}

async fn answer(
    bus: SharedBus,
    store: Arc<Mutex<SignatureStore>>,
    request: RewardSigningRequest,
    counters: Arc<Counters>,
) {
    let RewardSigningRequest { hash, public_key, .. } = request;
    let sign = move || -> Result<[u8; 64], SignatureError> {
        store.lock().unwrap_or_else(PoisonError::into_inner).sign(&hash)
    };
    let signature = match tokio::task::spawn_blocking(sign).await {
        Ok(Ok(signature)) => signature,
        Ok(Err(error)) => return tracing::error!("{error}"),
        Err(error) => return tracing::error!("signing ended early: {error}"),
    };
    let answer = RewardSignature { hash, public_key, signature };
    let bytes = answer.to_bytes().expect("a signature is far below the limit of a message");
    match bus.publish(subjects::REWARD_SIGNATURE, bytes).await {
        Ok(()) => counters.signed.increment(),
        Err(error) => tracing::error!("a reward signature could not be sent: {error}"),
    }
}
