use super::bad_input::{cut, edit, plotted};
use super::*;

async fn scrubbed(disk: &Disk, pool: &Pool, dir: &Path, dry_run: bool) -> ScrubReport {
    let mut seen = Vec::new();
    let report = scrub(disk.clone(), scratch(pool), dir, options(Target::All, dry_run), |progress| {
        seen.push(progress.clone());
    });
    let report = report.await.unwrap();
    assert_eq!(seen.len(), usize::from(report.sectors));
    assert!(seen.iter().zip(1..).all(|(progress, done)| progress.done == done));
    let found = seen.into_iter().filter_map(|progress| match progress.found? {
        (sector, Finding::Bad(fault)) => Some((sector, fault)),
        found => panic!("{found:?}"),
    });
    assert_eq!(found.collect::<Vec<_>>(), report.bad);
    report
}

#[test]
fn every_kind_of_damage_is_named_and_marked() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let dir = dir.path();
        let clean = ScrubReport { sectors: 3, good: 3, ..ScrubReport::default() };
        assert_eq!(scrubbed(&disk, &pool, dir, true).await, clean);
        assert_eq!(scrubbed(&disk, &pool, dir, false).await, clean);

        let bytes = made[0].bytes.len() as u64;
        edit(dir, PLOT_FILE, 5000, |byte| byte ^ 1);
        edit(dir, PLOT_FILE, bytes + 500_000, |byte| byte ^ 0x80);
        let files = || [PLOT_FILE, METADATA_FILE].map(|name| fs::read(dir.join(name)).unwrap());
        let before = files();
        let found = scrubbed(&disk, &pool, dir, true).await;
        let bad = vec![
            (0, SectorFault::ContentsMap(consensus::sector::ContentsMapError::Checksum)),
            (1, SectorFault::Checksum),
        ];
        assert_eq!(found, ScrubReport { good: 1, bad, ..clean.clone() });
        assert!(!found.is_clean() && files() == before, "a dry run changes nothing");
        assert_eq!(scrubbed(&disk, &pool, dir, false).await, found);
        let again = scrubbed(&disk, &pool, dir, false).await;
        assert_eq!(again, ScrubReport { good: 1, expired: 2, ..clean });
        assert!(again.is_clean());
        let farm = open_clean(&disk, &pool, dir, &config(1, 4)).await;
        made[2].check_in(&farm).await;
        assert_eq!(farm.status(1), SectorStatus::Expired);
    });
}

#[test]
fn a_record_of_another_content_is_found() {
    on_disk(|disk, pool| async move {
        let (dir, _) = plotted(&disk, &pool).await;
        let other = Made::new(1, 1, 5, 2).metadata;
        let at = 1_048_576 + 131_116;
        let mut file = fs::read(dir.path().join(METADATA_FILE)).unwrap();
        file[at..at + 131_116].copy_from_slice(&other.encode());
        fs::write(dir.path().join(METADATA_FILE), file).unwrap();
        let found = scrubbed(&disk, &pool, dir.path(), false).await;
        assert!(
            matches!(found.bad[..], [(1, SectorFault::Record(RecordFault::SBucketSize(_)))]),
            "{found:?}"
        );
    });
}

#[test]
fn damage_of_files_is_found_without_a_network() {
    on_disk(|disk, pool| async move {
        let (dir, made) = plotted(&disk, &pool).await;
        let dir = dir.path();
        cut(dir, PLOT_FILE, (made[0].bytes.len() as u64 * 2).next_multiple_of(4096));
        edit(dir, METADATA_FILE, 1_048_576 + 9, |byte| byte ^ 1);
        for dry_run in [true, false] {
            let found = scrubbed(&disk, &pool, dir, dry_run).await;
            assert_eq!(found.bad.iter().map(|bad| bad.0).collect::<Vec<_>>(), [0, 2]);
            assert_eq!((found.good, found.expired), (1, 0));
        }
        assert_eq!(scrubbed(&disk, &pool, dir, true).await.expired, 2);
        let empty = tempfile::tempdir().unwrap();
        let error = scrub(disk.clone(), scratch(&pool), empty.path(), options(Target::All, true), |_| ())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("no farm"), "{error}");
        assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
        let farm = open_clean(&disk, &pool, dir, &config(1, 4)).await;
        let error =
            scrub(disk.clone(), scratch(&pool), dir, options(Target::All, true), |_| ()).await.unwrap_err();
        assert!(error.to_string().contains("already locked"), "{error}");
        drop(farm);
    });
}
