//! Where this process's threads run: on the part of the host that the plan gives it, among the cluster's other processes on it.
//!
//! ```text
//!   Placement::join ─▶ roster: who else runs here ─▶ topology::plan_members ─▶ own part ─▶ CoreSets ─▶ threads
//!                          ▲                                                                  │ move_to
//!                          └──────── follow: looks once a second, plans again when it changed ┘
//! ```
//! Every process plans for the whole host, by a pure function of the machine and the roster: all come to the same plan without talking to
//! each other. How many executors a process has is settled when it starts; where they stand is not.
//!
//! Owns: the sets of CPUs that the process's threads stand on. Never: threads.

mod disks;
mod roster;

pub(crate) use disks::device_of;
pub use roster::{Roster, RosterError};

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use engine::threads::{CoreSet, CoresError, ThreadWorkers};
use roster::Place;
use topology::placement::{Assignment, Kind, Member, Overrides, RequestError, Thread, plan_members, usable};
use topology::{Cpus, Machine, Role, detect};

/// How often it is looked who runs on the host.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a process works with, once it knows.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// PCI bus ids of its GPUs.
    pub gpus: Vec<String>,
    /// Where a cache, or each farm of a plot-client, is or will be.
    pub paths: Vec<PathBuf>,
    /// Executors that it has use for.
    pub executors: usize,
}

/// The sets of this process. Without them (`--no-pin`, or nothing is known of the machine) the system places its threads.
pub struct Placement {
    role: Role,
    known: Option<Known>,
}

struct Known {
    machine: Machine,
    /// None: plans as if alone.
    place: Option<(Roster, Place)>,
    control: CoreSet,
    state: Mutex<State>,
}

/// What changes.
struct State {
    own: Member,
    /// What the sets are planned for.
    members: Vec<Member>,
    executors: Vec<CoreSet>,
    feeders: Vec<CoreSet>,
    compute: Vec<CoreSet>,
}

impl Placement {
    /// Takes a place in the host's roster, and the present thread onto the CPUs that the operator left. What fails beside the operator's own
    /// words costs the binding, not the start, and is logged.
    pub fn join(role: Role, overrides: &Overrides, folder: Option<&Path>) -> Result<Self, RequestError> {
        let unbound = |error: &dyn Error| {
            tracing::warn!("threads are not bound: {error}");
            Self { role, known: None }
        };
        let machine = match detect::this_machine() {
            Ok(machine) => machine,
            Err(error) => return Ok(unbound(&error)),
        };
        let cpus = usable(&machine, overrides)?;
        let control = match CoreSet::new(&numbers(&cpus)) {
            Ok(control) => control,
            Err(error) => return Ok(unbound(&error)),
        };
        control.enter();
        let place = Roster::open(folder).and_then(|roster| roster.join(role).map(|place| (roster, place)));
        let place = place.map_err(|error| tracing::warn!("plans as if nothing else ran here: {error}")).ok();
        let number = place.as_ref().map_or(0, |(_, place)| place.number);
        let no_pin = overrides.no_pin;
        let (gpus, disks) = (Vec::new(), Vec::new());
        let own = Member { role, number, gpus, disks, executors: None, cpus, no_pin };
        let state = State {
            own,
            members: Vec::new(),
            executors: Vec::new(),
            feeders: Vec::new(),
            compute: Vec::new(),
        };
        Ok(Self { role, known: Some(Known { machine, place, control, state: Mutex::new(state) }) })
    }

    /// Plans, now that it is known what the process works with, and settles how many executors it has. A line of log a thread.
    pub fn settle(&self, work: Work) {
        let Some(known) = &self.known else { return };
        let mut state = known.state();
        let disks = work.paths.iter().filter_map(|path| disks::disk_of(&known.machine, path));
        let disks: BTreeSet<_> = disks.map(|disk| disk.name.clone()).collect();
        (state.own.gpus, state.own.disks) = (work.gpus, disks.into_iter().collect());
        known.tell(&state.own);
        let planned = known.plan(&mut state);
        let executors = planned.iter().filter(|thread| thread.kind == Kind::Executor).count();
        state.own.executors = u32::try_from(executors.clamp(1, work.executors.max(1))).ok();
        known.tell(&state.own);
        let planned = known.plan(&mut state);
        tracing::info!(number = state.own.number, cpus = %state.own.cpus, "{} on this host", self.role);
        for thread in &planned {
            tracing::info!("{}", line(thread));
        }
        if !state.own.no_pin {
            known.apply(&mut state, &planned);
        }
    }

    /// A set for each executor, or as many that are free.
    pub fn executors(&self) -> Vec<Option<CoreSet>> {
        let sets = self.sets(|state| &state.executors);
        if !sets.is_empty() {
            return sets.into_iter().map(Some).collect();
        }
        let count = self.known.as_ref().and_then(|known| known.state().own.executors);
        vec![None; count.map_or(1, |count| count as usize)]
    }

    /// Which executors are on the node of the disk that `path` is on, or will be; none where nobody knows.
    pub fn near(&self, path: &Path) -> Vec<usize> {
        let Some(known) = &self.known else { return Vec::new() };
        let Some(disk) = disks::disk_of(&known.machine, path) else { return Vec::new() };
        let cpus: Cpus = disk
            .pci
            .near
            .iter()
            .flat_map(|&node| known.machine.cpus_of_node(node).iter().collect::<Vec<_>>())
            .collect();
        let state = known.state();
        let is_near = |set: &CoreSet| {
            set.cores().iter().all(|&cpu| u32::try_from(cpu).is_ok_and(|cpu| cpus.contains(cpu)))
        };
        (0..).zip(&state.executors).filter(|(_, set)| is_near(set)).map(|(number, _)| number).collect()
    }

    /// A set for the feeder of each of these GPUs, which are those that were settled. One that the machine does not show is fed from the pool.
    pub fn feeders(&self, gpus: &[String]) -> Vec<Option<CoreSet>> {
        let Some(known) = &self.known else { return vec![None; gpus.len()] };
        let state = known.state();
        let mut planned = state.feeders.iter();
        let is_shown = |gpu: &String| known.machine.gpus.iter().any(|shown| shown.pci.bus_id == *gpu);
        let set = |gpu| if is_shown(gpu) { planned.next() } else { state.compute.first() };
        gpus.iter().map(set).map(Option::<&CoreSet>::cloned).collect()
    }

    /// `threads` threads that compute; none: one for each CPU of their pools.
    pub fn compute(&self, threads: Option<usize>) -> ThreadWorkers {
        let sets = self.sets(|state| &state.compute);
        let cpus = || match &self.known {
            Some(known) if sets.is_empty() => known.state().own.cpus.len(),
            Some(_) => sets.iter().map(|set| set.cores().len()).sum(),
            None => available_parallelism().map_or(1, usize::from),
        };
        let threads = threads.unwrap_or_else(cpus);
        ThreadWorkers::on(sets, threads)
    }

    /// What threads of the control runtime enter when they start.
    pub fn control(&self) -> Option<CoreSet> {
        self.known.as_ref().map(|known| known.control.clone())
    }

    /// Looks who comes and goes, and moves threads, for ever.
    pub async fn follow(&self) -> Infallible {
        let Some(known) = self.known.as_ref().filter(|known| known.place.is_some()) else {
            return pending().await;
        };
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let mut state = known.state();
            // Not settled yet: what it will work with is not known.
            let is_settled = !state.members.is_empty();
            if state.own.no_pin || !is_settled || known.members(&state.own) == state.members {
                continue;
            }
            let planned = known.plan(&mut state);
            let processes = state.members.len();
            tracing::info!(processes, "who runs on this host has changed: its CPUs are divided anew");
            known.apply(&mut state, &planned);
        }
    }

    fn sets(&self, of: impl Fn(&State) -> &Vec<CoreSet>) -> Vec<CoreSet> {
        self.known.as_ref().map(|known| of(&known.state()).clone()).unwrap_or_default()
    }
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, own: &Member) {
        if let Some((_, place)) = &self.place
            && let Err(error) = place.write(own)
        {
            tracing::warn!("other processes of this host do not know of this one: {error}");
        }
    }

    /// This process and the others.
    fn members(&self, own: &Member) -> Vec<Member> {
        let others = self.place.as_ref().map(|(roster, _)| roster.members()).unwrap_or_default();
        let is_own = |member: &Member| (member.role, member.number) == (own.role, own.number);
        others.into_iter().filter(|member| !is_own(member)).chain([own.clone()]).collect()
    }

    /// The own threads, where everybody who is here now is planned for.
    fn plan(&self, state: &mut State) -> Vec<Thread> {
        state.members = self.members(&state.own);
        let plan = plan_members(&self.machine, &state.members);
        let is_own = |one: &Assignment| (one.role, one.instance) == (state.own.role, state.own.number);
        plan.plan.into_iter().find(is_own).map(|one| one.threads).unwrap_or_default()
    }

    fn apply(&self, state: &mut State, planned: &[Thread]) {
        let of = |kind| planned.iter().filter(move |thread| thread.kind == kind).collect::<Vec<_>>();
        stand(&mut state.executors, &of(Kind::Executor));
        stand(&mut state.feeders, &of(Kind::Feeder));
        stand(&mut state.compute, &of(Kind::Compute));
        stand(&mut vec![self.control.clone()], &of(Kind::Control));
    }
}

/// Moves the sets to where the threads are planned, or makes them there. Sets are as many as they were: with fewer planned, some share.
fn stand(sets: &mut Vec<CoreSet>, planned: &[&Thread]) {
    let failed = |error: &CoresError| tracing::warn!("threads stay where they are: {error}");
    if sets.is_empty() {
        let made = planned.iter().map(|thread| CoreSet::new(&numbers(&thread.pus))).collect::<Result<_, _>>();
        *sets = made.unwrap_or_else(|error| {
            failed(&error);
            Vec::new()
        });
        return;
    }
    for (set, thread) in sets.iter().zip(planned.iter().cycle()) {
        let cores = numbers(&thread.pus);
        if set.cores() == cores {
            continue;
        }
        match set.move_to(&cores) {
            Ok(()) => tracing::debug!("moved: {}", line(thread)),
            Err(error) => failed(&error),
        }
    }
}

/// `executor-0 on CPU 3 (node 0): near eth0`.
fn line(thread: &Thread) -> String {
    let Thread { name, pus, numa_node, reason, .. } = thread;
    let cpus = if pus.len() == 1 { "CPU" } else { "CPUs" };
    let node = numa_node.map_or_else(String::new, |node| format!(" (node {node})"));
    format!("{name} on {cpus} {pus}{node}: {reason}")
}

fn numbers(cpus: &Cpus) -> Vec<usize> {
    cpus.iter().map(|cpu| cpu as usize).collect()
}
