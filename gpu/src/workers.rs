//! A fixed set of threads, each with memory of its own, that take jobs from one queue.

use crate::WorkerStats;
use crate::meter::Meter;
use crate::queue::Queue;
use consensus::Workers;
use engine::threads::ThreadWorkers;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

/// The threads and their queue. Dropping it drops what waits, and returns when the jobs begun are done.
pub(crate) struct WorkerSet<K: Ord + Copy, J> {
    pub queue: Arc<Queue<K, J>>,
    meters: Arc<[Meter]>,
    supervisor: Option<JoinHandle<()>>,
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
        let supervisor = std::thread::Builder::new().name("workers".into()).spawn({
            let (queue, meters, threads) = (queue.clone(), meters.clone(), threads.clone());
            // As many jobs as threads, none of which ends before the queue is closed: each thread has one.
            move || {
                // It only waits; but it must not keep the CPUs of whoever started it.
                threads.enter(0);
                threads.run(meters.len(), &|worker| work(&queue, &meters[worker], &memory, &run));
            }
        })?;
        Ok(Self { queue, meters, supervisor: Some(supervisor) })
    }
}

impl<K: Ord + Copy, J> WorkerSet<K, J> {
    pub fn stats(&self) -> Vec<WorkerStats> {
        self.meters.iter().map(Meter::stats).collect()
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
    make_memory: impl Fn() -> M,
    run: impl Fn(&mut M, J),
) {
    let mut memory = make_memory();
    while let Some(job) = queue.pop() {
        meter.begin();
        // A fault costs the job (whose drop tells whoever waits), not the worker.
        if catch_unwind(AssertUnwindSafe(|| run(&mut memory, job))).is_err() {
            tracing::error!("a job panicked: this is a bug, please report it with the lines above");
            memory = make_memory();
        }
        meter.end(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

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
