use super::super::manifest::tests::manifest;
use super::*;
use std::os::unix::fs::PermissionsExt;
use tempfile::tempdir;

const LIMIT: u64 = 10 << 20;

fn stage(staging: &Staging, sector_index: u16) -> Arc<StagedSector> {
    let manifest = manifest(sector_index, 2);
    let space = staging.reserve(&manifest.job).unwrap();
    space.commit(manifest.made, manifest.metadata).unwrap()
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn staged_sectors_are_found_again_and_discarded_for_good() {
    let folder = tempdir().unwrap();
    let staging = Staging::open(folder.path(), LIMIT).unwrap();
    let (first, second) = (stage(&staging, 1), stage(&staging, 2));
    assert_eq!(staging.find(&first.job.sector.staging()).unwrap().job, first.job);
    drop(staging);
    let staging = Staging::open(folder.path(), LIMIT).unwrap();
    let mut found: Vec<_> = staging.all().iter().map(|sector| sector.job.clone()).collect();
    found.sort_by_key(|job| job.sector);
    assert_eq!(found, [first.job.clone(), second.job.clone()]);
    assert_eq!(staging.find(&first.job.sector.staging()).unwrap().metadata, first.metadata);
    for _ in 0..2 {
        staging.discard(&first.job).unwrap();
    }
    assert!(staging.find(&first.job.sector.staging()).is_none());
    staging.discard(&second.job).unwrap();
    assert_eq!((names(folder.path()), staging.free_bytes()), (vec!["lock".into()], LIMIT));
}

#[test]
fn what_a_crash_leaves_is_cleared_and_foreign_files_are_not() {
    let folder = tempdir().unwrap();
    let staging = Staging::open(folder.path(), LIMIT).unwrap();
    let [whole, cut, lost, torn] = [1, 2, 3, 4].map(|sector_index| {
        let sector = stage(&staging, sector_index);
        let path = |suffix| staging.path(&sector.job, suffix);
        (path(SECTOR_SUFFIX), path(MANIFEST_SUFFIX))
    });
    drop(staging);
    // Before its manifest; after its bytes were deleted by hand; a length that is wrong.
    fs::remove_file(&cut.1).unwrap();
    fs::write(cut.1.with_extension("staged.tmp"), "half").unwrap();
    fs::remove_file(&lost.0).unwrap();
    File::options().write(true).open(&torn.0).unwrap().set_len(4096).unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    fs::write(folder.path().join("my.sector"), "mine").unwrap();
    let staging = Staging::open(folder.path(), LIMIT).unwrap();
    assert_eq!(staging.all().len(), 1);
    let expected = [whole.0, whole.1].map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    let [sector, manifest] = expected;
    assert_eq!(
        names(folder.path()),
        [sector, manifest, "lock".into(), "my.sector".into(), "notes.txt".into()]
    );
}

#[test]
fn space_is_bounded_and_given_back() {
    let folder = tempdir().unwrap();
    let needed = needed_bytes(&manifest(1, 2).job);
    let staging = Staging::open(folder.path(), 2 * needed).unwrap();
    let first = staging.reserve(&manifest(1, 2).job).unwrap();
    assert!(matches!(staging.reserve(&manifest(1, 2).job), Err(StagingError::Duplicate { .. })));
    let _second = staging.reserve(&manifest(2, 2).job).unwrap();
    assert_eq!(staging.free_bytes(), 0);
    let full = staging.reserve(&manifest(3, 2).job).err().unwrap();
    assert!(matches!(full, StagingError::NoRoom { .. }), "{full}");
    drop(first);
    assert_eq!(staging.free_bytes(), needed);
    assert_eq!(names(folder.path()).len(), 2, "the lock and the second");
}

#[test]
fn a_base_path_that_cannot_be_used_says_so() {
    let folder = tempdir().unwrap();
    let _first = Staging::open(folder.path(), LIMIT).unwrap();
    let error = Staging::open(folder.path(), LIMIT).err().unwrap();
    assert!(matches!(error, StagingError::InUse { .. }));
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Staging::open(&file, LIMIT).err().unwrap().to_string();
    assert!(error.contains("must be a folder"), "{error}");
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write everywhere.
    if !rustix::process::geteuid().is_root() {
        assert!(Staging::open(&closed, LIMIT).is_err());
    }
}
