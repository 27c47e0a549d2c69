//! Controllers and nodes that die.

use std::time::{Duration, Instant};

use devnet::{Reason, Report};

use crate::house::House;
use crate::told::{Blow, Told};

/// A farm that finds one solution a second and more.
const SECTORS: u64 = 8;
const CONTROLLERS: [&str; 3] = ["controller-0", "controller-1", "controller-2"];
const NODES: [&str; 3] = ["node-0", "node-1", "node-2"];
/// One dies every so often.
const INTERVAL: Duration = Duration::from_secs(20);
const DOWN: Duration = Duration::from_secs(5);
/// The same order again and again.
const VICTIMS: [&str; 6] = ["controller-0", "node-1", "controller-2", "node-0", "controller-1", "node-2"];

/// What nodes may reject: whose controller or node died, or was too slow, gets no signature in time; what is proved late comes late.
/// Anything else is a solution that was wrong, sent twice, or sent to a node that had not announced its slot.
const UNLUCKY: [Reason; 3] = [Reason::NotSigned, Reason::Late, Reason::QueueFull];

/// Three controllers on three nodes of one chain; every 20 s one of the six is killed. No solution reaches two nodes, and each is queued or
/// is lost for a reason that is true.
#[test]
fn controllers_and_nodes_die_and_no_solution_reaches_two_nodes() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(120);
    let mut house = three_nodes();
    house.until_true("the farm plotted", |house| {
        house.count("plot-client", "sector stored") >= usize::try_from(SECTORS).unwrap()
    });
    house.until_true("a solution", |house| queued(house) > 0);
    let (started, mut victims) = (Instant::now(), VICTIMS.iter().cycle());
    let (mut reports, mut blows) = (Vec::new(), Vec::new());
    while started.elapsed() < Duration::from_secs(seconds) {
        let (victim, began) = (victims.next().unwrap(), Instant::now());
        // A node that starts again counts anew.
        if NODES.contains(victim) {
            reports.push((*victim, house.report(victim)));
        }
        blows.push(Blow::now(DOWN));
        house.get(victim).kill();
        eprintln!("{victim} killed");
        std::thread::sleep(DOWN);
        house.get(victim).start_again();
        let before = queued(&house);
        house.until_true("solutions after a death", |house| queued(house) > before);
        house.all_alive();
        std::thread::sleep(INTERVAL.saturating_sub(began.elapsed()));
    }
    house.all_alive();
    let proved = house.outcomes("plot-client")["proved"];
    reports.extend(NODES.map(|node| (node, house.report(node))));
    check_outcomes(&house, proved, &blows);
    reports.iter().for_each(|(node, report)| check_report(node, report));
}

fn three_nodes() -> House {
    let mut house = House::start(1);
    let mut addresses = Vec::new();
    for (node, controller) in NODES.into_iter().zip(CONTROLLERS) {
        addresses.push(house.node(node, &addresses));
        house.controller(controller, addresses.last().unwrap());
    }
    house.full_cache("cache");
    house.plot_server("plot-server");
    house.plot_client_of("plot-client", "farm", SECTORS);
    house
}

/// Solutions that controllers say their nodes have taken.
fn queued(house: &House) -> usize {
    CONTROLLERS.iter().map(|name| house.queued(name)).sum()
}

fn check_outcomes(house: &House, proved: u64, blows: &[Blow]) {
    let told = Told::by(&house.processes["plot-client"].log());
    eprintln!("{proved} proved: {told:#?}");
    assert_eq!(usize::try_from(proved).unwrap(), told.ended(), "each is told of once");
    let untrue = told.untrue(blows);
    assert!(untrue.is_empty(), "lost while everybody was there: {untrue:#?}");
    // An answer that was lost on its way is unknown to the finder.
    let taken = queued(house);
    assert!((told.queued..=told.queued + told.unknown).contains(&taken), "{taken} taken");
}

fn check_report(node: &str, report: &Report) {
    eprintln!("{node}: {report:?}");
    assert_eq!(report.equivocations, 0, "{node}: {report:?}");
    assert_eq!(report.reward_signatures.invalid, 0, "{node}: {report:?}");
    let wrong = report.solutions.rejected.keys().find(|reason| !UNLUCKY.contains(reason));
    assert_eq!(wrong, None, "{node}: {report:?}");
}
