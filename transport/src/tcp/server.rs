//! Serves peers: accepts connections, runs a handler for each request, answers in the order handlers finish.

use super::link::{Link, LinkEvent, Received, Wire};
use super::payload::SlabPayload;
use super::tasks;
use crate::connection::{AnswerError, Config, Event, PeerRequestId};
use crate::message::{Hello, Refusal, RefusalCode, Request, Response};
use crate::tls::{Fingerprint, Identity, Members, Session, TlsError, server_config};
use engine::net::{TcpListener, TcpStream};
use engine::pool::Pool;
use engine::task::{LocalTask, sleep, spawn_local};
use futures::future::{Either, LocalBoxFuture, select};
use rustls::ServerConfig as TlsSettings;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Connections of one server at once; more are closed as they come.
pub const MAX_CONNECTIONS: usize = 1024;
/// Pause after an accept that failed, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a leaving server looks whether its requests are done.
const LEAVE_POLL: Duration = Duration::from_millis(5);

/// Last words of a server.
const LEAVING: &str = "this member ends";

/// Who is let in.
#[derive(Debug, Clone)]
pub enum ServerLock {
    /// TLS, with this member's certificate; peers whose fingerprints are among the members.
    Certificates(Arc<Identity>, Arc<Members>),
    /// Everybody, unencrypted: for benchmarks (`--insecure-plain-tcp`).
    InsecurePlainTcp,
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Who is let in.
    pub lock: ServerLock,
    /// Limits of each connection.
    pub connection: Config,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be used.
    #[error("cannot listen on {listen}: {error}; is the port in use?")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The peer of a request.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Where it comes from.
    pub address: SocketAddr,
    /// What it said of itself.
    pub hello: Hello,
}

/// What a handler gives.
pub type Answer = Result<(Response, Option<SlabPayload>), Refusal>;

/// What a server does with requests. The future is dropped when the requester no longer waits.
pub trait Handler: 'static {
    /// Answers `request`. The hash of `payload` has not been checked. `deadline_in` is the time the requester
    /// still waits, if it said so.
    fn handle(
        self: Rc<Self>,
        peer: Rc<PeerInfo>,
        request: Request,
        payload: Option<Received>,
        deadline_in: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer>;
}

/// A socket that listens. Serves with [`Server::serve`].
pub struct Server {
    listener: TcpListener,
    config: ServerConfig,
    tls: Option<(Arc<TlsSettings>, Fingerprint)>,
    pool: Pool,
}

impl Server {
    /// Starts to listen. Payloads come to rest in slabs of `pool`.
    pub fn bind(config: ServerConfig, pool: Pool) -> Result<Self, ServeError> {
        let listen = config.listen;
        let listener = TcpListener::bind(listen).map_err(|error| ServeError::Listen { listen, error })?;
        let tls = match &config.lock {
            ServerLock::InsecurePlainTcp => None,
            ServerLock::Certificates(identity, members) => {
                let own = identity.fingerprint();
                let settings = server_config(identity, members.clone())
                    .map_err(|error| TlsError::explain(error, listen, own))?;
                Some((settings, own))
            }
        };
        Ok(Self { listener, config, tls, pool })
    }

    /// The address, with the port the kernel chose if it was left open.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is ready, then finishes the requests in progress. Dropping the future ends all at once.
    pub async fn serve<H: Handler>(self, handler: Rc<H>, stop: impl Future<Output = ()>) {
        let serving = Serving::default();
        let mut stop = pin!(stop);
        loop {
            match select(pin!(self.listener.accept()), stop.as_mut()).await {
                Either::Right(_) => break,
                Either::Left((Err(error), _)) => {
                    tracing::warn!(%error, "cannot accept a connection: are there descriptors left?");
                    sleep(ACCEPT_PAUSE).await;
                }
                Either::Left((Ok(stream), _)) => self.admit(&serving, stream, handler.clone()),
            }
        }
        serving.leave().await;
    }

    fn admit<H: Handler>(&self, serving: &Serving, stream: TcpStream, handler: Rc<H>) {
        if serving.count() >= MAX_CONNECTIONS {
            tracing::warn!(MAX_CONNECTIONS, "connection closed: too many are open");
            return;
        }
        let started = stream.peer_addr().and_then(|peer| {
            stream.set_nodelay(true)?;
            Ok((peer, self.wire().map_err(io::Error::other)?))
        });
        match started {
            // The peer was gone before it was served.
            Err(error) => tracing::debug!(%error, "connection closed at once"),
            Ok((peer, wire)) => {
                let requests = Rc::new(Requests::new(handler, peer));
                let on_event = Box::new(move |link: &Rc<Link>, event| requests.on(link, event));
                let config = self.config.connection.clone();
                let link = tasks::start(stream, peer, wire, config, self.pool.clone(), on_event);
                serving.0.borrow_mut().push(link);
            }
        }
    }

    fn wire(&self) -> Result<Wire, rustls::Error> {
        let Some((settings, own)) = &self.tls else { return Ok(Wire::Plain) };
        let session = Session::server(settings.clone())?;
        Ok(Wire::Tls { session: RefCell::new(Box::new(session)), own: *own })
    }
}

/// The connections of a server; dropping it ends them.
#[derive(Default)]
struct Serving(RefCell<Vec<Rc<Link>>>);

impl Serving {
    /// How many are open.
    fn count(&self) -> usize {
        let mut links = self.0.borrow_mut();
        links.retain(|link| !link.core.borrow().is_closed());
        links.len()
    }

    async fn leave(&self) {
        for link in &*self.0.borrow() {
            link.core.borrow_mut().leave(LEAVING);
            link.changed();
        }
        while self.count() > 0 {
            for link in &*self.0.borrow() {
                if link.core.borrow().is_idle() {
                    link.close(LEAVING);
                }
            }
            sleep(LEAVE_POLL).await;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.take().iter().for_each(|link| link.close(LEAVING));
    }
}

/// The requests of one connection and the tasks that answer them.
struct Requests<H> {
    handler: Rc<H>,
    address: SocketAddr,
    peer: RefCell<Option<Rc<PeerInfo>>>,
    tasks: RefCell<HashMap<PeerRequestId, LocalTask<()>>>,
}

impl<H: Handler> Requests<H> {
    fn new(handler: Rc<H>, address: SocketAddr) -> Self {
        Self { handler, address, peer: RefCell::default(), tasks: RefCell::default() }
    }

    fn on(self: &Rc<Self>, link: &Rc<Link>, event: LinkEvent) {
        match event {
            Event::Connected(hello) => {
                tracing::debug!(peer = %self.address, role = ?hello.role, name = %hello.name, "peer connected");
                *self.peer.borrow_mut() = Some(Rc::new(PeerInfo { address: self.address, hello }));
            }
            Event::Request { id, request, payload, deadline_ms } => {
                let peer = self.peer.borrow().clone().expect("requests come after the hello");
                let payload = payload.map(|payload| Received::new(payload, link));
                let deadline_in =
                    deadline_ms.map(|at| Duration::from_millis(at.saturating_sub(link.now_ms())));
                let answer = self.handler.clone().handle(peer, request, payload, deadline_in);
                self.start(link, id, answer);
            }
            Event::Withdrawn(id) => {
                // The task's end may lead back here, so nothing is borrowed then.
                let task = self.tasks.borrow_mut().remove(&id);
                drop(task);
            }
            Event::Closed(reason) => {
                tracing::debug!(peer = %self.address, %reason, "connection ended");
                drop(self.tasks.take());
            }
            // A server asks nothing.
            Event::Leaving(_) | Event::Response { .. } | Event::Failed { .. } | Event::Freed(_) => {}
        }
    }

    fn start(self: &Rc<Self>, link: &Rc<Link>, id: PeerRequestId, answer: LocalBoxFuture<'static, Answer>) {
        let (requests, answering) = (self.clone(), link.clone());
        let task = spawn_local(async move {
            // A new task runs before it is entered below, so it must wait once.
            engine::task::yield_now().await;
            send(&answering, id, answer.await);
            let itself = requests.tasks.borrow_mut().remove(&id);
            // Dropping a task ends it; this one is at its end anyway.
            if let Some(itself) = itself {
                itself.detach();
            }
        });
        self.tasks.borrow_mut().insert(id, task);
    }
}

fn send(link: &Rc<Link>, id: PeerRequestId, answer: Answer) {
    let mut core = link.core.borrow_mut();
    let sent = match answer {
        Ok((response, payload)) => core.respond(id, &response, payload),
        Err(refusal) => core.refuse(id, &refusal),
    };
    let sent = sent.or_else(|error| match error {
        AnswerError::Misfit(_) => {
            tracing::error!(peer = %link.peer, %error, "a handler failed");
            core.refuse(id, &Refusal::new(RefusalCode::Failed, error.to_string()))
        }
        AnswerError::Unwanted => Err(error),
    });
    drop(core);
    if sent.is_ok() {
        link.changed();
    }
}
