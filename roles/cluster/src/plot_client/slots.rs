//! Slots as they are heard: the runner of [`Listener`], which begins the work of each and hands what it finds to [`Solutions`].
//!
//! ```text
//!   SlotInfo ─▶ Listener ─▶ work, a task each ─▶ Found ─▶ Solutions
//!      └──────────────────── who announced what ─────────▶┘
//! ```
//! Nothing in this loop waits for a disk, a proof or a controller. Told to end, it takes no slot any more, and ends when those it has are
//! worked on, their solutions have an outcome, and no node can want a signature for them.

use super::counters::Counters;
use super::solutions::{Found, Solutions};
use crate::shutdown::Shutdown;
use bus::Subscription;
use control::messages::{ClusterInfo, Control, SlotInfo};
use control::signing::QUIET_AFTER;
use control::slots::{Listener, ListenerAction, ListenerEvent, Refusal};
use control::solutions::ANSWER_PATIENCE;
use futures::FutureExt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// Solutions that may wait for the loop; it takes them at once.
pub const FOUND_CAPACITY: usize = 256;
/// Time between two lines in the log about the same kind of trouble of a slot.
const QUIET: Duration = Duration::from_secs(60);

/// Without a slot for so long, something is wrong: there is one a second.
const SILENCE: Duration = Duration::from_secs(15);

/// How often one that was told to end looks whether it may.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the loop over slots needs.
pub struct Following {
    /// Where solutions go.
    pub solutions: Solutions,
    /// The cluster's settings.
    pub info: watch::Receiver<ClusterInfo>,
    /// What became of everything.
    pub counters: Arc<Counters>,
    /// The origin of this plot-client's clock.
    pub started: Instant,
    /// When it is to end.
    pub shutdown: Shutdown,
}

fn farming_timeout(info: &ClusterInfo) -> Duration {
    Duration::from_millis(info.farming_timeout_ms.into())
}

impl Following {
    /// Follows the slots until the bus is closed, or it is to end and has nothing left to do. `work` works on one until its deadline and says what was wrong, if anything was;
    /// what it finds comes by `found`.
    pub async fn run<F>(
        mut self,
        mut slots: Subscription,
        mut found: mpsc::Receiver<Found>,
        work: impl Fn(SlotInfo, Instant) -> F,
    ) where
        F: Future<Output = Option<String>> + Send + 'static,
    {
        let mut listener = Listener::new(farming_timeout(&self.info.borrow_and_update()));
        let (mut working, mut trouble) = (JoinSet::new(), Trouble::default());
        let (mut silence, shutdown) = (Silence::default(), self.shutdown.clone());
        let (mut told_to_end, mut ends_by) = (pin!(shutdown.requested().fuse()), None);
        while ends_by.is_none_or(|by| !self.may_end(by, working.len() + found.len())) {
            let wake_at = listener.wake_at().map(|at| self.started + at).filter(|_| ends_by.is_none());
            let event = tokio::select! {
                message = slots.next() => match message.map(|message| SlotInfo::from_bytes(&message.payload)) {
                    None => return,
                    Some(Ok(info)) => {
                        silence.broken();
                        self.solutions.heard(info.clone());
                        ListenerEvent::Heard(info)
                    }
                    Some(Err(error)) => {
                        tracing::warn!("a slot that cannot be read: {error}");
                        continue;
                    }
                },
                Some(found) = found.recv() => {
                    self.solutions.found(found);
                    continue;
                }
                Some(done) = working.join_next() => {
                    trouble.tell(done);
                    continue;
                }
                Ok(()) = self.info.changed() => {
                    ListenerEvent::FarmingTimeout(farming_timeout(&self.info.borrow_and_update()))
                }
                () = sleep_until(wake_at.unwrap_or(self.started)), if wake_at.is_some() => ListenerEvent::Tick,
                () = self.solutions.go_on() => continue,
                () = silence.lasts() => continue,
                () = &mut told_to_end => {
                    ends_by = Some(self.begin_end(working.len() + found.len()));
                    continue;
                }
                () = sleep(LOOK_EVERY), if ends_by.is_some() => continue,
            };
            if ends_by.is_some() {
                continue;
            }
            for action in listener.on(event, self.started.elapsed()) {
                match action {
                    ListenerAction::Work { slot, deadline } => {
                        self.counters.slots.increment();
                        tracing::debug!(slot = slot.slot, "worked on");
                        working.spawn(work(slot, self.started + deadline));
                    }
                    ListenerAction::Refuse { slot, reason } => trouble.note(&self.refused(slot, reason)),
                }
            }
        }
    }

    /// Says what is waited for before the end, if anything is; when the end comes at the latest.
    fn begin_end(&self, working: usize) -> Instant {
        let limit = farming_timeout(&self.info.borrow()) + ANSWER_PATIENCE + QUIET_AFTER;
        let solutions = self.solutions.underway();
        if working > 0 || !self.solutions.is_quiet() {
            tracing::info!(
                slots = working,
                solutions,
                "takes no slot any more; ends when those under way are done and signatures for what was sent are given, \
                 in {} s at the latest",
                limit.as_secs()
            );
        }
        Instant::now() + limit
    }

    /// Whether nothing is left to do for one that is to end, or it was given time enough.
    fn may_end(&self, by: Instant, working: usize) -> bool {
        let is_late = Instant::now() >= by;
        if is_late {
            tracing::warn!("ends without having done all: a disk or a prover does not answer");
        }
        is_late || (working == 0 && self.solutions.is_quiet())
    }

    fn refused(&self, slot: u64, reason: Refusal) -> String {
        self.counters.refused_slots.increment();
        match reason {
            Refusal::Old => format!("slot {slot} came when four newer ones were known: not worked on"),
            Refusal::Late { age } => {
                let age_ms = age.as_millis();
                format!(
                    "slot {slot} came {age_ms} ms after it began, too late to be worked on: is the bus slow?"
                )
            }
        }
    }
}

/// Tells once that no slot comes, and once that they come again.
struct Silence {
    last: Instant,
    is_told: bool,
}

impl Default for Silence {
    fn default() -> Self {
        Self { last: Instant::now(), is_told: false }
    }
}

impl Silence {
    /// Ready once in each silence, when it is too long. Can be dropped and called again.
    async fn lasts(&mut self) {
        if self.is_told {
            return std::future::pending().await;
        }
        sleep_until(self.last + SILENCE).await;
        self.is_told = true;
        tracing::warn!(
            "no slot for {} s: no controller of the cluster announces any; is one running, and has it its node? \
             Nothing is farmed meanwhile",
            SILENCE.as_secs()
        );
    }

    /// A slot came. How long there was none, if that was too long.
    fn broken(&mut self) -> Option<Duration> {
        let silent = self.last.elapsed();
        self.last = Instant::now();
        if !std::mem::take(&mut self.is_told) {
            return None;
        }
        tracing::info!("slots are back after {} s", silent.as_secs());
        Some(silent)
    }
}

/// Tells about trouble with slots, but not each second anew.
#[derive(Default)]
struct Trouble {
    told_at: Option<Instant>,
    untold: u64,
}

impl Trouble {
    fn tell(&mut self, slot: Result<Option<String>, JoinError>) {
        match slot {
            Ok(None) => {}
            Ok(Some(trouble)) => self.note(&trouble),
            Err(error) => self.note(&format!("the work on a slot ended early: {error}")),
        }
    }

    fn note(&mut self, trouble: &str) {
        if self.told_at.is_some_and(|told_at| told_at.elapsed() < QUIET) {
            self.untold += 1;
            return;
        }
        tracing::warn!(slots_with_trouble_before = self.untold, "{trouble}");
        *self = Self { told_at: Some(Instant::now()), untold: 0 };
    }
}

#[cfg(test)]
mod tests;
