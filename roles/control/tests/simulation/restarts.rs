//! A plot-client is killed and started again while its solutions are with a node: what they lead to is signed all the same.

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

/// Signatures that a node did not get after the plot-client had started again, and all that it got.
fn unsigned_and_signed(mutant: Option<Mutant>) -> (u64, u64) {
    let mut world = World::new(1, false);
    world.nodes = vec![Node::new(1)];
    let make = Box::new(|disk: &_, id| Box::new(Controller::new(id, disk, None)) as _);
    world.add("controller", Some(0), make);
    let farm = Farm { public_key: [7; 32], host: "host".to_owned(), solutions: 60, sectors: 0 };
    let make = Box::new(move |disk: &_, id| Box::new(PlotClient::new(id, farm.clone(), disk, mutant)) as _);
    world.add("plot-client", None, make);
    let (start, kill) = (|member| Happening::Fault(Fault::Start(member)), Happening::Fault(Fault::Kill(1)));
    (0..2).for_each(|member| world.plan(Duration::ZERO, start(member)));
    world.plan(Duration::from_secs(1), Happening::Slot(1));
    world.plan(KILLED_AT, kill);
    world.plan(STARTED_AT, start(1));
    world.run_until(SERVES_FROM);
    let before = world.nodes[0].unsigned;
    world.run_until(END);
    assert_eq!(world.ledger.wrong, Vec::<String>::new());
    (world.nodes[0].unsigned - before, world.nodes[0].signed)
}

#[test]
fn a_solution_that_was_queued_before_a_restart_is_signed_for_afterwards() {
    let (unsigned, signed) = unsigned_and_signed(None);
    assert!(unsigned == 0 && signed > 20, "{unsigned} of {signed}");
    let (unsigned, _) = unsigned_and_signed(Some(Mutant::SolutionsForgotten));
    assert!(unsigned > 2, "{unsigned}: the test cannot fail");
}
