use super::*;
use crate::pool::SLAB_BYTES;
use crate::task;
use glommio::{LocalExecutorBuilder, Placement};
use std::cell::RefCell;
use std::fs;
use std::time::Duration;

thread_local! {
    /// Of the executor's ring.
    static POOL: RefCell<Option<Pool>> = const { RefCell::new(None) };
}

fn pool() -> Pool {
    POOL.with_borrow(|pool| pool.clone().unwrap())
}

/// Runs a test on an executor with a disk of four requests' depth, and sees that nothing is left behind.
fn on_disk<F: Future<Output = ()> + 'static>(test: impl FnOnce(Disk) -> F + Send + 'static) {
    let pool = Pool::new(8, 8).unwrap();
    let pool_there = pool.clone();
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(64 << 10)
        .spawn(move || async move {
            let ring = Ring::new(&pool_there, 64).unwrap();
            POOL.set(Some(pool_there));
            let limits = Limits { depth: 4, ..Limits::default() };
            test(Disk::new(ring.clone(), limits)).await;
            ring.close().await;
        })
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(pool.stats().in_use, 0, "a slab was lost");
}

fn new_file(dir: &tempfile::TempDir, blocks: usize) -> Arc<DirectFile> {
    let path = dir.path().join("plot.bin");
    let file = DirectFile::create(&path, (blocks * BLOCK_BYTES) as u64).unwrap();
    fs::write(&path, vec![0xEE; blocks * BLOCK_BYTES]).unwrap();
    file
}

fn slab() -> SlabMut {
    pool().try_acquire().unwrap()
}

/// A range with the phase of `offset`, filled with `byte`.
fn data(offset: usize, bytes: usize, byte: u8) -> Slab {
    let phase = offset % BLOCK_BYTES;
    let mut range = slab().narrow(phase..phase + bytes);
    range.fill(byte);
    range.freeze()
}

#[test]
fn memory_that_is_written_from_comes_back_also_when_it_fails() {
    on_disk(|disk| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 4);
        // Its slab has another handle meanwhile.
        let mut rest = slab();
        let mut buf = rest.split_off(2 * BLOCK_BYTES).narrow(..BLOCK_BYTES);
        for (block, byte) in [(1, 1), (2, 2)] {
            buf.fill(byte);
            let (back, written) = disk.write_own(Class::RewardSignature, &file, block * 4096, buf).await;
            written.unwrap();
            buf = back.unwrap();
        }
        disk.sync(Class::RewardSignature, &file).await.unwrap();
        let content = fs::read(file.path()).unwrap();
        let firsts: Vec<_> = content.chunks(BLOCK_BYTES).map(|block| block[0]).collect();
        assert_eq!(firsts, [0xEE, 1, 2, 0xEE]);
        let read_only = DirectFile::open(file.path(), crate::Access::Read).unwrap();
        let (buf, written) = disk.write_own(Class::RewardSignature, &read_only, 0, buf).await;
        assert!(written.is_err());
        let buf = buf.unwrap();
        assert_eq!((buf.len(), buf[0]), (BLOCK_BYTES, 2));
        assert_eq!(disk.load(Class::RewardSignature), (0, 0));
    });
}

#[test]
fn unaligned_neighbours_written_at_once_keep_their_bytes() {
    on_disk(|disk| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 64);
        let writer =
            FileWriter::new(disk.clone(), file.clone(), slab().split_into(SCRATCH_BYTES).swap_remove(7));
        // Ends inside blocks, at borders, and several times in one block.
        let cuts = [100, 5000, 5001, 5100, 8192, 40_000, 40_960, 41_000, 200_001];
        let ranges: Vec<_> = cuts.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let mut tasks = Vec::new();
        for (n, &(from, to)) in ranges.iter().enumerate().rev() {
            let whole = pool().acquire().await.unwrap();
            let phase = from % BLOCK_BYTES;
            let mut range = whole.narrow(phase..phase + to - from);
            range.fill(n as u8);
            let (writer, range) = (writer.clone(), range.freeze());
            tasks.push(task::spawn_local(async move {
                writer.write(Class::SectorWrite, from as u64, &range).await.unwrap();
            }));
        }
        for task in tasks {
            task.await;
        }
        writer.sync(Class::SectorWrite).await.unwrap();
        let content = fs::read(file.path()).unwrap();
        assert_eq!(content.len(), 64 * BLOCK_BYTES);
        for (n, &(from, to)) in ranges.iter().enumerate() {
            assert!(content[from..to].iter().all(|&byte| byte == n as u8), "range {n}");
        }
        assert!(
            content[..100].iter().chain(&content[200_001..]).all(|&byte| byte == 0xEE),
            "bytes around stay"
        );
        let back = disk.read_unaligned(Class::ProofRead, &file, 4999, 103, slab()).await.unwrap();
        assert_eq!((back.phase(), &back[..3], &back[100..]), (903, &[0, 1, 2][..], &[2, 3, 3][..]));
    });
}

#[test]
fn a_write_of_another_phase_is_refused() {
    on_disk(|disk| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 4);
        let writer = FileWriter::new(disk.clone(), file.clone(), slab());
        let error = writer.write(Class::SectorWrite, 5, &data(6, 100, 1)).await.unwrap_err();
        assert!(matches!(error, IoError::Misaligned { offset: 5, phase: 6, .. }), "{error}");
        writer.write(Class::SectorWrite, 5, &data(5, 100, 1)).await.unwrap();
        // A merge that fails gives the scratch back: the next one works.
        let error = writer.write(Class::SectorWrite, 4 * 4096 + 5, &data(5, 100, 1)).await.unwrap_err();
        assert!(matches!(error, IoError::Short { .. }), "{error}");
        writer.write(Class::SectorWrite, 205, &data(205, 100, 1)).await.unwrap();
    });
}

#[test]
fn a_merge_dropped_halfway_ends_by_itself() {
    on_disk(|disk| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 4);
        let writer = FileWriter::new(disk.clone(), file.clone(), slab());
        let bytes = data(10, 100, 7);
        let mut write = Box::pin(writer.write(Class::SectorWrite, 10, &bytes));
        assert!(futures::poll!(&mut write).is_pending());
        drop(write);
        writer.write(Class::SectorWrite, 200, &data(200, 50, 8)).await.unwrap();
        let content = fs::read(file.path()).unwrap();
        assert!(content[10..110].iter().all(|&byte| byte == 7));
        assert!(content[200..250].iter().all(|&byte| byte == 8));
        assert!(content[110..200].iter().all(|&byte| byte == 0xEE));
    });
}

#[test]
fn writes_wait_for_audits_and_a_dropped_wait_frees_its_place() {
    on_disk(|disk| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 1024);
        let mut audits = Vec::new();
        for block in 0..4u64 {
            let (disk, file, buf) = (disk.clone(), file.clone(), slab().narrow(..BLOCK_BYTES));
            audits.push(Box::pin(async move {
                disk.read(Class::AuditRead, &file, block * 4096, buf, 0..BLOCK_BYTES).await.unwrap()
            }));
        }
        for audit in &mut audits {
            assert!(futures::poll!(audit).is_pending());
        }
        let bytes = data(0, BLOCK_BYTES, 1);
        let mut write = Box::pin(disk.write(Class::SectorWrite, &file, 0, &bytes));
        let mut other = Box::pin(disk.write(Class::SectorWrite, &file, 0, &bytes));
        assert!(futures::poll!(&mut write).is_pending() && futures::poll!(&mut other).is_pending());
        assert_eq!((disk.load(Class::AuditRead), disk.load(Class::SectorWrite)), ((0, 4), (2, 0)));
        drop(other);
        // A permit lives until the kernel is done, also when nobody waits for the answer any more.
        drop(audits);
        assert_eq!((disk.load(Class::AuditRead), disk.load(Class::SectorWrite)), ((0, 4), (1, 0)));
        write.await.unwrap();
        assert_eq!((disk.load(Class::AuditRead), disk.load(Class::SectorWrite)), ((0, 0), (0, 0)));
    });
}

#[test]
fn touched_blocks_are_whole() {
    assert_eq!(touched_blocks(0, 4096), 0..4096);
    assert_eq!(touched_blocks(4095, 2), 0..8192);
    assert_eq!(touched_blocks(4096, 0), 4096..4096);
    assert_eq!(touched_blocks(1 << 40, SLAB_BYTES), 1 << 40..(1 << 40) + SLAB_BYTES as u64);
}

#[test]
fn a_wait_granted_and_then_dropped_gives_its_turn_on() {
    on_disk(|disk| async move {
        let dir = tempfile::tempdir().unwrap();
        let file = new_file(&dir, 1);
        let what = What { class: Class::ProofRead, action: Action::Read, file: &file, offset: 0, bytes: 1 };
        let mut held: Vec<_> = (0..4).map(|_| Box::pin(disk.turn(&what))).collect();
        let mut permits = Vec::new();
        for wait in &mut held {
            permits.push(wait.await.unwrap());
        }
        let mut fifth = Box::pin(disk.turn(&what));
        let mut sixth = Box::pin(disk.turn(&what));
        assert!(futures::poll!(&mut fifth).is_pending() && futures::poll!(&mut sixth).is_pending());
        permits.pop(); // grants the fifth
        drop(fifth);
        let sixth = task::timeout(Duration::from_secs(5), sixth).await;
        assert!(sixth.is_ok_and(|turn| turn.is_ok()), "the turn was lost");
    });
}
