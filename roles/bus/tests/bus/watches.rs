//! Watches: replay, updates, deletions.

use crate::backends::Backend;
use bus::{BusError, Watch, WatchEvent};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// The next event as `key=value`, `-key` or `ready`.
pub async fn next(watch: &mut Watch) -> String {
    match timeout(Duration::from_secs(10), watch.next()).await.expect("an event comes") {
        WatchEvent::Put(entry) => {
            format!("{}={}", entry.key, String::from_utf8(entry.value.to_vec()).unwrap())
        }
        WatchEvent::Delete { key, .. } => format!("-{key}"),
        WatchEvent::Ready => "ready".to_owned(),
        WatchEvent::Renewed => "renewed".to_owned(),
    }
}

pub async fn replay_then_updates(backend: &Backend) {
    let (writer, reader) = (backend.bucket().await, backend.bucket().await);
    writer.put("a.1", "old".into()).await.unwrap();
    writer.put("b.1", "other".into()).await.unwrap();
    writer.put("a.2", "two".into()).await.unwrap();
    writer.put("a.1", "one".into()).await.unwrap();
    let mut watch = reader.watch("a.*").await.unwrap();
    assert_eq!(next(&mut watch).await, "a.2=two");
    assert_eq!(next(&mut watch).await, "a.1=one");
    assert_eq!(next(&mut watch).await, "ready");
    writer.put("b.1", "unseen".into()).await.unwrap();
    writer.put("a.3", "three".into()).await.unwrap();
    assert_eq!(next(&mut watch).await, "a.3=three");
    assert_eq!(next(&mut reader.watch("c.>").await.unwrap()).await, "ready", "nothing there");
}

/// Of several filters, too, one watch with one replay.
pub async fn several_filters_are_one_watch(backend: &Backend) {
    let (writer, reader) = (backend.bucket().await, backend.bucket().await);
    for (key, value) in [("a.1", "old"), ("b.1", "x"), ("c.1", "unseen"), ("a.1", "y"), ("a.1.1", "unseen")] {
        writer.put(key, value.into()).await.unwrap();
    }
    let mut watch = reader.watch_any(&["a.*", "b.*", "d.*"].map(str::to_owned)).await.unwrap();
    for expected in ["b.1=x", "a.1=y", "ready"] {
        assert_eq!(next(&mut watch).await, expected);
    }
    writer.put("c.2", "unseen".into()).await.unwrap();
    writer.delete("c.1").await.unwrap();
    writer.put("d.1", "z".into()).await.unwrap();
    writer.delete("b.1").await.unwrap();
    for expected in ["d.1=z", "-b.1"] {
        assert_eq!(next(&mut watch).await, expected);
    }
    let mut nothing_there = reader.watch_any(&["e.*", "f.*"].map(str::to_owned)).await.unwrap();
    assert_eq!(next(&mut nothing_there).await, "ready");
    assert!(matches!(reader.watch_any(&[]).await, Err(BusError::BadName { .. })), "a watch of nothing");
}

pub async fn deletion_is_seen_and_old_ones_are_not(backend: &Backend) {
    let bucket = backend.bucket().await;
    bucket.put("gone", "x".into()).await.unwrap();
    bucket.delete("gone").await.unwrap();
    bucket.put("here", "y".into()).await.unwrap();
    let mut watch = bucket.watch(">").await.unwrap();
    assert_eq!(next(&mut watch).await, "here=y");
    assert_eq!(next(&mut watch).await, "ready");
    bucket.delete("here").await.unwrap();
    assert_eq!(next(&mut watch).await, "-here");
    bucket.put("here", "z".into()).await.unwrap();
    assert_eq!(next(&mut watch).await, "here=z");
}

/// A slow watcher may miss values in between, never a key's last one.
pub async fn every_key_reaches_its_last_value(backend: &Backend) {
    let (writer, reader) = (backend.bucket().await, backend.bucket().await);
    let mut watch = reader.watch(">").await.unwrap();
    for round in 0..5 {
        for key in 0..50 {
            writer.put(&format!("k{key}"), format!("{round}").into()).await.unwrap();
        }
    }
    writer.put("end", "".into()).await.unwrap();
    let mut seen = BTreeMap::new();
    loop {
        match timeout(Duration::from_secs(10), watch.next()).await.unwrap() {
            WatchEvent::Put(entry) if entry.key == "end" => break,
            WatchEvent::Put(entry) => drop(seen.insert(entry.key, entry.value)),
            WatchEvent::Delete { .. } => panic!("nothing was deleted"),
            WatchEvent::Ready | WatchEvent::Renewed => {}
        }
    }
    assert_eq!(seen.len(), 50);
    assert!(seen.values().all(|value| value == "4"));
}
