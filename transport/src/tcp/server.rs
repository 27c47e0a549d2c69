//! Serves peers: accepts connections and lets them in.

use super::answering::Requests;
use super::handler::Handler;
use super::link::{Link, LinkEvent, Wire};
use super::memory::Memory;
use super::serving::Serving;
use super::tasks;
use crate::connection::{Config, Event};
use crate::limits::STRANGER_MS;
use crate::tls::{Fingerprint, Identity, Members, Session, TlsError, server_config};
use engine::net::{TcpListener, TcpStream};
use engine::pool::Pool;
use engine::task::{sleep, spawn_local};
use futures::future::{Either, select};
use rustls::ServerConfig as TlsSettings;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

/// Pause after an accept that failed, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a server looks whether the members have changed: whoever is withdrawn is cut off within a second.
const MEMBERS_POLL: Duration = Duration::from_millis(200);

/// Who is let in.
#[derive(Debug, Clone)]
pub enum ServerLock {
    /// TLS, with this member's certificate; peers whose fingerprints are among the members, as long as they are.
    Certificates(Arc<Identity>, Arc<Members>),
    /// Everybody, unencrypted, in the role that each says: for benchmarks (`--insecure-plain-tcp`).
    InsecurePlainTcp,
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Who is let in.
    pub lock: ServerLock,
    /// Limits of each connection; who has not said hello within two seconds is closed.
    pub connection: Config,
    /// Slabs that requests and their answers may hold at once, those of all peers together. At least one; no more are taken
    /// than the pool has.
    pub slabs: usize,
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

/// A socket that listens. Serves with [`Server::serve`].
pub struct Server {
    listener: TcpListener,
    config: ServerConfig,
    tls: Option<(Arc<TlsSettings>, Fingerprint)>,
    memory: Memory,
}

impl Server {
    /// Starts to listen. Payloads come to rest in slabs of `pool`.
    ///
    /// # Panics
    /// When `config` gives no slab.
    pub fn bind(config: ServerConfig, pool: Pool) -> Result<Self, ServeError> {
        let hello_timeout_ms = config.connection.hello_timeout_ms.min(STRANGER_MS);
        let connection = Config { hello_timeout_ms, ..config.connection };
        let (listen, config) = (config.listen, ServerConfig { connection, ..config });
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
        let memory = Memory::new(pool, config.slabs);
        Ok(Self { listener, config, tls, memory })
    }

    /// The address, with the port the kernel chose if it was left open.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is ready, then finishes the requests in progress. Dropping the future ends all at once.
    pub async fn serve<H: Handler>(self, handler: Rc<H>, stop: impl Future<Output = ()>) {
        let serving = Rc::new(Serving::default());
        let _watching = self.members().map(|members| spawn_local(cut_off(members, Rc::downgrade(&serving))));
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

    fn admit<H: Handler>(&self, serving: &Rc<Serving>, stream: TcpStream, handler: Rc<H>) {
        let started = stream.peer_addr().and_then(|peer| {
            stream.set_nodelay(true)?;
            Ok((peer, self.wire().map_err(io::Error::other)?))
        });
        match started {
            // The peer was gone before it was served.
            Err(error) => tracing::debug!(%error, "connection closed at once"),
            Ok((peer, wire)) => {
                let id = serving.arrived(peer.ip());
                let requests = Rc::new(Requests::new(handler, peer, self.memory.clone()));
                let places = Rc::downgrade(serving);
                let on_event = Box::new(move |link: &Rc<Link>, event: LinkEvent| {
                    match (&event, places.upgrade()) {
                        (Event::Connected(_), Some(places)) => places.admitted(id, link.peer_id()),
                        (Event::Closed(reason), Some(places)) => places.left(id, reason),
                        _ => {}
                    }
                    requests.on(link, event);
                });
                let config = self.config.connection.clone();
                let link = tasks::start(stream, peer, wire, config, self.memory.clone(), on_event);
                serving.started(id, link);
            }
        }
    }

    fn members(&self) -> Option<Arc<Members>> {
        match &self.config.lock {
            ServerLock::Certificates(_, members) => Some(members.clone()),
            ServerLock::InsecurePlainTcp => None,
        }
    }

    fn wire(&self) -> Result<Wire, rustls::Error> {
        let Some((settings, own)) = &self.tls else { return Ok(Wire::Plain) };
        let session = Session::server(settings.clone())?;
        Ok(Wire::Tls { session: RefCell::new(Box::new(session)), own: *own, members: self.members() })
    }
}

/// Ends the connections of those who are no members any more.
async fn cut_off(members: Arc<Members>, serving: Weak<Serving>) {
    let mut seen = members.changes();
    loop {
        sleep(MEMBERS_POLL).await;
        let (now, Some(serving)) = (members.changes(), serving.upgrade()) else { return };
        if now != seen {
            seen = now;
            serving.cut_off();
        }
    }
}
