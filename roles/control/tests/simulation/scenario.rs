//! One run: who is there, what happens to them, and what must have come of it.

use super::cache::Cache;
use super::controller::Controller;
use super::faults;
use super::mutant::Mutant;
use super::nodes::Node;
use super::outsider::Outsider;
use super::plot_client::{Farm, PlotClient};
use super::plot_server::PlotServer;
use super::random::Random;
use super::world::{Happening, World};
use control::messages::Role;
use control::solutions::Outcome;
use std::time::Duration;

/// Until here all is well, so that everybody has started.
const FAULTS_FROM: Duration = Duration::from_secs(4);
/// So long after the last fault everything must be well again.
const HEALED_AFTER: Duration = Duration::from_secs(12);
/// Slots come for so long after that.
const WELL_FOR: Duration = Duration::from_secs(15);
/// And then none, for so long that every solution has its outcome.
const NO_SLOTS_FOR: Duration = Duration::from_secs(12);

/// From when until when all caches are away, in some runs in which nothing else happens.
const WITHOUT_CACHES: (Duration, Duration) = (Duration::from_secs(12), Duration::from_secs(130));
const CACHES: [(&str, Role); 3] =
    [("cache-0", Role::ShardedCache), ("cache-1", Role::ShardedCache), ("full-cache", Role::FullPieceCache)];
/// Time for all sectors to be plotted and all segments to be placed; most runs need little of it. A sector that failed six times waits
/// for five minutes, and so does one whose pull failed.
const AT_REST_AFTER: Duration = Duration::from_secs(1800);

/// A run, before it begins.
pub struct Scenario {
    pub world: World,
    has_stranger: bool,
    quiet_from: Duration,
    /// Nothing is wrong but that all caches are away.
    is_without_caches: bool,
    /// Processes of one role each.
    groups: Vec<Vec<usize>>,
}

/// What a run comes to.
pub struct Report {
    pub wrong: Option<String>,
    /// When nothing was left to be done, after the last fault.
    pub rested_after: Duration,
    /// Whether a controller took for a new cluster what was none, since it could not know.
    pub is_unknowable: bool,
    /// Segments archived, and those of them that nobody could fetch while a node had them.
    pub segments: (u64, u64),
    pub sectors: usize,
    pub found: usize,
    pub queued: usize,
    pub messages: u64,
    pub trace: Vec<String>,
}

/// The run of a seed.
pub fn run(seed: u64, mutant: Option<Mutant>, is_traced: bool) -> Report {
    let mut scenario = Scenario::new(seed, mutant, is_traced);
    scenario.play();
    let rested_after = scenario.world.now.saturating_sub(scenario.quiet_from);
    let world = scenario.world;
    let segments = world.nodes.iter().map(|node| node.segments).max().unwrap_or_default();
    let lost = (0..segments).filter(|segment| !world.is_placed(*segment)).count() as u64;
    let views = world.processes.iter().filter_map(|process| process.member.as_ref().map(|it| it.view()));
    Report {
        rested_after,
        is_unknowable: world.ledger.is_unknowable,
        segments: (segments, lost),
        sectors: views.filter_map(|view| view.plotted).map(|(plotted, _)| plotted).sum(),
        wrong: world.ledger.wrong.first().cloned(),
        found: world.ledger.found.len(),
        queued: world.ledger.queued_total(),
        messages: world.messages,
        trace: world.trace.unwrap_or_default(),
    }
}

impl Scenario {
    pub fn new(seed: u64, mutant: Option<Mutant>, is_traced: bool) -> Self {
        let mut world = World::new(seed, is_traced);
        let nodes = 2 + world.random.below(2) as usize;
        world.nodes = (0..nodes).map(|_| Node::new(1)).collect();
        let controllers = 2 + world.random.below(2) as usize;
        // Drawn apart: what else happens in a run stays as it is.
        let mut random = Random::new(!seed);
        let has_copies = random.chance(0.25);
        for nth in 0..controllers {
            // Not all are told, and not all alike.
            let copies = Some(random.below(4) as u8).filter(|copies| has_copies && *copies > 0);
            let make = Box::new(move |disk: &_, id| {
                Box::new(Controller::new(id, disk, mutant).with_copies(copies)) as _
            });
            world.add(&format!("controller-{nth}"), Some(nth % nodes), make);
        }
        let clients = 2 + world.random.below(3);
        for nth in 0..clients {
            let public_key = *blake3::hash(&[b"farm", &nth.to_le_bytes()[..]].concat()).as_bytes();
            world.keys.push(public_key);
            let solutions = 5 + world.random.below(40);
            let sectors = 1 + world.random.below(3) as u16;
            add_client(
                &mut world,
                Farm { public_key, host: format!("host-{nth}"), solutions, sectors },
                mutant,
            );
        }
        let has_copy = world.random.chance(0.25);
        if has_copy {
            let (public_key, host) = (world.keys[0], "host-copy".to_owned());
            let copy = add_client(&mut world, Farm { public_key, host, solutions: 40, sectors: 1 }, mutant);
            world.copied = vec![controllers, copy];
        }
        for nth in 0..1 + world.random.below(2) {
            let make = Box::new(move |disk: &_, id| Box::new(PlotServer::new(id, disk, mutant)) as _);
            world.add(&format!("plot-server-{nth}"), None, make);
        }
        for (name, role) in CACHES {
            let make = Box::new(move |disk: &_, id| Box::new(Cache::new(id, role, disk, mutant)) as _);
            let cache = world.add(name, None, make);
            world.processes[cache].keeps_id = true;
        }
        let has_outsider = world.random.chance(0.5);
        let groups = ["controller", "plot-client", "plot-server", "cache"].map(|role| {
            let is_its = |nth: &usize| world.processes[*nth].name.contains(role);
            (0..world.processes.len()).filter(is_its).collect()
        });
        let mut quiet_from = world.random.millis(40_000, 90_000);
        let is_without_caches = world.random.chance(0.03);
        if is_without_caches {
            quiet_from = WITHOUT_CACHES.1;
        }
        if has_outsider {
            let (random, keys) = (world.random.split(), world.keys.clone());
            let until = quiet_from + HEALED_AFTER;
            let make = move |_: &_, _| Box::new(Outsider::new(random.clone(), keys.clone(), until)) as _;
            world.add("outsider", None, Box::new(make));
        }
        Self {
            world,
            has_stranger: has_copy || has_outsider,
            quiet_from,
            is_without_caches,
            groups: groups.to_vec(),
        }
    }

    /// Plans everything, and lets it happen.
    pub fn play(&mut self) {
        let world = &mut self.world;
        let (members, nodes) = (world.processes.len(), world.nodes.len());
        for member in 0..members {
            let after = world.random.millis(0, 2000);
            world.plan(after, Happening::Fault(faults::Fault::Start(member)));
        }
        let mut random: Random = world.random.split();
        let faults_from = if self.is_without_caches {
            for &cache in &self.groups[3] {
                world.plan(WITHOUT_CACHES.0, Happening::Fault(faults::Fault::Kill(cache)));
                world.plan(WITHOUT_CACHES.1, Happening::Fault(faults::Fault::Start(cache)));
            }
            self.quiet_from
        } else {
            FAULTS_FROM
        };
        for (at, fault) in
            faults::draw(&mut random, members, &self.groups, nodes, faults_from, self.quiet_from)
        {
            world.plan(at, Happening::Fault(fault));
        }
        world.plan(Duration::from_secs(1), Happening::Slot(1));
        world.plan(Duration::ZERO, Happening::LookAtHolders);
        let mut archived_at = Duration::from_secs(10);
        while archived_at < self.quiet_from {
            world.plan(archived_at, Happening::Archive);
            archived_at += random.millis(15_000, 45_000);
        }
        // One more when all is well: it must come into the history.
        world.plan(self.quiet_from + Duration::from_secs(6), Happening::Archive);
        world.slots_end = (self.quiet_from + HEALED_AFTER + WELL_FOR).as_secs();
        world.run_until(self.quiet_from + HEALED_AFTER);
        let unsigned: u64 = world.nodes.iter().map(|node| node.unsigned).sum();
        world.run_until(self.quiet_from + HEALED_AFTER + WELL_FOR + NO_SLOTS_FOR);
        let mut until = self.quiet_from + HEALED_AFTER + WELL_FOR + NO_SLOTS_FOR;
        while !world.is_at_rest() && until < self.quiet_from + AT_REST_AFTER && world.ledger.wrong.is_empty()
        {
            until += Duration::from_secs(10);
            world.run_until(until);
        }
        if self.world.ledger.wrong.is_empty() {
            self.check_end(unsigned);
            let restless = self.world.restless();
            self.world.ledger.wrong.extend(restless);
        }
    }

    /// What must be so after the quiet.
    fn check_end(&mut self, unsigned: u64) {
        let (world, mut wrong) = (&mut self.world, Vec::new());
        for (&((member, run), _), found) in &world.ledger.found {
            let (process, slot) = (&world.processes[member], found.slot.slot);
            if slot > world.slots_end {
                // The outsider's.
                continue;
            }
            let is_alive = process.run == run && process.member.is_some();
            if is_alive && found.outcome.is_none() {
                wrong.push(format!("a solution of slot {slot} of {} has no outcome", process.name));
            }
            if found.at > self.quiet_from + HEALED_AFTER && found.outcome != Some(Outcome::Queued) {
                let outcome = &found.outcome;
                wrong.push(format!(
                    "a solution of slot {slot} of {} was not queued, in the quiet: {outcome:?}",
                    process.name
                ));
            }
        }
        for key in &world.keys {
            let holders = world.holders(key).len();
            if holders != 1 {
                wrong.push(format!("a farm is held by {holders} in the end"));
            }
        }
        let unsigned = world.nodes.iter().map(|node| node.unsigned).sum::<u64>() - unsigned;
        if unsigned > 0 && !self.has_stranger {
            wrong.push(format!("{unsigned} signatures were not given, in the quiet"));
        }
        world.ledger.wrong.append(&mut wrong);
    }
}

fn add_client(world: &mut World, farm: Farm, mutant: Option<Mutant>) -> usize {
    let name = format!("plot-client-{}", farm.host);
    let make = move |disk: &_, id| Box::new(PlotClient::new(id, farm.clone(), disk, mutant)) as _;
    world.add(&name, None, Box::new(make))
}
