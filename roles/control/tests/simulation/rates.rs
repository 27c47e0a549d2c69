//! How many messages are delivered in a second when all is well: with members, not with their square.

use super::cache::Cache;
use super::controller::Controller;
use super::faults::Fault;
use super::mutant::Mutant;
use super::nodes::Node;
use super::plot_client::{Farm, PlotClient};
use super::plot_server::PlotServer;
use super::world::{Happening, World};
use control::messages::Role;
use std::time::Duration;

/// Controllers, caches, plot-servers and proof-servers of a cluster, large or small; the rest are plot-clients.
const CONTROLLERS: usize = 3;
const CACHES: usize = 4;
const SERVERS: usize = 4;
const PROVERS: usize = 3;
const MEASURED_FROM: Duration = Duration::from_secs(150);
const MEASURED_FOR: Duration = Duration::from_secs(60);

/// Members of the clusters that are compared.
const MEMBERS: [usize; 3] = [20, 100, 200];
/// A plot-client more among many may cost so much more than one among few: the messages of some are random, and no more.
const MAX_BEND: f64 = 1.05;
/// Deliveries a second that a plot-client may cost.
const MAX_MESSAGES: f64 = 10.0;
/// Its entry once a minute to all servers, and theirs to it.
const MAX_WORDS: f64 = 0.5;

/// Deliveries a second of a cluster.
#[derive(Debug, Clone, Copy)]
struct Rates {
    /// Messages of the bus, questions to the store, and what is written there.
    messages: f64,
    /// Words of the store to those who watch it: each member writes its entry once a minute.
    words: f64,
}

/// Of a cluster of so many members, all of it plotted, one slot a second.
fn rates(members: usize, mutant: Option<Mutant>) -> Rates {
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
    for nth in 0..PROVERS {
        // Here it is seen, as a cache is.
        let make = Box::new(|disk: &_, id| Box::new(Cache::new(id, Role::ProofServer, disk, None)) as _);
        world.add(&format!("proof-server-{nth}"), None, make);
    }
    for nth in world.processes.len()..members {
        let public_key = *blake3::hash(&nth.to_le_bytes()).as_bytes();
        let farm = Farm { public_key, host: format!("host-{nth}"), solutions: 1, sectors: 1 };
        let make =
            Box::new(move |disk: &_, id| Box::new(PlotClient::new(id, farm.clone(), disk, mutant)) as _);
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
    Rates { messages: per_s(after.0 - before.0), words: per_s(after.1 - before.1) }
}

/// What each member more costs, from the first number of members to the second and from the second to the third.
fn slopes(counts: [f64; 3]) -> (f64, f64) {
    let [few, more, many] = MEMBERS.map(|members| members as f64);
    ((counts[1] - counts[0]) / (more - few), (counts[2] - counts[1]) / (many - more))
}

/// What is wrong with how deliveries grow: a member more may cost so much at most, and among many what it costs among few.
fn wrong_growth(what: &str, counts: [f64; 3], most: f64) -> Option<String> {
    let (among_few, among_many) = slopes(counts);
    println!("{what}: {counts:.1?} a second; a member more costs {among_few:.2}, among many {among_many:.2}");
    let is_linear = among_many <= among_few * MAX_BEND && among_many <= most;
    let wrong = || format!("a member more costs {among_few:.2} {what} a second, among many {among_many:.2}");
    (!is_linear).then(wrong)
}

/// What is wrong with a cluster whose plot-clients have this fault.
pub fn run(mutant: Option<Mutant>) -> Option<String> {
    let all = MEMBERS.map(|members| rates(members, mutant));
    let messages = wrong_growth("messages", all.map(|rates| rates.messages), MAX_MESSAGES);
    let words = wrong_growth("words of the store", all.map(|rates| rates.words), MAX_WORDS);
    messages.or(words)
}

#[test]
fn deliveries_grow_with_the_members() {
    assert_eq!(run(None), None);
}

/// The check can fail: everybody hears of everybody once a minute; or it is linear, and too much.
#[test]
fn growth_with_the_square_is_wrong() {
    let of = |cost: fn(f64) -> f64| wrong_growth("words", MEMBERS.map(|members| cost(members as f64)), 10.0);
    assert!(of(|members| members * members / 60.0).is_some());
    assert!(of(|members| members * members.log2()).is_some());
    assert!(of(|members| 11.0 * members).is_some());
    assert_eq!(of(|members| 100.0 + 7.0 * members), None);
}
