//! Every file of a farm, damaged in every way: what the operator is told, and what it costs.

use super::bad_input::{SmallDisk, plotted};
use super::*;
use std::os::unix::fs::symlink;
use std::process::Command;

/// What becomes of the farm's three sectors.
enum Outcome {
    /// The farm is refused with these words, and no file changes.
    Refused(&'static [&'static str]),
    /// These sectors are marked at opening or a moment after it; the others can be farmed.
    Marked(&'static [u16]),
    /// Opening finds nothing, and scrub these.
    Scrubbed(&'static [u16]),
}
use Outcome::{Marked, Refused, Scrubbed};

/// File, what happens to it, what comes of it.
type Row = (&'static str, &'static str, fn(&Path, &Path), Outcome);

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, bytes: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

fn cut_half(path: &Path, _: &Path) {
    cut(path, fs::metadata(path).unwrap().len() / 2);
}

fn empty(path: &Path, _: &Path) {
    cut(path, 0);
}

fn zero(path: &Path, _: &Path) {
    let bytes = fs::metadata(path).unwrap().len();
    cut(path, 0);
    cut(path, bytes);
}

fn grow(path: &Path, _: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, [&bytes[..], &[7; 5000]].concat()).unwrap();
}

/// The file of the same name of another farm of the same shape.
fn swap(path: &Path, other: &Path) {
    fs::copy(other.join(path.file_name().unwrap()), path).unwrap();
}

fn directory(path: &Path, _: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
}

/// Nobody writes into it: who opens it would wait for ever.
fn pipe(path: &Path, _: &Path) {
    fs::remove_file(path).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn link_to_nothing(path: &Path, _: &Path) {
    fs::remove_file(path).unwrap();
    symlink("nowhere", path).unwrap();
}

const RECORDS_AT: usize = 1_048_576;
const RECORD: usize = 131_116;
const SECTOR: usize = 1_056_960;

fn rows() -> Vec<Row> {
    vec![
        (INFO_FILE, "flipped", |path, _| flip(path, 0), Refused(&["damaged", "backup"])),
        (INFO_FILE, "cut", cut_half, Refused(&["damaged", "backup"])),
        (INFO_FILE, "empty", empty, Refused(&["damaged", "backup"])),
        (INFO_FILE, "zeros", zero, Refused(&["damaged", "backup"])),
        (INFO_FILE, "grown", grow, Refused(&["damaged", "backup"])),
        (INFO_FILE, "of another farm", swap, Refused(&[IDENTITY_FILE, "of another farm", "backup"])),
        (INFO_FILE, "newer", |path, _| replace(path, "\"v0\"", "\"v1\""), Refused(&["newer release", "v1"])),
        (
            INFO_FILE,
            "other pieces",
            |path, _| replace(path, "Sector\":1", "Sector\":2"),
            Refused(&["piecesInSector", "1 pieces"]),
        ),
        (INFO_FILE, "a directory", directory, Refused(&["a directory and not a file"])),
        (INFO_FILE, "a pipe", pipe, Refused(&["a pipe and not a file"])),
        (INFO_FILE, "gone", link_to_nothing, Refused(&["plot.bin is there", "backup"])),
        (IDENTITY_FILE, "flipped at its length", |path, _| flip(path, 0), Refused(&["damaged", "backup"])),
        (IDENTITY_FILE, "flipped", |path, _| flip(path, 9), Refused(&["public key", "backup"])),
        (IDENTITY_FILE, "cut", cut_half, Refused(&["16 bytes", "backup"])),
        (IDENTITY_FILE, "empty", empty, Refused(&["0 bytes", "backup"])),
        (IDENTITY_FILE, "zeros", zero, Refused(&["damaged", "backup"])),
        (IDENTITY_FILE, "grown", grow, Refused(&["34 bytes", "backup"])),
        (IDENTITY_FILE, "of another farm", swap, Refused(&["public key", "of another farm", "backup"])),
        (IDENTITY_FILE, "a directory", directory, Refused(&["a directory and not a file"])),
        (IDENTITY_FILE, "a pipe", pipe, Refused(&["a pipe and not a file"])),
        (IDENTITY_FILE, "gone", link_to_nothing, Refused(&["missing", "backup"])),
        (METADATA_FILE, "newer", |path, _| flip(path, 0), Refused(&["version 1", "newer release", "backup"])),
        (METADATA_FILE, "too high a count", |path, _| flip(path, 2), Marked(&[3])),
        (METADATA_FILE, "too low a count", |path, _| flip(path, 1), Marked(&[])),
        (METADATA_FILE, "flipped in a record", |path, _| flip(path, RECORDS_AT + RECORD + 500), Marked(&[1])),
        (
            METADATA_FILE,
            "cut in a record",
            |path, _| cut(path, (RECORDS_AT + RECORD + 50) as u64),
            Marked(&[1, 2]),
        ),
        (METADATA_FILE, "cut to its header", |path, _| cut(path, 4096), Marked(&[0, 1, 2])),
        (METADATA_FILE, "cut", |path, _| cut(path, 2), Refused(&["missing or empty", "backup"])),
        (METADATA_FILE, "empty", empty, Refused(&["missing or empty", "backup"])),
        (METADATA_FILE, "zeros", zero, Refused(&["missing or empty", "backup"])),
        (METADATA_FILE, "grown", grow, Marked(&[])),
        (METADATA_FILE, "of another farm", swap, Scrubbed(&[0, 1, 2])),
        (METADATA_FILE, "a directory", directory, Refused(&["a directory and not a file"])),
        (METADATA_FILE, "a pipe", pipe, Refused(&["a pipe and not a file"])),
        (METADATA_FILE, "gone", link_to_nothing, Refused(&["missing", "backup"])),
        (PLOT_FILE, "flipped in the map", |path, _| flip(path, SECTOR + 5), Scrubbed(&[1])),
        (PLOT_FILE, "flipped in a chunk", |path, _| flip(path, SECTOR + 10_000), Scrubbed(&[1])),
        (PLOT_FILE, "flipped in a checksum", |path, _| flip(path, 2 * SECTOR - 1), Scrubbed(&[1])),
        (PLOT_FILE, "cut", cut_half, Marked(&[1, 2])),
        (PLOT_FILE, "empty", empty, Refused(&["missing or empty", "backup"])),
        (PLOT_FILE, "zeros", zero, Scrubbed(&[0, 1, 2])),
        (PLOT_FILE, "grown", grow, Marked(&[])),
        (PLOT_FILE, "of another farm", swap, Scrubbed(&[0, 1, 2])),
        (PLOT_FILE, "a directory", directory, Refused(&["a directory and not a file"])),
        (PLOT_FILE, "a pipe", pipe, Refused(&["a pipe and not a file"])),
        (PLOT_FILE, "gone", link_to_nothing, Refused(&["missing", "backup"])),
        (
            "piece_cache.bin",
            "a pipe",
            |path, _| {
                assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
            },
            Marked(&[]),
        ),
        ("writing-3.bin", "nonsense", |path, _| fs::write(path, [7; 9000]).unwrap(), Marked(&[])),
        (
            "single_disk_farm.json.new",
            "left by a crash",
            |path, _| fs::write(path, "{").unwrap(),
            Marked(&[]),
        ),
    ]
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// Names and bytes of all that is a file.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files = paths.into_iter().filter(|path| path.is_file());
    files.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

async fn check_row(disk: &Disk, pool: &Pool, dir: &Path, made: &[Made], row: &Row) {
    let (file, damage, _, outcome) = row;
    let about = format!("{file} {damage}");
    let before = contents(dir);
    let opened = open(disk, pool, dir, &config(1, 4)).await;
    let bad: &[u16] = match (outcome, opened) {
        (Refused(words), Err(error)) => {
            let error = error.to_string();
            assert!(error.contains(file), "{about}: {error}");
            assert!(words.iter().all(|word| error.contains(word)), "{about}: {error}");
            assert!(contents(dir) == before, "{about}: a file has changed");
            return;
        }
        (Refused(_), Ok((_, report))) => panic!("{about}: opened with {report:?}"),
        (_, Err(error)) => panic!("{about}: {error}"),
        (Marked(bad), Ok((farm, report))) => {
            // Their contents are made up: no history size is theirs.
            assert!(heal_all(&farm).await.is_empty(), "{about}");
            let marked: Vec<_> = report.faults.iter().map(|(sector, _)| *sector).collect();
            assert_eq!(marked, *bad, "{about}: {report:?}");
            let is_left = farm.statuses().contains(&SectorStatus::Doubtful);
            drop(farm);
            if is_left {
                // Nothing is known of their history size: who scrubs them gives them up.
                scrub(disk.clone(), scratch(pool), dir, options(Target::All, false), |_| ()).await.unwrap();
            }
            bad
        }
        (Scrubbed(bad), Ok((farm, report))) => {
            assert_eq!(report, OpenReport::default(), "{about}");
            drop(farm);
            let report =
                scrub(disk.clone(), scratch(pool), dir, options(Target::All, false), |_| ()).await.unwrap();
            let found: Vec<_> = report.bad.iter().map(|(sector, _)| *sector).collect();
            assert_eq!(found, *bad, "{about}: {report:?}");
            bad
        }
    };
    // The undamaged ones are farmed, the others plotted again.
    let farm = open_clean(disk, pool, dir, &config(1, 4)).await;
    for made in made {
        if bad.contains(&made.metadata.sector_index) {
            made.plot(&farm).await;
        }
        made.check_in(&farm).await;
    }
}

#[test]
fn every_file_damaged_in_every_way_is_named_and_costs_its_own_sectors() {
    on_disk(|disk, pool| async move {
        let (whole, made) = plotted(&disk, &pool).await;
        let (other, _) = plotted_with(&disk, &pool, 2).await;
        let whole = contents(whole.path());
        for row in &rows() {
            let dir = tempfile::tempdir().unwrap();
            for (path, bytes) in &whole {
                fs::write(dir.path().join(path.file_name().unwrap()), bytes).unwrap();
            }
            let (file, _, damage, _) = row;
            damage(&dir.path().join(file), other.path());
            check_row(&disk, &pool, dir.path(), &made, row).await;
        }
    });
}

/// A farm of three plotted sectors of contents of its own.
async fn plotted_with(disk: &Disk, pool: &Pool, seed: u64) -> (tempfile::TempDir, Vec<Made>) {
    let dir = tempfile::tempdir().unwrap();
    let made: Vec<_> = (0..3).map(|sector| Made::new(1, sector, 5, seed)).collect();
    let farm = open_clean(disk, pool, dir.path(), &config(1, 4)).await;
    for made in &made {
        made.plot(&farm).await;
    }
    (dir, made)
}

/// Any bit of a small file: no panic, no sector marked, and either the farm is refused as it is or all of its sectors are there.
#[test]
fn no_bit_of_a_small_file_costs_a_sector() {
    on_disk(|disk, pool| async move {
        let (dir, _made) = plotted(&disk, &pool).await;
        let dir = dir.path();
        for file in [INFO_FILE, IDENTITY_FILE] {
            let whole = fs::read(dir.join(file)).unwrap();
            for at in 0..whole.len() {
                for bit in [0, 6] {
                    let mut bytes = whole.clone();
                    bytes[at] ^= 1 << bit;
                    fs::write(dir.join(file), bytes).unwrap();
                    if let Ok((farm, report)) = open(&disk, &pool, dir, &config(1, 4)).await {
                        assert_eq!((report, farm.count()), (OpenReport::default(), 3), "{file} {at} {bit}");
                    }
                    fs::write(dir.join(file), &whole).unwrap();
                }
            }
        }
        drop(open_clean(&disk, &pool, dir, &config(1, 4)).await);
    });
}

/// tmpfs has, on older kernels, no direct I/O; ramfs has neither that nor space to reserve.
#[test]
fn file_systems_without_direct_io_or_reserved_space_have_farms_too() {
    let ram = SmallDisk::of(&["-t", "ramfs", "ramfs"]);
    for small in [SmallDisk::new(), ram] {
        let Some(small) = small else {
            println!("skipped: this user may not mount a small file system");
            return;
        };
        on_disk(move |disk, pool| async move {
            let (dir, made) = (small.path().join("farm"), Made::new(1, 1, 5, 1));
            let farm = open_clean(&disk, &pool, &dir, &config(1, 2)).await;
            made.plot(&farm).await;
            drop(farm);
            let farm = open_clean(&disk, &pool, &dir, &config(1, 3)).await;
            made.check_in(&farm).await;
            drop(farm);
            drop(small);
        });
    }
}
