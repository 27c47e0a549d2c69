//! Segments that are archived while no cache is there.

use std::collections::BTreeSet;

use crate::house::House;
use crate::told::number;

/// Pieces of a segment.
const PIECES: u64 = 256;
/// What has a node archive, until it is told so no more.
const ARCHIVE: [&str; 2] = ["--segment-every-slots", "2"];
const CACHES: [&str; 2] = ["sharded-cache", "full-piece-sharded-cache"];

/// The node gives a segment's pieces until the segment is acknowledged, and then it never does again: who acknowledged two of them and died
/// must still have them.
#[test]
fn segments_archived_without_caches_outlive_their_controller() {
    let mut house = House::start(1);
    let node = house.node("node-0", &[]);
    house.controller("controller-0", &node);
    house.until_true("the cluster", |house| house.count("controller-0", "standing=Mine") > 0);
    // What is placed before both caches are there stays in the one that was first.
    house.get("node-0").freeze(true);
    for role in CACHES {
        // For five segments: a fourth one may be on its way when the node is killed.
        let path = format!("path={},size=1500MiB", house.path(role));
        house.role(role, &[role, &path]);
    }
    house.until_true("caches", |house| CACHES.iter().all(|role| house.count(role, "epoch epoch=1") > 0));
    house.get("node-0").freeze(false);
    house.until_true("the first segment in the caches", |house| placed(house).contains(&0));
    CACHES.iter().for_each(|role| house.get(role).kill());

    house.get("node-0").change(&[], &ARCHIVE);
    // It waits for its subscribers before it goes on to the next one.
    for next in [2, 3] {
        house.until_true("a segment acknowledged", |house| {
            house.count("node-0", &format!("archiving a segment segment={next}")) > 0
        });
    }
    house.get("controller-0").kill();
    house.get("node-0").kill();
    assert_eq!(placed(&house), BTreeSet::from([0]), "without caches");

    house.get("node-0").tell_no_more(ARCHIVE.len());
    for name in ["node-0", "controller-0", "sharded-cache", "full-piece-sharded-cache"] {
        house.get(name).start_again();
    }
    house.until_true("all segments in the caches", |house| {
        let segments = house.report("node-0").segments;
        segments >= 3 && (0..segments).all(|index| placed(house).contains(&index))
    });
    house.all_alive();
    let segments = house.report("node-0").segments;
    for role in CACHES {
        assert_eq!(pieces_on_disk(&mut house, role), PIECES * segments, "{role}");
    }
}

/// Segments of which the controller has said that they are in the caches.
fn placed(house: &House) -> BTreeSet<u64> {
    let log = house.processes["controller-0"].log();
    let placed = log.lines().filter(|line| line.contains("segment is in the caches"));
    placed.filter_map(|line| number(line, "segment_index")).collect()
}

/// How many items a cache finds when it starts again.
fn pieces_on_disk(house: &mut House, role: &str) -> u64 {
    let opened = house.count(role, "the cache is open");
    house.get(role).kill();
    house.get(role).start_again();
    house.until_true("the cache open again", |house| house.count(role, "the cache is open") > opened);
    let log = house.processes[role].log();
    number(log.lines().rfind(|line| line.contains("the cache is open")).unwrap(), "items").unwrap()
}
