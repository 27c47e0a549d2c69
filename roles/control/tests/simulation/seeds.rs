//! Seeds by the hundred, and one seed as a person reads it.

use super::scenario::{Report, run};
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
        let mut reports = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return reports;
            }
            reports.push((seed, run(seed, None, false)));
        }
    };
    let mut reports: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    reports.sort_by_key(|(seed, _)| *seed);
    let sum = |of: fn(&Report) -> u64| reports.iter().map(|(_, report)| of(report)).sum::<u64>();
    let (found, queued) = (sum(|report| report.found as u64), sum(|report| report.queued as u64));
    let (archived, lost) = (sum(|report| report.segments.0), sum(|report| report.segments.1));
    let (sectors, messages) = (sum(|report| report.sectors as u64), sum(|report| report.messages));
    println!(
        "{seeds} seeds: {found} solutions found, {queued} queued; {sectors} sectors plotted; {messages} messages"
    );
    println!("{archived} segments archived, {lost} of them gone before anybody could fetch them");
    let unknown = sum(|report| u64::from(report.is_unknowable));
    println!(
        "{unknown} times the store was emptied, and a controller came that remembered nothing while all who did were away"
    );
    let last = reports.iter().max_by_key(|(_, report)| report.rested_after).expect("there are seeds");
    println!(
        "at rest at the latest {} s after the last fault, in seed {}",
        last.1.rested_after.as_secs(),
        last.0
    );
    let failed: Vec<_> =
        reports.iter().filter_map(|(seed, report)| Some((seed, report.wrong.as_ref()?))).collect();
    for (seed, wrong) in failed.iter().take(20) {
        println!("{}    # {wrong}", replay(**seed));
    }
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds failed; the first: {}",
        failed.len(),
        replay(*failed[0].0)
    );
    assert!(
        queued * 2 > found && found > seeds * 10 && sectors > seeds && archived > 3 * lost,
        "too little happened to prove anything"
    );
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
