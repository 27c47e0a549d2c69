//! Seeds by the hundred, and one seed as a person reads it.

use super::scenario::run;
use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = 1000;
/// Threads that run seeds; each run is one thread's.
const THREADS: usize = 2;

/// The line that shows a seed's run.
fn replay(seed: u64) -> String {
    format!("SIMULATION_SEED={seed} cargo test -p control --test simulation one_seed -- --nocapture")
}

/// A number of the environment.
fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_seed_keeps_its_promises() {
    let (next, seeds) = (AtomicU64::new(0), from_environment("SIMULATION_SEEDS").unwrap_or(SEEDS));
    let work = || {
        let (mut failed, mut found, mut queued) = (Vec::new(), 0, 0);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return (failed, found, queued);
            }
            let report = run(seed, None, false);
            (found, queued) = (found + report.found, queued + report.queued);
            failed.extend(report.wrong.map(|wrong| (seed, wrong)));
        }
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let found: usize = done.iter().map(|(_, found, _)| found).sum();
    let queued: usize = done.iter().map(|(_, _, queued)| queued).sum();
    println!("{seeds} seeds: {found} solutions found, {queued} queued");
    let mut failed: Vec<_> = done.into_iter().flat_map(|(failed, ..)| failed).collect();
    failed.sort();
    for (seed, wrong) in failed.iter().take(20) {
        println!("{}    # {wrong}", replay(*seed));
    }
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds failed; the first: {}",
        failed.len(),
        replay(failed[0].0)
    );
    assert!(queued * 2 > found && found as u64 > seeds * 10, "too little happened to prove anything");
}

/// Shows the run of one seed, by the line that a failing seed prints.
#[test]
fn one_seed() {
    let seed = from_environment("SIMULATION_SEED").unwrap_or(1);
    let report = run(seed, None, true);
    for line in &report.trace {
        println!("{line}");
    }
    println!("{} solutions found, {} queued, {} messages", report.found, report.queued, report.messages);
    assert_eq!(report.wrong, None, "{}", replay(seed));
}
