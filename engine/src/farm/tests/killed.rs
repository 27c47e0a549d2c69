//! A farm whose process ends itself by SIGKILL at any beginning, middle or end of a write or a sync, and is found again by the next.
//!
//! The child says what it begins and what was done, and dies at the step of its seed; the farm goes on from child to child. Never:
//! a sector lost that was said to be done, one that is not whole, a note of ranges that are not there. One seed is one child.

use super::meddled::{Meddle, Meddled};
use super::*;
use crate::disk::Limits;
use crate::power::Rng;
use crate::ring::Ring;
use rustix::process::{Signal, getpid, kill_process};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::process::Command;

const DIR_ENV: &str = "FARM_KILLED_DIR";
const SEED_ENV: &str = "FARM_KILLED_SEED";
const THIS_TEST: &str = "farm::tests::killed::a_farm_killed_at_any_step_loses_nothing";
const SECTORS: u16 = 3;
const CONTENTS: u64 = 2;
const FIRST_HISTORY_SIZE: u64 = 10;
const SEEDS: u64 = 200;
/// Of some four sectors.
const MOST_STEPS: u64 = 400;

/// Ends the process at a step.
struct Mortal {
    steps_left: Cell<u64>,
}

impl Meddle for Mortal {
    fn step(&self) {
        self.steps_left.set(self.steps_left.get() - 1);
        if self.steps_left.get() == 0 {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    }
}

fn made(sector: u16, content: u64) -> Made {
    Made::new(1, sector, FIRST_HISTORY_SIZE + content, content)
}

/// Opens, plots, marks and resizes until it is killed.
fn live(dir: PathBuf, seed: u64) {
    on_disk(move |_, pool| async move {
        let mut rng = Rng::new(seed);
        let steps_left = Cell::new(1 + rng.below(MOST_STEPS));
        let mortal = Meddled { ring: Ring::new(&pool, 64).unwrap(), meddle: Mortal { steps_left } };
        let disk = Disk::over(Box::new(mortal), &pool, Limits::default());
        // The test's name stands at the beginning of the line.
        println!();
        loop {
            let sectors = if rng.one_in(3) { 1 + rng.below(SECTORS.into()) as u16 } else { SECTORS };
            println!("opening {sectors} 0");
            let (farm, _) = open(&disk, &pool, &dir, &config(1, sectors)).await.unwrap();
            println!("opened {sectors} 0");
            for _ in 0..2 {
                let sector = rng.below(sectors.into()) as u16;
                println!("begin {sector} 0");
                if rng.one_in(5) {
                    farm.mark_for_replotting(Class::Scrub, sector).await.unwrap();
                    println!("marked {sector} 0");
                } else {
                    replace(&farm, &pool, sector, rng.below(CONTENTS)).await;
                }
            }
        }
    });
}

async fn replace(farm: &Farm, pool: &Pool, sector: u16, content: u64) {
    let writer = farm.write_sector(sector).await.unwrap();
    println!("marked {sector} 0");
    let made = made(sector, content);
    let ranges = made.ranges(writer.file_offset());
    let mut held = match writer.saved_progress() {
        Some(said) if u64::from(said[0]) == content => usize::from(said[1]),
        Some(_) => {
            writer.discard_progress().await.unwrap();
            0
        }
        None => 0,
    };
    while held < ranges.len() {
        let range = ranges[held];
        writer.write(range.0 as u64, &made.slab(pool, writer.file_offset(), range)).await.unwrap();
        held += 1;
        if held.is_multiple_of(4) {
            writer.save_progress(&[content as u8, held as u8]).await.unwrap();
        }
    }
    println!("finishing {sector} {content}");
    writer.finish(&made.metadata, &made.checksum()).await.unwrap();
    println!("finished {sector} {content}");
}

type May = Vec<BTreeSet<Option<u64>>>;

/// What the child said, up to its end; gives the size that the farm was to have last.
fn learn(said: &str, may: &mut May, mut size: u16) -> u16 {
    for line in said.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [what, about, content] = words[..] else { continue };
        let (Ok(about), Ok(content)) = (about.parse::<u16>(), content.parse::<u64>()) else { continue };
        let at = usize::from(about);
        match what {
            "opening" => {
                size = about;
                may[at..].iter_mut().for_each(|may| _ = may.insert(None));
            }
            "opened" => may[at..].fill(BTreeSet::from([None])),
            "begin" => _ = may[at].insert(None),
            "marked" => may[at] = BTreeSet::from([None]),
            "finishing" => _ = may[at].insert(Some(content)),
            "finished" => may[at] = BTreeSet::from([Some(content)]),
            _ => {}
        }
    }
    size
}

async fn check(disk: &Disk, pool: &Pool, dir: &Path, size: u16, all: &[Vec<Made>], may: &mut May) {
    let (farm, report) = open(disk, pool, dir, &config(1, size)).await.unwrap();
    for (sector, fault) in &report.faults {
        assert!(matches!(fault, SectorFault::Record(_)), "sector {sector}: {fault}");
    }
    for (sector, status) in (0..).zip(farm.statuses()) {
        let (may, contents) = (&mut may[usize::from(sector)], &all[usize::from(sector)]);
        let content = match status {
            SectorStatus::Plotted { history_size } => Some(history_size - FIRST_HISTORY_SIZE),
            _ => None,
        };
        assert!(may.contains(&content), "sector {sector}: {status:?} of {may:?}");
        if let Some(content) = content {
            contents[content as usize].check_in(&farm).await;
        }
        if status != SectorStatus::NotPlotted {
            *may = BTreeSet::from([content]);
        }
        let Some(said) = farm.0.progress.saved(sector) else { continue };
        let (made, start) = (&contents[usize::from(said[0])], farm.layout().sector_offset(sector) as usize);
        let (from, bytes) = made.ranges(start as u64)[usize::from(said[1]) - 1];
        let plot = fs::read(farm.dir().join(PLOT_FILE)).unwrap();
        assert!(plot[start..][..from + bytes] == made.bytes[..from + bytes], "sector {sector}: {said:?}");
    }
    may[usize::from(size)..].fill(BTreeSet::from([None]));
}

#[test]
fn a_farm_killed_at_any_step_loses_nothing() {
    if let Some(dir) = std::env::var_os(DIR_ENV) {
        return live(PathBuf::from(dir), std::env::var(SEED_ENV).unwrap().parse().unwrap());
    }
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<Vec<Made>> =
            (0..SECTORS).map(|sector| (0..CONTENTS).map(|content| made(sector, content)).collect()).collect();
        let (mut may, mut size) = (vec![BTreeSet::from([None]); usize::from(SECTORS)], SECTORS);
        let mut finished = 0;
        for seed in 0..SEEDS {
            let child = Command::new(std::env::current_exe().unwrap())
                .args([THIS_TEST, "--exact", "--nocapture", "--test-threads=1"])
                .env(DIR_ENV, dir.path())
                .env(SEED_ENV, seed.to_string())
                .output()
                .unwrap();
            let (said, errors) =
                (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
            assert_eq!(child.status.code(), None, "seed {seed}: {said}{errors}");
            finished += said.matches("finished").count();
            size = learn(&said, &mut may, size);
            // A lock taken by the child is free when the kernel has let go of its memory: opening waits for it.
            check(&disk, &pool, dir.path(), size, &all, &mut may).await;
        }
        assert!(finished > 50, "only {finished} sectors were finished");
    });
}
