//! The world of a simulation: one queue of what happens next, and nothing else that moves. One seed, one run.

use super::checks::Ledger;
use super::disk::{Change, Disk};
use super::faults::{Fault, Weather};
use super::jetstream::JetStream;
use super::member::{AskError, Id, Input, Make, Member, Output, ReplyTo, instance};
use super::nodes::Node;
use super::random::Random;
use control::ids::InstanceId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// A supervisor starts a process that was told to end so long after it has.
const STARTED_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// A store's index is in memory.
const STORE_ANSWERS_AFTER: Duration = Duration::from_millis(1);

/// A process, running or not.
pub struct Process {
    pub name: String,
    make: Make,
    pub member: Option<Box<dyn Member>>,
    pub disk: Disk,
    pub run: u64,
    pub id: InstanceId,
    /// When something last went wrong with it, its bus or its node, or was mended.
    pub disturbed_at: Duration,
    started_at: Duration,
    /// Its clock gains so many millionths.
    drift_ppm: i64,
    pub paused: bool,
    waiting: Vec<Input>,
    pub connected: bool,
    /// The node of a controller.
    pub node: Option<usize>,
    wake_at: Option<Duration>,
    unsynced: BTreeMap<Id, Change>,
    pub subscriptions: Vec<String>,
    pub exited: Option<String>,
    /// It was told to end.
    pub is_ending: bool,
    /// It is the same after a restart, by what is on its disk.
    pub keeps_id: bool,
    /// The life of the work queue that it knows.
    pub queue_life: u64,
}

#[derive(Debug)]
pub enum Happening {
    Hear {
        member: usize,
        run: u64,
        input: Input,
    },
    Wake {
        member: usize,
        run: u64,
        at: Duration,
    },
    Synced {
        member: usize,
        run: u64,
        id: Id,
    },
    /// Something that others have a part in comes to its end.
    Exchange {
        member: usize,
        run: u64,
        output: Box<Output>,
    },
    AskLimit {
        to: ReplyTo,
    },
    /// A solution was found a while ago.
    LookAtHolders,
    Judge {
        run: super::checks::Run,
        solution: super::member::SolutionName,
    },
    Slot(u64),
    Signing {
        node: usize,
    },
    Archive,
    /// The emptied store has been made anew.
    StoreAnew,
    Reconnect {
        member: usize,
        run: u64,
    },
    QueueLook,
    Fault(Fault),
}

pub struct Planned {
    pub at: Duration,
    pub order: u64,
    pub what: Happening,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Planned {}
impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

pub struct World {
    pub now: Duration,
    pub queue: BinaryHeap<Reverse<Planned>>,
    pub order: u64,
    pub random: Random,
    pub processes: Vec<Process>,
    pub nodes: Vec<Node>,
    pub jetstream: JetStream,
    /// Whether JetStream has a leader.
    pub has_leader: bool,
    pub weather: Weather,
    pub ledger: Ledger,
    pub asks: BTreeMap<(usize, u64, Id), ()>,
    /// When the weather last changed.
    pub weather_at: Duration,
    pub messages: u64,
    /// When the last message from one to another comes.
    pub arrivals: BTreeMap<(usize, usize), Duration>,
    pub trace: Option<Vec<String>>,
    pub slots_end: u64,
    /// Processes that have the same farm.
    pub copied: Vec<usize>,
    /// Keys of all farms.
    pub keys: Vec<[u8; 32]>,
}

impl World {
    pub fn new(seed: u64, traced: bool) -> Self {
        Self {
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            order: 0,
            random: Random::new(seed),
            processes: Vec::new(),
            nodes: Vec::new(),
            jetstream: JetStream::default(),
            has_leader: true,
            weather: Weather::default(),
            ledger: Ledger::default(),
            asks: BTreeMap::new(),
            weather_at: Duration::ZERO,
            messages: 0,
            arrivals: BTreeMap::new(),
            trace: traced.then(Vec::new),
            slots_end: u64::MAX,
            copied: Vec::new(),
            keys: Vec::new(),
        }
    }

    pub fn add(&mut self, name: &str, node: Option<usize>, make: Make) -> usize {
        let drift_ppm = self.random.below(200) as i64 - 100;
        self.processes.push(Process {
            name: name.to_owned(),
            make,
            member: None,
            disk: Disk::default(),
            run: 0,
            id: InstanceId([0; 16]),
            disturbed_at: Duration::ZERO,
            started_at: Duration::ZERO,
            drift_ppm,
            paused: false,
            waiting: Vec::new(),
            connected: true,
            node,
            wake_at: None,
            unsynced: BTreeMap::new(),
            subscriptions: Vec::new(),
            exited: None,
            is_ending: false,
            keeps_id: false,
            queue_life: 0,
        });
        self.processes.len() - 1
    }

    pub fn plan(&mut self, after: Duration, what: Happening) {
        self.order += 1;
        self.queue.push(Reverse(Planned { at: self.now + after, order: self.order, what }));
    }

    /// Something about a process, for the trace.
    fn say_of(&mut self, member: usize, text: &str) {
        let (now, name) = (self.now, &self.processes[member].name);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:9.3} {name} {text}", now.as_secs_f64()));
        }
    }

    pub fn say(&mut self, text: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:9.3} {}", now.as_secs_f64(), text()));
        }
    }

    /// Runs until `end`, or until something is wrong.
    pub fn run_until(&mut self, end: Duration) {
        while self.ledger.wrong.is_empty() {
            match self.queue.peek() {
                Some(Reverse(next)) if next.at <= end => {}
                _ => break,
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.at;
            self.happen(next.what);
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Hear { member, run, input } => self.hear(member, run, input),
            Happening::Wake { member, run, at } => {
                let process = &mut self.processes[member];
                if process.run == run && process.wake_at == Some(at) {
                    process.wake_at = None;
                    self.hear(member, run, Input::Tick);
                }
            }
            Happening::Synced { member, run, id } => {
                let process = &mut self.processes[member];
                if process.run == run && process.member.is_some() {
                    if let Some(change) = process.unsynced.remove(&id) {
                        process.disk.apply(&change, self.now);
                    }
                    self.hear(member, run, Input::Done { id });
                }
            }
            Happening::Exchange { member, run, output } => self.exchange(member, run, *output),
            Happening::AskLimit { to } => {
                if self.asks.remove(&(to.member, to.run, to.id)).is_some() {
                    self.hear(to.member, to.run, Input::Answer { id: to.id, result: Err(AskError::Timeout) });
                }
            }
            Happening::LookAtHolders => self.look_at_holders(),
            Happening::Judge { run, solution } => self.judge(run, solution),
            Happening::Slot(slot) => self.slot(slot),
            Happening::Signing { node } => self.signing(node),
            Happening::Archive => self.archive(),
            Happening::StoreAnew => self.rewatch_all(),
            Happening::Reconnect { member, run } => self.reconnect(member, run),
            Happening::QueueLook => self.look_at_queue(),
            Happening::Fault(fault) => self.suffer(&fault),
        }
    }

    // ── processes ──

    pub fn start(&mut self, member: usize) {
        let (now, process) = (self.now, &mut self.processes[member]);
        if process.member.is_some() {
            return;
        }
        process.run += 1;
        process.id = instance(&process.name, if process.keeps_id { 0 } else { process.run });
        process.disturbed_at = now;
        process.disk.clock = now;
        self.ledger.recall((member, process.run), &process.disk.handovers, now);
        process.member = Some((process.make)(&process.disk, process.id));
        (process.started_at, process.paused, process.wake_at, process.connected) = (now, false, None, true);
        (process.waiting, process.exited) = (Vec::new(), None);
        (process.queue_life, process.is_ending) = (self.jetstream.life, false);
        let (run, node) = (process.run, process.node);
        self.say_of(member, "starts");
        self.hear(member, run, Input::Start);
        self.hear(member, run, Input::Connected(true));
        if node.is_some() {
            self.plan(Duration::from_millis(20), Happening::Reconnect { member, run });
        }
    }

    pub fn kill(&mut self, member: usize) {
        let process = &mut self.processes[member];
        if process.member.take().is_none() {
            return;
        }
        process.run += 1;
        process.disturbed_at = self.now;
        process.subscriptions.clear();
        // What was not synced may have come to the disk all the same.
        for change in std::mem::take(&mut process.unsynced).into_values() {
            if self.random.chance(0.5) {
                self.processes[member].disk.apply(&change, self.now);
            }
        }
        if let Some(node) = self.processes[member].node {
            self.nodes[node].disconnect(member);
        }
        self.say_of(member, "is killed");
    }

    /// Tells a process to end. It is given the time it wants.
    pub fn end(&mut self, member: usize) {
        let process = &mut self.processes[member];
        (process.is_ending, process.disturbed_at) = (true, self.now);
        let run = process.run;
        self.hear(member, run, Input::End);
    }

    pub fn pause(&mut self, member: usize) {
        (self.processes[member].paused, self.processes[member].disturbed_at) = (true, self.now);
        self.say_of(member, "is stopped");
    }

    pub fn resume(&mut self, member: usize) {
        let process = &mut self.processes[member];
        if !std::mem::take(&mut process.paused) {
            return;
        }
        process.disturbed_at = self.now;
        let (run, waiting) = (process.run, std::mem::take(&mut process.waiting));
        self.say_of(member, "goes on");
        for input in waiting {
            self.hear(member, run, input);
        }
    }

    pub fn set_connected(&mut self, member: usize, connected: bool) {
        let process = &mut self.processes[member];
        if process.connected == connected {
            return;
        }
        (process.connected, process.disturbed_at) = (connected, self.now);
        let run = process.run;
        self.say_of(member, if connected { "has the bus back" } else { "has lost the bus" });
        self.hear(member, run, Input::Connected(connected));
        if connected {
            self.rewatch(member, run);
        }
    }

    fn own_clock(&self, member: usize) -> Duration {
        let process = &self.processes[member];
        let passed = (self.now - process.started_at).as_micros() as i64;
        Duration::from_micros((passed + passed * process.drift_ppm / 1_000_000) as u64)
    }

    pub fn hear(&mut self, member: usize, run: u64, input: Input) {
        let process = &mut self.processes[member];
        if process.run != run || process.member.is_none() {
            return;
        }
        if process.paused {
            process.waiting.push(input);
            return;
        }
        if self.trace.is_some() && !super::trace::is_noise_in(&input) {
            let text = super::trace::input(&input);
            self.say_of(member, &format!("<- {text}"));
        }
        self.note_heard(member, run, &input);
        let (now, mut outputs) = (self.own_clock(member), Vec::new());
        let Some(machine) = self.processes[member].member.as_mut() else { return };
        machine.on(input, now, &mut outputs);
        let wake_at = machine.wake_at();
        for output in outputs {
            self.act(member, run, output);
        }
        self.plan_wake(member, run, wake_at);
    }

    fn plan_wake(&mut self, member: usize, run: u64, wake_at: Option<Duration>) {
        let now = self.own_clock(member);
        let process = &mut self.processes[member];
        if process.run != run || wake_at.is_none() || process.wake_at == wake_at {
            return;
        }
        process.wake_at = wake_at;
        let at = wake_at.expect("checked above");
        let after = at.saturating_sub(now).max(Duration::from_micros(100));
        self.plan(after, Happening::Wake { member, run, at });
    }

    fn act(&mut self, member: usize, run: u64, output: Output) {
        if self.trace.is_some() && !super::trace::is_noise_out(&output) {
            let text = super::trace::output(&output);
            self.say_of(member, &format!("-> {text}"));
        }
        match output {
            Output::Subscribe(filter) => self.processes[member].subscriptions.push(filter),
            Output::Publish { subject, payload } => {
                self.note_published(member, &subject, &payload);
                self.publish(member, &subject, &payload, None);
            }
            Output::Ask { id, subject, payload, timeout } => {
                self.note_asked(ReplyTo { member, run, id }, &subject, &payload);
                self.ask(ReplyTo { member, run, id }, &subject, &payload, timeout);
            }
            Output::Reply { to, payload } => {
                self.note_reply(member, to, &payload);
                self.reply(member, to, payload);
            }
            Output::Write { id, takes, change } => {
                self.note_written((member, run), &change);
                self.processes[member].unsynced.insert(id, change);
                self.plan(takes, Happening::Synced { member, run, id });
            }
            Output::Work { id, takes } => self.plan(takes, Happening::Synced { member, run, id }),
            Output::Say(_) => {}
            Output::Found { solution, slot } => self.find(member, run, solution, slot),
            Output::Ended { solution, outcome } => self.ledger.end((member, run), solution, &outcome),
            Output::Exit(reason) => {
                let process = &self.processes[member];
                let may_end = process.is_ending || self.copied.contains(&member);
                let name = &process.name;
                self.ledger.check(may_end, || format!("{name} ended by itself: {reason}"));
                let has_left = !process.is_ending || self.ledger.has_ended_all((member, run));
                self.ledger.check(has_left, || format!("{name} ended with a solution under way"));
                self.kill(member);
                let process = &mut self.processes[member];
                process.exited = Some(reason);
                if std::mem::take(&mut process.is_ending) {
                    self.plan(STARTED_AGAIN_AFTER, Happening::Fault(Fault::Start(member)));
                }
            }
            Output::KvWatch { .. }
            | Output::KvGet { .. }
            | Output::KvWrite { .. }
            | Output::Push { .. }
            | Output::Pull { .. }
            | Output::Ack { .. }
            | Output::Progress { .. }
            | Output::Nak { .. } => self.act_on_jetstream(member, run, output),
            Output::Place { .. } | Output::Gather { .. } | Output::Copy { .. } | Output::PullPiece { .. } => {
                self.act_with_others(member, run, output);
            }
            Output::LookAtStore => {
                let input = Input::Stored(self.processes[member].disk.pieces.clone());
                self.plan(STORE_ANSWERS_AFTER, Happening::Hear { member, run, input });
            }
            Output::RemovePiece { index } => self.remove_piece(member, index),
            Output::TellHoldings { to, request } => self.tell_holdings(member, to, &request),
            Output::Submit { .. }
            | Output::Sign { .. }
            | Output::Acknowledge { .. }
            | Output::Fetch { .. }
            | Output::History { .. } => self.act_on_node(member, run, output),
        }
    }
}
