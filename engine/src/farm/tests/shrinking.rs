//! A farm whose size changes while its disk is full, or fails: it is the farm that was there before, or the one that was asked for.

use super::bad_input::{SmallDisk, plotted};
use super::refusing::{Changes, on_refusing_disk};
use super::*;
use crate::file::tests::REFUSED_SYNCS;
use std::collections::BTreeMap;
use std::io::Write;

/// Files of a farm and what they hold, but for the notes of what is being written, which trouble may cost.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let kept = paths.filter(|path| path.is_file() && !path.ends_with(PROGRESS_FILE));
    kept.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_full_disk_refuses_a_smaller_size_and_has_the_farm_that_was_there() {
    let Some(small) = SmallDisk::new() else {
        println!("skipped: this user may not mount a small file system");
        return;
    };
    on_disk(move |disk, pool| async move {
        let dir = small.path().join("farm");
        let made: Vec<_> = (0..3).map(|sector| Made::new(1, sector, 5, 1)).collect();
        let farm = open_clean(&disk, &pool, &dir, &config(1, 4)).await;
        for made in &made {
            made.plot(&farm).await;
        }
        drop(farm);
        let filler = small.path().join("filler");
        let mut file = fs::File::create(&filler).unwrap();
        while file.write(&[7; 4096]).is_ok_and(|written| written > 0) {}
        drop(file);
        let before = contents(&dir);
        let error = open(&disk, &pool, &dir, &config(1, 1)).await.err().unwrap().to_string();
        assert!(error.contains("disk full"), "{error}");
        assert!(contents(&dir) == before, "a file has changed");
        let farm = open_clean(&disk, &pool, &dir, &config(1, 4)).await;
        for made in &made {
            made.check_in(&farm).await;
        }
        drop(farm);
        fs::remove_file(filler).unwrap();
        let (farm, report) = open(&disk, &pool, &dir, &config(1, 1)).await.unwrap();
        assert_eq!((farm.count(), report.dropped), (1, 2));
        made[0].check_in(&farm).await;
        drop(farm);
        drop(small);
    });
}

/// Whatever write or sync fails, once or from then on.
#[test]
fn a_shrink_that_fails_leaves_the_farm_as_it_was() {
    on_refusing_disk(|disk, pool, refusals| async move {
        for lasts in [false, true] {
            let mut failed = 0;
            for nth in 0.. {
                let (dir, made) = plotted(&disk, &pool).await;
                let before = contents(dir.path());
                refusals.set_changes(if lasts { Changes::From(nth) } else { Changes::Once(nth) });
                let opened = open(&disk, &pool, dir.path(), &config(1, 1)).await.map(drop);
                let was_reached = matches!(refusals.changes(), Changes::Refused | Changes::From(0));
                refusals.set_changes(Changes::None);
                if opened.is_ok() && !was_reached {
                    break;
                }
                if opened.is_ok() {
                    // It was a note that failed: the farm is smaller, and goes without notes.
                    made[0].check_in(&open_clean(&disk, &pool, dir.path(), &config(1, 1)).await).await;
                    continue;
                }
                failed += 1;
                assert!(lasts || contents(dir.path()) == before, "a file has changed, {nth} steps on");
                let noted = FarmInfo::from_json(&fs::read(dir.path().join(INFO_FILE)).unwrap()).unwrap();
                assert_eq!(noted.allocated_bytes, FarmSize::Sectors(4).allocated_bytes(1), "step {nth}");
                let (farm, report) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
                assert_eq!((report.faults.len(), farm.count()), (0, 3), "step {nth}");
                for made in &made {
                    made.check_in(&farm).await;
                }
            }
            assert!(failed > 2, "{failed} steps");
        }
    });
}

/// The name of the new `single_disk_farm.json` is there, and not durable: the files must fit it and the old one.
#[test]
fn a_size_whose_note_may_be_lost_is_the_old_or_the_new_one() {
    on_disk(|disk, pool| async move {
        for (sectors, is_lost) in [(6, false), (6, true), (1, false), (1, true)] {
            let (dir, made) = plotted(&disk, &pool).await;
            let dir = dir.path();
            let before = fs::read(dir.join(INFO_FILE)).unwrap();
            REFUSED_SYNCS.lock().unwrap().insert(dir.to_owned());
            let error = open(&disk, &pool, dir, &config(1, sectors)).await.err().unwrap();
            REFUSED_SYNCS.lock().unwrap().remove(dir);
            assert!(matches!(error, FarmError::Io(crate::IoError::Open { .. })), "{error}");
            if is_lost {
                fs::write(dir.join(INFO_FILE), before).unwrap();
            }
            let farm = open_clean(&disk, &pool, dir, &config(1, 4)).await;
            for made in &made {
                made.check_in(&farm).await;
            }
            drop(farm);
            let size = FarmSize::Allocated(FarmSize::Sectors(sectors).allocated_bytes(1));
            let (farm, _) = open(&disk, &pool, dir, &FarmConfig { size, ..config(1, 1) }).await.unwrap();
            assert_eq!(farm.layout().sectors(), sectors, "what is asked for again is done");
            made[0].check_in(&farm).await;
        }
    });
}
