use super::*;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Directories whose entries the disk does not make durable.
pub static REFUSED_SYNCS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

pub fn check_sync(directory: &Path) -> Result<(), IoError> {
    if REFUSED_SYNCS.lock().unwrap().contains(directory) {
        return Err(IoError::open(directory, io::Error::from_raw_os_error(libc::EIO)));
    }
    Ok(())
}

#[test]
fn creates_once_and_reserves_the_space() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plot.bin");
    let file = DirectFile::create(&path, 1 << 20).unwrap();
    assert!(file.is_direct(), "the temporary directory is on a real file system");
    assert_eq!(file.size_bytes().unwrap(), 1 << 20);
    let again = DirectFile::create(&path, 1 << 20).unwrap_err();
    assert!(matches!(again, IoError::Open { .. }), "{again}");
    file.set_size(8192).unwrap();
    assert_eq!(DirectFile::open(&path, Access::Read).unwrap().size_bytes().unwrap(), 8192);
    assert!(matches!(file.set_size(4097).unwrap_err(), IoError::Misaligned { .. }));
}

#[test]
fn a_second_lock_is_refused_with_a_clear_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let first = DirectFile::create(&path, 0).unwrap();
    first.lock_exclusive().unwrap();
    let second = DirectFile::open(&path, Access::Read).unwrap();
    let error = second.lock_exclusive().unwrap_err().to_string();
    assert!(error.contains("already locked by a process"), "{error}");
    let last_moments = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(150));
        drop(first);
    });
    second.lock_exclusive().unwrap();
    last_moments.join().unwrap();
}

#[test]
fn too_much_space_is_told_as_a_full_disk_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge");
    let error = DirectFile::create(&path, 1 << 43).unwrap_err();
    assert!(matches!(error, IoError::DiskFull { .. } | IoError::Failed { .. }), "{error}");
    assert!(!path.exists());
}

#[test]
fn missing_and_forbidden_files_say_what_to_check() {
    let missing = DirectFile::open(Path::new("/no/such/file"), Access::Read).unwrap_err().to_string();
    assert!(missing.contains("/no/such/file") && missing.contains("mounted"), "{missing}");
    let forbidden = IoError::open(Path::new("/x"), io::Error::from(io::ErrorKind::PermissionDenied));
    assert!(forbidden.to_string().contains("owner and mode"), "{forbidden}");
}

#[test]
fn a_file_system_without_direct_io_falls_back() {
    // procfs refuses O_DIRECT on every kernel; tmpfs only on old ones.
    let file = DirectFile::open(Path::new("/proc/self/status"), Access::Read).unwrap();
    assert!(!file.is_direct());
}
