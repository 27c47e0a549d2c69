//! Reads at once that a farm's disk is worth: measured once, kept with the farm, and measured anew where what is kept is no note.

use super::*;
use crate::disk::{DEPTHS, Limits, note};
use crate::ring::Ring;

/// Another disk without a name, of which nothing is known yet.
fn disk_anew(pool: &Pool) -> (Ring, Disk) {
    let ring = Ring::new(pool, 64).unwrap();
    let disk = Disk::new(ring.clone(), Limits::default());
    (ring, disk)
}

#[test]
fn the_depth_is_measured_once_there_are_sectors_and_kept() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(DEPTH_FILE);
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
        farm.settle_depth().await;
        assert!(!path.exists() && disk.depth() == Limits::default().depth, "nothing to read");
        Made::new(1, 0, 5, 1).plot(&farm).await;
        farm.settle_depth().await;
        assert!(DEPTHS.contains(&disk.depth()));
        assert_eq!(fs::read(&path).unwrap(), note(disk.depth(), ""));
        // Known: nobody measures again, whatever becomes of the file.
        fs::remove_file(&path).unwrap();
        farm.settle_depth().await;
        assert!(!path.exists());
    });
}

#[test]
fn what_is_kept_counts_and_what_is_damaged_is_measured_anew() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(DEPTH_FILE);
        Made::new(1, 0, 5, 1).plot(&open_clean(&disk, &pool, dir.path(), &config(1, 1)).await).await;
        for depth in DEPTHS {
            let (ring, disk) = disk_anew(&pool);
            fs::write(&path, note(depth, "")).unwrap();
            open_clean(&disk, &pool, dir.path(), &config(1, 1)).await.settle_depth().await;
            assert_eq!(disk.depth(), depth);
            drop(disk);
            ring.close().await;
        }
        let damaged = [vec![], vec![0; 4096], note(64, "another device"), note(7, "")];
        for bytes in damaged {
            let (ring, disk) = disk_anew(&pool);
            fs::write(&path, &bytes).unwrap();
            open_clean(&disk, &pool, dir.path(), &config(1, 1)).await.settle_depth().await;
            assert!(DEPTHS.contains(&disk.depth()));
            assert_eq!(fs::read(&path).unwrap(), note(disk.depth(), ""), "instead of {bytes:?}");
            drop(disk);
            ring.close().await;
        }
        // In the way of a note, it keeps nobody from measuring.
        let (ring, disk) = disk_anew(&pool);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        open_clean(&disk, &pool, dir.path(), &config(1, 1)).await.settle_depth().await;
        assert!(DEPTHS.contains(&disk.depth()) && path.is_dir());
        drop(disk);
        ring.close().await;
    });
}

#[test]
fn a_disk_that_gives_nothing_keeps_its_depth() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 1)).await;
        Made::new(1, 0, 5, 1).plot(&farm).await;
        // The sectors are gone from under the farm.
        fs::File::options().write(true).open(dir.path().join(PLOT_FILE)).unwrap().set_len(0).unwrap();
        farm.settle_depth().await;
        assert!(disk.depth() == Limits::default().depth && !dir.path().join(DEPTH_FILE).exists());
    });
}
