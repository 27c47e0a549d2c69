//! Sectors that are whole and not counted, after a crash or with a damaged count: each is found on its own, whatever lies between.

use super::bad_input::{edit, plotted};
use super::refusing::on_refusing_disk;
use super::*;

const RECORD_BYTES: u64 = 131_116;
const PLOTTED: SectorStatus = SectorStatus::Plotted { history_size: 5 };
use SectorStatus::{Expired, NotPlotted, Unreadable as Refused};

fn record_of(sector: u64) -> (&'static str, std::ops::Range<u64>) {
    let at = 1_048_576 + sector * RECORD_BYTES + 60_000;
    (METADATA_FILE, at..at + 1)
}

fn counted_on_disk(dir: &Path) -> u8 {
    fs::read(dir.join(METADATA_FILE)).unwrap()[1]
}

/// What a crash leaves between the record of a sector and the count: those left out are marked, and stand before it.
#[test]
fn a_whole_sector_behind_marks_and_damaged_records_is_counted() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let dir = dir.path();
        let farm = open_clean(&disk, &pool, dir, &config(1, 4)).await;
        farm.mark_for_replotting(Class::Scrub, 1).await.unwrap();
        drop(farm);
        edit(dir, METADATA_FILE, 1, |_| 0);
        edit(dir, METADATA_FILE, 1_048_576 + 77, |byte| byte ^ 1);
        let (farm, report) = open(&disk, &pool, dir, &config(1, 4)).await.unwrap();
        assert_eq!(report, OpenReport { adopted: vec![2], ..OpenReport::default() });
        assert_eq!((farm.count(), farm.statuses()), (3, vec![Expired, Expired, PLOTTED, NotPlotted]));
        made[2].check_in(&farm).await;
        drop(farm);
        // All that is counted has a good record now.
        let farm = open_clean(&disk, &pool, dir, &config(1, 4)).await;
        assert_eq!((farm.count(), farm.statuses()), (3, vec![Expired, Expired, PLOTTED, NotPlotted]));
        made[0].plot(&farm).await;
        drop(farm);
        // Whole, but never counted: who only looks sees them all, and changes nothing.
        edit(dir, METADATA_FILE, 1, |_| 0);
        let looked =
            scrub(disk.clone(), scratch(&pool), dir, options(Target::All, true), |_| ()).await.unwrap();
        assert_eq!((looked.sectors, looked.good, looked.expired, looked.adopted), (3, 2, 1, vec![0, 2]));
        assert_eq!(counted_on_disk(dir), 0);
    });
}

#[test]
fn what_lies_behind_a_refused_record_is_farmed_and_the_refused_one_stays_as_it_is() {
    on_refusing_disk(|disk, pool, refusals| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let dir = dir.path();
        edit(dir, METADATA_FILE, 1, |_| 1);
        refusals.set(&[record_of(1)]);
        let (farm, report) = open(&disk, &pool, dir, &config(1, 4)).await.unwrap();
        assert_eq!((&report.unreadable.sectors[..], &report.adopted[..]), (&[1][..], &[2][..]));
        // The count names no sector of which nothing is known.
        assert_eq!((farm.count(), farm.statuses()), (1, vec![PLOTTED, Refused, PLOTTED, NotPlotted]));
        made[2].check_in(&farm).await;
        // One more is plotted, another anew; neither says anything of the refused one.
        let last = Made::new(1, 3, 5, 1);
        last.plot(&farm).await;
        made[2].plot(&farm).await;
        assert_eq!((farm.count(), counted_on_disk(dir)), (1, 1));
        assert_eq!(farm.look_again(Class::Scrub).await.unwrap().unreadable.sectors, [1]);
        drop(farm);
        refusals.set(&[]);
        let (farm, report) = open(&disk, &pool, dir, &config(1, 4)).await.unwrap();
        assert_eq!(report, OpenReport { adopted: vec![1, 2, 3], ..OpenReport::default() });
        for made in made.iter().chain([&last]) {
            made.check_in(&farm).await;
        }
    });
}

#[test]
fn a_refused_record_that_is_read_later_lets_the_count_go_on() {
    on_refusing_disk(|disk, pool, refusals| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let dir = dir.path();
        let last = Made::new(1, 3, 5, 1);
        for is_whole in [true, false] {
            edit(dir, METADATA_FILE, 1, |_| 1);
            if !is_whole {
                edit(dir, METADATA_FILE, 1_048_576 + RECORD_BYTES + 77, |byte| byte ^ 1);
            }
            refusals.set(&[record_of(1)]);
            let (farm, _) = open(&disk, &pool, dir, &config(1, 4)).await.unwrap();
            last.plot(&farm).await;
            refusals.set(&[]);
            let seen = farm.look_again(Class::Scrub).await.unwrap();
            let readable = if is_whole { vec![1] } else { vec![] };
            assert_eq!(seen, LookedAgain { readable, ..LookedAgain::default() });
            let second = if is_whole { PLOTTED } else { Expired };
            assert_eq!((farm.count(), farm.statuses()), (4, vec![PLOTTED, second, PLOTTED, PLOTTED]));
            drop(farm);
            let farm = open_clean(&disk, &pool, dir, &config(1, 4)).await;
            assert_eq!((farm.count(), farm.status(1)), (4, second));
            made[2].check_in(&farm).await;
            last.check_in(&farm).await;
        }
    });
}

#[test]
fn a_record_beyond_the_count_is_read_once() {
    on_refusing_disk(|disk, pool, refusals| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        edit(dir.path(), METADATA_FILE, 1, |_| 1);
        refusals.reads_of(record_of(2));
        let (farm, report) = open(&disk, &pool, dir.path(), &config(1, 4)).await.unwrap();
        assert_eq!((refusals.reads_of(record_of(2)), report.adopted), (1, vec![1, 2]));
        made[2].check_in(&farm).await;
    });
}

/// The network's farmer reads what the count names, too.
#[test]
fn sectors_left_out_before_the_first_one_are_marked_on_disk() {
    on_disk(|disk, pool| async move {
        let (dir, last) = (tempfile::tempdir().unwrap(), Made::new(1, 2, 5, 1));
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 4)).await;
        last.plot(&farm).await;
        drop(farm);
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 4)).await;
        assert_eq!((farm.count(), farm.statuses()), (3, vec![Expired, Expired, PLOTTED, NotPlotted]));
        last.check_in(&farm).await;
    });
}
