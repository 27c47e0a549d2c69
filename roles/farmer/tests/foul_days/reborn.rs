//! A whole cluster is stopped, its store is lost, and all is started again: nobody that runs knows what it was.

use crate::house::{House, SECTORS};

const ROLES: [&str; 4] = ["controller-0", "cache", "plot-server", "plot-client"];

#[test]
fn a_cluster_that_was_stopped_while_its_store_was_lost_is_itself_again() {
    let mut house = House::start(1);
    house.basic();
    house.until_true("the farm plotted", |house| {
        house.count("plot-client", "sector stored") >= SECTORS as usize
    });
    house.until_true("solutions", |house| house.queued("controller-0") > 0);
    assert_eq!(marks(&house), 1);
    ROLES.iter().for_each(|role| house.get(role).kill());
    house.nats.servers[0].kill();
    house.nats.servers[0].lose_store();
    house.nats.servers[0].start_again();

    ROLES.iter().for_each(|role| house.get(role).start_again());
    house.until_true("the settings again", |house| {
        house.count("controller-0", "settings were lost, and are written again") > 0
    });
    // From what the cache says of itself: the controller has not the segment any more, and fetches nothing that the cache has.
    house.until_true("the segment known to be placed", |house| marks(house) > 1);
    assert_eq!(house.count("controller-0", "segments that nobody knew to be placed are in the caches"), 1);
    let before = house.queued("controller-0");
    house.until_true("solutions again", |house| house.queued("controller-0") > before);
    house.plot_client_of("plot-client-new", "new-farm", 1);
    house.until_true("a new farm plotted", |house| house.count("plot-client-new", "sector stored") > 0);
    house.all_alive();
    assert_eq!(house.report("node-0").equivocations, 0);
}

/// How often the controller has told the store that a segment is placed.
fn marks(house: &House) -> usize {
    house.count("controller-0", "segment is in the caches")
}
