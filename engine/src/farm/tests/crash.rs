//! A farm whose process is killed, or whose tasks are dropped, at any point.

use super::*;
use std::future::poll_fn;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::task::Poll;
use std::time::{Duration, Instant};

/// Names the farm to the child; the test is the child when it is set.
const CHILD_ENV: &str = "FARM_CRASH_TEST_DIR";
const THIS_TEST: &str = "farm::tests::crash::a_killed_farm_has_whole_sectors_only";
const SECTORS: u16 = 3;
/// Contents that the child writes into a sector in turn; the history size tells which.
const CONTENTS: u64 = 3;
const KILLS: u32 = 25;

fn contents(sector: u16) -> Vec<Made> {
    (0..CONTENTS).map(|seed| Made::new(1, sector, 10 + seed, seed)).collect()
}

/// Every counted sector is one of the contents, whole; returns how many are.
async fn check(disk: &Disk, pool: &Pool, dir: &Path, all: &[Vec<Made>]) -> (usize, usize) {
    let (farm, report) = open(disk, pool, dir, &config(1, SECTORS)).await.unwrap();
    let mut whole = 0;
    for (sector, contents) in (0..).zip(all) {
        if let SectorStatus::Plotted { history_size } = farm.status(sector) {
            contents[(history_size - 10) as usize].check_in(&farm).await;
            whole += 1;
        }
    }
    // A record torn by the kill is the one thing that may be reported; its sector is marked from now on, its contents being made up.
    assert!(report.faults.len() <= 1 && report.dropped == 0, "{report:?}");
    heal_all(&farm).await;
    assert!(farm.statuses().iter().all(|status| *status != SectorStatus::BeingWritten));
    (whole, report.adopted.len())
}

#[test]
fn a_killed_farm_has_whole_sectors_only() {
    if let Some(dir) = std::env::var_os(CHILD_ENV) {
        return plot_forever(PathBuf::from(dir));
    }
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<_> = (0..SECTORS).map(contents).collect();
        let (mut seen, mut kill) = (0, 0);
        // More of them, each later, where a busy machine has not let a sector become whole by then.
        while kill < KILLS || seen == 0 {
            assert!(kill < 8 * KILLS, "no sector was ever whole");
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([THIS_TEST, "--exact", "--nocapture", "--test-threads=1"])
                .env(CHILD_ENV, dir.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().contains("plotting")), "the child has begun");
            // Another moment each time, over about the time of three sectors.
            std::thread::sleep(Duration::from_micros(u64::from(kill) * 1700));
            child.kill().unwrap();
            child.wait().unwrap();
            seen += check(&disk, &pool, dir.path(), &all).await.0;
            kill += 1;
        }
    });
}

/// Replaces sectors in turn until killed.
fn plot_forever(dir: PathBuf) {
    on_disk(|disk, pool| async move {
        let all: Vec<_> = (0..SECTORS).map(contents).collect();
        let (farm, _) = open(&disk, &pool, &dir, &config(1, SECTORS)).await.unwrap();
        println!("plotting");
        let start = Instant::now();
        for turn in 0usize.. {
            // Sectors out of order, so that some are left out for a while.
            let sector = [2, 0, 1][turn % 3];
            all[sector][turn / 3 % CONTENTS as usize].plot(&farm).await;
            assert!(start.elapsed() < Duration::from_secs(60), "nobody kills this child");
        }
    });
}

/// Writes a sector until its future was polled so many times, then drops it; true if it was done by then.
async fn write_until(farm: &Farm, made: &Made, polls: usize) -> bool {
    let (mut plot, mut left) = (Box::pin(made.plot(farm)), polls);
    poll_fn(|context| {
        left -= 1;
        match plot.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[test]
fn a_dropped_write_leaves_the_old_a_marked_or_the_new_sector() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<_> = (0..SECTORS).map(contents).collect();
        let (mut polls, mut turn, mut whole, mut adopted) = (1, 0, 0, 0);
        loop {
            let (farm, _) = open(&disk, &pool, dir.path(), &config(1, SECTORS)).await.unwrap();
            let sector = turn % 2;
            let done = write_until(&farm, &all[sector][turn % CONTENTS as usize], polls).await;
            if turn % 3 == 0 {
                // In the same process the sector is written anew, with another content, and given up again.
                write_until(&farm, &all[sector][(turn + 1) % CONTENTS as usize], 8).await;
            }
            drop(farm);
            // The kernel may still be at work for what was dropped.
            while pool.stats().in_use > 0 {
                task::sleep(Duration::from_millis(1)).await;
            }
            let found = check(&disk, &pool, dir.path(), &all).await;
            (whole, adopted) = (whole + found.0, adopted + found.1);
            if done {
                break;
            }
            (polls, turn) = (polls + 1, turn + 1);
        }
        // Whole ones among them were dropped after their record was written, some before they were counted.
        assert!(polls > 10 && whole > 0 && adopted > 0, "{polls} points, {whole} whole, {adopted} adopted");
    });
}
