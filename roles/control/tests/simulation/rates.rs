//! How many messages are delivered in a second when all is well: with members, not with their square.

use super::cache::Cache;
use super::controller::Controller;
use super::faults::Fault;
use super::nodes::Node;
use super::plot_client::{Farm, PlotClient};
use super::plot_server::PlotServer;
use super::world::{Happening, World};
use control::messages::Role;
use std::time::Duration;

/// Controllers, caches and plot-servers of a cluster, large or small; the rest are plot-clients.
const CONTROLLERS: usize = 3;
const CACHES: usize = 4;
const SERVERS: usize = 4;
const MEASURED_FROM: Duration = Duration::from_secs(150);
const MEASURED_FOR: Duration = Duration::from_secs(60);

/// Deliveries a second of a cluster.
#[derive(Clone, Copy)]
struct Rates {
    /// Messages of the bus, questions to the store, and what is written there.
    messages: f64,
    /// Words of the store to those who watch it: each member writes its entry once a minute, and all hear of it.
    watched: f64,
}

/// Of a cluster of so many members, all of it plotted, one slot a second.
fn rates(members: usize) -> Rates {
    let mut world = World::new(members as u64, false);
    world.nodes = (0..CONTROLLERS).map(|_| Node::new(1)).collect();
    for nth in 0..CONTROLLERS {
        let make = Box::new(|disk: &_, id| Box::new(Controller::new(id, disk, None)) as _);
        world.add(&format!("controller-{nth}"), Some(nth), make);
    }
    for nth in 0..CACHES {
        let make = Box::new(|disk: &_, id| Box::new(Cache::new(id, Role::ShardedCache, disk, None)) as _);
        world.add(&format!("cache-{nth}"), None, make);
    }
    for nth in 0..SERVERS {
        let make = Box::new(|disk: &_, id| Box::new(PlotServer::new(id, disk, None)) as _);
        world.add(&format!("plot-server-{nth}"), None, make);
    }
    for nth in world.processes.len()..members {
        let public_key = *blake3::hash(&nth.to_le_bytes()).as_bytes();
        let farm = Farm { public_key, host: format!("host-{nth}"), solutions: 1, sectors: 1 };
        let make = Box::new(move |disk: &_, id| Box::new(PlotClient::new(id, farm.clone(), disk, None)) as _);
        world.add(&format!("plot-client-{nth}"), None, make);
    }
    for member in 0..members {
        world.plan(Duration::ZERO, Happening::Fault(Fault::Start(member)));
    }
    world.plan(Duration::from_secs(1), Happening::Slot(1));
    world.run_until(MEASURED_FROM);
    let count = |world: &World| (world.messages + world.jetstream.asked, world.jetstream.told);
    let before = count(&world);
    world.run_until(MEASURED_FROM + MEASURED_FOR);
    assert_eq!(world.ledger.wrong, Vec::<String>::new());
    let after = count(&world);
    let per_s = |count: u64| count as f64 / MEASURED_FOR.as_secs_f64();
    Rates { messages: per_s(after.0 - before.0), watched: per_s(after.1 - before.1) }
}

#[test]
fn messages_grow_with_the_members() {
    let [few, more, many] = [20, 100, 200].map(|members| {
        let Rates { messages, watched } = rates(members);
        println!("{members} members: {messages:.0} messages a second and {watched:.0} words of the store");
        Rates { messages, watched }
    });
    let slope = (many.messages - few.messages) / 180.0;
    let on_a_line = few.messages + 80.0 * slope;
    let ratio = more.messages / on_a_line;
    println!(
        "each member more costs {slope:.1} messages a second; 100 members are at {ratio:.2} of the line"
    );
    assert!((ratio - 1.0).abs() < 0.05, "not on a line");
    assert!(slope < 10.0, "{slope:.1} messages a second for each member more");
    // These do grow with the square, but once a minute.
    assert!(many.watched < 200.0 * 200.0 / 60.0 * 1.2, "{:.0} words of the store", many.watched);
}
