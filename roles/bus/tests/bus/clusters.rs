//! Three servers: copies, and the loss of the one that leads.

use crate::nats_cluster::NatsCluster;
use async_nats::jetstream::{self, Context};
use bus::nats::{NatsBus, NatsOptions};
use bus::{BucketConfig, Bus, BusError, QueueConfig};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// An election takes up to nine seconds, on a machine that has nothing else to do.
const LONG: Duration = Duration::from_secs(40);

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let give_up_at = Instant::now() + LONG;
    while !condition().await {
        assert!(Instant::now() < give_up_at, "not in time: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// By this server alone, so that no other is lost with it.
async fn connect(cluster: &NatsCluster, index: usize) -> NatsBus {
    timeout(LONG, NatsBus::connect(&NatsOptions::new(vec![cluster.urls()[index].clone()], "test")))
        .await
        .unwrap()
        .unwrap()
}

async fn context(cluster: &NatsCluster, index: usize) -> Context {
    jetstream::new(async_nats::connect(&cluster.urls()[index]).await.unwrap())
}

/// Copies that follow, and how many copies there are.
async fn copies_in_step(context: &Context, stream: &str) -> usize {
    let Ok(stream) = context.get_stream(stream).await else { return 0 };
    let info = stream.cached_info();
    let Some(cluster) = &info.cluster else { return 1 };
    cluster.replicas.iter().filter(|replica| replica.current).count() + usize::from(cluster.leader.is_some())
}

/// A bucket that was made with one copy gets three, and then outlives its leader: no write waits long for its answer, what was
/// written is there, and its consumers go on. Opening begins before there is any leader.
#[tokio::test]
async fn three_servers_outlive_the_one_that_leads() {
    let mut cluster = NatsCluster::start(3);
    let old = BucketConfig { name: "old".to_owned(), max_age: None };
    let options = NatsOptions { replicas: Some(1), ..NatsOptions::new(cluster.urls(), "old release") };
    let once = NatsBus::connect(&options).await.unwrap();
    timeout(LONG, once.bucket(&old)).await.unwrap().unwrap();
    drop(once);
    let bus = connect(&cluster, 0).await;
    let bucket = bus.bucket(&old).await.unwrap();
    let queue = bus.queue(&QueueConfig { name: "work".to_owned(), ack_wait: LONG }).await.unwrap();
    assert!(queue.pull("g", Duration::ZERO).await.unwrap().is_none());
    let context_0 = context(&cluster, 0).await;
    until("three copies of each", async || {
        copies_in_step(&context_0, "KV_autonomys_old").await == 3
            && copies_in_step(&context_0, "autonomys_work").await == 3
    })
    .await;
    let revision = bucket.put("a", "1".into()).await.unwrap();
    queue.push("work.g.1", "job".into()).await.unwrap();
    let info = context_0.get_stream("KV_autonomys_old").await.unwrap();
    let leader = info.cached_info().cluster.as_ref().unwrap().leader.clone().unwrap();
    let (leader, survivor) = (cluster.index_of(&leader), (cluster.index_of(&leader) + 1) % 3);
    let bus = connect(&cluster, survivor).await;
    let bucket = bus.bucket(&old).await.unwrap();
    let queue = bus.queue(&QueueConfig { name: "work".to_owned(), ack_wait: LONG }).await.unwrap();
    cluster.servers[leader].kill();
    let mut written = None;
    until("written", async || {
        let at = Instant::now();
        let done = bucket.update("a", "2".into(), revision).await;
        assert!(at.elapsed() < Duration::from_secs(4), "{:?}", at.elapsed());
        assert!(!matches!(done, Err(BusError::Conflict { .. })), "nobody else writes: {done:?}");
        written = done.ok();
        written.is_some()
    })
    .await;
    assert!(written.unwrap() > revision);
    until("read", async || {
        bucket.get("a").await.is_ok_and(|entry| entry.is_some_and(|entry| entry.value == "2"))
    })
    .await;
    until("the job", async || {
        let pulled = queue.pull("g", Duration::from_millis(500)).await;
        matches!(pulled, Ok(Some(delivery)) if delivery.payload == "job")
    })
    .await;
}

/// The third server comes when the streams are there already: they get their three copies within seconds of it.
#[tokio::test]
async fn a_server_that_comes_late_gets_its_copies() {
    let mut cluster = NatsCluster::start(3);
    cluster.servers[2].kill();
    let bus = connect(&cluster, 0).await;
    let config = BucketConfig { name: "things".to_owned(), max_age: None };
    let bucket = timeout(LONG, bus.bucket(&config)).await.unwrap().unwrap();
    let config = QueueConfig { name: "work".to_owned(), ack_wait: LONG };
    let queue = timeout(LONG, bus.queue(&config)).await.unwrap().unwrap();
    until("written", async || bucket.put("a", "1".into()).await.is_ok()).await;
    until("pushed", async || {
        matches!(queue.push("work.g.1", "a".into()).await, Ok(()) | Err(BusError::AlreadyQueued { .. }))
    })
    .await;
    cluster.servers[2].start_again();
    let context = context(&cluster, 0).await;
    until("three copies of each", async || {
        copies_in_step(&context, "KV_autonomys_things").await == 3
            && copies_in_step(&context, "autonomys_work").await == 3
    })
    .await;
}

/// Two servers of three are gone: core NATS goes on by the one that lives, and what lasts comes back with them.
#[tokio::test]
async fn without_quorum_subjects_go_on() {
    let mut cluster = NatsCluster::start(3);
    let bus = connect(&cluster, 0).await;
    let config = BucketConfig { name: "things".to_owned(), max_age: None };
    let bucket = timeout(LONG, bus.bucket(&config)).await.unwrap().unwrap();
    until("written", async || bucket.put("a", "1".into()).await.is_ok()).await;
    for index in [1, 2] {
        cluster.servers[index].kill();
    }
    // A member that starts now comes up, and waits with what lasts.
    let late = connect(&cluster, 0).await;
    let mut heard = late.subscribe("slot").await.unwrap();
    bus.publish("slot", "7".into()).await.unwrap();
    assert_eq!(timeout(LONG, heard.next()).await.unwrap().unwrap().payload, "7");
    // A queue is there at once, and of use later.
    let config_of_queue = QueueConfig { name: "work".to_owned(), ack_wait: LONG };
    let queue = timeout(LONG, late.queue(&config_of_queue)).await.unwrap().unwrap();
    let pushed = queue.push("work.g.1", "a".into()).await;
    assert!(
        matches!(pushed, Err(BusError::Unavailable { .. } | BusError::OutcomeUnknown { .. })),
        "{pushed:?}"
    );
    let config = BucketConfig { name: "others".to_owned(), ..config };
    let opening = tokio::spawn(async move { late.bucket(&config).await });
    let at = Instant::now();
    assert!(bucket.put("a", "2".into()).await.is_err());
    assert!(at.elapsed() < Duration::from_secs(6), "{:?}", at.elapsed());
    assert!(!opening.is_finished());
    for index in [1, 2] {
        cluster.servers[index].start_again();
    }
    let opened = timeout(LONG, opening).await.unwrap().unwrap().unwrap();
    until("pushed", async || {
        matches!(queue.push("work.g.1", "a".into()).await, Ok(()) | Err(BusError::AlreadyQueued { .. }))
    })
    .await;
    until("written again", async || opened.put("a", "3".into()).await.is_ok()).await;
}
