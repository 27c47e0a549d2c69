use super::*;
use crate::file::Access;
use crate::pool::{SLAB_BYTES, Slab};
use futures::FutureExt;
use glommio::{LocalExecutorBuilder, Placement};
use std::fs;

/// Runs a test on an executor with a ring of `depth` over a pool of 4 slabs; sees that nothing is left behind.
fn on_ring<F: Future<Output = ()> + 'static>(depth: usize, test: impl FnOnce(Ring) -> F + Send + 'static) {
    let pool = Pool::new(4, 8).unwrap();
    let pool_there = pool.clone();
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(64 << 10)
        .spawn(move || async move {
            let ring = Ring::new(&pool_there, depth).unwrap();
            test(ring.clone()).await;
            ring.close().await;
            assert_eq!(ring.in_flight(), 0);
        })
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(pool.stats().in_use, 0, "a slab was lost");
}

fn new_file(dir: &tempfile::TempDir, blocks: u64) -> Arc<DirectFile> {
    DirectFile::create(&dir.path().join("data"), blocks * BLOCK_BYTES as u64).unwrap()
}

async fn read(
    ring: &Ring,
    file: &Arc<DirectFile>,
    offset: u64,
    buf: SlabMut,
    range: (usize, usize),
) -> Result<SlabMut, IoError> {
    let (buf, result) = ring.read(file, offset, buf, range, None).await;
    result.map(|()| buf)
}

async fn write(ring: &Ring, file: &Arc<DirectFile>, offset: u64, data: &Slab) -> Result<(), IoError> {
    ring.write(file, offset, Source::Shared(data.clone()), None).await.1
}

/// A byte that tells blocks and positions apart.
fn pattern(at: usize) -> u8 {
    (at / BLOCK_BYTES * 31 + at % 251) as u8
}

fn open_fds(path: &std::path::Path) -> usize {
    let fds = fs::read_dir("/proc/self/fd").unwrap();
    fds.filter(|fd| fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|to| to == path)).count()
}

#[test]
fn what_is_written_and_synced_is_read_back() {
    on_ring(8, |ring| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 512);
        let mut slab = ring.pool().try_acquire().unwrap();
        slab.iter_mut().enumerate().for_each(|(at, byte)| *byte = pattern(at));
        let slab = slab.freeze();
        write(&ring, &file, 0, &slab).await.unwrap();
        ring.sync(&file, None).await.unwrap();
        let buffered = fs::read(file.path()).unwrap();
        assert!(buffered == *slab, "the page cache sees the same");
        let back = ring.pool().try_acquire().unwrap();
        let back = read(&ring, &file, 8192, back, (4096, 4096 + 65536)).await.unwrap();
        assert!(back[4096..4096 + 65536] == slab[8192..8192 + 65536]);
        assert!(
            back[..4096].iter().chain(&back[4096 + 65536..]).all(|&byte| byte == 0),
            "only the range is touched"
        );
    });
}

#[test]
fn more_tasks_than_depth_take_turns() {
    on_ring(2, |ring| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 64);
        fs::write(file.path(), (0..64 * BLOCK_BYTES).map(pattern).collect::<Vec<_>>()).unwrap();
        let parts = ring.pool().try_acquire().unwrap().split_into(BLOCK_BYTES);
        let tasks: Vec<_> = (0..64u64)
            .zip(parts)
            .map(|(block, buf)| {
                let (ring, file) = (ring.clone(), file.clone());
                task::spawn_local(async move {
                    assert!(ring.in_flight() <= 2);
                    let at = block * BLOCK_BYTES as u64;
                    let buf = read(&ring, &file, at, buf, (0, BLOCK_BYTES)).await.unwrap();
                    assert!(buf.iter().enumerate().all(|(n, &byte)| byte == pattern(at as usize + n)));
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
}

#[test]
fn a_turn_that_does_not_end_keeps_few_operations_from_the_kernel() {
    on_ring(64, |ring| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 64);
        let parts = ring.pool().try_acquire().unwrap().split_into(BLOCK_BYTES);
        let read = |buf| Box::pin(read(&ring, &file, 0, buf, (0, BLOCK_BYTES)));
        let mut reads: Vec<_> = parts.into_iter().take(64).map(read).collect();
        // Nothing else runs on the executor meanwhile.
        for (asked, read) in reads.iter_mut().enumerate() {
            assert!(read.as_mut().now_or_never().is_none());
            let waiting = ring.0.kernel.borrow_mut().waiting();
            assert_eq!(waiting, (asked + 1) % SUBMIT_AT, "after {} reads", asked + 1);
        }
        for read in reads {
            read.await.unwrap();
        }
    });
}

#[test]
fn a_dropped_future_leaves_memory_and_file_to_the_kernel() {
    on_ring(4, |ring| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 2048);
        let path = file.path().to_owned();
        for after_submit in [false, true] {
            let slab = ring.pool().try_acquire().unwrap();
            let mut read = Box::pin(read(&ring, &file, 0, slab, (0, SLAB_BYTES)));
            assert!(futures::poll!(&mut read).is_pending());
            if after_submit {
                assert!(submit(&ring.0));
            }
            drop(read);
            assert_eq!(ring.in_flight(), 1);
            assert_eq!(ring.pool().stats().in_use, 1, "the kernel still writes to the slab");
            while ring.in_flight() > 0 {
                task::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(ring.pool().stats().in_use, 0);
        }
        let mut sync = Box::pin(ring.sync(&file, None));
        assert!(futures::poll!(&mut sync).is_pending());
        drop(sync);
        drop(file);
        assert_eq!(open_fds(&path), 1, "the kernel still works on the file");
        while ring.in_flight() > 0 {
            task::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(open_fds(&path), 0);
    });
}

#[test]
fn a_queued_operation_that_is_dropped_never_starts() {
    on_ring(1, |ring| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 16);
        let mut first = Box::pin(ring.sync(&file, None));
        assert!(futures::poll!(&mut first).is_pending());
        let mut data = ring.pool().try_acquire().unwrap().narrow(..BLOCK_BYTES);
        data.fill(9);
        let data = data.freeze();
        let mut second = Box::pin(write(&ring, &file, 0, &data));
        assert!(futures::poll!(&mut second).is_pending());
        drop(second);
        first.await.unwrap();
        assert!(fs::read(file.path()).unwrap().iter().all(|&byte| byte == 0));
    });
}

#[test]
fn a_ring_dropped_in_flight_waits_for_the_kernel() {
    on_ring(4, |ring| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 2048);
        let pool = ring.pool().clone();
        let other = Ring::new(&pool, 4).unwrap();
        let reader = other.clone();
        let slab = pool.try_acquire().unwrap();
        let mut read = Box::pin(async move { read(&reader, &file, 0, slab, (0, SLAB_BYTES)).await });
        assert!(futures::poll!(&mut read).is_pending());
        assert!(submit(&other.0));
        drop(read);
        drop(other);
        // The last handle is in the flush task, which ends at its next turn.
        task::sleep(Duration::from_millis(5)).await;
        assert_eq!(pool.stats().in_use, 0);
    });
}

#[test]
fn errors_name_file_offset_and_lengths() {
    on_ring(4, |ring| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 3);
        let slab = || ring.pool().try_acquire().unwrap();
        let error = read(&ring, &file, 4096, slab(), (0, 16384)).await.unwrap_err();
        assert!(matches!(error, IoError::Short { offset: 4096, wanted: 16384, got: 8192, .. }), "{error}");
        assert!(
            error.to_string().contains("data: read of 16384 bytes at offset 4096 stopped after 8192"),
            "{error}"
        );
        let error = read(&ring, &file, 512, slab(), (0, 4096)).await.unwrap_err();
        assert!(matches!(error, IoError::Misaligned { offset: 512, .. }), "{error}");
        let error = read(&ring, &file, 0, slab(), (8, 4104)).await.unwrap_err();
        assert!(matches!(error, IoError::Misaligned { phase: 8, .. }), "{error}");
        let read_only = DirectFile::open(file.path(), Access::Read).unwrap();
        let data = slab().narrow(..4096).freeze();
        let error = write(&ring, &read_only, 0, &data).await.unwrap_err();
        assert!(matches!(error, IoError::Failed { action: Action::Write, .. }), "{error}");
        let full = DirectFile::open_anything(std::path::Path::new("/dev/full"), Access::ReadWrite).unwrap();
        let error = write(&ring, &full, 0, &data).await.unwrap_err();
        assert!(error.to_string().contains("disk full"), "{error}");
        ring.allocate(&file, 0, 8 * 4096, None).await.unwrap();
        assert_eq!(file.size_bytes().unwrap(), 8 * 4096);
        ring.close().await;
        let error = ring.sync(&file, None).await.unwrap_err();
        assert!(matches!(error, IoError::Closed { .. }), "{error}");
    });
}

#[test]
fn many_operations_some_given_up_leave_nothing_behind() {
    on_ring(8, |ring| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 256);
        fs::write(file.path(), (0..256 * BLOCK_BYTES).map(pattern).collect::<Vec<_>>()).unwrap();
        let parts = ring.pool().try_acquire().unwrap().split_into(2 * BLOCK_BYTES);
        let tasks: Vec<_> = (0u64..)
            .zip(parts)
            .map(|(n, mut buf)| {
                let (ring, file) = (ring.clone(), file.clone());
                task::spawn_local(async move {
                    for round in 0..20 {
                        let block = (n * 37 + round * 101) % 255;
                        let at = block * BLOCK_BYTES as u64;
                        let mut wait = Box::pin(read(&ring, &file, at, buf, (0, 2 * BLOCK_BYTES)));
                        // Every seventh gives up at its first, second or third look.
                        for _ in 0..(n + round) % 3 {
                            assert!(futures::poll!(&mut wait).is_pending());
                        }
                        if (n + round) % 7 == 6 {
                            return;
                        }
                        buf = wait.await.unwrap();
                        assert!(buf.iter().enumerate().all(|(k, &byte)| byte == pattern(at as usize + k)));
                        buf.fill(0);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
}
