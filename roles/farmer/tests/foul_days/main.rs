//! Days that are not fair, as processes with real nats-servers: what operators lose money by must cost nothing here, and heal by itself.

#![allow(clippy::unwrap_used, reason = "tests")]

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
#[path = "../../../shared_tests/stored_chain.rs"]
mod stored_chain;

use std::path::Path;
use std::time::{Duration, Instant};

use house::{House, SECTORS};

/// Solutions that are waited for after each blow.
const MORE: usize = 2;
/// A copied farm is told of within this.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

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
    the_store_is_lost(&mut house);

    let outcomes = house.outcomes("plot-client");
    assert!(outcomes["queued"] > 0, "{outcomes:?}");
    assert_eq!(outcomes["refused"], 0, "{outcomes:?}");
    assert_eq!(house.report("node-0").equivocations, 0);
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

fn the_store_is_lost(house: &mut House) {
    house.nats.servers[0].kill();
    house.nats.servers[0].lose_store();
    house.nats.servers[0].start_again();
    let before = house.queued("controller-0");
    house.until_true("solutions after the store was lost", |house| {
        house.queued("controller-0") >= before + MORE
    });
    house.plot_client("plot-client-new", "new-farm");
    house.until_true("a new farm plotted", |house| {
        house.count("plot-client-new", "sector stored") >= SECTORS as usize
    });
    house.all_alive();
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
    for server in 0..3 {
        house.nats.servers[server].kill();
        let before = house.queued("controller-0");
        house.until_true("solutions without a server", |house| house.queued("controller-0") >= before + MORE);
        house.nats.servers[server].start_again();
        // Its copies catch up before the next one goes.
        std::thread::sleep(Duration::from_secs(5));
    }
    house.nats.servers[0].kill();
    house.nats.servers[1].kill();
    let before = house.queued("controller-0");
    let dead_since = Instant::now();
    house.until_true("solutions with one server of three", |house| house.queued("controller-0") > before);
    std::thread::sleep(Duration::from_secs(20).saturating_sub(dead_since.elapsed()));
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
    // A server that dies with a request or its answer costs that one; each of the five deaths may meet one slot.
    let lost = outcomes["not_sent"] + outcomes["unknown"] + outcomes["refused"];
    assert!(lost <= 5, "{outcomes:?}");
    assert_eq!(house.report("node-0").equivocations, 0);
}

/// Three controllers on three nodes of one chain; a controller or a node dies every now and then. No solution reaches two nodes.
#[test]
fn controllers_and_nodes_die_and_no_solution_reaches_two_nodes() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let mut house = House::start(1);
    let first = house.node("node-0", &[]);
    let second = house.node("node-1", std::slice::from_ref(&first));
    let third = house.node("node-2", &[first.clone(), second.clone()]);
    house.controller("controller-0", &first);
    house.controller("controller-1", &second);
    house.controller("controller-2", &third);
    house.full_cache("cache");
    house.plot_server("plot-server");
    house.plot_client("plot-client", "farm");
    let queued = |house: &House| {
        ["controller-0", "controller-1", "controller-2"].map(|name| house.queued(name)).iter().sum::<usize>()
    };
    house.until_true("the farm plotted", |house| {
        house.count("plot-client", "sector stored") >= SECTORS as usize
    });
    house.until_true("solutions", |house| queued(house) >= MORE);
    let victims = ["controller-0", "node-1", "controller-2", "node-0", "controller-1", "node-2"];
    let (started, mut victims) = (Instant::now(), victims.iter().cycle());
    while started.elapsed() < Duration::from_secs(seconds) {
        let victim = victims.next().unwrap();
        house.get(victim).kill();
        eprintln!("{victim} killed");
        std::thread::sleep(Duration::from_secs(5));
        house.get(victim).start_again();
        let before = queued(&house);
        house.until_true("solutions after a death", |house| queued(house) > before);
        std::thread::sleep(Duration::from_secs(5));
    }
    house.all_alive();
    let outcomes = house.outcomes("plot-client");
    let ended = outcomes["queued"] + outcomes["refused"] + outcomes["not_sent"] + outcomes["unknown"];
    assert!(outcomes["proved"] <= ended + outcomes["expired"] + 1, "{outcomes:?}");
    for node in ["node-0", "node-1", "node-2"] {
        let report = house.report(node);
        eprintln!("{node}: {report:?}");
        assert_eq!(report.equivocations, 0, "{node}: {report:?}");
    }
}
