//! A day of caches: they come, go, die and lose pieces while somebody reads.

mod by_hand;
mod reader;
mod scene;
mod tools;

use std::fs;
use std::time::{Duration, Instant};

use control::messages::{Epoch, ItemKind};
use control::rendezvous::Owners;

use self::reader::Reader;
use self::scene::{Indices, PIECES, Scene};

const SHARDS: [&str; 4] = ["shard-0", "shard-1", "shard-2", "shard-3"];
const FULL: [&str; 2] = ["full-0", "full-1"];
/// Those of the afternoon: one is drained by then, and one has come late.
const LATER: [&str; 7] = ["shard-1", "shard-2", "shard-3", "shard-4", "full-0", "full-1", "full-2"];
/// For everything that is filled at first.
const FILLED: Duration = Duration::from_secs(240);
/// A newcomer has its share within this.
const JOINED: Duration = Duration::from_secs(120);
/// Reads before anything moves.
const CALM: Duration = Duration::from_secs(8);
/// A piece may take this long, however quick it was before: two cores run all of this, and other tests.
const QUICK_ENOUGH: Duration = Duration::from_millis(500);

#[test]
fn caches_come_go_and_die_and_every_piece_is_read_all_the_time() {
    let began = Instant::now();
    let mut scene = Scene::start();
    // Whose share is a fifth by chance more or less is the same in each run.
    (1..).zip(SHARDS).for_each(|(id, shard)| scene.name_cache(shard, id));
    SHARDS.iter().chain(&FULL).for_each(|cache| scene.cache(cache));
    let all = [&SHARDS[..], &FULL].concat();
    let epoch = scene.settle("the history in the caches", FILLED, &all, SHARDS.len());
    let reader = Reader::start(&scene);
    std::thread::sleep(CALM);
    let before = reader.p99("before");
    a_fifth_moves_to_a_fifth(&mut scene, &epoch);
    let during = reader.p99("while a fifth moved");
    assert!(during <= (3 * before).max(QUICK_ENOUGH), "{during:?} after {before:?}");
    one_is_drained_one_dies_and_one_comes_late(&mut scene);
    reader.p99("while caches went and came");
    tools::the_guides_commands(&mut scene, SHARDS.len());
    reader.p99("while operators looked at it");
    drop(reader);
    scene.settle("what they should in the end", FILLED, &LATER, SHARDS.len());
    scene.read_all(&LATER, &(0..PIECES).collect());
    by_hand::half_of_a_segment_comes_back_and_more_is_told(&mut scene, &LATER);
    eprintln!("the day: {:.1} s", began.elapsed().as_secs_f32());
}

fn a_fifth_moves_to_a_fifth(scene: &mut Scene, old: &Epoch) {
    let before = SHARDS.map(|shard| scene.holds(shard).unwrap());
    scene.name_cache("shard-4", 5);
    scene.cache("shard-4");
    let all = [&SHARDS[..], &["shard-4"], &FULL].concat();
    let new = scene.settle("a fifth cache filled", JOINED, &all, SHARDS.len() + 1);
    assert_eq!(new.number, old.number + 1);
    let moved = scene.holds("shard-4").unwrap();
    eprintln!("{} of {PIECES} pieces moved", moved.len());
    assert!((PIECES * 17..=PIECES * 23).contains(&(moved.len() as u64 * 100)), "{}", moved.len());
    for (shard, before) in SHARDS.iter().zip(before) {
        // Each has lost what the newcomer owns, and has nothing else that is new.
        let left: Indices = before.difference(&moved).copied().collect();
        assert_eq!(scene.holds(shard).unwrap(), left, "{shard}");
    }
    let lost = |shard: &&str| scene.should(shard, old).difference(&scene.should(shard, &new)).count();
    assert_eq!(SHARDS.iter().map(lost).sum::<usize>(), moved.len());
}

/// One hands over what it has, at the same time another loses its disk, and a full-piece cache comes late.
fn one_is_drained_one_dies_and_one_comes_late(scene: &mut Scene) {
    let (dead, drained) = (scene.id("shard-1").unwrap(), scene.holds("shard-0").unwrap());
    scene.house.get("shard-1").kill();
    fs::remove_dir_all(scene.folder("shard-1")).unwrap();
    scene.house.get("shard-0").change(&[], &["--drain"]);
    // The epoch still has the one whose disk is gone, with its share: this is another one.
    scene.name_cache("shard-1", 6);
    scene.house.get("shard-1").start_again();
    scene.cache("full-2");
    let epoch = scene.settle("what they should beside one that is lost", FILLED, &LATER, SHARDS.len() + 2);
    // What the lost one owns stays with the one that is drained, until that is given up.
    let owners = Owners::new(&epoch);
    let waits: Indices =
        drained.into_iter().filter(|index| owners.of(ItemKind::Piece, *index, 1) == [dead]).collect();
    eprintln!("{} pieces wait for one that is lost", waits.len());
    assert!(!waits.is_empty());
    let kept = |scene: &Scene| (scene.holds("shard-0")? == waits).then_some(());
    scene.until("the drained one to keep these", FILLED, kept).unwrap();
}
