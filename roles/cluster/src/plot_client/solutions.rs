//! Solutions to the controllers: the runner of [`Finder`].
//!
//! ```text
//!   Found ─▶ Finder ─▶ farm's memory ─▶ request to one controller ─▶ its answer, or silence ─▶ Finder ─▶ the next one, or one counted outcome
//! ```
//! Requests run beside each other; nothing here waits for one.

use super::counters::Counters;
use bus::{BusError, SharedBus};
use consensus::solution::Solution;
use control::ids::{FarmId, InstanceId};
use control::messages::{Control, SlotInfo, SolutionAnswer, SolutionFound, bounded_text, subjects};
use control::slots::SlotKey;
use control::solutions::{
    ANSWER_PATIENCE, Finder, FinderAction, FinderEvent, Handover, Outcome, Proved, SolutionId, SolutionKey,
};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Hears to whom solutions are handed: reward signatures are given to those controllers for those keys.
pub trait Handovers: Send + Sync {
    /// A solution of this key is about to leave for this controller.
    fn handed_over(&self, public_key: [u8; 32], controller: InstanceId);

    /// That controller's node certainly has not got it, or will not have it.
    fn not_taken(&self, public_key: [u8; 32], controller: InstanceId);

    /// Whether no signature is being made, nor expected.
    fn is_quiet(&self) -> bool;
}

/// Whether this plot-client is the one that farms with a key, asked before each solution leaves.
pub type MayFarm = Arc<dyn Fn(&[u8; 32]) -> bool + Send + Sync>;

/// What outlives this run of the plot-client.
pub struct Memory {
    /// What earlier runs may have sent, of each farm before it is audited.
    pub earlier: mpsc::UnboundedReceiver<SolutionKey>,
    /// Writes what is about to leave, within a fraction of a second; gives whether the next run will know it.
    pub remember: Remember,
}

/// Writes what is about to leave.
pub type Remember = Arc<dyn Fn(Handover) -> BoxFuture<'static, bool> + Send + Sync>;

/// A solution that a farm has found.
pub struct Found {
    /// What it answers.
    pub slot: SlotKey,
    /// Which farm.
    pub farm: FarmId,
    /// The solution.
    pub solution: Solution,
    /// Distance to the challenge.
    pub distance: u64,
    /// When it is of no use any more.
    pub deadline: Instant,
}

/// All solutions under way.
pub struct Solutions {
    bus: SharedBus,
    handovers: Arc<dyn Handovers>,
    may_farm: MayFarm,
    counters: Arc<Counters>,
    finder: Finder,
    earlier: mpsc::UnboundedReceiver<SolutionKey>,
    remember: Remember,
    /// What is being written, and whether it was.
    remembering: FuturesUnordered<BoxFuture<'static, (SolutionId, bool)>>,
    /// The clock of the machine.
    started: Instant,
    /// Key and controller of each request.
    asked: BTreeMap<SolutionId, ([u8; 32], InstanceId)>,
    asks: FuturesUnordered<BoxFuture<'static, (SolutionId, Reply)>>,
}

/// What became of a request.
enum Reply {
    Answer(SolutionAnswer),
    NobodyThere,
    None(String),
}

impl Solutions {
    /// None yet, of plot-client `me`. `started` is the origin of its clock.
    pub fn new(
        me: InstanceId,
        bus: SharedBus,
        handovers: Arc<dyn Handovers>,
        may_farm: MayFarm,
        memory: Memory,
        counters: Arc<Counters>,
        started: Instant,
    ) -> Self {
        let Memory { earlier, remember } = memory;
        let (finder, asked) = (Finder::new(me, BTreeSet::new()), BTreeMap::new());
        let (remembering, asks) = Default::default();
        Self {
            bus,
            handovers,
            may_farm,
            counters,
            finder,
            earlier,
            remember,
            remembering,
            started,
            asked,
            asks,
        }
    }

    /// A controller announced a slot.
    pub fn heard(&mut self, info: SlotInfo) {
        self.on(FinderEvent::Heard(info));
    }

    /// A farm found a solution.
    pub fn found(&mut self, found: Found) {
        while let Ok(sent) = self.earlier.try_recv() {
            self.on(FinderEvent::Recalled(sent));
        }
        let Found { slot, farm, solution, distance, deadline } = found;
        let deadline = deadline.saturating_duration_since(self.started);
        self.counters.proved.increment();
        self.on(FinderEvent::Proved(Box::new(Proved { slot, farm, solution, distance, deadline })));
    }

    /// Goes on with what is under way; never ends. Can be dropped and called again without loss.
    pub async fn go_on(&mut self) {
        loop {
            let wake_at = self.finder.wake_at().map(|at| self.started + at);
            tokio::select! {
                Some((id, reply)) = self.asks.next() => self.replied(id, reply),
                Some((id, is_written)) = self.remembering.next() => {
                    if !is_written {
                        self.counters.unremembered.increment();
                    }
                    self.on(FinderEvent::Remembered { id });
                }
                () = async {
                    match wake_at {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                } => self.on(FinderEvent::Tick),
            }
        }
    }

    /// Solutions that have no outcome yet.
    pub fn underway(&self) -> usize {
        self.finder.len()
    }

    /// Whether a plot-client that finds no more may end: each solution has its outcome, and what they lead to is signed.
    pub fn is_quiet(&self) -> bool {
        self.finder.is_empty() && self.handovers.is_quiet()
    }

    fn replied(&mut self, id: SolutionId, reply: Reply) {
        let asked = self.asked.remove(&id);
        let is_not_taken = match &reply {
            Reply::Answer(answer) => answer.is_not_taken(),
            Reply::NobodyThere => true,
            Reply::None(_) => false,
        };
        if let Some((public_key, controller)) = asked.filter(|_| is_not_taken) {
            self.handovers.not_taken(public_key, controller);
        }
        self.on(match reply {
            Reply::Answer(answer) => FinderEvent::Answered { id, answer },
            Reply::NobodyThere => FinderEvent::NobodyThere { id },
            Reply::None(reason) => FinderEvent::Unanswered { id, reason },
        });
    }

    fn on(&mut self, event: FinderEvent) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = self.started.elapsed();
            for action in self.finder.on(event, now) {
                match action {
                    FinderAction::Remember { id, handover } => {
                        let written = (self.remember)(handover);
                        self.remembering.push(async move { (id, written.await) }.boxed());
                    }
                    FinderAction::Ask { id, controller, public_key, request } => {
                        let held_back = self.ask(id, controller, public_key, &request);
                        events.extend(held_back.map(|reason| FinderEvent::HeldBack { id, reason }));
                    }
                    FinderAction::Ended { slot, farm, controller, outcome } => {
                        self.conclude(slot, farm, controller, &outcome);
                    }
                }
            }
        }
    }

    /// Lets a request leave, or says why that must not be, now.
    fn ask(
        &mut self,
        id: SolutionId,
        controller: InstanceId,
        public_key: [u8; 32],
        request: &SolutionFound,
    ) -> Option<String> {
        if !self.bus.is_connected() {
            // It would leave when the bus is back, and nobody knows when that is.
            return Some("the bus is away".to_owned());
        }
        if !(self.may_farm)(&public_key) {
            return Some("it is not certain that no other plot-client has this farm".to_owned());
        }
        self.handovers.handed_over(public_key, controller);
        self.asked.insert(id, (public_key, controller));
        let bytes = request.to_bytes().expect("a solution is far below the limit of a message");
        let bus = self.bus.clone();
        let ask = async move {
            let subject = subjects::solution(controller);
            let reply = match bus.request(&subject, bytes, ANSWER_PATIENCE).await {
                Ok(bytes) => match SolutionAnswer::from_bytes(&bytes) {
                    Ok(answer) => Reply::Answer(answer),
                    Err(error) => Reply::None(format!("an answer that cannot be read: {error}")),
                },
                Err(BusError::NoResponders { .. }) => Reply::NobodyThere,
                Err(error) => Reply::None(bounded_text(&error.to_string())),
            };
            (id, reply)
        };
        self.asks.push(ask.boxed());
        None
    }

    fn conclude(&self, slot: u64, farm: FarmId, controller: Option<InstanceId>, outcome: &Outcome) {
        let counters = &self.counters;
        let controller = controller.map(tracing::field::display);
        let (counter, what, reason) = match outcome {
            Outcome::Queued => {
                counters.queued.increment();
                return tracing::info!(slot, %farm, controller, "solution queued");
            }
            // The first of them is told about.
            Outcome::Known => return counters.known.increment(),
            Outcome::Refused { reason } => (&counters.refused, "was refused", reason.as_str()),
            Outcome::NotSent { reason } => (&counters.not_sent, "was not sent", reason.as_str()),
            Outcome::Unknown { reason } => (&counters.unknown, "may have been sent or not", reason.as_str()),
            Outcome::Expired => {
                (&counters.proved_late, "was not sent", "its slot was over when it was proved")
            }
        };
        counter.increment();
        tracing::warn!(slot, %farm, controller, "a solution {what}: {reason}");
    }
}

impl Drop for Solutions {
    /// What has no outcome yet gets one: the farm ends.
    fn drop(&mut self) {
        self.on(FinderEvent::Shutdown);
    }
}
