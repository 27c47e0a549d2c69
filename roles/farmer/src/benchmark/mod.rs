//! What this machine takes for the work of farming, in seconds and in units of B.
//!
//! B is the time of [`B_HASHES`] one-at-a-time `blake3::hash` of 24 bytes on one core, measured in the same run: about what
//! the hashes of one proof-of-space table would take without SIMD. Figures in B can be compared between machines.

pub mod audit;
mod chart;
mod cpu_time;
pub mod disk;
mod farms;
pub mod gpu;
mod latencies;
mod options;
pub mod proofs;
mod work;

pub use options::Options;
pub use work::Operation;

use std::hint::black_box;
use std::sync::Mutex;
use std::time::Instant;

use serde::Serialize;

use self::work::Workplace;

/// Hashes that make one B.
pub const B_HASHES: u64 = 6_220_000;
/// B is measured this often, before, between and after the work, and the median taken: the machine may have other work.
const B_RUNS: usize = 3;

/// A figure, in the form that all benchmarks have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// The operation.
    pub name: &'static str,
    /// Threads that worked at the same time.
    pub threads: u16,
    /// Instructions used.
    pub cpu_level: &'static str,
    /// Time of one operation on one thread, half of them took longer.
    pub median_s: f64,
    /// The fastest.
    pub min_s: f64,
    /// B.
    pub b_s: f64,
    /// Median in B.
    pub ratio: f64,
}

/// Measures one operation. `progress` is called after each step of [`steps`].
pub fn measure(operation: Operation, options: &Options, progress: &(dyn Fn() + Sync)) -> Measurement {
    assert!(options.threads > 0 && options.runs > 0, "there is something to measure");
    let workplace = Workplace::new(operation, options);
    let mut b_times = vec![measure_b(progress)];
    let times = Mutex::new(Vec::new());
    let rounds = rounds(operation, options);
    for round in 0..rounds {
        let runs = share(usize::from(options.runs), round, rounds);
        std::thread::scope(|scope| {
            for thread in 0..operation.repetitions(options) {
                let (times, workplace) = (&times, &workplace);
                scope.spawn(move || {
                    let mut work = workplace.prepare(&format!("{thread} {round}"));
                    if operation.warms_up() {
                        work();
                        progress();
                    }
                    for _ in 0..runs {
                        let time_s = work();
                        times.lock().expect("nothing panics while it holds the times").push(time_s);
                        progress();
                    }
                });
            }
        });
        b_times.push(measure_b(progress));
    }
    let times = times.into_inner().expect("threads that panic end the scope");
    let (median_s, b_s) = (median(times.clone()), median(b_times));
    let min_s = times.into_iter().fold(f64::INFINITY, f64::min);
    let (threads, cpu_level) = (options.threads, options.level.name());
    Measurement { name: operation.name(), threads, cpu_level, median_s, min_s, b_s, ratio: median_s / b_s }
}

/// How often [`measure`] reports progress.
pub fn steps(operation: Operation, options: &Options) -> u64 {
    let rounds = rounds(operation, options);
    let warm_ups = if operation.warms_up() { rounds } else { 0 };
    let repetitions = usize::from(operation.repetitions(options));
    (repetitions * (usize::from(options.runs) + warm_ups) + rounds + 1) as u64
}

/// Rounds between which B is measured.
fn rounds(operation: Operation, options: &Options) -> usize {
    match operation {
        // Its segment takes longer to make than to verify.
        Operation::Verify => 1,
        Operation::Archive => usize::from(options.runs).min(B_RUNS - 1),
        _ => B_RUNS - 1,
    }
}

/// The part of `total` that falls into one of `rounds` rounds.
fn share(total: usize, round: usize, rounds: usize) -> usize {
    total * (round + 1) / rounds - total * round / rounds
}

/// Seconds of one B on this thread.
fn measure_b(progress: &dyn Fn()) -> f64 {
    let mut input = [0; 24];
    let start = Instant::now();
    for number in 0..B_HASHES {
        input[..8].copy_from_slice(&number.to_le_bytes());
        black_box(blake3::hash(black_box(&input)));
    }
    let time_s = start.elapsed().as_secs_f64();
    progress();
    time_s
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    let middle = times.len() / 2;
    if times.len().is_multiple_of(2) { (times[middle - 1] + times[middle]) / 2.0 } else { times[middle] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::CpuLevel;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn medians() {
        assert_eq!((median(vec![3.0, 1.0, 2.0]), median(vec![4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
    }

    #[test]
    fn rounds_share_all_runs() {
        for (total, rounds) in [(1, 2), (7, 2), (10, 3)] {
            assert_eq!((0..rounds).map(|round| share(total, round, rounds)).sum::<usize>(), total);
        }
    }

    fn options() -> Options {
        Options { threads: 1, runs: 2, level: CpuLevel::current(), kzg_memory_bytes: 0 }
    }

    #[test]
    fn a_figure_has_all_its_parts() {
        let reports = AtomicU64::new(0);
        let figure = measure(Operation::Erasure, &options(), &|| _ = reports.fetch_add(1, Ordering::Relaxed));
        assert_eq!(reports.into_inner(), steps(Operation::Erasure, &options()));
        assert!(figure.min_s > 0.0 && figure.median_s >= figure.min_s && figure.b_s > 0.0, "{figure:?}");
        let json = serde_json::to_value(&figure).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["b_s", "cpu_level", "median_s", "min_s", "name", "ratio", "threads"]);
    }

    /// All but what needs a segment archived, which is what a development node does in other tests.
    #[test]
    fn every_operation_works_on_its_inputs() {
        for operation in Operation::ALL.into_iter().filter(|operation| !operation.is_of_segment()) {
            let workplace = Workplace::new(operation, &options());
            let mut work = workplace.prepare("test");
            assert!(work() > 0.0 && work() > 0.0, "{}", operation.name());
        }
    }

    #[test]
    fn an_operation_without_warm_up_takes_as_many_rounds_as_runs() {
        let options = |runs| Options { threads: 2, runs, ..options() };
        assert_eq!(steps(Operation::Archive, &options(1)), 3);
        assert_eq!(steps(Operation::Archive, &options(5)), 8);
        assert_eq!(steps(Operation::Pos, &options(5)), 2 * 7 + 3);
    }
}
