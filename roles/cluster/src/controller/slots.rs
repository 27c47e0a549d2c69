//! Slots to the farms, their solutions to the node: the runner of [`Announcer`] and [`Desk`].
//!
//! ```text
//!   node ─ slots feed ─▶ Announcer ─▶ bus                        Desk ─▶ the connection of that feed, and no other
//!                     └─▶ Desk         bus ─ solution.<id> ─▶ Desk ─▶ reply
//! ```
//! Nothing in this loop waits for a node or a finder: what takes its time runs beside it.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use consensus::solution::Solution;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::solutions::{Counts, Outcome, answer_of};
use crate::shutdown::Shutdown;
use bus::{Bus, BusError, Message};
use control::ids::InstanceId;
use control::messages::{Control, SlotInfo, SolutionAnswer, SolutionFound, bounded_text, subjects};
use control::slots::{Announcer, AnnouncerAction, AnnouncerEvent, NodeSlot, SlotKey};
use control::solutions::{Ask, Desk, DeskAction, DeskEvent, Submission};
use node::client::{Connection, FeedEvent, NodeClient};

/// A slot that the bus has not taken by then is not announced.
const ANNOUNCE_PATIENCE: Duration = Duration::from_millis(250);
/// How often one that is to end looks whether signatures are still expected.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Time for the last replies to leave.
const REPLY_PATIENCE: Duration = Duration::from_millis(500);

/// Hears for which keys signatures may be wanted.
pub trait HandedToNode: Send + Sync {
    /// A solution of this key was queued at the node, or may have been.
    fn handed_to_node(&self, public_key: [u8; 32]);

    /// Whether no signature is expected any more for what was handed to the node.
    fn is_quiet(&self) -> bool;
}

/// What slots and solutions pass between.
pub struct Between<'a> {
    /// This controller.
    pub me: InstanceId,
    /// Its node.
    pub node: &'a NodeClient,
    /// The cluster.
    pub bus: &'a dyn Bus,
    /// Where everything is counted.
    pub counts: &'a Counts,
    /// Who hears of the solutions that the node got.
    pub handed: &'a dyn HandedToNode,
}

/// Announces slots and sends solutions until the bus is closed, or `shutdown` and a while more: as long as the node may want
/// signatures for what it was given last.
pub async fn pass(between: &Between<'_>, shutdown: &Shutdown) -> Result<(), BusError> {
    let mut asked = between.bus.subscribe(&subjects::solution(between.me)).await?;
    let mut slots = pin!(between.node.slots().into_stream());
    let mut told_to_end = pin!(shutdown.requested().fuse());
    let mut passing = Passing::new(between);
    while !passing.is_over && !passing.is_idle() {
        let next_tick = passing.next_tick();
        tokio::select! {
            Some((event, connection)) = slots.next() => passing.on_node(event, connection).await,
            message = asked.next() => passing.on_asked(message.ok_or(BusError::Closed)?),
            Some((submission, answer)) = passing.submissions.next() => {
                passing.on_desk(DeskEvent::NodeAnswered { submission, answer });
            }
            Some(()) = passing.replies.next() => {}
            () = next_tick => passing.on_desk(DeskEvent::Tick),
            () = &mut told_to_end => passing.on_shutdown(),
        }
    }
    let replies = passing.replies.collect::<()>();
    // Whoever gets none takes the outcome for unknown.
    let _ = timeout(REPLY_PATIENCE, replies).await;
    Ok(())
}

/// The machines, and what of their actions is under way.
struct Passing<'a> {
    between: &'a Between<'a>,
    /// The clock of all announcements.
    started: Instant,
    announcer: Announcer,
    desk: Desk,
    /// Of the present subscription.
    connection: Option<Connection>,
    next_ask: u64,
    /// Where each open request is answered.
    reply_to: BTreeMap<Ask, String>,
    submissions: FuturesUnordered<BoxFuture<'a, (Submission, SolutionAnswer)>>,
    replies: FuturesUnordered<BoxFuture<'a, ()>>,
    /// Why slots are withheld, if they are; told when it changes.
    withheld: Option<&'static str>,
    is_over: bool,
    /// Told to end, and takes nothing any more.
    is_ending: bool,
}

impl<'a> Passing<'a> {
    fn new(between: &'a Between<'a>) -> Self {
        Self {
            between,
            started: Instant::now(),
            announcer: Announcer::new(between.me),
            desk: Desk::new(),
            connection: None,
            next_ask: 0,
            reply_to: BTreeMap::new(),
            submissions: FuturesUnordered::new(),
            replies: FuturesUnordered::new(),
            withheld: None,
            is_over: false,
            is_ending: false,
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether nothing is left to be done by one that is to end.
    fn is_idle(&self) -> bool {
        self.is_ending && self.submissions.is_empty() && self.between.handed.is_quiet()
    }

    /// Ready when the desk wants a tick, or it is to be seen whether the end has come.
    fn next_tick(&self) -> impl Future<Output = ()> + use<> {
        let look_at = self.is_ending.then(|| Instant::now() + LOOK_EVERY);
        let wake_at = self.desk.wake_at().map(|at| self.started + at).into_iter().chain(look_at).min();
        async move {
            match wake_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    async fn on_node(&mut self, event: FeedEvent<node::SlotInfo>, connection: Option<Connection>) {
        self.connection = connection;
        match event {
            FeedEvent::Began => {
                self.on_desk(DeskEvent::SubscriptionBegan);
                self.on_announcer(AnnouncerEvent::SubscriptionBegan).await;
            }
            FeedEvent::Lost => {
                self.on_desk(DeskEvent::SubscriptionLost);
                self.on_announcer(AnnouncerEvent::SubscriptionLost).await;
            }
            FeedEvent::Item(slot) => {
                let (number, global_challenge) = (slot.slot_number, slot.global_challenge);
                self.on_desk(DeskEvent::Announced(SlotKey { slot: number, global_challenge }));
                let slot = NodeSlot {
                    slot: number,
                    global_challenge,
                    solution_range: slot.solution_range,
                    voting_solution_range: slot.voting_solution_range,
                };
                let is_bus_connected = self.between.bus.is_connected();
                self.on_announcer(AnnouncerEvent::Slot { slot, is_bus_connected }).await;
            }
        }
    }

    async fn on_announcer(&mut self, event: AnnouncerEvent) {
        for action in self.announcer.on(event, self.now()) {
            match action {
                AnnouncerAction::Announce(info) => self.announce(&info).await,
                AnnouncerAction::Withhold { slot, reason } => self.withhold(slot, reason),
            }
        }
    }

    async fn announce(&mut self, info: &SlotInfo) {
        let bytes = info.to_bytes().expect("a slot is far below the limit of a message");
        let published = timeout(ANNOUNCE_PATIENCE, self.between.bus.publish(subjects::SLOT, bytes)).await;
        match published {
            Ok(Ok(())) => {
                self.between.counts.add_announced();
                if self.withheld.take().is_some() {
                    tracing::info!(slot = info.slot, "slots are announced again");
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(slot = info.slot, "{error}");
                self.withhold(info.slot, "the bus does not take them");
            }
            Err(_) => self.withhold(info.slot, "the bus does not take them in time"),
        }
    }

    fn withhold(&mut self, slot: u64, reason: &'static str) {
        self.between.counts.add_withheld();
        if self.withheld.replace(reason) != Some(reason) {
            tracing::warn!(slot, "slots are not announced from this one on: {reason}");
        }
    }

    fn on_asked(&mut self, message: Message) {
        let Some(reply_to) = message.reply_to else {
            return tracing::warn!("a solution without a way to answer it: not sent");
        };
        let found = match SolutionFound::from_bytes(&message.payload) {
            Ok(found) => Box::new(found),
            Err(error) => {
                tracing::warn!("a solution that cannot be read: {error}");
                let reason = bounded_text(&format!("this controller cannot read it: {error}"));
                return self.reply(reply_to, &SolutionAnswer::NotSent { reason });
            }
        };
        let ask = Ask(self.next_ask);
        self.next_ask += 1;
        self.reply_to.insert(ask, reply_to);
        self.on_desk(DeskEvent::Asked { ask, found });
    }

    fn on_shutdown(&mut self) {
        tracing::info!("no more solutions are taken; staying for the signatures of those that were");
        let announced = self.announcer.on(AnnouncerEvent::Shutdown, self.now());
        debug_assert!(announced.is_empty(), "there is no slot to announce");
        self.is_ending = true;
        self.on_desk(DeskEvent::Shutdown);
    }

    fn on_desk(&mut self, event: DeskEvent) {
        for action in self.desk.on(event, self.now()) {
            match action {
                DeskAction::Submit { submission, slot, solution } => self.submit(submission, slot, *solution),
                DeskAction::HandedToNode { public_key } => self.between.handed.handed_to_node(public_key),
                DeskAction::Answer { ask, slot, answer, is_repeat } => {
                    self.conclude(slot, &answer, is_repeat);
                    if let Some(reply_to) = self.reply_to.remove(&ask) {
                        self.reply(reply_to, &answer);
                    }
                }
                DeskAction::End => self.is_over = true,
            }
        }
    }

    fn submit(&mut self, submission: Submission, slot: u64, solution: Solution) {
        let connection = self.connection.clone();
        self.submissions.push(
            async move {
                let answer = match (connection, solution.try_into()) {
                    (Some(connection), Ok(solution)) => {
                        let response = node::SolutionResponse { slot_number: slot, solution };
                        answer_of(connection.submit_solution(response).await)
                    }
                    (None, _) => SolutionAnswer::NotSent { reason: "the node is away".to_owned() },
                    (_, Err(error)) => SolutionAnswer::Refused { reason: bounded_text(&error.to_string()) },
                };
                (submission, answer)
            }
            .boxed(),
        );
    }

    fn reply(&self, reply_to: String, answer: &SolutionAnswer) {
        let bytes = answer.to_bytes().expect("reasons fit: they were cut to size");
        let bus = self.between.bus;
        self.replies.push(
            async move {
                if let Err(error) = bus.publish(&reply_to, bytes).await {
                    tracing::warn!("a finder is not told what became of its solution: {error}");
                }
            }
            .boxed(),
        );
    }

    fn conclude(&self, slot: u64, answer: &SolutionAnswer, is_repeat: bool) {
        let outcome = Outcome::of(answer, is_repeat);
        self.between.counts.add(outcome);
        match answer {
            SolutionAnswer::Queued => tracing::info!(slot, ?outcome, "solution"),
            SolutionAnswer::Refused { reason }
            | SolutionAnswer::NotSent { reason }
            | SolutionAnswer::Unknown { reason } => tracing::warn!(slot, ?outcome, "solution: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests;
