//! What the disk refuses to give is no fault of a sector: not one is marked, and all are as they were when the disk is well again.

use super::bad_input::{cut, edit, plotted};
use super::refusing::on_refusing_disk;
use super::*;

const RECORD_BYTES: u64 = 131_116;

/// Bytes in the middle of a sector's record, in no block of another.
fn within_record(sector: u64) -> (&'static str, std::ops::Range<u64>) {
    let at = 1_048_576 + sector * RECORD_BYTES + 60_000;
    (METADATA_FILE, at..at + 1)
}

fn files(dir: &Path) -> [Vec<u8>; 2] {
    [METADATA_FILE, PLOT_FILE].map(|name| fs::read(dir.join(name)).unwrap())
}

const PLOTTED: SectorStatus = SectorStatus::Plotted { history_size: 5 };
use SectorStatus::{Doubtful, Expired, NotPlotted, Unreadable as Refused};

#[test]
fn a_record_that_is_refused_for_a_while_is_as_it_was() {
    on_refusing_disk(|disk, pool, refusals| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let before = files(dir.path());
        refusals.set(&[within_record(1)]);
        let (farm, report) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
        assert!(report.faults.is_empty() && report.adopted.is_empty(), "{report:?}");
        assert_eq!(report.unreadable.sectors, [1]);
        assert!(report.unreadable.error.unwrap().contains(METADATA_FILE));
        assert_eq!((farm.count(), farm.statuses()), (3, vec![PLOTTED, Refused, PLOTTED, NotPlotted]));
        // Nothing reads it, and nothing writes over it.
        let unreadable = |error| matches!(error, SectorError::Unreadable { sector: 1 });
        assert!(unreadable(farm.write_sector(1).await.err().unwrap()));
        assert!(unreadable(farm.read_contents_map(Class::ProofRead, 1).await.unwrap_err()));
        assert!(unreadable(farm.check_and_mend(Class::Scrub, 1, Depth::Whole).await.unwrap_err()));
        let seen = farm.look_again(Class::Scrub).await.unwrap();
        assert_eq!((seen.unreadable.sectors, seen.readable, seen.faults), (vec![1], vec![], vec![]));
        made[0].check_in(&farm).await;
        made[2].check_in(&farm).await;
        assert!(files(dir.path()) == before, "nothing was written");
        refusals.set(&[]);
        let seen = farm.look_again(Class::Scrub).await.unwrap();
        assert_eq!(seen, LookedAgain { readable: vec![1], ..LookedAgain::default() });
        made[1].check_in(&farm).await;
        assert_eq!(farm.look_again(Class::Scrub).await.unwrap(), LookedAgain::default());
        assert!(files(dir.path()) == before, "nothing was written");
        drop(farm);
        open_clean(&disk, &pool, dir.path(), &config(1, 4)).await;
    });
}

#[test]
fn a_record_that_is_damaged_is_looked_into_once_it_was_read() {
    on_refusing_disk(|disk, pool, refusals| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        edit(dir.path(), METADATA_FILE, 1_048_576 + 2 * RECORD_BYTES + 90_000, |byte| byte ^ 2);
        refusals.set(&[within_record(0), within_record(2)]);
        let (farm, report) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
        assert_eq!((report.unreadable.sectors, report.faults), (vec![0, 2], vec![]));
        refusals.set(&[within_record(0)]);
        let seen = farm.look_again(Class::Scrub).await.unwrap();
        assert_eq!((seen.unreadable.sectors, &seen.readable[..]), (vec![0], &[][..]));
        assert!(matches!(seen.faults[..], [(2, SectorFault::Record(RecordFault::Undecodable(_)))]));
        assert_eq!(farm.statuses(), [Refused, PLOTTED, Doubtful, NotPlotted]);
        assert!(heal_all(&farm).await.is_empty());
        assert_eq!(farm.statuses(), [Refused, PLOTTED, Expired, NotPlotted]);
        made[2].plot(&farm).await;
        drop(farm);
        refusals.set(&[]);
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 4)).await;
        for made in &made {
            made.check_in(&farm).await;
        }
    });
}

#[test]
fn a_disk_that_gives_nothing_costs_nothing() {
    on_refusing_disk(|disk, pool, refusals| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let before = files(dir.path());
        let everything = 0..u64::MAX;
        refusals.set(&[(METADATA_FILE, everything.clone()), (PLOT_FILE, everything.clone())]);
        let error = open(&disk, &pool, dir.path(), &config(1, 4)).await.err().unwrap();
        assert!(matches!(error, FarmError::Sector(SectorError::Io(_))), "{error}");
        // The header alone can be read.
        refusals.set(&[(METADATA_FILE, 4096..u64::MAX), (PLOT_FILE, everything)]);
        for config in [config(1, 4), config(1, 5)] {
            let (farm, report) = open(&disk, &pool, dir.path(), &config).await.unwrap();
            assert_eq!((report.unreadable.sectors, report.faults), (vec![0, 1, 2, 3], vec![]));
            assert!(farm.statuses()[..4].iter().all(|status| *status == Refused));
            assert_eq!(farm.count(), 3);
        }
        for dry_run in [true, false] {
            let report =
                scrub(disk.clone(), scratch(&pool), dir.path(), options(Target::All, dry_run), |_| ());
            let report = report.await.unwrap();
            assert_eq!(
                report.unreadable.iter().map(|(sector, _)| *sector).collect::<Vec<_>>(),
                [0, 1, 2, 3, 4]
            );
            assert!(report.bad.is_empty() && !report.is_clean());
        }
        refusals.set(&[]);
        for (file, before) in files(dir.path()).iter().zip(&before) {
            assert!(
                file[..before.len()] == before[..],
                "but for the room of a fifth sector nothing has changed"
            );
        }
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 4)).await;
        for made in &made {
            made.check_in(&farm).await;
        }
    });
}

#[test]
fn a_sector_beyond_the_end_of_its_file_is_lost_whatever_its_record_says() {
    on_refusing_disk(|disk, pool, refusals| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        cut(dir.path(), PLOT_FILE, (made[0].bytes.len() as u64 * 2).next_multiple_of(4096));
        refusals.set(&[within_record(1), within_record(2)]);
        let (farm, report) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
        assert_eq!(report.unreadable.sectors, [1]);
        assert!(matches!(report.faults[..], [(2, SectorFault::CutOff { .. })]), "{report:?}");
        assert_eq!(farm.statuses(), [PLOTTED, Refused, Expired, NotPlotted]);
    });
}

#[test]
fn data_that_is_refused_marks_nothing() {
    on_refusing_disk(|disk, pool, refusals| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let (before, bytes) = (files(dir.path()), made[0].bytes.len() as u64);
        // In the contents map of sector 0, and in a chunk of sector 2.
        refusals.set(&[(PLOT_FILE, 5000..5001), (PLOT_FILE, 2 * bytes + 500_000..2 * bytes + 500_001)]);
        for target in [Target::All, Target::Plot, Target::Metadata] {
            let report = scrub(disk.clone(), scratch(&pool), dir.path(), options(target, false), |_| ())
                .await
                .unwrap();
            let refused: Vec<_> = report.unreadable.iter().map(|(sector, _)| *sector).collect();
            let expected = if target == Target::Metadata { &[0][..] } else { &[0, 2] };
            assert_eq!(refused, expected, "{target:?}");
            assert!(report.unreadable.iter().all(|(_, error)| error.contains(PLOT_FILE)));
            assert_eq!((report.bad.len(), usize::from(report.good)), (0, 3 - expected.len()));
            assert!(!report.is_clean() && files(dir.path()) == before);
        }
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 4)).await;
        for (sector, depth) in [(0, Depth::Map), (0, Depth::Whole), (2, Depth::Whole)] {
            let error = farm.check_and_mend(Class::Scrub, sector, depth).await.unwrap_err();
            assert!(matches!(error, SectorError::Io(_)), "{error}");
        }
        let error = farm.read_contents_map(Class::ProofRead, 0).await.unwrap_err();
        assert!(matches!(error, SectorError::Io(_)), "{error}");
        assert!(matches!(farm.read_record(Class::ProofRead, 2, 0).await, Err(SectorError::Io(_))));
        assert!(files(dir.path()) == before);
        refusals.set(&[]);
        for made in &made {
            made.check_in(&farm).await;
        }
    });
}

#[test]
fn who_knows_that_it_will_not_come_back_has_it_marked() {
    on_refusing_disk(|disk, pool, refusals| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let bytes = made[0].bytes.len() as u64;
        refusals.set(&[within_record(0), (PLOT_FILE, 2 * bytes + 500_000..2 * bytes + 500_001)]);
        let options = ScrubOptions { mark_unreadable: true, ..options(Target::All, false) };
        let report = scrub(disk.clone(), scratch(&pool), dir.path(), options, |_| ()).await.unwrap();
        assert_eq!(report.unreadable.iter().map(|(sector, _)| *sector).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((report.good, report.bad.len(), report.is_clean()), (1, 0, false));
        refusals.set(&[]);
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 4)).await;
        assert_eq!(farm.statuses(), [Expired, PLOTTED, Expired, NotPlotted]);
    });
}
