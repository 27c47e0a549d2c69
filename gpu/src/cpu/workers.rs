//! A fixed set of threads, each with memory of its own, that take jobs from one queue.

use super::queue::Queue;
use crate::WorkerStats;
use consensus::Workers;
use engine::threads::ThreadWorkers;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The threads and their queue. Dropping it drops what waits, and returns when the jobs begun are done.
pub(super) struct WorkerSet<K: Ord + Copy, J> {
    pub queue: Arc<Queue<K, J>>,
    meters: Arc<[Meter]>,
    started: Instant,
    supervisor: Option<JoinHandle<()>>,
}

/// Times of one worker, in nanoseconds since the start.
#[derive(Default)]
struct Meter {
    jobs: AtomicU64,
    busy_ns: AtomicU64,
    /// When the job it is on began, plus one; zero between jobs.
    busy_since_ns: AtomicU64,
}

impl<K, J> WorkerSet<K, J>
where
    K: Ord + Copy + Send + 'static,
    J: Send + 'static,
{
    /// Starts as many workers as `threads` has, on its cores. `memory` is made in the thread that uses it, so that it is near.
    pub fn start<M>(
        threads: &ThreadWorkers,
        queue_limit: usize,
        memory: impl Fn() -> M + Send + Sync + 'static,
        run: impl Fn(&mut M, J) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(queue_limit));
        let meters: Arc<[Meter]> = (0..threads.count()).map(|_| Meter::default()).collect();
        let started = Instant::now();
        let supervisor = std::thread::Builder::new().name("workers".into()).spawn({
            let (queue, meters, threads) = (queue.clone(), meters.clone(), threads.clone());
            // As many jobs as threads, none of which ends before the queue is closed: each thread has one.
            move || threads.run(meters.len(), &|worker| work(&queue, &meters[worker], started, &memory, &run))
        })?;
        Ok(Self { queue, meters, started, supervisor: Some(supervisor) })
    }
}

impl<K: Ord + Copy, J> WorkerSet<K, J> {
    pub fn stats(&self) -> Vec<WorkerStats> {
        self.meters.iter().map(|meter| meter.stats(self.started.elapsed())).collect()
    }
}

impl<K: Ord + Copy, J> Drop for WorkerSet<K, J> {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(supervisor) = self.supervisor.take()
            && supervisor.join().is_err()
        {
            tracing::error!("a worker thread panicked outside of its jobs");
        }
    }
}

fn work<K: Ord + Copy, J, M>(
    queue: &Queue<K, J>,
    meter: &Meter,
    started: Instant,
    make_memory: impl Fn() -> M,
    run: impl Fn(&mut M, J),
) {
    let mut memory = make_memory();
    while let Some(job) = queue.pop() {
        meter.begin(started.elapsed());
        // A fault costs the job (whose drop tells whoever waits), not the worker.
        if catch_unwind(AssertUnwindSafe(|| run(&mut memory, job))).is_err() {
            tracing::error!("a job panicked: this is a bug, please report it with the lines above");
            memory = make_memory();
        }
        meter.end(started.elapsed());
    }
}

// Relaxed throughout: each is written by one thread and read for a metric.
impl Meter {
    fn begin(&self, now: Duration) {
        self.busy_since_ns.store(nanoseconds(now) + 1, Ordering::Relaxed);
    }

    fn end(&self, now: Duration) {
        let since = self.busy_since_ns.swap(0, Ordering::Relaxed);
        self.busy_ns.fetch_add((nanoseconds(now) + 1).saturating_sub(since), Ordering::Relaxed);
        self.jobs.fetch_add(1, Ordering::Relaxed);
    }

    fn stats(&self, now: Duration) -> WorkerStats {
        let current = match self.busy_since_ns.load(Ordering::Relaxed) {
            0 => 0,
            since => (nanoseconds(now) + 1).saturating_sub(since),
        };
        let busy = Duration::from_nanos(self.busy_ns.load(Ordering::Relaxed) + current);
        WorkerStats { jobs: self.jobs.load(Ordering::Relaxed), busy, idle: now.saturating_sub(busy) }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a process runs for less than 500 years")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn jobs_run_faults_are_survived_and_time_is_counted() {
        let (done, results) = mpsc::channel();
        let run = move |_: &mut (), job: u8| {
            assert!(job != 1, "job one");
            std::thread::sleep(Duration::from_millis(20));
            done.send(job).unwrap();
        };
        let workers = WorkerSet::start(&ThreadWorkers::unbound(1), 9, || (), run).unwrap();
        for job in 0..3 {
            workers.queue.push(0, job).unwrap();
        }
        assert_eq!([results.recv(), results.recv()], [Ok(0), Ok(2)]);
        while workers.stats()[0].jobs < 3 {
            std::thread::yield_now();
        }
        let stats = workers.stats()[0];
        assert!(stats.busy >= Duration::from_millis(40), "{stats:?}");
        std::thread::sleep(Duration::from_millis(5));
        assert!(workers.stats()[0].idle > stats.idle);
    }

    #[test]
    fn dropping_waits_for_the_job_begun_and_drops_the_others() {
        let (done, results) = mpsc::channel();
        let run = move |_: &mut (), job: u8| {
            done.send(job).unwrap();
            std::thread::sleep(Duration::from_millis(30));
            done.send(job + 100).unwrap();
        };
        let workers = WorkerSet::start(&ThreadWorkers::unbound(1), 9, || (), run).unwrap();
        workers.queue.push(0, 1).unwrap();
        workers.queue.push(0, 2).unwrap();
        assert_eq!(results.recv(), Ok(1));
        drop(workers);
        assert_eq!(results.iter().collect::<Vec<_>>(), [101]);
    }
}
