//! Subjects, buckets and queues: what a role may rely on, whichever backend it has.

use crate::backends::{ACK_WAIT, Backend};
use bus::jobs::{Offered, PlotJobs};
use bus::{BucketConfig, BusError, Expect, QueueConfig};
use control::ids;
use control::messages::MAX_MESSAGE_BYTES;
use control::messages::{PlotJob, ProtocolInfo, SectorId};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const MOMENT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(5);

pub async fn everybody_subscribed_hears(backend: &Backend) {
    let (a, b) = (backend.bus().await, backend.bus().await);
    let mut exact = a.subscribe("slot").await.unwrap();
    let mut wide = b.subscribe("heartbeat.*.>").await.unwrap();
    a.publish("slot", "1".into()).await.unwrap();
    a.publish("heartbeat.x", "2".into()).await.unwrap();
    a.publish("heartbeat.x.y.z", "3".into()).await.unwrap();
    assert_eq!(timeout(LONG, exact.next()).await.unwrap().unwrap().payload, "1");
    let heard = timeout(LONG, wide.next()).await.unwrap().unwrap();
    assert_eq!((heard.subject.as_str(), &heard.payload[..]), ("heartbeat.x.y.z", &b"3"[..]));
    assert!(timeout(MOMENT, exact.next()).await.is_err(), "each hears its own subjects only");
}

pub async fn request_and_reply(backend: &Backend) {
    let (asker, answerer) = (backend.bus().await, backend.bus().await);
    let error = asker.request("who", "?".into(), LONG).await.unwrap_err();
    assert!(matches!(error, BusError::NoResponders { .. }), "{error}");
    let mut questions = answerer.subscribe("who").await.unwrap();
    let answering = async {
        let question = questions.next().await.unwrap();
        answerer.publish(&question.reply_to.unwrap(), "me".into()).await.unwrap();
    };
    let both = async { tokio::join!(asker.request("who", "?".into(), LONG), answering) };
    let (answer, ()) = timeout(LONG, both).await.unwrap();
    assert_eq!(answer.unwrap(), "me");
    let error = asker.request("who", "?".into(), MOMENT).await.unwrap_err();
    assert!(matches!(error, BusError::Timeout { timeout_ms: 100, .. }), "{error}");
}

pub async fn size_limit(backend: &Backend) {
    let (bus, bucket, queue) = (backend.bus().await, backend.bucket().await, backend.queue().await);
    let mut heard = bus.subscribe("big").await.unwrap();
    let (fits, too_large) = (vec![7u8; MAX_MESSAGE_BYTES - 1], vec![7u8; MAX_MESSAGE_BYTES]);
    for result in [
        bus.publish("big", too_large.clone().into()).await,
        bus.request("big", too_large.clone().into(), LONG).await.map(drop),
        bucket.put("big", too_large.clone().into()).await.map(drop),
        queue.push("work.g.big", too_large.clone().into()).await,
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, BusError::TooLarge { size_bytes: MAX_MESSAGE_BYTES, .. }), "{error}");
    }
    bus.publish("big", fits.clone().into()).await.unwrap();
    assert_eq!(timeout(LONG, heard.next()).await.unwrap().unwrap().payload, fits);
    bucket.put("big", fits.clone().into()).await.unwrap();
    assert_eq!(bucket.get("big").await.unwrap().unwrap().value, fits);
    queue.push("work.g.big", fits.clone().into()).await.unwrap();
    assert_eq!(queue.pull("g", LONG).await.unwrap().unwrap().payload, fits);
}

pub async fn bad_names_are_refused(backend: &Backend) {
    let (bus, bucket, queue) = (backend.bus().await, backend.bucket().await, backend.queue().await);
    let nothing = bytes::Bytes::new();
    for bad in ["", "a b", "a.*", "a..b", "a.>", "a\r\nPUB x 0"] {
        for error in [
            bus.publish(bad, nothing.clone()).await.unwrap_err(),
            bucket.put(bad, nothing.clone()).await.unwrap_err(),
            bucket.get(bad).await.unwrap_err(),
            queue.push(bad, nothing.clone()).await.unwrap_err(),
            queue.pull(bad, MOMENT).await.map(drop).unwrap_err(),
            bus.subscribe(&format!("x.{bad}.>.y")).await.map(drop).unwrap_err(),
        ] {
            assert!(matches!(error, BusError::BadName { .. }), "{bad:?}: {error}");
        }
    }
}

pub async fn compare_and_set(backend: &Backend) {
    let bucket = backend.bucket().await;
    let is_conflict = |result: Result<u64, BusError>| matches!(result, Err(BusError::Conflict { .. }));
    assert_eq!(bucket.get("k").await.unwrap(), None);
    let first = bucket.create("k", "a".into()).await.unwrap();
    assert!(is_conflict(bucket.create("k", "b".into()).await));
    let second = bucket.update("k", "c".into(), first).await.unwrap();
    assert!(second > first);
    assert!(is_conflict(bucket.update("k", "d".into(), first).await));
    assert!(is_conflict(bucket.update("other", "d".into(), first).await));
    assert!(is_conflict(bucket.write("k", None, Expect::Revision(first)).await));
    let entry = bucket.get("k").await.unwrap().unwrap();
    assert_eq!((&entry.value[..], entry.revision), (&b"c"[..], second));
    bucket.write("k", None, Expect::Revision(second)).await.unwrap();
    assert_eq!(bucket.get("k").await.unwrap(), None);
    assert!(is_conflict(bucket.update("k", "e".into(), second).await));
    bucket.create("k", "again".into()).await.unwrap();
    bucket.put("k.below", "x".into()).await.unwrap();
    bucket.put("l", "x".into()).await.unwrap();
    let keys = |entries: Vec<bus::Entry>| entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>();
    assert_eq!(keys(bucket.entries("k.>").await.unwrap()), ["k.below"]);
    assert_eq!(keys(bucket.entries(">").await.unwrap()), ["k", "k.below", "l"]);
    let writers = (0..8).map(|n| bucket.create("race", n.to_string().into()));
    let won = futures::future::join_all(writers).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1);
}

pub async fn silent_expiry(backend: &Backend) {
    let config = BucketConfig { name: "short".to_owned(), max_age: Some(Duration::from_secs(1)) };
    let bucket = backend.bus().await.bucket(&config).await.unwrap();
    bucket.put("k", "v".into()).await.unwrap();
    let mut watch = bucket.watch(">").await.unwrap();
    assert!(matches!(watch.next().await, bus::WatchEvent::Put(_)));
    assert_eq!(watch.next().await, bus::WatchEvent::Ready);
    assert!(timeout(Duration::from_millis(2500), watch.next()).await.is_err(), "expiry is silent");
    assert_eq!(bucket.get("k").await.unwrap(), None);
    assert!(bucket.entries(">").await.unwrap().is_empty());
    bucket.create("k", "new".into()).await.unwrap();
    assert!(matches!(watch.next().await, bus::WatchEvent::Put(entry) if entry.value == "new"));
}

pub async fn settings_must_agree(backend: &Backend) {
    let bus = backend.bus().await;
    let mut bucket = BucketConfig { name: "b".to_owned(), max_age: None };
    let mut queue = QueueConfig { name: "q".to_owned(), ack_wait: ACK_WAIT };
    for _ in 0..2 {
        bus.bucket(&bucket).await.unwrap();
        bus.queue(&queue).await.unwrap().pull("g", Duration::ZERO).await.unwrap();
    }
    bucket.max_age = Some(LONG);
    let error = bus.bucket(&bucket).await.map(drop).unwrap_err();
    assert!(matches!(&error, BusError::Mismatch { found, .. } if found.contains("max_age")), "{error}");
    queue.ack_wait = LONG;
    let pulled = match bus.queue(&queue).await {
        Ok(queue) => queue.pull("g", Duration::ZERO).await.map(drop),
        Err(error) => Err(error),
    };
    let error = pulled.unwrap_err();
    assert!(matches!(&error, BusError::Mismatch { found, .. } if found.contains("ack_wait")), "{error}");
}

pub async fn second_job_is_refused_until_the_first_is_done(backend: &Backend) {
    let queue = backend.queue().await;
    let is_refused = |result| matches!(result, Err(BusError::AlreadyQueued { .. }));
    queue.push("work.g.1", "a".into()).await.unwrap();
    assert!(is_refused(queue.push("work.g.1", "b".into()).await), "while it waits");
    queue.push("work.g.2", "other".into()).await.unwrap();
    let delivery = backend.queue().await.pull("g", LONG).await.unwrap().unwrap();
    assert_eq!((&delivery.payload[..], delivery.delivery_count), (&b"a"[..], 1));
    assert!(is_refused(queue.push("work.g.1", "b".into()).await), "while it is in flight");
    delivery.ack().await.unwrap();
    queue.push("work.g.1", "c".into()).await.unwrap();
    assert_eq!(queue.pull("g", LONG).await.unwrap().unwrap().payload, "other");
    assert_eq!(queue.pull("g", LONG).await.unwrap().unwrap().payload, "c");
    assert!(queue.pull("g", Duration::ZERO).await.unwrap().is_none());
}

pub async fn redelivery_after_ack_wait(backend: &Backend) {
    let (lost, other) = (backend.queue().await, backend.queue().await);
    lost.push("work.g.1", "a".into()).await.unwrap();
    let first = lost.pull("g", LONG).await.unwrap().unwrap();
    let taken_at = Instant::now();
    assert!(other.pull("g", ACK_WAIT / 3).await.unwrap().is_none(), "held by its taker");
    let second = other.pull("g", LONG).await.unwrap().unwrap();
    assert!(taken_at.elapsed() >= ACK_WAIT * 9 / 10, "{:?}", taken_at.elapsed());
    assert_eq!((&second.payload[..], second.delivery_count), (&b"a"[..], 2));
    // The first taker did finish: then it is done, whoever holds it now.
    first.ack().await.unwrap();
    assert!(other.pull("g", ACK_WAIT * 2).await.unwrap().is_none());
    second.ack().await.unwrap();
}

pub async fn progress_holds_a_job(backend: &Backend) {
    let (worker, other) = (backend.queue().await, backend.queue().await);
    worker.push("work.g.1", "a".into()).await.unwrap();
    let delivery = worker.pull("g", LONG).await.unwrap().unwrap();
    for _ in 0..6 {
        sleep(ACK_WAIT / 3).await;
        delivery.progress().await.unwrap();
        assert!(other.pull("g", Duration::ZERO).await.unwrap().is_none());
    }
    delivery.ack().await.unwrap();
    assert!(other.pull("g", ACK_WAIT * 2).await.unwrap().is_none());
}

pub async fn nak_gives_it_back_after_the_delay(backend: &Backend) {
    let queue = backend.queue().await;
    queue.push("work.g.1", "a".into()).await.unwrap();
    let delivery = queue.pull("g", LONG).await.unwrap().unwrap();
    let at = Instant::now();
    delivery.nak(ACK_WAIT / 2).await.unwrap();
    let again = queue.pull("g", LONG).await.unwrap().unwrap();
    assert_eq!(again.delivery_count, 2);
    let waited = at.elapsed();
    assert!((ACK_WAIT * 4 / 10..ACK_WAIT * 2).contains(&waited), "{waited:?}");
}

fn job(sector_index: u16) -> PlotJob {
    PlotJob {
        sector: SectorId { farm: ids::FarmId([1; 16]), sector_index, history_size: 5 },
        public_key: [2; 32],
        pieces_in_sector: 2,
        protocol_info: ProtocolInfo {
            history_size: 5,
            max_pieces_in_sector: 1000,
            recent_segments: 5,
            recent_history_fraction: (1, 10),
            min_sector_lifetime: 4,
        },
        client: ids::InstanceId([3; 16]),
        staged_on: None,
        attempt: 1,
        avoid: Vec::new(),
    }
}

pub async fn groups_are_apart_and_own_comes_first(backend: &Backend) {
    let jobs = PlotJobs::open(&*backend.bus().await).await.unwrap();
    for (group, sector) in [("far", 0), ("near", 1), ("far", 2)] {
        assert_eq!(jobs.offer(group, &job(sector)).await.unwrap(), Offered::Queued);
    }
    assert_eq!(jobs.offer("near", &job(1)).await.unwrap(), Offered::AlreadyThere);
    let groups = ["near".to_owned(), "far".to_owned()];
    for sector in [1, 0, 2] {
        let taken = jobs.take(&groups, LONG).await.unwrap().unwrap();
        assert_eq!(taken.job, job(sector));
        taken.delivery.ack().await.unwrap();
    }
    assert!(jobs.take(&groups[..1], MOMENT).await.unwrap().is_none());
    let (taken, offered) = tokio::join!(jobs.take(&groups, LONG), async {
        sleep(MOMENT).await;
        jobs.offer("far", &job(3)).await
    });
    assert_eq!((taken.unwrap().unwrap().job, offered.unwrap()), (job(3), Offered::Queued));
}

pub async fn what_is_no_job_is_removed(backend: &Backend) {
    let bus = backend.bus().await;
    let jobs = PlotJobs::open(&*bus).await.unwrap();
    let config = QueueConfig { name: "plot".to_owned(), ack_wait: bus::jobs::ACK_WAIT };
    let queue = bus.queue(&config).await.unwrap();
    queue.push("plot.g.x.1.2", "rubbish".into()).await.unwrap();
    jobs.offer("g", &job(0)).await.unwrap();
    let taken = jobs.take(&["g".to_owned()], LONG).await.unwrap().unwrap();
    assert_eq!(taken.job, job(0));
    taken.delivery.ack().await.unwrap();
    queue.push("plot.g.x.1.2", "may be pushed again".into()).await.unwrap();
}
