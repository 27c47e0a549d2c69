//! What must never happen, checked as it happens, and what must have come about in the end. The books are the world's own: they are
//! made of what crosses the bus and reaches nodes and disks, never of what a machine says of itself.

use super::member::{ReplyTo, SolutionName};
use control::ids::InstanceId;
use control::messages::RewardSigningRequest;
use control::slots::SlotKey;
use control::solutions::Outcome;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long after a solution was handed over hashes may be signed: the window, and what clocks differ by.
const WINDOW: Duration = Duration::from_millis(15_010);
/// Hashes that a solution leads to at most.
const HASHES: u8 = 2;
/// How long two may hold one farm while they can hear each other.
pub const TWO_HOLDERS: Duration = Duration::from_secs(5);

/// One run of a process.
pub type Run = (usize, u64);

/// A solution that some run found.
#[derive(Debug, Clone)]
pub struct Found {
    pub at: Duration,
    pub slot: SlotKey,
    /// Controllers that could have sent it at once.
    pub able: Vec<Run>,
    /// One of them could for long enough: it must not end as not sent.
    pub was_sendable: bool,
    pub outcome: Option<Outcome>,
}

#[derive(Debug)]
struct Window {
    since: Duration,
    until: Duration,
    ask: ReplyTo,
    left: u8,
}

#[derive(Debug, Default)]
struct Queued {
    nodes: Vec<usize>,
    finders: BTreeSet<usize>,
}

/// The books of the world.
#[derive(Debug, Default)]
pub struct Ledger {
    queued: BTreeMap<SolutionName, Queued>,
    /// Who sent a solution to a controller.
    finders: BTreeMap<SolutionName, BTreeSet<usize>>,
    /// Nodes that would not have it.
    pub ignored: BTreeSet<(SolutionName, usize)>,
    pub found: BTreeMap<(Run, SolutionName), Found>,
    /// Slots as a run has heard them of a controller.
    pub heard: BTreeSet<(Run, InstanceId, SlotKey)>,
    windows: BTreeMap<(usize, [u8; 32], InstanceId), Vec<Window>>,
    /// Questions for a signature that have come to somebody.
    asked_to_sign: BTreeMap<(usize, u64, u64), (RewardSigningRequest, Duration)>,
    /// Signatures by key and hash.
    signed: BTreeMap<([u8; 32], [u8; 32]), [u8; 64]>,
    /// What went wrong, first to last.
    pub wrong: Vec<String>,
}

impl Ledger {
    pub fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(what());
        }
    }

    /// A node queued a solution. Two copies of one farm that have not heard of each other cannot be kept from sending it twice; one
    /// farm can.
    pub fn queue(&mut self, node: usize, solution: SolutionName) {
        let queued = self.queued.entry(solution).or_default();
        queued.nodes.push(node);
        queued.finders.extend(self.finders.get(&solution).into_iter().flatten());
        if queued.nodes.len() > queued.finders.len().max(1) {
            self.wrong.push(format!("a solution was queued twice, at nodes {:?}", queued.nodes));
        }
    }

    pub fn queued_total(&self) -> usize {
        self.queued.len()
    }

    // ── a solution's life ──

    pub fn find(&mut self, run: Run, solution: SolutionName, found: Found) {
        let is_new = self.found.insert((run, solution), found).is_none();
        self.check(is_new, || "one run found one solution twice".to_owned());
    }

    pub fn end(&mut self, run: Run, solution: SolutionName, outcome: Outcome) {
        let is_queued = self.queued.contains_key(&solution);
        let has_copy = self.finders.get(&solution).is_some_and(|finders| finders.len() > 1);
        let is_true = match &outcome {
            Outcome::Queued => is_queued,
            Outcome::Refused { .. } | Outcome::NotSent { .. } | Outcome::Expired => !is_queued || has_copy,
            Outcome::Unknown { .. } => true,
            Outcome::Known => false,
        };
        self.check(is_true, || format!("a solution ended as {outcome:?}, and was queued: {is_queued}"));
        let Some(found) = self.found.get_mut(&(run, solution)) else {
            return self.wrong.push(format!("a solution that nobody found ended as {outcome:?}"));
        };
        let before = found.outcome.replace(outcome.clone());
        let is_false = found.was_sendable && matches!(outcome, Outcome::NotSent { .. } | Outcome::Expired);
        let slot = found.slot.slot;
        self.check(before.is_none(), || format!("a solution has two outcomes, {before:?} and {outcome:?}"));
        self.check(!is_false, || {
            format!("a solution of slot {slot} ended as {outcome:?}, although a controller could send it")
        });
    }

    // ── signing ──

    /// A plot-client sent a solution to a controller.
    pub fn hand_over(
        &mut self,
        ask: ReplyTo,
        solution: SolutionName,
        key: [u8; 32],
        controller: InstanceId,
        now: Duration,
    ) {
        self.finders.entry(solution).or_default().insert(ask.member);
        let windows = self.windows.entry((ask.member, key, controller)).or_default();
        windows.push(Window { since: now, until: now + WINDOW, ask, left: HASHES });
    }

    /// Certainly no node has it.
    pub fn not_taken(&mut self, ask: ReplyTo, now: Duration) {
        for window in self.windows.values_mut().flatten().filter(|window| window.ask == ask) {
            window.until = window.until.min(now);
        }
    }

    pub fn ask_to_sign(&mut self, to: ReplyTo, request: RewardSigningRequest, now: Duration) {
        self.asked_to_sign.insert((to.member, to.run, to.id), (request, now));
    }

    /// A signature leaves a plot-client.
    pub fn sign(
        &mut self,
        member: usize,
        to: ReplyTo,
        signature: [u8; 64],
        durable: impl FnOnce([u8; 32]) -> Option<[u8; 64]>,
    ) {
        let Some((request, asked_at)) = self.asked_to_sign.get(&(to.member, to.run, to.id)) else { return };
        let (RewardSigningRequest { controller, hash, public_key }, asked_at) = (*request, *asked_at);
        let is_durable = durable(hash) == Some(signature);
        self.check(is_durable, || "a signature left before it was durable".to_owned());
        if let Some(first) = self.signed.insert((public_key, hash), signature) {
            return self.check(first == signature, || "a hash has two signatures".to_owned());
        }
        let windows = self.windows.entry((member, public_key, controller)).or_default();
        windows.retain(|window| window.left > 0);
        let is_open = |window: &&mut Window| window.since <= asked_at && asked_at <= window.until;
        match windows.iter_mut().find(is_open) {
            Some(window) => window.left -= 1,
            None => self.wrong.push("a hash was signed outside a window".to_owned()),
        }
    }
}
