//! What goes into a connection and comes out of it, apart from bytes.

use crate::frame::{FrameError, Kind, MAX_PAYLOAD_BYTES};
use crate::limits::{LEAST_BYTES_PER_S, PAYLOAD_GRACE_MS, SLAB_WAIT_MS};
use crate::message::{Hello, Layout, MessageError, Refusal, Request, Response};
use crate::rights::{self, RequestKind};
use crate::role::Role;

/// Most requests a side may allow at once: bounds the memory a peer's small frames can take.
pub const MAX_REQUESTS: u32 = 1024;

/// A request this side made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(super) u64);

/// A request of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerRequestId(pub(super) u64);

/// How this side behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// What this member is.
    pub role: Role,
    /// Its name for the peer's logs, at most 256 bytes.
    pub name: String,
    /// Requests of the peer served at once, at most [`MAX_REQUESTS`].
    pub max_requests: u32,
    /// Payload bytes the peer may have under way; at least one payload, 2 MiB.
    pub credit_bytes: u64,
    /// The peer's hello must be there after this time.
    pub hello_timeout_ms: u64,
    /// A ping is sent when nothing else was for so long.
    pub keepalive_ms: u64,
    /// The peer is taken for dead when nothing came for so long.
    pub idle_timeout_ms: u64,
    /// A payload, either way, may take so long and the time of its bytes at the least rate.
    pub payload_grace_ms: u64,
    /// The least rate of payloads, in bytes a second; at least one.
    pub least_bytes_per_s: u64,
    /// A payload that comes with a request waits so long for memory; then it is read past and refused.
    pub memory_wait_ms: u64,
    /// Who may ask what; in a cluster [`rights::may_send`].
    pub may_send: fn(Role, RequestKind) -> bool,
}

impl Config {
    /// Sixteen payloads under way, 64 requests, ten seconds between signs of life; the rest as in [`crate::limits`].
    pub fn new(role: Role, name: impl Into<String>) -> Self {
        Self {
            role,
            name: name.into(),
            max_requests: 64,
            credit_bytes: 16 * MAX_PAYLOAD_BYTES as u64,
            hello_timeout_ms: 10_000,
            keepalive_ms: 10_000,
            idle_timeout_ms: 30_000,
            payload_grace_ms: PAYLOAD_GRACE_MS,
            least_bytes_per_s: LEAST_BYTES_PER_S,
            memory_wait_ms: SLAB_WAIT_MS,
            may_send: rights::may_send,
        }
    }
}

/// Something the peer must never do; the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Not a frame of ours.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A header that breaks a rule.
    #[error("{0:?} frame: {1}")]
    Message(Kind, MessageError),
    /// Anything before the hello, or a second hello.
    #[error("{0:?} frame out of turn")]
    OutOfTurn(Kind),
    /// It says that it is something else than its certificate's owner.
    #[error("the peer says that it is a {said}, its certificate is that of a {known}")]
    WrongRole {
        /// What its hello says.
        said: Role,
        /// What it is known as.
        known: Role,
    },
    /// The id belongs to a request in progress.
    #[error("request id {0} is in use")]
    RequestIdInUse(u64),
    /// More requests at once than this side's hello allows.
    #[error("more than {0} requests at once")]
    TooManyRequests(u32),
    /// A final frame for a request that is not in progress.
    #[error("answer to request {0}, which is not in progress")]
    UnknownRequest(u64),
    /// More payload than granted.
    #[error("payload of {0} bytes is over the credit granted")]
    CreditExceeded(usize),
    /// Grants beyond any sense.
    #[error("credit overflows")]
    CreditOverflow,
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The peer broke a rule.
    #[error("peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The peer said why it ends the connection.
    #[error("peer ended the connection: {0}")]
    PeerLeft(String),
    /// This side ended it.
    #[error("connection was closed here: {0}")]
    ClosedHere(String),
    /// The peer never said hello.
    #[error("peer did not say hello in time: is it another program, or the wrong port?")]
    NoHello,
    /// The peer is silent.
    #[error("nothing came from the peer for {0} ms")]
    Silent(u64),
    /// A payload from the peer drips.
    #[error("a payload from the peer is not here after {0} ms: its network or its disk is sick")]
    SendsSlowly(u64),
    /// The peer does not take a payload, or gives no credit for it.
    #[error("the peer has not taken a payload after {0} ms: its network is sick, or it hangs")]
    ReadsSlowly(u64),
    /// The peer does not end what was taken back.
    #[error("the peer does not answer a cancel: it hangs")]
    CancelIgnored,
    /// The socket failed or ended.
    #[error("connection lost: {0}")]
    Lost(String),
}

impl CloseReason {
    /// Whether the peer was too slow.
    pub fn is_slowness(&self) -> bool {
        matches!(self, Self::SendsSlowly(_) | Self::ReadsSlowly(_) | Self::CancelIgnored | Self::Silent(_))
    }
}

/// Why a request of this side has no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The peer refused it.
    #[error("peer refused: {0}")]
    Refused(Refusal),
    /// Its time is over.
    #[error("no answer in time")]
    DeadlinePassed,
    /// The connection ended first.
    #[error("connection ended before the answer")]
    ConnectionLost,
}

/// Why a request cannot be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// Before the peer's hello.
    #[error("connection is not open yet")]
    NotOpen,
    /// The connection is over, or the peer takes nothing new.
    #[error("peer takes no new requests")]
    Leaving,
    /// As many as the peer allows are in progress: wait for an answer.
    #[error("as many requests as the peer allows are in progress")]
    Full,
    /// The deadline is not in the future.
    #[error("deadline has passed")]
    DeadlinePassed,
    /// The request breaks a rule of its own.
    #[error("request is wrong: {0}")]
    Wrong(#[from] MessageError),
}

/// Why an answer is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The request is no longer in progress: it was taken back, its time is over, or the connection is.
    #[error("nobody waits for this answer any more")]
    Unwanted,
    /// The request is still in progress and can be refused.
    #[error("answer does not fit its request: {0}")]
    Misfit(#[from] MessageError),
}

/// A payload is about to arrive and needs memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferWanted {
    /// Whose payload.
    pub of: PayloadOf,
    /// Bytes, at most 2 MiB.
    pub length: usize,
    /// How it should lie there.
    pub layout: Layout,
}

/// What a payload belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadOf {
    /// The answer to a request of this side.
    Response(RequestId),
    /// A request of the peer.
    Request(PeerRequestId),
}

/// Where the next bytes from the peer belong.
#[derive(Debug)]
pub enum Space<'a> {
    /// Here; then [`super::Connection::filled`]. Never empty.
    Bytes(&'a mut [u8]),
    /// In memory still to be given with [`super::Connection::provide`].
    Wanted(BufferWanted),
    /// Nowhere: the connection is over.
    Closed,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<B> {
    /// The peer said hello; requests can be made.
    Connected(Hello),
    /// The peer asks for something: answer with `respond` or `refuse`.
    Request {
        /// For the answer.
        id: PeerRequestId,
        /// What is asked.
        request: Request,
        /// What came with it; its hash is not checked yet. Counts against credit until `release`.
        payload: Option<B>,
        /// The answer is useless from then on, in this side's time.
        deadline_ms: Option<u64>,
    },
    /// A request of the peer has been ended without this side's answer: stop working on it.
    Withdrawn(PeerRequestId),
    /// The answer to a request of this side.
    Response {
        /// Which request.
        id: RequestId,
        /// The answer; it fits the request.
        response: Response,
        /// What came with it; its hash is not checked yet. Counts against credit until `release`.
        payload: Option<B>,
    },
    /// A request of this side ended without a response.
    Failed {
        /// Which request.
        id: RequestId,
        /// Why.
        error: RequestError,
    },
    /// The final frame of a request that was taken back, or whose time was over, has come: its place is free again.
    Freed(RequestId),
    /// The peer takes no new requests and finishes what is in progress.
    Leaving(String),
    /// The connection is over; comes last.
    Closed(CloseReason),
}

/// Counters of one connection since its start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Payload bytes received, those of unfinished or unwanted payloads included.
    pub payload_received_bytes: u64,
    /// Payload bytes handed out for sending.
    pub payload_sent_bytes: u64,
    /// Time between the last answered ping and its pong.
    pub round_trip_ms: Option<u64>,
}

#[cfg(test)]
impl PayloadOf {
    /// Any, for tests of memory.
    pub(crate) fn for_tests() -> Self {
        Self::Response(RequestId(1))
    }
}
