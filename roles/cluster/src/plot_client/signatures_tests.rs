use super::*;
use consensus::identity::is_reward_signature_valid;
use engine::{Executors, ExecutorsConfig, Limits};
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;
use tempfile::TempDir;

fn identity() -> Identity {
    Identity::from_entropy([7; 32])
}

fn hash(n: u64) -> [u8; 32] {
    blake3::hash(&n.to_le_bytes()).into()
}

/// Runs a test on an executor with a disk and an empty folder.
fn on_disk<F: Future<Output = ()> + 'static>(test: impl FnOnce(Disk, Pool, TempDir) -> F + Send + 'static) {
    let pool = Pool::new(8, 8).unwrap();
    let config = ExecutorsConfig { name: "test".into(), cores: vec![None], ring_depth: 8 };
    let executors = Executors::start(&config, &pool).unwrap();
    let ran = executors.spawner(0).spawn(|local| async move {
        let dir = tempfile::tempdir().unwrap();
        let disk = local.disk(dir.path(), Limits::default()).unwrap();
        test(disk, local.pool().clone(), dir).await;
    });
    ran.wait().expect("the test does not panic");
    executors.shutdown(Duration::from_secs(10)).unwrap();
    assert_eq!(pool.stats().in_use, 0, "a slab was lost");
}

async fn open(disk: &Disk, pool: &Pool, dir: &TempDir) -> SignatureStore {
    open_as(disk, pool, dir, identity()).await
}

async fn open_as(disk: &Disk, pool: &Pool, dir: &TempDir, identity: Identity) -> SignatureStore {
    SignatureStore::open(disk.clone(), pool.try_acquire().unwrap(), dir.path(), identity, None).await.unwrap()
}

async fn fresh(store: &mut SignatureStore, n: u64) -> [u8; 64] {
    match store.sign(&hash(n), true).await.unwrap() {
        Stored::Fresh(signature) => signature,
        other => panic!("{n}: {other:?}"),
    }
}

async fn known(store: &mut SignatureStore, n: u64) -> [u8; 64] {
    match store.sign(&hash(n), false).await.unwrap() {
        Stored::Known(signature) => signature,
        other => panic!("{n}: {other:?}"),
    }
}

/// As many entries as there are numbers.
fn entries(numbers: Range<u64>) -> Vec<Entry> {
    let key = identity().public_key();
    numbers.map(|n| entry(&key, &hash(n), &[n as u8; 64])).collect()
}

#[test]
fn a_hash_has_one_signature_over_restarts() {
    on_disk(|disk, pool, dir| async move {
        let mut store = open(&disk, &pool, &dir).await;
        let mut signatures = Vec::new();
        // Their entries lie in the first blocks, some of them in two.
        let file = fs::File::open(dir.path().join(SIGNATURES_FILE)).unwrap();
        for n in 0..200 {
            signatures.push(fresh(&mut store, n).await);
            let mut written = [0; ENTRY_BYTES];
            file.read_exact_at(&mut written, n * ENTRY_BYTES as u64).unwrap();
            assert_eq!(written, entry(&identity().public_key(), &hash(n), signatures.last().unwrap()), "{n}");
        }
        assert!(is_reward_signature_valid(&hash(1), &signatures[1], &identity().public_key()));
        assert_eq!(known(&mut store, 1).await, signatures[1]);
        assert_eq!(
            store.sign(&hash(200), false).await.unwrap(),
            Stored::Absent,
            "none is made unless it may"
        );
        drop(store);
        let mut store = open(&disk, &pool, &dir).await;
        for (n, signature) in (0..).zip(&signatures) {
            assert_eq!(known(&mut store, n).await, *signature);
        }
        let bytes = fs::read(dir.path().join(SIGNATURES_FILE)).unwrap();
        assert_eq!(bytes.len(), FILE_BYTES);
        assert!(bytes[200 * ENTRY_BYTES..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn a_crash_at_any_byte_of_an_entry_loses_only_that_entry() {
    on_disk(|disk, pool, dir| async move {
        let path = dir.path().join(SIGNATURES_FILE);
        let mut store = open(&disk, &pool, &dir).await;
        let (first, _torn) = (fresh(&mut store, 1).await, fresh(&mut store, 2).await);
        drop(store);
        let bytes = fs::read(&path).unwrap();
        for cut in (ENTRY_BYTES..2 * ENTRY_BYTES).step_by(9) {
            // What was not written is missing, as earlier releases had it, or zero.
            for length in [cut, cut + 50, FILE_BYTES] {
                let mut torn = bytes[..cut].to_vec();
                torn.resize(length, 0);
                fs::write(&path, &torn).unwrap();
                let mut store = open(&disk, &pool, &dir).await;
                assert_eq!(store.count, 1, "cut at {cut}");
                assert_eq!(known(&mut store, 1).await, first);
                let again = fresh(&mut store, 2).await;
                drop(store);
                assert_eq!(known(&mut open(&disk, &pool, &dir).await, 2).await, again);
            }
        }
    });
}

/// A disk writes a transfer in sectors, in any order, and may write any of them when power fails.
#[test]
fn whatever_part_of_a_transfer_is_written_the_earlier_entries_stay() {
    const SECTOR_BYTES: usize = 512;
    on_disk(|disk, pool, dir| async move {
        let path = dir.path().join(SIGNATURES_FILE);
        // The next entry lies in two blocks.
        let count = (BLOCK_BYTES / ENTRY_BYTES) as u64;
        fs::write(&path, entries(0..count).as_flattened()).unwrap();
        let mut store = open(&disk, &pool, &dir).await;
        let before = fs::read(&path).unwrap();
        fresh(&mut store, count).await;
        drop(store);
        let after = fs::read(&path).unwrap();
        let changed = |sector: &usize| {
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            before[range.clone()] != after[range]
        };
        let changed: Vec<usize> = (0..FILE_BYTES / SECTOR_BYTES).filter(changed).collect();
        assert_eq!(changed, [7, 8], "either side of the first block's end");
        for written in [&[][..], &[7], &[8]] {
            let mut torn = before.clone();
            for sector in written {
                let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                torn[range.clone()].copy_from_slice(&after[range]);
            }
            fs::write(&path, &torn).unwrap();
            let mut store = open(&disk, &pool, &dir).await;
            for n in 0..count {
                assert_eq!(known(&mut store, n).await, [n as u8; 64]);
            }
            assert_eq!(store.sign(&hash(count), false).await.unwrap(), Stored::Absent);
        }
    });
}

#[test]
fn a_damaged_entry_does_not_take_later_ones_along() {
    on_disk(|disk, pool, dir| async move {
        let path = dir.path().join(SIGNATURES_FILE);
        let mut store = open(&disk, &pool, &dir).await;
        let mut signatures = Vec::new();
        for n in [1, 2, 3] {
            signatures.push(fresh(&mut store, n).await);
        }
        drop(store);
        let mut bytes = fs::read(&path).unwrap();
        bytes[ENTRY_BYTES + 40] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let mut store = open(&disk, &pool, &dir).await;
        assert_eq!(known(&mut store, 1).await, signatures[0]);
        assert_eq!(known(&mut store, 3).await, signatures[2]);
        // What is written next takes nobody's place.
        fresh(&mut store, 4).await;
        drop(store);
        assert_eq!(known(&mut open(&disk, &pool, &dir).await, 3).await, signatures[2]);
    });
}

#[test]
fn the_file_is_bounded_and_keeps_the_newest() {
    on_disk(|disk, pool, dir| async move {
        let path = dir.path().join(SIGNATURES_FILE);
        let newest = MAX_ENTRIES as u64 - 1;
        fs::write(&path, entries(0..newest + 1).as_flattened()).unwrap();
        let mut store = open(&disk, &pool, &dir).await;
        let last = fresh(&mut store, u64::MAX).await;
        for _ in 0..2 {
            assert_eq!(known(&mut store, newest).await, [newest as u8; 64]);
            assert_eq!(known(&mut store, newest / 2 + 1).await, [(newest / 2 + 1) as u8; 64]);
            assert_eq!(store.sign(&hash(newest / 2), false).await.unwrap(), Stored::Absent);
            assert_eq!(known(&mut store, u64::MAX).await, last);
            assert_eq!(store.count, MAX_ENTRIES / 2 + 1);
            drop(store);
            store = open(&disk, &pool, &dir).await;
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), FILE_BYTES as u64);
    });
}

#[test]
fn a_crash_while_the_older_half_is_dropped_loses_none_of_the_newer() {
    on_disk(|disk, pool, dir| async move {
        let path = dir.path().join(SIGNATURES_FILE);
        let all = entries(0..MAX_ENTRIES as u64);
        let (old, half) = (all.as_flattened(), &all.as_flattened()[HALF_BYTES..]);
        let cuts = [0, 100, HALF_BYTES / 2, HALF_BYTES];
        let copied = cuts.map(|cut| [&half[..cut], &old[cut..]].concat());
        let zeroed = cuts.map(|cut| [half, &vec![0; cut], &half[cut..]].concat());
        for torn in copied.into_iter().chain(zeroed) {
            fs::write(&path, &torn).unwrap();
            let mut store = open(&disk, &pool, &dir).await;
            let more = u64::MAX;
            let signature = fresh(&mut store, more).await;
            for n in MAX_ENTRIES as u64 / 2..MAX_ENTRIES as u64 {
                assert_eq!(known(&mut store, n).await, [n as u8; 64]);
            }
            drop(store);
            let mut store = open(&disk, &pool, &dir).await;
            assert_eq!(known(&mut store, more).await, signature);
            assert_eq!(known(&mut store, MAX_ENTRIES as u64 / 2).await, [0; 64]);
        }
    });
}

#[test]
fn files_of_any_length_and_content_are_put_right() {
    on_disk(|disk, pool, dir| async move {
        let path = dir.path().join(SIGNATURES_FILE);
        let too_long = entries(0..MAX_ENTRIES as u64 + 10);
        for bytes in [&b""[..], b"x", &[0xAB; 5000], too_long.as_flattened(), &vec![0; 3 * FILE_BYTES]] {
            fs::write(&path, bytes).unwrap();
            let mut store = open(&disk, &pool, &dir).await;
            let newest = MAX_ENTRIES as u64 + 9;
            let is_there =
                store.sign(&hash(newest), false).await.unwrap() == Stored::Known([newest as u8; 64]);
            assert_eq!(is_there, bytes.len() == too_long.as_flattened().len());
            let signature = fresh(&mut store, u64::MAX).await;
            drop(store);
            assert_eq!(known(&mut open(&disk, &pool, &dir).await, u64::MAX).await, signature);
            assert_eq!(fs::metadata(&path).unwrap().len(), FILE_BYTES as u64);
        }
    });
}

#[test]
fn another_farms_file_is_not_believed_and_an_unwritable_one_gives_nothing() {
    on_disk(|disk, pool, dir| async move {
        let mut store = open(&disk, &pool, &dir).await;
        let signature = fresh(&mut store, 1).await;
        let other = Identity::from_entropy([8; 32]);
        let mut theirs = open_as(&disk, &pool, &dir, other.clone()).await;
        let theirs = fresh(&mut theirs, 1).await;
        assert_ne!(theirs, signature);
        assert!(is_reward_signature_valid(&hash(1), &theirs, &other.public_key()));

        let read_only = DirectFile::open(&dir.path().join(SIGNATURES_FILE), Access::Read).unwrap();
        let writable = std::mem::replace(&mut store.file, read_only);
        assert!(store.sign(&hash(2), true).await.is_err(), "only open for reading");
        assert!(store.sign(&hash(2), true).await.is_err(), "still so");
        store.file = writable;
        // The next attempt reads the file anew. The entry of the other key, which lies in the first place, is not its.
        let again = fresh(&mut store, 2).await;
        assert!(is_reward_signature_valid(&hash(2), &again, &store.public_key));
        assert_eq!(known(&mut store, 2).await, again);
    });
}

#[test]
fn what_a_failed_write_left_on_disk_is_the_signature() {
    on_disk(|disk, pool, dir| async move {
        let path = dir.path().join(SIGNATURES_FILE);
        let mut store = open(&disk, &pool, &dir).await;
        let first = fresh(&mut store, 1).await;
        assert!(!store.wants_mending());
        let read_only = DirectFile::open(&path, Access::Read).unwrap();
        let writable = std::mem::replace(&mut store.file, read_only);
        assert!(store.sign(&hash(2), true).await.is_err());
        assert!(store.wants_mending() && !store.wants_mending(), "one mends");
        store.file = writable.clone();
        // It was written all the same, and the disk said otherwise.
        let mut bytes = fs::read(&path).unwrap();
        bytes[ENTRY_BYTES..2 * ENTRY_BYTES].copy_from_slice(&entries(2..3)[0]);
        fs::write(&path, &bytes).unwrap();
        store.mend().await.unwrap();
        assert!(!store.is_broken);
        // A write that is still to come must find the file that later ones go to.
        assert!(Arc::ptr_eq(&store.file, &writable));
        assert_eq!(known(&mut store, 2).await, [2; 64]);
        assert_eq!(known(&mut store, 1).await, first);
        fresh(&mut store, 3).await;
        store.mending_ended();
        assert!(!store.wants_mending());
    });
}

#[test]
fn the_farm_stays_locked_as_long_as_the_kernel_writes_a_signature() {
    on_disk(|disk, pool, dir| async move {
        let path = dir.path().join("lock");
        fs::write(&path, b"").unwrap();
        let lock = DirectFile::open(&path, Access::Read).unwrap();
        lock.lock_exclusive().unwrap();
        let scratch = pool.try_acquire().unwrap();
        let opened = SignatureStore::open(disk, scratch, dir.path(), identity(), Some(lock)).await.unwrap();
        // An operation under way keeps its file open as this does.
        let with_the_kernel = opened.file.clone();
        drop(opened);
        let is_free = || fs::File::open(&path).unwrap().try_lock().is_ok();
        assert!(!is_free());
        drop(with_the_kernel);
        assert!(is_free());
    });
}
