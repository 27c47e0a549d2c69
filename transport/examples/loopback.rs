//! Pieces over loopback, one client and one server on a core each: what a GiB costs.
//!
//! `cargo run --release -p transport --example loopback -- tls|plain WINDOW PIECES [--check]`
//!
//! The server sends one slab over and over, so disk and hashing are left out; `--check` adds the client's BLAKE3.

use engine::pool::{Pool, Slab};
use engine::{Executors, ExecutorsConfig};
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream;
use std::error::Error;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use transport::connection::Config;
use transport::message::{ItemKind, Request, Response, Role};
use transport::payload::PayloadBuf;
use transport::tcp::{
    Answer, Client, ClientConfig, Handler, PeerInfo, Received, Server, ServerConfig, ServerLock, ServerPin,
    SlabPayload,
};
use transport::tls::{Identity, Members, Pin};

/// Serves the same piece under every index.
struct OnePiece {
    piece: Slab,
    blake3: [u8; 32],
}

impl Handler for OnePiece {
    fn handle(
        self: Rc<Self>,
        _peer: Rc<PeerInfo>,
        _request: Request,
        _payload: Option<Received>,
        _deadline_in: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        let payload = SlabPayload::piece(&self.piece);
        Box::pin(async move { Ok((Response::Item { blake3: self.blake3 }, Some(payload))) })
    }
}

/// CPU time of this process, user and system.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(") ").ok_or("unknown form of /proc/self/stat")?.1;
    let ticks: Vec<u64> = after_name.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    // USER_HZ is 100 on every Linux of these architectures.
    Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
}

fn executors(core: usize, pool: &Pool) -> Result<Executors, Box<dyn Error>> {
    let config = ExecutorsConfig {
        name: "loopback".into(),
        cores: vec![Some(engine::threads::CoreSet::new(&[core])?)],
        ring_depth: 16,
    };
    Ok(Executors::start(&config, pool)?)
}

async fn ask(client: &Client, index: u64, check: bool) -> usize {
    let request = Request::GetItem { index, kind: ItemKind::Piece };
    let reply = client.request(request, None, Duration::from_secs(60)).await.expect("the server is there");
    assert!(!check || reply.is_intact(), "piece {index} is damaged");
    reply.payload.expect("a piece has bytes").len()
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (is_tls, window, pieces) = match args.as_slice() {
        [mode, window, pieces, ..] => (mode == "tls", window.parse::<usize>()?, pieces.parse::<u64>()?),
        _ => return Err("usage: loopback tls|plain WINDOW PIECES [--check]".into()),
    };
    let check = args.iter().any(|arg| arg == "--check");
    let (ours, theirs) = (Arc::new(Identity::generate()?), Arc::new(Identity::generate()?));
    let members = Arc::new(Members::default());
    members.set([(ours.fingerprint(), Pin::of(Role::Tool))]);
    let (lock, pin) = match is_tls {
        true => (
            ServerLock::Certificates(theirs.clone(), members),
            ServerPin::Certificate(ours, theirs.fingerprint()),
        ),
        false => (ServerLock::InsecurePlainTcp, ServerPin::InsecurePlainTcp),
    };
    let serving = executors(0, &Pool::new(2 * window + 2, 16)?)?;
    let (sender, address) = mpsc::channel();
    drop(serving.spawner(0).spawn(move |local| async move {
        let config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            lock,
            connection: Config::new(Role::ShardedCache, "server"),
            slabs: usize::MAX,
        };
        let server = Server::bind(config, local.pool().clone()).expect("loopback can be listened on");
        sender.send(server.local_addr().expect("it listens")).expect("main waits for it");
        let piece = local.pool().acquire().await.expect("the pool has slabs").freeze();
        let blake3 = SlabPayload::piece(&piece).blake3();
        server.serve(Rc::new(OnePiece { piece, blake3 }), local.stopping()).await;
    }));
    let address = address.recv()?;
    let asking = executors(1, &Pool::new(2 * window + 2, 16)?)?;
    let measured = asking.spawner(0).spawn(move |local| async move {
        let config = ClientConfig::new([address], pin, Config::new(Role::Tool, "client"));
        let client = Client::new(config, local.pool().clone());
        ask(&client, 0, check).await;
        let (started, cpu) = (Instant::now(), cpu_seconds().expect("/proc is mounted"));
        let replies = stream::iter(1..=pieces).map(|index| ask(&client, index, check));
        let bytes = replies.buffer_unordered(window).fold(0, async |sum, bytes| sum + bytes).await;
        (bytes as f64, started.elapsed().as_secs_f64(), cpu_seconds().expect("/proc is mounted") - cpu)
    });
    let (bytes, seconds, cpu) = measured.wait()?;
    println!(
        "{} window {window}: {:.0} MiB/s, {:.3} CPU s/GiB",
        args[0],
        bytes / seconds / f64::from(1 << 20),
        cpu / (bytes / f64::from(1 << 30)),
    );
    asking.shutdown(Duration::from_secs(5))?;
    serving.shutdown(Duration::from_secs(5))?;
    Ok(())
}
