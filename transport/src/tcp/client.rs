//! One peer, asked from one executor: connects when needed, keeps the connection, connects again.

use super::link::{Link, LinkEvent, Received, Wire};
use super::payload::SlabPayload;
use super::tasks;
use crate::connection::{CloseReason, Config, Event, MakeError, RequestError, RequestId};
use crate::message::{MessageError, Refusal, Request, Response};
use crate::payload::PayloadBuf;
use crate::tls::{Fingerprint, Identity, Session, TlsError, client_config};
use engine::net::TcpStream;
use engine::pool::Pool;
use engine::task::timeout;
use futures::channel::oneshot;
use futures::lock::Mutex;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a client expects at the other end.
#[derive(Debug, Clone)]
pub enum ServerPin {
    /// TLS, with this member's certificate, to the one server with that fingerprint.
    Certificate(Arc<Identity>, Fingerprint),
    /// No encryption and no proof of who is there: for benchmarks (`--insecure-plain-tcp`).
    InsecurePlainTcp,
}

/// A peer and how to talk to it.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Where it listens.
    pub peer: SocketAddr,
    /// Who it must be.
    pub pin: ServerPin,
    /// The connection's limits. `max_requests` is taken as zero: a client serves nothing.
    pub connection: Config,
    /// For the socket, TLS and the hello together.
    pub connect_timeout: Duration,
    /// Pause after the first failure to connect; doubles with each, up to `max_backoff`, plus up to half at random.
    pub first_backoff: Duration,
    /// Longest pause.
    pub max_backoff: Duration,
}

impl ClientConfig {
    /// Five seconds to connect; pauses from 100 ms to 10 s.
    pub fn new(peer: SocketAddr, pin: ServerPin, connection: Config) -> Self {
        let seconds = Duration::from_secs;
        Self {
            peer,
            pin,
            connection: Config { max_requests: 0, ..connection },
            connect_timeout: seconds(5),
            first_backoff: Duration::from_millis(100),
            max_backoff: seconds(10),
        }
    }
}

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No connection; the next attempt is made by a request after `retry_in`.
    #[error("{peer} cannot be reached: {reason}; next attempt in {retry_in:?}")]
    Unreachable {
        /// The peer.
        peer: SocketAddr,
        /// What went wrong last.
        reason: String,
        /// Requests before that fail at once.
        retry_in: Duration,
    },
    /// The peer refused.
    #[error("{peer} refused: {refusal}")]
    Refused {
        /// The peer.
        peer: SocketAddr,
        /// What it says.
        refusal: Refusal,
    },
    /// No answer within the time of the request.
    #[error("{peer} did not answer within {limit:?}")]
    TimedOut {
        /// The peer.
        peer: SocketAddr,
        /// The time it had.
        limit: Duration,
    },
    /// The connection ended before the answer.
    #[error("connection to {peer} ended before the answer: {reason}")]
    Lost {
        /// The peer.
        peer: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The peer is about to end.
    #[error("{peer} is leaving and takes no new requests")]
    Leaving {
        /// The peer.
        peer: SocketAddr,
    },
    /// The request itself is wrong.
    #[error("request is wrong: {0}")]
    Wrong(#[from] MessageError),
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// It fits the request.
    pub response: Response,
    /// Its payload, if it has one.
    pub payload: Option<Received>,
}

impl Reply {
    /// Whether the payload has the hash that the response names. Costs a pass over the bytes.
    pub fn is_intact(&self) -> bool {
        let hash = self.payload.as_ref().map(|payload| payload.blake3());
        hash.as_ref() == self.response.blake3()
    }
}

type Outcome = Result<Reply, RequestError>;

/// Asks one peer. Clones share the connection; it closes when the last is dropped.
#[derive(Clone)]
pub struct Client(Rc<Inner>);

struct Inner {
    config: ClientConfig,
    pool: Pool,
    /// Held while connecting, so that one attempt serves all who wait.
    connection: Mutex<Option<Rc<Connected>>>,
    failures: Cell<u32>,
    last_failure: RefCell<String>,
    retry_at: Cell<Option<Instant>>,
}

/// A connection that has been open.
struct Connected {
    link: Rc<Link>,
    answers: Rc<Answers>,
}

/// Who waits for what.
#[derive(Default)]
struct Answers {
    waiting: RefCell<HashMap<RequestId, oneshot::Sender<Outcome>>>,
    /// For room among the requests the peer allows.
    queue: RefCell<VecDeque<oneshot::Sender<()>>>,
    opened: RefCell<Option<oneshot::Sender<()>>>,
    closed: RefCell<Option<CloseReason>>,
}

impl Answers {
    fn on(&self, link: &Rc<Link>, event: LinkEvent) {
        match event {
            Event::Connected(_) => {
                if let Some(opened) = self.opened.take() {
                    let _ = opened.send(());
                }
            }
            Event::Response { id, response, payload } => {
                let payload = payload.map(|payload| Received::new(payload, link));
                self.answer(id, Ok(Reply { response, payload }));
                self.make_room(link);
            }
            Event::Failed { id, error } => {
                self.answer(id, Err(error));
                self.make_room(link);
            }
            Event::Freed(_) => self.make_room(link),
            Event::Closed(reason) => {
                *self.closed.borrow_mut() = Some(reason);
                self.opened.take();
                self.queue.take();
            }
            // A client allows no requests, so none comes.
            Event::Leaving(_) | Event::Request { .. } | Event::Withdrawn(_) => {}
        }
    }

    fn answer(&self, id: RequestId, outcome: Outcome) {
        let waiting = self.waiting.borrow_mut().remove(&id);
        if let Some(waiting) = waiting {
            // The asker may be gone at this very moment.
            let _ = waiting.send(outcome);
        }
    }

    /// Wakes the next one in the queue if the peer allows one more request.
    fn make_room(&self, link: &Link) {
        while link.core.borrow().room_for_requests() > 0 {
            let Some(next) = self.queue.borrow_mut().pop_front() else { return };
            if next.send(()).is_ok() {
                return;
            }
        }
    }

    fn close_text(&self) -> String {
        self.closed.borrow().as_ref().map_or_else(|| "it ended".into(), ToString::to_string)
    }
}

/// Takes a request back when whoever made it no longer waits.
struct Asking {
    connected: Rc<Connected>,
    id: RequestId,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let waited = self.connected.answers.waiting.borrow_mut().remove(&self.id).is_some();
        if waited {
            self.connected.link.core.borrow_mut().cancel(self.id);
            self.connected.link.changed();
        }
    }
}

/// Somebody's turn to make a request. When it is over, made use of or not, the next one is woken if there is room.
struct Turn<'a>(&'a Connected);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.answers.make_room(&self.0.link);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.link.close("no longer needed");
    }
}

impl Client {
    /// A client that connects with its first request. Payloads come to rest in slabs of `pool`.
    pub fn new(config: ClientConfig, pool: Pool) -> Self {
        let config = ClientConfig { connection: Config { max_requests: 0, ..config.connection }, ..config };
        Self(Rc::new(Inner {
            config,
            pool,
            connection: Mutex::new(None),
            failures: Cell::new(0),
            last_failure: RefCell::default(),
            retry_at: Cell::new(None),
        }))
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.0.config.peer
    }

    /// Asks and waits for the answer, at most `limit` in all. Dropping the future takes the request back.
    pub async fn request(
        &self,
        request: Request,
        payload: Option<SlabPayload>,
        limit: Duration,
    ) -> Result<Reply, ClientError> {
        let peer = self.peer();
        let started = Instant::now();
        let timed_out = ClientError::TimedOut { peer, limit };
        let connected = timeout(limit, self.0.connected()).await.map_err(|_| timed_out.clone())??;
        let left = limit.saturating_sub(started.elapsed());
        let asked = timeout(left, ask(&connected, request, payload, limit, started)).await;
        let (asking, answer) = asked.map_err(|_| timed_out.clone())??;
        let outcome = answer.await;
        drop(asking);
        match outcome {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(RequestError::Refused(refusal))) => Err(ClientError::Refused { peer, refusal }),
            Ok(Err(RequestError::DeadlinePassed)) => Err(timed_out),
            Ok(Err(RequestError::ConnectionLost)) | Err(oneshot::Canceled) => {
                Err(ClientError::Lost { peer, reason: connected.answers.close_text() })
            }
        }
    }
}

/// Makes the request as soon as the peer allows one more.
async fn ask(
    connected: &Rc<Connected>,
    request: Request,
    payload: Option<SlabPayload>,
    limit: Duration,
    started: Instant,
) -> Result<(Asking, oneshot::Receiver<Outcome>), ClientError> {
    let peer = connected.link.peer;
    let _turn = Turn(connected);
    while connected.link.core.borrow().room_for_requests() == 0 {
        let (room, has_room) = oneshot::channel();
        connected.answers.queue.borrow_mut().push_back(room);
        let lost = |_| ClientError::Lost { peer, reason: connected.answers.close_text() };
        has_room.await.map_err(lost)?;
    }
    let link = &connected.link;
    let (now_ms, left) = (link.now_ms(), limit.saturating_sub(started.elapsed()));
    let deadline_ms = now_ms + u64::try_from(left.as_millis()).unwrap_or(u64::from(u32::MAX));
    let made = link.core.borrow_mut().request(request, payload, Some(deadline_ms), now_ms);
    let id = made.map_err(|error| match error {
        MakeError::Wrong(error) => ClientError::Wrong(error),
        MakeError::DeadlinePassed => ClientError::TimedOut { peer, limit },
        MakeError::Leaving => ClientError::Leaving { peer },
        MakeError::NotOpen | MakeError::Full => unreachable!("the connection is open and has room"),
    })?;
    let (sender, answer) = oneshot::channel();
    connected.answers.waiting.borrow_mut().insert(id, sender);
    link.changed();
    Ok((Asking { connected: connected.clone(), id }, answer))
}

impl Inner {
    /// The open connection, made now if there is none.
    async fn connected(&self) -> Result<Rc<Connected>, ClientError> {
        let mut current = self.connection.lock().await;
        if let Some(connected) = &*current
            && connected.answers.closed.borrow().is_none()
        {
            return Ok(connected.clone());
        }
        *current = None;
        let now = Instant::now();
        if let Some(retry_in) = self.retry_at.get().and_then(|at| at.checked_duration_since(now)) {
            return Err(self.unreachable(retry_in));
        }
        match self.connect().await {
            Ok(connected) => {
                self.failures.set(0);
                self.retry_at.set(None);
                *current = Some(connected.clone());
                Ok(connected)
            }
            Err(reason) => {
                *self.last_failure.borrow_mut() = reason;
                let pause = self.next_pause();
                self.retry_at.set(Some(Instant::now() + pause));
                Err(self.unreachable(pause))
            }
        }
    }

    fn unreachable(&self, retry_in: Duration) -> ClientError {
        let reason = self.last_failure.borrow().clone();
        ClientError::Unreachable { peer: self.config.peer, reason, retry_in }
    }

    fn next_pause(&self) -> Duration {
        let failures = self.failures.get();
        self.failures.set(failures.saturating_add(1));
        let pause = self.config.first_backoff.saturating_mul(1 << failures.min(16));
        let pause = pause.min(self.config.max_backoff);
        // Members that lost the same server must not all return in the same moment.
        let random = std::hash::RandomState::new().build_hasher().finish() >> 32;
        pause + pause.mul_f64(random as f64 / 2f64.powi(33))
    }

    async fn connect(&self) -> Result<Rc<Connected>, String> {
        let limit = self.config.connect_timeout;
        let opening = async {
            let stream = TcpStream::connect(self.config.peer, limit).await.map_err(|e| e.to_string())?;
            let (connected, opened) = self.start(stream).map_err(|error| error.to_string())?;
            opened.await.map_err(|_| connected.answers.close_text())?;
            Ok(connected)
        };
        timeout(limit, opening).await.unwrap_or_else(|elapsed| Err(elapsed.to_string()))
    }

    fn start(&self, stream: TcpStream) -> Result<(Rc<Connected>, oneshot::Receiver<()>), ConnectError> {
        let config = &self.config;
        stream.set_nodelay(true)?;
        let wire = match &config.pin {
            ServerPin::InsecurePlainTcp => Wire::Plain,
            ServerPin::Certificate(identity, expected) => {
                let own = identity.fingerprint();
                let made = client_config(identity, *expected)
                    .and_then(|settings| Session::client(settings, config.peer.ip()))
                    .map_err(|error| TlsError::explain(error, config.peer, own))?;
                Wire::Tls { session: RefCell::new(Box::new(made)), own }
            }
        };
        let answers = Rc::new(Answers::default());
        let (sender, opened) = oneshot::channel();
        *answers.opened.borrow_mut() = Some(sender);
        let weak: Weak<Answers> = Rc::downgrade(&answers);
        let on_event = Box::new(move |link: &Rc<Link>, event| {
            if let Some(answers) = weak.upgrade() {
                answers.on(link, event);
            }
        });
        let link =
            tasks::start(stream, config.peer, wire, config.connection.clone(), self.pool.clone(), on_event);
        Ok((Rc::new(Connected { link, answers }), opened))
    }
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
}
