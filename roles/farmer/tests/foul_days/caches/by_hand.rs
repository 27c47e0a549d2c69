//! Pieces that somebody deletes from every cache, while no node has them any more.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use engine::piece_store::{ITEMS_FILE, SLOT_BYTES};

use super::scene::{Indices, PIECES, Scene};

/// Of this segment so many pieces are deleted as can be made again.
const HALF: (u64, u64) = (1, 128);
/// Of this one piece more.
const MORE: (u64, u64) = (2, 129);
/// A controller gathers, reconstructs and verifies, and caches ask every few seconds.
const BACK: Duration = Duration::from_secs(240);
/// What stores may keep beside their items, and make anew.
const INDEX_LOG: &str = "index.log";

/// Zeroes the headers of the slots with these pieces, as if they had been removed; which of them there were.
fn delete(folder: &Path, pieces: &Indices) -> Indices {
    let _ = std::fs::remove_file(folder.join(INDEX_LOG));
    let file = OpenOptions::new().read(true).write(true).open(folder.join(ITEMS_FILE)).unwrap();
    let slots = file.metadata().unwrap().len() / SLOT_BYTES as u64;
    let at = |slot: u64| slot * SLOT_BYTES as u64;
    let held = |slot: u64| {
        let mut header = [0; 32];
        file.read_exact_at(&mut header, at(slot)).unwrap();
        header.starts_with(b"ASFITEM1").then(|| u64::from_le_bytes(header[16..24].try_into().unwrap()))
    };
    let found =
        (0..slots).filter_map(|slot| Some((slot, held(slot).filter(|index| pieces.contains(index))?)));
    let deleted = found.map(|(slot, index)| {
        file.write_all_at(&[0; 4096], at(slot)).unwrap();
        index
    });
    deleted.collect()
}

pub fn half_of_a_segment_comes_back_and_more_is_told(scene: &mut Scene, caches: &[&'static str]) {
    let of = |(segment, count): (u64, u64)| segment * 256..segment * 256 + count;
    let (half, more): (Indices, Indices) = (of(HALF).collect(), of(MORE).collect());
    // From now on the node gives the first segment and no other.
    let node = scene.house.get("node");
    node.kill();
    node.tell_no_more(1);
    node.start_again();
    let everybody = [caches, &["controller"]].concat();
    everybody.iter().for_each(|name| scene.house.get(name).kill());
    let pieces = half.union(&more).copied().collect();
    let deleted: Vec<_> = caches.iter().map(|cache| delete(&scene.folder(cache), &pieces)).collect();
    assert!(deleted[4..].iter().all(|deleted| *deleted == pieces), "full-piece caches had all of them");
    assert_eq!(
        deleted[..4].iter().map(Indices::len).sum::<usize>(),
        pieces.len(),
        "and the others each once"
    );
    everybody.iter().for_each(|name| scene.house.get(name).start_again());

    // What is left of the other segment is not touched.
    scene.lost = more.clone();
    let epoch = scene.settle("half of a segment made again", BACK, caches, 4);
    scene.read_all(caches, &half);
    let told = [
        "segment 2 is lost: of its 256 pieces 127 are left",
        "connect a controller to a node that still has its blocks",
    ];
    scene.house.until_true("what is lost told", |house| {
        let log = house.processes["controller"].log();
        log.lines().any(|line| told.iter().all(|told| line.contains(told)))
    });
    assert_eq!(scene.house.count("controller", "pieces that no cache gave are rebuilt segment_index=1"), 1);

    // And so it is.
    scene.lost.clear();
    scene.house.get("node").change(&[], &["--all-pieces"]);
    let node = scene.node.clone();
    scene.house.controller("controller-1", &node);
    scene.settle("what was lost brought back by a node", BACK, caches, epoch.members.len());
    scene.read_all(caches, &more);
    let all: u64 = caches[..4].iter().map(|cache| scene.holds(cache).unwrap().len() as u64).sum();
    assert_eq!(all, PIECES);
}
