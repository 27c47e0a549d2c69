//! `autonomys-farmer scrub` as an operator runs it.
#![allow(clippy::unwrap_used)]

use engine::farm::{FARM_SCRATCH_BYTES, Farm, FarmConfig, FarmSize, INFO_FILE, METADATA_FILE};
use engine::pool::Pool;
use engine::{Executors, ExecutorsConfig, Limits};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// A farm whose header counts a sector that is not there.
fn make_farm(dir: &Path) {
    let pool = Pool::new(2, 2).unwrap();
    let config = ExecutorsConfig { name: "test".into(), cores: vec![None], ring_depth: 8 };
    let executors = Executors::start(&config, &pool).unwrap();
    let path = dir.to_owned();
    let made = executors.spawner(0).spawn(move |local| async move {
        let disk = local.disk(&path, Limits::default()).unwrap();
        let scratch = local.pool().try_acquire().unwrap().narrow(..FARM_SCRATCH_BYTES);
        let config = FarmConfig {
            genesis_hash: [1; 32],
            max_pieces_in_sector: 1,
            pieces_in_sector: 1,
            size: FarmSize::Sectors(2),
            may_shrink: false,
        };
        Farm::open(disk, scratch, &path, &config).await.unwrap();
    });
    made.wait().unwrap();
    executors.shutdown(Duration::from_secs(5)).unwrap();
    let header = std::fs::File::options().write(true).open(dir.join(METADATA_FILE)).unwrap();
    header.write_all_at(&[0, 1, 0], 0).unwrap();
}

fn scrub(paths: &[&Path], dry_run: bool) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    command.arg("scrub").args(paths);
    if dry_run {
        command.arg("--dry-run");
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

#[test]
fn bad_sectors_are_named_and_marked_once() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
    make_farm(&good);
    make_farm(&bad);
    assert!(scrub(&[&good], false).status.success(), "nothing is left");
    let again = scrub(&[&good], false);
    assert!(again.status.success() && text(&again).contains("1 sectors: 0 good, 1 expired before, 0 bad"));

    let found = scrub(&[&good, &bad], true);
    let (text_found, named) = (text(&found), format!("{}: sector 0: ", bad.display()));
    assert_eq!(found.status.code(), Some(1), "{text_found}");
    assert!(text_found.contains(&named) && text_found.contains("1 bad that would be marked"), "{text_found}");
    assert!(text_found.contains("1 of 2 farms are not clean"), "{text_found}");
    assert!(text(&scrub(&[&bad], false)).contains("1 bad that are marked for replotting"));
    assert!(scrub(&[&good, &bad], true).status.success());
}

#[test]
fn parts_of_a_farm_are_scrubbed() {
    let dir = tempfile::tempdir().unwrap();
    make_farm(dir.path());
    let scrub = |target: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
        command.args(["scrub", "--dry-run", "--target", target, "--disk-farm"]).arg(dir.path());
        let output = command.output().unwrap();
        (output.status.code(), text(&output))
    };
    // The record is read for each of them.
    for target in ["all", "metadata"] {
        let (code, text) = scrub(target);
        assert!(code == Some(1) && text.contains("1 bad that would be marked"), "{target}: {text}");
        assert!(text.contains("1 bad sectors, 0 that the disk does not give"), "{target}: {text}");
    }
    let (code, text) = scrub("plot");
    assert!(code == Some(1) && text.contains("1 with a damaged record are left as they are"), "{text}");
    let (code, text) = scrub("everything");
    assert!(code == Some(2) && text.contains("[possible values: all, metadata, plot"), "{text}");
}

#[test]
fn what_is_no_farm_is_told_and_the_others_are_scrubbed() {
    let dir = tempfile::tempdir().unwrap();
    let farm = dir.path().join("farm");
    make_farm(&farm);
    let nothing = dir.path().join("nothing");
    let output = scrub(&[&nothing, &farm], false);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("there is no farm in this directory") && text.contains("1 bad that are"), "{text}");
    assert!(!nothing.join(INFO_FILE).exists());
    assert!(!scrub(&[], false).status.success(), "a path is needed");
}
