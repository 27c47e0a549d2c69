//! A plot-client is killed and started again while its solutions are with a node, or told to end: what they lead to is signed all the
//! same.

use super::controller::Controller;
use super::faults::Fault;
use super::mutant::Mutant;
use super::nodes::Node;
use super::plot_client::{Farm, PlotClient};
use super::world::{Happening, World};
use std::time::Duration;

const KILLED_AT: Duration = Duration::from_secs(12);
/// A supervisor starts it again at once, and it claims its farm for a second.
const STARTED_AT: Duration = Duration::from_millis(12_300);
const SERVES_FROM: Duration = Duration::from_millis(13_900);
const END: Duration = Duration::from_secs(30);

/// One controller at one node, and one plot-client that finds much.
fn world(mutant: Option<Mutant>) -> World {
    let mut world = World::new(1, false);
    world.nodes = vec![Node::new(1)];
    let make = Box::new(|disk: &_, id| Box::new(Controller::new(id, disk, None)) as _);
    world.add("controller", Some(0), make);
    let farm = Farm { public_key: [7; 32], host: "host".to_owned(), solutions: 60, sectors: 0 };
    let make = Box::new(move |disk: &_, id| Box::new(PlotClient::new(id, farm.clone(), disk, mutant)) as _);
    world.add("plot-client", None, make);
    (0..2).for_each(|member| world.plan(Duration::ZERO, Happening::Fault(Fault::Start(member))));
    world.plan(Duration::from_secs(1), Happening::Slot(1));
    world
}

/// Signatures that a node did not get after the plot-client had been killed and started again, and all that it got.
fn after_a_kill(mutant: Option<Mutant>) -> (u64, u64) {
    let mut world = world(mutant);
    world.plan(KILLED_AT, Happening::Fault(Fault::Kill(1)));
    world.plan(STARTED_AT, Happening::Fault(Fault::Start(1)));
    world.run_until(SERVES_FROM);
    let before = world.nodes[0].unsigned;
    world.run_until(END);
    assert_eq!(world.ledger.wrong, Vec::<String>::new());
    (world.nodes[0].unsigned - before, world.nodes[0].signed)
}

#[test]
fn a_solution_that_was_queued_before_a_restart_is_signed_for_afterwards() {
    let (unsigned, signed) = after_a_kill(None);
    assert!(unsigned == 0 && signed > 20, "{unsigned} of {signed}");
    let (unsigned, _) = after_a_kill(Some(Mutant::SolutionsForgotten));
    assert!(unsigned > 2, "{unsigned}: the test cannot fail");
}

/// Signatures that a node did not get after the plot-client had been told to end, and when that did.
pub fn told_to_end(mutant: Option<Mutant>) -> (u64, Duration) {
    let mut world = world(mutant);
    world.plan(KILLED_AT, Happening::Fault(Fault::End(1)));
    world.run_until(KILLED_AT);
    let before = world.nodes[0].unsigned;
    while world.processes[1].exited.is_none() {
        world.run_until(world.now + Duration::from_millis(10));
        assert!(world.now < END, "it does not end");
    }
    let took = world.now - KILLED_AT;
    // A supervisor would start it; this one is not there.
    world.queue.retain(|planned| !matches!(planned.0.what, Happening::Fault(Fault::Start(1))));
    world.run_until(END);
    assert_eq!(world.ledger.wrong, Vec::<String>::new());
    (world.nodes[0].unsigned - before, took)
}

#[test]
fn one_that_is_told_to_end_stays_for_the_signatures_of_what_was_queued_and_no_longer() {
    let (unsigned, took) = told_to_end(None);
    assert_eq!(unsigned, 0);
    assert!((Duration::from_secs(4)..Duration::from_secs(15)).contains(&took), "{took:?}");
}
