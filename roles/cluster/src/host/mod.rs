//! One member of the cluster: its executors, its memory, its certificate, its server and its place among the others.
//!
//! ```text
//!   tokio: role ─▶ Host::request ─▶ channel ─▶ executor: peers ─▶ Client ═══ TLS ═══ another member's server
//!            ▲                                                                               │
//!            └─ members (MemberWatch) ◀─ bus ─▶ announcement      executor 0: Server ─▶ Handler
//! ```
//! Owns: executors, pool, identity, server, announcement, and the connections to peers. Never: what a request means,
//! or which member to ask.

mod config;
mod error;
mod memory;
mod nothing;
mod peers;
mod present;
mod reply;

pub use config::{HostConfig, host_name};
pub use error::HostError;
pub use nothing::ServesNothing;
pub use present::Present;
pub use reply::HostReply;

use self::config::wire_role;
use self::peers::{Ask, Peers};
use self::present::watch_members;
use bus::SharedBus;
use bus::members::{Announced, MemberWatch};
use control::ids::InstanceId;
use control::messages::{MemberEntry, Role};
use engine::pool::{Pool, Slab};
use engine::{Executors, ExecutorsConfig, Local, Spawner};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use transport::connection::Config as ConnectionConfig;
use transport::message::{Layout, Request};
use transport::tcp::{Handler, ServeError, Server, ServerConfig, ServerLock};
use transport::tls::{Identity, Members};

/// Operations each ring hands to the kernel at once.
const RING_DEPTH: usize = 64;
/// Tasks that may wait for a slab before work is refused.
const MAX_SLAB_WAITERS: usize = 4096;
/// Requests that may wait to be started on one executor.
const MAX_WAITING_ASKS: usize = 4096;

/// A running member; clones are handles to the same one.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    id: InstanceId,
    bus: SharedBus,
    pool: Pool,
    address: SocketAddr,
    present: watch::Receiver<Present>,
    /// One channel an executor; a peer is always asked from the same one, so it has one connection.
    asks: Vec<mpsc::Sender<Ask>>,
    spawners: Vec<Spawner>,
    /// What [`Host::shutdown`] ends.
    running: Mutex<Option<Running>>,
}

struct Running {
    executors: Executors,
    announced: Announced,
    watching: JoinHandle<()>,
}

impl Host {
    /// Starts executors and server, and announces the member. `make_handler` is called once, on executor 0, which serves;
    /// it may start tasks there, and answer [`transport::message::RefusalCode::NotReady`] until they are done.
    pub async fn start<H: Handler>(
        config: HostConfig,
        bus: SharedBus,
        make_handler: impl FnOnce(Local) -> Rc<H> + Send + 'static,
    ) -> Result<Self, HostError> {
        let pool = Pool::new(config.slabs, MAX_SLAB_WAITERS)?;
        let identity = Arc::new(Identity::generate()?);
        let let_in = Arc::new(Members::default());
        let first_cores = config.cores.first().and_then(Option::as_ref);
        memory::place(&pool, first_cores);
        let executors = Executors::start(
            &ExecutorsConfig { name: "executor".into(), cores: config.cores.clone(), ring_depth: RING_DEPTH },
            &pool,
        )?;
        memory::tell(&pool, first_cores);
        let connection = ConnectionConfig::new(wire_role(config.role), config.name());
        let server = ServerConfig {
            listen: config.listen(),
            lock: ServerLock::Certificates(identity.clone(), let_in.clone()),
            connection: connection.clone(),
            slabs: config.serving_slabs,
        };
        let address = serve(&executors.spawner(0), server, make_handler).await?;

        let watch = MemberWatch::start_for(bus.clone(), config.role, config.liveness).await?;
        let (present, is_present) = watch::channel(Present::default());
        let watching = tokio::spawn(watch_members(watch, present, let_in));
        let spawners: Vec<_> = (0..executors.count()).map(|index| executors.spawner(index)).collect();
        let peers = |spawner: &Spawner| {
            let (asks, to_ask) = mpsc::channel(MAX_WAITING_ASKS);
            let (identity, connection, present) = (identity.clone(), connection.clone(), is_present.clone());
            // It runs until the executor ends; nobody waits for it.
            drop(spawner.spawn(move |local| {
                Peers::new(identity, connection, present, local.pool().clone()).run(to_ask, local)
            }));
            asks
        };
        let asks = spawners.iter().map(peers).collect();
        let entry = config.entry(address.port(), identity.fingerprint());
        let announced = Announced::start(bus.clone(), entry, config.liveness).await?;
        tracing::info!(role = config.role.token(), id = %config.id, %address, "member of the cluster");
        let running = Mutex::new(Some(Running { executors, announced, watching }));
        Ok(Self(Arc::new(Inner {
            id: config.id,
            bus,
            pool,
            address,
            present: is_present,
            asks,
            spawners,
            running,
        })))
    }

    /// This member's id.
    pub fn id(&self) -> InstanceId {
        self.0.id
    }

    /// The bus it is announced on.
    pub fn bus(&self) -> &SharedBus {
        &self.0.bus
    }

    /// The memory all its payloads lie in.
    pub fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The way to run futures on executor `index`. Panics when there is none of that index.
    pub fn spawner(&self, index: usize) -> Spawner {
        self.0.spawners[index].clone()
    }

    /// The members of a role that are present now, in order of their ids; this one too when it has that role, unless it is a
    /// plot-client.
    pub fn members(&self, role: Role) -> Vec<MemberEntry> {
        self.0.present.borrow().values().filter(|entry| entry.role == role).cloned().collect()
    }

    /// Tells others whether this cache takes no more pieces.
    pub fn tell_full(&self, is_full: bool) {
        if let Some(running) = &*self.0.running.lock().unwrap_or_else(PoisonError::into_inner) {
            running.announced.update(|entry| entry.is_full = is_full);
        }
    }

    /// All members that are present, and a notice of each change.
    pub fn present(&self) -> watch::Receiver<Present> {
        self.0.present.clone()
    }

    /// Asks `peer` and waits at most `timeout`. `payload` is what goes with the request: for [`Layout::Piece`] the one slab
    /// in which the piece lies so, else its parts in the order of the wire, or nothing. Dropping the future takes the
    /// request back. The peer is reached at any of its addresses; a request that it got is not made again.
    pub async fn request(
        &self,
        peer: InstanceId,
        request: Request,
        payload: Vec<Slab>,
        layout: Layout,
        timeout: Duration,
    ) -> Result<HostReply, HostError> {
        let (done, answer) = oneshot::channel();
        let ask = Ask { peer, request, payload, layout, timeout, done };
        let executor = usize::from(peer.0[15]) % self.0.asks.len();
        self.0.asks[executor].try_send(ask).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => HostError::Busy,
            mpsc::error::TrySendError::Closed(_) => HostError::Ended,
        })?;
        answer.await.map_err(|_| HostError::Ended)?
    }

    /// Leaves the cluster, finishes the requests in progress and ends the executors, within `limit`. What goes wrong is
    /// logged: the process ends anyway. Later calls on any clone do nothing, or err with [`HostError::Ended`].
    pub async fn shutdown(self, limit: Duration) {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { executors, announced, watching }) = running else { return };
        match tokio::time::timeout(limit, announced.leave()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("could not take leave of the cluster: {error}"),
            Err(_) => tracing::warn!("could not take leave of the cluster: the bus does not answer"),
        }
        match tokio::task::spawn_blocking(move || executors.shutdown(limit)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("{error}"),
            Err(error) => tracing::error!("the executors' end: {error}"),
        }
        watching.abort();
    }
}

/// Starts the server on its executor and gives the address it has.
async fn serve<H: Handler>(
    spawner: &Spawner,
    config: ServerConfig,
    make_handler: impl FnOnce(Local) -> Rc<H> + Send + 'static,
) -> Result<SocketAddr, HostError> {
    let (bound, is_bound) = oneshot::channel();
    // It serves until the executor ends; nobody waits for it.
    drop(spawner.spawn(|local| async move {
        let listen = config.listen;
        let server = Server::bind(config, local.pool().clone()).and_then(|server| {
            let address = server.local_addr();
            address.map(|address| (server, address)).map_err(|error| ServeError::Listen { listen, error })
        });
        match server {
            Err(error) => drop(bound.send(Err(error))),
            Ok((server, address)) => {
                let handler = make_handler(local.clone());
                // Whoever started this is gone only when the host was never made.
                let _ = bound.send(Ok(address));
                server.serve(handler, local.stopping()).await;
            }
        }
    }));
    Ok(is_bound.await.map_err(|_| HostError::Ended)??)
}
