//! What a simulated process hears and does: the seam between machines with their translation, and the world.

use super::disk::{Change, Disk};
use bytes::Bytes;
use consensus::piece_set::PieceSet;
use consensus::solution::Solution;
use control::ids::InstanceId;
use control::messages::{Epoch, HoldingsRequest, SectorId};
use control::slots::SlotKey;
use control::solutions::Outcome;
use std::collections::BTreeMap;
use std::time::Duration;

/// Number of a question, chosen by who asks; its answer carries it.
pub type Id = u64;

/// A process: its machines, and the translation between them and the world. Times are since its start, by its own clock.
pub trait Member {
    /// What follows from `input`.
    fn on(&mut self, input: Input, now: Duration, out: &mut Vec<Output>);
    /// When it wants a [`Input::Tick`], if nothing happens before.
    fn wake_at(&self) -> Option<Duration>;
    /// What the checks look at.
    fn view(&self) -> View {
        View::default()
    }
}

/// What a process lets the checks see.
#[derive(Debug, Default, Clone)]
pub struct View {
    /// Keys that it serves now.
    pub holds: Vec<[u8; 32]>,
    /// History that it believes the cluster has agreed on.
    pub agreed: Option<u64>,
    /// History that it tells a controller that finds no settings.
    pub knows: Option<u64>,
    /// Sectors plotted, of all.
    pub plotted: Option<(usize, usize)>,
    /// Why others are not, as far as they were tried.
    pub troubles: Vec<String>,
}

/// Where an answer to a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyTo {
    pub member: usize,
    pub run: u64,
    pub id: Id,
}

/// A question of all questions: member, run, number.
pub type AskKey = (usize, u64, Id);

impl ReplyTo {
    pub fn key(self) -> AskKey {
        (self.member, self.run, self.id)
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskError {
    /// The bus is not connected: certainly not delivered.
    NotConnected,
    /// Nobody listens: certainly not delivered.
    NoResponders,
    /// No answer in time.
    Timeout,
}

impl AskError {
    /// Whether certainly nobody has it.
    pub fn is_not_delivered(self) -> bool {
        self != Self::Timeout
    }
}

/// Why a key was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteError {
    /// It was changed by somebody else.
    Conflict,
    /// Certainly not written.
    Unavailable,
    /// Perhaps written, or written later.
    Unknown,
}

/// What a write demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Any,
    Absent,
    Revision(u64),
}

/// What a member hears.
#[derive(Debug, Clone)]
pub enum Input {
    /// It has just been started; what is on its disk is there.
    Start,
    /// Whether the bus is connected.
    Connected(bool),
    /// A message of a subscription.
    Message { subject: String, payload: Bytes, reply_to: Option<ReplyTo> },
    /// The answer to [`Output::Ask`].
    Answer { id: Id, result: Result<Bytes, AskError> },
    /// A watched key has this value (none: deleted).
    Kv { bucket: &'static str, key: String, value: Option<Bytes>, revision: u64 },
    /// Everything that was there has come.
    KvReady { bucket: &'static str },
    /// The bucket was made anew and is empty.
    KvRenewed { bucket: &'static str },
    /// The answer to [`Output::KvWrite`].
    KvWritten { id: Id, result: Result<u64, WriteError> },
    /// The answer to [`Output::KvGet`]; perhaps an old value.
    KvGot { id: Id, result: Result<Option<(Bytes, u64)>, ()> },
    /// The answer to [`Output::Push`].
    Pushed { id: Id, result: Result<(), PushError> },
    /// The answer to [`Output::Pull`].
    Pulled { id: Id, job: Option<Job> },
    /// What the node says.
    Node(NodeInput),
    /// Work, a write to disk, or something that others had a part in has ended well.
    Done { id: Id },
    /// It has not.
    Failed { id: Id },
    /// It is told to end, when it has seen to all it must.
    End,
    /// The answer to [`Output::LookAtStore`].
    Stored(BTreeMap<u64, PieceSet>),
    /// The work queue was made anew and is empty.
    QueueAnew,
    /// Time has come.
    Tick,
}

/// Why a job was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError {
    AlreadyQueued,
    Unavailable,
    Unknown,
}

/// A job taken from the queue.
#[derive(Debug, Clone)]
pub struct Job {
    pub sequence: u64,
    pub delivery: u64,
    pub subject: String,
    pub payload: Bytes,
}

/// What a node says to its controller.
#[derive(Debug, Clone)]
pub enum NodeInput {
    /// All subscriptions hold from now on, on this connection.
    Began { connection: u64 },
    /// The connection is lost.
    Lost,
    /// A slot begins.
    Slot { slot: u64, challenge: [u8; 32] },
    /// A hash to be signed.
    Sign { hash: [u8; 32], public_key: [u8; 32] },
    /// A segment was archived.
    Archived { segment: u64 },
    /// The answer to a call.
    Answered { id: Id, answer: NodeAnswer },
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeAnswer {
    /// Null.
    Done,
    /// "Solution was ignored".
    Ignored,
    /// The connection was gone before anything was sent.
    NotSent,
    /// Nobody knows.
    Unanswered,
    /// A segment's pieces.
    Pieces,
    /// The node has them not at hand.
    NoPieces,
    /// Number of segments that are archived.
    History(u64),
}

/// What a member does.
#[derive(Debug)]
pub enum Output {
    Subscribe(String),
    Publish {
        subject: String,
        payload: Bytes,
    },
    Ask {
        id: Id,
        subject: String,
        payload: Bytes,
        timeout: Duration,
    },
    Reply {
        to: ReplyTo,
        payload: Bytes,
    },
    /// Watches the keys that match one of the filters.
    KvWatch {
        bucket: &'static str,
        filters: Vec<String>,
    },
    KvGet {
        id: Id,
        bucket: &'static str,
        key: String,
    },
    KvWrite {
        id: Id,
        bucket: &'static str,
        key: String,
        value: Option<Bytes>,
        expect: Expect,
    },
    Push {
        id: Id,
        subject: String,
        payload: Bytes,
    },
    Pull {
        id: Id,
        prefix: String,
        wait: Duration,
    },
    Ack {
        sequence: u64,
    },
    Progress {
        sequence: u64,
        delivery: u64,
    },
    Nak {
        sequence: u64,
        delivery: u64,
        delay: Duration,
    },
    /// Hands a solution to the node.
    Submit {
        id: Id,
        connection: u64,
        slot: u64,
        solution: Box<Solution>,
    },
    /// Hands a signature to the node.
    Sign {
        connection: u64,
        hash: [u8; 32],
        signature: [u8; 64],
    },
    /// Says that a segment is held.
    Acknowledge {
        connection: u64,
        segment: u64,
    },
    /// Asks for all pieces of a segment.
    Fetch {
        id: Id,
        segment: u64,
    },
    /// Asks how many segments there are.
    History {
        id: Id,
    },
    /// Makes a change durable; [`Input::Done`] follows unless the process dies before.
    Write {
        id: Id,
        takes: Duration,
        change: Change,
    },
    /// Computes, or waits for somebody's disk.
    Work {
        id: Id,
        takes: Duration,
    },
    /// Brings a segment's pieces from the own spool or memory to caches: [`Input::Done`] or [`Input::Failed`].
    Place {
        id: Id,
        segment: u64,
        epoch: Epoch,
        full: Vec<InstanceId>,
        sharded: Vec<InstanceId>,
    },
    /// Answers with what is on the own disk.
    TellHoldings {
        to: ReplyTo,
        request: HoldingsRequest,
    },
    /// Asks the own disk which pieces it has: [`Input::Stored`].
    LookAtStore,
    /// Gets a piece from the first of these that has it: [`Input::Done`] or [`Input::Failed`].
    PullPiece {
        id: Id,
        index: u64,
        from: Vec<InstanceId>,
    },
    /// Removes a piece from the own disk.
    RemovePiece {
        index: u64,
    },
    /// Gathers the pieces of a sector: [`Input::Done`], or [`Input::Failed`] where nobody has some.
    Gather {
        id: Id,
        sector: SectorId,
    },
    /// Fetches a staged sector from a plot-server: [`Input::Done`] or [`Input::Failed`].
    Copy {
        id: Id,
        server: InstanceId,
        sector: SectorId,
    },
    /// For the trace.
    Say(String),
    /// A farm has found a solution.
    Found {
        solution: SolutionName,
        slot: SlotKey,
    },
    /// That is what became of it.
    Ended {
        solution: SolutionName,
        outcome: Outcome,
    },
    /// The process ends by itself.
    Exit(String),
}

/// Makes a process anew from what is on its disk; each of its runs has an id of its own.
pub type Make = Box<dyn Fn(&Disk, InstanceId) -> Box<dyn Member>>;

/// The first bytes of its chunk tell solutions apart here.
pub type SolutionName = [u8; 16];

pub fn name_of(solution: &Solution) -> SolutionName {
    solution.chunk[..16].try_into().expect("it has 32 bytes")
}

/// The id of a run.
pub fn instance(name: &str, run: u64) -> InstanceId {
    let hash = blake3::hash(&[name.as_bytes(), &run.to_le_bytes()].concat());
    InstanceId(hash.as_bytes()[..16].try_into().expect("it has 32 bytes"))
}
