//! Wrong certificates, absent peers, strangers.

use crate::house::{Keys, Library, PATIENCE, bind, client, on_executor};
use engine::net::TcpStream;
use engine::task::{sleep, spawn_local};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use transport::connection::Config;
use transport::message::{ItemKind, Request, Role};
use transport::tcp::{Client, ClientConfig, ClientError, ServerLock, ServerPin};
use transport::tls::Identity;

const PIECE: Request = Request::GetItem { index: 1, kind: ItemKind::Piece };

/// The error of one request from a client with `pin` to a server with `lock`.
fn refused(lock: ServerLock, pin: ServerPin) -> (String, SocketAddr) {
    on_executor(8, |local| async move {
        let (server, address) = bind(lock, local.pool());
        let library = Rc::new(Library::new(local.pool().clone(), Arc::default()));
        let _serving = spawn_local(server.serve(library, std::future::pending()));
        let error = client(address, pin, local.pool()).request(PIECE, None, PATIENCE).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
        (error.to_string(), address)
    })
}

#[test]
fn another_server_than_expected() {
    let keys = Keys::new(false);
    let other = Identity::generate().unwrap().fingerprint();
    let (text, address) = refused(keys.lock(), ServerPin::Certificate(keys.client.clone(), other));
    let parts = [address.to_string(), keys.server.fingerprint().to_string(), other.to_string()];
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn a_client_that_is_no_member() {
    let keys = Keys::new(false);
    let stranger = Arc::new(Identity::generate().unwrap());
    let own = stranger.fingerprint().to_string();
    let (text, _) = refused(keys.lock(), ServerPin::Certificate(stranger, keys.server.fingerprint()));
    assert!(text.contains("does not accept") && text.contains(&own), "{text}");
}

#[test]
fn plain_client_on_a_tls_server_and_the_reverse() {
    let keys = Keys::new(false);
    refused(keys.lock(), ServerPin::InsecurePlainTcp);
    refused(ServerLock::InsecurePlainTcp, keys.pin());
}

#[test]
fn absent_peers_are_tried_again_later_and_later() {
    on_executor(8, |local| async move {
        // A port that was free a moment ago.
        let (gone, address) = bind(ServerLock::InsecurePlainTcp, local.pool());
        drop(gone);
        let client = client(address, ServerPin::InsecurePlainTcp, local.pool());
        let mut pauses = Vec::new();
        for _ in 0..4 {
            let started = Instant::now();
            let pause = retry_in(&client).await;
            // Until then requests fail at once.
            let left = retry_in(&client).await;
            assert!(left <= pause || started.elapsed() >= pause);
            pauses.push(pause);
            sleep(pause).await;
        }
        assert!(pauses[0] >= Duration::from_millis(100) && pauses[0] <= Duration::from_millis(150));
        assert!(pauses[3] >= Duration::from_millis(800), "{pauses:?}");
    });
}

async fn retry_in(client: &Client) -> Duration {
    match client.request(PIECE, None, PATIENCE).await.unwrap_err() {
        ClientError::Unreachable { retry_in, .. } => retry_in,
        error => panic!("{error}"),
    }
}

/// The kernel connects and nobody says hello.
fn swallows_everything() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A dial counts when nobody waits for it any more: requests that are shorter than it do not knock for ever.
#[test]
fn dials_that_outlive_their_requests_count() {
    on_executor(8, |local| async move {
        let (_listener, address) = swallows_everything();
        let connection = Config::new(Role::PlotClient, "client");
        let config = ClientConfig::new([address], ServerPin::InsecurePlainTcp, connection);
        let config = ClientConfig { connect_timeout: Duration::from_millis(200), ..config };
        let client = Client::new(config, local.pool().clone());
        for _ in 0..2 {
            let mut requests = 0;
            let pause = loop {
                match client.request(PIECE, None, Duration::from_millis(20)).await.unwrap_err() {
                    ClientError::Unreachable { retry_in, .. } => break retry_in,
                    ClientError::TimedOut { .. } => requests += 1,
                    error => panic!("{error}"),
                }
                assert!(requests < 1000, "no pause after {requests} requests");
            };
            assert!(requests > 0);
            sleep(pause).await;
        }
    });
}

#[test]
fn an_address_that_swallows_everything_delays_the_next_one_and_no_more() {
    on_executor(8, |local| async move {
        let keys = Keys::new(false);
        let (_listener, silent) = swallows_everything();
        let (server, address) = bind(keys.lock(), local.pool());
        let library = Rc::new(Library::new(local.pool().clone(), Arc::default()));
        let _serving = spawn_local(server.serve(library, std::future::pending()));
        let connection = Config::new(Role::PlotClient, "client");
        let config = ClientConfig::new([silent, address], keys.pin(), connection);
        // The request would be over before the first address is given up.
        let config = ClientConfig { connect_timeout: 10 * PATIENCE, ..config };
        Client::new(config, local.pool().clone()).request(PIECE, None, PATIENCE).await.unwrap();
    });
}

#[test]
fn a_server_that_comes_back_is_found_again() {
    on_executor(16, |local| async move {
        let keys = Keys::new(false);
        let library = Rc::new(Library::new(local.pool().clone(), Arc::default()));
        let (server, address) = bind(keys.lock(), local.pool());
        let serving = spawn_local(server.serve(library.clone(), std::future::pending()));
        let client = client(address, keys.pin(), local.pool());
        client.request(PIECE, None, PATIENCE).await.unwrap();
        drop(serving);
        let config = transport::tcp::ServerConfig {
            listen: address,
            lock: keys.lock(),
            connection: Config { may_send: |_, _| true, ..Config::new(Role::PlotServer, "again") },
            slabs: usize::MAX,
        };
        // The socket is closed when the last words are out.
        let server = loop {
            match transport::tcp::Server::bind(config.clone(), local.pool().clone()) {
                Ok(server) => break server,
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        };
        let _serving = spawn_local(server.serve(library, std::future::pending()));
        while let Err(error) = client.request(PIECE, None, PATIENCE).await {
            assert!(!matches!(error, ClientError::TimedOut { .. }), "{error}");
            sleep(Duration::from_millis(20)).await;
        }
    });
}

/// Somebody connects and says nothing, or nonsense; the server goes on with others.
#[test]
fn strangers_do_no_harm() {
    on_executor(16, |local| async move {
        for plain in [false, true] {
            let keys = Keys::new(plain);
            let (server, address) = bind(keys.lock(), local.pool());
            let library = Rc::new(Library::new(local.pool().clone(), Arc::default()));
            let _serving = spawn_local(server.serve(library, std::future::pending()));
            let _silent = TcpStream::connect(address, PATIENCE).await.unwrap();
            let mut talker = TcpStream::connect(address, PATIENCE).await.unwrap();
            talker
                .writer
                .write_all(&[b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0xff; 5000]].concat())
                .await
                .unwrap();
            let mut bytes = [0; 4096];
            while talker.reader.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
            client(address, keys.pin(), local.pool()).request(PIECE, None, PATIENCE).await.unwrap();
        }
    });
}
