//! Days that are not fair, as processes with real nats-servers: what operators lose money by must cost nothing here, and heal by itself.

#![allow(clippy::unwrap_used, reason = "tests")]

mod caches;
mod disks;
mod house;
#[path = "../../../shared_tests/nats_cluster.rs"]
#[allow(dead_code, reason = "shared with the tests of the bus")]
mod nats_cluster;
#[allow(dead_code, reason = "shared with the tests of the bus")]
#[path = "../../../shared_tests/nats_server.rs"]
mod nats_server;
#[allow(dead_code, reason = "shared with other tests of processes")]
#[path = "../../../shared_tests/process.rs"]
mod process;
mod quorum;
mod reborn;
mod segments;
mod soak;
#[path = "../../../shared_tests/stored_chain.rs"]
mod stored_chain;
mod told;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{Duration, Instant};

use house::{House, SECTORS};
use told::Told;

/// Solutions that are waited for after each blow.
const MORE: usize = 2;
/// A copied farm is told of within this.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// A new farm is plotted within this, in a cluster whose store was lost.
const PLOTTED_WITHIN: Duration = Duration::from_secs(60);
/// The slot in which the only server goes, and the one in which it comes back.
const LOST_WITH_THE_SERVER: usize = 2;

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Everything is started before the only NATS server runs; a store without a leader is waited for as well. Then the farm is copied, its
/// copy refused, and the store is lost: a new farm is plotted all the same.
#[test]
fn roles_wait_for_nats_a_copied_farm_is_refused_and_a_lost_store_heals() {
    let mut house = House::start(1);
    house.nats.servers[0].kill();
    house.basic();
    std::thread::sleep(Duration::from_secs(3));
    house.all_alive();
    house.nats.servers[0].start_again();
    house.until_true("the farm plotted", |house| {
        house.count("plot-client", "sector stored") >= SECTORS as usize
    });
    house.until_true("solutions", |house| house.queued("controller-0") >= MORE);
    house.all_alive();

    the_copy_is_refused(&mut house);
    let slots = the_store_is_lost(&mut house);

    let outcomes = what_is_underway_is_counted(&mut house);
    let told = Told::by(&house.processes["plot-client"].log());
    check_lost(&told, &[(*slots.start(), LOST_WITH_THE_SERVER)], *slots.end());
    assert!(outcomes["queued"] > 0, "{outcomes:?}");
    assert_eq!(outcomes["refused"], 0, "{outcomes:?}");
    assert_eq!(house.report("node-0").equivocations, 0);
}

/// A plot-client that is told to end while a controller owes it an answer counts that solution in its last line.
fn what_is_underway_is_counted(house: &mut House) -> BTreeMap<String, u64> {
    let mut is_owed = false;
    while !is_owed {
        let found = |house: &House| house.count("plot-client", "solution found");
        let before = found(house);
        house.until_true("a slot to be proved", |house| found(house) > before);
        house.get("controller-0").freeze(true);
        // For an answer that is on its way.
        std::thread::sleep(Duration::from_millis(500));
        let told = Told::by(&house.processes["plot-client"].log());
        is_owed = found(house) > told.ended();
        if !is_owed {
            house.get("controller-0").freeze(false);
        }
    }
    let outcomes = house.outcomes("plot-client");
    let told = Told::by(&house.processes["plot-client"].log());
    assert_eq!(outcomes["unknown"], told.unknown as u64, "{outcomes:?}");
    assert!(told.unknown > 0, "nothing was underway");
    assert_eq!(outcomes["proved"], told.ended() as u64, "{outcomes:?}");
    outcomes
}

fn the_copy_is_refused(house: &mut House) {
    copy_folder(Path::new(&house.path("farm")), Path::new(&house.path("copy")));
    house.plot_client("plot-client-copy", "copy");
    house.until_true("the copy open", |house| house.count("plot-client-copy", "farm open") > 0);
    let open_at = Instant::now();
    house.until_true("the copy refused", |house| {
        house.count("plot-client-copy", "the same as the one in") > 0
    });
    assert!(open_at.elapsed() < TOLD_WITHIN, "told after {:?}", open_at.elapsed());
    let log = house.processes["plot-client-copy"].log();
    let line = log.lines().find(|line| line.contains("the same as the one in")).unwrap();
    for named in [house.path("farm"), house.path("copy"), "on host".to_owned()] {
        assert!(line.contains(&named), "{line}");
    }
    house.until_true("the end of the copy", |house| house.count("plot-client-copy", "error:") > 0);
    let mut copy = house.processes.remove("plot-client-copy").unwrap();
    while copy.ended().is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let before = house.queued("controller-0");
    house.until_true("the earlier one farming on", |house| house.queued("controller-0") > before);
}

/// Gives the slots from then to the end.
fn the_store_is_lost(house: &mut House) -> RangeInclusive<u64> {
    let first = house.newest_slot("plot-client") + 1;
    house.nats.servers[0].kill();
    house.nats.servers[0].lose_store();
    house.nats.servers[0].start_again();
    let before = house.queued("controller-0");
    house.until_true("solutions after the store was lost", |house| {
        house.queued("controller-0") >= before + MORE
    });
    house.plot_client("plot-client-new", "new-farm");
    let started = Instant::now();
    house.until_true("a new farm plotted", |house| {
        house.count("plot-client-new", "sector stored") >= SECTORS as usize
    });
    assert!(started.elapsed() < PLOTTED_WITHIN, "plotted after {:?}", started.elapsed());
    house.all_alive();
    first..=house.newest_slot("plot-client")
}

/// Three NATS servers: each is killed in turn, then two of three for a while. Solutions go on, and all come back by themselves.
#[test]
fn nats_servers_die_one_by_one_and_two_at_once() {
    let mut house = House::start(3);
    house.basic();
    house.until_true("the farm plotted", |house| {
        house.count("plot-client", "sector stored") >= SECTORS as usize
    });
    house.until_true("solutions", |house| house.queued("controller-0") >= MORE);
    let mut blows = Vec::new();
    for server in 0..3 {
        blows.push((house.newest_slot("plot-client") + 1, 1));
        house.nats.servers[server].kill();
        let before = house.queued("controller-0");
        house.until_true("solutions without a server", |house| house.queued("controller-0") >= before + MORE);
        house.nats.servers[server].start_again();
        // Its copies catch up before the next one goes.
        std::thread::sleep(Duration::from_secs(5));
    }
    // Who was connected to one of them may try the other one first.
    blows.push((house.newest_slot("plot-client") + 1, 2));
    house.nats.servers[0].kill();
    house.nats.servers[1].kill();
    let before = house.queued("controller-0");
    let dead_since = Instant::now();
    house.until_true("solutions with one server of three", |house| house.queued("controller-0") > before);
    std::thread::sleep(Duration::from_secs(20).saturating_sub(dead_since.elapsed()));
    let until = house.newest_slot("plot-client");
    house.nats.servers[0].start_again();
    house.nats.servers[1].start_again();
    let before = house.queued("controller-0");
    house.until_true("solutions afterwards", |house| house.queued("controller-0") >= before + MORE);
    house.plot_client("plot-client-new", "new-farm");
    house.until_true("a new farm plotted", |house| {
        house.count("plot-client-new", "sector stored") >= SECTORS as usize
    });
    house.all_alive();
    let outcomes = house.outcomes("plot-client");
    assert_eq!(outcomes["refused"], 0, "{outcomes:?}");
    check_lost(&Told::by(&house.processes["plot-client"].log()), &blows, until);
    assert_eq!(house.report("node-0").equivocations, 0);
}

/// Of the slots after each blow, until the next one, at most so many may be lost. `blows`: the slot in which it fell, and how many.
fn check_lost(told: &Told, blows: &[(u64, usize)], until: u64) {
    let ends = blows[1..].iter().map(|(next, _)| next - 1).chain([until]);
    assert!(blows.iter().all(|(from, _)| told.slots.contains(&(from - 1))), "slots are told of");
    for ((from, may_be_lost), to) in blows.iter().zip(ends) {
        let lost = told.lost_slots(*from..=to);
        eprintln!("slots {from} to {to}: {lost:#?}");
        assert!(lost.len() <= *may_be_lost, "slots {from} to {to}: {lost:#?}");
    }
}
