//! Sockets between two executors, bytes received straight into slabs.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

use engine::net::{TcpListener, TcpStream, UdpSocket};
use engine::pool::{Pool, SLAB_BYTES};
use engine::{Executors, ExecutorsConfig, task};
use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

fn start(pool: &Pool) -> Executors {
    let config = ExecutorsConfig { name: "net".into(), cores: vec![None, None], ring_depth: 8 };
    Executors::start(&config, pool).unwrap()
}

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[test]
fn frames_go_both_ways_at_once_into_slabs() {
    let pool = Pool::new(8, 8).unwrap();
    let executors = start(&pool);
    let (tell, told) = flume::bounded(1);
    let server = executors.spawner(0).spawn(move |local| async move {
        let listener = TcpListener::bind(anywhere()).unwrap();
        tell.send_async(listener.local_addr().unwrap()).await.unwrap();
        exchange(listener.accept().await.unwrap(), local.pool().clone(), 1, 2).await;
    });
    let client = executors.spawner(1).spawn(move |local| async move {
        let stream = TcpStream::connect(told.recv_async().await.unwrap(), LIMIT).await.unwrap();
        stream.set_nodelay(true).unwrap();
        exchange(stream, local.pool().clone(), 2, 1).await;
    });
    client.wait().unwrap();
    server.wait().unwrap();
    executors.shutdown(LIMIT).unwrap();
    assert_eq!(pool.stats().in_use, 0);
}

/// Sends ten frames of 5 + 2 MiB bytes while receiving as many.
async fn exchange(stream: TcpStream, pool: Pool, send: u8, expect: u8) {
    let TcpStream { mut reader, mut writer } = stream;
    let mut payload = pool.acquire().await.unwrap();
    payload.fill(send);
    let sender = task::spawn_local(async move {
        for n in 0..10 {
            let header = [n; 5];
            let mut parts = [IoSlice::new(&header), IoSlice::new(&[]), IoSlice::new(&payload)];
            writer.write_all_vectored(&mut parts).await.unwrap();
        }
        writer.finish().await.unwrap();
    });
    let mut slab = pool.acquire().await.unwrap();
    for n in 0..10 {
        let mut header = [0; 5];
        reader.read_exact(&mut header).await.unwrap();
        assert_eq!(header, [n; 5]);
        reader.read_exact(&mut slab[..SLAB_BYTES]).await.unwrap();
        assert!(slab.iter().all(|&byte| byte == expect));
        slab.fill(0);
    }
    assert_eq!(reader.read_exact(&mut [0]).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    sender.await;
}

#[test]
fn a_taken_port_and_a_dead_peer_are_errors_and_a_connection_can_move() {
    let pool = Pool::new(1, 1).unwrap();
    let executors = start(&pool);
    let carried = executors.spawner(0).spawn(|_| async {
        let listener = TcpListener::bind(anywhere()).unwrap();
        let addr = listener.local_addr().unwrap();
        let taken = TcpListener::bind(addr).map(|_| ()).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        let client = task::spawn_local(async move { TcpStream::connect(addr, LIMIT).await.unwrap() });
        let server = listener.accept().await.unwrap();
        drop(listener);
        let dead = TcpStream::connect(addr, LIMIT).await.map(|_| ()).unwrap_err();
        assert_eq!(dead.kind(), ErrorKind::ConnectionRefused);
        let client = client.await;
        assert_eq!(client.peer_addr().unwrap(), addr);
        (server.into_std().unwrap(), client.into_std().unwrap())
    });
    let (server, client) = carried.wait().unwrap();
    let moved = executors.spawner(1).spawn(move |_| async move {
        let (mut server, mut client) = (TcpStream::from_std(server), TcpStream::from_std(client));
        server.writer.write_all(b"moved").await.unwrap();
        let mut word = [0; 5];
        client.reader.read_exact(&mut word).await.unwrap();
        word
    });
    assert_eq!(&moved.wait().unwrap(), b"moved");
    executors.shutdown(LIMIT).unwrap();
}

#[test]
fn a_datagram_wakes_the_waiter_and_stays_in_the_socket() {
    let pool = Pool::new(1, 1).unwrap();
    let executors = start(&pool);
    let got = executors.spawner(0).spawn(|_| async {
        let (here, there) = (UdpSocket::bind(anywhere()).unwrap(), UdpSocket::bind(anywhere()).unwrap());
        let early = task::timeout(Duration::from_millis(20), here.readable()).await;
        assert!(early.is_err(), "nothing was sent yet");
        let to = here.socket().local_addr().unwrap();
        let sender = task::spawn_local(async move {
            task::sleep(Duration::from_millis(5)).await;
            there.send_to(b"datagram", to).await.unwrap();
        });
        here.readable().await.unwrap();
        sender.await;
        let mut buf = [0; 16];
        let (bytes, _) = here.socket().recv_from(&mut buf).unwrap();
        buf[..bytes].to_vec()
    });
    assert_eq!(got.wait().unwrap(), b"datagram");
    executors.shutdown(LIMIT).unwrap();
}
