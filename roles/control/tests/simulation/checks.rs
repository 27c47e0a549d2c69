//! What must never happen, checked as it happens, and what must have come about in the end. The books are the world's own: they are
//! made of what crosses the bus and reaches nodes and disks, never of what a machine says of itself.

use super::member::{AskKey, ReplyTo, SolutionName};
use control::ids::InstanceId;
use control::messages::{RewardSigningRequest, SectorId};
use control::slots::SlotKey;
use control::solutions::{Handover, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long after a solution was handed over hashes may be signed: the window, and what clocks differ by.
const WINDOW: Duration = Duration::from_millis(15_010);
/// Hashes that a solution leads to at most.
const HASHES: usize = 2;
/// How long two may hold one farm while they can hear each other.
pub const TWO_HOLDERS: Duration = Duration::from_secs(5);

/// How long a plot-server's place may wait for pieces that nobody has: 60 s, and what a look and a try take.
const PLACE_HELD: Duration = Duration::from_secs(80);
/// A try so long after the one before belongs to another attempt: a server that goes on tries again within 7.5 s.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(7650);

/// A hash, or a public key.
type Hash = [u8; 32];

/// One run of a process.
pub type Run = (usize, u64);

/// A solution that some run found.
#[derive(Debug, Clone)]
pub struct Found {
    pub at: Duration,
    pub slot: SlotKey,
    /// Controllers that announced it and are there.
    pub announced: Vec<Run>,
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
}

/// The books of the world.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Nodes that queued a solution.
    queued: BTreeMap<SolutionName, Vec<usize>>,
    /// Who sent a solution to a controller.
    senders: BTreeMap<SolutionName, BTreeSet<usize>>,
    /// Which run of a plot-client wrote first that it sends a solution.
    written: BTreeMap<(usize, SolutionName), u64>,
    /// Nodes that would not have it.
    pub ignored: BTreeSet<(SolutionName, usize)>,
    pub found: BTreeMap<(Run, SolutionName), Found>,
    /// Slots as a run has heard them of a controller.
    pub heard: BTreeSet<(Run, InstanceId, SlotKey)>,
    /// When a controller's node told it of a slot, last.
    pub told: BTreeMap<(usize, SlotKey), Duration>,
    windows: BTreeMap<(usize, [u8; 32], InstanceId), Vec<Window>>,
    /// Questions for a signature that have come to somebody.
    asked_to_sign: BTreeMap<AskKey, RewardSigningRequest>,
    /// Who asked a member for a key's signature of a hash, and when.
    asked_for: BTreeMap<(usize, Hash, Hash), Vec<(InstanceId, Duration)>>,
    /// Signatures by whose disk and key they are, and hash.
    signed: BTreeMap<(usize, [u8; 32], [u8; 32]), [u8; 64]>,
    given: BTreeSet<([u8; 32], [u8; 64])>,
    /// Solutions that a signed hash may be of.
    open_for: BTreeMap<(usize, [u8; 32]), Vec<AskKey>>,
    /// Hashes that are taken to be of a solution.
    hashes_of: BTreeMap<AskKey, Vec<(usize, [u8; 32])>>,
    /// Since when servers try in vain to get a sector's pieces, and when they did last.
    gathers: BTreeMap<(Run, SectorId), (Duration, Duration)>,
    /// The chain that the settings name.
    chain: Option<[u8; 32]>,
    /// History as the settings have it; none before the first, and after the store was emptied.
    history: Option<u64>,
    /// The longest history that a run has read or written.
    history_of: BTreeMap<Run, u64>,
    /// Segments below this are of the time before the cluster, or before its store was lost with all who knew it.
    pub born_at: u64,
    /// Settings were written by one who remembered nothing while nobody could be heard who did: what they may name nobody could know.
    pub is_unknowable: bool,
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
    /// farm can, however often its plot-client is killed and started.
    pub fn queue(&mut self, node: usize, solution: SolutionName) {
        let nodes = self.queued.entry(solution).or_default();
        nodes.push(node);
        let senders = self.senders.get(&solution).map_or(0, BTreeSet::len);
        if nodes.len() > senders.max(1) {
            self.wrong.push(format!("a solution was queued twice, at nodes {nodes:?}"));
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

    pub fn end(&mut self, run: Run, solution: SolutionName, outcome: &Outcome) {
        let is_queued = self.queued.contains_key(&solution);
        // A copy of the farm may have sent it.
        let has_copy =
            self.senders.get(&solution).is_some_and(|senders| senders.iter().any(|sender| *sender != run.0));
        let is_true = match outcome {
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
        self.check(before.is_none(), || format!("a solution has two outcomes, {before:?} and {outcome:?}"));
        self.look_at_outcome(run, solution);
    }

    /// What could be sent the whole time was queued: nothing else would be true.
    pub fn look_at_outcome(&mut self, run: Run, solution: SolutionName) {
        let Some(Found { slot, outcome: Some(outcome), was_sendable: true, .. }) =
            self.found.get(&(run, solution))
        else {
            return;
        };
        // What an earlier run was about to send is not sent again.
        let is_of_earlier_run = self.written.get(&(run.0, solution)).is_some_and(|first| *first < run.1);
        if *outcome != Outcome::Queued && !is_of_earlier_run {
            let slot = slot.slot;
            let wrong = format!(
                "a solution of slot {slot} ended as {outcome:?}, although a controller could send it"
            );
            self.wrong.push(wrong);
        }
    }

    // ── signing ──

    /// A plot-client writes down that it is about to send a solution.
    pub fn write_down(&mut self, (member, run): Run, solution: SolutionName) {
        self.written.entry((member, solution)).or_insert(run);
    }

    /// A plot-client sent a solution to a controller.
    pub fn hand_over(
        &mut self,
        ask: ReplyTo,
        solution: SolutionName,
        key: [u8; 32],
        controller: InstanceId,
        now: Duration,
    ) {
        self.senders.entry(solution).or_default().insert(ask.member);
        let windows = self.windows.entry((ask.member, key, controller)).or_default();
        windows.push(Window { since: now, until: now + WINDOW, ask });
    }

    /// A process starts. What it wrote of solutions that it hands over it may sign for until their time is over, whatever it did before.
    pub fn recall(&mut self, (member, run): Run, handovers: &[(Handover, Duration)], now: Duration) {
        for (nth, (Handover { solution, controller }, at)) in (0..).zip(handovers) {
            // A number that no question of the process has.
            let ask = ReplyTo { member, run, id: u64::MAX - nth };
            let window = Window { since: now, until: *at + WINDOW, ask };
            self.windows.entry((member, solution.public_key, *controller)).or_default().push(window);
        }
    }

    /// Certainly no node has it.
    pub fn not_taken(&mut self, ask: ReplyTo, now: Duration) {
        for window in self.windows.values_mut().flatten().filter(|window| window.ask == ask) {
            window.until = window.until.min(now);
        }
    }

    pub fn ask_to_sign(&mut self, member: usize, to: ReplyTo, request: RewardSigningRequest, now: Duration) {
        let RewardSigningRequest { controller, hash, public_key } = request;
        self.asked_to_sign.insert(to.key(), request);
        self.asked_for.entry((member, public_key, hash)).or_default().push((controller, now));
    }

    /// Whether each solution that a plot-client found has come to its end.
    pub fn has_ended_all(&self, run: Run) -> bool {
        let found = self.found.range((run, SolutionName::default())..).take_while(|((of, _), _)| *of == run);
        found.into_iter().all(|(_, found)| found.outcome.is_some())
    }

    /// A signature leaves a plot-client.
    pub fn sign(
        &mut self,
        member: usize,
        to: ReplyTo,
        signature: [u8; 64],
        now: Duration,
        durable: impl FnOnce([u8; 32]) -> Option<[u8; 64]>,
    ) {
        let Some(request) = self.asked_to_sign.get(&to.key()) else { return };
        let RewardSigningRequest { hash, public_key, .. } = *request;
        let is_durable = durable(hash) == Some(signature);
        self.given.insert((hash, signature));
        self.check(is_durable, || "a signature left before it was durable".to_owned());
        if let Some(first) = self.signed.insert((member, public_key, hash), signature) {
            return self.check(first == signature, || "a hash has two signatures".to_owned());
        }
        // One answer goes to all that asked meanwhile, and one of them must have had the right to it.
        let mut open = Vec::new();
        for (controller, at) in self.asked_for.get(&(member, public_key, hash)).into_iter().flatten() {
            let windows = self.windows.get(&(member, public_key, *controller)).into_iter().flatten();
            let is_open = |window: &&Window| window.since <= now && *at <= window.until;
            open.extend(windows.filter(is_open).map(|window| window.ask.key()));
        }
        self.open_for.insert((member, hash), open);
        let has_right = self.assign((member, hash), &mut BTreeSet::new());
        self.check(has_right, || {
            "a hash was signed outside a window, or is a third of a solution".to_owned()
        });
    }

    /// Whether some plot-client gave this signature.
    pub fn has_left(&self, hash: &[u8; 32], signature: &[u8; 64]) -> bool {
        self.given.contains(&(*hash, *signature))
    }

    /// Finds a solution that a hash may be of, moving other hashes to other solutions where they may be of these as well: which hash is
    /// of which solution nobody is told.
    fn assign(&mut self, hash: (usize, [u8; 32]), tried: &mut BTreeSet<AskKey>) -> bool {
        for ask in self.open_for[&hash].clone() {
            if !tried.insert(ask) {
                continue;
            }
            let assigned = self.hashes_of.entry(ask).or_default();
            if assigned.len() < HASHES {
                assigned.push(hash);
                return true;
            }
            for (nth, other) in assigned.clone().into_iter().enumerate() {
                if self.assign(other, tried) {
                    self.hashes_of.entry(ask).or_default()[nth] = hash;
                    return true;
                }
            }
        }
        false
    }

    // ── a server's places ──

    /// A server has tried to get a sector's pieces. It must not try for ever: its place is for others as well.
    pub fn gather(
        &mut self,
        run: Run,
        sector: SectorId,
        is_good: bool,
        disturbed_at: Duration,
        now: Duration,
    ) {
        let (since, last) = self.gathers.remove(&(run, sector)).unwrap_or((now, now));
        if is_good {
            return;
        }
        let since = if now > last + ATTEMPT_PAUSE { now } else { since };
        self.gathers.insert((run, sector), (since, now));
        let held = now - since.max(disturbed_at);
        self.check(held < PLACE_HELD, || {
            format!("a plot-server's place waits for pieces that nobody has, since {held:?}")
        });
    }

    // ── history ──

    pub fn store_was_emptied(&mut self) {
        (self.history, self.chain) = (None, None);
    }

    pub fn read_history(&mut self, run: Run, segments: u64) {
        let known = self.history_of.entry(run).or_default();
        *known = segments.max(*known);
    }

    /// Settings are written: the chain never changes.
    pub fn write_chain(&mut self, genesis: [u8; 32]) {
        let before = self.chain.replace(genesis);
        let is_same = before.is_none_or(|before| before == genesis);
        self.check(is_same, || "the settings of one chain were written over those of another".to_owned());
    }

    /// Settings are written. The very first begin with what a node has, since the older segments come to a new cluster by other ways.
    /// From then on history never shrinks below what the store has, the writer has known, or he must have `heard` of; and it has only
    /// segments that `is_placed`, also where the store was emptied and nobody ran who knew it. Only a controller that `remembers` nothing,
    /// on a host that is new to the cluster, and that hears of nobody who does, cannot tell it from a new cluster.
    pub fn write_history(
        &mut self,
        run: Run,
        segments: u64,
        heard: Option<u64>,
        remembers: bool,
        is_placed: impl Fn(u64) -> bool,
    ) {
        let (before, own) = (self.history.replace(segments), self.history_of.get(&run).copied());
        self.read_history(run, segments);
        if self.born_at == 0 {
            self.born_at = segments;
            return;
        }
        let least = before.max(own).max(heard).unwrap_or_default();
        self.check(segments >= least, || format!("history went back from {least} to {segments} segments"));
        let missing = (self.born_at..segments).find(|segment| !is_placed(*segment));
        if missing.is_some() && least == 0 && !remembers {
            (self.is_unknowable, self.born_at) = (true, segments);
            return;
        }
        self.check(missing.is_none(), || {
            format!("history of {segments} segments names {missing:?}, which is not placed")
        });
    }
}
