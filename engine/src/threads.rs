//! Threads for consensus work: a pool given sets of cores, not one core each.

pub use crate::core_set::{CoreSet, CoresError};
use consensus::Workers;
use rustix::process::{getpriority_process, setpriority_process};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Jobs a thread takes at a time, as a part of its fair share: small enough that all end together.
const TAKES_PER_SHARE: usize = 8;

/// Priority (`nice`) of threads in the background: a tenth of the share of others where cores are short, all of it where not.
const BACKGROUND_PRIORITY: i32 = 10;

/// Name of the threads, as `ps -L` shows it.
const NAME: &str = "compute";

/// Lends threads that may run on any core of a set; of several sets each thread has one. They live for one [`Workers::run`]: starting them costs some tens of
/// microseconds, which consensus work (milliseconds and up) does not notice.
#[derive(Debug, Clone)]
pub struct ThreadWorkers {
    threads: usize,
    /// None: wherever the system puts them.
    sets: Vec<CoreSet>,
    in_background: bool,
}

impl ThreadWorkers {
    /// `threads` (at least 1) threads wherever the system puts them.
    pub fn unbound(threads: usize) -> Self {
        Self::on(Vec::new(), threads)
    }

    /// One thread a core of `cores`, each free to run on any of them. Tries the set once, in a thread of its own.
    pub fn on_cores(cores: &[usize]) -> Result<Self, CoresError> {
        let set = CoreSet::new(cores)?;
        Ok(Self::on(vec![set], cores.len()))
    }

    /// `threads` (at least 1) threads on sets that may be moved: each thread on one of them, a set's part by its number of cores.
    pub fn on(sets: Vec<CoreSet>, threads: usize) -> Self {
        Self { threads: threads.max(1), sets, in_background: false }
    }

    /// The same threads, but no more than `threads` (at least 1) of them.
    #[must_use]
    pub fn at_most(self, threads: usize) -> Self {
        Self { threads: self.threads.min(threads.max(1)), ..self }
    }

    /// Exactly `threads` (at least 1) on the same cores.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads: threads.max(1), ..self }
    }

    /// The same threads at a lower priority, for work that may take its time while other work on the same cores may not.
    #[must_use]
    pub fn in_background(self) -> Self {
        Self { in_background: true, ..self }
    }

    /// Makes the present thread the one of this number (below [`Self::count`]; others count on from the first).
    pub fn enter(&self, number: usize) {
        if let Some(set) = self.set_of(number % self.threads) {
            set.enter();
        }
        if self.in_background {
            // On Linux it is that of the calling thread alone. Everybody may lower it; where the operator's is lower still, it stays.
            let own = getpriority_process(None).unwrap_or_default();
            let _ = setpriority_process(None, own.max(BACKGROUND_PRIORITY));
        }
    }

    /// The set of a thread: where its place in the row of threads is in the row of all sets' cores.
    fn set_of(&self, number: usize) -> Option<&CoreSet> {
        let cores: Vec<_> = self.sets.iter().map(|set| set.cores().len()).collect();
        let mut place = number * cores.iter().sum::<usize>() / self.threads;
        self.sets.iter().zip(cores).find_map(|(set, cores)| {
            let is_here = place < cores;
            place = place.saturating_sub(cores);
            is_here.then_some(set)
        })
    }
}

impl Workers for ThreadWorkers {
    fn count(&self) -> usize {
        self.threads
    }

    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        let threads = self.threads.min(jobs);
        if threads <= 1 && self.sets.is_empty() && !self.in_background {
            return (0..jobs).for_each(job);
        }
        let take = (jobs / (threads.max(1) * TAKES_PER_SHARE)).max(1);
        let next = &AtomicUsize::new(0);
        let work = |number: usize| {
            self.enter(number);
            loop {
                let from = next.fetch_add(take, Ordering::Relaxed);
                if from >= jobs {
                    return;
                }
                (from..jobs.min(from + take)).for_each(job);
            }
        };
        let work = &work;
        std::thread::scope(|scope| {
            for number in 0..threads {
                let thread = std::thread::Builder::new().name(NAME.into());
                // As `scope.spawn` itself does, which has no names.
                thread.spawn_scoped(scope, move || work(number)).expect("the system has room for a thread");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{CpuSet, sched_getaffinity};
    use std::collections::HashSet;
    use std::sync::Mutex;

    fn allowed_cores() -> Vec<usize> {
        let allowed = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect()
    }

    #[test]
    fn every_job_runs_once() {
        for workers in [ThreadWorkers::unbound(3), ThreadWorkers::on_cores(&allowed_cores()).unwrap()] {
            for jobs in [0, 1, 2, 7, 1000] {
                let runs: Vec<_> = (0..jobs).map(|_| AtomicUsize::new(0)).collect();
                workers.run(jobs, &|job| _ = runs[job].fetch_add(1, Ordering::Relaxed));
                assert!(runs.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{jobs} jobs");
            }
        }
    }

    #[test]
    fn jobs_run_on_the_given_cores_and_the_caller_keeps_its_own() {
        let before = allowed_cores();
        let core = *before.last().unwrap();
        let workers = ThreadWorkers::on_cores(&[core]).unwrap();
        assert_eq!(workers.count(), 1);
        let seen = Mutex::new(HashSet::new());
        workers.run(8, &|_| _ = seen.lock().unwrap().insert(rustix::thread::sched_getcpu()));
        assert_eq!(seen.into_inner().unwrap(), HashSet::from([core]));
        assert_eq!(allowed_cores(), before);
    }

    #[test]
    fn threads_are_divided_among_sets_by_their_cores() {
        let all = allowed_cores();
        let sets = vec![CoreSet::new(&all[..1]).unwrap(), CoreSet::new(&all).unwrap()];
        let part = |threads: usize| {
            let workers = ThreadWorkers::on(sets.clone(), threads);
            let first = |number: &usize| workers.set_of(*number).unwrap().cores() == all[..1];
            (0..threads).filter(first).count()
        };
        if all.len() > 1 {
            assert_eq!([1, 2, 3].map(|part_of| part(part_of * (1 + all.len()))), [1, 2, 3]);
        }
        let workers = ThreadWorkers::on(sets.clone(), 4);
        let (most, seen) = (AtomicUsize::new(0), Mutex::new(HashSet::new()));
        workers.run(100, &|_| {
            most.fetch_max(sets[0].threads() + sets[1].threads(), Ordering::Relaxed);
            seen.lock().unwrap().insert(std::thread::current().name().map(str::to_owned));
        });
        assert!((1..=4).contains(&most.into_inner()));
        assert_eq!(seen.into_inner().unwrap(), HashSet::from([Some(NAME.to_owned())]));
    }

    #[test]
    fn background_threads_alone_have_the_lower_priority() {
        let priority = || getpriority_process(None).unwrap();
        let before = priority();
        for threads in [1, 2] {
            let workers = ThreadWorkers::unbound(threads).in_background();
            workers.run(4, &|_| assert_eq!(priority(), BACKGROUND_PRIORITY.max(before)));
        }
        assert_eq!(priority(), before);
    }

    #[test]
    fn a_panic_in_a_job_reaches_the_caller() {
        let run = || ThreadWorkers::unbound(2).run(10, &|job| assert!(job != 5, "job five"));
        assert!(std::panic::catch_unwind(run).is_err());
    }

    #[test]
    fn sets_that_cannot_be_are_refused() {
        assert!(matches!(ThreadWorkers::on_cores(&[]), Err(CoresError::Empty)));
        assert!(matches!(ThreadWorkers::on_cores(&[1 << 20]), Err(CoresError::TooHigh { .. })));
        let error = ThreadWorkers::on_cores(&[CpuSet::MAX_CPU - 1]).unwrap_err().to_string();
        assert!(error.contains("cpuset"), "{error}");
    }
}
