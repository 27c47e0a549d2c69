//! A farm that grows or shrinks, cut off between any two steps of that: what was made larger, smaller or noted is durable, one file
//! after the other, and no device sees it.

use super::*;
use std::fs::File;
use std::os::unix::fs::FileExt;

const SECTORS: u16 = 3;

/// The files as they are after some of the steps from one size to another, and of how many sectors each is then.
#[derive(Debug, Clone, Copy)]
struct Cut {
    count: u16,
    noted: u16,
    metadata: u16,
    plot: u16,
}

fn set(dir: &Path, cut: Cut, info: &FarmInfo) {
    let layout = |sectors| Layout::new(1, FarmSize::Sectors(sectors)).unwrap();
    let file = |name| File::options().write(true).open(dir.join(name)).unwrap();
    file(METADATA_FILE).write_all_at(&cut.count.to_le_bytes(), 1).unwrap();
    file(METADATA_FILE).set_len(layout(cut.metadata).metadata_bytes()).unwrap();
    file(PLOT_FILE).set_len(layout(cut.plot).plot_bytes()).unwrap();
    let allocated_bytes = FarmSize::Sectors(cut.noted).allocated_bytes(1);
    fs::write(dir.join(INFO_FILE), FarmInfo { allocated_bytes, ..info.clone() }.to_json()).unwrap();
}

async fn check(disk: &Disk, pool: &Pool, dir: &Path, sectors: u16, made: &[Made]) -> u16 {
    let (farm, report) = open(disk, pool, dir, &config(1, sectors)).await.unwrap();
    assert_eq!(report.faults, []);
    for (sector, status) in (0..).zip(farm.statuses()) {
        if matches!(status, SectorStatus::Plotted { .. }) {
            made[sector].check_in(&farm).await;
        }
    }
    farm.count()
}

#[test]
fn a_change_of_size_that_is_cut_off_costs_no_sector_and_brings_none_back() {
    on_disk(|disk, pool| async move {
        let made: Vec<_> = (0..SECTORS).map(|sector| Made::new(1, sector, 5, 1)).collect();
        let cut = |count, noted, metadata, plot| Cut { count, noted, metadata, plot };
        let grows = [cut(3, 3, 4, 3), cut(3, 3, 4, 4), cut(3, 4, 4, 4)].map(|cut| (cut, SECTORS));
        // The last is what another writer of the format may do.
        let shrinks = [cut(1, 3, 3, 3), cut(1, 1, 3, 3), cut(1, 1, 1, 3), cut(1, 1, 1, 1), cut(1, 1, 3, 1)];
        for (cut, kept) in grows.into_iter().chain(shrinks.map(|cut| (cut, 1))) {
            for sizes in [[3, 4], [1, 3], [4, 4], [2, 4]] {
                let dir = tempfile::tempdir().unwrap();
                let farm = open_clean(&disk, &pool, dir.path(), &config(1, SECTORS)).await;
                for made in &made {
                    made.plot(&farm).await;
                }
                let info = farm.info().clone();
                drop(farm);
                set(dir.path(), cut, &info);
                for sectors in sizes {
                    let count = check(&disk, &pool, dir.path(), sectors, &made).await;
                    assert!(count >= kept.min(sizes[0]), "{cut:?} opened with {sectors} sectors: {count}");
                }
            }
        }
    });
}

/// Another writer makes the farm smaller and larger again, and leaves records behind.
#[test]
fn a_record_that_outlived_its_sector_brings_no_sector_back() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let made: Vec<_> = (0..SECTORS).map(|sector| Made::new(1, sector, 5, 1)).collect();
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, SECTORS)).await;
        for made in &made {
            made.plot(&farm).await;
        }
        let info = farm.info().clone();
        drop(farm);
        set(dir.path(), Cut { count: 1, noted: 1, metadata: 3, plot: 1 }, &info);
        set(dir.path(), Cut { count: 1, noted: 3, metadata: 3, plot: 3 }, &info);
        assert_eq!(check(&disk, &pool, dir.path(), SECTORS, &made).await, 1);
        // Nor when those before it are plotted.
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, SECTORS)).await;
        made[1].plot(&farm).await;
        drop(farm);
        assert_eq!(check(&disk, &pool, dir.path(), SECTORS, &made).await, 2);
    });
}

/// What is noted of a sector that was cut off is not believed when the farm has grown again.
#[test]
fn notes_of_sectors_that_were_cut_off_are_taken_back() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let made = [Made::new(1, 0, 5, 1), Made::new(1, 1, 5, 1)];
        for is_shrunk in [true, false] {
            let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
            made[0].plot(&farm).await;
            let writer = made[1].write(&farm).await;
            writer.save_progress(b"all").await.unwrap();
            drop((writer, farm));
            let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
            assert_eq!(farm.write_sector(1).await.unwrap().saved_progress().unwrap(), b"all");
            let plot_bytes = farm.layout().plot_bytes();
            drop(farm);
            if is_shrunk {
                drop(open_clean(&disk, &pool, dir.path(), &config(1, 1)).await);
            } else {
                let plot = File::options().write(true).open(dir.path().join(PLOT_FILE)).unwrap();
                plot.set_len(plot_bytes - 8192).unwrap();
            }
            let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
            assert_eq!(farm.write_sector(1).await.unwrap().saved_progress(), None);
        }
    });
}
