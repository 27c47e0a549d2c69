//! `writing.bin` as it must not be: what is in it says nothing, and the farm goes on without or with a new one.

use super::*;
use crate::disk::Limits;
use crate::power::{Faults, Loss, Power};

async fn noted(disk: &Disk, pool: &Pool, dir: &Path) -> Option<Vec<u8>> {
    let farm = open_clean(disk, pool, dir, &config(1, 2)).await;
    farm.write_sector(1).await.unwrap().saved_progress()
}

async fn note(disk: &Disk, pool: &Pool, dir: &Path, said: &[u8]) {
    let farm = open_clean(disk, pool, dir, &config(1, 2)).await;
    farm.write_sector(1).await.unwrap().save_progress(said).await.unwrap();
}

#[test]
fn any_flipped_bit_and_any_cut_costs_a_note_at_most() {
    on_disk(|disk, pool| async move {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(PROGRESS_FILE);
        note(&disk, &pool, dir.path(), b"first").await;
        note(&disk, &pool, dir.path(), &[7; MAX_PROGRESS_BYTES]).await;
        let whole = fs::read(&path).unwrap();
        let (first, second) = (Some(b"first".to_vec()), Some(vec![7; MAX_PROGRESS_BYTES]));
        assert_eq!(noted(&disk, &pool, dir.path()).await, second);
        // The second note is in the first slot, the first one in the second.
        for byte in [0, 7, 8, 15, 16, 17, 18, 19, 20, 51, 52, 2000, 4095] {
            let mut bytes = whole.clone();
            bytes[byte] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(noted(&disk, &pool, dir.path()).await, first, "byte {byte}");
            bytes[4096 + 30] ^= 1;
            bytes[30] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(noted(&disk, &pool, dir.path()).await, None, "byte {byte}");
        }
        for length in [0, 1, 4095, 4096, 8000, 8192, 8193, 1 << 20] {
            let mut bytes = whole.clone();
            bytes.resize(length, 0xAB);
            fs::write(&path, &bytes).unwrap();
            let expected = if length < 4096 { None } else { second.clone() };
            assert_eq!(noted(&disk, &pool, dir.path()).await, expected, "{length} bytes");
            assert_eq!(fs::metadata(&path).unwrap().len(), 8192);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(noted(&disk, &pool, dir.path()).await, None);
        // A farm that notes again, after all that.
        note(&disk, &pool, dir.path(), b"third").await;
        assert_eq!(noted(&disk, &pool, dir.path()).await.unwrap(), b"third");
    });
}

#[test]
fn another_farms_notes_and_what_is_no_file_say_nothing() {
    on_disk(|disk, pool| async move {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path().join(PROGRESS_FILE);
        note(&disk, &pool, dir.path(), b"ours").await;
        note(&disk, &pool, other.path(), b"theirs").await;
        fs::copy(other.path().join(PROGRESS_FILE), &path).unwrap();
        assert_eq!(noted(&disk, &pool, dir.path()).await, None);

        // What is no file is replaced, or done without.
        fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
        note(&disk, &pool, dir.path(), b"again").await;
        assert_eq!(noted(&disk, &pool, dir.path()).await.unwrap(), b"again");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        note(&disk, &pool, dir.path(), b"nowhere").await;
        assert_eq!(noted(&disk, &pool, dir.path()).await, None);

        // What earlier releases noted, and what only looks like it.
        for name in ["writing-1.bin", "writing-65533.bin", "writing-x.bin", "writing-1.bin.bak"] {
            fs::write(dir.path().join(name), b"ASFPULL1").unwrap();
        }
        assert_eq!(noted(&disk, &pool, dir.path()).await, None);
        let left = |name: &str| dir.path().join(name).exists();
        assert!(!left("writing-1.bin") && !left("writing-65533.bin"));
        assert!(left("writing-x.bin") && left("writing-1.bin.bak"));
    });
}

#[test]
fn a_note_that_failed_says_nothing_of_bytes_that_came_after_it() {
    on_disk(|_, pool| async move {
        let (dir, power) = (tempfile::tempdir().unwrap(), Power::new(1));
        let disk = power.disk(&pool, Limits::default());
        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
        let other = farm.write_sector(0).await.unwrap();
        other.save_progress(b"durable").await.unwrap();

        let writer = farm.write_sector(1).await.unwrap();
        power.set_faults(Faults { sync: 1, ..Faults::default() });
        farm.0.progress.save(1, b"failed").await.unwrap_err();
        // Nor may bytes change for as long as that cannot be settled.
        drop(writer);
        assert!(farm.write_sector(1).await.is_err());
        power.set_faults(Faults::default());
        drop(farm.write_sector(1).await.unwrap());
        drop((farm, other));
        power.come_back(Loss::Kill);

        let farm = open_clean(&disk, &pool, dir.path(), &config(1, 2)).await;
        assert_eq!(farm.0.progress.saved(1), None);
        assert_eq!(farm.0.progress.saved(0).unwrap(), b"durable");
    });
}
