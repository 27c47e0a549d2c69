//! Caches that are started twice, on one directory or on a copy of it; and the guide's tools where no cache is.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bus::SharedBus;
use bus::members::{Liveness, entry_of};
use control::ids::InstanceId;
use control::messages::MemberEntry;

use crate::cluster::{self, info};
use crate::process::{PATIENCE, Running, farmer, member, refused};

const KINDS: [&str; 2] = ["sharded-cache", "full-piece-sharded-cache"];

fn cache(nats_url: &str, kind: &str, folder: &Path) -> Command {
    member(nats_url, &[kind, &format!("path={},size=4MiB", folder.display())])
}

fn running(nats_url: &str, kind: &str, folder: &Path) -> Running {
    let mut cache = Running::start(&mut cache(nats_url, kind, folder));
    cache.hear(&["the cache is open"]);
    cache
}

/// What the cache in a folder tells of itself.
async fn entry(bus: &SharedBus, folder: &Path) -> Option<MemberEntry> {
    let id: InstanceId = fs::read_to_string(folder.join("id")).unwrap().parse().unwrap();
    entry_of(bus, id, Liveness::default()).await.unwrap()
}

/// The same once it tells something else than before.
async fn entry_after(bus: &SharedBus, folder: &Path, before: Option<&MemberEntry>) -> MemberEntry {
    let look = async {
        loop {
            match entry(bus, folder).await {
                Some(entry) if Some(&entry) != before => return entry,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap()
}

#[tokio::test]
async fn a_directory_is_one_cache_and_the_first_one_stays_a_member() {
    let (folder, (nats, bus)) = (tempfile::tempdir().unwrap(), cluster::start(&info()).await);
    let path = folder.path().join("cache");
    let mut first = running(&nats.url(), KINDS[0], &path);
    let before = entry_after(&bus, &path, None).await;
    for kind in KINDS {
        let words = [path.to_str().unwrap(), "uses this cache already"];
        refused(&mut cache(&nats.url(), kind, &path), &words);
        assert_eq!(entry(&bus, &path).await, Some(before.clone()));
    }
    assert!(first.is_running());
    // One that was killed is started again at once.
    drop(first);
    let again = running(&nats.url(), KINDS[0], &path);
    assert_eq!(entry_after(&bus, &path, Some(&before)).await.id, before.id);
    again.terminate();
}

#[tokio::test]
async fn a_copied_id_is_refused_with_both_hosts_named() {
    let (folder, (nats, bus)) = (tempfile::tempdir().unwrap(), cluster::start(&info()).await);
    let (path, copy) = (folder.path().join("cache"), folder.path().join("copy"));
    let mut first = running(&nats.url(), KINDS[0], &path);
    fs::create_dir(&copy).unwrap();
    fs::copy(path.join("id"), copy.join("id")).unwrap();
    let before = entry_after(&bus, &path, None).await;
    let here = format!("{} on host {}", copy.display(), before.host);
    let there = format!("runs on host {} ({})", before.host, before.addresses[0]);
    let id = before.id.to_string();
    for kind in KINDS {
        refused(&mut cache(&nats.url(), kind, &copy), &[&here, &there, &id, "the same id", "Remove"]);
        assert_eq!(entry(&bus, &path).await, Some(before.clone()));
    }
    assert!(first.is_running());
    // What it is told to do helps.
    fs::remove_file(copy.join("id")).unwrap();
    let second = running(&nats.url(), KINDS[0], &copy);
    assert_ne!(entry_after(&bus, &copy, None).await.id, before.id);
    first.terminate();
    second.terminate();
}

/// It is looked for so long as members take to be heard.
#[tokio::test]
async fn the_guides_tools_say_that_there_is_no_cache() {
    let (nats, _bus) = cluster::start(&info()).await;
    for (line, words) in [
        (["reinitialization-cache", "--delay", "0"], "no sharded cache is heard in cluster `autonomys`"),
        (["sharded-cache-benchmark", "--sectors", "1"], "no cache is seen in cluster `autonomys`"),
    ] {
        let mut tool = farmer();
        tool.args(["util", line[0], "--nats-servers", &nats.url()]).args(&line[1..]);
        refused(&mut tool, &[words, "start", "--cluster"]);
    }
}
