//! Executors, servers and clients for the tests, and a handler whose every byte is known.

use engine::pool::{Pool, SlabMut};
use engine::task::{LocalTask, sleep, spawn_local};
use engine::{Executors, ExecutorsConfig, Local};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::LocalBoxFuture;
use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use transport::connection::Config;
use transport::message::{ItemKind, Refusal, RefusalCode, Request, Response, Role};
use transport::payload::PayloadBuf;
use transport::tcp::{
    Answer, Client, ClientConfig, Handler, PIECE_POINTS_AT, PIECE_RECORD_AT, PeerInfo, Received, Server,
    ServerConfig, ServerLock, ServerPin, SlabPayload,
};
use transport::tls::{Identity, Members, Pin};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Executors of one pretended process, unpinned: tests run beside each other.
pub fn executors(pool: &Pool) -> Executors {
    let config = ExecutorsConfig { name: "test".into(), cores: vec![None], ring_depth: 16 };
    Executors::start(&config, pool).unwrap()
}

/// Runs `make` on an executor of its own with a pool of `slabs`.
pub fn on_executor<F: Future<Output = T> + 'static, T: Send + 'static>(
    slabs: usize,
    make: impl FnOnce(Local) -> F + Send + 'static,
) -> T {
    let executors = executors(&Pool::new(slabs, 64).unwrap());
    let result = executors.spawner(0).spawn(make).wait().unwrap();
    executors.shutdown(PATIENCE).unwrap();
    result
}

/// Two members that know each other, or no TLS at all.
pub struct Keys {
    pub client: Arc<Identity>,
    pub server: Arc<Identity>,
    pub plain: bool,
}

impl Keys {
    pub fn new(plain: bool) -> Self {
        let identity = || Arc::new(Identity::generate().unwrap());
        Self { client: identity(), server: identity(), plain }
    }

    pub fn lock(&self) -> ServerLock {
        let members = Members::default();
        members.set([(self.client.fingerprint(), Pin::of(Role::PlotClient))]);
        match self.plain {
            true => ServerLock::InsecurePlainTcp,
            false => ServerLock::Certificates(self.server.clone(), Arc::new(members)),
        }
    }

    pub fn pin(&self) -> ServerPin {
        match self.plain {
            true => ServerPin::InsecurePlainTcp,
            false => ServerPin::Certificate(self.client.clone(), self.server.fingerprint()),
        }
    }
}

pub fn client(peer: SocketAddr, pin: ServerPin, pool: &Pool) -> Client {
    Client::new(ClientConfig::new([peer], pin, Config::new(Role::PlotClient, "client")), pool.clone())
}

pub fn bind(lock: ServerLock, pool: &Pool) -> (Server, SocketAddr) {
    bind_with(lock, pool, Config::new(Role::PlotServer, "server"))
}

/// Whoever comes may ask everything: rights have tests of their own.
pub fn bind_with(lock: ServerLock, pool: &Pool, connection: Config) -> (Server, SocketAddr) {
    let connection = Config { may_send: |_, _| true, ..connection };
    bind_strictly(lock, pool, connection)
}

pub fn bind_strictly(lock: ServerLock, pool: &Pool, connection: Config) -> (Server, SocketAddr) {
    let listen = "127.0.0.1:0".parse().unwrap();
    let server =
        Server::bind(ServerConfig { listen, lock, connection, slabs: usize::MAX }, pool.clone()).unwrap();
    let address = server.local_addr().unwrap();
    (server, address)
}

/// Starts a server on an executor of its own; it dies with the executors.
pub fn spawn_server(lock: ServerLock, slabs: usize, sent: Arc<AtomicU64>) -> (Executors, SocketAddr) {
    let executors = executors(&Pool::new(slabs, 64).unwrap());
    let (sender, address) = mpsc::channel();
    drop(executors.spawner(0).spawn(move |local| async move {
        let (server, address) = bind(lock, local.pool());
        sender.send(address).unwrap();
        let handler = Rc::new(Library::new(local.pool().clone(), sent));
        server.serve(handler, local.stopping()).await;
    }));
    (executors, address.recv().unwrap())
}

/// A server and a client for it on one executor.
pub struct House {
    pub client: Client,
    pub library: Rc<Library>,
    pub serving: LocalTask<()>,
    /// Dropped to end the server.
    pub stop: oneshot::Sender<()>,
}

impl House {
    pub fn new(local: &Local, keys: &Keys) -> Self {
        Self::with(local, keys, Config::new(Role::PlotServer, "server"))
    }

    pub fn with(local: &Local, keys: &Keys, connection: Config) -> Self {
        let (server, address) = bind_with(keys.lock(), local.pool(), connection);
        let library = Rc::new(Library::new(local.pool().clone(), Arc::default()));
        let (stop, stopped) = oneshot::channel();
        let serving = spawn_local(server.serve(library.clone(), stopped.map(|_| ())));
        Self { client: client(address, keys.pin(), local.pool()), library, serving, stop }
    }
}

/// Fills `bytes` with what lies at `offset`, a multiple of eight.
pub fn fill(bytes: &mut [u8], offset: u64, salt: u64) {
    let word = |at: u64| (at ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).to_le_bytes();
    let mut words = bytes.chunks_exact_mut(8);
    let mut at = offset;
    for eight in &mut words {
        eight.copy_from_slice(&word(at));
        at += 8;
    }
    let rest = words.into_remainder();
    let length = rest.len();
    rest.copy_from_slice(&word(at)[..length]);
}

/// The piece of an index, as it lies in a slab.
pub fn fill_piece(slab: &mut SlabMut, index: u64) {
    let record = ItemKind::Parity.size_bytes();
    fill(&mut slab[PIECE_RECORD_AT..PIECE_RECORD_AT + record], 0, index);
    fill(&mut slab[PIECE_POINTS_AT..PIECE_RECORD_AT], 1 << 30, index);
}

/// Serves sector ranges and pieces, made when asked for.
pub struct Library {
    pool: Pool,
    /// Payload bytes handed over for sending.
    sent: Arc<AtomicU64>,
    /// Requests that reached the handler.
    pub started: Cell<u32>,
    /// Requests whose handling was dropped before its end.
    pub dropped: Rc<Cell<u32>>,
}

impl Library {
    pub fn new(pool: Pool, sent: Arc<AtomicU64>) -> Self {
        Self { pool, sent, started: Cell::new(0), dropped: Rc::default() }
    }

    /// Waits until so many requests reached the handler.
    pub async fn wait_for(&self, requests: u32) {
        while self.started.get() < requests {
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn answer(&self, request: Request, payload: Option<Received>) -> Answer {
        if let (Some(hash), Some(payload)) = (request.blake3(), &payload)
            && payload.blake3() != *hash
        {
            return Err(Refusal::new(RefusalCode::Damaged, "payload fails its hash"));
        }
        let mut slab = self.pool.acquire().await.unwrap();
        let (payload, response): (_, fn([u8; 32]) -> Response) = match request {
            Request::GetItem { index, kind: ItemKind::Piece } if index < 1000 => {
                fill_piece(&mut slab, index);
                (SlabPayload::piece(&slab.freeze()), |blake3| Response::Item { blake3 })
            }
            Request::GetItem { .. } => return Err(Refusal::new(RefusalCode::NotFound, "no such item")),
            // For a proof this is a handler's mistake.
            Request::PutItem { .. } | Request::Prove { .. } => return Ok((Response::Stored, None)),
            Request::GetSectorRange { phase, offset, length, .. } => {
                let start = usize::from(phase);
                let mut part = slab.narrow(start..start + length as usize);
                fill(&mut part, offset, 0);
                (SlabPayload::run(part.freeze()), |blake3| Response::SectorRange { blake3 })
            }
            // A request that takes for ever.
            Request::GetSectorMetadata { .. } => {
                let _guard = CountDrop(self.dropped.clone());
                std::future::pending().await
            }
        };
        self.sent.fetch_add(payload.len() as u64, Ordering::Relaxed);
        Ok((response(payload.blake3()), Some(payload)))
    }
}

struct CountDrop(Rc<Cell<u32>>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

impl Handler for Library {
    fn handle(
        self: Rc<Self>,
        peer: Rc<PeerInfo>,
        request: Request,
        payload: Option<Received>,
        deadline_in: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        assert_eq!((peer.role, peer.hello.role), (Role::PlotClient, Role::PlotClient));
        assert!(deadline_in.is_some_and(|left| left <= PATIENCE));
        self.started.set(self.started.get() + 1);
        Box::pin(async move { self.answer(request, payload).await })
    }
}
