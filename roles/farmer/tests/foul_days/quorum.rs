//! JetStream without a quorum: one NATS server of three. What earns goes over core NATS and needs no more.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::copy_folder;
use crate::house::{House, SECTORS};

/// For how long roles wait in vain.
const IN_VAIN: Duration = Duration::from_secs(5);
/// A copy is told of within this, once both are on the bus; a connection to a server that died takes a moment to be replaced.
const TOLD_WITHIN: Duration = Duration::from_secs(5 + 3);

/// Roles that start before there is a leader, and then before there are servers for three copies, wait. A farm's copy that started while
/// the one that farms it was stopped hears of it as soon as that goes on, without JetStream.
#[test]
fn roles_wait_for_a_quorum_and_a_copied_farm_is_refused_without_one() {
    let mut house = House::start(3);
    house.nats.servers[1].kill();
    house.nats.servers[2].kill();
    house.basic();
    for server in [1, 2] {
        std::thread::sleep(IN_VAIN);
        house.all_alive();
        house.nats.servers[server].start_again();
    }
    house.until_true("the farm plotted", |house| {
        house.count("plot-client", "sector stored") >= SECTORS as usize
    });
    house.until_true("solutions", |house| house.queued("controller-0") > 0);
    house.all_alive();

    house.get("plot-client").freeze(true);
    copy_folder(Path::new(&house.path("farm")), Path::new(&house.path("copy")));
    house.plot_client("plot-client-copy", "copy");
    house.until_true("the copy farming", |house| house.count("plot-client-copy", "solution queued") > 0);
    house.nats.servers[0].kill();
    house.nats.servers[1].kill();
    house.get("plot-client").freeze(false);
    let went_on_at = Instant::now();
    house.until_true("the copy refused", |house| {
        house.count("plot-client-copy", "the same as the one in") > 0
    });
    assert!(went_on_at.elapsed() < TOLD_WITHIN, "told after {:?}", went_on_at.elapsed());
    house.until_true("the end of the copy", |house| house.count("plot-client-copy", "error: ") > 0);
    let mut copy = house.processes.remove("plot-client-copy").unwrap();
    while copy.ended().is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let before = house.count("plot-client", "solution queued");
    house.until_true("the earlier one farming on", |house| {
        house.count("plot-client", "solution queued") > before
    });
    house.all_alive();
    let log = copy.log();
    let line = log.lines().find(|line| line.contains("the same as the one in")).unwrap();
    for named in [house.path("farm"), house.path("copy"), "on host".to_owned()] {
        assert!(line.contains(&named), "{line}");
    }
    assert_eq!(house.report("node-0").equivocations, 0);
}
