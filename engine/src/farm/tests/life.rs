//! A farm's life beside plotting: made, grown and broken off, made smaller, looked at, removed.

use super::bad_input::{SmallDisk, edit, plotted};
use super::*;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::task::Poll;
use std::time::Duration;

/// Files of a farm and what they hold, without other directories.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for (path, bytes) in contents(from) {
        fs::write(to.join(path.file_name().unwrap()), bytes).unwrap();
    }
}

/// Polls a future so many times, then drops it; its result if it was done by then. `look` is called after each poll.
async fn poll_until<T>(future: impl Future<Output = T>, polls: usize, mut look: impl FnMut()) -> Option<T> {
    let (mut future, mut left) = (Box::pin(future), polls);
    poll_fn(|context| {
        left -= 1;
        let polled = future.as_mut().poll(context);
        look();
        match polled {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Bytes that the farm's JSON gives it.
fn noted_bytes(dir: &Path) -> Option<u64> {
    let json = fs::read(dir.join(INFO_FILE)).ok()?;
    Some(FarmInfo::from_json(&json).unwrap().allocated_bytes)
}

fn bytes_of(dir: &Path, name: &str) -> u64 {
    fs::metadata(dir.join(name)).unwrap().len()
}

#[test]
fn a_disk_that_becomes_full_has_the_farm_that_was_there_or_nothing() {
    let Some(small) = SmallDisk::new() else {
        println!("skipped: this user may not mount a small file system");
        return;
    };
    on_disk(move |disk, pool| async move {
        let dir = small.path().join("farm");
        // Metadata that does not fit, and a plot that does not.
        for sectors in [60_000, 50] {
            let error = open(&disk, &pool, &dir, &config(1, sectors)).await.err().unwrap().to_string();
            assert!(error.contains("disk full") && error.contains("smaller"), "{error}");
            assert!(!dir.exists(), "{sectors} sectors leave something");
        }
        let farm = open_clean(&disk, &pool, &dir, &config(1, 2)).await;
        Made::new(1, 0, 5, 1).plot(&farm).await;
        drop(farm);
        let before = contents(&dir);
        for sectors in [60_000, 50] {
            let error = open(&disk, &pool, &dir, &config(1, sectors)).await.err().unwrap().to_string();
            assert!(error.contains("disk full"), "{error}");
            assert!(contents(&dir) == before, "{sectors} sectors leave something");
        }
        // Where the network's farmer has left something, that is the first thing to give up.
        let cache = dir.join(PIECE_CACHE_FILE);
        fs::write(&cache, vec![0; 1_048_712]).unwrap();
        let error = open(&disk, &pool, &dir, &config(1, 50)).await.err().unwrap().to_string();
        let advice = format!("1048712 bytes of {} back", cache.display());
        assert!(
            error.contains("disk full") && error.contains(&advice) && error.contains("wipe --cache"),
            "{error}"
        );
        assert_eq!(wipe_cache(&dir).unwrap(), Some(1_048_712));
        assert!(contents(&dir) == before);
        assert_eq!(wipe_cache(&dir).unwrap(), None);
    });
}

#[test]
fn a_start_that_is_broken_off_while_files_grow_leaves_the_old_farm_or_nothing() {
    on_disk(|disk, pool| async move {
        let folder = tempfile::tempdir().unwrap();
        let (dir, made) = (folder.path().join("farm"), Made::new(1, 0, 5, 1));
        for sectors in [4, 9] {
            let (before, mut polls, mut largest) = (contents(&dir), 1, 0);
            let (fits, noted) = (config(1, sectors), noted_bytes(&dir));
            let done = loop {
                let opened = poll_until(open(&disk, &pool, &dir, &fits), polls, || {
                    largest = largest.max(fs::metadata(dir.join(PLOT_FILE)).map_or(0, |plot| plot.len()));
                });
                if let Some(opened) = opened.await {
                    break opened.unwrap().0;
                }
                task::nothing_is_apart().await;
                // What was noted already is not taken back.
                if !before.is_empty() && noted_bytes(&dir) != noted {
                    break open(&disk, &pool, &dir, &fits).await.unwrap().0;
                }
                assert!(contents(&dir) == before, "after {polls} polls of {sectors} sectors");
                assert!(!before.is_empty() || !dir.exists(), "after {polls} polls");
                // The kernel may still be at work for what was dropped.
                while pool.stats().in_use > 0 {
                    task::sleep(Duration::from_millis(1)).await;
                }
                polls += 1;
            };
            assert!(
                polls > 3 && largest > before.len() as u64 * (1 << 20),
                "{polls} points, {largest} bytes"
            );
            assert_eq!(done.layout().sectors(), sectors);
            if sectors == 4 {
                made.plot(&done).await;
            }
            made.check_in(&done).await;
        }
    });
}

#[test]
fn others_run_while_an_opening_waits_for_the_system() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        // Another process has the farm, and ends only if something else runs here.
        let theirs = fs::File::open(dir.path().join(INFO_FILE)).unwrap();
        theirs.try_lock().unwrap();
        let other = task::spawn_local(async move {
            for _ in 0..20 {
                task::sleep(Duration::from_millis(1)).await;
            }
            drop(theirs);
        });
        let (farm, _) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
        other.await;
        made[0].check_in(&farm).await;
        drop(farm);
        // One that nobody waits for any more gives the lock back.
        let theirs = fs::File::open(dir.path().join(INFO_FILE)).unwrap();
        theirs.try_lock().unwrap();
        let (fits, nothing) = (config(1, 4), || ());
        assert!(poll_until(open(&disk, &pool, dir.path(), &fits), 1, nothing).await.is_none());
        drop(theirs);
        task::nothing_is_apart().await;
        fs::File::open(dir.path().join(INFO_FILE)).unwrap().try_lock().unwrap();
    });
}

#[test]
fn the_lock_is_held_as_long_as_the_kernel_works_on_a_closed_farm() {
    on_disk(|disk, pool| async move {
        let (dir, _made) = plotted(&disk, &pool).await;
        let is_free = || fs::File::open(dir.path().join(INFO_FILE)).unwrap().try_lock().is_ok();
        // An operation under way keeps its file open as these do.
        for is_plot in [true, false] {
            let farm = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap().0;
            let files = &farm.0.files;
            let file = if is_plot { files.plot_file() } else { files.metadata.file() };
            let with_the_kernel = file.clone();
            drop(farm);
            assert!(!is_free());
            drop(with_the_kernel);
            assert!(is_free());
        }
    });
}

#[test]
fn sizes_that_are_noted_or_sectors_that_are_there_change_nothing() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let dir = dir.path();
        let noted = FarmSize::Sectors(4).allocated_bytes(1);
        let before = contents(dir);
        let with = |size| FarmConfig { size, ..config(1, 1) };
        for size in [FarmSize::Allocated(noted), FarmSize::Sectors(4)] {
            drop(open_clean(&disk, &pool, dir, &with(size)).await);
            assert!(contents(dir) == before, "{size}");
        }
        // The start of another size was killed while metadata.bin had grown and plot.bin had not.
        super::bad_input::cut(dir, METADATA_FILE, 1_048_576 + 50 * 131_116);
        let farm = open_clean(&disk, &pool, dir, &with(FarmSize::Allocated(noted))).await;
        assert_eq!(farm.layout().sectors(), 4);
        drop(farm);
        assert!(contents(dir) == before);
        // A plot.bin that was cut off has as many places as before.
        super::bad_input::cut(dir, PLOT_FILE, 2 * 1_056_960 + 4096);
        let (farm, report) = open(&disk, &pool, dir, &with(FarmSize::Allocated(noted))).await.unwrap();
        assert_eq!((farm.layout().sectors(), report.faults.len(), report.faults[0].0), (4, 1, 2));
        made[1].check_in(&farm).await;
    });
}

#[test]
fn metadata_that_was_lost_is_not_taken_for_a_new_farm() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let (dir, fits) = (dir.path(), config(1, 4));
        let metadata = fs::read(dir.join(METADATA_FILE)).unwrap();
        // A count that was lost together with plot.bin.
        fs::rename(dir.join(PLOT_FILE), dir.join("aside")).unwrap();
        edit(dir, METADATA_FILE, 1, |_| 0);
        let error = open(&disk, &pool, dir, &fits).await.err().unwrap().to_string();
        assert!(error.contains(PLOT_FILE) && error.contains("missing"), "{error}");
        fs::rename(dir.join("aside"), dir.join(PLOT_FILE)).unwrap();
        // Zeros in the place of all records.
        for zeros in [metadata.len(), 0] {
            fs::write(dir.join(METADATA_FILE), vec![0; zeros]).unwrap();
            let error = open(&disk, &pool, dir, &fits).await.err().unwrap().to_string();
            assert!(error.contains(METADATA_FILE) && error.contains("backup"), "{error}");
        }
        fs::write(dir.join(METADATA_FILE), metadata).unwrap();
        let farm = open(&disk, &pool, dir, &fits).await.unwrap().0;
        made[0].check_in(&farm).await;
    });
}

#[test]
fn a_farm_is_looked_at_while_it_is_in_use() {
    on_disk(|disk, pool| async move {
        let (dir, _made) = plotted(&disk, &pool).await;
        let dir = dir.path();
        edit(dir, METADATA_FILE, 1_048_576 + 131_116 + 9, |byte| byte ^ 1);
        let looked = || {
            let before = contents(dir);
            let survey = Survey::of(dir).unwrap();
            assert!(contents(dir) == before, "a file has changed");
            survey
        };
        let survey = looked();
        let counts = SectorCounts {
            counted: 3,
            plotted: 2,
            damaged: 1,
            not_plotted: 1,
            history_sizes: Some((5, 5)),
            ..SectorCounts::default()
        };
        assert_eq!((survey.is_in_use, survey.sectors.unwrap()), (Some(false), counts.clone()));
        let bytes = [INFO_FILE, IDENTITY_FILE, METADATA_FILE, PLOT_FILE, PROGRESS_FILE]
            .map(|name| (name, bytes_of(dir, name)));
        assert_eq!(survey.files, bytes);
        let (farm, report) = open(&disk, &pool, dir, &config(1, 4)).await.unwrap();
        assert_eq!((report.faults.len(), heal_all(&farm).await), (1, vec![]));
        let survey = looked();
        assert_eq!((survey.is_in_use, &survey.info), (Some(true), farm.info()));
        let counts = SectorCounts { damaged: 0, marked: 1, ..counts };
        assert_eq!(survey.sectors.unwrap(), counts);
        drop(farm);
        super::bad_input::cut(dir, PLOT_FILE, 2 * 1_056_960 + 4096);
        let counts = SectorCounts { plotted: 1, cut_off: 1, ..counts };
        assert_eq!(looked().sectors.unwrap(), counts);
        fs::remove_file(dir.join(IDENTITY_FILE)).unwrap();
        assert!(looked().identity.unwrap_err().to_string().contains("backup"));
    });
}

#[test]
fn a_wipe_that_is_killed_anywhere_leaves_no_sector_and_is_done_again() {
    on_disk(|disk, pool| async move {
        let (dir, _made) = plotted(&disk, &pool).await;
        let dir = dir.path();
        for name in
            ["writing-3.bin", PIECE_CACHE_FILE, "known_addresses.bin", "signatures", "identity.bin.new"]
        {
            fs::write(dir.join(name), b"something").unwrap();
        }
        let theirs = ["writing-.bin", "notes.txt", "plot.bin.bak"];
        theirs.iter().for_each(|name| fs::write(dir.join(name), name).unwrap());
        let farm = open_clean(&disk, &pool, dir, &config(1, 4)).await;
        let before = contents(dir);
        let others = ["signatures"];
        assert!(matches!(wipe(dir, &others, |_, _| ()), Err(FarmError::Io(crate::IoError::Locked { .. }))));
        assert!(matches!(wipe_cache(dir), Err(FarmError::Io(crate::IoError::Locked { .. }))));
        assert!(contents(dir) == before);
        drop(farm);
        let (copies, mut killed) = (tempfile::tempdir().unwrap(), 0);
        wipe(dir, &others, |_, _| {
            copy(dir, &copies.path().join(killed.to_string()));
            killed += 1;
        })
        .unwrap();
        assert_eq!(killed, 9);
        for dir in (0..killed).map(|killed| copies.path().join(killed.to_string())) {
            if let Ok((farm, report)) = open(&disk, &pool, &dir, &config(1, 4)).await {
                assert_eq!((farm.count(), report), (0, OpenReport::default()));
            }
            if dir.join(INFO_FILE).exists() {
                wipe(&dir, &others, |_, _| ()).unwrap();
            }
            let left: Vec<_> = contents(&dir).into_keys().collect();
            assert!(theirs.iter().all(|name| left.contains(&dir.join(name))) && left.len() == 3, "{left:?}");
        }
        assert!(matches!(wipe(dir, &others, |_, _| ()), Err(FarmError::NoFarm { .. })));
    });
}

#[test]
fn a_plot_that_is_linked_goes_with_its_farm_and_a_device_does_not() {
    on_disk(|disk, pool| async move {
        let (dir, _made) = plotted(&disk, &pool).await;
        let (dir, elsewhere) = (dir.path(), tempfile::tempdir().unwrap());
        let plot = elsewhere.path().join("moved.bin");
        let bytes = fs::metadata(dir.join(PLOT_FILE)).unwrap().len();
        fs::rename(dir.join(PLOT_FILE), &plot).unwrap();
        symlink(&plot, dir.join(PLOT_FILE)).unwrap();
        let device = elsewhere.path().join("device");
        let _device = UnixListener::bind(&device).unwrap();
        symlink(&device, dir.join(PIECE_CACHE_FILE)).unwrap();
        let mut told = Vec::new();
        wipe(dir, &[], |path, bytes| told.push((path.to_owned(), bytes))).unwrap();
        assert!(told.contains(&(dir.join(PLOT_FILE), bytes)) && !plot.exists(), "{told:?}");
        assert!(contents(dir).is_empty() && device.exists());
    });
}
