//! Sees that each farm is served by this plot-client alone: tells of its farms, listens to others, and stops a farm that is another's.
//!
//! ```text
//!   bus: FarmHeld ─▶ Holder ─▶ FarmHeld ─▶ bus          core messages: it works without JetStream
//!                       ├─ Begin ─▶ may farm and sign
//!                       └─ Stop ──▶ no slot, signature or sector any more; its owner is told who has it
//! ```
//! Farms are taken on and let go of while it runs, by [`Holds`].
//!
//! Owns: what farms may do at all. Never: the decision ([`control::holder`]).

use super::signing::Windows;
use bus::{BusError, Message, SharedBus};
use control::holder::{Action, Event, Holder, Stopped};
use control::ids::InstanceId;
use control::messages::{Control, FarmHeld, subjects};
use futures::StreamExt;
use futures::stream::{AbortHandle, BoxStream, SelectAll, abortable};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// How often it is looked whether the bus is connected.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Which farms may farm and sign; clones are handles to the same.
#[derive(Clone)]
pub struct Held(watch::Receiver<BTreeSet<[u8; 32]>>);

impl Held {
    /// Whether the farm of this key may farm and sign now: not before its claim is over, nor when it was found elsewhere.
    pub fn may_farm(&self, public_key: &[u8; 32]) -> bool {
        self.0.borrow().contains(public_key)
    }

    /// Ready when that has changed for a farm; an error when it will not any more.
    pub async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.0.changed().await
    }

    /// As `keys` says.
    #[cfg(test)]
    pub fn told_by(keys: watch::Receiver<BTreeSet<[u8; 32]>>) -> Self {
        Self(keys)
    }
}

/// Whoever has a farm that may be stopped.
pub trait Stop: Send + Sync + 'static {
    /// Nothing may be done with it any more: another plot-client has it.
    fn stop(&self, why: &Stopped);
}

/// What is asked of [`Holding`].
enum Order {
    Open { public_key: [u8; 32], path: String, farm: Arc<dyn Stop>, words: bus::Subscription },
    Close { public_key: [u8; 32], done: oneshot::Sender<()> },
}

/// Takes farms on and lets go of them; clones lead to the same [`Holding`].
#[derive(Clone)]
pub struct Holds {
    bus: SharedBus,
    orders: mpsc::UnboundedSender<Order>,
}

impl Holds {
    /// Takes on a farm, whose key no other farm here has. It is claimed as soon as [`Holding::run`] runs.
    pub async fn open(
        &self,
        public_key: [u8; 32],
        path: String,
        farm: Arc<dyn Stop>,
    ) -> Result<(), BusError> {
        let words = self.bus.subscribe(&subjects::farm(&public_key)).await?;
        // Gone only when the plot-client ends.
        let _ = self.orders.send(Order::Open { public_key, path, farm, words });
        Ok(())
    }

    /// Lets go of a farm: from the end of the call on this plot-client does not answer for it.
    pub async fn close(&self, public_key: [u8; 32]) {
        let (done, is_done) = oneshot::channel();
        let _ = self.orders.send(Order::Close { public_key, done });
        let _ = is_done.await;
    }
}

/// Holds the farms of this process.
pub struct Holding {
    bus: SharedBus,
    holder: Holder,
    started_at: Instant,
    orders: mpsc::UnboundedReceiver<Order>,
    farms: BTreeMap<[u8; 32], Taken>,
    heard: SelectAll<BoxStream<'static, Message>>,
    windows: Windows,
    held: watch::Sender<BTreeSet<[u8; 32]>>,
}

/// A farm that was taken on.
struct Taken {
    farm: Arc<dyn Stop>,
    words: AbortHandle,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.words.abort();
    }
}

impl Holding {
    /// Of `client` on `host`, which holds nothing yet.
    pub fn new(bus: SharedBus, client: InstanceId, host: &str, windows: Windows) -> (Self, Holds, Held) {
        let (held, is_held) = watch::channel(BTreeSet::new());
        let (order, orders) = mpsc::unbounded_channel();
        let holding = Self {
            bus: bus.clone(),
            holder: Holder::new(client, host),
            started_at: Instant::now(),
            orders,
            farms: BTreeMap::new(),
            heard: SelectAll::new(),
            windows,
            held,
        };
        (holding, Holds { bus, orders: order }, Held(is_held))
    }

    /// Holds them until the bus is closed.
    pub async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut was_connected = false;
        loop {
            let is_connected = self.bus.is_connected();
            let event = if is_connected == was_connected {
                let wake_at = self.holder.wake_at().map(|at| self.started_at + at);
                tokio::select! {
                    Some(order) = self.orders.recv() => self.obey(order),
                    word = self.heard.next(), if !self.heard.is_empty() => match word {
                        Some(word) => read(&word),
                        // Those of farms that were let go of have ended too.
                        None if self.farms.is_empty() => None,
                        None => return,
                    },
                    () = sleep_until(wake_at) => Some(Event::Tick),
                    _ = look.tick() => None,
                }
            } else {
                was_connected = is_connected;
                Some(if is_connected { Event::Connected } else { Event::Disconnected })
            };
            for action in event.map(|event| self.on(event)).unwrap_or_default() {
                self.act(action).await;
            }
        }
    }

    fn obey(&mut self, order: Order) -> Option<Event> {
        match order {
            Order::Open { public_key, path, farm, words } => {
                let words = futures::stream::unfold(words, |mut words| async {
                    let word = words.next().await?;
                    Some((word, words))
                });
                let (stream, words) = abortable(words);
                self.heard.push(stream.boxed());
                self.farms.insert(public_key, Taken { farm, words });
                Some(Event::Opened { public_key, path })
            }
            Order::Close { public_key, done } => {
                self.let_go(&public_key);
                let _ = done.send(());
                Some(Event::Closed { public_key })
            }
        }
    }

    /// Nothing is done with the farm any more, and nothing heard of it.
    fn let_go(&mut self, public_key: &[u8; 32]) -> Option<Arc<dyn Stop>> {
        self.held.send_if_modified(|held| held.remove(public_key));
        self.windows.lose(*public_key);
        self.farms.remove(public_key).map(|taken| taken.farm.clone())
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.holder.on(event, self.started_at.elapsed())
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Tell(held) => tell(&self.bus, &held).await,
            Action::Begin { public_key } => {
                self.windows.serve(public_key);
                self.held.send_if_modified(|held| held.insert(public_key));
            }
            Action::Stop(stopped) => {
                if let Some(farm) = self.let_go(&stopped.public_key) {
                    farm.stop(&stopped);
                }
            }
        }
    }
}

async fn tell(bus: &SharedBus, held: &FarmHeld) {
    let told = match held.to_bytes() {
        Ok(bytes) => bus.publish(&subjects::farm(&held.public_key), bytes).await,
        Err(error) => return tracing::error!("{error}"),
    };
    if let Err(error) = told {
        tracing::debug!("a farm could not be told of: {error}");
    }
}

fn read(word: &Message) -> Option<Event> {
    match FarmHeld::from_bytes(&word.payload) {
        // One that speaks of another key is not believed: only this one's subject was asked for.
        Ok(held) if subjects::farm(&held.public_key) == word.subject => Some(Event::Heard(held)),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!("a word about a farm that cannot be read: {error}");
            None
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "holder_tests.rs"]
mod tests;
