//! Peers that take and do not give: each costs only itself.

use crate::house::{Keys, Library, PATIENCE, bind_with, client, on_executor};
use engine::Local;
use engine::net::{TcpListener, TcpStream};
use engine::task::{LocalTask, sleep, spawn_local};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use transport::connection::{Config, Connection, Event, Space};
use transport::limits::{STRANGERS_MAX, TIMEOUTS_MAX, TRIAL_PAYLOADS};
use transport::message::{ItemKind, Request, Response, Role};
use transport::tcp::{Client, ClientConfig, ServerPin};

const PIECE: Request = Request::GetItem { index: 1, kind: ItemKind::Piece };

/// A member that speaks the protocol as badly as a test wants.
struct Hostile {
    stream: TcpStream,
    conn: Connection<Vec<u8>>,
}

impl Hostile {
    /// Both have said hello.
    async fn new(address: SocketAddr) -> Self {
        let config = Config { max_requests: 0, ..Config::new(Role::PlotClient, "hostile") };
        let mut hostile = Self {
            stream: TcpStream::connect(address, PATIENCE).await.unwrap(),
            conn: Connection::new(config, 0),
        };
        hostile.send().await;
        while hostile.conn.event().is_none() {
            let Space::Bytes(space) = hostile.conn.space() else { panic!("no payload was asked for") };
            let count = hostile.stream.reader.read(space).await.unwrap();
            hostile.conn.filled(count, 0);
        }
        hostile
    }

    async fn send(&mut self) {
        while let Some(frame) = self.conn.transmit(0) {
            self.stream.writer.write_all(&frame.head).await.unwrap();
        }
    }

    /// Asks for as much as it may and reads nothing.
    async fn ask_for_all(&mut self) {
        for at in 0..self.conn.room_for_requests() as u64 {
            let request =
                Request::GetSectorRange { staging: [1; 16], phase: 0, offset: at << 21, length: 2 << 20 };
            let deadline_ms = Some(PATIENCE.as_millis() as u64);
            self.conn.request(request, None, deadline_ms, 0).unwrap();
        }
        self.send().await;
    }
}

fn serve(local: &Local, config: Config) -> (Rc<Library>, SocketAddr, LocalTask<()>) {
    let (server, address) = bind_with(Keys::new(true).lock(), local.pool(), config);
    let library = Rc::new(Library::new(local.pool().clone(), Arc::default()));
    let serving = spawn_local(server.serve(library.clone(), std::future::pending()));
    (library, address, serving)
}

/// Slabs of the server's pool are in use until the hostile are given up, and there are always some for others.
fn they_hang(hostile: usize, slabs: usize) {
    let honest = engine::pool::Pool::new(4, 8).unwrap();
    on_executor(slabs, move |local| async move {
        let config = Config { payload_grace_ms: 3000, ..Config::new(Role::PlotServer, "server") };
        let (_, address, _serving) = serve(&local, config);
        let client = client(address, Keys::new(true).pin(), &honest);
        for _ in 0..TRIAL_PAYLOADS {
            client.request(PIECE, None, PATIENCE).await.unwrap();
        }
        let mut all = Vec::new();
        for _ in 0..hostile {
            let mut one = Hostile::new(address).await;
            one.ask_for_all().await;
            all.push(one);
        }
        for _ in 0..20 {
            client.request(PIECE, None, PATIENCE).await.unwrap();
            assert!(local.pool().stats().in_use <= slabs);
        }
        // They are closed though they did not read a byte, and what they held is free.
        while local.pool().stats().in_use > 0 {
            sleep(Duration::from_millis(10)).await;
        }
        client.request(PIECE, None, PATIENCE).await.unwrap();
        drop(all);
    });
}

#[test]
fn one_peer_that_reads_nothing_does_not_hold_the_pool() {
    they_hang(1, 8);
}

#[test]
fn sixty_four_peers_that_read_nothing_do_not_hold_the_pool() {
    they_hang(64, 16);
}

/// Strangers that say nothing have their few places and two seconds; a member finds one.
#[test]
fn silent_strangers_do_not_keep_members_out() {
    on_executor(8, |local| async move {
        let keys = Keys::new(false);
        let (server, address) = bind_with(keys.lock(), local.pool(), Config::new(Role::PlotServer, "server"));
        let library = Rc::new(Library::new(local.pool().clone(), Arc::default()));
        let _serving = spawn_local(server.serve(library, std::future::pending()));
        let mut strangers = Vec::new();
        for _ in 0..4 * STRANGERS_MAX {
            strangers.push(TcpStream::connect(address, PATIENCE).await.unwrap());
        }
        client(address, keys.pin(), local.pool()).request(PIECE, None, PATIENCE).await.unwrap();
        // All of them are closed, those that gave way and those whose time was over.
        for mut stranger in strangers {
            let mut bytes = [0; 4096];
            while stranger.reader.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
        }
    });
}

/// What a server does with the payload of an answer.
#[derive(Clone, Copy, PartialEq)]
enum Answers {
    Well,
    /// Byte by byte.
    Drips,
    /// It answers nothing, and is alive.
    Never,
}

/// A server whose connections behave as `how` says, by their number; counts them.
fn odd_server(how: impl Fn(usize) -> Answers + 'static) -> (SocketAddr, Rc<Cell<usize>>, LocalTask<()>) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (address, accepted) = (listener.local_addr().unwrap(), Rc::new(Cell::new(0)));
    let count = accepted.clone();
    let serving = spawn_local(async move {
        let mut connections = Vec::new();
        loop {
            let stream = listener.accept().await.unwrap();
            count.set(count.get() + 1);
            connections.push(spawn_local(answer_oddly(stream, how(count.get()))));
        }
    });
    (address, accepted, serving)
}

async fn answer_oddly(mut stream: TcpStream, how: Answers) {
    let config =
        Config { idle_timeout_ms: 1 << 40, may_send: |_, _| true, ..Config::new(Role::ShardedCache, "odd") };
    let mut conn = Connection::<Vec<u8>>::new(config, 0);
    loop {
        while let Some(frame) = conn.transmit(0) {
            let payload = frame.payload.unwrap_or_default();
            let _ = stream.writer.write_all(&frame.head).await;
            for bytes in payload.chunks(if how == Answers::Drips { 1 } else { payload.len().max(1) }) {
                if stream.writer.write_all(bytes).await.is_err() {
                    return;
                }
                if how == Answers::Drips {
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
        let Space::Bytes(space) = conn.space() else { return };
        let Ok(count @ 1..) = stream.reader.read(space).await else { return };
        conn.filled(count, 0);
        while let Some(event) = conn.event() {
            if let Event::Request { id, request, .. } = event
                && how != Answers::Never
            {
                let payload = vec![0; request.response_payload_bytes()];
                conn.respond(id, &Response::Item { blake3: [0; 32] }, Some(payload), 0).unwrap();
            }
        }
    }
}

fn impatient(addresses: impl Into<Vec<SocketAddr>>, local: &Local) -> Client {
    let connection = Config { payload_grace_ms: 1000, ..Config::new(Role::PlotClient, "client") };
    let connection = Config { least_bytes_per_s: 1 << 30, ..connection };
    Client::new(ClientConfig::new(addresses, ServerPin::InsecurePlainTcp, connection), local.pool().clone())
}

/// Asks until there is an answer; gives how often that was in vain.
async fn asks_until_answered(client: &Client, limit: Duration) -> u32 {
    let mut in_vain = 0;
    while client.request(PIECE, None, limit).await.is_err() {
        in_vain += 1;
        assert!(in_vain < 200, "the client is wedged");
        sleep(Duration::from_millis(50)).await;
    }
    in_vain
}

#[test]
fn a_payload_that_drips_does_not_wedge_its_client() {
    on_executor(8, |local| async move {
        let how = |connection| if connection == 1 { Answers::Drips } else { Answers::Well };
        let (address, accepted, _serving) = odd_server(how);
        let client = impatient([address], &local);
        assert!(asks_until_answered(&client, Duration::from_millis(400)).await > 0);
        assert!(accepted.get() > 1);
    });
}

#[test]
fn a_connection_that_answers_nothing_is_retired() {
    on_executor(8, |local| async move {
        let how = |connection| if connection == 1 { Answers::Never } else { Answers::Well };
        let (address, accepted, _serving) = odd_server(how);
        let client = impatient([address], &local);
        assert!(asks_until_answered(&client, Duration::from_millis(100)).await >= TIMEOUTS_MAX);
        assert!(accepted.get() > 1);
    });
}

/// What was asked over a connection that is retired is asked again at the peer's next address.
#[test]
fn requests_of_a_retired_connection_go_to_the_next_address() {
    on_executor(8, |local| async move {
        let (sick, _, _drips) = odd_server(|_| Answers::Drips);
        let (well, accepted, _answers) = odd_server(|_| Answers::Well);
        let client = impatient([sick, well], &local);
        client.request(PIECE, None, PATIENCE).await.unwrap();
        assert!(accepted.get() > 0);
    });
}
