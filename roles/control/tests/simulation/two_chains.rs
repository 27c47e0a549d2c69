//! Controllers of two chains come to an empty cluster: exactly one of the chains has it.

use super::around::Around;
use super::disk::Disk;
use super::faults::Weather;
use super::keeping::Keeping;
use super::kept::own;
use super::member::{Id, Input, Member, NodeInput, Output, View};
use super::mutant::Mutant;
use super::nodes::Node;
use super::presence::Presence;
use super::world::{Happening, World};
use control::ids::InstanceId;
use control::messages::Role;
use std::time::Duration;

/// A controller that does nothing but keep the settings.
struct Keeper {
    keeping: Keeping,
    presence: Presence,
    connection: Option<u64>,
    ids: Id,
}

impl Keeper {
    fn new(id: InstanceId, genesis: u8, mutant: Option<Mutant>) -> Self {
        let mut own = own(1);
        own.genesis_hash = [genesis; 32];
        let keeping = Keeping::of_chain(id, own, Vec::new(), None, mutant);
        Self { keeping, presence: Presence::new(Role::Controller, id, 0), connection: None, ids: 0 }
    }
}

impl Member for Keeper {
    fn on(&mut self, input: Input, now: Duration, out: &mut Vec<Output>) {
        if let Input::Node(NodeInput::Began { connection }) = input {
            self.connection = Some(connection);
        }
        let Self { keeping, presence, connection, ids } = self;
        keeping.on(&input, &mut Around { now, ids, connection: *connection, presence, out });
    }

    fn wake_at(&self) -> Option<Duration> {
        self.keeping.wake_at()
    }

    fn view(&self) -> View {
        View { agreed: self.keeping.agreed(), ..View::default() }
    }
}

/// What is wrong with the run of a seed.
pub fn run(seed: u64, mutant: Option<Mutant>) -> Option<String> {
    let mut world = World::new(seed, false);
    world.nodes = vec![Node::new(1), Node::new(1)];
    world.weather = Weather { lost_answers: 0.2, ..Weather::default() };
    for genesis in 0..2u8 {
        let make = Box::new(move |_: &Disk, id| Box::new(Keeper::new(id, genesis, mutant)) as _);
        let member = world.add(&format!("controller-{genesis}"), Some(usize::from(genesis)), make);
        world.copied.push(member);
        let after = world.random.millis(0, 40);
        world.plan(after, Happening::Fault(super::faults::Fault::Start(member)));
    }
    world.run_until(Duration::from_secs(30));
    let staying = world.processes.iter().filter(|process| process.member.is_some()).count();
    let agreed = world.processes.iter().filter_map(|process| process.member.as_ref()?.view().agreed).count();
    world.ledger.check((staying, agreed) == (1, 1), || {
        format!("{staying} controllers of two chains are left, and {agreed} have settings")
    });
    world.ledger.wrong.into_iter().next()
}

#[test]
fn of_two_chains_exactly_one_has_the_cluster() {
    for seed in 0..300 {
        assert_eq!(run(seed, None), None, "seed {seed}");
    }
}
