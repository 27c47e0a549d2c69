//! Sees that each farm is served by this plot-client alone: tells of its farms, listens to others, and stops a farm that is another's.
//!
//! ```text
//!   bus: FarmHeld ─▶ Holder ─▶ FarmHeld ─▶ bus          core messages: it works without JetStream
//!                       ├─ Begin ─▶ may farm and sign
//!                       └─ Stop ──▶ no slot, signature or sector any more, a line that names both hosts
//! ```
//! Owns: what farms may do at all. Never: the decision ([`control::holder`]).

use super::farms::FarmHandle;
use super::signing::Windows;
use bus::{BusError, Message, SharedBus};
use control::holder::{Action, Event, Holder, Stopped};
use control::ids::InstanceId;
use control::messages::{Control, FarmHeld, subjects};
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
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

/// A farm that may be stopped; a seam for tests.
pub trait Stop: Send + Sync + 'static {
    /// Nothing may be done with it any more.
    fn stop(&self);
}

impl Stop for FarmHandle {
    fn stop(&self) {
        FarmHandle::stop(self);
    }
}

/// Holds the farms of this process.
pub struct Holding {
    bus: SharedBus,
    holder: Holder,
    started_at: Instant,
    farms: BTreeMap<[u8; 32], Arc<dyn Stop>>,
    heard: SelectAll<BoxStream<'static, Message>>,
    windows: Windows,
    held: watch::Sender<BTreeSet<[u8; 32]>>,
}

impl Holding {
    /// Of `client` on `host`, which holds nothing yet.
    pub fn new(bus: SharedBus, client: InstanceId, host: &str, windows: Windows) -> (Self, Held) {
        let (held, is_held) = watch::channel(BTreeSet::new());
        let holding = Self {
            bus,
            holder: Holder::new(client, host),
            started_at: Instant::now(),
            farms: BTreeMap::new(),
            heard: SelectAll::new(),
            windows,
            held,
        };
        (holding, Held(is_held))
    }

    /// Takes on a farm, whose key no other farm here has. It is claimed when [`Holding::run`] runs.
    pub async fn open(
        &mut self,
        public_key: [u8; 32],
        path: String,
        farm: Arc<dyn Stop>,
    ) -> Result<(), BusError> {
        let words = self.bus.subscribe(&subjects::farm(&public_key)).await?;
        let words = futures::stream::unfold(words, |mut words| async {
            let word = words.next().await?;
            Some((word, words))
        });
        self.heard.push(words.boxed());
        self.farms.insert(public_key, farm);
        // Not connected yet, as far as the holder knows, so this says nothing.
        self.holder.on(Event::Opened { public_key, path }, self.started_at.elapsed());
        Ok(())
    }

    /// Holds them until the last one is stopped, or the bus is closed.
    pub async fn run(mut self) -> Result<(), Stopped> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut was_connected = false;
        loop {
            let is_connected = self.bus.is_connected();
            let event = if is_connected == was_connected {
                let wake_at = self.holder.wake_at().map(|at| self.started_at + at);
                tokio::select! {
                    word = self.heard.next() => match word {
                        Some(word) => read(&word),
                        None => return Ok(()),
                    },
                    () = sleep_until(wake_at) => Some(Event::Tick),
                    _ = look.tick() => None,
                }
            } else {
                was_connected = is_connected;
                Some(if is_connected { Event::Connected } else { Event::Disconnected })
            };
            for action in event.map(|event| self.on(event)).unwrap_or_default() {
                self.act(action).await?;
            }
        }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.holder.on(event, self.started_at.elapsed())
    }

    async fn act(&mut self, action: Action) -> Result<(), Stopped> {
        match action {
            Action::Tell(held) => tell(&self.bus, &held).await,
            Action::Begin { public_key } => {
                self.windows.serve(public_key);
                self.held.send_if_modified(|held| held.insert(public_key));
            }
            Action::Stop(stopped) => {
                self.stop(&stopped);
                if self.farms.is_empty() {
                    return Err(stopped);
                }
            }
        }
        Ok(())
    }

    fn stop(&mut self, stopped: &Stopped) {
        self.held.send_if_modified(|held| held.remove(&stopped.public_key));
        if let Some(farm) = self.farms.remove(&stopped.public_key) {
            farm.stop();
        }
        tracing::error!("{stopped}");
        self.windows.lose(stopped.public_key);
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
