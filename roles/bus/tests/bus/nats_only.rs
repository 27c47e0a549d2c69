//! What only a real server can show: restarts, lost stores, unknown outcomes, servers that cannot work.

use crate::backends::{ACK_WAIT, Backend, bucket, connect, options};
use crate::nats_server::NatsServer;
use crate::watches::next;
use bus::nats::{NatsBus, NatsOptions};
use bus::{Bus, BusError, QueueConfig};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::{Instant, sleep, timeout};

const LONG: Duration = Duration::from_secs(10);

/// Until `condition` holds.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let give_up_at = Instant::now() + LONG;
    while !condition().await {
        assert!(Instant::now() < give_up_at, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_watch_bridges_a_restart() {
    bridges_a_restart(&[">"]).await;
}

#[tokio::test]
async fn a_watch_of_several_filters_bridges_a_restart() {
    bridges_a_restart(&["a", "b", "c"]).await;
}

async fn bridges_a_restart(filters: &[&str]) {
    let mut server = NatsServer::start();
    let (watcher, writer) = (connect(&server).await, connect(&server).await);
    let (watched, written) = (bucket(&watcher).await, bucket(&writer).await);
    written.put("a", "1".into()).await.unwrap();
    let filters: Vec<_> = filters.iter().map(ToString::to_string).collect();
    let mut watch = watched.watch_any(&filters).await.unwrap();
    assert_eq!(next(&mut watch).await, "a=1");
    assert_eq!(next(&mut watch).await, "ready");
    for round in 2..4 {
        server.kill();
        server.start_again();
        // A writer that is back before the watcher: what it writes must not be lost.
        let first_back = connect(&server).await;
        let bucket = bucket(&first_back).await;
        bucket.put("a", round.to_string().into()).await.unwrap();
        bucket.delete("b").await.unwrap();
        assert_eq!(next(&mut watch).await, format!("a={round}"));
        assert_eq!(next(&mut watch).await, "-b");
    }
    until("writer is back", async || written.put("c", "9".into()).await.is_ok()).await;
    assert_eq!(next(&mut watch).await, "c=9");
    assert!(timeout(Duration::from_millis(300), watch.next()).await.is_err(), "nothing twice");
}

#[tokio::test]
async fn a_watch_survives_a_lost_store() {
    survives_a_lost_store(&[">"]).await;
}

#[tokio::test]
async fn a_watch_of_several_filters_survives_a_lost_store() {
    survives_a_lost_store(&["a", "b"]).await;
}

async fn survives_a_lost_store(filters: &[&str]) {
    let mut server = NatsServer::start();
    let bus = connect(&server).await;
    let before = bucket(&bus).await;
    for n in 0..5 {
        before.put("a", n.to_string().into()).await.unwrap();
    }
    let filters: Vec<_> = filters.iter().map(ToString::to_string).collect();
    let mut watch = before.watch_any(&filters).await.unwrap();
    assert_eq!(next(&mut watch).await, "a=4");
    assert_eq!(next(&mut watch).await, "ready");
    server.kill();
    server.lose_store();
    server.start_again();
    let other = connect(&server).await;
    bucket(&other).await.put("a", "new".into()).await.unwrap();
    assert_eq!(next(&mut watch).await, "renewed");
    // Ready may come between: the watch may find the bucket before the writer.
    let mut told = next(&mut watch).await;
    if told == "ready" {
        told = next(&mut watch).await;
    }
    assert_eq!(told, "a=new");
}

#[tokio::test]
async fn jobs_and_subscriptions_survive_a_restart() {
    let mut server = NatsServer::start();
    let bus = connect(&server).await;
    let config = QueueConfig { name: "work".to_owned(), ack_wait: ACK_WAIT };
    let queue = bus.queue(&config).await.unwrap();
    let mut slots = bus.subscribe("slot").await.unwrap();
    queue.push("work.g.1", "in flight".into()).await.unwrap();
    queue.push("work.g.2", "waiting".into()).await.unwrap();
    let in_flight = queue.pull("g", LONG).await.unwrap().unwrap();
    server.kill();
    assert!(
        timeout(LONG, async {
            while bus.is_connected() {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .is_ok()
    );
    server.start_again();
    until("connected", async || bus.is_connected()).await;
    let mut payloads = Vec::new();
    until("both jobs", async || {
        if let Ok(Some(delivery)) = queue.pull("g", Duration::from_millis(100)).await {
            delivery.ack().await.unwrap();
            payloads.push(delivery.payload);
        }
        payloads.len() == 2
    })
    .await;
    payloads.sort();
    assert_eq!(payloads, ["in flight", "waiting"]);
    drop(in_flight);
    let other = connect(&server).await;
    until("the subscription is back", async || {
        other.publish("slot", "7".into()).await.unwrap();
        timeout(Duration::from_millis(100), slots.next()).await.is_ok()
    })
    .await;
}

/// The store is emptied under a running cluster: everything works again without a restart of anybody, and owners are told.
#[tokio::test]
async fn a_lost_store_is_made_anew_on_use() {
    let mut server = NatsServer::start();
    let bus = connect(&server).await;
    let bucket = bucket(&bus).await;
    let queue = bus.queue(&QueueConfig { name: "work".to_owned(), ack_wait: ACK_WAIT }).await.unwrap();
    let revision = bucket.put("a", "1".into()).await.unwrap();
    queue.push("work.g.1", "lost".into()).await.unwrap();
    assert!(queue.pull("other", Duration::ZERO).await.unwrap().is_none());
    let (mut buckets, mut queues) = (bucket.generation(), queue.generation());
    server.kill();
    server.lose_store();
    server.start_again();
    until("connected", async || bus.is_connected()).await;
    assert_eq!(bucket.get("a").await.unwrap(), None);
    let stale = bucket.update("a", "2".into(), revision).await;
    assert!(matches!(stale, Err(BusError::Conflict { .. })), "{stale:?}");
    bucket.create("a", "3".into()).await.unwrap();
    queue.push("work.g.1", "again".into()).await.unwrap();
    assert_eq!(queue.pull("g", LONG).await.unwrap().unwrap().payload, "again");
    timeout(LONG, buckets.changed()).await.unwrap().unwrap();
    timeout(LONG, queues.changed()).await.unwrap().unwrap();
}

/// A stream removed by hand, with the server up: the next use makes it anew.
#[tokio::test]
async fn a_removed_stream_is_made_anew_on_use() {
    let server = NatsServer::start();
    let bus = connect(&server).await;
    let bucket = bucket(&bus).await;
    bucket.put("a", "1".into()).await.unwrap();
    let mut watch = bucket.watch(">").await.unwrap();
    assert_eq!(next(&mut watch).await, "a=1");
    assert_eq!(next(&mut watch).await, "ready");
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    context.delete_stream("KV_autonomys_things").await.unwrap();
    bucket.put("a", "2".into()).await.unwrap();
    assert_eq!(next(&mut watch).await, "renewed");
    assert_eq!(next(&mut watch).await, "a=2");
    context.delete_stream("KV_autonomys_things").await.unwrap();
    assert_eq!(bucket.get("a").await.unwrap(), None);
}

/// Nothing is kept for later: a slot that could not be announced at once is worth nothing.
#[tokio::test]
async fn what_cannot_be_sent_now_is_never_sent() {
    let mut server = NatsServer::start();
    let (bus, other) = (connect(&server).await, connect(&server).await);
    let bucket = bucket(&bus).await;
    server.kill();
    until("noticed", async || !bus.is_connected()).await;
    let is_refused = |result: Result<(), BusError>| matches!(result, Err(BusError::Unavailable { .. }));
    let at = Instant::now();
    assert!(is_refused(bus.publish("slot", "old".into()).await));
    assert!(is_refused(bus.request("slot", "old".into(), LONG).await.map(drop)));
    assert!(is_refused(bucket.put("k", "old".into()).await.map(drop)));
    assert!(at.elapsed() < Duration::from_secs(1), "at once");
    server.start_again();
    let mut heard = other.subscribe("slot").await.unwrap();
    until("back", async || bus.publish("slot", "new".into()).await.is_ok()).await;
    assert_eq!(timeout(LONG, heard.next()).await.unwrap().unwrap().payload, "new");
}

/// A server that hangs is taken for lost within a few seconds.
#[tokio::test]
async fn a_server_that_hangs_is_noticed() {
    let server = NatsServer::start();
    let bus = connect(&server).await;
    server.freeze();
    until("noticed", async || !bus.is_connected()).await;
    server.thaw();
    until("back", async || bus.is_connected()).await;
}

#[tokio::test]
async fn outcome_unknown_when_the_answer_does_not_come() {
    let server = NatsServer::start();
    let mut options = options(&server);
    options.ack_timeout = Duration::from_millis(300);
    let bus = NatsBus::connect(&options).await.unwrap();
    let bucket = bucket(&bus).await;
    let queue = bus.queue(&QueueConfig { name: "work".to_owned(), ack_wait: LONG }).await.unwrap();
    queue.push("work.g.1", "a".into()).await.unwrap();
    let delivery = queue.pull("g", LONG).await.unwrap().unwrap();
    server.freeze();
    for result in [
        bucket.create("k", "v".into()).await.map(drop),
        queue.push("work.g.2", "b".into()).await,
        delivery.ack().await,
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, BusError::OutcomeUnknown { .. }), "{error}");
    }
    let error = bucket.get("k").await.unwrap_err();
    assert!(!matches!(error, BusError::OutcomeUnknown { .. }), "a read has no outcome: {error}");
    server.thaw();
    // All three did happen after all.
    until("the write shows", async || bucket.get("k").await.is_ok_and(|entry| entry.is_some())).await;
    until("the job shows", async || {
        matches!(queue.push("work.g.2", "b".into()).await, Err(BusError::AlreadyQueued { .. }))
    })
    .await;
    until("the ack shows", async || queue.push("work.g.1", "c".into()).await.is_ok()).await;
}

#[tokio::test]
async fn no_server_names_all_that_were_tried() {
    let unused = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let servers: Vec<String> = [0, 1].map(unused).iter().map(|address| format!("nats://{address}")).collect();
    let mut options = NatsOptions::new(servers.clone(), "test");
    options.patience = Some(Duration::ZERO);
    let error = NatsBus::connect(&options).await.map(drop).unwrap_err();
    assert!(matches!(error, BusError::NoServer { .. }), "{error}");
    assert!(servers.iter().all(|server| error.to_string().contains(server)), "{error}");
    options.servers = vec!["nats://exa mple:x".to_owned()];
    let error = NatsBus::connect(&options).await.map(drop).unwrap_err();
    assert!(matches!(error, BusError::BadServerAddress { .. }), "{error}");
}

#[tokio::test]
async fn connecting_waits_for_a_server_and_takes_any_of_several() {
    let mut server = NatsServer::start();
    server.kill();
    let mut options = NatsOptions::new(vec!["nats://127.0.0.1:1".to_owned(), server.url()], "test");
    options.patience = None;
    let connecting = tokio::spawn(async move { NatsBus::connect(&options).await });
    sleep(Duration::from_millis(300)).await;
    assert!(!connecting.is_finished());
    server.start_again();
    let bus = timeout(LONG, connecting).await.unwrap().unwrap().unwrap();
    bucket(&bus).await.put("k", "v".into()).await.unwrap();
}

async fn connect_error(server: &NatsServer) -> BusError {
    NatsBus::connect(&options(server)).await.map(drop).unwrap_err()
}

#[tokio::test]
async fn servers_that_cannot_work_are_told_apart() {
    let plain = NatsServer::start_with("");
    let error = connect_error(&plain).await;
    assert!(matches!(error, BusError::NoJetStream { .. }), "{error}");
    let small = NatsServer::start_with("max_payload: 100KB\njetstream { store_dir: STORE }");
    let error = connect_error(&small).await;
    assert!(matches!(error, BusError::PayloadLimit { found_bytes: 102_400, .. }), "{error}");
}

#[tokio::test]
async fn the_deployed_configuration_works() {
    let deployed = include_str!("../../../../deploy/nats/nats-server.conf");
    // What a test cannot have: that port, and that folder.
    let config = deployed.replace("listen: 0.0.0.0:4222\n", "").replace("/var/lib/nats", "STORE");
    assert!(!config.contains("4222") && config.contains("STORE"), "{config}");
    let server = NatsServer::start_with(&config);
    NatsBus::connect(&options(&server)).await.unwrap();
}

/// Greets as Debian's nats-server does.
#[tokio::test]
async fn an_old_server_is_named_with_its_version() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let info = r#"{"server_id":"X","server_name":"old","version":"2.9.10","host":"h","port":4222,"headers":true,"max_payload":1048576,"jetstream":true,"proto":1}"#;
        stream.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        while stream.read_line(&mut line).await.unwrap() > 0 {
            if line.starts_with("PING") {
                stream.write_all(b"PONG\r\n").await.unwrap();
            }
            line.clear();
        }
    });
    let error = NatsBus::connect(&NatsOptions::new(vec![url], "test")).await.map(drop).unwrap_err();
    assert!(matches!(&error, BusError::ServerTooOld { found, .. } if found == "2.9.10"), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
}

/// A stream somebody else made under our name.
#[tokio::test]
async fn a_foreign_stream_is_a_mismatch() {
    let backend = Backend::nats();
    let Backend::Nats(server) = &backend else { unreachable!("made above") };
    let client = async_nats::connect(server.url()).await.unwrap();
    let config = async_nats::jetstream::stream::Config {
        name: "autonomys_work".to_owned(),
        subjects: vec!["autonomys_work.>".to_owned()],
        ..async_nats::jetstream::stream::Config::default()
    };
    async_nats::jetstream::new(client).create_stream(config).await.unwrap();
    let config = QueueConfig { name: "work".to_owned(), ack_wait: ACK_WAIT };
    let error = backend.bus().await.queue(&config).await.map(drop).unwrap_err();
    assert!(matches!(&error, BusError::Mismatch { found, .. } if found.contains("retention")), "{error}");
}
