//! The simulation is worth something as long as it finds each fault that is put back.

use super::mutant::Mutant;
use super::rates;
use super::restarts;
use super::scenario::run;
use super::two_chains;

/// Seeds that are tried with a fault; most are found by the first few.
const SEEDS: u64 = 1000;

/// What a run with a fault comes to.
fn wrong(seed: u64, mutant: Mutant) -> Option<String> {
    match mutant {
        // Between controllers of one chain it does little harm: each corrects what it reads.
        Mutant::SettingsWrittenBlindly => two_chains::run(seed, Some(mutant)),
        // It harms nobody, and costs: no seed shows it, and the counting does.
        Mutant::WatchesEverybody if seed == 0 => rates::run(Some(mutant)),
        // A node that gets no signature may have other reasons on a foul day.
        Mutant::LeavesUnsigned if seed == 0 => {
            let unsigned = restarts::told_to_end(Some(mutant)).0;
            (unsigned > 0).then(|| format!("{unsigned} signatures were not given"))
        }
        Mutant::WatchesEverybody | Mutant::LeavesUnsigned => None,
        _ => run(seed, Some(mutant), false).wrong,
    }
}

#[test]
fn each_fault_that_is_put_back_is_found() {
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        let found = (0..SEEDS).find_map(|seed| wrong(seed, mutant).map(|wrong| (seed, wrong)));
        match found {
            Some((seed, wrong)) => println!("{mutant:?}: seed {seed}: {wrong}"),
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not found in {SEEDS} seeds: {missed:?}");
}

/// The one that is rarest: killed, started again while a slot lives, and a node that announces that slot late.
#[test]
fn seed_1563_finds_a_solution_that_is_sent_again_after_a_restart() {
    let wrong = |mutant| run(1563, mutant, false).wrong;
    let found = wrong(Some(Mutant::SolutionsForgotten)).unwrap_or_default();
    assert!(found.starts_with("a solution was queued twice"), "{found:?}");
    assert_eq!(wrong(None), None);
}
