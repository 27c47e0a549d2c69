//! Ranges of a staged sector from a plot-server to a plot-client over loopback, with every hash that is made and checked on the way,
//! and what the same bytes cost as plain TCP and as a copy in memory, in the same process.
//! Run with `cargo bench -p benches --bench transfer`. With two cores or more; the last lines are the ratios.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use engine::pool::{Pool, Slab};
use engine::{Executors, ExecutorsConfig};
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use transport::connection::Config;
use transport::message::{Refusal, RefusalCode, Request, Response, Role};
use transport::payload::PayloadBuf;
use transport::tcp::{
    Answer, Client, ClientConfig, Handler, PeerInfo, Received, Server, ServerConfig, ServerLock, ServerPin,
    SlabPayload,
};
use transport::tls::{Identity, Members, Pin};
use transport::transfer::{self, Range, SectorPlace, SectorTransfer};

/// Bytes of the sector: 64 ranges.
const BYTES: u64 = 128 << 20;
/// Ranges asked for at once, as plot-clients do.
const WINDOW: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Gives every range from the same slab.
struct Staged(Slab);

impl Handler for Staged {
    fn handle(
        self: Rc<Self>,
        _: Rc<PeerInfo>,
        request: Request,
        _: Option<Received>,
        _: Option<Duration>,
    ) -> LocalBoxFuture<'static, Answer> {
        let answer = match request {
            Request::GetSectorRange { length, .. } => {
                let payload = SlabPayload::run(self.0.slice(..length as usize));
                Ok((Response::SectorRange { blake3: payload.blake3() }, Some(payload)))
            }
            _ => Err(Refusal::new(RefusalCode::Invalid, "ranges only")),
        };
        Box::pin(std::future::ready(answer))
    }
}

fn executors(slabs: usize) -> Executors {
    let pool = Pool::new(slabs, 64).expect("a few slabs can be mapped");
    let config = ExecutorsConfig { name: "bench".into(), cores: vec![None], ring_depth: 16 };
    Executors::start(&config, &pool).expect("io_uring is allowed")
}

/// A server on an executor of its own; it ends with it.
fn serve(lock: ServerLock) -> (Executors, SocketAddr) {
    let serving = executors(2 * WINDOW + 2);
    let (sender, address) = mpsc::channel();
    drop(serving.spawner(0).spawn(move |local| async move {
        let connection = Config::new(Role::PlotServer, "server");
        let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), lock, connection, slabs: usize::MAX };
        let server = Server::bind(config, local.pool().clone()).expect("loopback can be listened on");
        sender.send(server.local_addr().expect("it listens")).expect("the bench waits for it");
        let mut slab = local.pool().acquire().await.expect("the pool has slabs");
        blake3::Hasher::new().finalize_xof().fill(&mut slab);
        server.serve(Rc::new(Staged(slab.freeze())), local.stopping()).await;
    }));
    (serving, address.recv().expect("the server listens"))
}

/// Pulls the sector once.
async fn pull(client: &Client) {
    let place = SectorPlace { file_offset: 0, sector_bytes: BYTES, content: [5; 32] };
    let (mut transfer, mut asked) = (SectorTransfer::new(place, WINDOW), FuturesUnordered::new());
    while !transfer.is_complete() {
        while let Some(range) = transfer.next_range() {
            let Range { offset, length, phase, .. } = range;
            let request = Request::GetSectorRange { staging: [7; 16], phase, offset, length };
            asked.push(async move { (range, client.request(request, None, TIMEOUT).await) });
        }
        let (range, reply) = asked.next().await.expect("ranges are missing");
        let reply = reply.expect("the server is there");
        let (payload, hash) = (reply.payload.expect("a range has bytes"), reply.response.blake3());
        let received = transfer.received(range.index, &*payload, hash.expect("a range has a hash"));
        assert_eq!(received, transfer::Received::Write, "damaged");
        transfer.written(range.index);
    }
}

/// Time of `times` pulls over one connection, without its making.
fn pulls(asking: &Executors, address: SocketAddr, pin: ServerPin, times: u64) -> Duration {
    let pulled = asking.spawner(0).spawn(move |local| async move {
        let config = ClientConfig::new([address], pin, Config::new(Role::PlotClient, "client"));
        let client = Client::new(config, local.pool().clone());
        let first = Request::GetSectorRange { staging: [7; 16], phase: 0, offset: 0, length: 1 };
        client.request(first, None, TIMEOUT).await.expect("the server is there");
        let started = Instant::now();
        for _ in 0..times {
            pull(&client).await;
        }
        started.elapsed()
    });
    pulled.wait().expect("the executor lives")
}

/// Measures, and gives the best time of one.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut run: impl FnMut(u64) -> Duration,
) -> Duration {
    let mut best = Duration::MAX;
    group.bench_function(name, |b| {
        b.iter_custom(|times| {
            let took = run(times);
            best = best.min(took / u32::try_from(times).expect("few repetitions"));
            took
        });
    });
    best
}

fn memory_copies(times: u64) -> Duration {
    let (from, mut to) = (vec![1u8; BYTES as usize], vec![0u8; BYTES as usize]);
    let started = Instant::now();
    for _ in 0..times {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
    }
    started.elapsed()
}

fn plain_tcp(times: u64) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    let address = listener.local_addr().expect("it listens");
    let bytes = BYTES * times;
    let sending = std::thread::spawn(move || {
        let (mut stream, part) = (listener.accept().expect("the bench connects").0, vec![1u8; 2 << 20]);
        for _ in 0..bytes / part.len() as u64 {
            stream.write_all(&part).expect("the bench reads");
        }
    });
    let (mut stream, mut part) = (TcpStream::connect(address).expect("it listens"), vec![0u8; 2 << 20]);
    let started = Instant::now();
    for _ in 0..bytes / part.len() as u64 {
        stream.read_exact(&mut part).expect("the sender writes");
    }
    let took = started.elapsed();
    sending.join().expect("it has sent all");
    took
}

fn transfer(c: &mut Criterion) {
    let mut group = c.benchmark_group("transfer");
    group.throughput(Throughput::Bytes(BYTES)).sample_size(10);
    let copy = measure(&mut group, "copy in memory", memory_copies);
    let tcp = measure(&mut group, "plain TCP", plain_tcp);

    let identity = || Arc::new(Identity::generate().expect("random numbers"));
    let (ours, theirs) = (identity(), identity());
    let members = Members::default();
    members.set([(ours.fingerprint(), Pin::of(Role::PlotClient))]);
    let tls = ServerLock::Certificates(theirs.clone(), Arc::new(members));
    let tls_pin = ServerPin::Certificate(ours, theirs.fingerprint());
    let mut ratios = Vec::new();
    for (name, lock, pin) in [
        ("ranges over TLS", tls, tls_pin),
        ("ranges without TLS", ServerLock::InsecurePlainTcp, ServerPin::InsecurePlainTcp),
    ] {
        let ((serving, address), asking) = (serve(lock), executors(2 * WINDOW + 4));
        let took = measure(&mut group, name, |times| pulls(&asking, address, pin.clone(), times));
        ratios.push((name, took));
        for executors in [asking, serving] {
            executors.shutdown(TIMEOUT).expect("nothing is under way");
        }
    }
    group.finish();
    for (name, took) in ratios {
        let to = |other: Duration| took.as_secs_f64() / other.as_secs_f64();
        println!(
            "{name}: {:.2} x the time of plain TCP, {:.2} x that of a copy in memory",
            to(tcp),
            to(copy)
        );
    }
}

criterion_group!(suite, transfer);
criterion_main!(suite);
