//! NATS servers that are absent or cannot do the work.

use crate::cluster;
use crate::nats_cluster::NatsCluster;
use crate::nats_server::NatsServer;
use crate::process::{Running, member, refused};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

#[tokio::test]
async fn an_absent_server_is_named_and_waited_for() {
    let mut nats = NatsServer::start();
    nats.kill();
    let folder = tempfile::tempdir().unwrap();
    let mut role = Running::start(member(&nats.url(), &["plot-server", "--cpu"]).arg(folder.path()));
    role.hear(&["no NATS server answers", &nats.url(), "correct --nats-server"]);
    assert!(role.is_running());
    nats.start_again();
    role.hear(&["waiting for the first controller"]);
    // Lost again while it runs.
    nats.kill();
    role.hear(&["NATS: disconnected"]);
    nats.start_again();
    let bus = cluster::bus(&nats).await;
    let cluster = bus::cluster::Cluster::open(&*bus).await.unwrap();
    cluster.put_info(&cluster::info()).await.unwrap();
    role.hear(&["member of the cluster"]);
    role.terminate();
}

/// Two of three servers are not up yet: there is no JetStream, and that is waited for too.
#[test]
fn jetstream_without_a_leader_is_waited_for() {
    let mut nats = NatsCluster::start(3);
    nats.servers[1].kill();
    nats.servers[2].kill();
    let mut role = Running::start(&mut member(&nats.urls()[0], &["proof-server"]));
    role.hear(&["waiting for JetStream to open stream `KV_autonomys_cluster`"]);
    assert!(role.is_running());
    nats.servers[1].start_again();
    role.hear(&["waiting for the first controller"]);
    role.terminate();
}

#[test]
fn a_role_that_waits_for_nats_ends_when_it_is_told_to() {
    let mut role = Running::start(&mut member("nats://127.0.0.1:1", &["proof-server"]));
    role.hear(&["no NATS server answers"]);
    role.terminate();
}

#[test]
fn servers_that_cannot_work_are_refused_with_what_to_change() {
    let plain = NatsServer::start_with("");
    refused(&mut member(&plain.url(), &["controller"]), &["no JetStream", "-js -sd DIR"]);
    let small = NatsServer::start_with("max_payload: 100KB\njetstream { store_dir: STORE }");
    let words = ["max_payload 102400", "131072", "max_payload = 1MB"];
    refused(&mut member(&small.url(), &["proof-server"]), &words);
    let words = ["is not a NATS server address", "nats://HOST:4222"];
    refused(&mut member("nats://exa mple:x", &["proof-server"]), &words);
}

/// Greets as Debian's nats-server does.
#[test]
fn an_old_server_is_named_with_its_version() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let info = r#"{"server_id":"X","server_name":"old","version":"2.9.10","host":"h","port":4222,"headers":true,"max_payload":1048576,"jetstream":true,"proto":1}"#;
        stream.write_all(format!("INFO {info}\r\n").as_bytes()).unwrap();
        for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
            if line.starts_with("PING") {
                stream.write_all(b"PONG\r\n").unwrap();
            }
        }
    });
    refused(&mut member(&url, &["proof-server"]), &["version 2.9.10", "2.10 or newer", "nats.io/download"]);
}
