//! What others put on the bus: another cluster, other releases, rubbish.

use crate::backends::{Backend, bucket};
use bus::{BusError, Expect, QueueConfig, WatchEvent};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::timeout;

const MOMENT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(5);

/// By hand, as a release writes it that is read by `oldest_reader` and later ones.
fn sealed(oldest_reader: u8, writer: u8, cluster: &str, payload: &str) -> Bytes {
    let name_len = u8::try_from(cluster.len()).unwrap();
    [&b"AFcb"[..], &[oldest_reader, writer, name_len], cluster.as_bytes(), payload.as_bytes()].concat().into()
}

pub async fn two_clusters_hear_nothing_of_each_other(backend: &Backend) {
    let (here, there) = (backend.bus().await, backend.bus_in("there").await);
    let mut heard = there.subscribe(">").await.unwrap();
    here.publish("slot", "1".into()).await.unwrap();
    there.publish("slot", "2".into()).await.unwrap();
    let message = timeout(LONG, heard.next()).await.unwrap().unwrap();
    assert_eq!((message.subject.as_str(), &message.payload[..]), ("slot", &b"2"[..]));
    let error = here.request("slot", "?".into(), LONG).await.unwrap_err();
    assert!(matches!(error, BusError::NoResponders { .. }), "{error}");
    bucket(&*here).await.put("k", "here".into()).await.unwrap();
    assert_eq!(bucket(&*there).await.get("k").await.unwrap(), None);
    let config = QueueConfig { name: "work".to_owned(), ack_wait: LONG };
    here.queue(&config).await.unwrap().push("work.g.1", "here".into()).await.unwrap();
    assert!(there.queue(&config).await.unwrap().pull("g", Duration::ZERO).await.unwrap().is_none());
}

/// In subjects what cannot be read is passed over; what a newer release lets us read is read.
pub async fn messages_that_cannot_be_read_are_skipped(backend: &Backend) {
    let (bus, raw) = backend.bus_and_raw().await;
    let mut heard = bus.subscribe("slot").await.unwrap();
    let damaged = sealed(2, 2, "autonomys", "x").slice(..9);
    for bytes in [
        Bytes::new(),
        Bytes::from_static(b"\x01\x01rubbish"),
        damaged,
        sealed(2, 2, "elsewhere", "x"),
        sealed(200, 200, "autonomys", "x"),
        sealed(0, 1, "autonomys", "x"),
        sealed(2, 3, "autonomys", "newer"),
    ] {
        raw.publish("autonomys.slot", bytes).await.unwrap();
    }
    assert_eq!(timeout(LONG, heard.next()).await.unwrap().unwrap().payload, "newer");
    let answering = async {
        let question = heard.next().await.unwrap();
        raw.publish(&question.reply_to.unwrap(), "rubbish".into()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(bus.request("slot", "?".into(), LONG), answering);
    assert!(matches!(answer, Err(BusError::OutcomeUnknown { .. })), "it was delivered: {answer:?}");
}

/// A damaged value is absent, and whoever owns it writes it anew; a newer release's is left as it is.
pub async fn values_that_cannot_be_read_are_absent_or_kept(backend: &Backend) {
    let (bus, raw) = backend.bus_and_raw().await;
    let bucket = bucket(&*bus).await;
    let raw_config = bus::BucketConfig { name: "autonomys_things".to_owned(), max_age: None };
    let raw = raw.bucket(&raw_config).await.unwrap();
    raw.put("damaged", "rubbish".into()).await.unwrap();
    let newer = sealed(200, 200, "autonomys", "newer");
    raw.put("newer", newer.clone()).await.unwrap();
    bucket.put("good", "good".into()).await.unwrap();
    let mut watch = bucket.watch(">").await.unwrap();
    assert!(matches!(watch.next().await, WatchEvent::Put(entry) if entry.key == "good"));
    assert_eq!(watch.next().await, WatchEvent::Ready);
    assert_eq!(bucket.get("damaged").await.unwrap(), None);
    bucket.write("damaged", Some("mended".into()), Expect::Absent).await.unwrap();
    assert_eq!(bucket.get("damaged").await.unwrap().unwrap().value, "mended");
    let error = bucket.get("newer").await.unwrap_err();
    assert!(error.to_string().contains("release"), "{error}");
    let error = bucket.create("newer", "older".into()).await.unwrap_err();
    assert!(matches!(error, BusError::Conflict { .. }), "{error}");
    assert_eq!(raw.get("newer").await.unwrap().unwrap().value, newer);
}

/// Rubbish in the queue is removed; a job of a newer release is left for a member that can read it.
pub async fn jobs_that_cannot_be_read_are_removed_or_left(backend: &Backend) {
    let (bus, raw) = backend.bus_and_raw().await;
    let config = QueueConfig { name: "work".to_owned(), ack_wait: LONG };
    let queue = bus.queue(&config).await.unwrap();
    let raw_config = QueueConfig { name: "autonomys_work".to_owned(), ..config };
    let raw = raw.queue(&raw_config).await.unwrap();
    raw.push("autonomys_work.g.1", "rubbish".into()).await.unwrap();
    raw.push("autonomys_work.g.2", sealed(200, 200, "autonomys", "newer")).await.unwrap();
    queue.push("work.g.3", "job".into()).await.unwrap();
    let delivery = queue.pull("g", LONG).await.unwrap().unwrap();
    assert_eq!((delivery.subject.as_str(), &delivery.payload[..]), ("work.g.3", &b"job"[..]));
    delivery.ack().await.unwrap();
    assert!(queue.pull("g", MOMENT).await.unwrap().is_none());
    raw.push("autonomys_work.g.1", "it was removed".into()).await.unwrap();
    let again = raw.push("autonomys_work.g.2", "x".into()).await;
    assert!(matches!(again, Err(BusError::AlreadyQueued { .. })), "it is still there: {again:?}");
}
